"""A role that says nothing of how it samples does so as its model's generation_config.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service import settings as settings_module
from service.identity import run_key
from service.wiring import Wiring


def wiring(folder: Path, config: Any, **flags: Any) -> Wiring:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "generation_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return Wiring(settings_module.load(None, {"policy.model": str(folder), **flags})[0])


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "policy"


def test_what_is_not_set_follows_the_model_and_what_is_set_does_not(policy: Path) -> None:
    said = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20}
    found = wiring(policy, said).settings
    assert (found.policy.temperature, found.policy.top_p) == (0.6, 0.95)
    assert found.judge.temperature == 1.0  # it reads two letters
    found = wiring(policy, said, **{"policy.temperature": 1.0}).settings
    assert (found.policy.temperature, found.policy.top_p) == (1.0, 0.95)
    found = wiring(policy, said, **{"critic.temperature": 0.3}).settings
    assert found.critic is not None and (found.critic.temperature, found.critic.top_p) == (0.3, 0.95)


def test_the_runs_key_has_the_values_that_are_used(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "principles.yaml").write_text(
        "constitution: one\nversion: 1\nprinciples:\n"
        "  - {id: kind, title: Kind, critique: Is it rude?, revision: Be kind., comparison: Which is kinder?}\n"
    )
    followed = run_key("improve", wiring(policy, {"temperature": 0.6, "top_p": 0.95}), [])
    assert json.loads(followed)["settings"]["policy"] == {"model": str(policy), "temperature": 0.6, "top_p": 0.95}
    told = {"policy.temperature": 0.6, "policy.top_p": 0.95}
    spelled_out = json.loads(run_key("improve", wiring(policy, {}, **told), []))
    assert spelled_out["settings"]["policy"] == json.loads(followed)["settings"]["policy"]
    silent = run_key("improve", wiring(policy, {}), [])
    assert json.loads(silent)["settings"]["policy"] == {"model": str(policy)}


def test_an_adapter_samples_as_what_lies_below_it(policy: Path, tmp_path: Path) -> None:
    wiring(policy, {"temperature": 0.6})
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(policy)}))
    found = Wiring(settings_module.load(None, {"policy.model": str(adapter)})[0]).settings
    assert found.policy.temperature == 0.6


@pytest.mark.parametrize(
    "config",
    [
        "not json",
        "[]",
        "[" * 100_000,
        {"do_sample": False, "temperature": 0.6},
        {"temperature": None},
        {"temperature": 0.0},
        {"temperature": True},
        {"temperature": "0.6"},
        '{"temperature": NaN}',
        {"top_p": 1.5},
    ],
)
def test_a_configuration_that_says_nothing_of_use_changes_nothing(policy: Path, config: Any) -> None:
    found = wiring(policy, config).settings.policy
    assert (found.temperature, found.top_p) == (1.0, 1.0)


def test_the_sandbox_samples_as_it_did() -> None:
    root = Path(__file__).parents[2]
    given, _ = settings_module.load(root / "precept.toml", {})
    assert Wiring(given).settings == given
