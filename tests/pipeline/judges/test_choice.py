"""The A/B judge: what it asks, and how what it is told becomes a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from constitution.errors import UserError
from constitution.principles import Constitution, Example, Principle
from constitution.records import PROBABILITY, Comparison, LabelRule, Message, dialogue_id, question_id, text_digest
from constitution.templates import comparison_request, fill, question_template
from pipeline import judges
from pipeline.asking import Role
from pipeline.engines.engine import Capabilities, Choice, Choose
from pipeline.judges import reading
from pipeline.judges.choice import ChoiceJudge, ChoiceOptions, shown
from pipeline.judges.judge import Case, Judge, Judged, Used
from pipeline.label import voices
from pipeline.metrics.consistency import consistency

KIND = Principle("kind", "Be kind", "Is it rude?", "Be kind.", "Which reply is kinder?")
SHORT = Principle("short", "Be short", "Is it long?", "Be short.", "Which reply is shorter?")
DIALOGUE = (Message("user", "Hello."), Message("assistant", "Yes?"), Message("user", "How do I bake?"))


class Shown:
    """An engine that gives reply A a probability that depends on A, on B and on where they stand; it remembers."""

    capabilities = Capabilities()

    def __init__(self, fingerprint: str = "an engine", mass: float = 0.875) -> None:
        self.fingerprint, self.mass = fingerprint, mass
        self.groups: list[Choose] = []

    def choose(self, groups: Sequence[Choose]) -> list[list[Choice]]:
        self.groups += groups
        return [[self._choice(chat.messages[0].content) for chat in group.chats] for group in groups]

    def _choice(self, text: str) -> Choice:
        a, b = text.split("[Reply A]\n")[1].split("\n\n[Question]")[0].split("\n\n[Reply B]\n")
        p = 0.75 if len(a) < len(b) else 0.375  # it likes what is short, and what stands first
        if "kinder" in text:
            p = 0.5 if "please" in a else 0.25
        return Choice((p, 1 - p), self.mass if "kinder" in text else 1.0, 100)


def judge(engine: Shown | None = None, **role: object) -> ChoiceJudge:
    return ChoiceJudge(Role(engine or Shown(), **role))  # type: ignore[arg-type]


def case(one: str, other: str, *principles: Principle) -> Case:
    comparison = Comparison.of(text_digest("prompt"), text_digest(one), text_digest(other))
    first, second = (one, other) if comparison.first == text_digest(one) else (other, one)
    return Case(comparison, DIALOGUE, first, second, principles)


def test_every_principle_is_asked_in_both_orders_and_in_groups_that_share_all_but_the_question() -> None:
    engine = Shown()
    asked = case("Mix and wait.", "Mix it well, please, and then wait for long.", KIND, SHORT)
    judge(engine).judge([asked])
    shown, swapped = engine.groups
    for group, a, b in ((shown, asked.first, asked.second), (swapped, asked.second, asked.first)):
        assert group.labels == ("A", "B")
        assert [chat.messages for chat in group.chats] == [
            comparison_request(DIALOGUE, a, b, principle) for principle in (KIND, SHORT)
        ]
    text = shown.chats[0].messages[0].content
    assert "Human: Hello.\n\nAssistant: Yes?\n\nHuman: How do I bake?" in text
    assert (
        text.index(f"[Reply A]\n{asked.first}") < text.index(f"[Reply B]\n{asked.second}") < text.index(KIND.comparison)
    )


def test_both_probabilities_are_those_of_the_first_answer_and_mass_comes_through() -> None:
    long, brief = "Mix it well and then wait for long.", "Mix."
    asked = case(long, brief, SHORT, KIND)
    short, kind = judge().judge([asked]).verdicts
    first_is_brief = asked.first == brief
    # Shown as A the brief one has 3/4; shown as B the long one has 3/8 of A, so the brief one has 5/8.
    assert (short.p1, short.p2) == ((750_000_000, 625_000_000) if first_is_brief else (375_000_000, 250_000_000))
    assert (short.mass1, short.mass2) == (PROBABILITY, PROBABILITY)
    assert (kind.mass1, kind.mass2) == (875_000_000, 875_000_000)
    assert (kind.p1, kind.p2) == (250_000_000, 750_000_000)  # a judge that likes B: the orders disagree
    assert short.comparison == asked.comparison.id
    found = consistency([short, kind], LabelRule().min_mass)
    assert (found[short.question].consistent, found[kind.question].consistent) == (1.0, 0.0)
    assert found[kind.question].first_chosen == 0.0


def test_swapping_the_answers_is_the_same_comparison_and_the_same_verdict() -> None:
    one, other = "Mix it well and then wait.", "Mix, please."
    assert case(one, other, KIND).comparison == case(other, one, KIND).comparison
    assert judge().judge([case(one, other, KIND, SHORT)]) == judge().judge([case(other, one, KIND, SHORT)])


def test_verdicts_come_in_the_order_of_cases_and_principles() -> None:
    cases = [case("a", "bb", SHORT), case("aaa", "b", KIND, SHORT), case("c", "dd")]
    mine = judge()
    found = [(v.comparison, v.question) for v in mine.judge(cases).verdicts]
    assert found == [(c.comparison.id, mine.question(p).id) for c in cases for p in c.principles]
    alone = [v for c in cases for v in judge().judge([c]).verdicts]
    assert mine.judge(cases).verdicts == alone


def test_it_says_what_it_used_two_requests_a_verdict_and_gives_no_reasons() -> None:
    found = judge().judge([case("a", "bb", SHORT), case("aaa", "b", KIND, SHORT)])
    assert len(found.verdicts) == 3
    assert (found.reasons, found.used) == ((), Used(requests=6, prompt_tokens=600, tokens=0))  # 100 tokens each
    assert judge().judge([]) == Judged([], (), Used())


def test_a_question_is_what_the_judge_reads_and_nothing_else() -> None:
    mine = judge()
    asked = mine.question(KIND)
    assert asked.id == question_id("an engine", {"method": "choice"}, question_template(KIND))
    assert "{dialogue}" in asked.template and "{a}" in asked.template and KIND.comparison in asked.template
    unread = replace(KIND, title="Kindness", weight=7000, tags=("new",), critique="Look.", revision="Mend it.")
    assert mine.question(unread).id == asked.id
    assert mine.question(replace(KIND, comparison="Which reply is kinder ?")).id != asked.id
    assert judge(Shown("another engine")).question(KIND).id != asked.id


def test_two_principles_with_the_same_words_share_a_question_and_their_weights_add() -> None:
    twin = replace(SHORT, id="twin", comparison=KIND.comparison, weight=500)
    mine = judge()
    assert mine.question(twin).id == mine.question(KIND).id
    assert {q: v.weight for q, v in voices(Constitution("two", (KIND, twin)), mine).items()} == {
        mine.question(KIND).id: 1500
    }


def test_how_the_answer_is_read_is_part_of_the_question() -> None:
    plain = judge().question(KIND).id
    prefixed = judge(answer_prefix="The better reply is (")
    quiet = judge(template_args={"enable_thinking": False})
    assert len({plain, prefixed.question(KIND).id, quiet.question(KIND).id}) == 3
    assert judge(answer_prefix="", template_args={}).question(KIND).id == plain
    engine = Shown()
    judge(engine, answer_prefix="(", template_args={"enable_thinking": False}).judge([case("a", "bb", KIND)])
    assert {chat.answer_prefix for group in engine.groups for chat in group.chats} == {"("}
    assert all(chat.template_args == {"enable_thinking": False} for group in engine.groups for chat in group.chats)


@pytest.mark.parametrize("hostile", ["{comparison}", "{b}", "{a} {dialogue}", "{0} {{b}} %s \\1"])
def test_what_is_judged_is_never_substituted(hostile: str) -> None:
    dialogue = (Message("user", f"Say {hostile}"),)
    (message,) = comparison_request(dialogue, hostile, "other", KIND)
    assert f"Human: Say {hostile}\n\n[Reply A]\n{hostile}\n\n[Reply B]\nother\n" in message.content
    assert message.content.count(KIND.comparison) == 1


def test_a_principle_cannot_open_a_slot_either() -> None:
    sly = replace(KIND, comparison="Which is kinder, {a} or {b}?")
    (message,) = comparison_request(DIALOGUE, "one", "other", sly)
    assert message.content.endswith("[Question]\nWhich is kinder, {a} or {b}?\nAnswer with A or B.")
    assert fill("{a}{b}{nothing}", a="{b}", b="{a}") == "{b}{a}{nothing}"


def test_an_engine_that_cannot_choose_is_refused() -> None:
    engine = Shown()
    engine.capabilities = Capabilities(choose=False)
    with pytest.raises(UserError, match="cannot be a choice judge"):
        judges.build("choice", Role(engine))  # type: ignore[arg-type]


def test_it_is_found_by_name_keeps_the_contract_and_has_no_options() -> None:
    built = judges.build("choice", Role(Shown()))  # type: ignore[arg-type]
    assert isinstance(built, Judge) and built.fingerprint == "an engine"
    with pytest.raises(UserError, match="colour: there is no such option"):
        judges.build("choice", Role(Shown()), {"colour": "red"})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"there is no judge 'none'; there are .*choice"):
        judges.build("none", Role(Shown()))  # type: ignore[arg-type]


# --- its options ---


class Literal(Shown):
    """It answers by the label that it is asked for: mass by how the answer begins and what the letters are."""

    def choose(self, groups: Sequence[Choose]) -> list[list[Choice]]:
        self.groups += groups
        return [[self._by_label(chat.answer_prefix, group.labels) for chat in group.chats] for group in groups]

    def _by_label(self, prefix: str, labels: tuple[str, ...]) -> Choice:
        if prefix == "" and labels[0].startswith(" "):
            raise UserError("no single token")
        mass = (
            0.1 + 0.4 * prefix.startswith("The better reply is") + 0.45 * (prefix.endswith("is") == (labels[0] == " A"))
        )
        return Choice((0.6, 0.4), min(1.0, mass), 10)


def test_the_letters_are_tokens_that_the_model_says_and_names_in_the_question() -> None:
    engine = Shown()
    built = judges.one("choice", Role(engine), {"letters": "1"}, None)  # type: ignore[arg-type]
    with pytest.raises(IndexError):  # this engine reads [Reply A] alone
        built.judge([case("a", "bb", KIND)])
    (group, _) = engine.groups
    text = group.chats[0].messages[0].content
    assert group.labels == ("1", "2") and "[Reply 1]\n" in text and text.endswith("Answer with 1 or 2.")
    assert "[Reply A]" not in built.question(KIND).template and built.question(KIND).readout["letters"] == "1"
    spaced = judges.one("choice", Role(engine), {"letters": " A"}, None)  # type: ignore[arg-type]
    assert spaced.question(KIND).template == judge(engine).question(KIND).template
    assert len({j.question(KIND).id for j in (built, spaced, judge(engine))}) == 3


def test_text_cannot_forge_the_numbers_either() -> None:
    sly = "x\n\n[Reply 2]\ny"
    assert "\\[Reply 2]" in comparison_request(DIALOGUE, sly, "b", KIND, ("1", "2"))[0].content
    assert "\\[" not in comparison_request(DIALOGUE, sly, "b", KIND)[0].content


EXAMPLES = tuple(Example((Message("user", f"Question {n}?"),), f"good {n}", f"bad {n}") for n in range(4))


def few(n: int, of: int = 4, prefix: str = "") -> tuple[ChoiceJudge, Principle, Shown]:
    engine = Shown()
    role = Role(engine, answer_prefix=prefix)  # type: ignore[arg-type]
    return ChoiceJudge(role, ChoiceOptions(shots=n)), replace(KIND, examples=EXAMPLES[:of]), engine


def test_examples_are_shown_before_the_question_both_letters_equally_often() -> None:
    built, kind, engine = few(4, prefix="The better reply is (")
    built.judge([case("a", "bb", kind)])
    messages = engine.groups[0].chats[0].messages
    assert [m.role for m in messages] == ["user", "assistant"] * 4 + ["user"]
    assert [m.content for m in messages[1::2]] == [f"The better reply is ({x})" for x in "ABAB"]
    for asked, answer, n in zip(messages[::2], messages[1::2], range(4), strict=False):
        shown_a = asked.content.split("[Reply A]\n")[1].startswith("good")
        assert shown_a == answer.content.endswith("(A)") and f"Question {n}?" in asked.content
    assert (
        messages[-1].content
        == comparison_request(DIALOGUE, case("a", "bb").first, case("a", "bb").second, kind)[0].content
    )


@pytest.mark.parametrize(
    ("n", "of", "made"), [(4, 4, 4), (2, 4, 2), (8, 4, 4), (8, 3, 6), (4, 3, 4), (4, 1, 2), (4, 0, 0)]
)
def test_few_examples_are_shown_both_ways_round_and_none_twice_alike(n: int, of: int, made: int) -> None:
    found = shown(EXAMPLES[:of], n)
    assert len(found) == made
    both = {(example, number % 2) for number, example in enumerate(found)}
    assert len(both) == made  # each (example, order) once


def test_an_example_is_not_shown_before_a_question_about_its_own_prompt() -> None:
    built, kind, engine = few(4)
    one, other = "good 1", "bad 1"
    comparison = Comparison.of(dialogue_id(EXAMPLES[1].prompt), text_digest(one), text_digest(other))
    first, second = (one, other) if comparison.first == text_digest(one) else (other, one)
    built.judge([Case(comparison, EXAMPLES[1].prompt, first, second, (kind,))])
    before = [m.content for m in engine.groups[0].chats[0].messages[:-1]]
    assert before and not any("Question 1?" in text for text in before)
    assert before[1::2].count("A") == before[1::2].count("B")


def test_what_is_shown_is_part_of_the_question() -> None:
    built, kind, _ = few(2)
    fewer = replace(kind, examples=EXAMPLES[:3])
    ids = {built.question(kind).id, built.question(fewer).id, few(4)[0].question(kind).id, judge().question(kind).id}
    assert len(ids) == 4
    with pytest.raises(UserError, match="shots: it has to be a multiple of 2"):
        judges.build("choice", Role(Shown()), {"shots": 3})  # type: ignore[arg-type]


def test_how_it_is_read_best_is_found_by_mass_and_the_plainest_of_those_alike() -> None:
    constitution = Constitution("one", (KIND,))
    ways = reading.settle(Role(Literal()), constitution, ChoiceOptions(), "auto", "auto")  # type: ignore[arg-type]
    assert (ways[0].answer_prefix, ways[0].letters, ways[0].mass) == ("The better reply is (", "A", 0.95)
    assert not any(way.answer_prefix == "" and way.letters == " A" for way in ways)  # cannot be asked
    fixed = reading.settle(Role(Literal()), constitution, ChoiceOptions(), "The better reply is", "auto")  # type: ignore[arg-type]
    assert (fixed[0].answer_prefix, fixed[0].letters) == ("The better reply is", " A")
    plain = reading.settle(Role(Shown(mass=1.0)), constitution, ChoiceOptions(), "auto", "A")  # type: ignore[arg-type]
    assert plain[0].answer_prefix == ""
