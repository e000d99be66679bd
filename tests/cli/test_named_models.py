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
from tests.pipeline.packages import installed, write_package


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


def test_a_flow_of_a_package_that_takes_nothing_or_exits_is_one_message(tmp_path: Path, precept) -> None:
    modules = {"flowing.nothing": "def nothing(): return {}", "flowing.exits": "import sys; sys.exit(4)"}
    points = {"precept.flows": {"nothing": "flowing.nothing", "exits": "flowing.exits"}}
    package = r"(flowing.exits of the package flowing 1.0) cannot be imported: SystemExit: 4"
    with installed(write_package(tmp_path / "site", "flowing", points, modules)):
        for name, said in (("nothing", "the flow 'nothing' takes nothing; it must take file"), ("exits", package)):
            told = precept("flow", name)
            assert told.code == 2 and said in told.err and "Traceback" not in told.err
