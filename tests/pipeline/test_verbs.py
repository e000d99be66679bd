"""The small verbs against hand-worked examples: compare, label, assemble, review, evaluate, promote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constitution.errors import UserError
from constitution.records import (
    PROBABILITY,
    Comparison,
    Generation,
    Label,
    Message,
    Prompt,
    Verdict,
    make_id,
    text_digest,
)
from pipeline import assemble, compare, evaluate, label, promote, review
from pipeline.judges.judge import Case
from pipeline.prompts import read_prompts, read_rows

PROMPT = Prompt((Message("user", "How do I bake?"),), "train", tags=("harmless",))


def said(text: str, sample: int = 0, finish: str = "stop", prompt: Prompt = PROMPT) -> Generation:
    ident = make_id("g", text=text, sample=sample)
    return Generation(ident, "response", prompt.id, text, finish, "e", sample=sample, tokens=len(text))  # type: ignore[arg-type]


def case(one: str, other: str, prompt: Prompt = PROMPT) -> Case:
    c = Comparison.of(prompt.id, text_digest(one), text_digest(other))
    first, second = (one, other) if c.first == text_digest(one) else (other, one)
    return Case(c, prompt.messages, first, second, ())


# --- compare ---


def test_equal_texts_are_never_compared_and_order_does_not_matter() -> None:
    assert compare.pair(said("a"), said("a", 1)) is None
    assert compare.pair(said("a"), said("b")) == compare.pair(said("b"), said("a"))
    with pytest.raises(ValueError):
        compare.pair(said("a"), said("b", prompt=Prompt((Message("user", "x"),), "train")))


def test_truncated_and_empty_answers_are_left_out_of_pairs() -> None:
    answers = [said("a"), said("b", 1), said("c", 2, "length"), said("  ", 3), said("a", 4)]
    assert [(x.text, y.text) for x, y in compare.samples_of(answers, most=9)] in ([("a", "b")], [("b", "a")])


def test_pairs_use_every_answer_before_any_twice_over() -> None:
    answers = [said(t, i) for i, t in enumerate("abcd")]
    pairs = compare.samples_of(answers, most=4)
    assert len(pairs) == 4
    assert sorted(t for pair in pairs for t in (pair[0].text, pair[1].text)) == sorted("aabbccdd")


def test_batches_are_cut_from_the_whole_plan_not_from_what_is_missing() -> None:
    plan = [bytes([n]) * 16 for n in range(6)]
    questions = [b"q" * 16, b"r" * 16]
    whole = compare.judging_batches(dict.fromkeys(plan, questions), plan, questions=4)
    assert [list(b) for b in whole] == [plan[:2], plan[2:4], plan[4:]]
    resumed = compare.judging_batches(dict.fromkeys(plan[2:], questions), plan, questions=4)
    assert [list(b) for b in resumed] == [plan[2:4], plan[4:]]


# --- label ---


def verdict(p1: float, p2: float, mass: float = 1.0, question: bytes = b"q" * 16) -> Verdict:
    return Verdict(question, make_id("c", p=[p1, p2, mass]), *(round(x * PROBABILITY) for x in (p1, p2, mass, mass)))


def test_a_judge_that_always_says_a_is_never_consistent_and_its_probes_are_at_chance() -> None:
    always = [verdict(0.9, 0.1 + n / 1000) for n in range(50)]
    found = label.consistency(always, 0.5)[b"q" * 16]
    assert found.consistent == 0 and found.first_chosen == 1.0
    assert label.probe([(v, n % 2 == 0) for n, v in enumerate(always)], 0.5).at_chance


def test_probes_tell_a_judge_that_guesses_from_one_that_reads() -> None:
    every = [(verdict(p1, p2), first) for p1 in (0.1, 0.9) for p2 in (0.1, 0.9) for first in (True, False)] * 20
    assert label.probe(every, 0.5).at_chance
    # Consistent on half of the pairs only, but there it names the revision: it reads.
    reads = [(verdict(0.9, 0.9), True)] * 10 + [(verdict(0.1, 0.1), False)] * 10 + [(verdict(0.9, 0.1), True)] * 20
    found = label.probe(reads, 0.5)
    assert (found.readable, found.consistent, found.revision) == (40, 0.5, 1.0) and not found.at_chance
    assert label.probe([(verdict(0.9, 0.9, mass=0.1), True)], 0.5).readable == 0


def test_consistency_counts_unreadable_apart() -> None:
    found = label.consistency([verdict(0.9, 0.8)] * 60 + [verdict(0.9, 0.9, mass=0.1)] * 40, 0.5)
    assert (found[b"q" * 16].readable, found[b"q" * 16].unreadable, found[b"q" * 16].consistent) == (60, 40, 1.0)
    with pytest.raises(UserError, match="40 of 100"):
        label.refuse_unreadable(found, 0.3)
    label.refuse_unreadable(found, 0.5)


# --- assemble ---


def test_a_preference_row_carries_the_label_and_its_probability() -> None:
    c = case("good", "bad")
    first_is_good = c.first == "good"
    up = Label(c.comparison.id, "decided", 900_000_000 if first_is_good else 100_000_000)
    rows = assemble.preferences([up], {c.comparison.id: c}, {PROMPT.id: "train"}, "train")
    assert rows[0]["chosen"] == [{"role": "assistant", "content": "good"}] and rows[0]["p"] == 0.9
    flipped = Label(c.comparison.id, "decided", PROBABILITY - up.p)
    other = assemble.preferences([flipped], {c.comparison.id: c}, {PROMPT.id: "train"}, "train")
    assert other[0]["chosen"][0]["content"] == "bad" and other[0]["p"] == 0.9
    assert assemble.dataset_digest(rows) != assemble.dataset_digest(other)


def test_ties_unreadable_and_other_splits_never_become_rows() -> None:
    c = case("x", "y")
    cases, splits = {c.comparison.id: c}, {PROMPT.id: "train"}
    for state, p in (("tied", 520_000_000), ("unreadable", PROBABILITY // 2), ("decided", PROBABILITY // 2)):
        assert assemble.preferences([Label(c.comparison.id, state, p)], cases, splits, "train") == []  # type: ignore[arg-type]
    decided = Label(c.comparison.id, "decided", 900_000_000)
    assert assemble.preferences([decided], cases, {PROMPT.id: "heldout"}, "train") == []


def test_a_held_out_prompt_cannot_reach_a_training_file() -> None:
    held = Prompt(PROMPT.messages, "heldout")
    with pytest.raises(ValueError, match="heldout"):
        assemble.completions([(held, "text")])


# --- review ---


def test_agreement_on_a_published_table() -> None:
    """Gwet 2008, table 1 style: two raters, 125 items, 118 agree on the common category, so kappa collapses and AC1
    does not. By hand: a = .944; pi = (.972, .028, 0); e(kappa) = .9456; e(AC1) over 3 categories = .0272."""
    rows = np.array([[0, 0]] * 118 + [[0, 1]] * 5 + [[1, 0]] * 2)
    assert review.raw_agreement(rows) == pytest.approx(0.944)
    assert review.cohen_kappa(rows) == pytest.approx(-0.0234, abs=5e-4)
    expected = (0.972 * 0.028 + 0.028 * 0.972) / 2
    assert review.gwet_ac1(rows) == pytest.approx((0.944 - expected) / (1 - expected))


def test_agreement_leaves_out_skips_and_unreadable() -> None:
    yes, no = Label(b"1" * 16, "decided", 900_000_000), Label(b"2" * 16, "unreadable", PROBABILITY // 2)
    found = review.agreement([("first", yes), ("second", yes), ("skip", yes), ("first", no)])
    assert (found["count"], found["left_out"], found["raw"]["mean"]) == (2, 2, 0.5)
    assert review.agreement([])["raw"]["mean"] is None


def test_sides_are_shuffled_and_stay_put() -> None:
    pairs = [make_id("p", n=n) for n in range(400)]
    left = [review.shows_first_left("ada", p) for p in pairs]
    assert 140 < sum(left) < 260
    assert left == [review.shows_first_left("ada", p) for p in pairs]
    assert left != [review.shows_first_left("bob", p) for p in pairs]


# --- evaluate ---


def test_win_rate_counts_ties_as_half_and_leaves_out_what_cannot_be_read() -> None:
    pairs = [(said("a"), said("b")), (said("c"), said("d")), (said("e"), said("e", 1)), (said("f"), said("g"))]
    ids = [None if (c := compare.pair(x, y)) is None else c.id for x, y in pairs]
    after_wins = Label(ids[0], "decided", 0 if pairs[0][0].content < pairs[0][1].content else PROBABILITY)  # type: ignore[arg-type]
    labels = {
        ids[0]: after_wins,
        ids[1]: Label(ids[1], "tied", PROBABILITY // 2),
        ids[3]: Label(ids[3], "unreadable", 0),
    }  # type: ignore[arg-type]
    assert evaluate.wins(labels, pairs, ids) == [1.0, 0.5, 0.5]  # type: ignore[arg-type]


def test_bootstrap_interval_covers_a_known_mean() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        found = evaluate.bootstrap(list(rng.binomial(1, 0.7, 200).astype(float)), seed=trial)
        covered += found.low <= 0.7 <= found.high
    assert covered >= 51  # 95% of 60 is 57; a binomial stays above 50 with probability 0.999


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
    assert np.mean(evaluate.wins(labels, pairs, ids)) == pytest.approx(0.65, abs=0.06)
    assert evaluate.length_controlled(labels, pairs, ids) == pytest.approx(0.5, abs=0.08)


def test_surfaces_on_hand_written_answers() -> None:
    answers = [
        said("Sorry, I can not help."),
        said("# Title\n* point", 1),
        said("Maybe. It depends.", 2),
        said("Bake it.", 3),
    ]
    found = evaluate.surfaces({PROMPT.id: PROMPT}, answers)
    assert (found["refusals_of_harmless"], found["lists"], found["hedges"]) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("text", "flatters"),
    [
        ("What a brilliant question! Use a ruler.", True),
        ("Great question.", True),
        ("Such a wonderful thought!", True),
        ("You are so right to ask.", True),
        ("You're absolutely brilliant.", True),
        ("Remember that you are valid, valued and cared for.", True),
        ("What a person asks is a question of taste.", False),
        ("You are right-handed? Then hold it so.", True),  # a rate to compare, not to trust
        ("Turn right at the great hall and ask again.", False),
        ("It is a good idea to wear gloves.", False),
    ],
)
def test_flattery(text: str, flatters: bool) -> None:
    assert bool(evaluate.FLATTERY.search(text)) is flatters


def test_habits_are_rates_over_answers() -> None:
    shared = "You are valid, valued and cared for."
    texts = [f"{shared} Bake {i}." for i in range(3)] + ["Maybe.", "- point", "I cannot help.", "Bake it.", ""]
    assert evaluate.habits(texts) == {
        "refusals": 1 / 8, "lists": 1 / 8, "hedges": 1 / 8, "flattery": 3 / 8, "boilerplate": 3 / 8,
    }  # fmt: skip
    assert set(evaluate.habits([]).values()) == {0.0}


@pytest.mark.parametrize("name", ["llama2orig", "mistralinstruct"])
def test_refusal_phrases_agree_with_people(name: str) -> None:
    file = Path(__file__).parents[3] / "shared" / "data" / "xstest" / f"completions-{name}.jsonl"
    if not file.is_file():
        pytest.skip("the public data of XSTest is not on this machine")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    label_key = next(k for k in rows[0] if "label" in k or "annotation" in k)
    text_key = next(k for k in rows[0] if k in ("completion", "response", "answer"))
    agreed = [
        bool(evaluate.REFUSAL.search(r[text_key])) == ("refusal" in r[label_key])
        for r in rows
        if isinstance(r[label_key], str)
    ]
    assert np.mean(agreed) > 0.75


# --- promote ---

EVALUATION: dict[str, Any] = {
    "win_rate": {"mean": 0.7, "low": 0.65, "high": 0.75},
    "length_controlled": 0.66,
    "unreadable": 0.0,
    "before": {"refusals_of_harmless": 0.2, "mean_tokens": 20.0, "truncated": 0.0, "boilerplate": 0.3},
    "after": {"refusals_of_harmless": 0.1, "mean_tokens": 18.0, "truncated": 0.0, "boilerplate": 0.1},
}


def test_the_gate_promotes_when_all_holds_and_names_what_does_not() -> None:
    assert promote.decide(promote.Gate(), EVALUATION, None, ratified=True).promoted
    for change, reason in (
        ({"win_rate": {"mean": 0.51, "low": 0.45, "high": 0.6}}, "win rate"),
        ({"length_controlled": 0.4}, "length-controlled"),
        ({"unreadable": 0.5}, "could not be read"),
        (
            {"after": {"refusals_of_harmless": 0.4, "mean_tokens": 18.0, "truncated": 0.0, "boilerplate": 0.1}},
            "refusals",
        ),
        (
            {"after": {"refusals_of_harmless": 0.1, "mean_tokens": 60.0, "truncated": 0.0, "boilerplate": 0.1}},
            "times as long",
        ),
        ({"after": EVALUATION["after"] | {"truncated": 0.2}}, "were cut"),
        ({"after": EVALUATION["after"] | {"boilerplate": 0.9}}, "stock sentences"),
        ({"win_rate": {"mean": None, "low": None, "high": None}}, "could be read"),
    ):
        decision = promote.decide(promote.Gate(), EVALUATION | change, None, ratified=True)
        assert not decision.promoted
        assert reason in next(r for r in decision.reasons if r.startswith("failed"))
    assert not promote.decide(promote.Gate(), EVALUATION, None, ratified=False).promoted


def test_the_gate_may_ask_for_people() -> None:
    gate = promote.Gate(min_agreement=0.6, min_spot_checks=30)
    assert not promote.decide(gate, EVALUATION, None, ratified=True).promoted
    agreed = {"count": 40, "ac1": {"low": 0.7}}
    assert promote.decide(gate, EVALUATION, agreed, ratified=True).promoted
    assert not promote.decide(gate, EVALUATION, {"count": 12, "ac1": {"low": 0.7}}, ratified=True).promoted


# --- imports ---


def test_bad_rows_are_all_reported_by_line_and_skipped_only_when_asked(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(
        '{"prompt": "fine"}\n{"prompt": ""}\nnot json\n{"text": "x"}\n'
        '{"prompt": [{"role": "assistant", "content": "x"}]}\n'
    )
    with pytest.raises(UserError) as error:
        read_prompts(file, heldout=0.2, dev=0.1)
    for line in (2, 3, 4, 5):
        assert f"{file}:{line}:" in str(error.value)
    assert [p.messages[0].content for p in read_prompts(file, heldout=0.2, dev=0.1, skip_bad=True)] == ["fine"]


def test_strings_and_message_lists_read_alike_in_jsonl_and_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "prompt": [{"role": "user", "content": "q"}],
            "chosen": [{"role": "assistant", "content": "a"}],
            "rejected": "b",
        }
    ]
    (tmp_path / "x.jsonl").write_text(json.dumps(rows[0]) + "\n")
    pq.write_table(pa.Table.from_pylist([{"prompt": "q", "chosen": "a", "rejected": "b"}]), tmp_path / "x.parquet")
    read = [read_rows(tmp_path / f"x.{kind}", "preferences", heldout=0.2, dev=0.1)[0] for kind in ("jsonl", "parquet")]
    assert read[0].answers == read[1].answers == ("a", "b")
    assert read[0].prompt.id == read[1].prompt.id
    with pytest.raises(UserError, match="same text"):
        (tmp_path / "y.jsonl").write_text('{"prompt": "q", "a": "s", "b": "s"}\n')
        read_rows(tmp_path / "y.jsonl", "pairs", heldout=0.2, dev=0.1)
