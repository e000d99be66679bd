"""What the trial of a judge decided about the labels of a run: who has no voice, and by which rule verdicts vote.

It is a document of the store, written once at the start of a run by whoever tried the judge. Where there is none, every
principle has a voice and the rule is the settings'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, TypeAlias

from constitution import loading
from constitution.principles import Constitution
from constitution.records import Id, Label, LabelRule, Ruling, Voice
from pipeline.judges.judge import Judge
from pipeline.label import EVERYBODY, agreeing
from storage.runs import Run
from storage.store import Store

Whose: TypeAlias = Literal["judge", "evaluator"]
Made: TypeAlias = Callable[[Sequence[Id], Mapping[Id, Voice], LabelRule], Iterable[Label]]

KIND = "ruling"


def put(store: Store, run: Run, whose: Whose, ruling: Ruling) -> Ruling:
    """Keep a ruling. The first of a run stays: what comes back is what its labels are made under."""
    found = store.put_document(KIND, _key(run, whose), as_dict(ruling))
    return of_dict(found)


def of(store: Store, run: Run | None, whose: Whose = "judge") -> Ruling:
    """The ruling of a run. A relabelling that tried nobody goes by the one of the run whose pool it labels, for the
    principles whose words are still the same."""
    if run is None:
        return EVERYBODY
    found = store.document(KIND, _key(run, whose))
    if found is not None:
        return of_dict(found)
    if run.kind != "relabel":
        return EVERYBODY
    base = store.run(run.settings["settings"]["retrain"]["base"])
    ruling, before, now = (
        of(store, base, whose), store.clauses(base.constitution or ""), store.clauses(run.constitution or "")
    )  # fmt: skip
    same = [p for p in ruling.left_out if set(before.get(p, ())) & set(now.get(p, ()))]
    return replace(ruling, left_out=tuple(same))


def carried(ruling: Ruling, before: Mapping[str, Id], now: Mapping[str, Id]) -> Ruling:
    """The ruling for another constitution: without a voice are the principles whose question is that of one without
    (`before`, `now`: questions by principle). One that was reworded, or given to another judge, was not tried yet."""
    silent = {before[name] for name in ruling.left_out if name in before}
    return replace(ruling, left_out=tuple(name for name, question in now.items() if question in silent))


def under(store: Store, run: Run | None, judge: Judge, constitution: Constitution, whose: Whose = "judge") -> Ruling:
    """The ruling of a run as it holds for a constitution, the run's or another."""
    ruling = of(store, run, whose)
    if run is None or not ruling.left_out or run.constitution == constitution.version:
        return ruling
    text = store.constitution(run.constitution or "")
    before = {p.id: judge.question(p).id for p in loading.parse(text)} if text is not None else {}
    return carried(ruling, before, {p.id: judge.question(p).id for p in constitution})


def steady(labels: Mapping[Id, Label], voices: Mapping[Id, Voice], rule: LabelRule, make: Made) -> set[Id]:
    """Of labels that `make` made by these voices and this rule, the comparisons whose label names an answer and would
    name it if only verdicts voted whose two orders agree."""
    decided = {id: x.preferred_first for id, x in labels.items() if x.preferred_first is not None}
    strict, strict_rule = agreeing(voices, rule)
    if (strict, strict_rule) == (voices, rule):
        return set(decided)
    found = make(sorted(decided), strict, strict_rule)
    return {x.comparison for x in found if x.preferred_first == decided[x.comparison]}


def as_dict(ruling: Ruling) -> dict[str, Any]:
    return {
        "left_out": list(ruling.left_out),
        "rule": asdict(ruling.rule) if ruling.rule is not None else None,
        "rules": {method: asdict(rule) for method, rule in ruling.rules.items()},
        "why": ruling.why,
    }


def of_dict(kept: Mapping[str, Any]) -> Ruling:
    return Ruling(
        tuple(kept["left_out"]),
        LabelRule(**kept["rule"]) if kept["rule"] is not None else None,
        {method: LabelRule(**rule) for method, rule in kept["rules"].items()},
        kept["why"],
    )


def _key(run: Run, whose: Whose) -> str:
    return f"{run.id.hex()}:{whose}"
