"""A command that only reads makes no file: not in a folder that is no project, and not in one whose store is not there
yet."""

from __future__ import annotations

from pathlib import Path

import pytest

READ = [
    "run list", "run show ab", "run report", "run compare ab cd", "run resume ab",
    "improve --dry-run",
    "constitution check", "constitution show", "constitution diff principles.yaml ratified", "constitution log",
    "constitution blame", "constitution restore ab -m why", "constitution amend other.yaml", "constitution lint",
    "constitution attribute", "constitution compare principles.yaml other.yaml",
    "review", "review agreement", "review disagreements",
    "model list", "model list --promotions", "model show ab", "model promote ab --why x",
    "model lineage promoted", "model merge ab out",
    "data export out.jsonl", "data import prompts none.jsonl",
    "store collect --dry-run",
    "settings", "settings explain seed", "doctor", "flow", "sandbox prompts", "sandbox truth none.jsonl",
    "score hello there", "train --method sft --data none.jsonl --model none --out out",
]  # fmt: skip


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


KNOWN = ("settings", "doctor", "sandbox", "train")  # what needs no project
BY_FILE = ["flow", "constitution check", "constitution show", "constitution diff principles.yaml ratified"]
BEGUN = ["retrain --base ab", "model evaluate ab", "judge pairs none.jsonl", "sweep", "flow respond"]


@pytest.mark.parametrize("words", [*READ, *BEGUN])
def test_in_a_folder_that_is_no_project(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precept) -> None:
    monkeypatch.chdir(tmp_path)
    told = precept(*words.split())
    assert files(tmp_path) == set()
    assert "Traceback" not in told.err and told.code in (0, 1, 2)
    if not words.startswith(KNOWN) and words not in BY_FILE:
        assert told.code == 2 and "there are no settings here, and nothing was written: `precept init`" in told.err


@pytest.mark.parametrize("words", READ)
def test_in_a_project_without_a_store(words: str, project: Path, precept) -> None:
    (project / "other.yaml").write_text((project / "principles.yaml").read_text().replace("Be kind", "Be very kind"))
    before = files(project)
    told = precept(*words.split())
    assert files(project) == before
    assert "Traceback" not in told.err and told.code in (0, 1, 2)
