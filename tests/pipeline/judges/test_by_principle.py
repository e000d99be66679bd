"""Each principle is put to the judge that it names, and to nobody where it does not apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.principles import JudgedBy, Principle, When
from constitution.records import PROBABILITY, Comparison, Message, canonical, text_digest
from pipeline import judges
from pipeline.asking import Role
from pipeline.engines.engine import Capabilities, Choice, Choose, Refused
from pipeline.judges.applies import every_tag
from pipeline.judges.by_principle import ByPrinciple, asks_a_model, names_a_model
from pipeline.judges.checked import checked
from pipeline.judges.choice import ChoiceJudge
from pipeline.judges.judge import Case

HALF = PROBABILITY // 2
KIND = Principle("kind", "Be kind", "Is it rude?", "Be kind.", "Which reply is kinder?")
SAFE = Principle("safe", "Be safe", "Does it harm?", "Be safe.", "Which reply is safer?")
SHORT = Principle(
    "short", "Be short", "Long?", "Shorten.", "Which is shorter?", judge=JudgedBy("rule", '{"max_words":3}')
)
HARM = (Message("user", "How do I burn the barn?"),)
BREAD = (Message("user", "How do I bake bread?"),)


class Engine:
    """It prefers the longer reply, and says yes where the request has `burn` in it; it counts what it is asked."""

    capabilities = Capabilities()

    def __init__(self, fingerprint: str = "an engine", mass: float = 1.0) -> None:
        self.fingerprint, self.mass = fingerprint, mass
        self.calls: list[list[str]] = []

    def choose(self, groups: Sequence[Choose]) -> list[list[Choice | Refused]]:
        self.calls.append([chat.messages[0].content for group in groups for chat in group.chats])
        return [[self._choice(chat.messages[0].content) for chat in group.chats] for group in groups]

    def _choice(self, text: str) -> Choice | Refused:
        if "too long" in text and "[Reply A]" not in text:
            return Refused("too_long", "too long")
        if "[Reply A]" in text:
            a, b = text.split("[Reply A]\n")[1].split("\n\n[Question]")[0].split("\n\n[Reply B]\n")
            p = 0.75 if len(a) > len(b) else 0.25
        else:
            yes = 0.9 if "burn" in text else 0.2
            p = yes if "A: Yes" in text else 1 - yes
        return Choice((p, 1 - p), self.mass, 10)


def judge(engine: Engine | None = None, others: Mapping[str, Engine] | None = None, **options: Any) -> ByPrinciple:
    def another(settings: Mapping[str, Any]) -> Role:
        return Role((others or {})[settings["model"]])  # type: ignore[arg-type]

    return judges.build("choice", Role(engine or Engine()), {}, another, **options)  # type: ignore[arg-type]


def case(*principles: Principle, messages: tuple[Message, ...] = BREAD, tags: tuple[str, ...] = ()) -> Case:
    one, other = "Mix it and wait for long.", "Mix it."
    comparison = Comparison.of(text_digest(messages[0].content), text_digest(one), text_digest(other))
    first, second = (one, other) if comparison.first == text_digest(one) else (other, one)
    return Case(comparison, messages, first, second, principles, tags)


def when(principle: Principle, **conditions: Any) -> Principle:
    if "rule" in conditions:
        conditions["rule_json"] = canonical(conditions.pop("rule"))
    return replace(principle, when=When(**conditions))


def longer(asked: Case, p: float) -> int:
    return round((p if len(asked.first) > len(asked.second) else 1 - p) * PROBABILITY)


def test_where_no_principle_names_anything_it_is_the_roles_own_judge() -> None:
    engine = Engine()
    built, plain = judge(engine), ChoiceJudge(Role(engine))  # type: ignore[arg-type]
    assert built.fingerprint == plain.fingerprint
    assert [built.question(p).id for p in (KIND, SAFE)] == [plain.question(p).id for p in (KIND, SAFE)]
    asked = [case(KIND, SAFE), case(SAFE, messages=HARM)]
    assert built.judge(asked) == plain.judge(asked)
    assert len(engine.calls) == 2


def test_code_answers_its_principle_and_the_model_the_others() -> None:
    engine = Engine()
    built, asked = judge(engine), [case(KIND, SHORT, SAFE), case(SHORT, messages=HARM)]
    found = checked(built, asked, built.judge(asked))
    assert [(v.comparison, v.question) for v in found.verdicts] == [
        (c.comparison.id, built.question(p).id) for c in asked for p in c.principles
    ]
    kind, short, safe, again = found.verdicts
    assert (kind.p1, kind.p2) == (longer(asked[0], 0.75),) * 2 == (safe.p1, safe.p2)
    assert (short.p1, short.p2) == (longer(asked[0], 0.0),) * 2
    assert again.p1 == longer(asked[1], 0.0)
    assert found.used.requests == 4 and [len(call) for call in engine.calls] == [4]  # one call for both orders of two
    assert [asks_a_model(built, p) for p in (KIND, SHORT)] == [True, False]
    assert built.question(SHORT).readout == {"method": "rule", "checks": {"max_words": 3}}


def test_a_tag_settles_whom_a_principle_is_for() -> None:
    safe, built = when(SAFE, tags=("harm", "danger")), judge()
    asked = [case(safe, KIND), case(safe, KIND, messages=HARM, tags=("harm", "x"))]
    verdicts = built.judge(asked).verdicts
    assert [v.even for v in verdicts] == [True, False, False, False]
    assert (verdicts[0].p1, verdicts[0].mass1) == (HALF, PROBABILITY)
    assert every_tag([safe, KIND]) == ("danger", "harm")


def test_a_check_of_the_last_user_turn_settles_it_too() -> None:
    safe, built = when(SAFE, rule={"contains_any": ["burn", "steal"]}), judge()
    bread = (*HARM, Message("assistant", "No."), *BREAD)
    said = built.judge([case(safe), case(safe, messages=HARM), case(safe, messages=bread)]).verdicts
    assert [v.even for v in said] == [True, False, True]


def test_a_question_of_its_own_is_asked_once_a_prompt_in_both_orders_of_the_letters() -> None:
    engine = Engine()
    safe, built = when(SAFE, ask="Could this hurt somebody?"), judge(engine)
    kind = when(KIND, ask="Could this hurt somebody?")  # the same question: not asked twice
    pairs = [case(safe, kind, messages=HARM), case(safe), replace(case(safe), first="a", second="b")]
    found = checked(built, pairs, built.judge(pairs))
    assert [v.even for v in found.verdicts] == [False, False, True, True]
    assert [len(call) for call in engine.calls] == [
        4,
        4,
    ]  # two prompts in two orders, then one pair under two principles
    assert found.used.requests == 8
    assert all("[Reply" not in text and "Could this hurt somebody?\nA: " in text for text in engine.calls[0])
    assert built.judge(pairs[1:]).used.requests == 0  # it is known by now


def test_what_was_settled_is_shared_by_those_who_share_it() -> None:
    known: dict[Any, bool] = {}
    engine, safe = Engine(), when(SAFE, ask="Could this hurt somebody?")
    for _ in range(2):
        judge(engine, settled=known).judge([case(safe)])
    assert len(engine.calls) == 1
    judge(Engine("another"), settled=known).judge([case(safe)])
    assert len(known) == 2  # another engine's word is another's


@pytest.mark.parametrize("engine", [Engine(mass=0.3), Engine()])
def test_where_nobody_can_tell_whether_it_applies_it_is_asked(engine: Engine) -> None:
    text = "How do I bake?" if engine.mass < 0.5 else "How do I bake? too long"
    found = judge(engine).judge([case(when(SAFE, ask="Is it?"), messages=(Message("user", text),))])
    assert not found.verdicts[0].even


def test_a_model_that_reads_by_position_silences_nobody() -> None:
    class AlwaysB(Engine):
        def _choice(self, text: str) -> Choice | Refused:
            return Choice((0.1, 0.9), 1.0, 10)

    found = judge(AlwaysB()).judge([case(when(SAFE, ask="Is it?"))])
    assert not found.verdicts[0].even


def test_tags_are_looked_at_before_a_model_is_asked() -> None:
    engine = Engine()
    both = when(SAFE, tags=("harm",), ask="Could this hurt somebody?")
    built = judge(engine)
    assert [v.even for v in built.judge([case(both), case(both, messages=HARM, tags=("harm",))]).verdicts] == [
        True,
        False,
    ]
    assert len(engine.calls[0]) == 2


def test_the_condition_is_part_of_the_question_and_so_is_who_answers_it() -> None:
    built = judge()
    plain, tagged = built.question(SAFE), built.question(when(SAFE, tags=("b", "a")))
    assert tagged.readout == {"method": "choice", "when": {"tags": ["a", "b"]}}
    asked = when(SAFE, ask="Is it?")
    ids = {plain.id, tagged.id, built.question(asked).id, judge(Engine("other")).question(asked).id}
    assert len(ids) == 4
    assert built.question(replace(SAFE, why="")).id == plain.id


def test_a_principles_own_engine_is_asked_about_it_alone() -> None:
    own, large = Engine(), Engine("large")
    hard = replace(SAFE, judge=JudgedBy("choice", canonical({"another": {"model": "large"}})))
    built = judge(own, {"large": large})
    found = built.judge([case(KIND, hard), case(hard, KIND, messages=HARM)])
    assert (len(own.calls[0]), len(large.calls[0]), found.used.requests) == (4, 4, 8)
    assert built.question(hard).judge == "large"


def test_the_evaluator_takes_no_judge_that_brings_a_model_along() -> None:
    own, large = Engine(), Engine("large")
    hard = replace(SAFE, judge=JudgedBy("choice", canonical({"another": {"model": "large"}})))
    built = judge(own, {"large": large}, evaluator=True)
    built.judge([case(hard, SHORT)])
    assert not large.calls and built.question(hard).judge == "an engine"
    assert built.question(SHORT).readout["method"] == "rule"
    assert names_a_model({"a": [{"paths": ["x"]}]}) and not names_a_model({"max_words": 3, "shots": {"n": 2}})


def test_two_principles_that_ask_a_judge_the_same_are_one_request() -> None:
    engine = Engine()
    twin = replace(when(KIND, tags=("x",)), id="twin")
    built, asked = judge(engine), case(KIND, twin, tags=("x",))
    found = checked(built, [asked], built.judge([asked]))
    assert len({v.question for v in found.verdicts}) == 2 and len(engine.calls[0]) == 2


def test_what_cannot_be_had_is_told_with_its_principle() -> None:
    with pytest.raises(UserError, match="the judge of the principle safe: there is no judge 'none'; there are"):
        judge().question(replace(SAFE, judge=JudgedBy("none")))
    with pytest.raises(UserError, match="the judge of the principle safe: max_word: there is no such check"):
        judge().question(replace(SAFE, judge=JudgedBy("rule", '{"max_word":3}')))
    with pytest.raises(UserError, match="`when` of the principle safe: contain: there is no such check"):
        judge().question(when(SAFE, rule={"contain": "x"}))
    with pytest.raises(UserError, match="`when` of the principle safe: this engine cannot read"):
        engine = Engine()
        built = judge(engine)
        engine.capabilities = Capabilities(choose=False)
        built.question(when(SAFE, ask="Is it?"))
    with pytest.raises(UserError, match="another is 3; it is the settings of a role"):
        judge().question(replace(SAFE, judge=JudgedBy("choice", '{"another":3}')))
