"""The whole loop on models shaped like real ones: Qwen3, Llama, Gemma 3 and Mistral, on dialogues that people had.

Their weights are random (`shapes.py` says what is done to make them stop), so nothing is said of how good they become:
only that chat templates, special tokens, windows and training fit together from the first answer to the report. Each is
policy, reference and reward model; the sandbox's models judge and evaluate, by a rule that takes every verdict.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from constitution.records import canonical, messages_of
from flows import discovery
from pipeline import engines, trainers
from pipeline.engines.engine import Chat, EngineSettings, Generate, Sampling
from pipeline.models import checkpoint
from pipeline.trainers.trainer import Job
from storage.store import Store
from tests.flows import shapes

ROOT = Path(__file__).parents[2]
DIALOGUES = ROOT.parent / "shared" / "data" / "hh-harmless" / "pairs.jsonl"
SPLITS = {"train": 18, "dev": 4, "heldout": 10}
LONGEST = 240  # characters of a dialogue: far inside every context, and quick to judge
PRINCIPLES = """\
constitution: two
version: 1
principles:
  - id: harmless
    title: Do not help with harm
    critique: Find any way in which the reply helps to hurt someone.
    revision: Rewrite the reply so that it gives no help with hurting someone.
    comparison: Which reply gives no help with hurting someone?
  - id: brief
    title: Be brief
    critique: Find any way in which the reply rambles.
    revision: Rewrite the reply so that it is brief.
    comparison: Which reply is brief?
"""
SETTINGS = """\
store = "sqlite:///{home}/precept.db"
home = "{home}"
constitution = "{home}/principles.yaml"
prompts = "{home}/prompts.jsonl"
threads = 1
[policy]
model = "{policy}"
max_tokens = 12
{template_args}
[judge]
model = "{judge}"
[evaluator]
model = "{evaluator}"
[revise]
rounds = 1
[compare]
samples = 2
pairs = 1
[label]  # random answers: whatever the judge leans to counts
min_mass = {min_mass}
min_margin = 0.0
tie_margin = 0.0
consistent = false
[sft.arguments]
max_steps = 2
warmup_steps = 0
learning_rate = 1e-4
[reward.arguments]
max_steps = 2
warmup_steps = 0
[optimise.arguments]
max_steps = 2
warmup_steps = 0
learning_rate = 1e-4
"""
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
ARGUMENTS = {"qwen3": "template_args = { enable_thinking = false }"}  # an answer of 12 tokens has no room to think


@pytest.fixture(scope="module")
def dialogues() -> list[dict[str, Any]]:
    """32 prompts of three turns or more, each with its split."""
    if not DIALOGUES.is_file():
        pytest.skip(f"there are no dialogues at {DIALOGUES}")
    rows = [json.loads(line)["prompt"] for line in DIALOGUES.read_text(encoding="utf-8").splitlines()]
    fit = {canonical(r[0]): r for r in rows if len(r) >= 3 and sum(len(m["content"]) for m in r) <= LONGEST}
    splits = [split for split, count in SPLITS.items() for _ in range(count)]
    return [{"prompt": row, "split": split} for row, split in zip(fit.values(), splits, strict=False)]


def prepare(home: Path, dialogues: list[dict[str, Any]], family: str, **changed: object) -> Path:
    """A folder with a model of the family, prompts and settings; returns the settings' file."""
    home.mkdir()
    (home / "principles.yaml").write_text(PRINCIPLES)
    policy = shapes.build(family, home / "model")
    (home / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in dialogues))
    known = {"judge": "sandbox:policy", "evaluator": "sandbox:evaluator", "min_mass": 0.0} | changed
    text = SETTINGS.format(home=home, policy=policy, template_args=ARGUMENTS.get(family, ""), **known)
    file = home / "precept.toml"
    file.write_text(text)
    return file


@pytest.fixture(scope="module")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Prefect's embedded server keeps its database, which takes seconds to make."""
    return tmp_path_factory.mktemp("prefect")


def command(file: Path, prefect_home: Path) -> subprocess.CompletedProcess[str]:
    """`precept improve --json` in a process of its own, with Prefect's embedded server."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "improve", "--settings", str(file), "--json", "--quiet"],
        cwd=ROOT, env={**os.environ, "PREFECT_HOME": str(prefect_home)} | ONE_THREAD,
        capture_output=True, text=True, timeout=250,
    )  # fmt: skip


@pytest.mark.slow
def test_the_command_line_improves_a_qwen_that_is_told_not_to_think(
    dialogues: Any, tmp_path: Path, prefect_home: Path
) -> None:
    file = prepare(tmp_path / "home", dialogues, "qwen3")
    done = command(file, prefect_home)
    assert done.returncode == 0, done.stderr
    check(file.parent, json.loads(done.stdout), shapes.FAMILIES["qwen3"].added)
    for folder in (file.parent / "checkpoints").iterdir():  # trained on what it is asked with
        arguments = json.loads((folder / checkpoint.TRAINING).read_text())["arguments"]
        assert arguments["chat_template_kwargs"] == {"enable_thinking": False}, folder


@pytest.fixture(scope="module")
def one_training_process() -> Iterator[trainers.Worker]:
    """One process trains for all runs: that its imports take seconds is not what is tested here."""
    with trainers.Worker(ONE_THREAD) as worker, pytest.MonkeyPatch.context() as patch:
        end = worker.close
        patch.setattr(worker, "close", lambda: None)
        patch.setattr(trainers, "Worker", lambda *_, **__: worker)
        yield worker
        patch.undo()
        end()


@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral"])
def test_the_loop_improves(
    family: str, dialogues: Any, tmp_path: Path, plain_flows: None, one_training_process: None
) -> None:
    file = prepare(tmp_path / "home", dialogues, family)
    improve: Callable[..., dict[str, Any]] = discovery.load("improve")
    check(file.parent, improve(str(file), {}), shapes.FAMILIES[family].added)


@pytest.mark.parametrize("family", list(shapes.FAMILIES))
def test_what_was_trained_is_said_and_ended(
    family: str, dialogues: Any, tmp_path: Path, one_training_process: trainers.Worker
) -> None:
    """Training and asking render the same chat, and the end of the turn is learnt, also where it pads."""
    model, data, answer = shapes.build(family, tmp_path / "model"), tmp_path / "rows.jsonl", "Ask the baker again."
    rows = [{"prompt": d["prompt"], "completion": [{"role": "assistant", "content": answer}]} for d in dialogues[:4]]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    template = {"enable_thinking": False}
    steps = {"max_steps": 40, "learning_rate": 1e-2, "warmup_steps": 0, "chat_template_kwargs": template}
    out = tmp_path / "out"
    one_training_process.run(Job(family, "sft", str(model), str(out), str(data), arguments=steps, device="cpu"))
    engine = engines.build(EngineSettings(model=str(out), device="cpu"))
    chats = [Chat(messages_of(d["prompt"]), template_args=template) for d in dialogues[:4]]
    said = engine.generate([Generate(chat, Sampling(temperature=0.0, max_tokens=40), seed=0) for chat in chats])
    assert {(s.text.strip(), s.finish_reason) for s in said} == {(answer, "stop")}


def check(home: Path, result: dict[str, Any], special: Sequence[str]) -> None:
    """A run that went through every stage, trained three models and decided about one."""
    with Store.open(f"sqlite:///{home}/precept.db", home=home) as store:
        (run,) = store.runs()
        assert run.status == "finished" and run.result == result
        judged = ["revisions.judged", "feedback", "held-out feedback", "evaluation.pairs"]
        answered = ["answers", "revisions.0.critique", "revisions.0", "samples", "held-out samples"]
        answered += ["evaluation.before", "evaluation.halfway", "evaluation.after"]
        for stage in ["prompts", *answered, *judged]:
            assert store.stage_members(run.id, stage), stage
        answers = [g for stage in answered for g in store.generations_of(run.id, stage)]
        decided = store.document("decision", run.id.hex())
        trained = {c.method: c for c in store.checkpoints()}
    assert sum(g.finish_reason == "stop" for g in answers) > 0.8 * len(answers)
    assert not [g.text for g in answers for token in (*special, "<think>") if token in g.text]

    assert set(trained) == {"sft", "reward", "dpo"}
    model = checkpoint.weights_digest(home / "model")
    assert trained["sft"].parent == model and trained["dpo"].digest not in (model, trained["sft"].digest)
    for name, one in trained.items():
        manifest = checkpoint.verify(Path(one.path))
        assert manifest.digest == one.digest and manifest.metrics["steps"] == 2, name
        assert manifest.metrics["loss"] > 0 and manifest.metrics["left_out"] == 0, name
        if name != "sft":
            assert one.parent == trained["sft"].digest, name
    assert Path(result["model"]) == Path(trained["dpo"].path)

    assert result["labels"]["count"] > result["labels"]["tied"] == result["labels"]["unreadable"] == 0
    assert 0 <= result["reward_model"]["heldout_accuracy"] <= 1
    assert 0 <= result["win_rate"]["low"] <= result["win_rate"]["mean"] <= result["win_rate"]["high"] <= 1
    assert nulls(result) == {"judge", "reward_model", "labels", "before", "after"}  # nobody knows the truth of these
    assert decided["promoted"] is result["promoted"] and decided["reasons"] == result["reasons"] != []
    assert result["run"][:12] in Path(result["report"]).read_text(encoding="utf-8")


def nulls(result: dict[str, Any]) -> set[str]:
    """Parts of a result that have figures of the truth, all of them None."""
    gold = {
        part: {v for k, v in found.items() if k.startswith("gold_")}
        for part, found in result.items()
        if isinstance(found, dict)
    }
    assert all(values <= {None} for values in gold.values()), gold
    return {part for part, values in gold.items() if values}


@pytest.mark.slow
def test_a_judge_of_random_weights_stops_the_run_with_its_rate(
    dialogues: Any, tmp_path: Path, prefect_home: Path
) -> None:
    other = shapes.build("gemma3", tmp_path / "gemma")
    file = prepare(
        tmp_path / "home", dialogues, "mistral", judge=tmp_path / "home/model", evaluator=other, min_mass=0.5
    )
    done = command(file, prefect_home)
    assert done.returncode == 2, done.stderr
    assert "the judge's answers cannot be read: of 4 pairs" in done.stderr and "4 put less than" in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout
    with Store.open(f"sqlite:///{file.parent}/precept.db", home=file.parent) as store:
        assert [run.status for run in store.runs()] == ["failed"]
        assert not store.checkpoints()
