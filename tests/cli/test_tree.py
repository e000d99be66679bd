"""The tree of commands: panels, version, completion, groups that fall back, and the names of earlier versions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer

from cli import completing, main
from cli.aliases import NAMES
from cli.tree import PANELS
from tests.cli.test_checkpoints import make_checkpoint

ROOT = Path(main.__file__).parents[1]
TREE = typer.main.get_command(main.app)


def test_the_help_shows_every_command_in_its_panel_and_no_old_name(precept, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shown = precept("--help").out
    titles = re.findall(r"^╭─ (.+?) ─", shown, re.MULTILINE)
    assert titles == ["Options", *PANELS]
    listed = re.findall(r"^│ ([a-z-]+) ", shown, re.MULTILINE)
    assert [name for name in listed if not name.startswith("-")] == [
        "init", "improve", "retrain", "run", "schedule", "constitution", "judge", "review", "console", "train", "sweep",
        "score", "model", "engine", "data", "store", "doctor", "flow", "settings", "sandbox",
    ]  # fmt: skip
    hidden = {name for name, command in TREE.commands.items() if command.hidden}  # type: ignore[attr-defined]
    assert hidden == {*NAMES, "promote"}


def test_the_version(precept) -> None:
    done = precept("--version")
    assert (done.code, done.out, done.err) == (0, f"precept {version('precept')}\n", "")


def test_version_needs_no_command_and_no_command_shows_help(precept) -> None:
    assert "Usage: precept" in precept().out + precept().err


def test_an_option_means_one_thing_wherever_it_is() -> None:
    def every(command: object, path: str = "") -> list[tuple[str, object]]:
        nested = getattr(command, "commands", None)
        if nested is None:
            return [(path, parameter) for parameter in command.params]  # type: ignore[attr-defined]
        return [found for name, each in nested.items() if not each.hidden for found in every(each, f"{path} {name}")]

    helps: dict[str, dict[str, str]] = {"--run": {}, "--set": {}, "--from": {}}
    for path, parameter in every(TREE):
        for name in set(parameter.opts) & helps.keys():  # type: ignore[attr-defined]
            if not getattr(parameter, "hidden", False):
                helps[name][path.strip()] = parameter.help  # type: ignore[attr-defined]
    assert all("by the first digits of its id" in help for help in helps["--run"].values()), helps["--run"]
    assert set(helps["--set"].values()) == {"One setting, as in revise.rounds=2; repeatable."}
    assert "train" not in helps["--set"] and set(helps["--from"]) == {"init", "retrain", "constitution new"}


# --- the names of before -----------------------------------------------------------------------------------------


def options(command: object) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}  # type: ignore[attr-defined]


TODAY = {  # of each old name, the options that it had, and no other command of today has to keep
    "amend": "--sample --dry-run --ratify --message --reviewed --made-from --merge --retrain --run --markdown --json",
    "attribution": "--constitution --run --json",
    "compare-constitutions": "--run --train --picture --json",
    "agreement": "--run --json",
    "evaluate": "--max-calls --max-tokens --max-cost --json --quiet",
    "lineage": "--back --forward --picture --json",
    "report": "--open --settings",
    "export": "--format --run --split --json",
    "import": "--skip-bad --json",
    "respond": "--set --max-calls --json",
    "revise": "--set --max-calls --json",
    "promote": "--why --rollback --list --merge --json",
}


@pytest.mark.parametrize("name", TODAY)
def test_an_old_name_has_the_options_it_had(name) -> None:
    assert set(TODAY[name].split()) <= options(TREE.commands[name])  # type: ignore[attr-defined]


def test_no_old_name_is_forgotten() -> None:
    assert set(TODAY) == {*NAMES, "promote"}


CALLS = [  # an old command line, the one of today, what the hint names
    (["export", "out.jsonl"], ["data", "export", "out.jsonl"], "data export"),
    (
        ["import", "prompts", "prompts.jsonl", "--json"],
        ["data", "import", "prompts", "prompts.jsonl", "--json"],
        "data",
    ),
    (["agreement", "--json"], ["review", "agreement", "--json"], "review agreement"),
    (["attribution", "--json"], ["constitution", "attribute", "--json"], "constitution attribute"),
    (["lineage", "ratified"], ["model", "lineage", "ratified"], "model lineage"),
    (["report"], ["run", "report"], "run report"),
    (["amend", "principles.yaml"], ["constitution", "amend", "principles.yaml"], "constitution amend"),
    (
        ["compare-constitutions", "1", "principles.yaml", "--json"],
        ["constitution", "compare", "1", "principles.yaml", "--json"],
        "constitution compare",
    ),
    (["promote", "--list", "--json"], ["model", "list", "--promotions", "--json"], "model promote"),
]


@pytest.mark.parametrize(("old", "new", "hint"), CALLS, ids=lambda words: " ".join(words)[:30])
def test_an_old_name_does_what_the_new_one_does(store, labelled, precept, old, new, hint) -> None:
    store.ratify(labelled.run.constitution, "ada", "agreed", key="k")
    before, after = precept(*old), precept(*new)
    assert (before.code, before.out) == (after.code, after.out)
    said, _, rest = before.err.partition("\n")
    assert said.startswith(f"precept {old[0]} is now: precept {hint}")
    assert rest == after.err


@pytest.mark.parametrize(
    ("old", "new"), [("evaluate", "model evaluate"), ("respond", "flow respond"), ("revise", "flow revise")]
)
def test_an_old_name_of_a_flow_runs_it(project, precept, monkeypatch, old, new) -> None:
    """Without its flow: what it is called with."""
    ran = []

    def run_flow(name: str, *rest: object) -> None:
        ran.append((name, *rest))
        raise typer.Exit(7)

    monkeypatch.setattr("cli.models.run_flow", run_flow)
    monkeypatch.setattr("cli.flow.run_flow", run_flow)
    more = ["promoted"] if old == "evaluate" else []
    done = precept(old, *more, "--max-calls", "3", "--quiet")
    assert done.code == 7 and done.err == f"precept {old} is now: precept {new}\n"
    flags = {"limits.max_calls": 3} | ({"evaluate.candidate": "promoted"} if more else {})
    assert ran == [(old, None, flags, True, False)]


def test_promote_rolls_back_as_it_did(store, precept) -> None:
    one, _ = make_checkpoint(store, "one"), make_checkpoint(store, "two")
    for name in ("one", "two"):
        assert precept("promote", name, "--why", "good").out.startswith("promoted ")
    assert precept("promote", "--rollback", "--why", "bad", "--json").json["digest"] == one.digest
    assert store.promoted() == one
    assert precept("promote", "one", "--rollback", "--why", "x").code == 2
    assert precept("promote", "--rollback", "--merge", "out", "--why", "x").code == 2


# --- groups that fall back ---------------------------------------------------------------------------------------


def test_judge_and_schedule_take_what_they_took_before(project, precept, monkeypatch) -> None:
    ran = []

    def run_flow(name: str, file: object, flags: dict, *_: object) -> None:
        ran.append((name, flags))
        raise typer.Exit(7)

    monkeypatch.setattr("cli.judging.run_flow", run_flow)
    for words in (["judge", "mine.jsonl", "-q"], ["judge", "-q", "mine.jsonl"]):
        done = precept(*words)
        assert done.code == 7 and done.err == "precept judge FILE is now: precept judge pairs\n"
    assert precept("judge", "pairs", "mine.jsonl").err == ""
    assert ran == [("judge", {"pairs": "mine.jsonl"})] * 3

    done = precept("schedule", "retrain")
    assert done.code == 2 and "say when it is to run" in done.err
    assert done.err.startswith("precept schedule FLOW is now: precept schedule add\n")
    assert "no flow 'none'" in precept("schedule", "none", "--cron", "0 2 * * *").err


def test_review_and_settings_alone_are_their_first_command(store, labelled, precept, monkeypatch) -> None:
    assert precept("settings").out == precept("settings", "show").out
    assert precept("settings", "--json").err == ""
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115, PTH123 - pytest closes it
    answered = precept("review", "--by", "ada", "-n", "1")
    assert answered.code == 0 and "reviewing as ada" in answered.out and answered.err == ""


@pytest.mark.parametrize("group", ["judge", "schedule", "review", "settings", "run", "model"])
def test_a_groups_help_lists_its_commands(precept, group) -> None:
    shown = precept(group, "--help").out
    for name in TREE.commands[group].commands:  # type: ignore[attr-defined]
        assert re.search(rf"^│ {name} ", shown, re.MULTILINE)


# --- completion --------------------------------------------------------------------------------------------------


def complete(folder: Path, line: str) -> tuple[list[str], str]:
    """What bash is offered at the end of a line, and the heavy modules that were imported for it."""
    words = line.split(" ")
    code = (
        "import sys, atexit; from cli import main\n"
        "heavy = ('prefect', 'torch', 'transformers', 'sqlalchemy', 'numpy', 'ruamel')\n"
        "atexit.register(lambda: print([m for m in heavy if m in sys.modules], file=sys.stderr))\n"
        "main.run([])"
    )
    environment = {
        **os.environ, "_PRECEPT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1),
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    return done.stdout.split(), done.stderr.strip()


def test_a_shell_is_offered_commands_runs_checkpoints_settings_and_principles(project) -> None:
    for folder in ("0123456789ab", "checkpoints/dpo-0123456789abcdef", "checkpoints/dpo-01.partial", "datasets"):
        (project / "runs" / folder).mkdir(parents=True)
    assert complete(project, "precept mod") == (["model"], "[]")
    assert complete(project, "precept run show ") == (["0123456789ab"], "[]")
    assert complete(project, "precept model show dpo") == (["dpo-0123456789abcdef"], "[]")
    assert complete(project, "precept settings explain gate.min_w") == (["gate.min_win_rate"], "[]")
    assert complete(project, "precept improve --set retrain.top") == (["retrain.top_up="], "[]")
    assert complete(project, "precept constitution show principles.yaml k") == (["kind"], "[]")
    assert set(complete(project, "precept judge ")[0]) == {"pairs", "trial"}
    assert complete(project, "precept review start --samp")[0] == ["--sample"]


def test_nothing_is_offered_where_nothing_is(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precept.toml").write_text("home = [not toml")
    assert completing.runs("") == [] and completing.principles("") == []
    assert completing.checkpoints("") == ["promoted"]
