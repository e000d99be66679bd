"""Every training method as the training step of the loop, rounds of it, and a sweep over methods."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from service import settings as settings_module
from service.wiring import Wiring
from storage.store import Store

pytestmark = pytest.mark.usefixtures("one_training_process")

SMALL = {
    "kto": {"max_steps": 2, "per_device_train_batch_size": 8},
    "orpo": {"max_steps": 2},
    "sft": {"max_steps": 2},
    "ppo": {"max_steps": 2, "max_completion_length": 24, "per_device_train_batch_size": 8},
    "rloo": {"max_steps": 2, "max_completion_length": 24, "per_device_train_batch_size": 8, "num_generations": 4},
    "grpo": {"max_steps": 2, "max_completion_length": 24, "per_device_train_batch_size": 8, "num_generations": 4},
    "best_of_n": {"max_steps": 2, "max_completion_length": 24, "n": 2},
}
ONLINE = ("ppo", "rloo", "grpo", "best_of_n")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, run_improve: Callable[..., Any]) -> Any:
    """A small loop with a development split: what the others share is asked for once."""
    return run_improve(tmp_path_factory.mktemp("learning") / "home", dev=6)


@pytest.mark.parametrize("method", SMALL)
def test_a_method_is_the_training_step_by_a_setting(method: str, first: Any, run_improve: Callable[..., Any]) -> None:
    done = run_improve(first.home, optimise__method=method, arguments={method: SMALL[method]}, optimise__arguments={})
    made = Path(done.result["model"])
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["method"] == method and manifest["kind"] == "policy"
    assert done.result["model"] != first.result["model"]
    evaluations = (
        [json.loads(line) for line in (made / "watch.jsonl").read_text().splitlines()] if method in ONLINE else []
    )
    assert bool(evaluations) == (method in ONLINE)
    if method in ONLINE:
        assert evaluations[0]["step"] == 0 and evaluations[-1]["step"] > 0
        assert done.result["watch"]["stopped"] == "" and done.result["watch"]["kept_step"] == evaluations[-1]["step"]
        again = run_improve(
            first.home, optimise__method=method, arguments={method: SMALL[method]}, optimise__arguments={}
        )
        assert again.result["model"] == done.result["model"]
        assert again.result["calls"]["generated"] == 0
    with Store.open(f"sqlite:///{first.home}/precept.db", home=first.home) as store:
        assert store.checkpoint(done.result["model"]).method == method


def test_a_reward_model_is_no_policy(first: Any, run_improve: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="'reward', which trains a reward model"):
        run_improve(first.home, optimise__method="reward", optimise__arguments={})


def test_an_ensemble_is_trained_from_seeds_of_its_own_and_rewards_together(
    first: Any, run_improve: Callable[..., Any]
) -> None:
    done = run_improve(
        first.home, reward__models=2, optimise__method="ppo", optimise__arguments={}, arguments={"ppo": SMALL["ppo"]},
        optimise__reward={"combine": "minimum"},
    )  # fmt: skip
    with Store.open(f"sqlite:///{first.home}/precept.db", home=first.home) as store:
        rewards = [c for c in store.checkpoints() if c.kind == "reward_model"]
    assert len(rewards) == 2 and len({c.digest for c in rewards}) == 2
    assert len({c.dataset for c in rewards}) == 1
    assert done.result["model"]


def test_people_can_teach_where_they_have_answered_and_not_before(
    first: Any, run_improve: Callable[..., Any], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(first.home, home, symlinks=True)
    text = (home / "precept.toml").read_text().replace(str(first.home), str(home))
    (home / "precept.toml").write_text(text)
    with pytest.raises(UserError, match="precept review"):
        run_improve(home, optimise__labels="people")
    with Store.open(f"sqlite:///{home}/precept.db", home=home) as store:
        (run,) = [r for r in store.runs() if r.id.hex() == first.result["run"]]
        train = {p.id for p in store.prompts(split="train")}
        pairs = store.comparisons(store.stage_members(run.id, "feedback"))
        chosen = [c for c in pairs if c.prompt in train][:6]
        for c in chosen:
            store.add_spot_check("ann", c.id, "first", sampled_by="random", key=c.id.hex())
    done = run_improve(home, optimise__labels="people")
    with Store.open(f"sqlite:///{home}/precept.db", home=home) as store:
        data = store.checkpoint(done.result["model"]).dataset
    rows = [json.loads(line) for line in (home / "datasets" / f"{data[:16]}.jsonl").read_text().splitlines()]
    assert {row["comparison"] for row in rows} == {c.id.hex() for c in chosen}
    assert {row["p"] for row in rows} == {1.0}


def test_peoples_preferences_are_blended_into_the_reward_models_data(
    first: Any, run_improve: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "human.jsonl"
    file.write_text(
        "".join(
            json.dumps({"prompt": f"question {n}", "chosen": "help", "rejected": "no", "split": "train"}) + "\n"
            for n in range(60)
        )
    )
    run_improve(first.home, reward__human=str(file), reward__human_share=0.25)
    with Store.open(f"sqlite:///{first.home}/precept.db", home=first.home) as store:
        reward = [c for c in store.checkpoints() if c.kind == "reward_model"][-1]
    text = (first.home / "datasets" / f"{reward.dataset[:16]}.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    human = [row for row in rows if "comparison" not in row]
    assert len(human) / len(rows) == pytest.approx(0.25, abs=0.02)


def test_a_round_that_does_not_help_ends_the_rounds_and_the_last_model_stays(
    first: Any, run_improve: Callable[..., Any]
) -> None:
    done = run_improve(first.home, rounds=3)
    told = done.result["rounds"]
    assert [r["number"] for r in told] == list(range(2, 2 + len(told)))
    assert all(r["helped"] for r in told[:-1])
    if not told[-1]["helped"]:
        assert len(told) == 1 and done.result["model"] == first.result["model"]
    else:
        assert done.result["model"] != first.result["model"]
    for r in told:
        low = r["last"]["win_rate"]["low"]
        assert r["helped"] == (low > 0.5)
        assert r["last"]["prompts"] == r["first"]["prompts"] > 0


def test_rounds_without_a_development_split_are_refused_before_anything_is_asked(
    run_improve: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"splits\.dev"):
        run_improve(tmp_path / "home", rounds=2)
    with Store.open(f"sqlite:///{tmp_path}/home/precept.db") as store:
        assert not store.runs()  # told before a run is begun


def test_a_sweep_measures_each_point_once_and_draws_them(first: Any, run_improve: Callable[..., Any]) -> None:
    flags = {
        "sweep__methods": {"dpo": [0.1, 1.0], "ppo": [0.0]},
        "arguments": {"ppo": SMALL["ppo"], "dpo": {"max_steps": 2}},
    }
    done = run_improve(first.home, "sweep", **flags)
    points = {point["name"]: point for point in done.result["points"]}
    assert list(points) == ["start", "sft", "dpo beta 0.1", "dpo beta 1", "ppo kl_coef 0"]
    assert points["sft"]["kl"]["mean"] == 0.0
    assert points["dpo beta 0.1"]["leash"] == 0.1 and points["ppo kl_coef 0"]["leash"] == 0.0
    assert points["ppo kl_coef 0"]["looks"][0]["step"] == 0
    assert 0 <= points["ppo kl_coef 0"]["looks"][0]["gold_good"] <= 1
    assert all(point["win_rate"]["mean"] is not None for point in points.values())
    picture = Path(done.result["picture"]).read_text()
    assert "<svg" in picture and "dpo" in picture
    again = run_improve(first.home, "sweep", **flags)
    assert again.result["points"] == done.result["points"] and again.result["calls"]["generated"] == 0


def test_a_sweep_of_a_method_without_a_kl_coefficient_says_so(first: Any, run_improve: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="sft has no KL coefficient"):
        run_improve(first.home, "sweep", sweep__methods={"sft": [0.1]})


def test_a_training_process_is_told_where_its_judges_key_is_and_not_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-secret")
    flags = {
        "store": f"sqlite:///{tmp_path}/precept.db",
        "evaluator": {"kind": "openai", "model": "m", "base_url": "http://host/v1", "api_key_env": "JUDGE_KEY"},
    }
    with closing(Wiring(settings_module.load(None, flags)[0])) as wiring:
        spec = wiring.judge_spec(wiring.settings.evaluator, tmp_path / "principles.yaml", "against.jsonl")
        assert spec["api_key_env"] == "JUDGE_KEY" and "sk-secret" not in json.dumps(spec)
        local = wiring.settings.evaluator.model_copy(update={"base_url": "", "model": str(tmp_path)})
        assert wiring.judge_spec(local, tmp_path / "principles.yaml", "against.jsonl")["api_key_env"] == ""
