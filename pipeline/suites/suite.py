"""The contract of a suite, and its records. A suite is a module `pipeline/suites/x.py`, or an entry point of group
`precept.suites`:

    TITLE = "What it measures, in a few words"
    def measure(evidence: Evidence) -> list[Figure]

and, where it needs them,

    def prompts() -> Sequence[Prompt]      prompts of its own, all held out; else it reads the run's held-out ones
    def items() -> Sequence[Item]          questions whose choices are scored, instead of answers (`capability`)
    LIMITS: Mapping[str, Any] = {...}      what `conditions` asks for, unless the settings say otherwise
    def conditions(figures: Mapping[str, Figure], limits: Mapping[str, Any]) -> list[Condition]
    TRUTH = True                           it is handed the oracle, and may then have no `conditions`
    ONLY_NAMED = True                      it is measured where the settings name it, and not where they name none
    QUESTIONS: Mapping[str, Asks] = {...}  of a suite with prompts of its own: what the evaluator is asked of answers

`measure` gives the same figures of the same evidence, and none of what it cannot know: a figure that is missing is not
a zero. A suite says nothing about how it is shown: the report, the gate, `--json` and the page show every figure alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from constitution.principles import Principle
from constitution.records import Generation, Id, Label, Prompt
from pipeline.metrics.intervals import Interval, interval_of, mean_of
from pipeline.metrics.truth import Oracle

Better: TypeAlias = Literal["higher", "lower"]
RATE = "rate"  # a unit: a share between 0 and 1, shown in percent


class Condition(NamedTuple):
    """What a gate asks, in a sentence that says what was found, and whether it holds. It is what `promote.decide` takes
    `besides` its own."""

    held: bool
    text: str


class Asks(NamedTuple):
    """A yes/no question about a single answer, whose yeses are a figure, of answers to prompts with this tag (empty: to
    all)."""

    question: str
    title: str
    better: Better | None = None
    tag: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure of the model before, of the one after, and how far it moved by prompt, each with its interval; None
    where it does not apply or nothing is known. `n`: how many prompts it is read from. `unit`: "rate", or what it
    counts ("tokens"). `better`: which way is good, None where neither is. `name` is its key in JSON."""

    name: str
    title: str
    before: Interval | None
    after: Interval | None
    change: Interval | None
    n: int
    unit: str = RATE
    better: Better | None = None

    def as_dict(self) -> dict[str, Any]:
        """Without NaN: a mean that has no interval has `low` and `high` null."""
        shown = {side: getattr(self, side) for side in ("before", "after", "change")}
        return {**asdict(self), **{side: found and found.as_dict() for side, found in shown.items()}}

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Figure:
        """What `as_dict` wrote."""
        intervals = {side: _interval(found[side]) for side in ("before", "after", "change")}
        return cls(**{**found, **intervals})


@dataclass(frozen=True)
class Item:
    """A question with choices, and the place of the right one, from 0. `kind` sorts questions, and is never asked."""

    question: str
    choices: tuple[str, ...]
    answer: int
    kind: str = ""


@dataclass(frozen=True)
class Evidence:
    """One set of prompts, answered by the model before and by the one after.

    `before` and `after` are aligned, an answer a prompt. `comparisons`: by place, the id of the pair, None where both
    are the same text; empty where nobody compared them. `labels`: the evaluator's, by comparison.
    `principles`: those of the constitution that the model after is to live by. `read`: by question of the suite, what a
    model said of the answers before and after, aligned with them; empty where none was asked. `items`: questions of the
    suite's own, and `choices`: by item, the natural log-probability of each of its choices, before and after, None
    where a model could not be asked.
    """

    prompts: Mapping[Id, Prompt]
    before: Sequence[Generation]
    after: Sequence[Generation]
    comparisons: Sequence[Id | None] = ()
    labels: Mapping[Id, Label] = field(default_factory=dict)
    seed: int = 0
    oracle: Oracle | None = None
    principles: Sequence[Principle] = ()
    read: Mapping[str, tuple[Sequence[float | None], Sequence[float | None]]] = field(default_factory=dict)
    items: Sequence[Item] = ()
    choices: tuple[Sequence[Sequence[float] | None], Sequence[Sequence[float] | None]] = ((), ())

    @property
    def pairs(self) -> list[tuple[Generation, Generation]]:
        return list(zip(self.before, self.after, strict=True))

    def figure(
        self,
        name: str,
        title: str,
        before: Sequence[float | None],
        after: Sequence[float | None],
        *,
        unit: str = RATE,
        better: Better | None = None,
    ) -> Figure:
        """A figure of values by prompt, aligned with the answers; None is a value that says nothing of its answer.

        `before` and `after` are means of what is known of each; `change` is the mean difference over the prompts on
        which both are known, and `n` counts those. The 95% intervals are over whole prompts: those of a rate hold on
        few prompts and where all are alike, those of another unit (Student's) are missing there.
        """
        both = [a - b for b, a in zip(before, after, strict=True) if b is not None and a is not None]
        old, new = (_mean(values, unit) for values in (before, after))
        return Figure(name, title, old, new, _mean(both, unit, least=-1.0), len(both), unit, better)


def _mean(values: Sequence[float | None], unit: str, least: float = 0.0) -> Interval | None:
    """Of what is known; None where nothing is."""
    some = [float(value) for value in values if value is not None]
    if not some:
        return None
    if unit == RATE:
        return interval_of(some, least)
    return mean_of(some, 0.0 if least == 0 and min(some) >= 0 else -inf)  # a count of something, or how far it moved


@dataclass(frozen=True)
class Measured:
    """What a suite found."""

    suite: str
    title: str
    figures: tuple[Figure, ...]

    def as_dict(self) -> dict[str, Any]:
        return {"title": self.title, "figures": {figure.name: figure.as_dict() for figure in self.figures}}

    @classmethod
    def of(cls, suite: str, found: Mapping[str, Any]) -> Measured:
        """What `as_dict` wrote."""
        return cls(suite, found["title"], tuple(Figure.of(figure) for figure in found["figures"].values()))


class Suite(Protocol):
    """What the module has at least."""

    TITLE: str

    def measure(self, evidence: Evidence) -> list[Figure]: ...


def _interval(found: Mapping[str, float | None] | None) -> Interval | None:
    if found is None:
        return None
    return Interval(**{name: float("nan") if value is None else value for name, value in found.items()})
