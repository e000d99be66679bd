"""Two runs side by side: the settings in which they differ, their figures on held-out prompts, win rates and labels.

Two constitutions over the same pairs are compared by `constitution_compare.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.metrics import words
from pipeline.metrics.intervals import Interval, change_of
from service.queries.runs import Summary, as_it_is, summary

if TYPE_CHECKING:
    from storage.runs import Run
    from storage.store import Store

LABELS = ("count", "decided", "tied", "unreadable")


@dataclass(frozen=True)
class Differs:
    """A name and what it is in each run; None where a run does not have it."""

    name: str
    a: Any
    b: Any

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "a": self.a, "b": self.b}


@dataclass(frozen=True)
class Paired:
    """How much higher B's win rate is than A's, paired by the `prompts` that both were measured on, with its 95%
    interval: two intervals that overlap do not say that two runs are alike, nor that they differ."""

    change: Interval
    prompts: int

    def as_dict(self) -> dict[str, Any]:
        return {**self.change.as_dict(), "prompts": self.prompts}

    def __str__(self) -> str:
        shown = self.change.as_dict()
        told = "" if self.change.low > 0 or self.change.high < 0 else ": they cannot be told apart"
        return (
            f"B's win rate minus A's, paired by {self.prompts} prompts: {words.signed(self.change.mean)} points "
            f"({words.in_points(shown)}){told}"
        )


@dataclass(frozen=True)
class RunsCompared:
    """`settings`: those that differ, by dotted name, with the policy and the constitution the runs began from.
    `figures`: every figure of `before` and `after` that either run has, equal ones too. `labels`: counts. `paired`:
    None where the two were not measured alike (`MEASURED_BY`) or not on the same prompts."""

    a: Summary
    b: Summary
    settings: tuple[Differs, ...]
    figures: tuple[Differs, ...]
    labels: tuple[Differs, ...]
    paired: Paired | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "a": self.a.as_dict(), "b": self.b.as_dict(),
            "settings": [x.as_dict() for x in self.settings], "figures": [x.as_dict() for x in self.figures],
            "win_rate": {"a": self.a.win_rate, "b": self.b.win_rate},
            "labels": [x.as_dict() for x in self.labels],
            "paired": self.paired.as_dict() if self.paired else None,
        }  # fmt: skip


def compare(store: Store, a: str, b: str) -> RunsCompared:
    """Two runs by the first digits of their ids. Raises UserError where none or several fit."""
    first, second = store.run(a), store.run(b)
    settings = settings_between(first, second)
    figures = _both(_figures(first), _figures(second))
    labels = _both(_labels(first), _labels(second))
    one, other = (summary(as_it_is(store, run)) for run in (first, second))
    return RunsCompared(one, other, settings, figures, labels, _paired(store, first, second, settings))


def settings_between(a: Run, b: Run) -> tuple[Differs, ...]:
    """The settings in which two runs differ, with the policy and the constitution that they began from."""
    return _differing(_settings(a), _settings(b))


MEASURED_BY = ("constitution", "evaluator.", "policy", "label.")  # settings that say against what, and by whom


def _paired(store: Store, a: Run, b: Run, settings: tuple[Differs, ...]) -> Paired | None:
    if a.id == b.id or any(differs.name.startswith(MEASURED_BY) for differs in settings):
        return None
    one, other = (store.document("wins", run.id.hex()) or {} for run in (a, b))
    both = [prompt for prompt in one if prompt in other]
    if not both:
        return None
    return Paired(change_of([other[prompt] for prompt in both], [one[prompt] for prompt in both]), len(both))


def _settings(run: Run) -> dict[str, Any]:
    """What the run was begun with, by dotted name: its settings, and beside them what was resolved (the policy)."""
    about = dict(run.settings)
    own = about.pop("settings", {})
    return {**dict(_leaves(own)), **dict(_leaves(about)), "constitution": run.constitution, "slot": _slot(run)}


def _slot(run: Run) -> Any:
    try:
        return json.loads(run.key)["slot"]
    except (KeyError, TypeError, ValueError):  # a run that is no flow's
        return None


def _figures(run: Run) -> dict[str, Any]:
    result = run.result if isinstance(run.result, dict) else {}
    sides = {side: result[side] for side in ("before", "after") if isinstance(result.get(side), dict)}
    return {name: value for name, value in _leaves(sides) if isinstance(value, int | float)}


def _labels(run: Run) -> dict[str, Any]:
    result = run.result if isinstance(run.result, dict) else {}
    found = result.get("labels")
    return {name: found[name] for name in LABELS if name in found} if isinstance(found, dict) else {}


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Differs, ...]:
    return tuple(x for x in _both(a, b) if x.a != x.b)


def _both(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Differs, ...]:
    return tuple(Differs(name, a.get(name), b.get(name)) for name in dict.fromkeys((*a, *b)))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
