"""`precept agreement`: how far people's spot checks agree with the judge, overall and principle by principle.

Only pairs that were drawn at random say how good the judge is. Those picked because it was uncertain, or flipped, are
the hard ones: they are shown apart, and prove nothing about the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cli.options import Json, RunId, SettingsFile, load, store_of
from cli.screen import put, put_json, put_table, tell

if TYPE_CHECKING:
    from constitution.records import SpotCheck
    from service.queries.judged import Judged


def agreement(run: RunId = "", settings: SettingsFile = None, as_json: Json = False) -> None:
    """Raw agreement, Cohen's kappa and Gwet's AC1 of people with the judge, with 95% intervals.

    Example: precept review agreement --json
    """
    from service.queries import judged

    with store_of(load(settings)) as store:
        about = judged.newest(store, run)
        checks = [c for c in store.spot_checks() if c.comparison in set(about.comparisons)]
        found = measure(about, checks)
    if as_json:
        put_json(found)
        return
    _show(found)
    if not found["overall"]["count"]:
        tell("nobody has answered a pair drawn at random yet: precept review")


def measure(about: Judged, checks: Sequence[SpotCheck]) -> dict[str, Any]:
    """`overall` and `by_principle` of random pairs, `others` by how they were drawn, `reviewers`: how many each."""
    drawn: dict[str, list[SpotCheck]] = {}
    for check in checks:
        drawn.setdefault(check.sampled_by, []).append(check)
    random = drawn.pop("random", [])
    reviewers = {name: sum(c.reviewer == name for c in checks) for name in sorted({c.reviewer for c in checks})}
    return {
        "run": about.run.id.hex(),
        "reviewers": reviewers,
        "overall": _overall(about, random),
        "by_principle": _by_principle(about, random),
        "others": {name: _overall(about, some) for name, some in sorted(drawn.items())},
    }


def _overall(about: Judged, checks: Sequence[SpotCheck]) -> dict[str, Any]:
    from pipeline.metrics.agreement import agreement as agree

    return agree([(c.answer, about.labels[c.comparison]) for c in checks])


def _by_principle(about: Judged, checks: Sequence[SpotCheck]) -> dict[str, Any]:
    """A principle's own preference, over the pairs on which its verdict bears."""
    from constitution.records import PROBABILITY, Label
    from pipeline.metrics.agreement import agreement as agree

    sides: dict[str, dict[bytes, Label]] = {}
    for c in about.contributions([check.comparison for check in checks]):
        if c.bears and c.readable:
            label = Label(c.comparison, "decided", PROBABILITY if c.s > 0 else 0)
            for principle in about.principles[c.question]:
                sides.setdefault(principle, {})[c.comparison] = label
    return {
        principle: agree([(c.answer, labels[c.comparison]) for c in checks if c.comparison in labels])
        for principle, labels in sorted(sides.items())
    }


def _show(found: dict[str, Any]) -> None:
    who = ", ".join(f"{name} ({count})" for name, count in found["reviewers"].items())
    put(f"run {found['run'][:12]}, answers of {who or 'nobody'}")
    rows = [_row("all principles", found["overall"])]
    rows += [_row(f"  {name}", of) for name, of in found["by_principle"].items()]
    rows += [_row(f"not at random: {name}", of) for name, of in found["others"].items()]
    names = ("pairs", "agree", "kappa", "AC1")
    put_table(("", *names), rows, right=names)


def _row(name: str, of: dict[str, Any]) -> tuple[str, ...]:
    return name, str(of["count"]), *(_interval(of[key]) for key in ("raw", "kappa", "ac1"))


def _interval(value: dict[str, float | None]) -> str:
    if value["mean"] is None:
        return "-"
    return f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
