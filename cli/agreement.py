"""`precept review agreement`: how far people's spot checks agree with the judge, and with each other, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cli.options import Json, RunId, SettingsFile, load, store_of
from cli.screen import put, put_json, put_table, tell

if TYPE_CHECKING:
    from service.queries.agreement import Agreement

FIGURES = ("pairs", "agree", "kappa", "AC1")


def agreement(run: RunId = "", settings: SettingsFile = None, as_json: Json = False) -> None:
    """Raw agreement, Cohen's kappa and Gwet's AC1 of people with the judge, and with each other, with 95% intervals.

    Example: precept review agreement --json
    """
    from service.queries import agreement as query

    with store_of(load(settings)) as store:
        found = query.agreement(store, run)
    if as_json:
        put_json(found.as_dict())
        return
    _show(found)
    if not found.overall["count"]:
        tell("nobody has answered a pair drawn at random yet: precept review")


def _show(found: Agreement) -> None:
    who = ", ".join(f"{name} ({count})" for name, count in found.reviewers.items())
    put(f"run {found.run[:12]}, answers of {who or 'nobody'}")
    rows = [_row("all principles", found.overall)]
    rows += [_row(f"  {name}", of) for name, of in found.by_principle.items()]
    rows += [_row(f"not at random: {name}", of) for name, of in found.others.items()]
    put_table(("", *FIGURES), rows, right=FIGURES)
    if found.between_reviewers:
        put()
        people = [_row(" and ".join(two.reviewers), two.figures) for two in found.between_reviewers]
        put_table(("people with each other", *FIGURES), people, right=FIGURES)


def _row(name: str, of: Mapping[str, Any]) -> tuple[str, ...]:
    return name, str(of["count"]), *(_interval(of[key]) for key in ("raw", "kappa", "ac1"))


def _interval(value: Mapping[str, float | None]) -> str:
    if value["mean"] is None:
        return "-"
    return f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
