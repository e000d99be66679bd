"""`precept constitution test` as people and CI meet it, on the scripted engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from constitution.errors import UserError
from constitution.records import Message, Prompt
from pipeline.engines.scripted import ScriptedEngine
from service.queries import judged, pool
from storage.store import Store

Precept = Callable[..., Any]
ROOT = Path(__file__).parents[2]
HEAD = "constitution: tested <&>\nversion: 1\nprinciples:\n"
PRINCIPLE = """\
  - id: {id}
    title: t
    critique: c
    revision: r
    comparison: Which is {word}?
"""
EXAMPLE = """\
    examples:
      - prompt: How are you?
        better: {better}
        worse: {worse}
"""
# The judge finds the reply with "please" kinder, whatever is shown first is rounder, and has no letter for the rest.
PAIR = r"(?s)\[Reply A\]\s(?P<a>.*)\[Reply B\]\s(?P<b>.*)\[Question\]\sWhich is "
SCRIPT = f"""\
rules:
  - {{match: '{PAIR}kinder', prefer: please, p: 0.95}}
  - {{match: '{PAIR}rounder', choose: {{A: 0.9, B: 0.1}}}}
  - {{match: '{PAIR}duller', choose: {{A: 0.5, B: 0.5}}}}
  - {{match: '{PAIR}stranger', choose: {{A: 0.5, B: 0.5, mass: 0.1}}}}
"""


def write(*principles: tuple[str, str, str, str], file: str = "principles.yaml") -> None:
    """A constitution of (id, what its question asks for, better, worse); without `better` no example."""
    text = HEAD
    for id, word, better, worse in principles:
        text += PRINCIPLE.format(id=id, word=word)
        text += EXAMPLE.format(better=quoted(better), worse=quoted(worse)) if better else ""
    Path(file).write_text(text)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


GOOD = ("good", "kinder", "Fine, please sit.", "Go.")
ALL = [
    GOOD,
    ("backwards", "kinder", "Go now.", "Fine, please sit."),
    ("round", "rounder", "o", "x"),
    ("dull", "duller", "o", "y"),
    ("strange", "stranger", "o", "z"),
    ("bare", "odd", "", ""),
]


@pytest.fixture
def tested(project: Path) -> Path:
    """A project of one principle that passes, without the prompts that a run would need."""
    (project / "prompts.jsonl").unlink()
    (project / "script.yaml").write_text(SCRIPT)
    text = (project / "precept.toml").read_text()
    (project / "precept.toml").write_text(
        text.replace('prompts = "prompts.jsonl"\n', "").replace("[judge]\n", '[judge]\noptions = {log = "log.jsonl"}\n')
    )
    write(GOOD)
    return project


def asked() -> int:
    """Choices that the judge was ever asked for: two a verdict."""
    log = Path("log.jsonl")
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_an_example_that_passes(tested: Path, precept: Precept) -> None:
    done = precept("constitution", "test")
    assert done.code == 0, done.err
    row = next(line.split() for line in done.out.splitlines() if " good " in line)
    assert row == ["ok", "good", "How", "are", "you?", "0.950", "0.950"]
    assert "1 of 1 examples pass; 1 verdicts asked for, 0 stored before" in done.out
    assert "examples: 1/1" in done.err  # progress
    assert asked() == 2  # both orders


def test_a_second_run_asks_nothing(tested: Path, precept: Precept) -> None:
    write(GOOD, ("bare", "odd", "", ""))
    assert precept("constitution", "test").code == 0
    before = asked()
    again = precept("constitution", "test", "--json", "--quiet")
    assert (again.code, asked()) == (0, before)
    assert again.json["calls"] == {"generated": 0, "chosen": 0, "reused": 1}
    assert again.json["without_examples"] == ["bare"]
    assert again.err == ""


def test_only_what_an_edit_touches_is_asked(tested: Path, precept: Precept) -> None:
    write(GOOD, ("round", "rounder", "o", "x"))
    precept("constitution", "test")
    assert asked() == 4
    write(("renamed", *GOOD[1:]), ("round", "rounder", "o", "x"))
    precept("constitution", "test")
    assert asked() == 4  # an id is no part of a question
    write(("good", "kinder", "please!", "Go."), ("round", "rounder", "o", "x"))
    precept("constitution", "test")
    assert asked() == 6  # one example of the two
    write(GOOD, ("round", "rounder", "o", "x"))
    precept("constitution", "test")
    assert asked() == 6  # put back


def test_principles_of_the_same_words_share_a_verdict(tested: Path, precept: Precept) -> None:
    write(GOOD, ("again", *GOOD[1:]))
    done = precept("constitution", "test", "--junit", "report.xml")
    assert "2 of 2 examples pass; 1 verdicts asked for, 0 stored before" in done.out
    assert asked() == 2


def test_failures_are_told_in_full(tested: Path, precept: Precept) -> None:
    write(*ALL)
    done = precept("constitution", "test")
    assert done.code == 1
    assert "1 of 5 examples pass" in done.out and "without an example: bare" in done.out
    assert "FAIL backwards, example 1: both orders name `worse`" in done.out
    assert "FAIL round, example 1: the judge names whichever reply is shown first" in done.out
    assert "FAIL dull, example 1: exactly one half in both orders: it abstains" in done.out
    assert "FAIL strange, example 1: A and B held 0.100 of the probability" in done.out
    told = done.out.partition("FAIL backwards, ")[2].partition("FAIL round, ")[0]
    for words in ("Which is kinder?", "user: How are you?", "      Go now.", "      Fine, please sit.", "Reword"):
        assert words in told
    assert "0.050000 shown as A, 0.050000 shown as B" in told


def test_json_says_the_same(tested: Path, precept: Precept) -> None:
    write(*ALL)
    done = precept("constitution", "test", "--json")
    assert done.code == 1
    found = {e["principle"]: e for e in done.json["examples"]}
    assert {name: e["outcome"] for name, e in found.items()} == {
        "good": "passed", "backwards": "wrong", "round": "order", "dull": "unsure", "strange": "unreadable",
    }  # fmt: skip
    assert (done.json["passed"], done.json["failed"]) == (1, 4)
    assert (found["round"]["p_shown_as_a"], found["round"]["p_shown_as_b"]) == pytest.approx((0.9, 0.1))
    assert done.json["calls"]["chosen"] == 10


def test_junit(tested: Path, precept: Precept) -> None:
    write(*ALL)
    assert precept("constitution", "test", "--junit", "out/report.xml").code == 1
    root = ElementTree.parse("out/report.xml").getroot()
    (suite,) = root
    assert (root.tag, suite.tag, suite.get("name")) == ("testsuites", "testsuite", "tested <&>")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "4", "0")
    cases = {case.get("classname"): case for case in suite.iter("testcase")}
    assert list(cases) == ["good", "backwards", "round", "dull", "strange"]
    assert cases["good"].get("name") == "example 1: How are you?" and len(cases["good"]) == 0
    (failure,) = cases["round"]
    assert (failure.tag, failure.get("type")) == ("failure", "order")
    assert failure.get("message") == "the judge names whichever reply is shown first"
    assert "0.900000 shown as A, 0.100000 shown as B" in (failure.text or "")
    assert all(float(case.get("time", "")) >= 0 for case in cases.values())
    times = sum(float(case.get("time", "")) for case in cases.values())
    assert times == pytest.approx(float(suite.get("time", "")), abs=0.005)
    assert [path.name for path in Path("out").iterdir()] == ["report.xml"]  # nothing half-written beside it


def test_hostile_texts_are_shown_and_not_obeyed(tested: Path, precept: Precept) -> None:
    hostile = "]]></failure><b>&amp;[red]\u200b\U000f0000 :smile:\n\nFAIL good, example 9: forged"
    write(("round", "rounder", hostile, "x"))
    done = precept("constitution", "test", "--junit", "report.xml")
    assert done.code == 1
    assert "]]></failure><b>&amp;[red]<U+200B><U+F0000> :smile:" in done.out
    assert "\nFAIL good" not in done.out  # a text is indented, so that none can pass for a line of ours
    (failure,) = ElementTree.parse("report.xml").getroot().iter("failure")
    assert "]]></failure><b>&amp;[red]<U+200B><U+F0000> :smile:" in (failure.text or "")


def test_some_principles_and_another_file(tested: Path, precept: Precept) -> None:
    write(*ALL, file="draft.yaml")
    assert precept("constitution", "test", "draft.yaml").code == 1
    one = precept("constitution", "test", "draft.yaml", "good", "--json")
    assert (one.code, [e["principle"] for e in one.json["examples"]]) == (0, ["good"])
    assert precept("constitution", "test", "good").code == 0  # of the settings' file


def test_mistakes_exit_with_2_and_say_what_to_do(tested: Path, precept: Precept) -> None:
    unknown = precept("constitution", "test", "nobody")
    assert (unknown.code, unknown.out) == (2, "") and "there are good" in unknown.err
    missing = precept("constitution", "test", "nowhere.yaml")
    assert missing.code == 2 and "there is no such file" in missing.err
    write(("bare", "odd", "", ""))
    bare = precept("constitution", "test", "--junit", "report.xml")
    assert bare.code == 2 and "examples:\n      - prompt:" in bare.err
    assert not Path("report.xml").exists() and asked() == 0


def test_a_limit_stops_it_and_what_was_answered_is_kept(tested: Path, precept: Precept, store: Store) -> None:
    write(*ALL)
    batch = ("--set", "compare.questions_per_batch=1")
    stopped = precept("constitution", "test", *batch, "--set", "limits.max_calls=4")
    assert stopped.code == 3 and "limits.max_calls = 4" in stopped.err
    assert store.runs()[0].status == "stopped" and asked() == 4
    assert precept("constitution", "test", *batch).code == 1
    assert store.runs()[0].status == "finished" and asked() == 10


def test_examples_are_no_prompts_no_labels_and_no_amendment(tested: Path, precept: Precept, store: Store) -> None:
    precept("constitution", "test")
    assert store.prompts() == [] and store.ratified() is None
    assert pool.find(store).comparisons == ()  # though nothing else was ever judged
    assert len(store.judged_comparisons()) == 1
    with pytest.raises(UserError, match="nothing was judged yet"):
        judged.newest(store, "")
    run = store.runs()[0]
    with pytest.raises(UserError, match="labelled nothing"):
        judged.newest(store, run.id.hex())
    assert precept("run", "resume", run.id.hex()).code == 2
    # One of them that is imported later gets the split that it would have had.
    prompt = Prompt((Message("user", "How are you?"),), "heldout", "people")
    store.add_prompts([prompt])
    assert store.prompts(ids=[prompt.id]) == [prompt]


def test_reviews_and_exports_still_find_the_run_before(labelled: Any, precept: Precept, store: Store) -> None:
    before = pool.find(store).comparisons
    Path("script.yaml").write_text(SCRIPT)
    write(GOOD, file="draft.yaml")
    assert precept("constitution", "test", "draft.yaml").code == 0
    assert store.runs()[0].kind == "examples"
    assert pool.find(store).comparisons == before
    assert judged.newest(store, "").run.id == labelled.run.id
    assert precept("data", "export", "out.jsonl", "--format", "prompt-only", "--split", "all").code == 0
    assert len(Path("out.jsonl").read_text().splitlines()) == len(labelled.prompts)


def test_a_server_that_changed_is_refused_before_it_is_asked(
    tested: Path, precept: Precept, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    remote = ("--set", "judge.base_url=http://nowhere.invalid")
    monkeypatch.setattr(ScriptedEngine, "canary", lambda self: [-1.0], raising=False)
    assert precept("constitution", "test", *remote).code == 0
    monkeypatch.setattr(ScriptedEngine, "canary", lambda self: [-2.0])
    assert precept("constitution", "test", *remote).code == 0  # nothing to ask
    write(GOOD, ("round", "rounder", "o", "x"))
    refused = precept("constitution", "test", *remote)
    assert refused.code == 2 and "the judge's server does not answer as it did" in refused.err
    assert (store.runs()[0].status, asked()) == ("failed", 2)


def test_no_prefect_is_imported(tested: Path) -> None:
    code = "import sys; from cli.main import run; print(run(['constitution', 'test']), 'prefect' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr


def test_the_shipped_examples_pass_with_the_sandbox_judge(
    project: Path, precept: Precept, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "constitution", "test", ROOT / "principles.yaml", "--settings", ROOT / "precept.toml",
        "--set", "store=sqlite:///sandbox.db", "--json", "--quiet",
    )  # fmt: skip
    done = precept(*words)
    assert done.code == 0, done.out
    assert done.json["passed"] >= 10 and done.json["without_examples"] == []
    monkeypatch.setattr("pipeline.engines.build", None)  # what is stored is looked up without loading a model
    again = precept(*words)
    assert (again.code, again.json["calls"]["chosen"]) == (0, 0)
    assert again.json["examples"] == done.json["examples"]
