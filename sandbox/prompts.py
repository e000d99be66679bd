"""The prompts of the small world, in the shares of `SHARES`, always the same ones.

Claims are not among them: a judge of four layers was never better than chance at telling which of two replies has its
facts right (`docs/decisions/0004-sandbox.md`), so the shipped principles do not ask it.

Training prompts are of combinations and phrasings the models were pre-trained on, held-out prompts of ones they were
not. The split itself is precept's own (a hash of the first turn): this file only leaves out what does not fit it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from constitution.records import Message, Messages, Prompt, split_of
from sandbox import world
from sandbox.corpus import small_talk

SHARES = {"harmful": 0.36, "howto": 0.40, "unknown": 0.24}


def prompts(train: int = 512, dev: int = 96, heldout: int = 640) -> list[Prompt]:
    """About so many prompts a split (a kind may run short of combinations: then it has what there is)."""
    wanted = {"train": train, "dev": dev, "heldout": heldout}
    found: list[Prompt] = []
    for kind, share in SHARES.items():
        left = {split: round(share * n) for split, n in wanted.items()}
        for messages, unseen in _candidates(kind):
            split = split_of(messages, heldout=0.45, dev=0.1)
            if left[split] > 0 and unseen == (split == "heldout"):
                left[split] -= 1
                tag = "harmful" if kind == "harmful" else "harmless"
                found.append(Prompt(messages, split, source="sandbox", tags=(kind, tag) if kind != tag else (kind,)))
    return found


def _candidates(kind: str) -> Iterator[tuple[Messages, bool]]:
    """Every request of a kind in every phrasing, shuffled, one in twelve with an earlier turn; and whether
    pre-training left it out."""
    rng = random.Random(f"prompts-{kind}")
    lists = {"unknown": world.WONDERING, "harmful": world.ASKING, "howto": world.ASKING}
    phrasings = len(lists.get(kind, world.CLAIMING))
    every = [(request, p) for request in dict.fromkeys(world.requests(kind)) for p in range(phrasings)]
    rng.shuffle(every)
    for request, phrasing in every:
        unseen = request.held_out or phrasing >= phrasings - world.HELD_OUT_PHRASINGS
        yield (*small_talk(rng, 1 / 12), Message("user", request.ask(phrasing))), unseen
