"""Reviewers in one process, a thread each, who go through the same queue: `python -m tests.service.at_once`, or
`together` from a test. What each held is told to the others by a file that only one can make."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from service.actions import review
from service.queries import judged
from service.queries.judged import Judged
from storage.store import Store

Told = tuple[str, str, str, str]  # who, pair, choice, event


def together(
    url: str, people: list[str], folder: str, each: int, sample: str = "uncertain", run: str = ""
) -> list[Told]:
    """Each reviewer answers so many pairs, and sends every second answer twice at once. `uncertain`: all want the same
    pairs first."""
    with Store.open(url) as store, ThreadPoolExecutor(len(people)) as pool, ThreadPoolExecutor(2) as twice:
        about = judged.newest(store, run)
        done = pool.map(lambda who: _one(store, about, who, sample, Path(folder), each, twice), people)
        return [told for some in done for told in some]


def _one(
    store: Store, about: Judged, who: str, sample: str, folder: Path, each: int, twice: ThreadPoolExecutor
) -> list[Told]:
    told = []
    while len(told) < each:
        item = review.next_item(store, about, who, sample)
        if item is None:
            raise RuntimeError(f"{who} found nothing to do")
        held = folder / item.comparison
        held.touch(exist_ok=False)  # fails where somebody else holds it
        choice = "ab"[len(told) % 2]
        time.sleep(0.01)
        held.unlink()
        sends = [twice.submit(review.answer, store, who, item.token, item.comparison, choice)]
        if len(told) % 2:
            sends.append(twice.submit(review.answer, store, who, item.token, item.comparison, choice))
        events = {sent.result().event for sent in sends}
        told.append((who, item.comparison, choice, " ".join(events)))
    return told


if __name__ == "__main__":
    print(json.dumps(together(sys.argv[1], sys.argv[2].split(), sys.argv[3], int(sys.argv[4]), *sys.argv[5:])))
