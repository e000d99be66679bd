"""One file added is one more judge, engine, trainer or flow. Proved from the command line, on a copy of the source."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import textwrap
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow

from flows import discovery
from pipeline import plugins, rewards, trainers
from pipeline.engines.engine import Engine
from pipeline.judges.judge import Judge
from pipeline.rewards.reward import Reward
from sandbox.models import folder

ROOT = Path(__file__).parents[2]
PACKAGES = ("constitution", "pipeline", "storage", "service", "flows", "cli", "sandbox")
DROPPED_IN = {
    "pipeline/engines/echo.py": '''
        """Says the last message again, in capitals."""

        from constitution.records import make_id
        from pipeline.engines.engine import Capabilities, Completion

        class Echo:
            capabilities = Capabilities(choose=False, score=False)
            fingerprint = make_id("engine", engine="echo").hex()

            def render(self, chat):
                return []

            def generate(self, requests):
                said = [request.chat.messages[-1].content.upper() for request in requests]
                return [Completion(text, "stop", 1, 1) for text in said]

            def choose(self, groups):
                raise NotImplementedError

            def score(self, requests):
                raise NotImplementedError

            def close(self):
                pass

        def build(settings):
            return Echo()
        ''',
    "pipeline/judges/longer.py": '''
        """Prefers the longer answer, and asks no model."""

        from constitution.records import PROBABILITY, Question, Verdict

        class Longer:
            fingerprint = "longer"

            def question(self, principle):
                return Question(self.fingerprint, {"method": "longer"}, principle.comparison, principle.id)

            def judge(self, cases):
                return [
                    Verdict(self.question(p).id, case.comparison.id, sure, sure, PROBABILITY, PROBABILITY)
                    for case in cases
                    for sure in [PROBABILITY * (len(case.first) > len(case.second))]
                    for p in case.principles
                ]

        def build(role, options):
            return Longer()
        ''',
    "pipeline/trainers/keep.py": '''
        """Learns nothing: the checkpoint is its parent."""

        import shutil
        from pathlib import Path

        KIND = "policy"
        COLUMNS = ("prompt", "completion")
        DEFAULTS = {"patience": 1}

        def train(job, watch):
            watch.start(0)
            watch.step(1, 1, {"loss": 0.5})
            for path in Path(job.model).iterdir():
                if path.is_file() and path.suffix in (".json", ".jinja", ".safetensors"):
                    shutil.copyfile(path, job.partial / path.name)
            return {"patience": job.arguments["patience"]}
        ''',
    "flows/tally.py": '''
        """Answers of the policy, and labels of a file's pairs."""

        from prefect import flow

        from flows import steps
        from flows.session import at_work

        @flow(name="tally", validate_parameters=False)
        def tally(file=None, flags=None):
            with at_work("tally", file, flags) as work:
                role = work.wiring.role(work.settings.policy)
                steps.respond(work, "answers", work.start, split="train")
                texts = sorted(g.text for g in work.generations("answers"))
                found = steps.judge_pairs(work, "pairs", steps.import_pairs(work, "pairs"))
                return steps.finish(work, texts=texts, labels=found["labels"], agrees=found["agrees_with_file"])
        ''',
}
SETTINGS = """
prompts = "prompts.jsonl"
pairs = "pairs.jsonl"
[policy]
model = "any"
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source with one file more of each kind; the sandbox's models are linked to, not copied."""
    root = tmp_path_factory.mktemp("checkout")
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "models")
        shutil.copytree(ROOT / package, root / package, ignore=ignored)
    (root / "sandbox" / "models").symlink_to(ROOT / "sandbox" / "models")
    shutil.copyfile(ROOT / "principles.yaml", root / "principles.yaml")
    for name, text in DROPPED_IN.items():
        (root / name).write_text(textwrap.dedent(text))
    (root / "precept.toml").write_text(SETTINGS)
    prompts = [{"prompt": text, "split": "train"} for text in ("say it", "again")]
    (root / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    pairs = [{"prompt": f"{n}?", "chosen": "a long answer", "rejected": "brief"} for n in range(3)]
    pairs.append({"prompt": "4?", "chosen": "no", "rejected": "a long one"})
    (root / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return root


@pytest.fixture(scope="module")
def precept(checkout: Path) -> Callable[..., Any]:
    def run(*words: object) -> Any:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "PREFECT_HOME": str(checkout / ".prefect")}
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *map(str, words)],
            cwd=checkout, env=environment, capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout

    return run


def test_a_flow_an_engine_and_a_judge_of_one_file_each(checkout: Path, precept: Callable[..., Any]) -> None:
    assert "tally" in precept("flow").split()
    found = precept("flow", "tally", "--set", "policy.kind=echo", "--set", "judge.method=longer", "--quiet")
    assert found["texts"] == ["AGAIN", "SAY IT"]  # the engine's
    assert found["labels"] == {"count": 4, "decided": 4, "tied": 0, "unreadable": 0}  # the judge's
    assert found["agrees"]["mean"] == 0.75
    assert found["calls"]["generated"] == 2


def test_a_trainer_of_one_file(checkout: Path, precept: Callable[..., Any]) -> None:
    row = {"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Ho"}]}
    (checkout / "rows.jsonl").write_text(json.dumps(row) + "\n")
    found = precept(
        "train", "--method", "keep", "--data", "rows.jsonl", "--model", folder("policy"), "--out", "kept",
        "--set", "patience=3", "--json", "--quiet",
    )  # fmt: skip
    assert found["kind"] == "policy" and found["metrics"]["patience"] == 3
    manifest = json.loads((checkout / "kept" / "manifest.json").read_text())
    assert manifest["method"] == "keep" and manifest["digest"] == found["digest"]
    weights = (checkout / "kept" / "model.safetensors").read_bytes()
    assert weights == (folder("policy") / "model.safetensors").read_bytes()


# --- what is there keeps the contracts ---

JUDGES = plugins.names("pipeline.judges", "build")
ENGINES = plugins.names("pipeline.engines", "build")
METHODS = trainers.methods()
REWARDS = rewards.kinds()
FLOWS = discovery.names()


def test_there_is_something_to_hold_to_the_contracts() -> None:
    assert "choice" in JUDGES
    assert {"transformers", "openai", "scripted"} <= set(ENGINES)
    assert {"sft", "reward", "dpo", "kto", "orpo", "ppo", "rloo", "grpo", "best_of_n"} == set(METHODS)
    assert {"model", "function", "http", "judge"} <= set(REWARDS)
    assert {"improve", "respond", "revise", "judge", "evaluate"} <= set(FLOWS)


def members(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


def built(module: Any) -> type:
    """The class that `build` says it returns."""
    found: type = typing.get_type_hints(module.build)["return"]
    return found


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_keeps_its_contract(name: str) -> None:
    module = importlib.import_module(f"pipeline.judges.{name}")
    assert list(inspect.signature(module.build).parameters) == ["role", "options"]
    assert members(Judge) <= set(dir(built(module)))
    assert list(inspect.signature(built(module).judge).parameters) == ["self", "cases"]


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_keeps_its_contract(name: str) -> None:
    module = importlib.import_module(f"pipeline.engines.{name}")
    assert list(inspect.signature(module.build).parameters) == ["settings"]
    found = built(module)
    attributes = set(dir(found)) | set(inspect.getsource(found.__init__).replace("self.", " ").split())
    assert members(Engine) <= attributes
    for method in ("render", "generate", "choose", "score"):
        wanted = list(inspect.signature(getattr(Engine, method)).parameters)
        assert list(inspect.signature(getattr(found, method)).parameters) == wanted, method


@pytest.mark.parametrize("name", REWARDS)
def test_a_reward_keeps_its_contract(name: str) -> None:
    module = importlib.import_module(f"pipeline.rewards.{name}")
    assert list(inspect.signature(module.build).parameters) == ["options"]
    found = built(module)
    attributes = set(dir(found)) | set(inspect.getsource(found.__init__).replace("self.", " ").split())
    assert members(Reward) <= attributes
    wanted = list(inspect.signature(Reward.score).parameters)
    assert list(inspect.signature(found.score).parameters) == wanted


COLUMNS = {"prompt", "completion", "chosen", "rejected", "p", "label"}


@pytest.mark.parametrize("name", METHODS)
def test_a_trainer_keeps_its_contract(name: str) -> None:
    module = trainers.load(name)
    assert module.KIND in ("policy", "reward_model")
    assert isinstance(module.COLUMNS, tuple) and set(module.COLUMNS) < COLUMNS
    assert json.loads(json.dumps(dict(module.DEFAULTS))) == module.DEFAULTS  # a job's id hashes them
    assert list(inspect.signature(module.train).parameters) == ["job", "watch"]


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_keeps_its_contract(name: str) -> None:
    found = discovery.load(name)
    assert isinstance(found, Flow) and found.name == name
    wanted = inspect.signature(found.fn).parameters
    assert list(wanted)[:2] == ["file", "flags"] and set(wanted) <= {"file", "flags", "who", "report"}
    assert all(p.default is None for p in wanted.values())
    assert found.description and found.fn.__doc__
    assert not found.should_validate_parameters
