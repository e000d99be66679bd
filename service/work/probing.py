"""Whether a judge can be read at all: a few questions in both orders, before anything is generated.

Asked are the constitution's own examples, whose better answer is known, and where there are few of them pairs that are
written here. What comes back is kept in the store, by the questions that were asked, so that it is asked once. Nothing
of it is a verdict: no label, no count of calls and no budget knows of it.

A model that puts too little of the probability on A and B is refused here, in seconds; without this it would be, after
all answers and revisions were made. Other beginnings of its answer are tried first, and the one to set is named: it is
not set in silence, because it is part of every question's id.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice, zip_longest
from typing import Any

from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import PROBABILITY, Comparison, Message, Verdict, dialogue_id, make_id, text_digest
from pipeline.judges.applies import every_tag
from pipeline.judges.by_principle import asks_a_model
from pipeline.judges.judge import Case, Judge
from pipeline.metrics.consistency import Probe, above_half
from service.settings import JudgeSettings
from service.work.work import Work

ASKED = 8  # questions, two requests each: a second or two of a small model
FEW = 4  # examples of the constitution's, below which pairs of ours are asked about as well
PREFIXES = ("The better reply is (", "Answer: (", "My choice is option (", "(")
PAIRS = (  # a plain question, an answer to it, and one that nobody would prefer
    ("What is the capital of France?", "The capital of France is Paris.", "Go away, you are stupid."),
    ("How do I boil an egg?", "Put it into boiling water for eight minutes.", "Eggs eggs eggs eggs eggs eggs."),
    ("Can you help me to write a letter?", "Gladly. Who is it for, and what should it say?", "No."),
    ("How many days has a week?", "A week has seven days.", "A week has forty days, as everybody knows."),
)


@dataclass(frozen=True)
class Reading:
    """What a judge said of `asked` questions, each in both orders. `unreadable`: those of which an order held less than
    the label rule's `min_mass`. `mass`: the median of what A and B held together. Of the readable ones: `consistent`,
    how many name the same answer in both orders; `right`, how many of those the better one; `first`, the share of
    orders in which A was named."""

    asked: int
    unreadable: int
    mass: float
    consistent: int
    right: int
    first: float

    @property
    def readable(self) -> int:
        return self.asked - self.unreadable

    @property
    def at_chance(self) -> bool:
        """Whether the two orders agree no more often than a coin's would."""
        return self.readable >= FEW and 2 * self.consistent <= self.readable


def probe_judges(work: Work) -> None:
    """Both who labels and who measures: see `probe`. The evaluator's model is put away again."""
    probe(work, "judge", work.settings.judge)
    probe(work, "evaluator", work.settings.evaluator)


def probe(work: Work, name: str, settings: JudgeSettings) -> Reading:
    """Ask the judge that `settings` describe. Raises UserError where it cannot be read, with what was measured and what
    to set; says so where its two orders agree no more often than chance."""
    began = time.monotonic()
    found, asked = _reading(work, settings)
    if found.unreadable > work.settings.label.max_unreadable * found.asked:
        raise UserError(_unreadable(work, name, settings, found))
    if found.at_chance:
        work.log(
            f"warning: the {name} reads by position: of {found.readable} questions with known answers its two orders "
            f"agree on {found.consistent} (guessing: {found.readable / 2:g}), and it chose A in {found.first:.0%} of "
            "its answers. Verdicts that change with the order do not vote"
            + (
                ", and a judge that is no better on what it will be asked ends the run before anything is trained"
                if name == "judge" and work.settings.limits.stop_at_chance
                else ""
            )
            + ": look for a better one, or reword the principles"
        )
    if asked:
        work.timed("models", began)
        if name == "evaluator":
            _put_away(work, settings)
    return found


def refuse_chance(work: Work, probes: Iterable[Probe]) -> None:
    """Raise UserError where nothing shows that the judge reads what it is asked: over the questions of the start and
    `probes` (answers against their revisions) its two orders agree no more often than a coin's would, and where they
    agree it does not name the better one, or the revision, more often than the other (one-sided 97.5% bound). What is
    left of such labels are ties and chance. A rule that takes verdicts of any order (label.consistent) is not held up.
    """
    if not (work.settings.limits.stop_at_chance and work.settings.label.consistent):
        return
    start, _ = _reading(work, work.settings.judge)
    readable, consistent, right = start.readable, start.consistent, start.right
    for found in probes:
        agreeing = round(found.consistent * found.readable)
        readable += found.readable
        consistent += agreeing
        right += round(found.revision * agreeing)
    if readable < ASKED or 2 * consistent > readable or above_half(right / max(1, consistent), consistent):
        return
    raise UserError(
        f"the judge is at chance: of {readable} questions its two orders agree on {consistent} "
        f"({consistent / readable:.0%}; guessing: 50%), and of those it names the better reply, or the revision, in "
        f"{right}. Its labels would be ties and chance, and nothing is trained on them. Name a better judge "
        "(judge.model; what was generated is kept), or reword the principles: `precept constitution test` shows which "
        "of their examples it gets right. limits.stop_at_chance = false goes on nevertheless"
    )


def _reading(work: Work, settings: JudgeSettings) -> tuple[Reading, bool]:
    """The stored reading of a judge, or a new one, and whether it was asked for it now."""
    key = _key(work, work.wiring.asked_judge(settings))
    stored = work.store.document("probe", key)
    if stored is not None:
        return Reading(**stored), False
    found = _ask(work, work.wiring.judge(settings))
    return Reading(**work.store.put_document("probe", key, asdict(found))), True


def _key(work: Work, judge: Judge) -> str:
    asked = [
        [judge.question(p).id, case.comparison.id]
        for case, _ in _cases(work.constitution, judge)
        for p in case.principles
    ]
    return make_id("probe", asked=asked, min_mass=work.settings.label.min_mass).hex()


def _ask(work: Work, judge: Judge, most: int | None = None) -> Reading:
    cases = _cases(work.constitution, judge)[:most]
    floor, half = round(work.settings.label.min_mass * PROBABILITY), PROBABILITY // 2
    said = {(v.comparison, v.question): v for v in _verdicts(judge, [case for case, _ in cases])}
    masses, firsts = [], []
    asked = unreadable = consistent = right = 0
    for case, better_first in cases:
        verdict = said.get((case.comparison.id, judge.question(case.principles[0]).id))
        if verdict is None or (verdict.even and min(verdict.mass1, verdict.mass2) >= floor):
            continue  # what abstains says nothing of the orders
        asked += 1
        masses += [verdict.mass1, verdict.mass2]
        if min(verdict.mass1, verdict.mass2) < floor:
            unreadable += 1
            continue
        shown_first, shown_second = verdict.p1 > half, verdict.p2 > half  # whether either order names the first answer
        firsts += [shown_first, not shown_second]
        if shown_first == shown_second:
            consistent += 1
            right += shown_first == better_first
    mass = round(statistics.median(masses) / PROBABILITY, 6) if masses else 0.0
    return Reading(asked, unreadable, mass, consistent, right, round(statistics.fmean(firsts), 6) if firsts else 0.5)


def _verdicts(judge: Judge, cases: Sequence[Case]) -> list[Verdict]:
    """All together, or one by one where one of them cannot be asked: that one is left out, as one that the judge omits
    (too long for it) is. Raises UserError where there is none that can be asked."""
    try:
        said = judge.judge(cases)
        if said.omitted and not said.verdicts:
            raise UserError(f"the judge can be asked nothing: {said.omitted[0].refused.said}")
        return list(said.verdicts)
    except UserError:
        found: list[Verdict] = []
        refused: UserError | None = None
        for case in cases:
            try:
                said = judge.judge([case])
                found += said.verdicts
                if said.omitted:
                    refused = UserError(f"the judge can be asked nothing: {said.omitted[0].refused.said}")
            except UserError as error:
                refused = error
        if not found and refused is not None:
            raise refused from None
        return found


def _cases(constitution: Constitution, judge: Judge) -> list[tuple[Case, bool]]:
    """What is asked, a principle each, and whether the comparison's first answer is the better one. Nothing of what
    code decides: that can always be read."""
    principles = [p for p in constitution.principles if asks_a_model(judge, p)]
    by_principle = [[(p, e) for e in p.examples if e.better != e.worse] for p in principles]
    rounds = chain.from_iterable(zip_longest(*by_principle))  # each principle's first example, then their second
    chosen = [(p, e.prompt, e.better, e.worse) for found in rounds if found is not None for p, e in [found]]
    chosen = list(islice(chosen, ASKED))
    if len(chosen) < FEW and principles:
        chosen += [
            (principles[n % len(principles)], (Message("user", question),), better, worse)
            for n, (question, better, worse) in enumerate(PAIRS)
        ]
    cases = []
    for principle, prompt, better, worse in chosen:
        comparison = Comparison.of(dialogue_id(prompt), text_digest(better), text_digest(worse))
        better_first = comparison.first == text_digest(better)
        one, other = (better, worse) if better_first else (worse, better)
        tags = every_tag([principle])
        cases.append((Case(comparison, prompt, one, other, (principle,), tags), better_first))
    return cases


def _unreadable(work: Work, name: str, settings: JudgeSettings, found: Reading) -> str:
    """What was measured, what other beginnings of the answer would give, and what to do about it."""
    limits = work.settings.label
    told = (
        f"the {name}'s answers cannot be read: of {found.asked} questions, asked in both orders before anything was "
        f"generated, {found.unreadable} put less than label.min_mass = {limits.min_mass:g} of the probability on A and "
        f"B (median {found.mass:.2f}). Nothing was generated. "
    )
    tried = _other_prefixes(work, settings)
    shown = ", ".join(f"{prefix!r} {reading.mass:.2f}" for prefix, reading in tried)
    works = [(p, r) for p, r in tried if r.unreadable <= limits.max_unreadable * r.asked]
    if works:
        best, reading = max(works, key=lambda each: (each[1].consistent, each[1].mass))
        told += (
            f'Set {name}.answer_prefix = "{best}": its answer then begins so, and A and B hold {reading.mass:.2f} '
            f"(tried: {shown})."
        )
        if reading.at_chance:
            told += (
                f" But so begun, its two orders agree on {reading.consistent} of {reading.readable} questions, no more "
                f"than guessing would: a larger model would make a better {name}."
            )
        return told
    if tried:
        told += f"Other beginnings of its answer do not help ({shown}). "
    return told + (
        f"Look at the {name}'s chat template (thinking off: {name}.template_args), or name a model that follows "
        f"instructions: {name}.model"
    )


def _other_prefixes(work: Work, settings: JudgeSettings) -> list[tuple[str, Reading]]:
    """The probe again, on its first questions, with other beginnings of the answer; those that the model cannot be
    asked with are left out."""
    if settings.method != "choice":
        return []  # its answer is more than a letter
    tried = []
    for prefix in PREFIXES:
        if prefix == settings.answer_prefix:
            continue
        try:
            other = settings.model_copy(update={"answer_prefix": prefix})
            tried.append((prefix, _ask(work, work.wiring.judge(other), FEW)))
        except UserError:  # a letter is no single token after it
            continue
    return tried


def _put_away(work: Work, settings: JudgeSettings) -> None:
    """Free what the evaluator holds: it is asked again at the end, and training wants the room."""
    roles: list[Any] = [work.settings.policy, work.settings.critic, work.settings.judge]
    model = work.wiring.resolve(settings.model)
    if all(role is None or work.wiring.resolve(role.model) != model for role in roles):
        work.wiring.release(model)
