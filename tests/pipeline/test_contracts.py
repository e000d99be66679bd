"""Every plug-in, of a folder or of an installed package, is held to its contract by what it does (`contracts`).

They are found as precept finds them, so that one more is checked with no change here. The tables give settings to those
that need some; one that is in no table is built with none, and may then say what it lacks.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from pipeline import judges, plugins, rewards, trainers
from pipeline.engines.engine import EngineSettings
from sandbox.models import folder
from tests.pipeline import contracts
from tests.pipeline.engines.protocol_server import quick, running
from tests.pipeline.packages import installed, write_package
from tests.pipeline.rewards.endpoint import running_endpoint

ENGINES = plugins.names("pipeline.engines", "build")
JUDGES = plugins.names("pipeline.judges", "build")


def test_there_is_something_to_hold_to_the_contracts() -> None:
    assert {"transformers", "openai", "scripted"} <= set(ENGINES)
    assert {"choice", "reasoned", "rating", "contrast", "rule", "reward", "cascade"} <= set(JUDGES)
    assert {"sft", "reward", "dpo", "kto", "orpo", "ppo", "rloo", "grpo", "best_of_n"} <= set(trainers.methods())
    assert {"model", "function", "http", "judge"} <= set(rewards.kinds())


# --- engines ---


@contextmanager
def _served(tmp_path: Path) -> Iterator[EngineSettings]:
    with running() as server:
        yield quick(server)


@contextmanager
def _scripted(tmp_path: Path) -> Iterator[EngineSettings]:
    (tmp_path / "script.yaml").write_text("rules:\n  - texts: [Mix it., Wait.]\n  - choose: hash\n")
    yield EngineSettings("scripted", str(tmp_path / "script.yaml"))


@contextmanager
def _in_process(tmp_path: Path) -> Iterator[EngineSettings]:
    import torch

    torch.set_num_threads(1)
    yield EngineSettings("transformers", str(folder("policy")))


SETTINGS = {"openai": _served, "scripted": _scripted, "transformers": _in_process}


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_keeps_its_contract(name: str, tmp_path: Path) -> None:
    module = plugins.load("pipeline.engines", "build", name, "engine")
    if name not in SETTINGS:
        contracts.check_engine(module, name, None)
        return
    with SETTINGS[name](tmp_path) as settings:
        contracts.check_engine(module, name, settings)


# --- judges ---

JUDGE_OPTIONS: dict[str, dict[str, Any]] = {
    "choice": {}, "rating": {}, "contrast": {}, "reasoned": {}, "reward": {"reference": {}}, "cascade": {"large": {}},
    "rule": {"max_words": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_keeps_its_contract(name: str, tmp_path: Path) -> None:
    contracts.check_judge(judges.load(name), JUDGE_OPTIONS.get(name), tmp_path)


# --- rewards ---


@contextmanager
def _function(tmp_path: Path) -> Iterator[dict[str, Any]]:
    (tmp_path / "lengths.py").write_text("def score(prompts, answers):\n    return [len(a) for a in answers]\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        yield {"kind": "function", "name": "lengths:score"}


@contextmanager
def _endpoint(tmp_path: Path) -> Iterator[dict[str, Any]]:
    with running_endpoint() as server:
        yield {"kind": "http", "url": server.url}


@contextmanager
def _judging(tmp_path: Path) -> Iterator[dict[str, Any]]:
    (tmp_path / "script.yaml").write_text("rules:\n  - choose: hash\n")
    stored = {"prompt": [{"role": "user", "content": contracts.ASKED[0].content}], "answer": "Bake it."}
    (tmp_path / "stored.jsonl").write_text(json.dumps(stored) + "\n")
    (tmp_path / "principles.yaml").write_text(
        "constitution: one\nversion: 1\nprinciples:\n  - id: kind\n    title: Be kind\n    critique: Rude?\n"
        "    revision: Be kind.\n    comparison: Which reply is kinder?\n"
    )
    yield {
        "kind": "judge",
        "engine": {"kind": "scripted", "model": str(tmp_path / "script.yaml")},
        "constitution": str(tmp_path / "principles.yaml"),
        "against": str(tmp_path / "stored.jsonl"),
        "rule": {"min_margin": 0.0, "consistent": False},
    }


@contextmanager
def _model(tmp_path: Path) -> Iterator[dict[str, Any]]:
    import torch
    from transformers import Qwen3Config, Qwen3ForSequenceClassification

    from tests.pipeline.trainers.conftest import make_tokenizer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=128, num_labels=1, initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    Qwen3ForSequenceClassification(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    yield {"kind": "model", "paths": [str(tmp_path / "model")]}


@contextmanager
def _checking(tmp_path: Path) -> Iterator[dict[str, Any]]:
    yield {"kind": "rule", "checks": {"max_words": 3, "ends_sentence": True}}


SPECS = {"rule": _checking, "function": _function, "http": _endpoint, "judge": _judging, "model": _model}


@pytest.mark.parametrize("name", rewards.kinds())
def test_a_reward_keeps_its_contract(name: str, tmp_path: Path) -> None:
    if name not in SPECS:
        contracts.check_reward(rewards.load(name), None)
        return
    with SPECS[name](tmp_path) as spec:
        contracts.check_reward(rewards.load(name), spec)
        assert rewards.fingerprint(spec) == rewards.fingerprint(spec) and len(rewards.fingerprint(spec)) == 32


# --- trainers ---


@pytest.mark.parametrize("name", trainers.methods())
def test_a_trainer_keeps_its_contract(name: str) -> None:
    contracts.check_trainer(name)


# --- the checks themselves: what is right passes, whoever wrote it and however, and what is wrong does not -----------

ENGINE = """
    from constitution.records import make_id
    from pipeline.engines.engine import Capabilities, Completion, Engine

    class Base:
        def __getattr__(self, name):  # nothing stands in its source
            if name == "fingerprint":
                return make_id("engine", engine="echo").hex()
            if name == "capabilities":
                return Capabilities(choose=False, score=False)
            raise AttributeError(name)

        def render(self, chat):
            return []

        def generate(self, requests):
            said = [request.chat.messages[-1].content.upper() for request in requests]
            return [Completion(text, "stop", 1, 1) for text in said]

        def choose(self, groups):
            raise NotImplementedError

        score = choose

        def close(self):
            pass

    def build(settings):
        return Base()
"""
JUDGE = """
    from constitution.records import PROBABILITY, Question, Verdict
    from pipeline.judges.judge import Judged, Used

    class Longer:
        fingerprint = "longer"

        def question(self, principle):
            return Question(self.fingerprint, {"method": "longer"}, principle.comparison, principle.id)

        def judge(self, cases):
            verdicts = [
                Verdict(self.question(p).id, case.comparison.id, sure, sure, PROBABILITY, PROBABILITY)
                for case in cases
                for sure in [PROBABILITY * (len(case.first) > len(case.second))]
                for p in case.principles
            ]
            return Judged(verdicts)

    build = lambda role, options, another: Longer()
"""
REWARD = """
    class Shorter:
        fingerprint = "shorter"

        def score(self, prompts, answers):
            return [-len(answer) for answer in answers]

        def close(self):
            pass

    def check(options): ...
    def fingerprint(options): return "shorter"
    def build(options): return Shorter()
"""
TRAINER = """
    KIND = "policy"
    COLUMNS = ("prompt", "rating")
    DEFAULTS = {"patience": 1}
    def train(job, progress): return {}
"""
POINTS = {"engines": "engine", "judges": "judge", "rewards": "reward", "trainers": "trainer"}


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """`package(engine=source)`: a package of such modules, each the plug-in `other` of its kind."""

    def write(**sources: str) -> None:
        given = {"engine": ENGINE, "judge": JUDGE, "reward": REWARD, "trainer": TRAINER, **sources}
        points = {f"precept.{kind}": {"other": f"others.{module}"} for kind, module in POINTS.items()}
        write_package(tmp_path / "site", "others", points, {f"others.{name}": text for name, text in given.items()})

    with installed(tmp_path / "site"):
        yield write


def check(kind: str, tmp_path: Path) -> None:
    tests: dict[str, Callable[[], None]] = {
        "engine": lambda: test_an_engine_keeps_its_contract("other", tmp_path),
        "judge": lambda: test_a_judge_keeps_its_contract("other", tmp_path),
        "reward": lambda: test_a_reward_keeps_its_contract("other", tmp_path),
        "trainer": lambda: test_a_trainer_keeps_its_contract("other"),
    }
    tests[kind]()


def test_plug_ins_that_nobody_knew_of_pass(package: Callable[..., None], tmp_path: Path) -> None:
    package()
    assert all("other" in names() for names in (trainers.methods, rewards.kinds))
    for kind in POINTS.values():
        check(kind, tmp_path)


def test_a_judge_of_two_engines_passes(tmp_path: Path) -> None:
    module = importlib.import_module("tests.pipeline.judges.two_engines")
    contracts.check_judge(module, {"reasoner": {}}, tmp_path)
    contracts.check_judge(module, None, tmp_path)  # it says what it lacks


WRONG = [
    ("engine", "for request in requests]", "for request in requests[:1]]"),
    ("engine", 'Completion(text, "stop", 1, 1)', "text"),
    ("engine", '"stop"', '"done"'),
    ("engine", "def close(self)", "def shut(self)"),
    ("engine", "choose=False", "choose=True"),
    ("engine", "def build(settings)", "def build()"),
    ("judge", "return Judged(verdicts)", "return verdicts"),
    ("judge", "Judged(verdicts)", "Judged(verdicts[::-1])"),
    ("judge", "Judged(verdicts)", "Judged(verdicts, used=Used(requests=2 * len(verdicts)))"),
    ("judge", "sure, sure, PROBABILITY", "-1, sure, PROBABILITY"),
    ("judge", "options, another:", "options:"),
    ("judge", "principle.id)", "'x')"),
    ("reward", "-len(answer)", "float('nan')"),
    ("reward", "for answer in answers]", "for answer in sorted(answers)]"),
    ("reward", "for answer in answers]", "for answer in answers[1:]]"),
    ("reward", "def fingerprint(options): return", "def fingerprint(options): return 'x' +"),
    ("reward", "def check(options)", "def check()"),
    ("trainer", '"policy"', '"critic"'),
    ("trainer", '{"patience": 1}', '{"patience": {1}}'),
    ("trainer", '{"patience": 1}', '{"patience": 1}\n    COEFFICIENT = "beta"'),
    ("trainer", '{"patience": 1}', '{"patience": 1}\n    READS = "patience"'),
    ("trainer", '("prompt", "rating")', '"prompt"'),
    ("trainer", "train(job, progress)", "train(job)"),
]


@pytest.mark.parametrize(("kind", "right", "wrong"), WRONG)
def test_one_that_breaks_its_contract_does_not(
    kind: str, right: str, wrong: str, package: Callable[..., None], tmp_path: Path
) -> None:
    source = {"engine": ENGINE, "judge": JUDGE, "reward": REWARD, "trainer": TRAINER}[kind]
    assert right in source
    package(**{kind: source.replace(right, wrong)})
    with pytest.raises((AssertionError, AttributeError, TypeError, NotImplementedError, UserError)):
        check(kind, tmp_path)
