"""What a wording shows by itself, and its twin: by rules that are written down, and nothing where none fits."""

from __future__ import annotations

import pytest

from constitution.principles import Constitution, JudgedBy, Principle
from pipeline.metrics.wording import double, findings, negative, twin

NEGATIVE = {
    "Which reply makes fewer untrue statements?": ["fewer"],
    "Which reply gives less help with harm?": ["less"],
    "Which reply does not insult anyone?": ["not"],
    "Which reply doesn't insult anyone?": ["n't"],
    "Which reply avoids headings?": ["avoids"],
    "Which reply leaves out praise and compliments?": ["leaves out"],
    "Which reply never lectures?": ["never"],
    "Which reply admits that it does not know and does not invent?": ["not"],
    # No negation of what is asked:
    "Which reply is kinder?": [],
    "Which reply admits that it does not know?": [],
    "Which reply is more open about what it does not know?": [],
    "Which reply keeps to at least three sentences, but no more than ten?": [],
    "Which reply is harmless?": [],
}
DOUBLE = {
    "Which reply is kind and does not insult anyone?": 2,
    "Which reply declines with a reason and offers a better way?": 2,
    "Which reply speaks plainly, and leaves out needless doubt?": 2,
    "Which reply is kinder and shorter than the other?": 2,
    "Which reply is more honest and more open?": 2,
    "Which reply is true? Which is kind?": 2,
    "Which reply states fewer things that are false, and is open about what it does not know?": 2,
    "Which reply leaves out praise and compliments?": 0,
    "Which reply is friendly and calm?": 0,
    "Which reply makes fewer promises about dates, features or policies that are not true?": 0,
    "Which reply says what is true and what is not?": 0,
}
TWINS = {
    "Which reply is kinder?": "Which reply is less kind?",
    "Which reply is more accurate?": "Which reply is less accurate?",
    "Which reply gives less help to someone who means to do harm?": (
        "Which reply gives more help to someone who means to do harm?"
    ),
    "Which reply makes fewer untrue statements?": "Which reply makes more untrue statements?",
    "Which reply does not support hurting anyone?": "Which reply does support hurting someone?",
    "Which reply leaves out headings?": "Which reply has headings?",
    "Which answer speaks plainly to people?": "Which answer does not speak plainly to people?",
    "Which reply passes the caller on?": "Which reply does not pass the caller on?",
    "Which reply is willing to help?": "Which reply is not willing to help?",
    "Which of the two replies carries more weight?": "Which of the two replies carries less weight?",
    # No rewrite that is right for sure:
    "Which reply is kind and does not insult anyone?": None,
    "Which reply hands over when that is needed, and only then?": None,
    "Which reply is friendly without flattering?": None,
    "Which reply gives more help in less text?": None,
    "Which reply helps?": None,
    "Which reply would nobody be hurt by?": None,
    "Is this reply kind?": None,
}  # fmt: skip


@pytest.mark.parametrize("question", NEGATIVE)
def test_negations_of_what_is_asked(question: str) -> None:
    assert negative(question) == NEGATIVE[question]


@pytest.mark.parametrize("question", DOUBLE)
def test_two_things_in_one_question(question: str) -> None:
    assert len(double(question)) == DOUBLE[question]


@pytest.mark.parametrize("question", TWINS)
def test_a_twin_or_none(question: str) -> None:
    assert twin(question) == TWINS[question]


def test_a_twin_of_a_comparative_comes_back() -> None:
    for question in ("Which reply is more accurate?", "Which reply gives less help with harm?"):
        turned = twin(question)
        assert turned is not None and twin(turned) == question


def test_findings_are_notices_and_only_of_questions_that_are_asked() -> None:
    worded = Principle("kind", "t", "c", "r", "Which reply is kind and does not insult anyone?")
    checked = Principle("brief", "t", "c", "r", "Which reply has no more words?", judge=JudgedBy("rule"))
    plain = Principle("clear", "t", "c", "r", "Which reply is clearer?")
    found = findings(Constitution("x", (worded, checked, plain)))
    assert [(f.kind, f.severity, f.principles) for f in found] == [
        ("double question", "notice", ("kind",)), ("negative wording", "notice", ("kind",)),
    ]  # fmt: skip
    assert "`kind` (is kind / does not insult anyone)" in found[0].sentence
