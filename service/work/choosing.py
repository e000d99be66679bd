"""Which beginning of a judge's answer is best: chosen on one half of the known pairs, and tried on the other.

What is best of several on the pairs that it was chosen on looks better than it is. So only the other half says what the
choice is worth, beside what is set now. Nothing is set in silence: the beginning is part of every question's id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from constitution.errors import UserError
from pipeline import known
from pipeline.judges.reading import PREFIXES
from pipeline.known import Known
from pipeline.metrics.intervals import Interval, change_of
from pipeline.metrics.trial import Group, Tried, group
from service.settings import JudgeSettings
from service.work import known_pairs
from service.work.work import Work

FEWEST = 20  # pairs of a half, below which nothing is chosen on it


@dataclass(frozen=True)
class Chosen:
    """`tried`: by beginning, what it was right on in the first half, an answer that cannot be read as wrong. On the
    other half: `now`, the beginning that is set, `chosen`, the best of the first half, and `gain`, between them."""

    tried: dict[str, Group]
    prefix: str
    now: Group
    chosen: Group
    gain: Interval

    @property
    def better(self) -> bool:
        return self.gain.low > 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "tried": {name: found.as_dict() for name, found in self.tried.items()},
            "answer_prefix": self.prefix,
            "now": self.now.as_dict(),
            "chosen": self.chosen.as_dict(),
            "gain": self.gain.as_dict(),
        }


def choose_prefix(work: Work, settings: JudgeSettings, pairs: Sequence[Known]) -> Chosen:
    """Try the beginnings that are known to help, and the one that is set. Raises UserError where there are too few
    pairs, or the judge's answer is more than a letter."""
    if settings.method != "choice":
        raise UserError(f"beginnings of an answer are tried of a judge by letters, not of {settings.method!r}")
    first, second = known.halves(pairs)
    if min(len(first), len(second)) < FEWEST:
        raise UserError(
            f"{len(pairs)} known pairs are too few to choose on one half and try on the other: {FEWEST} are needed in "
            "each; name a file of known pairs: --pairs"
        )
    said: dict[str, list[Tried]] = {}
    for prefix in dict.fromkeys((settings.answer_prefix, *PREFIXES)):
        try:
            said[prefix] = _said(work, settings, prefix, first)
        except UserError:  # a letter is no single token after it
            continue
    tried = {prefix: group(rows) for prefix, rows in said.items()}
    best = max(tried, key=lambda prefix: (tried[prefix].score.mean, prefix == settings.answer_prefix))
    now, then = (_said(work, settings, prefix, second) for prefix in (settings.answer_prefix, best))
    gain = change_of([row.right for row in then], [row.right for row in now])
    return Chosen(tried, best, group(now), group(then), gain)


def _said(work: Work, settings: JudgeSettings, prefix: str, pairs: Sequence[Known]) -> list[Tried]:
    """What the judge says so begun; what cannot be read, or was refused, is wrong."""
    judge = work.wiring.judge(settings.model_copy(update={"answer_prefix": prefix}))
    known_pairs.put(work, judge, pairs)
    floor = work.settings.label.min_mass
    rows = zip(pairs, known_pairs.rows_of(work, judge, pairs), strict=True)
    return [row if row.shown_a is not None and row.mass >= floor else known.row(p, 0.0, 0.0) for p, row in rows]
