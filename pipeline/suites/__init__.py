"""How a model's behaviour is measured, by name: each suite reads the answers before and after, and gives figures.

    found = suites.measure(suites.chosen(None), evidence)   list[Measured]
    suites.as_dict(found)                                   what `--json` has under `suites`
    suites.conditions(found, limits)                        what the gate asks besides its own

Truth is handed to the suites that measure it and to no other, and those may ask nothing of a gate: so nothing that is
decided can have seen it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, cast

from constitution.errors import UserError
from constitution.records import Prompt
from pipeline import plugins
from pipeline.suites import capability, published
from pipeline.suites.suite import Asks, Condition, Evidence, Figure, Item, Measured, Suite

__all__ = [
    "Asks", "Condition", "Evidence", "Figure", "Item", "Measured", "Suite",
    "as_dict", "check", "chosen", "conditions", "items", "load", "measure", "names", "of_dict", "prompts", "questions",
]  # fmt: skip


def names() -> list[str]:
    """The suites that there are."""
    return plugins.names(__name__, "measure")


def chosen(named: Sequence[str] | None) -> Sequence[str]:
    """The suites that the settings name, or where they name none (None) every one that is found and does not ask to be
    named: suites with many prompts of their own cost as many answers of each model."""
    return [name for name in names() if not only_named(name)] if named is None else named


def only_named(name: str) -> bool:
    """Whether a suite is measured only where the settings name it. One that cannot be loaded does not say so: whoever
    measures it is told."""
    try:
        return bool(getattr(load(name), "ONLY_NAMED", False))
    except UserError:
        return False


def load(name: str) -> ModuleType:
    """The module of a suite (`Suite`), or what has the same of a public set and its file, as `xstest:PATH` names them,
    or of questions with choices, as `capability:PATH`. Raises UserError for a name that is none, and for one that would
    let the gate see the truth."""
    if ":" in name:
        of = capability if name.partition(":")[0] == "capability" else published
        return cast(ModuleType, of.suite(name))
    if name.replace("-", "_") in published.TITLES and name not in names():
        raise UserError(
            f"{name} is a public set, of a file on your disk: name that, too, as {name}:FILE (docs/suites.md)"
        )
    module = plugins.load(__name__, "measure", name, "suite")
    if _reads_truth(module) and hasattr(module, "conditions"):
        raise UserError(f"the suite {name!r} reads the truth, so it may have no conditions: the gate never reads it")
    return module


def prompts(names: Iterable[str]) -> dict[str, list[Prompt]]:
    """Of the suites that have prompts of their own, these prompts. Raises UserError where one is not held out."""
    found = {}
    for name in names:
        module = load(name)
        if hasattr(module, "prompts"):
            found[name] = list(module.prompts())
            if any(prompt.split != "heldout" for prompt in found[name]):
                raise UserError(f"the suite {name!r} has a prompt that is not held out")
    return found


def items(names: Iterable[str]) -> dict[str, list[Item]]:
    """Of the suites whose questions have choices, these questions."""
    return {name: list(load(name).items()) for name in names if hasattr(load(name), "items")}


def questions(name: str) -> Mapping[str, Asks]:
    """What a model may be asked of each answer to the prompts of a suite, by the name of the figure."""
    found: Mapping[str, Asks] = getattr(load(name), "QUESTIONS", {})
    return found


def measure(names: Sequence[str], evidence: Evidence, own: Mapping[str, Evidence] | None = None) -> list[Measured]:
    """What the suites find, in that order. `evidence` is of the run's held-out prompts, `own`, by suite, of the prompts
    or questions that a suite has itself. Raises UserError where such a suite has no evidence, or has two figures of one
    name."""
    found = []
    for name in names:
        module = load(name)
        seen = evidence
        if hasattr(module, "prompts") or hasattr(module, "items"):
            if own is None or name not in own:
                what = "prompts" if hasattr(module, "prompts") else "questions"
                raise UserError(f"the suite {name!r} has {what} of its own, and there are no answers to them")
            seen = own[name]
        figures = _measured(name, module, seen if _reads_truth(module) else replace(seen, oracle=None))
        for key, asked in questions(name).items():
            if key in seen.read:
                said = seen.read[key]
                figures.append(seen.figure(f"{key}_by_evaluator", asked.title, *said, better=asked.better))
        if len({figure.name for figure in figures}) < len(figures):
            raise UserError(f"the suite {name!r} has two figures of one name")
        found.append(Measured(name, getattr(module, "TITLE", name), tuple(figures)))
    return found


def _measured(name: str, module: ModuleType, evidence: Evidence) -> list[Figure]:
    try:
        figures: list[Figure] = list(module.measure(evidence))
    except UserError:
        raise
    except Exception as error:  # another's code may raise anything
        raise UserError(
            f"the suite {name!r} failed: {type(error).__name__}: {error}; mend it, or leave it out"
        ) from error
    for figure in figures:
        if not isinstance(figure, Figure) or not (isinstance(figure.name, str) and figure.name):
            raise UserError(f"the suite {name!r} gave something that is no named Figure; mend it, or leave it out")
        if any(interval is not None and math.isinf(interval.mean) for interval in (figure.before, figure.after)):
            raise UserError(f"the suite {name!r}: the figure {figure.name!r} is not finite; mend it, or leave it out")
    return figures


def as_dict(found: Iterable[Measured]) -> dict[str, Any]:
    """By suite: `title`, and by name its `figures`."""
    return {measured.suite: measured.as_dict() for measured in found}


def of_dict(found: Mapping[str, Any]) -> list[Measured]:
    """What `as_dict` wrote."""
    return [Measured.of(name, of) for name, of in found.items()]


def check(names: Iterable[str], limits: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise the UserErrors of `load` and of `conditions`, with nothing measured yet: these suites are there, and they
    have the limits that are given."""
    defaults = {name: getattr(load(name), "LIMITS", {}) for name in names}
    for suite, given in limits.items():
        if suite not in defaults:
            raise UserError(f"there are limits for the suite {suite!r}, which is not measured: name it, too")
        for name in given:
            if name not in defaults[suite]:
                there = f"it has {', '.join(defaults[suite])}" if defaults[suite] else "it has none"
                raise UserError(f"the suite {suite!r} has no limit {name!r}; {there}")
            usual, value = defaults[suite][name], given[name]
            numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (usual, value))
            if usual is not None and not numbers and type(value) is not type(usual):
                raise UserError(f"gate.suites.{suite}.{name} is {value!r}; it must be such as {usual!r}, its default")


def conditions(found: Iterable[Measured], limits: Mapping[str, Mapping[str, Any]] | None = None) -> list[Condition]:
    """What the suites ask of a model, by their own limits or by those given (by suite, a suite's limits by name).

    Raises UserError for a limit of a suite that was not measured, or that the suite does not have.
    """
    all_found, limits = list(found), limits or {}
    check([measured.suite for measured in all_found], limits)
    asked: list[Condition] = []
    for measured in all_found:
        module = load(measured.suite)
        wanted = {**getattr(module, "LIMITS", {}), **limits.get(measured.suite, {})}
        if hasattr(module, "conditions"):
            with plugins.mended(module, "suite"):
                asked += module.conditions({figure.name: figure for figure in measured.figures}, wanted)
    return asked


def _reads_truth(module: ModuleType) -> bool:
    return bool(getattr(module, "TRUTH", False))
