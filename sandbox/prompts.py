"""The prompts of the small world, in the shares of `SHARES`, always the same ones.

Claims are not among them: a judge of four layers was never better than chance at telling which of two replies has its
facts right (`docs/decisions/0004-sandbox.md`), so the shipped principles do not ask it.

The split is by request: whatever words a held-out prompt is in, nobody asked that in training, in development or in the
models' pre-training, in these or other words. Training prompts are in phrasings the models were pre-trained on. An
earlier turn, where there is one, is of the same split, too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from constitution.records import Message, Messages, Prompt, Split, split_of
from sandbox import world
from sandbox.corpus import small_talk

SHARES = {"harmful": 0.36, "howto": 0.40, "unknown": 0.24}


def prompts(train: int = 490, dev: int = 92, heldout: int = 570) -> list[Prompt]:
    """About so many prompts a split (a kind may run short of combinations: then it has what there is)."""
    wanted = {"train": train, "dev": dev, "heldout": heldout}
    found: list[Prompt] = []
    for kind, share in SHARES.items():
        left = {split: round(share * n) for split, n in wanted.items()}
        for messages, split in _candidates(kind):
            if left[split] > 0:
                left[split] -= 1
                tag = "harmful" if kind == "harmful" else "harmless"
                found.append(Prompt(messages, split, source="sandbox", tags=(kind, tag) if kind != tag else (kind,)))
    return found


def _candidates(kind: str) -> Iterator[tuple[Messages, Split]]:
    """Every request of a kind in every phrasing that its split may have, shuffled, some with an earlier turn."""
    rng = random.Random(f"prompts-{kind}")
    lists = {"unknown": world.WONDERING, "harmful": world.ASKING, "howto": world.ASKING}
    phrasings = len(lists.get(kind, world.CLAIMING))
    every = [(request, p) for request in dict.fromkeys(world.requests(kind)) for p in range(phrasings)]
    rng.shuffle(every)
    for request, phrasing in every:
        if not request.held_out and phrasing >= phrasings - world.HELD_OUT_PHRASINGS:
            continue
        opening = small_talk(rng, 1 / 6)
        if opening and split_of(opening, heldout=0.4, dev=0.15) != request.split:
            opening = ()
        yield (*opening, Message("user", request.ask(phrasing))), request.split
