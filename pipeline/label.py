"""Labels are a query over verdicts: here is what the query is given, and what its answer is worth.

The arithmetic itself is `storage.labels`: integers, one code path for both databases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pipeline.judges
from constitution.errors import UserError
from constitution.principles import Constitution, Principle
from constitution.records import PROBABILITY, Id, Label, LabelRule, Question, Ruling, Voice, make_id, together
from pipeline.judges.judge import Judge
from pipeline.metrics.consistency import Consistency

EVERYBODY = Ruling()  # no trial decided anything: every principle has a voice


def voices(constitution: Constitution, judge: Judge, ruling: Ruling = EVERYBODY) -> dict[Id, Voice]:
    """How each question of a constitution counts in labels. Principles with the same words share one: see `together`.
    Those that the ruling leaves out have none. Raises UserError where nobody is left."""
    return combined(((p, judge.question(p)) for p in constitution.principles), ruling)


def combined(asked: Iterable[tuple[Principle, Question]], ruling: Ruling = EVERYBODY) -> dict[Id, Voice]:
    """The same of principles with the questions that they were asked in."""
    said: dict[Id, list[Voice]] = {}
    for principle, question in asked:
        if principle.id not in ruling.left_out:
            said.setdefault(question.id, []).append(voice(principle, question, ruling))
    if not said:
        raise UserError(
            "the trial of the judge left out every principle, so there is nothing to label by: "
            f"{ruling.why or 'no principle was asked'}. Name a better judge (judge.model, judge.method), or reword them"
        )
    return {question: together(some) for question, some in said.items()}


def by_principle(
    constitution: Iterable[Principle], judge: Judge, ruling: Ruling = EVERYBODY
) -> tuple[dict[str, Id], dict[str, Voice]]:
    """Question and voice of each principle that has one, by its id: for analyses that tell principles apart. Without
    any where the ruling leaves out all."""
    questions = {p.id: (p, judge.question(p)) for p in constitution if p.id not in ruling.left_out}
    return (
        {name: question.id for name, (_, question) in questions.items()},
        {name: voice(p, question, ruling) for name, (p, question) in questions.items()},
    )


def voice(principle: Principle, question: Question, ruling: Ruling = EVERYBODY) -> Voice:
    """Of one principle by itself. Its clamp and the rule for such a judge follow from the question's readout."""
    method = str(question.readout.get("method", ""))
    return Voice(principle.weight, principle.tier, principle.hard, clamp(question.readout), ruling.rules.get(method))


def agreeing(voices: Mapping[Id, Voice], rule: LabelRule) -> tuple[dict[Id, Voice], LabelRule]:
    """The same voices and rule, with no vote for a verdict whose two orders name different answers. Such a verdict may
    say how probably an answer is the better (a soft label); nothing is learnt from it as if it were known."""
    strict = {q: replace(v, rule=replace(v.rule, consistent=True)) if v.rule else v for q, v in voices.items()}
    return strict, replace(rule, consistent=True)


def clamp(readout: Mapping[str, Any]) -> int | None:
    """What |p1 + p2 - 1| of a judge that is read so counts as at most, x 1e9: its module's CLAMP, from which to which
    probability (0.40 to 0.60) it is believed. Of a judge that is several (`judges`) the tightest of theirs: a verdict
    does not tell whose it is. None: it has none, or is not installed here."""
    method, found = readout.get("method"), []
    try:
        limits = getattr(pipeline.judges.load(method), "CLAMP", None) if isinstance(method, str) and method else None
    except UserError:
        limits = None
    if limits is not None:
        found.append(round((limits[1] - limits[0]) * PROBABILITY))
    parts = readout.get("judges")
    if isinstance(parts, list | tuple):
        found += [most for part in parts if isinstance(part, Mapping) and (most := clamp(part)) is not None]
    return min(found, default=None)


def drawn(principles: Sequence[Principle], comparison: Id) -> Principle:
    """The principle that labels a comparison where one is sampled for each: that with the highest hash of (comparison,
    its id). Uniform, as in Constitutional AI (arXiv 2212.08073, section 4.1): weights and order are not in it, and one
    that is added takes one comparison in n + 1."""
    return max(principles, key=lambda p: make_id("label_draw", comparison=comparison, principle=p.id))


def refuse_unreadable(found: Mapping[Id, Consistency], most: float) -> None:
    """Stop when more than the share `most` of the verdicts cannot be read: labels of the rest would be a guess at
    what the judge can say. Raises UserError with the rate and what to look at."""
    lost = sum(c.unreadable for c in found.values())
    total = lost + sum(c.readable for c in found.values())
    if total and lost / total > most:
        raise UserError(
            f"the judge's answers cannot be read: {lost} of {total} verdicts ({lost / total:.0%}) put too little "
            f"of the probability on A and B, more than the {most:.0%} that label.max_unreadable allows. Nothing was "
            "labelled. Look at the judge's chat template (thinking off: judge.template_args), try "
            'judge.answer_prefix = "The better reply is (", or use a model that follows instructions.'
        )


def counts(labels: Iterable[Label]) -> dict[str, int]:
    states, conflicts = Counter[str](), 0
    for label in labels:
        states[label.state] += 1
        conflicts += label.conflict
    found = {"count": states.total(), **{s: states.get(s, 0) for s in ("decided", "tied", "unreadable")}}
    return found | ({"conflicts": conflicts} if conflicts else {})
