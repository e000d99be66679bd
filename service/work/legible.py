"""Whether a judge can be read at all: told after a few pairs, before anything is generated, with what would help.

A model that puts too little of the probability on A and B is refused in seconds; without this it would be after all
answers and revisions were made. Other beginnings of its answer are tried first, and the one to set is named: it is not
set in silence, because it is part of every question's id.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from constitution.errors import UserError
from constitution.records import Verdict
from pipeline import known
from pipeline.judges.judge import Judge
from pipeline.judges.reading import PREFIXES
from pipeline.known import Known
from pipeline.metrics.trial import Tried
from service.settings import JudgeSettings
from service.work import known_pairs
from service.work.known_pairs import FEW, STAGE
from service.work.work import Work


def refuse_unreadable(work: Work, role: str, settings: JudgeSettings, rows: Sequence[Tried]) -> None:
    """Raise UserError where the judge said nothing that can be read of the first few pairs."""
    limits = work.settings.label
    told = [row for row in rows if row.shown_a is not None]
    if rows and not told:
        said = next((o.refused.said for o in work.left_out.everything if o.stage == STAGE), "it refused every question")
        raise UserError(f"the {role} can be asked nothing: {said}")
    lost = sum(row.mass < limits.min_mass for row in told)
    if lost <= limits.max_unreadable * len(told):
        return
    mass = statistics.median(row.mass for row in told)
    raise UserError(
        f"the {role}'s answers cannot be read: of {len(told)} pairs, asked in both orders before anything was "
        f"generated, {lost} put less than label.min_mass = {limits.min_mass:g} of the probability on A and B (median "
        f"{mass:.2f}). Nothing was generated. " + _prefix_advice(work, role, settings)
    )


def _prefix_advice(work: Work, role: str, settings: JudgeSettings) -> str:
    """What other beginnings of the answer would give, and what to do."""
    limits = work.settings.label
    tried = _other_prefixes(work, settings)
    shown = ", ".join(f"{prefix!r} {_mass(rows):.2f}" for prefix, rows in tried)
    works = [(p, rows) for p, rows in tried if _unreadable(rows, limits.min_mass) <= limits.max_unreadable * len(rows)]
    if works:
        best, rows = max(works, key=lambda each: (agree(each[1]), _mass(each[1])))
        told = (
            f'Set {role}.answer_prefix = "{best}": its answer then begins so, and A and B hold {_mass(rows):.2f} '
            f"(tried: {shown})."
        )
        if 2 * agree(rows) <= len(rows):
            told += (
                f" But so begun, its two orders agree on {agree(rows)} of {len(rows)} questions, no more than "
                f"guessing would: a larger model would make a better {role}."
            )
        return told
    tail = f"Other beginnings of its answer do not help ({shown}). " if tried else ""
    return tail + (
        f"Look at the {role}'s chat template (thinking off: {role}.template_args), or name a model that follows "
        f"instructions: {role}.model"
    )


def _other_prefixes(work: Work, settings: JudgeSettings) -> list[tuple[str, list[Tried]]]:
    """The first few pairs again with other beginnings of the answer; those that the model cannot be asked with are left
    out. Nothing of it is stored: it is what the judge would be, not what it is."""
    if settings.method != "choice":
        return []  # its answer is more than a letter
    named = work.wiring.asked_judge(settings)
    chosen = known_pairs.pairs_of(work, named).pairs
    few = [*chosen[:FEW], *known_pairs.plain(work, named, chosen)][:FEW]
    tried = []
    for prefix in PREFIXES:
        if prefix == settings.answer_prefix:
            continue
        try:
            other = work.wiring.judge(settings.model_copy(update={"answer_prefix": prefix}))
            tried.append((prefix, _at_once(work, other, few)))
        except UserError:  # a letter is no single token after it
            continue
    return [(prefix, rows) for prefix, rows in tried if rows]


def _at_once(work: Work, judge: Judge, pairs: Sequence[Known]) -> list[Tried]:
    cases = [known_pairs.case(pair, known.asked_of(pair, work.constitution)) for pair in pairs]
    said: Sequence[Verdict] = judge.judge(cases).verdicts
    verdicts = {(v.comparison, v.question): v for v in said}
    rows = known.rows(pairs, verdicts, work.constitution, lambda p: judge.question(p).id, 0.0)
    return [row for row in rows if row.shown_a is not None]


def _mass(rows: Sequence[Tried]) -> float:
    return statistics.median(row.mass for row in rows)


def _unreadable(rows: Sequence[Tried], floor: float) -> int:
    return sum(row.mass < floor for row in rows)


def agree(rows: Sequence[Tried]) -> int:
    return sum(((row.shown_a or 0) - 0.5) * ((row.shown_b or 0) - 0.5) > 0 for row in rows)
