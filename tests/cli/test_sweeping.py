"""What `precept sweep` and `precept train` make of their words, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.sweep import methods_of, rows_of
from constitution.errors import UserError
from service.actions.train import reward_spec

ROOT = Path(__file__).parents[2]
POLICY = str(ROOT / "sandbox" / "models" / "policy")


@pytest.mark.parametrize(
    ("names", "weights", "found"),
    [
        (["ppo"], ["0,0.05"], {"ppo": [0.0, 0.05]}),
        (["ppo", "rloo"], ["0.1"], {"ppo": [0.1], "rloo": [0.1]}),
        (["ppo", "dpo"], ["0.1", "dpo=0.5,1"], {"ppo": [0.1], "dpo": [0.5, 1.0]}),
        ([], ["dpo=1", "ppo=0", "ppo=0.2"], {"dpo": [1.0], "ppo": [0.0, 0.2]}),
        (["dpo", "kto"], [], {"dpo": [], "kto": []}),
        ([], ["0,1"], {"ppo": [0.0, 1.0]}),
    ],
)
def test_methods_and_their_weights(names: list[str], weights: list[str], found: dict[str, list[float]]) -> None:
    assert methods_of(names, weights) == found


def test_a_weight_that_is_no_number_is_told() -> None:
    with pytest.raises(UserError, match=r"--kl ppo=much: write numbers"):
        methods_of([], ["ppo=much"])


def test_what_a_reward_is_shows_in_how_it_is_written(tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in "ab"]
    for folder in folders:
        Path(folder).mkdir()
    assert reward_spec(folders) == {"kind": "model", "paths": folders}
    assert reward_spec(["mine:count"]) == {"kind": "function", "name": "mine:count"}
    assert reward_spec(["http://host/score"]) == {"kind": "http", "url": "http://host/score"}
    with pytest.raises(UserError, match="there is no such folder"):
        reward_spec(["nowhere"])
    with pytest.raises(UserError, match="an ensemble is of reward models' folders"):
        reward_spec([folders[0], "http://host"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "ppo"], "say with --reward what its answers are worth"),
        (["--method", "ppo", "--reward", "judge"], "name their file with --watch"),
        (["--method", "ppo", "--reward", "nowhere"], "there is no such folder"),
        (["--method", "rewards"], "there is no training method 'rewards'"),
    ],
)
def test_a_method_that_answers_itself_needs_a_reward(
    project: Path, precept: Any, words: list[str], message: str
) -> None:
    Path("asked.jsonl").write_text(json.dumps({"prompt": [{"role": "user", "content": "hello"}]}) + "\n")
    failed = precept("train", *words, "--data", "asked.jsonl", "--model", POLICY, "--out", "out")
    assert failed.code == 2 and message in failed.err and "Traceback" not in failed.err


def test_a_method_that_learns_from_rows_wants_no_reward(project: Path, precept: Any) -> None:
    row = {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    words = ["--method", "sft", "--data", "rows.jsonl", "--model", POLICY, "--out", "out", "--reward", "mine:count"]
    assert "leave out --reward" in precept("train", *words).err


def test_best_of_n_is_found_by_its_usual_name(project: Path, precept: Any) -> None:
    Path("asked.jsonl").write_text(json.dumps({"prompt": [{"role": "user", "content": "hello"}]}) + "\n")
    words = ["--method", "best-of-n", "--data", "asked.jsonl", "--model", POLICY, "--out", "out"]
    assert "best_of_n answers prompts itself" in precept("train", *words).err


def test_a_point_is_a_row_with_what_is_known() -> None:
    known: dict[str, Any] = {"gold_good": 0.5, "gold_harmful": 0.0, "gold_needless_refusal": 0.0, "gold_malformed": 0.1}
    point: dict[str, Any] = {
        "name": "ppo", "truth": known, "win_rate": {"mean": 0.75, "low": 0.7, "high": 0.8},
        "reward": {"mean": 1.5}, "kl": {"mean": 3.25},
        "surfaces": {"mean_tokens": 18.0}, "seconds": 61.4, "peak_memory_mb": 800, "watch_stopped": "kl over budget",
        "watch_kept_step": 5,
    }  # fmt: skip
    (row,) = rows_of([point])
    assert row[0] == "ppo (stopped, kept 5)"
    assert row[1] == "50.0%" and row[5:8] == ("0.750 (0.70 to 0.80)", "1.50", "3.25")
    (bare,) = rows_of([{**point, "truth": {}, "reward": None, "kl": None, "watch_stopped": ""}])
    assert bare[1] == bare[6] == bare[7] == "-"
