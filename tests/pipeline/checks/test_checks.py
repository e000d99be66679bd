"""What code tells of an answer, against answers whose truth is plain; and that hostile text is only text."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.records import Message
from pipeline import checks
from pipeline.checks import Checks, language, shape

ASKED = (Message("user", "How do I bake bread?"),)
WANTS_A_LIST = (Message("user", "Give me a numbered list of flours."),)


def holds(answer: str, messages: tuple[Message, ...] = ASKED, **options: Any) -> bool | None:
    return Checks.read(options).holds(messages, answer)


@pytest.mark.parametrize(
    ("text", "words", "sentences"),
    [
        ("", 0, 0),
        ("Mix it.", 2, 1),
        ("Don't over-mix the well-known dough!  Wait; then bake.", 8, 2),
        ("It is 3.5 degrees. (Or 4.) Yes?", 7, 3),
        ('He said "no." Then he left.', 6, 2),
        ("First line\nsecond line", 4, 2),
        ("“Warte…” sagte er. Gut.", 4, 3),
        ("... !!! ---", 0, 0),
    ],
)
def test_words_and_sentences_are_counted_as_a_reader_counts_them(text: str, words: int, sentences: int) -> None:
    assert (shape.words(text), shape.sentences(text)) == (words, sentences)


@pytest.mark.parametrize(
    ("options", "kept", "broken"),
    [
        ({"max_words": 3}, "One two three.", "One two three four."),
        ({"min_words": 2}, "One two", "One"),
        ({"max_sentences": 1}, "Only this.", "This. And that."),
        ({"min_sentences": 2}, "This. And that.", "This, and that."),
        ({"max_characters": 5}, " abcde\n", "abcdef"),
        ({"min_characters": 1}, "e\u0301", "  "),
        ({"lists": "none"}, "Flour, water - and salt.", "Take:\n- flour\n- water"),
        ({"lists": "none"}, "In 1. the verse, 2 lines.", "1) flour\n2) water"),
        ({"headings": "none"}, "The #1 bread.", "# Bread\nMix it."),
        ({"headings": "none"}, "**Never** wait.", "**Bread**\nMix it."),
        ({"headings": "none"}, "A line\n\nand more", "Bread\n=====\nMix it."),
        ({"ends_sentence": True}, 'He said "mix."', "Mix it and"),
        ({"contains": ["flour", "water"]}, "Water and FLOUR.", "Water."),
        ({"contains_any": ["rye", "wheat"]}, "Use wheat.", "Use oats."),
        ({"lacks": "I'm sorry"}, "Of course.", "I\u2019m\u00a0sorry, no."),
        ({"lacks": ["great question", "as an AI"]}, "As an aid, mix.", "As an\n AI, I bake."),
        ({"lacks": ["long", "面包"]}, "Go along.", "你好面包师"),
        ({"begins_with": ["Yes", "No"]}, "yes, do.", "Well, yes."),
        ({"ends_with": "Enjoy!"}, "Bake it. Enjoy! ", "Enjoy! Bake it."),
        ({"pattern": r"\b\d{2} minutes\b"}, "Bake 40 minutes.", "Bake a while."),
        ({"no_pattern": r"(?i)https?://"}, "See the book.", "See HTTP://x.y"),
        ({"json": True}, '{"a": [1, 2.5, null]}', "{'a': 1}"),
        ({"json": ["a", "b"]}, '{"a": 1, "b": 2, "c": 3}', '["a", "b"]'),
        ({"json": "a"}, '{"a": 1}', '{"b": 1}'),
        ({"json": True}, "[1]", "[NaN]"),
        ({"language": "en"}, "This is the way that we have it in the house.", "Das ist nicht die Art, wie wir es tun."),
        ({"language": ["de", "fr"]}, "Das ist nicht die Art, wie wir es tun.", "This is the way that it was for us."),
        ({"max_words": 4, "ends_sentence": True}, "Mix it now.", "Mix it now"),
    ],
)  # fmt: skip
def test_a_check_holds_where_it_should_and_only_there(options: dict[str, Any], kept: str, broken: str) -> None:
    assert holds(kept, **options) is True
    assert holds(broken, **options) is False


def test_a_list_is_no_fault_where_it_was_asked_for() -> None:
    listed = "1. rye\n2. wheat"
    assert holds(listed, WANTS_A_LIST, lists="asked") is True
    assert holds(listed, ASKED, lists="asked") is False
    assert holds(listed, WANTS_A_LIST, lists="none") is False


def test_what_is_kept_says_how_near_an_answer_comes() -> None:
    assert Checks.read({"max_words": 2}).kept(ASKED, "one two three four") == {"max_words": 0.5}
    assert Checks.read({"min_words": 4}).kept(ASKED, "one") == {"min_words": 0.25}
    assert Checks.read({"contains": ["a", "b", "z"]}).kept(ASKED, "a b") == {"contains": pytest.approx(2 / 3)}


SENTENCES = {
    "en": "I would not do that, because it is not what they have asked for.",
    "de": "Das würde ich nicht tun, weil es nicht ist, was sie von mir haben wollen.",
    "fr": "Je ne le ferais pas, parce que ce n'est pas ce qu'ils ont dit dans la lettre.",
    "es": "No lo haría, porque no es lo que ellos han pedido en la carta de los vecinos.",
    "it": "Non lo farei, perché questo non è quello che ci ha chiesto nella lettera.",
    "nl": "Ik zou dat niet doen, omdat het niet is wat ze in de brief hebben gevraagd.",
    "pt": "Eu não faria isso, porque não é o que eles pediram na carta dos vizinhos.",
    "sv": "Jag skulle inte göra det, för det är inte vad de har bett om i brevet.",
    "pl": "Nie zrobiłbym tego, bo to nie jest to, o co oni prosili w liście do nas.",
    "tr": "Bunu yapmazdım, çünkü bu mektupta bizden istenen şey değil ve çok geç.",  # noqa: RUF001
    "ru": "Я бы этого не делал, потому что это не то, о чём они просили.",  # noqa: RUF001
    "uk": "Я б цього не робив, бо це не те, про що вони просили її та їх.",  # noqa: RUF001
    "el": "Δεν θα το έκανα αυτό.",
    "he": "לא הייתי עושה את זה.",
    "ja": "それはしません。手紙で頼まれたことではないからです。",
    "zh": "我不会这样做，因为这不是信里要求的。",  # noqa: RUF001
    "ko": "그렇게 하지 않겠습니다.",
    "th": "ฉันจะไม่ทำอย่างนั้น",
    "ka": "ამას არ გავაკეთებდი.",
    "hy": "Ես դա չէի անի",
}


def test_each_language_is_told_by_a_sentence_of_it() -> None:
    assert {code: language.of(text) for code, text in SENTENCES.items()} == {code: code for code in language.KNOWN}


@pytest.mark.parametrize(
    "unknown",
    ["", "42", "OK", "Bread!", "x = f(y) + g(z)", "Nescio quid dicam de hac re.", "```\nif it is not the end\n```",
     f"{SENTENCES['en']} {SENTENCES['de']}",
     "Тогава не знам."],
)  # fmt: skip
def test_a_text_whose_language_nobody_can_tell_is_of_none(unknown: str) -> None:
    assert language.of(unknown) is None
    assert holds(unknown, language="en") is None
    assert holds(unknown, language="en", max_words=100_000) is None
    assert holds(unknown + " word word", language="en", max_words=1) is False  # that one is broken, whatever the other


@pytest.mark.parametrize(
    ("pattern", "hostile"),
    [(r"^(a+)+$", "a" * 5_000 + "!"), (r"(\w+\s?)*!$", "word " * 5_000), (r"(a|aa)+$", "a" * 90_000 + "b")],
)
def test_a_pattern_that_backtracks_without_end_is_given_up(
    pattern: str, hostile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.checks.content.PATTERN_SECONDS", 0.1)
    began = time.monotonic()
    assert holds(hostile, pattern=pattern) in (None, False)
    assert time.monotonic() - began < 5


def test_hostile_text_is_only_text() -> None:
    for text in ("\ud800\x00" * 50, "[" * 50_000, "\u202e\u2066" * 100, "1" * 10_000, "#" * 9_999 + " x", "\r" * 9_999):
        for options in ({"json": True}, {"max_words": 1}, {"headings": "none"}, {"lists": "none"}, {"lacks": "x"},
                        {"language": "en"}, {"max_sentences": 1}, {"ends_sentence": True}):  # fmt: skip
            began = time.monotonic()
            assert holds(text, **options) in (True, False, None)
            assert time.monotonic() - began < 2, (text[:5], options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "there is no check. Write one or more of"),
        ({"max_word": 3}, "max_word: there is no such check. There are min_words"),
        ({"max_words": -1}, "max_words: -1 is no number of words. Write a whole number, 1 or more"),
        ({"max_words": True}, "max_words: True is no number"),
        ({"min_words": 9, "max_words": 3}, "max_words: 3 is under min_words, 9: nothing can hold both"),
        ({"lists": "no"}, "lists: 'no' says nothing about lists. Write `none`, or `asked`"),
        ({"contains": [" "]}, "contains: .* is neither a phrase nor a list"),
        ({"pattern": "(a"}, "pattern: .* is no regular expression: missing \\)"),
        ({"pattern": "a" * 1_001}, "pattern: is longer than 1,000 characters"),
        ({"json": [1]}, "json: .* is neither true nor names of keys"),
        ({"language": "xx"}, "language: 'xx' is no language that is known here. There are de, en"),
        ({"language": [["en"]]}, "language: .* is no language that is known here"),
        ({"language": [{"en": 1}]}, "language: .* is no language that is known here"),
        ({"max_words": 10**400}, "max_words: is more words than any answer has. Write a number up to"),
        ({"pattern": "(" * 499 + ")" * 499}, "pattern: nests too deep"),
        ({"function": "nothing"}, "function: 'nothing' names no function. Write package.module:function"),
        ({"function": "no_such_module_here:f"}, "function: check no_such_module_here:f: there is no module"),
        ({"ends_sentence": False}, "ends_sentence: False is not true"),
        ({"max_words": 0, "lists": 1}, "max_words: .*; lists: "),
    ],
)
def test_a_mistake_is_told_with_how_to_mend_it(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Checks.read(options)


ODD = (
    None, True, False, 0, 1.5, "", "80", "(", {}, {"en": 1}, [], [["en"]], [{}], [1], [None], [True], "a:b", "\ud800",
)  # fmt: skip


@pytest.mark.parametrize("key", checks.KINDS)
def test_a_value_of_any_type_is_a_check_or_a_mistake(key: str) -> None:
    for value in ODD:
        if found := checks.mistakes({key: value}):
            assert all(mistake.message and mistake.hint for mistake in found)
        else:
            assert Checks.read({key: value}).words


def test_an_ending_that_overlaps_itself_is_found() -> None:
    assert holds("Bye bye bye", ends_with="bye bye") and holds("ha ha ha ha ha", ends_with=["no", "ha ha"])
    assert not holds("Bye bye, bye", ends_with="bye bye") and not holds("Good-bye", ends_with="ye")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("my_rules", None)


def test_a_function_of_the_users_is_a_check(here: Path) -> None:
    (here / "my_rules.py").write_text(
        "def polite(messages, answer):\n    return 'please' in answer\n"
        "def near(messages, answer):\n    return len(answer) / 100\n"
        "def unsure(messages, answer):\n    return None\n"
        "def odd(messages, answer):\n    return 'yes'\n"
    )
    assert [holds(text, function="my_rules:polite") for text in ("Mix, please.", "Mix.")] == [True, False]
    assert Checks.read({"function": "my_rules:near"}).kept(ASKED, "a" * 25) == {"function": 0.25}
    assert holds("x", function="my_rules:unsure") is None
    with pytest.raises(UserError, match="check my_rules:odd returned a str that is no share"):
        holds("x", function="my_rules:odd")
    before = Checks.read({"function": "my_rules:polite"}).readout
    (here / "my_rules.py").write_text("def polite(messages, answer):\n    return True\n")
    assert Checks.read({"function": "my_rules:polite"}).readout != before  # its file is part of the question


def test_reading_a_constitution_runs_no_function(here: Path) -> None:
    (here / "my_rules.py").write_text("raise SystemExit('run')\n")
    assert checks.mistakes({"function": "my_rules:anything"}) == []
