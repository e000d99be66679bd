"""Which settings make another run, and which do not: a new setting, a moved port, a patience orphan none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from constitution.records import Message, Prompt
from service import settings as settings_module
from service.actions.resume import as_it_began
from service.identity import PATIENCE, RECORDED, determining, run_key
from service.settings import RoleSettings, Settings
from service.wiring import Wiring
from storage.runs import Run

ROOT = Path(__file__).parents[2]
REMOTE = {
    "policy.kind": "openai",
    "policy.model": "big",
    "policy.revision": "2026-11",
    "policy.base_url": "http://a:1/v1",
}


def keyed(**flags: Any) -> str:
    settings, _ = settings_module.load(ROOT / "precept.toml", {"constitution": str(ROOT / "principles.yaml"), **flags})
    prompts = [Prompt((Message("user", "Hi"),), "train", "test")]
    return run_key("improve", Wiring(settings), prompts)


def test_the_key_of_the_shipped_settings_is_pinned() -> None:
    """Changing it orphans every run of the sandbox: then a migration has to bring stored keys along."""
    key = json.loads(keyed())
    assert key["recipe"] == 2 and key["kind"] == "improve" and key["slot"] == ""
    assert key["settings"].keys() == {
        "oracle", "policy", "critic", "judge", "evaluator", "sft", "reward", "arguments", "label",
    }  # fmt: skip
    assert key["settings"]["policy"] == {"model": "sandbox:policy"}
    assert key["settings"]["critic"] == {"model": "sandbox:policy", "temperature": 0.5}
    assert key["settings"]["label"] == {"min_margin": 0.99}


@pytest.mark.parametrize(
    "moved",
    [
        {"policy.base_url": "http://b:2/v1"},
        {"policy.options": {"timeout": 3.0, "concurrency": 2}},
        {"policy.device": "cpu", "policy.batch_size": 3, "policy.api_key_env": "KEY"},
        {"home": "elsewhere", "store": "sqlite:///other.db", "threads": 1, "limits.max_calls": 3},
        {"retrain.on_ratify": True, "sweep.split": "heldout"},  # of other flows
    ],
)
def test_where_and_how_a_model_is_asked_is_no_other_run(moved: dict[str, Any]) -> None:
    assert keyed(**{**REMOTE, **moved}) == keyed(**REMOTE)


@pytest.mark.parametrize(
    "other",
    [
        {"policy.model": "bigger"}, {"policy.revision": "2026-12"}, {"policy.options": {"dialect": "chat"}},
        {"policy.temperature": 0.7}, {"seed": 1}, {"revise.rounds": 2}, {"slot": "2026-01-02"},
        {"arguments.dpo": {"beta": 0.2}}, {"judge.method": "longer"}, {"gate.min_spot_checks": 3},
    ],
)  # fmt: skip
def test_what_decides_a_result_is_another_run(other: dict[str, Any]) -> None:
    assert keyed(**{**REMOTE, **other}) != keyed(**REMOTE)


def test_every_setting_has_its_default_recorded() -> None:
    """Whoever adds a setting records its default, or every store's runs are orphaned."""
    assert determining(Settings().identity("retrain")) == {}
    assert determining(Settings().identity("sweep")) == {}
    missing = [name for name in Settings().identity() if name not in RECORDED]
    assert missing == []


def test_a_new_setting_at_its_default_changes_no_key() -> None:
    known = Settings().identity()
    newer = {**known, "revise": {**known["revise"], "self_check": False}}
    RECORDED["revise"]["self_check"] = False
    try:
        assert determining(newer) == determining(known)
        assert determining({**newer, "revise": {**newer["revise"], "self_check": True}}) != determining(known)
    finally:
        del RECORDED["revise"]["self_check"]


def test_a_default_that_changes_later_moves_no_run() -> None:
    """The key says what the value is where it is not the default of the time when the setting came."""
    assert determining({"evaluate": {"prompts": 600, "candidate": ""}}) == {}
    assert determining({"evaluate": {"prompts": 900, "candidate": ""}}) == {"evaluate": {"prompts": 900}}


def test_a_critic_of_its_own_is_not_the_policy() -> None:
    role = RoleSettings().model_dump(mode="json")
    assert determining({"critic": role}) == {"critic": {}} != determining({"critic": None})


def test_patience_is_what_the_engine_calls_so() -> None:
    from pipeline.engines.openai import Options
    from pipeline.engines.openai_transport import Patience

    assert set(PATIENCE) == set(Patience.model_fields) | {"concurrency", "prompts_per_request", "requests_in_flight"}
    assert set(PATIENCE) <= set(Options.model_fields)


def test_a_run_is_gone_on_with_where_its_server_is_now() -> None:
    """Its address and patience are those of today; what the model is asked is as it began."""
    options = {"dialect": "chat", "timeout": 9.0}
    then = settings_module.load(None, {**REMOTE, "policy.options": options})[0]
    now = settings_module.load(
        None, {**REMOTE, "policy.base_url": "http://b:2/v1", "policy.options": {"timeout": 90.0}, "seed": 5}
    )[0]
    begun = Run(
        b"r" * 16,
        json.dumps({"slot": ""}),
        "improve",
        {"settings": then.identity()},
        None,
        "stopped",
        "",
        None,
        None,
        None,
        None,
    )
    flags = as_it_began(begun, now, None)
    assert flags["policy"]["base_url"] == "http://b:2/v1" and flags["seed"] == 0
    assert flags["policy"]["options"] == {"dialect": "chat", "timeout": 90.0}
    assert determining(settings_module.load(None, flags)[0].identity()) == determining(then.identity())
    elsewhere = settings_module.load(None, {"policy.model": "folder"})[0]  # today's settings name no server
    assert as_it_began(begun, elsewhere, None)["policy"]["base_url"] == "http://a:1/v1"


def test_a_server_inside_a_judges_options_may_move_too() -> None:
    def options(url: str, seconds: float) -> dict[str, Any]:
        role = {"kind": "openai", "model": "large", "base_url": url, "options": {"timeout": seconds}}
        return {"judge.judge_options": {"second": role, "sure": 0.9}}

    assert keyed(**options("http://a:1/v1", 3.0)) == keyed(**options("http://b:2/v1", 9.0))
    assert keyed(**options("http://a:1/v1", 3.0)) != keyed(**{"judge.judge_options": {"sure": 0.9}})


def test_the_arguments_of_methods_that_a_run_does_not_use_are_no_part_of_it() -> None:
    assert keyed(**{"arguments.ppo": {"kl_coef": 0.5}}) == keyed()
    assert keyed(**{"arguments.dpo": {"beta": 0.5}}) != keyed()


def test_a_password_is_never_shown_whatever_is_in_it() -> None:
    shown = settings_module.redact("postgresql://u:s:ec@ret@host/db?sslmode=require&password=foo")
    assert shown == "postgresql://u:***@host/db?sslmode=require&password=***"
    assert settings_module.redact("sqlite:///runs/a@b.db") == "sqlite:///runs/a@b.db"


def test_a_file_that_was_edited_under_its_name_is_another_run(tmp_path: Path) -> None:
    """Its rows determine the result, and its name does not."""
    file = tmp_path / "people.jsonl"
    file.write_text('{"a": 1}\n')
    before = keyed(**{"reward.human": str(file)})
    assert keyed(**{"reward.human": str(file)}) == before
    file.write_text('{"a": 2}\n')
    assert keyed(**{"reward.human": str(file)}) != before
    suite = {"evaluate.suites": ["style", f"xstest:{file}"]}
    measured = keyed(**suite)
    file.write_text('{"a": 4}\n')
    assert keyed(**suite) != measured

    settings, _ = settings_module.load(ROOT / "precept.toml", {"pairs": str(file)})
    judged = run_key("judge", Wiring(settings), [])
    file.write_text('{"a": 3}\n')
    assert run_key("judge", Wiring(settings), []) != judged
    file.unlink()  # told of by whoever reads it
    run_key("judge", Wiring(settings), [])
