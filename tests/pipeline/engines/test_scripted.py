"""The scripted engine: what a script says is what comes back, the same for the same request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from constitution.errors import UserError
from constitution.records import Message
from pipeline.engines import build
from pipeline.engines.engine import (
    Chat,
    Choice,
    Choose,
    Completion,
    Engine,
    EngineError,
    EngineSettings,
    Generate,
    Refused,
    Sampling,
    Score,
    Scored,
)

SCRIPT = r"""
# a baker
rules:
  - fault: {error: 503, times: 2}
    contains: unlucky
  - match: "bake (?P<thing>\\w+)"
    text: "Take {thing} and {nothing}."
  - contains: long story
    text: "Once upon a"
    finish_reason: length
    reasoning: "Hm."
  - in: all
    match: "(?s)Reply A:(?P<a>.*)Reply B:(?P<b>.*)assistant:"
    prefer: "[Ss]orry"
    p: 0.8
  - in: all
    contains: "system: biased"
    choose: {A: 0.9, B: 0.1, mass: 0.5}
  - contains: unreadable
    choose: {mass: 0}
  - choose: hash
  - texts: [red, green, blue]
"""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return scripted(tmp_path, SCRIPT)


def scripted(folder: Path, text: str, name: str = "script.yaml", **options: object) -> Engine:
    (folder / name).write_text(text, encoding="utf-8")
    return build(EngineSettings(kind="scripted", model=str(folder / name), options=options))


def chat(text: str, system: str = "") -> Chat:
    first = (Message("system", system),) if system else ()
    return Chat((*first, Message("user", text)))


def say(engine: Engine, text: str, seed: int = 0) -> str:
    return engine.generate([Generate(chat(text), Sampling(), seed)])[0].text


def pick(engine: Engine, *chats: Chat) -> list[Choice]:
    return engine.choose([Choose(chats, ("A", "B"))])[0]


def test_a_named_group_fills_its_slot_and_an_unknown_slot_stays(engine: Engine) -> None:
    assert say(engine, "How do I bake bread?") == "Take bread and {nothing}."


def test_what_was_matched_is_not_read_as_a_template(tmp_path: Path) -> None:
    engine = scripted(tmp_path, 'rules:\n  - {match: "say (?P<a>.*) and (?P<b>.*)", text: "{a}"}\n')
    assert say(engine, "say {b} and C") == "{b}"


def test_reason_and_thinking_block_are_kept(engine: Engine) -> None:
    [completion] = engine.generate([Generate(chat("a long story please"), Sampling(), 0)])
    assert (completion.finish_reason, completion.reasoning) == ("length", "Hm.")
    assert completion.prompt_tokens == len("user: a long story please\nassistant: ")
    assert completion.tokens == len("Once upon a")


def test_texts_vary_with_the_seed_and_not_with_the_order_of_calls(engine: Engine, tmp_path: Path) -> None:
    forwards = [say(engine, "hello", seed) for seed in range(40)]
    backwards = [say(scripted(tmp_path, SCRIPT), "hello", seed) for seed in reversed(range(40))]
    assert forwards == backwards[::-1]
    assert set(forwards) == {"red", "green", "blue"}


def test_prefer_follows_the_reply_wherever_it_stands(engine: Engine) -> None:
    kind, rude = "I am sorry, no.", "No!"
    one, other, both, neither = pick(
        engine,
        *(chat(f"Reply A: {a}\nReply B: {b}") for a, b in [(kind, rude), (rude, kind), (kind, kind), (rude, rude)]),
    )
    assert one.probabilities == pytest.approx((0.8, 0.2))
    assert other.probabilities == pytest.approx((0.2, 0.8))
    assert both.probabilities == neither.probabilities == (0.5, 0.5)


def test_a_bias_and_a_mass_can_be_scripted(engine: Engine) -> None:
    biased, unreadable = pick(engine, chat("x", system="biased"), chat("unreadable"))
    assert biased.probabilities == pytest.approx((0.9, 0.1)) and biased.mass == 0.5
    assert (unreadable.probabilities, unreadable.mass) == ((0.5, 0.5), 0.0)


def test_hashed_choices_differ_by_request_and_repeat(engine: Engine, tmp_path: Path) -> None:
    chats = [chat(f"question {number}") for number in range(30)]
    first = pick(engine, *chats)
    assert first == pick(scripted(tmp_path, SCRIPT), *chats)
    assert len({choice.probabilities for choice in first}) == 30
    assert 5 < sum(choice.probabilities[0] > 0.5 for choice in first) < 25


def test_a_fault_ends_after_its_times(engine: Engine) -> None:
    for _ in range(2):
        with pytest.raises(EngineError, match="503"):
            say(engine, "unlucky")
    assert say(engine, "unlucky") in {"red", "green", "blue"}


def test_a_fault_by_probability_picks_the_same_requests_each_time(tmp_path: Path) -> None:
    script = "rules:\n  - fault: {error: 500, probability: 0.3}\n  - text: fine\n"

    def failing(engine: Engine) -> list[int]:
        failed = []
        for number in range(100):
            try:
                say(engine, f"question {number}")
            except EngineError:
                failed.append(number)
        return failed

    failed = failing(scripted(tmp_path, script))
    assert 15 < len(failed) < 45
    assert failed == failing(scripted(tmp_path, script))


def test_a_request_without_a_rule_is_a_hole_in_the_script(tmp_path: Path) -> None:
    engine = scripted(tmp_path, "rules:\n  - {contains: hello, text: hi}\n")
    with pytest.raises(UserError, match=r"no rule .* answers .*'goodbye'"):
        say(engine, "goodbye")
    with pytest.raises(UserError, match="to choose"):  # a text is no choice
        pick(engine, chat("hello"))


def test_calls_are_counted_and_logged_before_they_are_answered(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    script = "rules:\n  - {contains: broken, fault: {error: 500}}\n  - text: fine\n  - choose: hash\n"
    engine = scripted(tmp_path, script, log=str(log))
    say(engine, "one", seed=1)
    say(engine, "one", seed=2)
    with pytest.raises(EngineError):
        say(engine, "broken")
    pick(engine, chat("a"), chat("b"))
    engine.score([Score(chat("a"), "four")])
    assert engine.calls == {"generate": 3, "choose": 2, "score": 1}  # type: ignore[attr-defined]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["generate"] * 3 + ["choose"] * 2 + ["score"]
    assert len({line["request"] for line in lines[:5]}) == 5


def test_score_and_render(engine: Engine) -> None:
    assert bytes(engine.render(Chat((Message("user", "é"),), "("))) == "user: é\nassistant: (".encode()
    [scored] = engine.score([Score(chat("x"), "four", end=True)])
    assert (scored.logprob, scored.tokens) == (-4.0, 5)
    assert scored.prompt_tokens == len(engine.render(chat("x"))) + 5  # all that was read
    assert engine.render(chat("\ud800\x00"))  # hostile text passes


def test_the_fingerprint_is_the_files(tmp_path: Path) -> None:
    one, same, other = tmp_path / "one", tmp_path / "same", tmp_path / "other"
    for folder in (one, same, other):
        folder.mkdir()
    script = "rules:\n  - text: hi\n"
    assert scripted(one, script).fingerprint == scripted(same, script).fingerprint
    assert scripted(one, script).fingerprint != scripted(other, script + " ").fingerprint


def test_jsonl_is_read_too(tmp_path: Path) -> None:
    engine = scripted(tmp_path, '{"contains": "a", "text": "A!"}\n\n{"text": "other"}\n', name="script.jsonl")
    assert [say(engine, "a"), say(engine, "b")] == ["A!", "other"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.yaml", "rules:\n  - text: a\n  - txet: b\n", "line 3: txet: there is no such option; did you mean text"),
        ("s.yaml", "rules:\n  - text: a\n    choose: hash\n", "line 2: .*exactly one of"),
        ("s.yaml", "rules:\n  - {match: '(', text: a}\n", "line 2: match: .*regular expression"),
        ("s.yaml", "rules:\n  - text: a\n    text: b\n", "line 3: .*duplicate key"),
        ("s.yaml", "rules: [\n", r"line 2: "),
        ("s.yaml", "rules:\n  - choose: {A: 1.5}\n", "line 2: .*between 0 and 1"),
        ("s.yaml", "rules:\n  - {prefer: x, match: y}\n", "line 2: .*named group"),
        ("s.yaml", "rule: []\n", "must hold `rules:`"),
        ("s.yaml", "rules: []\n", "has no rules"),
        ("s.jsonl", '{"text": "a"}\n{"text": \n', "line 2: not JSON"),
        ("s.jsonl", '{"text": "a"}\n{"text": 3}\n', "line 2: text: it is not a text"),
    ],
)
def test_a_mistake_in_a_script_is_told_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        scripted(tmp_path, text, name=name)


def test_a_missing_script_and_an_unknown_option_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the script"):
        build(EngineSettings(kind="scripted", model=str(tmp_path / "nowhere.yaml")))
    with pytest.raises(UserError, match="no option speed"):
        scripted(tmp_path, SCRIPT, speed=3)


def test_a_request_can_be_refused_and_takes_no_other_with_it(tmp_path: Path) -> None:
    script = "rules:\n  - contains: forbidden\n    refuse: refused\n  - text: Yes.\n  - choose: {A: 1}\n"
    engine = scripted(tmp_path, script, context=60)
    asked = [chat("a forbidden thing"), chat("fine"), chat("long " * 20)]
    found = engine.generate([Generate(each, Sampling(), 0) for each in asked])
    assert [getattr(each, "kind", each) for each in (found[0], found[2])] == ["refused", "too_long"]
    assert isinstance(found[1], Completion) and "reads at most 60" in getattr(found[2], "said", "")
    choices = engine.choose([Choose(tuple(asked), ("A", "B"))])[0]
    assert [type(each) for each in choices] == [Refused, Choice, Refused]
    scores = engine.score([Score(chat("fine"), "long " * n) for n in (1, 20)])
    assert [type(each) for each in scores] == [Scored, Refused]
    # What it reads at most is no part of what it is: the same model may be served with a longer context.
    assert engine.fingerprint == scripted(tmp_path, script).fingerprint
    with pytest.raises(UserError, match="number of bytes"):
        scripted(tmp_path, script, context="long")
