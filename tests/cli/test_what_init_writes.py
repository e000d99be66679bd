"""What `precept init` writes can be run: every start passes all checks that come before a run's first request."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.models import folder
from service import preflight
from service import settings as settings_module
from service.wiring import Wiring

STARTS = ("sandbox", "local", "server")


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precept) -> Callable[[str], Wiring]:
    """`begun("local")`: the wiring of a project of that start, with models in the folders that it names."""
    monkeypatch.chdir(tmp_path)

    def begin(start: str) -> Wiring:
        assert precept("init", ".", "--from", start).code == 0
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "policy").symlink_to(folder("policy"))
        (tmp_path / "models" / "evaluator").symlink_to(folder("evaluator"))
        (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"{n}?"}) + "\n" for n in range(24)))
        return Wiring(settings_module.load()[0])

    return begin


@pytest.mark.parametrize("start", STARTS)
def test_every_start_passes_the_checks_of_the_whole_loop(begun, start: str) -> None:
    wiring = begun(start)
    preflight.check("improve", wiring)
    assert len(wiring.prompts()) > 0 and len(wiring.constitution) > 0


@pytest.mark.parametrize("start", ["local", "server"])
def test_rates_suit_adapters_and_sampling_is_readable(begun, start: str) -> None:
    """Before: SFT at 1e-4 over one epoch, DPO at 5e-6, a reward model at 1e-5, all with LoRA; sampling at 1.0."""
    settings = begun(start).settings
    for training in (settings.sft, settings.reward, settings.optimise):
        assert training.lora == {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
    assert settings.sft.arguments == {"learning_rate": 2e-4, "num_train_epochs": 3}
    assert settings.reward.arguments["learning_rate"] == 1e-4
    assert settings.optimise.arguments["learning_rate"] == 1e-4
    critic = settings.critic or settings.policy
    assert {(role.temperature, role.top_p, role.max_tokens) for role in (settings.policy, critic)} == {(0.7, 0.9, 512)}


def test_a_local_judge_is_made_to_begin_with_a_letter(begun) -> None:
    settings = begun("local").settings
    assert settings.judge.answer_prefix == settings.evaluator.answer_prefix == "The better reply is ("
    assert settings.policy.answer_prefix == ""
    assert settings.judge.model == "models/policy" and settings.evaluator.model == "models/evaluator"
