"""Win rates on hand-written labels, and one whose only cause is length."""

from __future__ import annotations

import numpy as np
import pytest

from constitution.records import PROBABILITY, Generation, Label, LabelRule, Message, Prompt, make_id
from constitution.tally import Panel
from pipeline import compare
from pipeline.metrics import win_rate
from pipeline.metrics.attribution import FIRST, SECOND, UNREADABLE
from pipeline.metrics.voting import Votes

PROMPT = Prompt((Message("user", "How do I bake?"),), "train", tags=("harmless",))


def said(text: str, sample: int = 0) -> Generation:
    ident = make_id("g", text=text, sample=sample)
    return Generation(ident, "response", PROMPT.id, text, "stop", "e", sample=sample, tokens=len(text))


def test_win_rate_counts_ties_as_half_and_leaves_out_what_cannot_be_read() -> None:
    pairs = [(said("a"), said("b")), (said("c"), said("d")), (said("e"), said("e", 1)), (said("f"), said("g"))]
    ids = [None if (c := compare.pair(x, y)) is None else c.id for x, y in pairs]
    after_wins = Label(ids[0], "decided", 0 if pairs[0][0].content < pairs[0][1].content else PROBABILITY)  # type: ignore[arg-type]
    labels = {
        ids[0]: after_wins,
        ids[1]: Label(ids[1], "tied", PROBABILITY // 2),
        ids[3]: Label(ids[3], "unreadable", 0),
    }  # type: ignore[arg-type]
    assert win_rate.wins(labels, pairs, ids) == [1.0, 0.5, 0.5]  # type: ignore[arg-type]


def test_a_summary_says_better_worse_and_no_difference() -> None:
    found = win_rate.summary([1.0] * 71 + [0.0] * 4 + [0.5] * 25)
    assert (found["better"], found["worse"], found["no_difference"], found["prompts"]) == (0.71, 0.04, 0.25, 100)
    assert found["mean"] == pytest.approx(0.835) and 0.77 < found["low"] < 0.8 < 0.87 < found["high"] < 0.9
    assert win_rate.summary([]) == {
        "mean": None, "low": None, "high": None, "better": None, "worse": None, "no_difference": None, "prompts": 0,
    }  # fmt: skip


def test_length_control_takes_out_a_pure_length_effect() -> None:
    pairs, labels, ids = [], {}, []
    for n in range(200):
        before, after = said(f"b{n}" + "x" * (50 if n % 4 == 0 else 5)), said(f"a{n}" + "x" * (5 if n % 4 == 0 else 50))
        c = compare.pair(before, after)
        assert c is not None
        after_wins = (len(after.text) > len(before.text)) != (n % 10 < 2)  # the longer one, but for one in five
        labels[c.id] = Label(c.id, "decided", PROBABILITY if after_wins == (after.content < before.content) else 0)
        pairs.append((before, after))
        ids.append(c.id)
    assert np.mean(win_rate.wins(labels, pairs, ids)) == pytest.approx(0.65, abs=0.06)
    found = win_rate.length_controlled(labels, pairs, ids).interval
    assert found is not None and found.mean == pytest.approx(0.5, abs=0.08) and found.low < 0.5 < found.high


def test_length_control_is_that_of_scikit_learn() -> None:
    """Its minimum, on values that are 1, 1/2 and 0: a half is one row of each with half the weight."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    lengths, y = rng.normal(10, 30, 120), rng.choice([0.0, 0.5, 1.0], 120, p=[0.2, 0.3, 0.5])
    x = np.tanh(lengths / lengths.std())[:, None]
    model = LogisticRegression(C=1 / win_rate.RIDGE, tol=1e-10).fit(
        np.concatenate([x, x]), [1] * 120 + [0] * 120, sample_weight=np.concatenate([y, 1 - y])
    )
    found = win_rate.controlled(y.tolist(), lengths.tolist()).interval
    assert found is not None
    assert found.mean == pytest.approx(1 / (1 + np.exp(-model.intercept_[0])), abs=1e-6)


def test_a_model_that_wins_by_length_alone_is_not_above_a_half() -> None:
    """In at most 2.5% of 200 samples of 150 pairs, and what is true is held in about 95%."""
    rng, above, held = np.random.default_rng(1), 0, 0
    for _ in range(200):
        lengths = rng.normal(25, 30, 150)
        chance = 1 / (1 + np.exp(-2.5 * np.tanh(lengths / 30)))
        found = win_rate.controlled((rng.random(150) < chance).astype(float).tolist(), lengths.tolist()).interval
        assert found is not None
        above += found.low > 0.5
        held += found.low <= 0.5 <= found.high
    assert above <= 10 and held >= 180


def test_where_all_answers_grow_the_effect_of_length_cannot_be_told() -> None:
    grown = win_rate.controlled([1.0] * 90 + [0.0] * 30, [40.0 + n for n in range(120)])
    assert grown.interval is None and "all 120 answers are longer than before" in grown.why
    shrunk = win_rate.controlled([1.0] * 90 + [0.0] * 30, [-40.0] * 116 + [5.0] * 4)
    assert "all but 4 of 120 answers are shorter" in shrunk.as_dict()["why"] and shrunk.as_dict()["mean"] is None
    same = win_rate.controlled([0.5] * 50, [0.0] * 50).interval
    assert same is not None and same.mean == 0.5 and 0 < same.high - same.low < 0.1
    assert win_rate.controlled([], []).why == "no comparison could be read"


def test_wins_by_outcome_are_the_wins_of_labels_with_a_place_for_each_pair() -> None:
    pairs = [(said(f"b{n}"), said(f"a{n}")) for n in range(8)] + [(said("same"), said("same", 1))]
    ids = [None if (c := compare.pair(*pair)) is None else c.id for pair in pairs]
    asked = [i for i in ids if i is not None]
    labels = {i: Label(i, "unreadable" if n == 2 else "decided", n % 2 * PROBABILITY) for n, i in enumerate(asked)}
    codes = {i: UNREADABLE if x.state == "unreadable" else FIRST if x.p else SECOND for i, x in labels.items()}
    nothing = np.zeros((len(asked), 0))
    votes = Votes(
        tuple(asked), (), (), Panel.of([]), LabelRule(),
        nothing.astype(np.int32), nothing.astype(np.int32), *(nothing.astype(bool) for _ in range(3)),
    )  # fmt: skip
    values = win_rate.wins_by_outcome(votes, np.array([codes[i] for i in asked], np.int8), pairs, ids)
    assert np.isnan(values[2]) and values[8] == 0.5
    assert values[np.isfinite(values)].tolist() == win_rate.wins(labels, pairs, ids)
    assert {0.0, 1.0} <= set(values.tolist())
    assert win_rate.unreadable(win_rate.wins(labels, pairs, ids), pairs) == 1 - 8 / 9
