"""One bad item among many: too long, empty, refused, cut. It is left out of its step, counted and named; the rest is as
it would be without it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli.constitution.example_text import in_full
from cli.constitution.junit import junit
from constitution.errors import UserError
from flows.session import at_work
from pipeline import promote
from service import settings
from service.actions.score import prefer, score
from service.queries import chains
from service.wiring import Wiring
from service.work import deciding, evaluation, pairs, stages
from service.work.examples import examine
from service.work.progress import Stage, Uncounted
from service.work.work import Work

ROOT = Path(__file__).parents[2]
LONG = "a very long question " * 240  # 5,040 characters
PRINCIPLES = """\
constitution: two
version: 1
principles:
  - {id: kind, title: Kind, critique: Find what is rude., revision: Be kind., comparison: Which is kinder?}
  - {id: short, title: Short, critique: Find what is long., revision: Be short., comparison: "WORDS"}
"""
ASKS_LITTLE = PRINCIPLES.replace("WORDS", "Which is shorter?")
ASKS_MUCH = PRINCIPLES.replace("WORDS", "Which is shorter? " * 20)
SCRIPT = """\
rules:
  - {contains: Write only the new reply, texts: [Better so by far., "Mended, short.", It is good now.]}
  - {match: "^Find", texts: [It is rude to say so., It is fine I think.]}
  - {match: Reply A, choose: {A: 0.5, B: 0.5}}
  - {texts: [Here is how., "No.", Ask me later.]}
"""
JUDGE = "rules:\n  - {match: '(?s)Reply A.(?P<a>.*)Reply B.(?P<b>.*).Question', prefer: good, p: 0.95}\n"
SETTINGS = """\
store = "sqlite:///{home}/a.db"
home = "{home}"
prompts = "{home}/prompts.jsonl"
constitution = "{home}/principles.yaml"
oracle = ""
revise.rounds = 2
label.min_margin = 0.1
[policy]
kind = "scripted"
model = "{home}/script.yaml"
[judge]
kind = "scripted"
model = "{home}/judge.yaml"
[evaluator]
kind = "scripted"
model = "{home}/judge.yaml"
"""


class Heard:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Stage]:
        yield Uncounted(total)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    rows = [{"prompt": f"Question {n}?", "split": "heldout" if n < 4 else "train", "source": "ours"} for n in range(12)]
    rows.insert(7, {"prompt": LONG, "split": "train", "source": "theirs"})
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("principles.yaml", ASKS_LITTLE), ("script.yaml", SCRIPT), ("judge.yaml", JUDGE)):
        (tmp_path / name).write_text(text)
    (tmp_path / "precept.toml").write_text(SETTINGS.format(home=tmp_path))
    return tmp_path


@contextmanager
def working(home: Path, kind: str = "respond", heard: Heard | None = None, **flags: Any) -> Iterator[Work]:
    dotted = {name.replace("__", "."): value for name, value in flags.items()}
    with at_work(kind, str(home / "precept.toml"), dotted, "ada", heard or Heard()) as work:
        yield work


def respond(work: Work) -> int:
    return stages.respond(work, "answers", stages.start_model(work), split="train")


# --- prompts and answers that cannot be asked ----------------------------------------------------------------------


def test_a_prompt_of_5000_characters_is_left_out_and_named(home: Path) -> None:
    heard = Heard()
    with working(home, heard=heard, policy__options={"context": 400}) as work:
        assert respond(work) == 8
        calls = work.budget.generated
        result = deciding.finish(work, answers=8)
    found = result["left_out"]
    assert (found["count"], found["stages"], calls) == (1, {"answers": {"too_long": 1}}, 8)
    (item,) = found["items"]
    assert (item["source"], item["row"]) == ("theirs", 8)  # the eighth of the file
    assert item["words"].startswith("a very long question") and len(item["prompt"]) == 12
    assert "reads at most 400" in item["said"] and item["what"] == "answer"
    assert any("answers: 1 is left out" in text and "reads at most 400" in text for text in heard.said)
    assert json.loads(json.dumps(result)) == result


def test_what_was_left_out_is_asked_again_when_the_run_goes_on(home: Path) -> None:
    """The run is the same, so is what it left out; a model that reads more then answers it."""
    with working(home, policy__options={"context": 400}) as work:
        respond(work)
        first = work.what_was_left_out()
    with working(home, policy__options={"context": 400}) as work:
        respond(work)
        assert work.budget.generated == 0 and work.what_was_left_out() == first
    with working(home, policy__options={"context": 40_000}) as work:
        assert respond(work) == 9
        assert work.budget.generated == 1 and work.what_was_left_out()["count"] == 0


def test_where_nothing_can_be_asked_it_is_said_at_once(home: Path) -> None:
    with (
        pytest.raises(UserError, match=r"none of the 9 answers could be asked for.*reads at most 3"),
        working(home, policy__options={"context": 3}) as work,
    ):
        respond(work)


@pytest.mark.timeout(60)
def test_two_workers_leave_the_same_item_out_and_neither_waits_for_ever(home: Path) -> None:
    slow = SCRIPT.replace("texts: [Here", "sleep: 0.02, texts: [Here")
    (home / "script.yaml").write_text(slow)
    found: list[dict[str, Any]] = []
    answers: list[int] = []

    def one() -> None:
        with working(home, policy__options={"context": 400}, policy__batch_size=2) as work:
            answers.append(respond(work))
            found.append(work.what_was_left_out())

    with working(home, policy__options={"context": 400}, policy__batch_size=2) as work:
        work.store.stages(work.run.id)  # the store is there before two threads open it
    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [8, 8]
    assert [f["stages"] for f in found] == [{"answers": {"too_long": 1}}] * 2


def test_killed_in_the_middle_it_ends_as_it_would_have(home: Path) -> None:
    log = home / "asked.jsonl"
    (home / "script.yaml").write_text(SCRIPT.replace("texts: [Here", "sleep: 0.2, texts: [Here"))
    code = (
        "import sys; from tests.service import test_one_bad_item as t; from pathlib import Path\n"
        "options = {'context': 400, 'log': sys.argv[1] + '/asked.jsonl'}\n"
        "with t.working(Path(sys.argv[1]), policy__options=options, policy__batch_size=2) as work: t.respond(work)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(home)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    until = time.monotonic() + 60
    while not (log.exists() and len(log.read_text().splitlines()) >= 4) and time.monotonic() < until:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    options = {"context": 400, "log": str(log)}
    with working(home, policy__options=options, policy__batch_size=2) as work:
        assert 0 < len(work.members("answers")) < 8
        assert respond(work) == 8
        assert work.what_was_left_out()["stages"] == {"answers": {"too_long": 1}}
        assert len(work.members("answers")) == 8


def test_what_was_left_out_is_printed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cli.results import show_left_out

    rules = SCRIPT.replace(
        "  - {texts: [Here", "  - {match: '[345]\\?$', text: Well, finish_reason: length}\n  - {texts: [Here"
    )
    (home / "script.yaml").write_text(rules)
    with working(home, policy__options={"context": 400}) as work:
        respond(work)
        work.left_out.dropped["revisions"] = {"copy_of_critique": 3}
        result = deciding.finish(work, answers=8)
    show_left_out(result)
    said = " ".join(capsys.readouterr().out.split())
    assert "dropped revisions: 3 the critique over again" in said
    assert "cut answers: 2 of 8 at the token limit" in said
    assert "left out answers: 1 too long" in said
    assert "a very long question" in said and "reads at most 400" in said and "(theirs, row 8, " in said


# --- critique and revision -----------------------------------------------------------------------------------------


def test_an_answer_too_long_to_be_revised_keeps_its_chain(home: Path) -> None:
    (home / "script.yaml").write_text(SCRIPT.replace("Here is how.", "Here is how at length. " * 20))
    critic = {"critic__kind": "scripted", "critic__model": str(home / "script.yaml")}
    with working(home, "revise", **critic, critic__options={"context": 300}) as work:
        respond(work)
        made = stages.revise(work, "revisions", of="answers")
        ended = chains.ended(work, "revisions", "answers")
        long = [c for c in ended if len(c.prompt.messages[0].content + c.original.text) > 300]
        assert long and all(c.reasons == {0: "left_out", 1: "left_out"} and c.current == c.original for c in long)
        assert made["left_out"] == 2 * len(long) and made["chains"] == len(ended) == 9
        assert all(c.kept for c in ended if c not in long) and len(long) < 9
        found = work.what_was_left_out()
        assert found["stages"]["revisions.0.critique"] == {"too_long": len(long)}
        assert found["dropped"]["revisions"]["left_out"] == 2 * len(long)
        judged = stages.judge_revisions(work, "revisions")  # and they are no answers that needed nothing
        assert not set(judged["fine"]) & {c.original.id for c in long}


def test_a_revision_that_was_cut_is_not_an_answer_that_needed_none(home: Path) -> None:
    cut = SCRIPT.replace("It is good now.]", "It is good now.], finish_reason: length")
    (home / "script.yaml").write_text(cut)
    with working(home, "revise") as work:
        respond(work)
        made = stages.revise(work, "revisions", of="answers")
        judged = stages.judge_revisions(work, "revisions")
    assert made["kept"] == 0 and made["truncated"] == 2 * made["chains"]
    assert judged == {"better": [], "fine": [], "candidates": 0}


# --- the judge -----------------------------------------------------------------------------------------------------


def write_pairs(home: Path, *, long: str) -> Path:
    rows = [{"prompt": f"Pair {n}?", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(6)]
    rows.insert(3, {"prompt": "The long pair?", "chosen": "good " + long, "rejected": "bad"})
    (home / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home / "pairs.jsonl"


def judge(home: Path, context: int, heard: Heard | None = None, **flags: Any) -> tuple[dict[str, Any], int]:
    """The result of `precept judge pairs`, and how many requests it made."""
    given = {"pairs": str(home / "pairs.jsonl"), "judge__options": {"context": context}, **flags}
    with working(home, "judge", heard, **given) as work:
        preferred = pairs.import_pairs(work, "pairs")
        found = pairs.judge_pairs(work, "pairs", preferred)
        return deciding.finish(work, **found), work.budget.judge_calls


@pytest.mark.timeout(60)
def test_one_answer_of_60000_characters_does_not_block_the_good_pairs(home: Path) -> None:
    write_pairs(home, long="x" * 60_000)
    heard = Heard()
    result, calls = judge(home, 2_000, heard)
    assert result["labels"] == {"count": 6, "decided": 6, "tied": 0, "unreadable": 0}
    assert result["agrees_with_file"]["mean"] == 1.0 and calls == 2 * 2 * 6
    assert result["left_out"]["stages"] == {"pairs": {"too_long": 1}} and result["left_out"]["count"] == 1
    assert result["left_out"]["items"][0]["words"] == "The long pair?" and result["left_out"]["items"][0]["row"] == 4
    assert any("pairs: 1 is left out" in text for text in heard.said)
    # No verdict of it was stored, and a judge that reads more is asked about that pair alone.
    result, calls = judge(home, 200_000)
    assert result["labels"] == {"count": 7, "decided": 7, "tied": 0, "unreadable": 0} and calls == 2 * 2
    assert result["left_out"]["count"] == 0


def test_a_pair_that_the_judge_was_asked_about_in_part_has_no_label(home: Path) -> None:
    """Under one of the two principles the question is too long: the other's verdict alone makes no label, neither in
    this run nor in what is looked up later."""
    from service.queries import judged, labels

    (home / "principles.yaml").write_text(ASKS_MUCH)
    write_pairs(home, long="x" * 300)
    result, _ = judge(home, 700)
    assert result["labels"] == {"count": 6, "decided": 6, "tied": 0, "unreadable": 0}
    assert result["left_out"]["stages"] == {"pairs": {"too_long": 1}}
    with working(home, "judge", pairs=str(home / "pairs.jsonl"), judge__options={"context": 700}) as work:
        about = judged.newest(work.store, work.run.id.hex())
        stored = list(work.store.verdicts(about.comparisons, list(about.voices)))
        assert len(stored) == 13  # it has one of its two
        states = [x.state for x in about.labels(about.comparisons).values()]
        assert sorted(states) == ["decided"] * 6 + ["unreadable"]
        assert labels.counts(work.store, work.run.id.hex()) == {"decided": 6, "tied": 0, "unreadable": 1}


def test_where_the_judge_can_be_asked_about_nothing_it_is_said(home: Path) -> None:
    write_pairs(home, long="x")
    with pytest.raises(UserError, match=r"could not be asked about any of the 7 pairs.*reads at most 20"):
        judge(home, 20)


EXAMPLES = """\
    examples:
      - {prompt: Short one?, better: good, worse: bad}
      - {prompt: Long one?, better: good, worse: LONG}
"""


def test_an_example_that_the_judge_cannot_read_fails_alone(home: Path) -> None:
    principle = PRINCIPLES.partition("  - {id")[0] + (
        "  - id: kind\n    title: Kind\n    critique: Find what is rude.\n    revision: Be kind.\n"
        "    comparison: Which is kinder?\n"
    )
    (home / "principles.yaml").write_text(principle + EXAMPLES.replace("LONG", "bad " * 2_000))
    file, flags = home / "precept.toml", {"judge.options": {"context": 2_000}}
    found = examine(settings.load(file, flags)[0], (), who="ada", report=Heard())
    assert [r.outcome for r in found.results] == ["passed", "left_out"]
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))["examples"]
    assert told[1]["p_shown_as_a"] is None and "reads at most 2000" in told[1]["reason"]
    assert junit(found) and in_full(found.results[1], "choice")
    again = examine(settings.load(file, {"judge.options": {"context": 40_000}})[0], (), who="ada", report=Heard())
    assert [r.outcome for r in again.results] == ["passed", "passed"] and len(again.asked) == 1


def test_a_typed_answer_that_the_judge_cannot_read_is_told(home: Path) -> None:
    given = settings.load(home / "precept.toml", {"evaluator.options": {"context": 2_000}})[0]
    with closing(Wiring(given)) as wiring:
        found = score(wiring, "Question 1?", "good so far", n=3, revision=False, report=Heard())
        assert found.against is not None and found.against.unreadable == 0
        with pytest.raises(UserError, match=r"cannot be asked about 3 of 3 pairs.*reads at most 2000"):
            score(wiring, "Question 1?", "good " * 2_000, n=3, revision=False, report=Heard())
        with pytest.raises(UserError, match=r"cannot be asked about 1 of 1 pairs"):
            prefer(wiring, "Question 1?", "good", "good " * 2_000, report=Heard())


# --- before against after ------------------------------------------------------------------------------------------


def evaluate(home: Path, policy: int, after: int) -> dict[str, Any]:
    """The policy against another model, each with a context of so many bytes."""
    (home / "after.yaml").write_text(SCRIPT.replace("Here is how.", "Here is a good way."))
    trained: dict[str, Any] = {
        "trained__kind": "scripted",
        "trained__model": "",
        "trained__options": {"context": after},
    }
    trained["evaluate__candidate"] = str(home / "after.yaml")
    with working(home, "evaluate", policy__options={"context": policy}, **trained) as work:
        return evaluation.evaluate(work, "evaluation", before=stages.start_model(work), after=str(home / "after.yaml"))


@pytest.mark.parametrize(("policy", "after"), [(400, 40_000), (40_000, 400)])
def test_a_held_out_prompt_that_one_model_cannot_read_is_left_out_for_both(home: Path, policy: int, after: int) -> None:
    rows = (home / "prompts.jsonl").read_text().replace('"split": "train", "source": "theirs"', '"split": "heldout"')
    (home / "prompts.jsonl").write_text(rows)
    found = evaluate(home, policy, after)
    assert found["prompts"] == 5 and found["omitted"] == {"answers": 1, "comparisons": 0}
    assert found["unreadable"] == 0  # it is neither unreadable nor a tie
    decision = promote.decide(promote.Gate(), found, None, ratified=True)
    assert not decision.promoted
    assert any(r.startswith("failed: 1 of 5 held-out prompts were left out") for r in decision.reasons)


def test_few_left_out_do_not_forbid_a_promotion(home: Path) -> None:
    found = evaluate(home, 40_000, 40_000)
    assert found["omitted"] == {"answers": 0, "comparisons": 0}
    told = [r for r in promote.decide(promote.Gate(), found, None, ratified=True).reasons if "left out" in r]
    assert told == []
    found = {**found, "prompts": 100, "omitted": {"answers": 6, "comparisons": 4}}
    (told,) = [r for r in promote.decide(promote.Gate(), found, None, ratified=True).reasons if "left out" in r]
    assert told.startswith("held: 10 of 100")


def test_a_question_that_one_model_cannot_read_is_left_out_for_both(home: Path) -> None:
    """The scripted engine holds a choice as likely as it is short."""
    rows = [
        {"question": "Up?", "choices": ["no", "never"], "answer": 0},
        {"question": "Down?", "choices": ["no", "never"], "answer": 1},
        {"question": "Long? " * 100, "choices": ["no", "never"], "answer": 0},
    ]
    (home / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "after.yaml").write_text(SCRIPT)
    name = f"capability:{home / 'questions.jsonl'}"
    given: dict[str, Any] = {"evaluate__candidate": str(home / "after.yaml"), "evaluate__suites": [name]}
    given |= {"trained__kind": "scripted", "trained__model": "", "trained__options": {"context": 400}}
    with working(home, "evaluate", **given) as work:
        found = evaluation.evaluate(work, "evaluation", stages.start_model(work), str(home / "after.yaml"))
        assert work.budget.judge_calls >= 6
    figures = found["suites"][name]["figures"]
    assert figures["right"]["n"] == 2 and figures["right"]["after"]["mean"] == 0.5
    assert figures["right"]["before"]["mean"] == pytest.approx(2 / 3)


# --- answers cut at the limit --------------------------------------------------------------------------------------


def test_where_all_answers_are_cut_the_limit_is_named(home: Path) -> None:
    (home / "script.yaml").write_text(SCRIPT.replace("Ask me later.]", "Ask me later.], finish_reason: length"))
    message = r"9 of 9 answers were cut at the limit of 96 tokens.*Set policy.max_tokens.*as 384"
    with pytest.raises(UserError, match=message), working(home) as work:
        respond(work)


def test_many_cut_answers_are_counted_and_said(home: Path) -> None:
    rules = SCRIPT.replace(
        "  - {texts: [Here", "  - {match: '[34578]\\?$', text: Well, finish_reason: length}\n  - {texts: [Here"
    )
    (home / "script.yaml").write_text(rules)
    heard = Heard()
    with working(home, heard=heard) as work:
        assert respond(work) == 9
        assert work.what_was_left_out()["cut"] == {"answers": {"count": 4, "of": 9}}
    assert any("warning: 4 of 9 answers (44%) were cut at the limit of 96 tokens" in text for text in heard.said)
