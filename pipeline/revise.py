"""Critique and revise (CAI section 3.1): n rounds, each with a principle drawn by hash, each on the last revision.

What a chain may not do: a revision that is empty, cut at the token limit, or a copy of what it was asked with (the
request, its instructions, the critique, an exemplar) is dropped and counted, and the chain goes on from the answer it
had. So does one whose critique or revision could not be asked for. Whether a revision is *better* is not said here:
only the judge says that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from constitution.principles import Constitution, Principle, draw
from constitution.records import Generation, Prompt
from constitution.streams import Stream, some
from constitution.templates import answer_request, critique_request, revision_request
from pipeline.asking import Ask, Role, ask
from pipeline.copies import copied


@dataclass(frozen=True)
class Chain:
    """An answer on its way: `steps` holds every critique and revision so far, dropped ones too."""

    prompt: Prompt
    original: Generation
    current: Generation
    steps: tuple[Generation, ...] = ()
    kept: tuple[Generation, ...] = ()  # the revisions that replaced the answer, one a round at most
    reasons: Mapping[int, str] = field(default_factory=dict)  # by round, why its revision did not replace the answer

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many rounds came to nothing, by reason."""
        return Counter(self.reasons.values())

    @property
    def untouched(self) -> bool:
        """Every round left the answer as it is, and said so: nothing was dropped, so there was nothing to mend."""
        return self.current.content == self.original.content and not self.reasons


# Why a round came to nothing, as people read it.
REASONS = {
    "truncated": "cut at the token limit",
    "empty": "empty",
    "unreadable": "without a letter or a digit",
    "copy_of_critique": "the critique over again",
    "copy_of_exemplar": "an exemplar's critique or revision over again",
    "copy_of_request": "the request over again",
    "copy_of_instruction": "the instruction over again",
    "critique_of_exemplar": "not asked for: the critique is an exemplar's over again",
    "left_out": "not to be had: too long, or refused",
}


def start(prompts: Sequence[Prompt], responses: Sequence[Generation]) -> list[Chain]:
    """A chain for each response that was finished; one cut at the token limit cannot be revised."""
    by_id = {prompt.id: prompt for prompt in prompts}
    return [Chain(by_id[r.prompt], r, r) for r in responses if revisable(r)]


def revisable(response: Generation) -> bool:
    """Whether a response was finished, and says anything."""
    return response.finish_reason == "stop" and bool(response.text.strip())


def principle_of(chain: Chain, constitution: Constitution, seed: int, round: int) -> Principle:
    """Drawn anew each round, by the highest hash of (seed, prompt, round, principle): an edit of the constitution
    redraws only what it must. Of those that the prompt names, where it names some."""
    return draw(constitution, seed, chain.prompt.id, round, chain.prompt.principles)


def critiques(
    chains: Sequence[Chain], critic: Role, constitution: Constitution, *, seed: int, round: int
) -> Sequence[Ask]:
    """A plan of one critique a chain."""

    def asked(chain: Chain) -> Ask:
        principle = principle_of(chain, constitution, seed, round)
        messages = critique_request(chain.prompt.messages, chain.current.text, principle)
        return ask(
            "critique", critic, messages, prompt=chain.prompt.id, seed=seed, parent=chain.current.id,
            principle=principle.id, round=round, sample=chain.original.sample,
        )  # fmt: skip

    return Stream(range(len(chains)), lambda places: [asked(chain) for chain in some(chains, places)])


def revisions(
    chains: Sequence[Chain],
    found: Sequence[Generation | None] | None,
    critic: Role,
    constitution: Constitution,
    *,
    seed: int,
    round: int,
    again: bool = False,
) -> Sequence[Ask]:
    """A plan of one revision a chain, after its critique; `found` None revises directly (CAI section 3.5). `again`:
    it does not see what it wrote, and answers the prompt under the principle's instruction."""

    def asked(chain: Chain, critique: Generation | None) -> Ask:
        principle, said = principle_of(chain, constitution, seed, round), critique.text if critique else None
        if again:
            messages = answer_request(chain.prompt.messages, principle)
        else:
            messages = revision_request(chain.prompt.messages, chain.current.text, said, principle)
        return ask(
            "revision", critic, messages, prompt=chain.prompt.id, seed=seed, parent=chain.current.id,
            principle=principle.id, round=round, sample=chain.original.sample,
        )  # fmt: skip

    def plan(places: Sequence[int]) -> list[Ask]:
        said: Sequence[Generation | None] = [None] * len(places) if found is None else some(found, places)
        return [asked(chain, critique) for chain, critique in zip(some(chains, places), said, strict=True)]

    return Stream(range(len(chains)), plan)


def advance(
    chain: Chain, critique: Generation | None, revision: Generation | None, principle: Principle, round: int
) -> Chain:
    """The chain after a round under a principle. `revision` None: it, or its critique, could not be asked for. What
    cannot stand is kept with its reason in `reasons`, and the answer stays."""
    steps = (*chain.steps, *(step for step in (critique, revision) if step is not None))
    reason = why_not_used(critique, principle) if critique is not None else None
    if reason is None:
        reason = "left_out" if revision is None else why_dropped(revision, chain, critique, principle)
    if reason is not None:
        return replace(chain, steps=steps, reasons={**chain.reasons, round: reason})
    assert revision is not None
    return replace(chain, steps=steps, current=revision, kept=(*chain.kept, revision))


def why_not_used(critique: Generation, principle: Principle) -> str | None:
    """Why a critique cannot lead to a revision, or None. An exemplar's critique speaks of another answer."""
    if copied(critique.text, "", [e.critique for e in principle.exemplars]):
        return "critique_of_exemplar"
    return None


def why_dropped(revision: Generation, chain: Chain, critique: Generation | None, principle: Principle) -> str | None:
    """Why a revision cannot replace the answer of a chain, or None. Copies are told by `pipeline.copies`."""
    if revision.finish_reason != "stop":
        return "truncated"
    if not revision.text.strip():
        return "empty"
    if not any(c.isalnum() for c in revision.text):
        return "unreadable"
    answer = chain.current.text
    for reason, sources in _not_to_be_copied(chain, critique, principle).items():
        if copied(revision.text, answer, sources, held=reason != "copy_of_request"):
            return reason
    return None


def _not_to_be_copied(chain: Chain, critique: Generation | None, principle: Principle) -> dict[str, list[str]]:
    """By the reason, the texts that a revision was asked with and may not be."""
    dialogue, answer = chain.prompt.messages, chain.current.text
    asked = [critique_request(dialogue, answer, principle), revision_request(dialogue, answer, None, principle)]
    return {
        "copy_of_critique": [critique.text] if critique is not None else [],
        "copy_of_exemplar": [text for e in principle.exemplars for text in (e.critique, e.revision)],
        "copy_of_request": [dialogue[-1].content],
        "copy_of_instruction": [principle.critique, principle.revision, *(turns[-1].content for turns in asked)],
    }


def probes(chains: Iterable[Chain], most: int) -> dict[str, list[tuple[Generation, Generation]]]:
    """By principle, up to `most` pairs of an answer and its revision under that very principle.

    On these pairs the principle surely applies, whatever anybody knows of the truth: what a judge says of them in both
    orders tells whether it can read the principle at all.
    """
    found: dict[str, list[tuple[Generation, Generation]]] = {}

    def first(pairs: list[tuple[Generation, Generation]]) -> list[tuple[Generation, Generation]]:
        return sorted(pairs, key=lambda pair: pair[1].id)[:most]

    for chain in chains:
        answer = chain.original
        for revision in chain.kept:
            if revision.content != answer.content and revision.principle is not None:
                pairs = found.setdefault(revision.principle, [])
                pairs.append((answer, revision))
                if len(pairs) >= 4 * most:  # of many, those that stay are few
                    pairs[:] = first(pairs)
            answer = revision
    return {name: first(pairs) for name, pairs in found.items()}
