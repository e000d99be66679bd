"""What is asked of the service needs no terminal and no Prefect: every module of it is imported, and used, without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOREIGN = ("typer", "rich", "prefect", "torch", "transformers", "trl", "cli", "flows")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("actions", "queries")
    for path in (ROOT / "service" / folder).rglob("*.py")
    if path.stem != "__init__"
)


def in_a_process(code: str, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_all_of_it_brings_in_nothing_foreign() -> None:
    code = "import sys, importlib, json\n" + "\n".join(f"importlib.import_module({name!r})" for name in MODULES)
    assert in_a_process(f"{code}\nprint([name for name in {FOREIGN} if name in sys.modules])") == "[]\n"


PRINCIPLES = """\
constitution: one
version: 1
principles:
  - {id: kind, title: Kind, critique: Is it rude?, revision: Be kind., comparison: Which is kinder?}
"""
USED = """\
import json, sys
from pathlib import Path
from constitution import loading
from constitution.principles import Constitution
from service import settings
from service.actions import collect, data_files, exports, imports, promote, ratify, restore, resume
from service.queries import doctor, history, models, prompts, run_compare, runs
from service.queries import settings as known
from service.wiring import Wiring
from storage.store import Store

loaded, origins = settings.load(None, {"home": "home"})
store = Wiring(loaded).store
draft = loading.load("principles.yaml")
first = ratify.ratify(store, draft, None, "ada", "the first")
edited = Path("principles.yaml"); edited.write_text(edited.read_text().replace("kinder", "kindest"))
ratify.check_unchanged(edited, loading.load(edited), "abcdef")
second = ratify.ratify(store, loading.load(edited), first, "bob", "more so")
told = []
back = restore.restore(store, "1", edited, "eve", "it was too much", told.append)
assert [a.number for a in told] == [3] and "kinder" in edited.read_text()
Path("people.jsonl").write_text(json.dumps({"prompt": "q", "chosen": "x", "rejected": "y", "split": "train"}) + "\\n")
kept = imports.bring_in(store, imports.What.preferences, Path("people.jsonl"), loaded.splits)
done = exports.export(store, Path("out.jsonl"), kept.run, data_files.Format.preference, data_files.Split.train)
print(json.dumps({
    "log": [e.as_dict() for e in history.log(store)], "blame": [x.as_dict() for x in history.blame(store)],
    "restored": back.as_dict(), "kept": kept.as_dict(), "exported": done.as_dict(),
    "runs": [r.as_dict() for r in runs.runs(store)], "run": runs.show(store, kept.run).as_dict(),
    "compared": run_compare.compare(store, kept.run, kept.run).as_dict(),
    "models": [m.as_dict() for m in models.models(store)],
    "settings": [s.as_dict() for s in known.in_force(loaded, origins)],
    "doctor": doctor.look(None, {"home": "home"}).as_dict()["findings"][0],
    "collected": collect.collect(store, 0, dry_run=True).as_dict(),
    "foreign": [name for name in FOREIGN if name in sys.modules],
}))
"""


@pytest.mark.timeout(120)
def test_used_without_them_it_returns_what_json_holds(tmp_path: Path) -> None:
    (tmp_path / "principles.yaml").write_text(PRINCIPLES)
    (tmp_path / "precept.toml").write_text('[policy]\nkind = "scripted"\nmodel = "none.yaml"\n')
    found = json.loads(in_a_process(f"FOREIGN = ('typer', 'rich', 'prefect', 'cli', 'flows')\n{USED}", tmp_path))
    assert found["foreign"] == []
    assert [(e["who"], e["message"]) for e in found["log"]] == [
        ("eve", "it was too much"), ("bob", "more so"), ("ada", "the first"),
    ]  # fmt: skip
    assert {line["who"] for line in found["blame"]} >= {"eve"}
    assert found["restored"]["in_force"] and found["restored"]["ratified"] == 3
    assert found["kept"]["stored"] == {"prompts": 1, "pairs": 1, "preferences": 1}
    assert found["exported"]["rows"] == 1 and found["runs"][0]["kind"] == "import"
    assert found["doctor"]["what"] == "python" and found["models"] == []
