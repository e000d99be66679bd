"""Two orders that cancel out exactly, under a rule that lets them vote, are for neither answer: whoever counts votes
counts none of them for either."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from constitution.records import PROBABILITY, Comparison, Id, LabelRule, Ruling, Verdict, make_id, text_digest
from pipeline.metrics import orders
from pipeline.metrics.voting import votes
from service.actions.annotated_pairs import _vote
from service.queries import agreement, findings, judged, labels, rulings
from service.queries.labels import votes_on
from service.work import evaluation
from storage.store import Store
from tests.flows import pools
from tests.flows.pools import HashWiring, principle, write
from tests.service import reviewed_run

MEAN = LabelRule(consistent=False, min_margin=0.0)


def test_an_effect_of_ties_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of answers that the evaluator tells apart by their place alone: for neither, whichever text comes first."""
    monkeypatch.setattr(pools, "verdict", lambda q, c: Verdict(q, c, PROBABILITY, 0, PROBABILITY, PROBABILITY))
    wiring = HashWiring(f"sqlite:///{tmp_path / 'a.db'}", tmp_path)
    constitution = write([principle("kind")])
    prompts, ids = pools.fill(wiring.store, 6)
    run = pools.base_run(wiring, constitution, prompts, ids)
    rulings.put(wiring.store, run, "evaluator", Ruling((), MEAN, {}, "mean"))
    try:
        with wiring.at_work(run, constitution) as work:
            cases = work.cases(ids)
            sides = [(cases[i].comparison.first, cases[i].comparison.second) for i in ids]
            pairs: Any = [tuple(SimpleNamespace(content=c) for c in two) for two in sides]
            found = evaluation._by_principle(work, wiring.hash_judge, list(constitution), pairs, ids)
    finally:
        wiring.close()
    effect = found["kind"]["effect"]
    assert (effect["towards"], effect["away"], effect["neither"]) == (0, 0, len(ids))
    assert found["kind"]["bears_on"] == 0


def test_of_two_principles_that_ask_the_same_both_have_the_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An added one that says what is there already would else be refused because "nothing could be read"."""
    monkeypatch.setattr(pools, "verdict", lambda q, c: Verdict(q, c, *[PROBABILITY] * 4))
    wiring = HashWiring(f"sqlite:///{tmp_path / 'a.db'}", tmp_path)
    constitution = write([principle("kind"), {**principle("kind"), "id": "again"}])
    prompts, ids = pools.fill(wiring.store, 6)
    run = pools.base_run(wiring, constitution, prompts, ids)
    try:
        with wiring.at_work(run, constitution) as work:
            cases = work.cases(ids)
            sides = [(cases[i].comparison.second, cases[i].comparison.first) for i in ids]
            pairs: Any = [tuple(SimpleNamespace(content=c) for c in two) for two in sides]
            found = evaluation._by_principle(work, wiring.hash_judge, list(constitution), pairs, ids)
    finally:
        wiring.close()
    assert list(found) == ["kind", "again"] and found["kind"] == found["again"]
    assert found["again"]["effect"]["towards"] == len(ids)


@pytest.fixture
def told(store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[judged.Judged, list[Id]]:
    """Two ties, an exact half and a vote, by the mean of the orders."""
    made = reviewed_run.build(store, kind=[(1.0, 0.0), (0.1, 0.9), 0.5, 0.9, 0.9])
    return replace(judged.newest(store, ""), rule=MEAN), made.pairs


def test_a_tie_is_told_from_what_does_not_apply_and_from_a_vote(told: tuple[judged.Judged, list[Id]]) -> None:
    about, pairs = told
    kind = {q for q, names in about.principles.items() if "kind" in names}
    said = {c.comparison: c for c in about.contributions(pairs) if c.question in kind}
    assert [said[i].bears for i in pairs] == [True, True, False, True, True]
    assert [said[i].chooses for i in pairs] == [False, False, False, True, True]
    assert [_vote(said[i]).why for i in pairs] == ["neither", "neither", "not_applicable", None, None]
    assert [len(votes_on(about, pairs)[i]) for i in pairs] == [0, 0, 0, 1, 1]
    assert labels._fitting(about, pairs, None, kind) == set(pairs[3:])


def test_a_tie_is_neither_for_nor_against_the_winner_of_a_label(
    store: Store, told: tuple[judged.Judged, list[Id]]
) -> None:
    about, pairs = told
    work: Any = SimpleNamespace(store=store)
    panel: Any = SimpleNamespace(voices=about.voices, rule=about.rule)
    assert set(findings._votes(work, panel, pairs)) == set(pairs[3:])


def test_nobody_agrees_with_a_tie(store: Store, told: tuple[judged.Judged, list[Id]]) -> None:
    about, pairs = told
    for pair in pairs:
        store.add_spot_check("ana", pair, "first", sampled_by="random", key=pair.hex())
    found = agreement._by_principle(about, store.spot_checks(run=about.run.id, stages=about.stages))
    assert found["kind"]["count"] == 2


def test_a_tie_names_no_answer_that_could_stand() -> None:
    made = [Comparison.of(make_id("p", n=n), text_digest("a"), text_digest("b")) for n in range(3)]
    p1, p2 = np.array([[10**9], [0], [9 * 10**8]]), np.array([[0], [10**9], [9 * 10**8]])
    question = make_id("q", n=0)
    evidence: Any = SimpleNamespace(
        comparisons=[c.id for c in made], questions=[question], s=p1 + p2 - PROBABILITY, p1=p1, p2=p2,
        mass=np.full((3, 1), PROBABILITY), present=np.full((3, 1), True),
    )  # fmt: skip
    cast = votes(evidence, {"kind": question}, {"kind": 1000}, MEAN)
    assert cast.bears.all()
    assert list(orders._named(cast, 0, {c.id: c for c in made})) == [(made[2], True)]
