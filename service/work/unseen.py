"""A reward model on pairs whose topics and wordings it never saw: the constitution's examples and the pairs of
`trial.pairs`, which train nothing.

Its held-out comparisons are of prompts like those that it was trained on, answered by the same model and labelled by
the same judge; these are not, and their better answer is known. What opens like a prompt that was trained on is left
out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from constitution.errors import UserError
from constitution.records import Id, dialogue_id, split_group
from pipeline import rewards
from pipeline.known import Known
from pipeline.metrics.intervals import interval_of
from service.queries import trials
from service.work.work import Work


def unseen(work: Work, paths: Sequence[str]) -> dict[str, Any] | None:
    """Accuracy (`mean`, a 95% interval, `n` prompts), in all and `by` principle, tag and source; None where there is no
    such pair, or where the reward model cannot read one."""
    try:
        pairs = trials.chosen(work.constitution, work.settings).pairs
        openings = {split_group(p.messages) for p in pairs}
        trained = {o for p in work.prompts("train") if (o := split_group(p.messages)) in openings}
        known = [p for p in pairs if split_group(p.messages) not in trained]
        better, worse = _scores(known, paths[0]) if known else ([], [])
    except UserError as error:  # measured beside the run, which goes on without it
        work.log(f"the reward model was not tried on pairs that it never saw: {error}")
        return None
    if not known:
        return None
    right = [1.0 if b > w else 0.5 if b == w else 0.0 for b, w in zip(better, worse, strict=True)]
    return accuracies(known, right)


def _scores(pairs: Sequence[Known], path: str) -> tuple[list[float], list[float]]:
    prompts = [[{"role": m.role, "content": m.content} for m in p.messages] for p in pairs]
    model = rewards.build({"kind": "model", "paths": [path]})
    try:
        return model.score(prompts, [p.better for p in pairs]), model.score(prompts, [p.worse for p in pairs])
    finally:
        model.close()


def accuracies(pairs: Sequence[Known], right: Sequence[float]) -> dict[str, Any]:
    """`right`: by pair, whether the better answer is preferred; a half where neither is. Several pairs of one prompt
    are one value, their mean."""
    groups: dict[str, list[int]] = {}
    for at, pair in enumerate(pairs):
        for name in dict.fromkeys((pair.principle, *pair.tags, pair.source)):
            if name:
                groups.setdefault(name, []).append(at)
    return {
        **_accuracy(pairs, right, range(len(pairs))),
        "by": {name: _accuracy(pairs, right, places) for name, places in sorted(groups.items())},
    }


def _accuracy(pairs: Sequence[Known], right: Sequence[float], places: Iterable[int]) -> dict[str, float | None]:
    by_prompt: dict[Id, list[float]] = {}
    for at in places:
        by_prompt.setdefault(dialogue_id(pairs[at].messages), []).append(right[at])
    values = [sum(said) / len(said) for said in by_prompt.values()]
    return {**interval_of(values).as_dict(), "n": len(values)}
