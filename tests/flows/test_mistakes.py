"""What a person may get wrong is one message that says what to do, exit code 2, no traceback, and nothing lost.

The command line runs in this process and the flows without a Prefect server, but for one run that has everything.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli import main
from flows.session import at_work
from sandbox.models import folder
from service.work import learning, stages
from storage.store import Store

ROOT = Path(__file__).parents[2]
PRINCIPLES = """\
constitution: two
version: 1
principles:
  - {id: kind, title: Kind, critique: Is it rude?, revision: Be kind., comparison: Which is kinder?}
  - {id: short, title: Short, critique: Is it long?, revision: Be short., comparison: Which is shorter?}
"""
SETTINGS = """\
prompts = "prompts.jsonl"
[policy]
kind = "scripted"
model = "script.yaml"
[judge]
kind = "scripted"
model = "judge.yaml"
[evaluator]
kind = "scripted"
model = "script.yaml"
"""
SCRIPT = """\
rules:
  - {contains: Write only the new reply., text: A mended answer.}
  - {texts: [One answer., "Two, an answer.", A third answer., "Four, and long."]}
"""
A_OR_B = "rules: [{match: 'Reply A\\W*(?P<a>.*)[\\s\\S]*Reply B\\W*(?P<b>.*)', prefer: long, p: 0.99}]\n"
PAIRS = [{"prompt": f"Question {n}?", "chosen": f"A long one {n}", "rejected": f"Brief {n}"} for n in range(8)]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_flows: None) -> Path:
    """The current folder, in which all is well."""
    monkeypatch.chdir(tmp_path)
    Path("precept.toml").write_text(SETTINGS)
    Path("principles.yaml").write_text(PRINCIPLES)
    Path("script.yaml").write_text(SCRIPT)
    Path("judge.yaml").write_text(A_OR_B)
    rows = [{"prompt": f"Question {n}?", "split": "heldout" if n > 15 else "train"} for n in range(20)]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    return tmp_path


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def precept(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def run(*words: object) -> Outcome:
        capfd.readouterr()
        return Outcome(main.run([str(word) for word in words]), *capfd.readouterr())

    return run


def assert_told(outcome: Outcome, *said: str) -> None:
    assert outcome.code == 2, outcome.err
    assert not outcome.out and "Traceback" not in outcome.err
    for words in said:
        assert words in outcome.err, outcome.err


def respond(precept: Callable[..., Outcome], *words: object) -> Outcome:
    return precept("respond", "--quiet", *words)


def test_all_is_well_before_the_mistake(precept) -> None:
    assert respond(precept).code == 0
    assert precept("judge", "pairs", "pairs.jsonl", "--json", "--quiet").code == 0


# --- files that a person writes ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("store = \n", ["precept.toml: ", "line 1"]),
        (
            "[judge]\nmodle = 'x'\n",
            ["precept.toml:2: judge.modle", "did you mean judge.model?", "no such setting"],
        ),
        ("[revise]\nrounds = 'many'\n", ["precept.toml:2: revise.rounds", "not a whole number"]),
        ("seed = 'x'\n[policy]\nbatch_size = 0\n", ["precept.toml:1: seed", "precept.toml:3: policy.batch_size"]),
        ("policy = 3\n", ["precept.toml:1: policy"]),
        ("\x00\xff", ["precept.toml: "]),
        ("prompts = 'prompts.jsonl'\n", ["policy.model", "precept init"]),
        (SETTINGS.replace("prompts.jsonl", ""), ["there are no prompts"]),
        (SETTINGS.replace("prompts.jsonl", "gone.jsonl"), ["there is no file gone.jsonl"]),
        (
            SETTINGS.replace("prompts.jsonl", "script.yaml"),
            ["script.yaml: give a .jsonl, .json, .csv, .tsv or .parquet file"],
        ),
        ("constitution = 'gone.yaml'\n" + SETTINGS, ["gone.yaml"]),
        (SETTINGS.replace('kind = "scripted"', 'kind = "psychic"', 1), ["there is no engine 'psychic'", "scripted"]),
        (SETTINGS.replace('"script.yaml"', '"gone.yaml"'), ["gone.yaml"]),
        (SETTINGS.replace('"script.yaml"', '"promoted"', 1), ["nothing has been promoted yet"]),
        (SETTINGS.replace('"script.yaml"', '"sandbox:poet"', 1), ["no model 'poet'"]),
    ],
)
def test_a_mistake_in_the_settings(precept, text: str, said: list[str]) -> None:
    Path("precept.toml").write_bytes(text.encode("latin-1"))
    assert_told(precept("improve", "--quiet"), *said)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("evaluator.model=", "a role has no model: set policy.model and evaluator.model"),
        ("evaluator.model=gone.yaml", "gone.yaml"),
        ("evaluator.kind=psychic", "there is no engine 'psychic'"),
        ("evaluator={kind='transformers', model='no/such/folder'}", "no/such/folder: there is no such model folder"),
        ("evaluator={kind='openai', model='m'}", "base_url"),
        ("critic={kind='scripted', model='gone.yaml'}", "gone.yaml"),
        ("judge.method=oracular", "there is no judge 'oracular'; there are cascade, choice"),
        ("optimise.method=luck", "there is no training method 'luck'; there are best_of_n, dpo"),
        ("oracle=delphi", "there is no oracle 'delphi'"),
        ("reward.human=gone.csv", "there is no file gone.csv"),
        ("reward.human={path='prompts.jsonl'}", "prompts.jsonl:1: the key 'chosen' is missing"),
        ("reward.human={path='prompts.jsonl', columns={}}", "a file has its path"),
    ],
)
def test_a_mistake_in_what_comes_last_is_told_first(precept, setting: str, said: str) -> None:
    assert_told(precept("improve", "--quiet", "--set", setting), said)
    assert not Path("runs").exists()  # no run, and no store


def test_a_settings_file_that_is_not_there(precept) -> None:
    assert_told(precept("improve", "--settings", "gone.toml"), "there is no settings file gone.toml", "precept init")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PRINCIPLES.replace("id: short", "id: kind"), ["principles.yaml:5:", "kind"]),
        (PRINCIPLES.replace("Which is kinder?", ""), ["principles.yaml:4:", "comparison"]),
        (PRINCIPLES + "  - {id: open", ["principles.yaml:"]),
        ("", ["principles.yaml"]),
    ],
)
def test_a_broken_constitution_names_the_line(precept, text: str, said: list[str]) -> None:
    Path("principles.yaml").write_text(text)
    assert_told(respond(precept), *said)


def test_bad_rows_of_prompts_are_all_told_by_line(precept) -> None:
    rows = ['{"prompt": "fine"}', "{broken", '{"text": "no key"}', '{"prompt": ""}', '{"prompt": "x", "split": "test"}']
    Path("prompts.jsonl").write_text("\n".join(rows))
    told = respond(precept)
    assert_told(told, "prompts.jsonl:2: not JSON", "prompts.jsonl:3: the key 'prompt' is missing", "prompts.jsonl:4:")
    assert "prompts.jsonl:5: 'split' is one of" in told.err and "prompts.jsonl:1:" not in told.err


def test_pairs_of_another_file_and_other_columns_are_judged(precept) -> None:
    """A ranking in CSV, with its columns' names, a tie, and a pair that two people see the opposite way."""
    rows = ["asked;good;bad", *(f"Q{n}?;A long one {n};Brief {n}" for n in range(3)), "Q0?;Brief 0;A long one 0"]
    Path("pairs.csv").write_text("\n".join(rows))
    words = [word for name in ("prompt=asked", "chosen=good", "rejected=bad") for word in ("--map", name)]
    done = precept("judge", "pairs", "pairs.csv", *words, "--json", "--quiet")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["labels"]["count"] == 3 and told["agrees_with_file"]["mean"] == 1
    Path("ranked.json").write_text(
        json.dumps([{"prompt": "Q?", "responses": ["A long one", "B", "C"], "ranks": [1, 2, 2]}])
    )
    done = precept("judge", "pairs", "ranked.json", "--json", "--quiet")
    assert done.code == 0 and json.loads(done.out)["labels"]["count"] == 3, done.err


def test_bad_rows_of_pairs_are_all_told_by_line(precept) -> None:
    rows = [{"prompt": "x", "chosen": "same", "rejected": "same"}, {"prompt": "x", "chosen": "y"}]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert_told(
        precept("judge", "pairs", "pairs.jsonl"), "pairs.jsonl:1: ", "same text", "pairs.jsonl:2: the key 'rejected'"
    )
    with Path("pairs.jsonl").open("a") as file:
        file.write(json.dumps(PAIRS[0]))
    skipped = precept("judge", "pairs", "pairs.jsonl", "--skip-bad", "--json", "--quiet")
    assert skipped.code == 0 and json.loads(skipped.out)["labels"]["count"] == 1, skipped.err


# --- model folders ---


@pytest.fixture
def model(project: Path) -> Path:
    """A model folder that is whole, for a test to damage."""
    shutil.copytree(folder("policy"), project / "model")
    return project / "model"


def with_model(precept: Callable[..., Outcome]) -> Outcome:
    return respond(precept, "--set", "policy.kind=transformers", "--set", "policy.model=model")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"])
def test_a_model_folder_that_misses_a_file(precept, model: Path, name: str) -> None:
    (model / name).unlink()
    assert_told(with_model(precept), f"model is not a whole model: it has no {name}", "Copy what is missing")


def test_a_model_folder_that_is_not_there(precept) -> None:
    assert_told(with_model(precept), "model: there is no such model folder")


def test_a_damaged_model_folder(precept, model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"\x00" * 64)
    assert_told(with_model(precept), "model could not be loaded", "copy the folder again")


def test_a_pickle_is_refused_before_it_is_opened(precept, model: Path) -> None:
    (model / "model.safetensors").unlink()
    # Opened by pickle, this would make the file "opened".
    (model / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    assert_told(with_model(precept), "pytorch_model.bin is a pickle", "Convert the weights")
    assert not Path("opened").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_a_model_is_refused_before_it_runs(precept, model: Path, name: str) -> None:
    config = json.loads((model / name).read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model", "AutoTokenizer": "evil.T"}
    (model / name).write_text(json.dumps(config))
    (model / "evil.py").write_text("from pathlib import Path\nPath('opened').touch()\n")
    assert_told(with_model(precept), name, "asks for code of its own", "never run")
    assert not Path("opened").exists()


def test_training_refuses_what_the_engines_refuse(precept, model: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Ho"}]}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    words = ["train", "--method", "sft", "--data", "rows.jsonl", "--model", "model", "--out", "out"]
    assert_told(precept(*words), "pickle (pytorch_model.bin)", "convert them to safetensors")
    assert not Path("out").exists()


# --- the store and the disk ---


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Another process that writes to the store and does not come to an end."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('begin immediate'); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            other.communicate("")


def test_a_store_that_another_process_holds(precept, monkeypatch: pytest.MonkeyPatch) -> None:
    assert respond(precept).code == 0
    before = answers()
    really = Store.open

    def soon(url: str, **options: Any) -> Store:
        return really(url, patience=0.3, **options)

    monkeypatch.setattr(Store, "open", soon)
    words = ("--set", "seed=1")  # another run, which has something to write
    with locked(Path("runs/precept.db")):
        assert_told(respond(precept, *words), "locked by another process", "run again", "nothing was lost")
    assert answers() == before
    assert respond(precept, *words).code == 0
    assert len(answers()) == 2 * len(before)


def answers() -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect("runs/precept.db")) as database:
        return database.execute("select id, content from generation order by id").fetchall()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("store=sqlite:///script.yaml/precept.db", "script.yaml"),  # a file in the folder's place
        ("store=sqlite:///judge.yaml", "cannot use"),  # no database
        ("store=mysql://host/name", "cannot be kept in mysql"),
        ("store=postgresql://u:secret@127.0.0.1:1/db", "cannot reach the database"),
    ],
)
def test_a_store_that_cannot_be_used(precept, monkeypatch: pytest.MonkeyPatch, setting: str, said: str) -> None:
    really = Store.open
    monkeypatch.setattr(Store, "open", lambda url, **options: really(url, patience=0.3, **options))
    outcome = respond(precept, "--set", setting)
    assert_told(outcome, said)
    assert "secret" not in outcome.err
    assert Path("judge.yaml").read_text() == A_OR_B


# --- judges ---


def judge_with(precept: Callable[..., Outcome], rules: str) -> Outcome:
    Path("judge.yaml").write_text(rules)
    return precept("judge", "pairs", "pairs.jsonl", "--json", "--quiet")


@pytest.mark.parametrize(
    "rules",
    [
        "rules: [{choose: {A: 0.5, B: 0.5, mass: 0.01}}]\n",  # says something else
        "rules: [{choose: {A: 0.0, B: 0.0, mass: 0.0}}]\n",  # says nothing
    ],
)
def test_a_judge_that_answers_garbage_is_told_before_any_pair_is_judged(precept, rules: str) -> None:
    """By questions with known answers, and with what other beginnings of its answer would give."""
    told = ("the judge's answers cannot be read: of 4 pairs", "Other beginnings of its answer do not help")
    assert_told(judge_with(precept, rules), *told, "label.min_mass = 0.5", "judge.template_args")
    with Store.open("runs/precept.db") as store:
        (run,) = store.runs()
        assert run.status == "failed" and run.result is None
        assert not store.stage_members(run.id, "pairs.questions")  # nothing was asked of the pairs


@pytest.mark.parametrize("rules", ["{choose: {A: 0.5, B: 0.5, mass: 0.01}}", "{choose: {A: 0.0, B: 0.0, mass: 0.0}}"])
def test_a_judge_that_answers_garbage_to_these_pairs_stops_the_labelling_with_the_rate(precept, rules: str) -> None:
    known = "rules: [{match: 'France|egg|letter|week', choose: {A: 0.5, B: 0.5}}, "
    told = ("16 of 16 verdicts (100%)", "label.max_unreadable", "Nothing was labelled")
    assert_told(judge_with(precept, f"{known}{rules}]\n"), *told)
    with Store.open("runs/precept.db") as store:
        (run,) = store.runs()
        assert run.status == "failed" and run.result is None
        asked = (store.stage_members(run.id, stage) for stage in ("pairs", "pairs.questions"))
        assert len(list(store.verdicts(*asked))) == 16  # the evidence is kept


def test_what_cannot_be_read_is_counted_and_never_guessed(precept) -> None:
    some = "rules: [{match: 'Question [0-4]', choose: {A: 1.0, B: 0.0, mass: 0.2}}, {choose: {A: 0.6, B: 0.4}}]\n"
    assert_told(judge_with(precept, some), "10 of 16 verdicts (62%)")
    few = "rules: [{match: 'Question [0-2]', choose: {A: 1.0, B: 0.0, mass: 0.2}}, " + A_OR_B.partition("[")[2]
    outcome = judge_with(precept, few)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["labels"] == {"count": 8, "decided": 5, "tied": 0, "unreadable": 3}
    assert found["agrees_with_file"]["mean"] == 1.0
    allowed = precept("judge", "pairs", "pairs.jsonl", "--json", "--quiet", "--set", "label.max_unreadable=0.1")
    assert_told(allowed, "6 of 16 verdicts (38%)", "more than the 10%")


def test_a_judge_that_always_says_a_makes_ties_and_no_training_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    Path("judge.yaml").write_text("rules: [{choose: {A: 0.99, B: 0.01}}]\n")
    with at_work("improve", "precept.toml", {"revise.rounds": 1, "limits.stop_at_chance": False}) as work:
        policy = work.start
        stages.respond(work, "answers", policy, split="train")
        stages.revise(work, "revisions", of="answers")
        better = stages.judge_revisions(work, "revisions")
        assert better["candidates"] == 16 and better["better"] == []
        stages.respond(work, "samples", policy, split="train", samples=4)
        stages.respond(work, "held-out samples", policy, split="heldout", samples=2)
        stages.compare(work, "feedback", samples="samples", revisions="revisions")
        stages.compare(work, "held-out feedback", samples="held-out samples")
        labels = stages.label(work, "feedback", heldout="held-out feedback")
        assert labels["labels"]["count"] == labels["labels"]["tied"] > 16
        assert labels["judge"]["position_consistency"] == 0.0
        for name in ("kind", "short"):
            seen = labels["judge"]["principles"][name]
            assert (seen["at_chance"], seen["consistent"], seen["first_chosen"]) == (True, 0.0, 1.0)
        assert learning.train_reward_models(work, "reward model", parent=policy, labels=labels) == {}
        assert learning.optimise(work, "policy", parent=policy, labels=labels, reward={}) == policy
        assert not list(work.home.glob("datasets/*"))


def test_a_judge_that_always_says_a_is_trained_on_by_nobody(precept) -> None:
    """Before: a run went on to train on what is left of such labels, where something is."""
    script = Path("script.yaml").read_text()
    Path("evaluator.yaml").write_text(script + "  - {choose: {A: 0.5, B: 0.5}}\n")
    Path("judge.yaml").write_text("rules: [{choose: {A: 0.99, B: 0.01}}]\n")
    done = precept("improve", "--quiet", "--set", "revise.rounds=1", "--set", "evaluator.model=evaluator.yaml")
    assert_told(done, "the judge is at chance: of 20 questions its two orders agree on 0 (0%; guessing: 50%)")
    assert not list(Path("runs").glob("checkpoints/*"))


# --- with everything: a process of its own, and Prefect's embedded server ---


def test_a_mistake_is_one_message_under_prefect_too(model: Path, tmp_path: Path) -> None:
    (model / "tokenizer.json").unlink()
    words = ["flow", "respond", "--quiet", "--set", "policy.kind=transformers", "--set", "policy.model=model"]
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path / ".prefect")},
        capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert_told(Outcome(done.returncode, done.stdout, done.stderr), "model is not a whole model", "tokenizer.json")
    assert len(done.stderr.splitlines()) == 1
    assert not Path("runs").exists()  # it was told before a run was begun


def test_a_finished_run_is_shown_though_its_model_is_gone(precept) -> None:
    """What is missing for a run that asks nothing any more is no mistake."""
    first = respond(precept, "--json")
    assert first.code == 0
    Path("script.yaml").unlink()
    again = respond(precept, "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["run"] == json.loads(first.out)["run"]
    assert_told(respond(precept, "--set", "seed=3"), "policy: ", "script.yaml")
