"""The wheel: what is in it, and that it runs the whole loop on the sandbox where there is no checkout.

It is installed into an environment of its own, which finds the libraries (not precept) of the one that runs the tests
through a `.pth` file: such a file only lengthens the path, so the editable install beside the libraries is not seen.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.prompts import prompts

ROOT = Path(__file__).parents[1]
NOT_SHIPPED = {"tests", "benchmarks"}
LEFT_BEHIND = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", "__pycache__", "*.egg-info", "build", "dist", "runs", ".hypothesis"
)
SMALL = (  # a run of seconds: it is to end, not to win
    *("prompts=prompts.jsonl", "policy.max_tokens=64", "critic.max_tokens=64", "threads=1"),
    *("revise.rounds=1", "compare.samples=2", "compare.pairs=1"),
    *("sft.arguments.max_steps=3", "reward.arguments.max_steps=3", "optimise.arguments.max_steps=3"),
)


def run(*command: object, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command with nothing of this process's that leads back to the checkout."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith(("PRECEPT_", "PREFECT_"))}
    return subprocess.run(
        [str(word) for word in command], cwd=folder, env=kept | environment, capture_output=True, text=True, timeout=280
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: building leaves files behind, and packs those that an earlier build left."""
    copy = tmp_path_factory.mktemp("source") / "precept"
    return Path(shutil.copytree(ROOT, copy, symlinks=True, ignore=LEFT_BEHIND))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    done = run(sys.executable, "-m", "pip", "wheel", *options, source, folder=folder)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("precept-*.whl")
    return built


def _packages(source: Path) -> set[str]:
    return {path.parent.name for path in source.glob("*/__init__.py")} - NOT_SHIPPED


def test_the_wheel_holds_every_file_of_every_package_and_no_other(wheel: Path, source: Path) -> None:
    folders = _packages(source)
    assert {"constitution", "pipeline", "storage", "flows", "sandbox"} <= folders
    files = {f.relative_to(source).as_posix(): f for p in folders for f in (source / p).rglob("*") if f.is_file()}
    with zipfile.ZipFile(wheel) as packed:
        about = {name for name in packed.namelist() if name.split("/")[0].endswith(".dist-info")}
        assert {name for name in packed.namelist() if name not in about} == set(files)
        for name, file in files.items():  # a link is packed as what it leads to
            assert packed.read(name) == file.read_bytes(), name
        (licence,) = (name for name in about if name.endswith("/licenses/LICENSE"))
        assert packed.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_what_an_installation_reads_beside_its_code_is_there(wheel: Path) -> None:
    """By name, so that a file that is moved out of the packages is missed here, not by somebody's first run."""
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
    for end in (
        *("sandbox/start/precept.toml", "sandbox/start/principles.yaml", "storage/migrations/env.py"),
        *(f"sandbox/models/{m}/{f}" for m in ("policy", "evaluator") for f in ("model.safetensors", "tokenizer.json")),
        *(f"constitution/starters/{name}.yaml" for name in ("assistant", "minimal", "support-desk")),
        "templates/report.html",
    ):
        assert any(name.endswith(end) for name in names), end
    assert any(name.startswith("storage/migrations/versions/v0001") for name in names)


@dataclass(frozen=True)
class Installed:
    """An environment that has precept from its wheel."""

    folder: Path
    prefect: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def precept(self, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        own = {"PREFECT_HOME": str(self.prefect), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
        return run(self.folder / "bin" / "precept", *words, folder=folder, OMP_NUM_THREADS="1", **own)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("environment")
    done = run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
    assert done.returncode == 0, done.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(
        "".join(f"{path}\n" for path in dict.fromkeys(sysconfig.get_path(p) for p in ("purelib", "platlib")))
    )
    options = ("--no-deps", "--no-index", "--ignore-installed")
    install = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", *options, wheel)
    done = run(*install, folder=folder)
    assert done.returncode == 0, done.stderr
    yield Installed(folder, tmp_path_factory.mktemp("prefect"))


IMPORTED = """
import importlib, importlib.metadata, json, sys
files = [importlib.import_module(name).__file__ for name in sys.argv[1:]]
print(json.dumps({"path": sys.path, "files": files, "version": importlib.metadata.version("precept")}))
"""


def test_what_is_imported_there_is_the_wheel(installed: Installed, source: Path, tmp_path: Path) -> None:
    done = run(installed.python, "-c", IMPORTED, *sorted(_packages(source)), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(Path(file).is_relative_to(installed.folder) for file in found["files"])
    assert str(ROOT) not in found["path"]
    assert (
        found["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    )


@pytest.mark.slow
def test_the_loop_runs_on_the_sandbox_in_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    begun = installed.precept("init", "mine", folder=tmp_path)
    assert begun.returncode == 0, begun.stderr
    mine = tmp_path / "mine"
    for name in ("precept.toml", "principles.yaml"):
        assert (mine / name).read_bytes() == (ROOT / name).read_bytes()

    checked = installed.precept("constitution", "check", folder=mine)
    assert checked.returncode == 0 and "no mistakes" in checked.stdout, checked.stderr
    doctor = json.loads(installed.precept("doctor", "--json", folder=mine).stdout)
    assert doctor["ok"], [f for f in doctor["findings"] if f["needed"] and not f["ok"]]
    assert any(f["found"].startswith(str(installed.folder)) for f in doctor["findings"])  # the models of the wheel

    rows = [
        {"prompt": [{"role": m.role, "content": m.content} for m in p.messages], "split": p.split, "tags": p.tags}
        for p in prompts(train=16, dev=0, heldout=10)
    ]
    (mine / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = installed.precept("improve", "--json", *(w for s in SMALL for w in ("--set", s)), folder=mine)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["labels"]["count"] > 0 and result["judge"]["gold_accuracy"] is not None
    assert Path(result["model"]).is_relative_to(mine) and (Path(result["model"]) / "model.safetensors").is_file()
    assert "</html>" in Path(result["report"]).read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_empty_folder_is_told_what_to_do(installed: Installed, tmp_path: Path) -> None:
    refused = installed.precept("improve", folder=tmp_path)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "precept " in refused.stderr  # the command that mends it
