"""`precept judge trial`: on examples and files, under attack, by a file of recorded verdicts; engines are scripted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from pipeline.attacks import ATTACKS
from pipeline.metrics.trust import AT_CHANCE, ONE_ORDER, TOO_FEW, TRUSTED
from pipeline.trial import sentences
from service import settings as settings_module
from service.work.progress import Silent
from service.work.trying import Held, hold, hold_recorded
from tests.service.test_trial import ALWAYS_A, MUTE, PRINCIPLES, READS, RULE, asked, pairs


def held(tmp_path: Path, judge: str = READS, flags: dict[str, Any] | None = None, **how: Any) -> Held:
    (tmp_path / "principles.yaml").write_text(PRINCIPLES)
    (tmp_path / "judge.yaml").write_text(judge)
    given = {
        "judge.kind": "scripted", "judge.model": "judge.yaml", "judge.options": {"log": str(tmp_path / "log")},
        "evaluator.kind": "scripted", "evaluator.model": "judge.yaml", "policy.model": "none", **(flags or {}),
    }  # fmt: skip
    return hold(settings_module.load(None, given)[0], who="me", report=Silent(), **how)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_second_trial_asks_nothing_and_says_the_same(tmp_path: Path) -> None:
    file = Path(pairs(tmp_path, 12))
    first = held(tmp_path, pairs=[file])
    assert first.trial.in_all.word == TRUSTED and first.calls == 32 and first.tokens > 0
    assert set(first.trial.by_source) == {"examples", "pairs"}
    again = held(tmp_path, pairs=[file])
    assert again.calls == 0 and again.trial.as_dict() == first.trial.as_dict() and asked(tmp_path) == 32


def test_pairs_without_a_principle_are_asked_under_every_one(tmp_path: Path) -> None:
    pairs(tmp_path, 12, principle="")
    found = held(tmp_path, pairs=[Path("pairs.jsonl")])
    assert found.calls == 2 * (4 + 2 * 12) and found.trial.in_all.figures.asked == 16
    assert found.trial.by_principle["kind"].figures.asked == 3


def test_no_more_are_asked_than_are_wanted_of_a_principle(tmp_path: Path) -> None:
    pairs(tmp_path, 30)
    found = held(tmp_path, flags={"trial.most": 10}, pairs=[Path("pairs.jsonl")])
    assert found.trial.by_principle["kind"].figures.asked == 10
    assert found.unasked == {"pairs": 20, "examples": 3} and found.as_dict()["not_asked"] == 23


def test_who_is_told_to_find_more_pairs_is_told_of_those_that_were_not_asked(tmp_path: Path) -> None:
    pairs(tmp_path, 30)
    few = held(tmp_path, flags={"trial.most": 3}, pairs=[Path("pairs.jsonl")])
    said = few.as_dict()
    assert said["verdict"] == TOO_FEW and "30 are there and were not asked" in said["says"][0]
    assert "Write" not in said["next"] and "raise trial.most, or --most" in said["next"]
    assert "`kind` (32 more; 30 are there and not asked: trial.most)" in said["says"][-1]
    whole = held(tmp_path, flags={"trial.most": 3}).as_dict()
    assert whole["next"].startswith("Write ") and "not asked" not in whole["says"][0]


def test_a_judge_at_chance_ends_with_what_to_do(tmp_path: Path) -> None:
    pairs(tmp_path, 40)
    found = held(tmp_path, ALWAYS_A, pairs=[Path("pairs.jsonl")]).as_dict()
    assert found["verdict"] == AT_CHANCE and found["next"].startswith("Name a better judge (judge.model)")
    found = held(tmp_path, ALWAYS_A, role="evaluator", pairs=[Path("pairs.jsonl")]).as_dict()
    assert "evaluator.model" in found["next"] and "judge.model" not in found["next"]
    assert "next" not in held(tmp_path, pairs=[Path("pairs.jsonl")]).as_dict()


def test_what_stands_beside_a_judge_is_measured_on_the_pairs_that_it_answered(tmp_path: Path) -> None:
    """One of 40 pairs cannot be read."""
    pairs(tmp_path, 40)
    mute = "{match: 'Hello to you, 7', choose: {A: 0.5, B: 0.5, mass: 0.08}}"
    found = held(tmp_path, READS.replace("[{", f"[{mute}, {{", 1), pairs=[Path("pairs.jsonl")])
    figures = found.trial.in_all.figures
    assert figures.unreadable == 1 and figures.accuracy.score.prompts == figures.asked - 1
    assert {other.accuracy.score.prompts for other in found.trial.others.values()} == {figures.asked - 1}


def test_the_evaluator_is_tried_alike(tmp_path: Path) -> None:
    found = held(tmp_path, role="evaluator")
    assert found.as_dict()["role"] == "evaluator" and "the evaluator is right" in found.as_dict()["says"][0]


def test_attacks_fool_a_judge_that_looks_for_words(tmp_path: Path) -> None:
    """This one likes whatever speaks of a principle."""
    found = held(tmp_path, READS.replace("prefer: '", "prefer: 'principle|"), attacked=True)
    assert set(found.fooled) == set(ATTACKS)
    assert found.fooled["claims"].value == 1.0 and found.fooled["empty"].count == 0
    assert all(0 < share.of <= 4 for share in found.fooled.values())


def test_where_code_decides_everything_there_is_nothing_to_try(tmp_path: Path) -> None:
    (tmp_path / "code.yaml").write_text(RULE)
    found = held(tmp_path, flags={"constitution": "code.yaml"})
    assert found.trial.believed and found.calls == 0 and "code decides every principle" in found.as_dict()["says"][0]


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        held(tmp_path, MUTE)
    pairs(tmp_path, 3, "gone")
    bare = "\n".join(line for line in PRINCIPLES.splitlines() if "prompt:" not in line and "examples:" not in line)
    (tmp_path / "bare.yaml").write_text(bare)
    with pytest.raises(UserError, match="of principles that the constitution has not: gone"):
        held(tmp_path, flags={"constitution": "bare.yaml"}, pairs=[Path("pairs.jsonl")])
    with pytest.raises(UserError, match="nothing to try the judge on"):
        held(tmp_path, flags={"constitution": "bare.yaml"})


def test_a_beginning_is_chosen_on_one_half_and_tried_on_the_other(tmp_path: Path) -> None:
    """This judge reads only what begins with "Answer: ("."""
    match = "Reply A\\W*(?P<a>.*)[\\s\\S]*Reply B\\W*(?P<b>.*)[\\s\\S]*Answer: \\($"
    better = f"{{match: '{match}', in: all, prefer: 'you', p: 0.9}}"
    file = Path(pairs(tmp_path, 60))
    found = held(
        tmp_path,
        f"rules: [{better}, {{match: Reply A, choose: {{A: 0.9, B: 0.1}}}}]\n",
        pairs=[file],
        flags={"trial.most": 60},
        prefixes=True,
    )
    assert found.prefix is not None and found.prefix.prefix == "Answer: (" and found.prefix.better
    assert found.prefix.chosen.score.mean > 0.9 and found.prefix.now.score.mean == 0.5
    assert found.prefix.chosen.pairs + found.prefix.tried["("].pairs == found.trial.in_all.figures.asked
    with pytest.raises(UserError, match="too few to choose"):
        held(tmp_path, prefixes=True)


# --- recorded verdicts ---------------------------------------------------------------------------------------------


def recorded(tmp_path: Path, rows: list[dict[str, Any]]) -> Held:
    path = tmp_path / "said.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return hold_recorded(path)


def pair(n: int, **said: Any) -> dict[str, Any]:
    return {"prompt": f"Question {n}?", "better": f"Yes {n}.", "worse": f"No {n}.", **said}


def test_recorded_probabilities_in_both_orders(tmp_path: Path) -> None:
    found = recorded(
        tmp_path, [pair(n, shown_a=0.9, shown_b=0.2 if n < 3 else 0.8, principle="kind") for n in range(12)]
    )
    figures = found.trial.in_all.figures
    assert found.trial.by_principle["kind"].word == TRUSTED and figures.consistent.count == 9
    assert figures.first.count == 12 + 3 and found.calls == 0


def test_recorded_choices_and_probabilities_of_one_order_say_nothing_of_positions(tmp_path: Path) -> None:
    rows = [pair(1, choice="better"), pair(2, choice="worse"), pair(3, choice="tie"), pair(4, p=0.75)]
    rows.append({"prompt": "Q?", "a": "one", "b": "two", "label": "b", "p": 0.1})
    rows.append({"prompt": "R?", "a": "one", "b": "two", "label": "b", "choice": "a"})
    figures = recorded(tmp_path, rows).trial.in_all.figures
    assert figures.accuracy.score.right == 3 and figures.accuracy.score.wrong == 2 and figures.tied == 1
    assert figures.first.of == figures.consistent.of == 0


def test_recorded_choices_in_both_orders(tmp_path: Path) -> None:
    figures = recorded(tmp_path, [pair(n, choice_a="better", choice_b="worse") for n in range(4)]).trial.in_all.figures
    assert figures.tied == 4 and figures.first.value == 1.0 and figures.consistent.value == 0.0


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (pair(1), "there is no verdict"),
        (pair(1, p=1.5), "no probability from 0 to 1"),
        (pair(1, choice="both"), "none of better, worse, tie"),
        ({"prompt": "Q?", "p": 0.5}, "the key 'better' is missing"),
        (pair(1, shown_a="much"), "'shown_a' is \"much\", no probability from 0 to 1"),
        (pair(1, choice_b="both"), "'choice_b' is 'both', none of better, worse, tie"),
        (pair(1, p=0.9, mass=-1), "'mass' is -1, no probability from 0 to 1"),
        ({"prompt": "Q?", "better": "One.", "worse": "One.", "p": 0.9}, "'better' and 'worse' are the same text"),
    ],
)
def test_rows_that_cannot_be_used_are_told_of_by_line(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=rf"said.jsonl.*1.*{told}"):
        recorded(tmp_path, [row])


def test_all_bad_rows_are_told_of_at_once_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "said.jsonl"
    rows = [pair(1, p=2), pair(2, p=0.9), pair(3), pair(4, choice="x")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"(?s)said.jsonl:1: .*said.jsonl:3: .*said.jsonl:4: .*--skip-bad"):
        hold_recorded(path)
    found = hold_recorded(path, skip_bad=True)
    assert found.trial.in_all.figures.asked == 1 and [why.partition(": ")[0][-2:] for why in found.bad] == [
        ":1",
        ":3",
        ":4",
    ]
    path.write_text(json.dumps(pair(1)) + "\n")
    with pytest.raises(UserError, match="has no recorded verdict: 1 bad rows are left out"):
        hold_recorded(path, skip_bad=True)


def test_a_recorded_row_whose_options_held_too_little_is_unreadable(tmp_path: Path) -> None:
    found = recorded(tmp_path, [pair(n, shown_a=0.9, shown_b=0.9, mass=0.1 if n < 3 else 0.9) for n in range(9)])
    assert found.trial.in_all.figures.unreadable == 3 and found.trial.in_all.figures.accuracy.pairs == 6


def test_a_tie_that_was_recorded_in_both_orders_is_half_as_one_of_one_order_is(tmp_path: Path) -> None:
    """A judge that is right on one pair in four, and names neither answer on the others, is not right on all."""
    rows = [pair(n, choice_a="better", choice_b="better") for n in range(10)]
    rows += [pair(n, choice_a="tie", choice_b="tie") for n in range(10, 40)]
    figures = recorded(tmp_path, rows).trial.in_all.figures
    assert (figures.abstained, figures.tied, figures.accuracy.score.prompts) == (0, 30, 40)
    assert figures.accuracy.score.mean == 0.625 and figures.accuracy.pairs == 40


def test_a_recorded_pair_that_is_there_both_ways_round_counts_for_nothing(tmp_path: Path) -> None:
    rows = [pair(n, shown_a=0.9, shown_b=0.9) for n in range(8)]
    turned = {**rows[0], "better": rows[0]["worse"], "worse": rows[0]["better"]}
    found = recorded(tmp_path, [*rows, rows[0], turned, rows[1]])
    assert found.opposed == found.as_dict()["both_ways_round"] == 1
    assert found.trial.in_all.figures.asked == 8 and found.trial.in_all.figures.accuracy.score.prompts == 7
    with pytest.raises(UserError, match="1 pairs are given both ways round"):
        recorded(tmp_path, [rows[0], turned])


def test_who_recorded_verdicts_is_told_what_would_help(tmp_path: Path) -> None:
    for said, told in (
        ([pair(n, choice_a="better", choice_b="worse") for n in range(40)], "another judge"),
        ([pair(n, shown_a=0.9, shown_b=0.9, mass=0.1) for n in range(9)], "hold more of the probability"),
        ([pair(n, shown_a=0.9, shown_b=0.9) for n in range(3)], "on more pairs"),
        ([pair(n, shown_a=0.9) for n in range(40)], "both orders"),
    ):
        assert told in recorded(tmp_path, said).as_dict()["next"]


# --- one order of the two ------------------------------------------------------------------------------------------


def test_one_order_alone_is_never_trusted_and_says_what_it_shows(tmp_path: Path) -> None:
    nowhere = recorded(tmp_path, [pair(n, choice="better", principle="kind") for n in range(40)])
    first = recorded(tmp_path, [pair(n, shown_a=0.9) for n in range(40)])
    reads = recorded(tmp_path, [pair(n, **{"shown_a" if n % 2 else "shown_b": 0.9}) for n in range(40)])
    places = recorded(tmp_path, [pair(n, **({"shown_a": 0.9} if n < 36 else {"shown_b": 0.1})) for n in range(40)])
    for found, told in (
        (nowhere, "nobody knows where the better answer stood"),
        (first, "the better answer was always shown first"),
        (reads, "right on 20 of 20 prompts .* first and on 20 of 20 .* last, which is more than a preference"),
        (places, "right on 36 of 36 prompts .* first and on 0 of 4 .* last, which may be no more than a preference"),
    ):
        assert found.trial.in_all.word == ONE_ORDER and not found.trial.believed
        assert all(tally.word == ONE_ORDER for tally in found.trial.by_principle.values())
        says = " | ".join(sentences(found.trial, "recorded judge"))
        assert re.search(told, says) and "trusted" not in says and "record both" in says
    assert reads.as_dict()["one_order"]["by_place_alone"] < 1e-6 and places.as_dict()["one_order"]["pairs"] == 40
    assert places.trial.others["always first"].accuracy.score.mean == 0.9
    assert next(iter(reads.trial.by_source.values())).pairs == 40


def test_rows_of_both_orders_make_trust_beside_rows_of_one(tmp_path: Path) -> None:
    both = [pair(n, shown_a=0.9, shown_b=0.8) for n in range(20)]
    one = [pair(n, p=0.9) for n in range(20, 40)]
    found = recorded(tmp_path, both + one)
    assert found.trial.in_all.word == TRUSTED and "20 of 40 pairs are recorded in one order" in " ".join(
        sentences(found.trial)
    )
    assert recorded(tmp_path, both[:3] + one).trial.in_all.word == ONE_ORDER
    assert "one_order" not in recorded(tmp_path, both).as_dict()


SHAPES: dict[str, dict[str, Any]] = {
    "label": {"a": "one", "b": "two", "label": "AB"},
    "winner": {"a": "one", "b": "two", "winner": "AB"},
    "dialogue": {"a": [{"role": "assistant", "content": "one"}], "b": [{"role": "assistant", "content": "two"}],
                 "label": "AB"},
    "llmbar": {"output_1": "one", "output_2": "two", "label": 12},
    "pandalm": {"response1": "one", "response2": "two", "annotator1": 12},
    "annotated_pairs": {
        "response_a": {"text": "one"}, "response_b": {"text": "two"}, "annotator": "x",
        "annotations": {"x": {"pref": "AB"}},
    },
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("second", [False, True])
def test_recorded_words_are_of_the_first_answer_as_the_row_has_it(tmp_path: Path, shape: str, second: bool) -> None:
    text = json.dumps(SHAPES[shape]).replace('"AB"', '"b"' if second else '"a"').replace("12", "2" if second else "1")
    asked_in = {"llmbar": "input", "pandalm": "instruction"}.get(shape, "prompt")
    good, bad = ("b", "a") if second else ("a", "b")
    p = 0.2 if second else 0.8
    for said, right in (
        ({"choice": good}, True), ({"choice": bad}, False), ({"choice": "better"}, True), ({"choice": "worse"}, False),
        ({"p": p}, True), ({"p": 1 - p}, False), ({"shown_a": 0.9}, True),
    ):  # fmt: skip
        score = recorded(tmp_path, [{asked_in: "Q?", **json.loads(text), **said}]).trial.in_all.figures.accuracy.score
        assert (score.right, score.wrong) == (int(right), int(not right)), said


def test_a_pair_given_both_ways_round_in_two_files_is_counted_and_not_asked(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Q?", "better": "Hello to you.", "worse": "Go."},
        {"prompt": "Q?", "better": "Go.", "worse": "Hello to you."},
    ]
    for n, row in enumerate(rows):
        (tmp_path / f"{n}.jsonl").write_text(json.dumps(row) + "\n")
    found = held(tmp_path, pairs=[tmp_path / "0.jsonl", tmp_path / "1.jsonl"])
    assert found.as_dict()["both_ways_round"] == found.opposed == 1 and set(found.trial.by_source) == {"examples"}
