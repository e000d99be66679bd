"""What every kind of reward must offer, what is looked at in a spec early, and what is done to the numbers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constitution.errors import UserError
from pipeline import rewards
from pipeline.engines.engine import EngineError
from pipeline.rewards.checked import Checked, LengthLine
from pipeline.rewards.reward import Reward

HELLO = [{"role": "user", "content": "Hello."}]


class Fixed:
    """A reward that returns what it is given."""

    fingerprint = "fixed"

    def __init__(self, returned: Any) -> None:
        self.returned, self.closed = returned, False

    def score(self, prompts: Sequence[Any], answers: Sequence[str]) -> Any:
        if isinstance(self.returned, Exception):
            raise self.returned
        return self.returned

    def close(self) -> None:
        self.closed = True


def checked(returned: Any, penalty: float = 0.0, line: LengthLine | None = None) -> Checked:
    return Checked(Fixed(returned), "reward function a:b", "digest", penalty, line or LengthLine())


# --- the plug-ins ---


def test_the_kinds_are_found_by_looking_into_the_folder() -> None:
    assert rewards.kinds() == ["function", "http", "judge", "model", "rule"]


@pytest.mark.parametrize("kind", rewards.kinds())
def test_a_kind_keeps_the_contract(kind: str) -> None:
    module = rewards.load(kind)
    assert all(callable(getattr(module, name)) for name in ("build", "check", "fingerprint"))


def test_importing_every_kind_imports_no_torch() -> None:
    code = (
        "import sys; from pipeline import rewards; [rewards.load(kind) for kind in rewards.kinds()];"
        "print(sorted({'torch', 'transformers', 'trl'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "a reward needs a kind; there are function, http, judge, model"),
        ({"kind": "modle"}, "there is no kind of reward 'modle'; there are"),
        (
            {"kind": "model"},
            "reward .kind model.: paths: it has to be given, and is not; its options are",
        ),
        ({"kind": "model", "paths": []}, "paths: "),
        ({"kind": "model", "paths": "nowhere"}, "nowhere: there is no such model folder"),
        ({"kind": "function", "name": "no colon"}, "name: "),
        ({"kind": "function", "name": "nowhere.rules:f"}, "looking for nowhere.rules failed|there is no module"),
        ({"kind": "function", "name": "nowhere:f"}, "there is no module nowhere; put nowhere.py in the current"),
        ({"kind": "function", "name": "json:loads", "timeout": 0}, "timeout: "),
        ({"kind": "http", "url": "ftp://host/x"}, "url must begin with http:// or https://"),
        ({"kind": "http", "url": "http://me:secret@host/"}, "url holds a name or a password"),
        ({"kind": "http", "url": "http://host/", "api_key": "sk-1"}, "a key does not belong in a spec"),
        ({"kind": "function", "name": "json:loads", "length_penalty": -1}, "length_penalty: "),
        ({"kind": "function", "name": "json:loads", "length_penalty": float("nan")}, "length_penalty: "),
        ({"kind": "function", "name": "json:loads", "length_slope": 0.1}, "does nothing unless length_controlled"),
        (
            {"kind": "function", "name": "json:loads", "length_controlled": True},
            "this is a function; give length_slope",
        ),
    ],
)
def test_a_mistake_in_a_spec_is_told_early_in_one_message(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        rewards.check(spec)
    assert "sk-1" not in str(told.value)
    assert "me:secret" not in str(told.value)
    with pytest.raises(UserError, match=message):
        rewards.build(spec)


def test_the_fingerprint_covers_the_shaping_and_leaves_out_what_changes_no_number() -> None:
    spec = {"kind": "function", "name": "json:loads"}
    digest = rewards.fingerprint(spec)
    assert len(digest) == 32
    assert rewards.fingerprint({**spec, "timeout": 5, "length_penalty": 0.0}) == digest
    changed = [{"length_penalty": 0.1}, {"length_controlled": True, "length_slope": 0.1}, {"name": "json:dumps"}]
    assert len({digest, *(rewards.fingerprint({**spec, **change}) for change in changed)}) == 4
    assert rewards.build(spec).fingerprint == digest


# --- the checks ---


def test_a_checked_reward_is_a_reward_and_closes_what_it_was_built_around() -> None:
    reward = checked([1.5, 2])
    assert isinstance(reward, Reward)
    assert reward.score([HELLO, HELLO], ["a", "b"]) == [1.5, 2.0]
    reward.close()
    assert reward.inner.closed


@pytest.mark.parametrize("returned", [np.array([1.0, -2.0], np.float32), (1, -2), iter([1.0, -2.0]), [True, -2]])
def test_what_numpy_and_python_call_numbers_are_numbers(returned: Any) -> None:
    assert checked(returned).score([HELLO, HELLO], ["a", "b"]) == [1.0, -2.0]


def test_a_column_of_a_tensor_is_numbers() -> None:
    import torch

    assert checked(torch.tensor([[1.0], [-2.0]])).score([HELLO, HELLO], ["a", "b"]) == [1.0, -2.0]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([0.0], r"reward function a:b returned 1 rewards for 2 answers, the first of them to the prompt 'Hello.'"),
        ([0.0] * 3, "returned 3 rewards for 2 answers"),
        ([0.0, float("nan")], "returned nan for the answer 'b' to the prompt 'Hello.'; it must return a finite number"),
        ([float("-inf"), 0.0], "returned -inf for the answer 'a'"),
        ([0.0, None], "returned None for the answer 'b'"),
        (["1.0", 0.0], "returned '1.0' for the answer 'a'"),
        ([[1.0, 2.0], [3.0]], r"returned \[1.0, 2.0\] for the answer 'a'"),
        ([10**400, 0.0], "for the answer 'a'"),
        (None, r"returned None \(NoneType\), which is no list of numbers"),
        (0.5, r"returned 0.5 \(float\), which is no list"),
        ("ab", r"returned 'ab' \(str\), which is no list"),
        ({"a": 1.0, "b": 2.0}, "which is no list of numbers"),
        (EngineError("the server stopped answering"), "reward function a:b: the server stopped answering"),
    ],
)
def test_each_fault_is_one_message_with_the_reward_and_the_prompt(returned: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked(returned).score([HELLO, HELLO], ["a", "b"])


def test_a_long_text_is_cut_in_a_message_and_nothing_is_asked_of_no_answers() -> None:
    prompt = [{"role": "user", "content": "x" * 10_000}]
    with pytest.raises(UserError) as told:
        checked([float("nan")]).score([prompt], ["y" * 10_000])
    assert len(str(told.value)) < 400
    assert checked(RuntimeError("asked")).score([], []) == []


# --- shaping ---


def test_the_length_penalty_is_for_a_hundred_characters() -> None:
    assert checked([1.0, 1.0], penalty=0.5).score([HELLO, HELLO], ["", "x" * 200]) == [1.0, 0.0]


def test_length_control_takes_the_slope_out_and_leaves_the_mean() -> None:
    answers = ["x" * n for n in (10, 20, 30)]
    raw = [0.1 * len(answer) + extra for answer, extra in zip(answers, (1.0, 0.0, -1.0), strict=True)]
    shaped = checked(raw, line=LengthLine(0.1, 20.0)).score([HELLO] * 3, answers)
    assert shaped == pytest.approx([3.0, 2.0, 1.0])
    both = checked(raw, penalty=1.0, line=LengthLine(0.1, 20.0)).score([HELLO] * 3, answers)
    assert both == pytest.approx([2.9, 1.8, 0.7])


def test_a_given_slope_controls_any_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given_slope.py").write_text("def f(prompts, answers):\n    return [0.0] * len(answers)\n")
    spec = {"kind": "function", "name": "given_slope:f", "length_controlled": True, "length_slope": 0.25}
    assert rewards.build(spec).score([HELLO], ["1234"]) == [-1.0]
