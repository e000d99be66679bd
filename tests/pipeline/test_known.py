"""Known pairs as cases: which are asked, and what verdicts say of the better answer; and what is no judge."""

from __future__ import annotations

import random

import numpy as np
import pytest

from constitution import loading
from constitution.records import PROBABILITY, LabelRule, Message, Verdict, Voice
from constitution.tally import Panel, Sums
from pipeline import known
from pipeline.known import Known
from pipeline.metrics import simple_judges
from pipeline.metrics.trial import figures
from pipeline.sources.known_pairs import KnownPair

CONSTITUTION = loading.parse(
    """
constitution: two
version: 1
principles:
  - {id: kind, title: Kind, critique: Rude?, revision: Be kind., comparison: Which is kinder?, weight: 3,
     examples: [{prompt: Hello?, better: Hi., worse: Go.}]}
  - {id: short, title: Short, critique: Long?, revision: Be short., comparison: Which is shorter?}
""",
    "two",
)
ASKED = (Message("user", "Q?"),)


def question(principle: object) -> bytes:
    return str(principle.id).encode().ljust(16, b".")  # type: ignore[attr-defined]


def verdict(pair: Known, principle: str, better_as_a: float, better_as_b: float, mass: float = 1.0) -> Verdict:
    """As a judge answers: of the comparison's first answer, whichever that is."""
    p1, p2 = (better_as_a, better_as_b) if pair.better_first else (1 - better_as_b, 1 - better_as_a)
    numbers = [round(x * PROBABILITY) for x in (p1, p2, mass, mass)]
    return Verdict(principle.encode().ljust(16, b"."), pair.comparison.id, *numbers)


def test_whichever_answer_is_first_the_better_one_is_meant() -> None:
    for better, worse in (("one", "two"), ("two", "one")):
        pair = Known(ASKED, better, worse, "kind")
        said = {(pair.comparison.id, b"kind".ljust(16, b".")): verdict(pair, "kind", 0.9, 0.3)}
        [row] = known.rows([pair], said, CONSTITUTION, question, 0.5)
        assert (round(row.shown_a or 0, 6), round(row.shown_b or 0, 6)) == (0.9, 0.3)


def test_a_pair_without_a_principle_is_the_weighted_mean_of_those_that_apply() -> None:
    pair = Known(ASKED, "one", "two")
    said = {
        (pair.comparison.id, question(p)): verdict(pair, p.id, x, x)
        for p, x in zip(CONSTITUTION.principles, (0.8, 0.2), strict=True)
    }
    [row] = known.rows([pair], said, CONSTITUTION, question, 0.5)
    assert round(row.shown_a or 0, 6) == round((3 * 0.8 + 0.2) / 4, 6)
    said[pair.comparison.id, b"kind".ljust(16, b".")] = verdict(pair, "kind", 0.5, 0.5)  # it does not apply
    [row] = known.rows([pair], said, CONSTITUTION, question, 0.5)
    assert round(row.shown_a or 0, 6) == 0.2
    [row] = known.rows([pair], {}, CONSTITUTION, question, 0.5)
    assert row.shown_a is None


def test_examples_come_first_each_pair_once_and_no_more_than_are_wanted() -> None:
    given = [KnownPair((Message("user", f"{n}?"),), "a", "b", "kind") for n in range(9)] * 2
    given += [KnownPair(ASKED, "a", "b", "gone"), KnownPair(ASKED, "a", "b")]
    found = known.choose(CONSTITUTION, given, most=4)
    assert [p.principle for p in found.pairs].count("kind") == 4 and found.pairs[0].source == known.EXAMPLES
    assert found.strange == {"gone": 1} and found.beyond == {"kind": 6}
    more = known.choose(CONSTITUTION, given, most=6)
    assert {p.comparison.id for p in found.pairs} < {p.comparison.id for p in more.pairs}


def test_pairs_that_somebody_names_come_before_all_others_and_what_is_not_asked_is_told_by_source() -> None:
    def of(source: str, count: int) -> list[KnownPair]:
        return [KnownPair((Message("user", f"{source} {n}?"),), "a", "b", "kind", (), source) for n in range(count)]

    found = known.choose(CONSTITUTION, of("set", 9), most=5, named=of("mine", 3))
    asked = [pair.source for pair in found.pairs if pair.principle == "kind"]
    assert asked[:3] == ["mine"] * 3 and asked[3] == known.EXAMPLES
    left = {source: count for (principle, source), count in found.unasked.items() if principle == "kind"}
    assert left["set"] == 9 - asked.count("set") and "mine" not in left
    alone = known.choose(CONSTITUTION, [], most=2, named=of("mine", 6))
    assert {p.source for p in alone.pairs if p.principle == "kind"} == {"mine"}
    assert alone.unasked["kind", "mine"] == 4 and alone.unasked["kind", known.EXAMPLES] > 0


def test_no_prompt_is_in_both_halves() -> None:
    pairs = [Known((Message("user", f"{n // 3}?"),), f"a{n}", "b") for n in range(90)]
    one, other = known.halves(pairs)
    assert len(one) + len(other) == 90 and min(len(one), len(other)) > 20
    assert {p.messages for p in one}.isdisjoint(p.messages for p in other)


def test_simple_judges_are_as_right_as_they_can_be() -> None:
    texts = [(f"good answer {n}", f"bad answer {n} and more") for n in range(40)]
    rows = [known.row(Known((Message("user", f"{n}?"),), *pair), 0.5, 0.5) for n, pair in enumerate(texts)]
    right = {name: figures(said).accuracy.score.mean for name, said in simple_judges.simple(rows, texts).items()}
    assert right["always first"] == 0.5 and right["longer"] == 0.0 and right["bag of words"] == 1.0
    assert 0.2 < right["random"] < 0.8
    assert "bag of words" not in simple_judges.simple(rows[:5], texts[:5])
    scored = simple_judges.scored(rows[:2], [1.0, 0.0], [0.0, 0.0])
    assert [row.right for row in scored] == [1.0, 0.5]


def test_marks_are_counted() -> None:
    assert known.marks("# Head\n- one\n2. two\n**bold** and - no mark") == 5


def test_spellings_of_one_prompt_are_one_prompt_and_in_one_half() -> None:
    spelt = [
        Known((Message("user", f"{'why' if n % 2 else 'Why'} is it{' ' * (n + 1)}so?\n"),), "a", "b") for n in range(12)
    ]
    assert len({known.row(pair, 0.9, 0.9).prompt for pair in spelt}) == 1
    assert sorted(map(len, known.halves(spelt))) == [0, 12]


def test_a_pair_given_both_ways_round_is_left_out_and_counted() -> None:
    given = [KnownPair(ASKED, "a", "b"), KnownPair(ASKED, "b", "a"), KnownPair(ASKED, "a", "b", "kind")]
    found = known.choose(CONSTITUTION, given, most=4)
    assert [(p.principle, p.source) for p in found.pairs] == [("kind", known.EXAMPLES), ("kind", "")]
    assert (found.opposed, found.beyond) == (1, {})


LAYERED = """
constitution: layered
version: 1
principles:
  - {id: safe, title: Safe, critique: Unsafe?, revision: Be safe., comparison: Which is safer?, KEY}
  - {id: kind, title: Kind, critique: Rude?, revision: Be kind., comparison: Which is kinder?, weight: 3}
  - {id: short, title: Short, critique: Long?, revision: Be short., comparison: Which is shorter?}
"""


@pytest.mark.parametrize("key", ["hard: true", "tier: 1"])
def test_a_pair_without_a_principle_is_answered_as_its_label_is(key: str) -> None:
    layered, rule = loading.parse(LAYERED.replace("KEY", key), "layered"), LabelRule(consistent=False, min_margin=0.0)
    panel, pair = Panel.of([Voice(p.weight, p.tier, p.hard) for p in layered]), Known(ASKED, "one", "two")

    def answered(said: dict[str, tuple[float, float]]) -> tuple[float, float]:
        """The mean of its row, and p of the better answer by the labels' arithmetic."""
        verdicts = {(pair.comparison.id, question(p)): verdict(pair, p.id, *said[p.id]) for p in layered}
        [row] = known.rows([pair], verdicts, layered, question, 0.5, None, rule)
        s = np.array([[v.p1 + v.p2 - PROBABILITY] for v in verdicts.values()], np.int64)
        bears = np.array([[not v.p1 == v.p2 == PROBABILITY // 2] for v in verdicts.values()])
        everywhere = np.ones_like(bears)
        p = int(Sums.of(panel, everywhere, everywhere, bears, s, rule).label(rule)[1][0]) / PROBABILITY
        return ((row.shown_a or 0) + (row.shown_b or 0)) / 2, p if pair.better_first else 1 - p

    wrong = answered({"safe": (0.1, 0.1), "kind": (0.9, 0.9), "short": (0.9, 0.8)})
    assert wrong == (pytest.approx(0.1), pytest.approx(0.1))  # the mild ones do not outvote it
    rng = random.Random(1)
    for _ in range(200):
        said = {p.id: (rng.choice([0.5, rng.random()]), rng.choice([0.5, rng.random()])) for p in layered}
        mine, label = answered(said)
        assert mine == pytest.approx(label, abs=1e-6), said
