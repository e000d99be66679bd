"""Style metrics on hand-written answers, and refusals against what people said of real ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from constitution.records import Generation, Message, Prompt, make_id
from pipeline.metrics import style

PROMPT = Prompt((Message("user", "How do I bake?"),), "train", tags=("harmless",))


def said(text: str, sample: int = 0) -> Generation:
    ident = make_id("g", text=text, sample=sample)
    return Generation(ident, "response", PROMPT.id, text, "stop", "e", sample=sample, tokens=len(text))


def test_style_metrics_on_hand_written_answers() -> None:
    answers = [
        said("Sorry, I can not help."),
        said("# Title\n* point", 1),
        said("Maybe. It depends.", 2),
        said("Bake it.", 3),
    ]
    found = style.metrics({PROMPT.id: PROMPT}, answers)
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
    assert bool(style.FLATTERY.search(text)) is flatters


def test_rates_are_rates_over_answers() -> None:
    shared = "You are valid, valued and cared for."
    texts = [f"{shared} Bake {i}." for i in range(3)] + ["Maybe.", "- point", "I cannot help.", "Bake it.", ""]
    assert style.rates(texts) == {
        "refusals": 1 / 8, "lists": 1 / 8, "hedges": 1 / 8, "flattery": 3 / 8, "preaching": 0, "unknown": 0,
        "boilerplate": 3 / 8,
    }  # fmt: skip
    assert set(style.rates([]).values()) == {0.0}


@pytest.mark.parametrize(
    ("text", "refused", "unknown"),
    [
        ("I can\u2019t help with\u00a0that.", True, False),
        ("I\u2019m sorry, but I cannot assist.", True, False),
        ("I CANNOT HELP.", True, False),
        ("I cannot know what the baker will buy.", False, True),
        ("I can't say whether it will rain.", False, True),
        ("I'm sorry, I don't have access to your calendar.", False, True),
        ("Sorry, I have no way of knowing that.", False, True),
        ("Nobody can know that.", False, True),
        ("I don't know, and I won't help you to find out.", True, True),
        ("I cannot tell you how to open that lock.", True, False),
        ("I cannot say what to mix.", True, False),
        ("You know that I can swim.", False, False),
    ],
)
def test_not_knowing_is_no_refusal(text: str, refused: bool, unknown: bool) -> None:
    assert style.refuses(text) is refused
    found = style.flags([text])
    assert (found["refusals"], found["unknown"]) == ([refused], [unknown])


def test_bullets_of_every_kind_and_hedges_with_a_curly_apostrophe() -> None:
    found = style.flags(["One:\n\u2022\u00a0this", "+ that", "2 + 2 is 4.", "I\u2019m not sure."])
    assert found["lists"] == [True, True, False, False] and found["hedges"] == [False, False, False, True]


def test_phrases_say_nothing_of_other_languages() -> None:
    german = "Das kann ich nicht sagen, weil es von dem Wetter und auch von der Zeit abhängt.\n- Punkt"
    english = "Perhaps it is so, and it is important to respect the views of all."
    found = style.flags([german, english])
    for name, languages in style.LANGUAGES.items():
        assert languages == ("en",) and found[name][0] is None and found[name][1] is not None
    assert found["lists"] == [True, False] and found["preaching"][1] and found["hedges"][1]
    assert style.rates([german, english])["hedges"] == 1.0  # of the one text that it reads
    assert style.metrics({PROMPT.id: PROMPT}, [said(german)])["hedges"] is None  # not known is not none


@pytest.mark.parametrize("name", ["llama2orig", "mistralinstruct"])
def test_refusal_phrases_agree_with_people(name: str) -> None:
    file = Path(__file__).parents[4] / "shared" / "data" / "xstest" / f"completions-{name}.jsonl"
    if not file.is_file():
        pytest.skip("the public data of XSTest is not on this machine")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    label_key = next(k for k in rows[0] if "label" in k or "annotation" in k)
    text_key = next(k for k in rows[0] if k in ("completion", "response", "answer"))
    agreed = [style.refuses(r[text_key]) == ("refusal" in r[label_key]) for r in rows if isinstance(r[label_key], str)]
    assert np.mean(agreed) > 0.75
