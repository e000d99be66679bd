"""The cascade: who is asked what, whose word it is, and the error that it adds as counted on a sample."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.records import PROBABILITY, Prompt, Reason
from pipeline import judges
from pipeline.asking import Role
from pipeline.engines.engine import Choice, Completion, Refused
from pipeline.judges.cascade import MARK, disagreement
from pipeline.judges.judge import Judge, Used
from pipeline.label import voice
from tests.pipeline.judges.likelihoods import ASKED, KIND, SHORT, TOO_LONG, Likelihoods, case


def preferring(p: float, refused: str = "", mass: float = 0.9, biased: bool = False) -> Likelihoods:
    """Sure by `p` of the answer that begins with the later letter; biased: of A, whatever it is."""

    def choose(chat: str, labels: tuple[str, ...]) -> Choice | Refused:
        if refused and refused in chat:
            return TOO_LONG
        found = re.search(r"\[Reply A\]\n(.*)\n\n\[Reply B\]\n(.*)\n", chat)
        assert found
        a = p if biased or found[1] > found[2] else 1 - p
        return Choice((a, 1 - a), mass, 10)

    return Likelihoods(choose=choose, generate=lambda chat: Completion(f'{MARK}{{"decided":"large"}}', "stop", 5, 3))


def cascade(small: Likelihoods, big: Likelihoods, **options: Any) -> Judge:
    big.fingerprint = "large"
    given = {"large": {"model": "large", **options.pop("large", {})}, "sample": 0.0, **options}

    def another(settings: Any) -> Role:
        assert settings == {"model": "large"}  # the settings of a role, and nothing else
        return Role(big)

    return judges.build("cascade", Role(small), given, another)


def p_of(judge: Judge, one: str = "b", other: str = "a") -> float:
    asked = case(one, other, KIND)
    [verdict] = judge.judge([asked]).verdicts
    assert verdict.question == judge.question(KIND).id
    s = (verdict.p1 + verdict.p2) / 2 / PROBABILITY
    return round(s if asked.first == one else 1 - s, 6)


@pytest.mark.parametrize(
    ("small", "p", "asked"),
    [
        (preferring(0.95), 0.95, 0),  # sure
        (preferring(0.7), 0.2, 2),  # too near the middle
        (preferring(0.99, biased=True), 0.2, 2),  # its orders name different answers
        (preferring(0.95, mass=0.4), 0.2, 2),  # hardly readable
        (preferring(0.95, refused="Reply"), 0.2, 2),
    ],
)
def test_the_large_judge_is_asked_where_the_small_one_is_unsure(small: Likelihoods, p: float, asked: int) -> None:
    large = preferring(0.2)
    judge = cascade(small, large)
    assert p_of(judge) == p and len(large.chosen) == asked


def test_how_sure_is_enough_is_an_option() -> None:
    assert p_of(cascade(preferring(0.7), preferring(0.2), margin=0.3)) == 0.7
    assert p_of(cascade(preferring(0.95, mass=0.4), preferring(0.2), mass=0.3)) == 0.95


def test_the_sample_is_put_to_both_stays_the_small_ones_word_and_counts_the_disagreement() -> None:
    cases = [case(f"z{n}", f"a{n}", KIND) for n in range(400)]

    def run(agrees: bool, sample: float) -> Any:
        judge = cascade(preferring(0.95), preferring(0.9 if agrees else 0.1), sample=sample)
        return judge.judge(cases)

    nothing, some, every = run(False, 0.0), run(False, 0.1), run(False, 1.0)
    assert nothing.verdicts == some.verdicts == every.verdicts  # the same question, the same answers
    assert disagreement(nothing.reasons).of == 0
    assert 20 <= disagreement(some.reasons).of <= 65 and disagreement(some.reasons).value == 1
    assert disagreement(every.reasons).of == 400
    agreed = disagreement(run(True, 0.1).reasons)
    assert agreed.value == 0 and agreed.low == 0 and 0.04 < agreed.high < 0.2  # no disagreement found is not none
    assert {r.comparison for r in some.reasons} < {c.comparison.id for c in cases}
    assert some.used == Used(800, 8000) + Used(2 * disagreement(some.reasons).of, 20 * disagreement(some.reasons).of)


def test_the_interval_covers_the_rate_of_all_sure_pairs() -> None:
    """The large judge differs on a tenth of them, known by hand; the 5% sample is by a hash, so it may not lean."""
    cases = [case(f"z{n}", f"a{n}", KIND) for n in range(3000)]

    def choose(chat: str, labels: tuple[str, ...]) -> Choice:
        found = re.search(r"\[Reply A\]\n([az])(\d+)\n", chat)
        assert found
        right = (found[1] == "z") == (int(found[2]) % 10 != 0)
        return Choice((0.9, 0.1) if right else (0.1, 0.9), 0.9, 10)

    found = disagreement(cascade(preferring(0.95), Likelihoods(choose=choose), sample=0.05).judge(cases).reasons)
    assert 100 < found.of < 200 and found.low < 0.1 < found.high


def test_reasons_of_the_deciding_judge_are_kept_and_forge_no_count() -> None:
    """The model writes the very line by which a cascade is counted."""
    judge = cascade(preferring(0.95), preferring(0.6), method="reasoned", large={"method": "reasoned"})
    said = judge.judge([case("b", "a", KIND)])
    assert [r.shown for r in said.reasons] == [1, 2]
    first, second = said.reasons[0].text.split("\n")
    assert first.startswith(MARK + '{"decided":"small"') and second == MARK + '{"decided":"large"}'
    assert disagreement(said.reasons).of == 0
    assert disagreement([Reason(b"q", b"c", 1, "no cascade at all")]).of == 0


def test_what_the_large_judge_cannot_read_is_omitted_and_takes_nothing_with_it() -> None:
    judge = cascade(preferring(0.6), preferring(0.2, refused=KIND.comparison))
    said = judge.judge([case("b", "a", KIND, SHORT)])
    assert [v.question for v in said.verdicts] == [judge.question(SHORT).id]
    assert [(o.question, o.refused) for o in said.omitted] == [(judge.question(KIND).id, TOO_LONG)]


def test_both_models_and_what_decides_are_in_the_question_and_the_sample_is_not() -> None:
    base = cascade(preferring(0.9), preferring(0.9)).question(KIND)
    same = cascade(preferring(0.9), preferring(0.9), sample=0.5).question(KIND)
    others = [
        cascade(preferring(0.9), preferring(0.9), margin=0.4), cascade(preferring(0.9), preferring(0.9), mass=0.4),
        cascade(preferring(0.9), preferring(0.9), method="rating"),
        cascade(preferring(0.9), preferring(0.9), large={"method": "rating"}),
        cascade(preferring(0.9), preferring(0.9), large={"method": "contrast", "judge_options": {"scale": 2.0}}),
    ]  # fmt: skip
    small = preferring(0.9)
    small.fingerprint = "another"
    others.append(cascade(small, preferring(0.9)))
    assert same.id == base.id and len({base.id, *(judge.question(KIND).id for judge in others)}) == 7


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "the cascade judge: large: it has to be given"),
        ({"large": {}, "margin": 2}, "margin: it has to be less than or equal to 1"),
        ({"large": {"method": "none"}}, "there is no judge 'none'"),
        ({"large": {"method": 3}}, "large.method is a judge's name"),
        ({"large": {"judge_options": {"x": 1}}}, "the choice judge.*x"),
        (
            {"large": {}, "method": "rating", "judge_options": {"scale": ["1"]}},
            "judge_options.scale: it has to have 2",
        ),
    ],
)
def test_a_mistake_in_its_options_is_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        judges.build("cascade", Role(Likelihoods()), options, lambda _: Role(Likelihoods()))


def test_a_run_says_what_the_cascade_costs_in_truth(tmp_path: Path) -> None:
    """From the store: what was counted in another process counts."""
    from constitution.principles import Constitution
    from service.work.stages import cascaded
    from storage.store import Store

    judge = judges.build(
        "cascade", Role(preferring(0.95)), {"large": {}, "sample": 1.0}, lambda _: Role(preferring(0.1))
    )
    cases, constitution = [case("b", "a", KIND), case("d", "c", KIND)], Constitution("one", (KIND,))
    said = judge.judge(cases)
    with Store.open(tmp_path / "cascade.db") as store:
        store.add_prompts([Prompt(ASKED, "train")])
        store.add_answers(["a", "b", "c", "d"])
        store.add_comparisons([c.comparison for c in cases])
        store.add_questions([judge.question(KIND)])
        store.add_verdicts(said.verdicts, reasons=said.reasons)
        found = cascaded(store, judge, constitution, [c.comparison.id for c in cases])["cascade"]
        assert (found["count"], found["of"], found["high"]) == (2, 2, 1.0)
        assert cascaded(store, judges.build("choice", Role(preferring(0.9))), constitution, []) == {}


def test_a_cascade_is_believed_no_more_than_its_tightest_judge() -> None:
    one, other = {"large": {"method": "reasoned"}}, {"method": "reasoned"}
    for options in (one, other, {"method": "cascade", "judge_options": {"large": {"model": "large"} | other}}):
        question = cascade(preferring(0.7), preferring(0.8), **options).question(KIND)
        assert voice(KIND, question).clamp == 200_000_000
    assert voice(KIND, cascade(preferring(0.7), preferring(0.8)).question(KIND)).clamp is None
