"""`sandbox:policy`, a model in a package, is a name wherever a model is named; and judging a file needs no prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from constitution.errors import UserError
from sandbox.models import folder
from service import preflight
from service.actions.promote import merge
from service.actions.train import Order, job, reward_spec
from service.settings import load
from service.wiring import Wiring
from storage.store import Store
from tests.cli.test_told_at_once import FILES, ROWS


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)


@pytest.mark.parametrize("role", ["policy", "critic", "trained", "judge", "evaluator"])
def test_in_every_role_in_the_file_the_environment_and_flags(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {f"{role}.kind": "transformers", f"{role}.model": "sandbox:policy"}
    with Wiring(load(None, named)[0]).store:
        pass
    for name, value in named.items():
        monkeypatch.setenv(f"PRECEPT_{name.upper().replace('.', '__')}", value)
    Path("precept.toml").write_text(FILES["precept.toml"].replace("other.yaml", "script.yaml"))
    wiring = Wiring(load()[0])
    preflight.check("improve", wiring)
    assert wiring.resolve(getattr(wiring.settings, role).model) == str(folder("policy"))
    wiring.close()


def test_to_train_from_to_measure_and_as_what_rewards() -> None:
    order = Order("sft", Path("sft.jsonl"), "sandbox:policy", Path("out"))
    assert job(order, lambda: load()[0]).model == str(folder("policy"))
    assert (
        job(order, lambda: load()[0]).id
        == job(Order("sft", Path("sft.jsonl"), folder("policy"), Path("out")), lambda: load()[0]).id
    )
    flags = {
        "evaluate.candidate": "sandbox:evaluator",
        "trained.kind": "transformers",
        "trained.model": "sandbox:policy",
    }
    wiring = Wiring(load(None, flags)[0])
    preflight.check("evaluate", wiring)
    assert wiring.resolve(wiring.settings.evaluate.candidate) == str(folder("evaluator"))
    engine = {"kind": "transformers", "model": "sandbox:evaluator"}
    found = wiring.resolved_reward({"kind": "judge", "engine": engine})
    assert found["engine"]["model"] == str(folder("evaluator"))
    assert wiring.resolved_reward({"paths": "sandbox:policy"})["paths"] == [str(folder("policy"))]
    assert reward_spec(["sandbox:policy"]) == {"kind": "model", "paths": [str(folder("policy"))]}
    wiring.close()


def test_to_merge() -> None:
    with Store.open("sqlite:///runs/precept.db") as store:
        with pytest.raises(UserError, match="there is no adapter to merge"):
            merge(store, "sandbox:policy", Path("merged"))
        with pytest.raises(UserError, match="the sandbox has no model 'poet'"):
            merge(store, "sandbox:poet", Path("merged"))


def test_pairs_of_a_file_are_judged_without_prompts_or_a_policy(precept) -> None:
    Path("precept.toml").write_text('[judge]\nkind = "scripted"\nmodel = "script.yaml"\n')
    Path("script.yaml").write_text("rules: [{match: Reply A, choose: hash}]\n")
    found = precept("judge", "pairs", "pairs.jsonl", "--json", "--quiet")
    assert found.code == 0, found.err
    assert found.json["labels"]["count"] == 1
    again = precept("judge", "pairs", "pairs.jsonl", "--json", "--quiet")
    assert again.code == 0 and again.json["run"] == found.json["run"] and again.json["calls"]["chosen"] == 0
    assert json.loads(FILES["dpo.jsonl"]) == ROWS["dpo"]
