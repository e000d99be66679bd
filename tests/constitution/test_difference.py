"""A diff names what changed, and its flags say exactly which models have to be asked again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from constitution.difference import diff
from constitution.principles import Constitution, Exemplar, JudgedBy, Principle, When
from constitution.records import Message, canonical
from constitution.templates import critique_template, question_template
from pipeline import judges
from pipeline.asking import Role
from pipeline.engines.engine import Capabilities
from pipeline.engines.unloaded import Unloaded

SHOT = Exemplar((Message("user", "p"),), "r", "c", "v")


def _principle(name: str, **changes) -> Principle:
    return replace(Principle(name, f"t {name}", f"c {name}", f"r {name}", f"k {name}"), **changes)


def _constitution(*principles: Principle) -> Constitution:
    return Constitution("test", principles)


A, B, C = _principle("a"), _principle("b"), _principle("c")
OLD = _constitution(A, B)


def test_the_same_in_another_order_is_no_change():
    result = diff(OLD, _constitution(B, A))
    assert result.changes == ()
    assert result.same_version


# what changes, fields, asks_judge, asks_critic, same_version
CHANGES = [
    ({"comparison": "x"}, True, False, False),
    ({"critique": "x"}, False, True, False),
    ({"revision": "x"}, False, True, False),
    ({"exemplars": (SHOT,)}, False, True, False),
    ({"weight": 5}, False, False, False),
    ({"tags": ("x",)}, False, False, False),
    ({"title": "x"}, False, False, True),
    ({"why": "x"}, True, True, False),
    ({"overridable": ("user",)}, True, True, False),
    ({"tier": 1}, False, False, False),
    ({"hard": True}, False, False, False),
    ({"judge": JudgedBy("reasoned")}, True, False, False),
    ({"when": When(ask="Could it hurt?")}, True, False, False),
]


@pytest.mark.parametrize(("change", "asks_judge", "asks_critic", "same_version"), CHANGES, ids=str)
def test_what_one_amendment_costs(change, asks_judge, asks_critic, same_version):
    result = diff(OLD, _constitution(A, replace(B, **change)))
    (found,) = result.changes
    assert (found.kind, found.id, found.fields) == ("changed", "b", tuple(change))
    assert (found.asks_judge, found.asks_critic, found.redraws) == (asks_judge, asks_critic, False)
    assert result.asks_judge == (("b",) if asks_judge else ())
    assert result.same_version is same_version


def test_flags_follow_the_templates():
    """What `applies` costs is what the templates do with it, whatever that is."""
    new = replace(B, applies="when it does")
    (found,) = diff(OLD, _constitution(A, new)).changes
    assert found.asks_judge is (question_template(new) != question_template(B))
    assert found.asks_critic is (critique_template(new) != critique_template(B))


def test_several_fields_of_one_principle_are_one_change_in_several_lists():
    result = diff(OLD, _constitution(A, replace(B, comparison="x", weight=1, title="y")))
    assert result.reworded == result.reweighted == result.retitled == result.changes
    assert result.changes[0].fields == ("title", "comparison", "weight")


def test_added_and_removed():
    result = diff(OLD, _constitution(C, A))
    assert [c.id for c in result.added] == ["c"]
    assert [c.id for c in result.removed] == ["b"]
    assert result.asks_judge == ("c",)
    assert all(c.redraws for c in result.changes)
    assert (result.removed[0].asks_judge, result.removed[0].asks_critic) == (False, False)


def test_an_added_question_that_was_asked_before_costs_no_verdict():
    result = diff(OLD, _constitution(A, B, replace(C, comparison=A.comparison)))
    assert [c.id for c in result.added] == ["c"]
    assert result.asks_judge == ()


def test_the_same_words_under_another_id_are_renamed_and_cost_no_verdict():
    result = diff(OLD, _constitution(A, replace(B, id="bee", weight=7)))
    (found,) = result.changes
    assert (found.kind, found.id, found.fields) == ("renamed", "bee", ("id", "weight"))
    assert found.old is not None
    assert found.old.id == "b"
    assert (found.asks_judge, found.asks_critic, found.redraws) == (False, False, True)
    assert result.added == result.removed == ()
    assert result.renamed == result.reweighted == (found,)


def test_twins_are_renamed_one_to_one():
    old = _constitution(A, replace(A, id="a2"))
    result = diff(old, _constitution(replace(A, id="x"), replace(A, id="y"), replace(A, id="z")))
    assert sorted(c.old.id for c in result.renamed if c.old) == ["a", "a2"]
    assert len(result.added) == 1


def test_there_and_back_again_is_the_same_version():
    there = _constitution(A, replace(B, comparison="x"))
    assert diff(OLD, there).asks_judge == diff(there, OLD).asks_judge == ("b",)
    assert OLD.version == _constitution(A, replace(there["b"], comparison=B.comparison)).version


def _judged(text, **options):
    return JudgedBy(text, canonical(options))


@pytest.mark.parametrize(
    ("judge", "change", "asks_judge", "runs_checks"),
    [
        (_judged("rule", max_words=8), {"comparison": "x"}, False, False),  # code reads no words
        (_judged("rule", max_words=8), {"why": "x"}, False, False),
        (_judged("rule", max_words=8), {"judge": _judged("rule", max_words=9)}, False, True),
        (_judged("rule", max_words=8), {"when": When(tags=("x",))}, False, True),
        (_judged("rule", max_words=8), {"when": When(ask="Could it hurt?")}, True, False),  # once a prompt
        (_judged("rule", max_words=8), {"judge": None}, True, False),
        (None, {"judge": _judged("rule", max_words=8)}, False, True),
        (_judged("reward", reward={"kind": "x"}), {"comparison": "x"}, False, False),
        (_judged("contrast"), {"comparison": "x"}, True, False),
        (_judged("contrast"), {"why": "x"}, False, False),
        (_judged("contrast", keeps="k {critique}", breaks="b {critique}"), {"comparison": "x"}, False, False),
        (_judged("contrast", keeps="k {critique}", breaks="b {critique}"), {"critique": "x"}, True, False),
        (_judged("reasoned"), {"comparison": "x"}, True, False),
    ],
    ids=str,
)
def test_who_is_asked_anew_is_who_reads_what_changed(judge, change, asks_judge, runs_checks):
    old = replace(B, judge=judge)
    result = diff(_constitution(A, old), _constitution(A, replace(old, **change)))
    (found,) = result.changes
    assert (found.asks_judge, found.runs_checks) == (asks_judge, runs_checks)
    assert result.judged_anew == (("b",) if asks_judge or runs_checks else ())
    (added,) = diff(_constitution(A), _constitution(A, old)).changes
    by_code = judge is not None and judge.method == "rule"
    assert (added.asks_judge, added.runs_checks) == (not by_code, by_code)


def test_what_a_diff_says_is_asked_anew_is_what_gets_another_question():
    """Against the judges themselves."""
    role = Role(Unloaded("", Capabilities()))
    judge = judges.build("choice", role, {})
    kinds = (None, _judged("rule", max_words=8), _judged("contrast"), _judged("rating"), _judged("reasoned"))
    for kind in kinds:
        for change in ({"comparison": "x"}, {"critique": "x"}, {"why": "x"}, {"overridable": ("user",)}, {"weight": 3}):
            old, new = replace(B, judge=kind), replace(B, judge=kind, **change)
            anew = diff(_constitution(A, old), _constitution(A, new)).judged_anew
            assert bool(anew) == (judge.question(old).id != judge.question(new).id), (kind, change)
