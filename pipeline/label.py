"""Labels are a query over verdicts: here is what the query is given, and what its answer is worth.

The arithmetic itself is `storage.labels`: integers, one code path for both databases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import Id, Label
from pipeline.judges.judge import Judge
from pipeline.metrics.consistency import Consistency


def weights(constitution: Constitution, judge: Judge) -> dict[Id, int]:
    """The weight of each question under a constitution. Principles with the same words share one: weights add."""
    by_principle = constitution.weights()
    total: dict[Id, int] = {}
    for principle in constitution.principles:
        question = judge.question(principle).id
        total[question] = total.get(question, 0) + by_principle[principle.id]
    return total


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


def counts(labels: Sequence[Label]) -> dict[str, int]:
    states = Counter(label.state for label in labels)
    return {"count": len(labels), **{s: states.get(s, 0) for s in ("decided", "tied", "unreadable")}}
