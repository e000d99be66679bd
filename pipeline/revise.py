"""Critique and revise (CAI section 3.1): n rounds, each with a principle drawn by hash, each on the last revision.

What a chain may not do: a revision that is empty, cut at the token limit, or that only repeats a request is dropped
and counted, and the chain goes on from the answer it had. Whether a revision is *better* is not said here: only the
judge says that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from constitution.principles import Constitution, Principle, draw
from constitution.records import Generation, Prompt
from constitution.templates import critique_request, revision_request
from pipeline.asking import Ask, Role, ask


@dataclass(frozen=True)
class Chain:
    """An answer on its way: `steps` holds every critique and revision so far, dropped ones too."""

    prompt: Prompt
    original: Generation
    current: Generation
    steps: tuple[Generation, ...] = ()
    kept: tuple[Generation, ...] = ()  # the revisions that replaced the answer, one a round at most
    dropped: Mapping[str, int] = field(default_factory=dict)  # reason: count


def start(prompts: Sequence[Prompt], responses: Sequence[Generation]) -> list[Chain]:
    """A chain for each response that was finished; one cut at the token limit cannot be revised."""
    by_id = {prompt.id: prompt for prompt in prompts}
    return [Chain(by_id[r.prompt], r, r) for r in responses if r.finish_reason == "stop" and r.text.strip()]


def principle_of(chain: Chain, constitution: Constitution, seed: int, round: int) -> Principle:
    """Drawn anew each round, by the highest hash of (seed, prompt, round, principle): an edit of the constitution
    redraws only what it must."""
    return draw(constitution, seed, chain.prompt.id, round)


def critiques(chains: Sequence[Chain], critic: Role, constitution: Constitution, *, seed: int, round: int) -> list[Ask]:
    """A plan of one critique a chain."""
    asks = []
    for chain in chains:
        principle = principle_of(chain, constitution, seed, round)
        messages = critique_request(chain.prompt.messages, chain.current.text, principle)
        asks.append(
            ask(
                "critique", critic, messages, prompt=chain.prompt.id, seed=seed, parent=chain.current.id,
                principle=principle.id, round=round, sample=chain.original.sample,
            )
        )  # fmt: skip
    return asks


def revisions(
    chains: Sequence[Chain],
    found: Sequence[Generation] | None,
    critic: Role,
    constitution: Constitution,
    *,
    seed: int,
    round: int,
) -> list[Ask]:
    """A plan of one revision a chain, after its critique; `found` None revises directly (CAI section 3.5)."""
    asks = []
    for index, chain in enumerate(chains):
        principle = principle_of(chain, constitution, seed, round)
        critique = found[index].text if found is not None else None
        messages = revision_request(chain.prompt.messages, chain.current.text, critique, principle)
        asks.append(
            ask(
                "revision", critic, messages, prompt=chain.prompt.id, seed=seed, parent=chain.current.id,
                principle=principle.id, round=round, sample=chain.original.sample,
            )
        )  # fmt: skip
    return asks


def advance(chain: Chain, critique: Generation | None, revision: Generation) -> Chain:
    """The chain after a round. A revision that cannot stand is counted in `dropped`, and the answer stays."""
    steps = (*chain.steps, *((critique,) if critique else ()), revision)
    reason = why_dropped(revision)
    if reason:
        return replace(chain, steps=steps, dropped=Counter(chain.dropped) + Counter([reason]))
    return replace(chain, steps=steps, current=revision, kept=(*chain.kept, revision))


def why_dropped(revision: Generation) -> str | None:
    """Why a revision cannot replace the answer, or None."""
    if revision.finish_reason != "stop":
        return "truncated"
    if not revision.text.strip():
        return "empty"
    if not any(c.isalnum() for c in revision.text):
        return "unreadable"
    return None


def probes(chains: Sequence[Chain], most: int) -> dict[str, list[tuple[Generation, Generation]]]:
    """By principle, up to `most` pairs of an answer and its revision under that very principle.

    On these pairs the principle surely applies, whatever anybody knows of the truth: what a judge says of them in both
    orders tells whether it can read the principle at all.
    """
    found: dict[str, list[tuple[Generation, Generation]]] = {}
    for chain in chains:
        answer = chain.original
        for revision in chain.kept:
            if revision.content != answer.content and revision.principle is not None:
                found.setdefault(revision.principle, []).append((answer, revision))
            answer = revision
    return {name: sorted(pairs, key=lambda pair: pair[1].id)[:most] for name, pairs in found.items()}
