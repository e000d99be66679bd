"""What every training method must offer, and what importing the package must not cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from constitution.errors import UserError
from pipeline import trainers


def test_the_methods_are_found_by_looking_into_the_folder() -> None:
    assert {"dpo", "reward", "sft"} <= set(trainers.methods())
    assert not {"trainer", "checkpoint", "runner", "fitting", "worker"} & set(trainers.methods())


@pytest.mark.parametrize("name", trainers.methods())
def test_a_method_keeps_the_contract(name: str) -> None:
    method = trainers.load(name)
    assert method.KIND in ("policy", "reward_model")
    assert "prompt" in method.COLUMNS
    assert method.DEFAULTS.get("report_to", "none") == "none"
    assert callable(method.train)


def test_given_arguments_stand_over_the_defaults() -> None:
    assert trainers.resolve("dpo", {"beta": 0.5})["beta"] == 0.5
    assert trainers.resolve("dpo", {})["beta"] == 0.1


def test_an_unknown_method_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"no training method 'drpo'; there are .*dpo.*sft"):
        trainers.load("drpo")


def test_asking_for_defaults_imports_neither_torch_nor_trl() -> None:
    code = (
        "import sys; from pipeline import trainers; [trainers.resolve(m, {}) for m in trainers.methods()];"
        "import pipeline.models.checkpoint;"
        "print(sorted({'torch', 'transformers', 'trl', 'datasets'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
