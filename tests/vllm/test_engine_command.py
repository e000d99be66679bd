"""`precept engine` on a real vLLM: what the sandbox's judge and critic say there is what they say in this process, and
a server that is killed and comes back as another is told of at once, with nothing of it kept."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from constitution.records import Message
from pipeline import engines
from pipeline.engines.engine import Chat, Choose, EngineSettings, all_answered
from pipeline.plugins import packaged_model
from sandbox.prompts import prompts

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).parents[2]
SMALL = (
    *("prompts=prompts.jsonl", "policy.max_tokens=48", "critic.max_tokens=48", "critic.temperature=0", "threads=1"),
    *("revise.rounds=1", "compare.samples=2", "compare.pairs=1", "trial.most=6", "evaluate.prompts=6"),
    *("sft.arguments.max_steps=3", "reward.arguments.max_steps=3", "optimise.arguments.max_steps=3"),
)
CONTEXT = ("--", "--max-model-len", "768", "--max-num-batched-tokens", "2048")
ANOTHER = ("--", "--max-model-len", "512", "--max-num-batched-tokens", "2048")


def command(folder: Path, *words: object, sets: dict[str, Any] | None = None) -> list[str]:
    flags = [part for name, value in (sets or {}).items() for part in ("--set", f"{name}={json.dumps(value)}")]
    return [sys.executable, "-m", "cli.main", *map(str, words[:3]), *flags, *map(str, words[3:])]


def precept(folder: Path, *words: object, sets: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *words, sets=sets), cwd=folder, env=around(), capture_output=True, text=True)


def around() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PRECEPT_TRIAL__REQUIRED": "false"}


@pytest.fixture(scope="module")
def folder(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project on the sandbox with few prompts, whose servers are ended at the end."""
    made = tmp_path_factory.mktemp("engines")
    for name in ("precept.toml", "principles.yaml"):
        (made / name).write_bytes((ROOT / name).read_bytes())
    rows = [
        {"prompt": [{"role": m.role, "content": m.content} for m in p.messages], "split": p.split, "tags": p.tags}
        for p in prompts(train=10, dev=0, heldout=6)
    ]
    (made / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    yield made
    ended = precept(made, "engine", "down", "--json")
    assert ended.returncode == 0, ended.stderr
    assert all(server["was_up"] and server["seconds"] < 10 for server in json.loads(ended.stdout))


@pytest.fixture(scope="module")
def adapter(folder: Path) -> Path:
    """A LoRA adapter of the sandbox's policy that changes what it says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = str(packaged_model("sandbox:policy"))
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(str(folder / "tuned"))
    return folder / "tuned"


@pytest.fixture(scope="module")
def server(folder: Path, adapter: Path) -> dict[str, Any]:
    done = precept(folder, "engine", "up", "judge", "--json", "--device", "cpu", "--lora", f"mine={adapter}", *CONTEXT)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def on(server: dict[str, Any]) -> dict[str, Any]:
    """Judge and critic on the server, with the settings that `up` printed."""
    judge = server["settings"]
    return judge | {name.replace("judge.", "critic."): value for name, value in judge.items()}


def rows_of(home: Path, query: str) -> list[Any]:
    with sqlite3.connect(home / "precept.db") as store:
        return store.execute(query).fetchall()


def homes(folder: Path, name: str) -> dict[str, Any]:
    return {"home": str(folder / name), "store": f"sqlite:///{folder / name}/precept.db"}


def test_status_gives_a_token_and_says_what_is_served(folder: Path, server: dict[str, Any]) -> None:
    [found] = json.loads(precept(folder, "engine", "status", "--json").stdout)
    assert (found["state"], found["serves"]) == ("answers", [server["model"], "mine"])
    assert found["memory"] > 2**28 and os.getsid(found["pid"]) == found["pid"]


def test_an_adapter_beside_it_is_that_of_the_transformers_engine(server: dict[str, Any], adapter: Path) -> None:
    asked = [Choose(tuple(Chat((Message("user", f"{n} boots or a house: A or B?"),)) for n in range(8)), ("A", "B"))]
    options = {"tokenizer": server["tokenizer"]}

    def said(settings: EngineSettings) -> list[tuple[float, ...]]:
        engine = engines.build(settings)
        try:
            return [choice.probabilities for choice in all_answered(engine.choose(asked)[0])]
        finally:
            engine.close()

    there = said(EngineSettings("openai", "mine", "1", base_url=server["url"], options=options))
    here = said(EngineSettings("transformers", str(adapter), device="cpu"))
    for one, other in zip(there, here, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    base = said(EngineSettings("openai", server["model"], "1", base_url=server["url"], options=options))
    assert max(abs(one[0] - other[0]) for one, other in zip(base, here, strict=True)) > 0.01


def test_trial_and_improve_are_those_of_the_transformers_engine(folder: Path, server: dict[str, Any]) -> None:
    """One run each, alike but for the engine of judge and critic: critiques and revisions at temperature 0."""
    results, stores = {}, {}
    small = dict(part.split("=", 1) for part in SMALL)
    for name, where in (("here", {}), ("there", on(server))):
        flags = [part for pair in small.items() for part in ("--set", "=".join(pair))]
        sets = {**homes(folder, name), **where}
        done = subprocess.run(
            [*command(folder, "improve", "--json", "--quiet", sets=sets), *flags],
            cwd=folder, env=around(), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        results[name] = json.loads(done.stdout)
        stores[name] = folder / name
    verdicts = "select hex(comparison), p1, p2, mass1, mass2 from verdict order by comparison, question, p1"
    here, there = (rows_of(stores[name], verdicts) for name in ("here", "there"))
    assert len(here) == len(there) > 50
    by = {}
    for name, rows in (("here", here), ("there", there)):
        for comparison, *said in rows:
            by.setdefault(comparison, {}).setdefault(name, []).append(said)
    shared = [each for each in by.values() if len(each) == 2]
    assert len(shared) == len(by)  # the same answers, critiques and revisions, and so the same comparisons
    for each in shared:
        for one, other in zip(sorted(each["here"]), sorted(each["there"]), strict=True):
            assert all(abs(a - b) <= 1e-4 * 10**9 for a, b in zip(one, other, strict=True))
    for key in ("labels", "judge"):
        assert results["here"][key] == pytest.approx(results["there"][key], abs=1e-3, nan_ok=True)


def test_killed_in_mid_run_it_is_told_at_once_and_as_another_it_is_not_believed(
    folder: Path, server: dict[str, Any]
) -> None:
    """Killed, then another model with a shorter context at the same port under the same name, while the run waits."""
    policy = {name.replace("judge.", "policy."): value for name, value in server["settings"].items()}
    home = folder / "killed"
    sets = {**homes(folder, "killed"), **policy, "policy.batch_size": 1, "policy.max_tokens": 64}
    rows = [{"prompt": f"How are the boots of number {n} cleaned?", "split": "train"} for n in range(400)]
    (folder / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = command(folder, "flow", "respond", sets={**sets, "prompts": "many.jsonl"})
    with (folder / "said").open("w") as said:
        run = subprocess.Popen(words, cwd=folder, env=around(), stdout=said, stderr=said)
    try:
        until(lambda: home.joinpath("precept.db").exists() and answers(home) >= 5, run, 120)
        os.killpg(server["pid"], signal.SIGKILL)
        killed = time.monotonic()
        until(lambda: "has not answered" in (folder / "said").read_text(), run, 10)
        assert time.monotonic() - killed < 6
        kept = answers(home)
        assert json.loads(precept(folder, "engine", "status", "--json").stdout)[0]["state"] == "gone"
        assert precept(folder, "engine", "down").returncode == 0
        port, name = str(server["port"]), server["model"]
        evaluator = packaged_model("sandbox:evaluator")
        (folder / name).symlink_to(str(evaluator))
        up = precept(folder, "engine", "up", f"./{name}", "--json", "--device", "cpu", "--port", port, *ANOTHER)
        assert up.returncode == 0, up.stderr
        assert json.loads(up.stdout)["model"] == name
        assert run.wait(180) == 2
    finally:
        run.kill()
        run.wait()
    told = (folder / "said").read_text()
    assert "came back as another: its answers to fixed questions moved by" in told or "it reads at most 512" in told
    assert "it reads at most 512 tokens, and read 768" in told and "Traceback" not in told
    assert answers(home) == kept


def answers(home: Path) -> int:
    try:
        return int(rows_of(home, "select count(*) from generation")[0][0])
    except sqlite3.OperationalError:
        return 0


def until(reached: Callable[[], bool], run: subprocess.Popen[Any], seconds: float) -> None:
    ends = time.monotonic() + seconds
    while not reached():
        assert run.poll() is None and time.monotonic() < ends, "the run ended, or it never came to be"
        time.sleep(0.1)
