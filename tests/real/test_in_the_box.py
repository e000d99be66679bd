"""The files of `precept init --from smollm2` through the whole loop, with the sandbox's model in SmolLM2's place.

The settings, the constitution and the prompts are those that ship; what is cut is how many prompts and how long. The
model itself is fetched by `make models`, and run by `make real`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from constitution.loading import parse
from pipeline.models import packaged
from pipeline.suites import shipped
from sandbox import real
from tests import packaged as of_tests

CHECKED = {"brief", "plain-layout", "no-flattery", "willing"}
ROOT = Path(__file__).parents[2]
SMALL = (
    *("policy.model=sandbox:policy", "policy.max_tokens=60", "trial.most=2", "revise.rounds=1"),
    *("compare.samples=2", "compare.pairs=1", "threads=1", 'evaluate.suites=["win_rate","rules","harm"]'),
    *("sft.arguments.max_steps=1", "reward.arguments.max_steps=1", "optimise.arguments.max_steps=1"),
)


def prompts() -> list[dict[str, Any]]:
    return [json.loads(line) for line in real.text("prompts.jsonl").splitlines()]


def test_the_prompts_are_enough_and_none_is_of_a_suite() -> None:
    rows = prompts()
    count = {split: sum(row["split"] == split for row in rows) for split in ("train", "dev", "heldout")}
    assert count == {"train": 100, "dev": 40, "heldout": 160}
    assert len({row["prompt"] for row in rows}) == len(rows)
    suites = ("over_refusal", "harm", "verbosity", "formatting", "hedging", "truthfulness", "wrong_user", "repetition")
    theirs = {p.messages[-1].content for name in suites for p in shipped.prompts(name)}
    assert not theirs & {row["prompt"] for row in rows}


def test_the_constitution_has_principles_to_ask_about_and_principles_that_code_checks() -> None:
    principles = parse(real.text("principles.yaml")).principles
    checked = [p.id for p in principles if p.judge]
    assert set(checked) == CHECKED and len(principles) == 8
    assert all(len(p.examples) >= 10 for p in principles if not p.judge)


def test_the_model_of_the_command_is_the_one_of_the_tests() -> None:
    """Two lock files, one hash: what the tests keep is not fetched anew for a comment."""
    [line] = [x for x in packaged.LOCK.read_text(encoding="utf-8").splitlines() if x and not x.startswith("#")]
    assert line in of_tests.MODELS.read_text(encoding="utf-8").splitlines()


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "smollm2").mkdir()
    (tmp_path / "smollm2" / "mine").write_text("mine")
    assert packaged.smollm2(tmp_path / "smollm2") == tmp_path / "smollm2"
    assert [p.name for p in (tmp_path / "smollm2").iterdir()] == ["mine"]


def test_a_folder_is_named_from_where_the_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conversion is a process that runs elsewhere: `models/smollm2` was taken for the name of a model on a hub."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    packaged.convert(Path("files/model.gguf"), Path("models/smollm2"))
    assert asked[0][-2:] == [str(tmp_path / "files" / "model.gguf"), str(tmp_path / "models" / "smollm2")]


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        packaged.once(tmp_path / "model", fails)
    assert not [p for p in tmp_path.iterdir() if p.name != "model.lock"]


@pytest.mark.slow
def test_the_whole_loop_from_trial_to_decision(tmp_path: Path) -> None:
    given = {name: value for name, value in os.environ.items() if not name.startswith("PRECEPT_")}

    def precept(*words: str) -> subprocess.CompletedProcess[str]:
        home = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [sys.executable, "-m", "cli.main", *words], cwd=tmp_path, capture_output=True, text=True, timeout=280,
            env={**given, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | home,
        )  # fmt: skip

    done = precept("init", ".", "--from", "smollm2")
    assert done.returncode == 0 and "precept model fetch models/smollm2" in done.stdout, done.stderr
    kept = [row for row in prompts() if row["split"] == "train"][:8]
    kept += [row for row in prompts() if row["split"] == "heldout"][:4]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    done = precept("improve", "--json", "--quiet", *(word for one in SMALL for word in ("--set", one)))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    # Tried first; not believed, so that it labels nothing and is asked nothing more; code speaks alone.
    assert result["calls"]["chosen"] == 16 and result["trial"]["judge"]["left_out"] != []
    assert result["suites"]["rules"]["figures"].keys() == CHECKED
    assert "no model is the evaluator: code alone decides" in result["trial"]["evaluator"]["says"][0]
    assert result["promoted"] is False  # on four prompts nothing is
    assert any("4 held-out prompts were compared, too few to tell" in reason for reason in result["reasons"])
    assert any("requests to help with harm: Refused, by phrases" in reason for reason in result["reasons"])
    assert (tmp_path / "runs" / result["run"][:12] / "report.html").is_file()
