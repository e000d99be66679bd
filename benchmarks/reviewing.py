"""Twenty reviewers at once in the console, on a queue of ten thousand pairs, the server killed ten times in between.

    python -m benchmarks.big_store URL --verdicts 400000     fill an empty store (SQLite or Postgres)
    python -m benchmarks.reviewing URL [--people 20] [--answers 50] [--kills 10] [--pause 0.3]

A real server in a process of its own, over HTTP, as a browser asks it: the part of the page with the next pair, then
the answer, which brings the pair after it. Each person thinks for `--pause` seconds. Whoever gets no answer sends the
same form again under the same key, as the page does. Told: the seconds to show and to answer (median, 95th percentile,
most) without what was waited for a killed server; pairs that two people were shown at one moment; answers lost, and
kept twice.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import httpx

from benchmarks.queries import TEN, _prepare, _settings
from service.actions import accounts
from service.actions.review_records import Held
from storage.store import Store
from web.security.rights import SESSION

PASSWORD = "a password of the benchmark"
HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


@dataclass
class Person:
    name: str
    secret: str
    shown: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    held: list[tuple[str, float, float]] = field(default_factory=list)  # comparison, from, to
    sent: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--answers", type=int, default=50, help="of each person")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.3)
    parser.add_argument("--serve", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.url, given.serve)
        return
    with Store.open(given.url) as store:
        _prepare(store, _settings(given.url))
        run = store.run_of_key(TEN)
        assert run is not None
        stamp = f"{time.time_ns():x}"
        people = [Person(f"r{n}-{stamp}", "") for n in range(given.people)]
        for person in people:
            link = accounts.invite(store, person.name, "reviewer", "benchmark")
            accounts.choose_password(store, link, PASSWORD)
            person.secret = accounts.sign_in(store, person.name, PASSWORD, "benchmark")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = [start(given.url, port)]
    threads = [
        threading.Thread(target=review, args=(person, port, run.id.hex(), given.answers, given.pause))
        for person in people
    ]
    for thread in threads:
        thread.start()
    killed = 0
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.2)
        done = sum(len(person.answered) for person in people)
        if killed < given.kills and done >= (killed + 1) * given.people * given.answers / (given.kills + 1):
            server[0].send_signal(signal.SIGKILL)
            server[0].wait()
            killed += 1
            server[0] = start(given.url, port)
    server[0].terminate()
    tell(given.url, people, killed)


def start(url: str, port: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "benchmarks.reviewing", url, "--serve", str(port)]
    return subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"})


def serve(url: str, port: int) -> None:
    import uvicorn

    from web.app import create_app

    with Store.open(url) as store:
        uvicorn.run(create_app(_settings(url), store=store), port=port, log_level="error", access_log=False)


def review(person: Person, port: int, run: str, answers: int, pause: float) -> None:
    chance = random.Random(person.name)
    headers = {"hx-request": "true", "sec-fetch-site": "same-origin"}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", cookies={SESSION: person.secret}, headers=headers, timeout=10
    ) as client:
        page = patiently(client, "GET", f"/review?run={run}", None, person.shown)
        for _ in range(answers):
            fields = dict(HIDDEN.findall(page.split('id="answer"')[1].split("</form>")[0]))
            comparison, since = Held.of(fields["token"], person.name).comparison.hex(), time.monotonic()
            time.sleep(pause * (0.5 + chance.random()))
            form = {**fields, "choice": chance.choice(["a", "b", "tie", "skip", "neither"])}
            until = time.monotonic()
            page = patiently(client, "POST", "/review/answer", form, person.answered)
            if 'class="notice warn"' not in page.split('id="answer"')[0]:
                person.sent.append(comparison)
                person.held.append((comparison, since, until))


def patiently(client: httpx.Client, method: str, path: str, form: dict[str, str] | None, took: list[float]) -> str:
    """Again until the server answers; the seconds of the time that it did."""
    while True:
        began = time.monotonic()
        try:
            answer = client.request(method, path, data=form)
        except httpx.HTTPError:
            time.sleep(0.1)
            continue
        if answer.status_code < 500:
            took.append(time.monotonic() - began)
            return answer.text
        time.sleep(0.1)


def tell(url: str, people: list[Person], killed: int) -> None:
    taken = {"show": [t for p in people for t in p.shown], "answer": [t for p in people for t in p.answered]}
    for what, times in taken.items():
        some = sorted(times)
        middle, late = some[len(some) // 2], some[min(len(some) - 1, int(0.95 * len(some)))]
        told = f"median {1000 * middle:.0f} ms, 95% {1000 * late:.0f} ms, most {1000 * some[-1]:.0f} ms"
        print(f"{what:<7} {len(some):>6} times: {told}")
    spans = sorted(span for p in people for span in p.held)
    twice = sum(one[0] == two[0] and two[1] < one[2] for one, two in itertools.pairwise(spans))
    with Store.open(url) as store:
        kept = [(c.reviewer, c.comparison.hex()) for p in people for c in store.spot_checks(reviewer=p.name)]
        stored = sum(event.who in {p.name for p in people} for event in store.events("spot_check"))
    sent = [(p.name, comparison) for p in people for comparison in p.sent]
    print(
        f"{len(sent)} answers of {len(people)} people, the server killed {killed} times: {len(set(sent) - set(kept))} "
        f"lost, {stored - len(kept)} kept twice, {twice} pairs shown to two people at one moment"
    )


if __name__ == "__main__":
    main()
