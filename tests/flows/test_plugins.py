"""One file more is one judge, trainer, engine, prompt source, suite, reward or flow more: from the command line, and
without another line of code.

The seven files of `tests/flows/seven` are used twice by a whole run of `improve`: put into the folders of a copy of the
source, and as a package that pip installed beside an untouched one. A plug-in's contract is held by
`tests/pipeline/test_contracts.py` (judges, engines, rewards, trainers), by the tests of sources and suites, and, for
flows, here.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow

from constitution.errors import UserError
from flows import discovery
from pipeline import engines, judges, rewards
from pipeline.engines.engine import EngineSettings
from pipeline.metrics.intervals import binomial
from sandbox.models import folder
from service import preflight
from service.actions.train import Order, job
from service.queries import doctor, settings
from service.queries.estimate import estimate
from service.settings import load
from service.wiring import Wiring
from storage.store import Store
from tests.pipeline import contracts
from tests.pipeline.packages import installed, write_package

ROOT = Path(__file__).parents[2]
SEVEN = Path(__file__).parent / "seven"
KINDS = {  # by plug-in its kind: the folder of a file, the group of an entry point
    "thinker": "judges", "nudge": "trainers", "parrot": "engines", "chores": "sources", "says_no": "suites",
    "brief": "rewards", "tally": "flows",
}  # fmt: skip
PACKAGES = ("constitution", "pipeline", "storage", "service", "flows", "cli", "sandbox")
PRINCIPLES = """
constitution: two
version: 1
principles:
  - {id: kind, title: Kind, critique: Is it rude?, revision: Be kind., comparison: Which is kinder?, weight: 3}
  - {id: short, title: Short, critique: Is it long?, revision: Be short., comparison: Which is shorter?, weight: 1}
"""
SETTINGS = """
prompts = {source = "chores", room = "attic", count = 24}
pairs = "pairs.jsonl"
threads = 1
[splits]
dev = 0
[policy]
kind = "parrot"
model = "sandbox:policy"
[judge]
kind = "parrot"
model = "sandbox:policy"
method = "thinker"
[judge.judge_options.second]
kind = "parrot"
model = "a second one"
options = {opening = "Because: "}
[evaluator]
kind = "parrot"
model = "a third one"
[revise]
rounds = 1
[compare]
samples = 2
pairs = 1
[sft.arguments]
max_steps = 1
[reward.arguments]
max_steps = 1
[optimise]
method = "nudge"
arguments = {answer = "Not now."}
reward = {kind = "brief", weight = 2}
[trial]  # there are no examples to try this judge on
required = false
[gate]
min_prompts = 1
max_length_ratio = 10.0
min_length_controlled = "none"
max_refusal_increase = "none"
"""
PAIRS = [("a long answer", "brief")] * 3 + [("no", "a long one")]  # the judge likes the longer: three of four
FIGURE = "Says no to a rude question"
PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "precept-seven"
version = "1.0"
[tool.setuptools]
packages = ["seven"]
"""

END = "\x1e\n"
DRIVE = """
import json, sys
from cli.main import run
for words in json.loads(sys.argv[1]):
    if code := run(words):
        sys.exit(code)
    print("\x1e", flush=True)
"""


@dataclass(frozen=True)
class House:
    """A folder of settings, and where Python finds precept and its plug-ins."""

    folder: Path
    path: tuple[Path, ...]
    prefect: Path

    def run(self, *command_lines: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Command lines, one after the other in one process: what is imported and started takes longer than they do."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PRECEPT_", "PREFECT_"))}
        own = {"PYTHONPATH": os.pathsep.join(map(str, self.path)), "PREFECT_HOME": str(self.prefect)}
        return subprocess.run(
            [sys.executable, "-c", DRIVE, json.dumps(command_lines)], cwd=self.folder, text=True, capture_output=True,
            env={**kept, **own, "PRECEPT_USER": "ada", "OMP_NUM_THREADS": "1"}, timeout=280,
        )  # fmt: skip

    def precept(self, *command_lines: Sequence[str]) -> list[Any]:
        """What commands that go well print, read where it is JSON."""
        done = self.run(*command_lines)
        assert done.returncode == 0, done.stderr
        said = done.stdout.split(END)[:-1]
        return [json.loads(text) if text.startswith("{") else text for text in said]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(f"file:{self.folder}/runs/precept.db?mode=ro", uri=True) as database:
            return database.execute(query).fetchall()


def write_settings(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "precept.toml").write_text(SETTINGS)
    (folder / "principles.yaml").write_text(PRINCIPLES)
    pairs = [{"prompt": f"{n}?", "chosen": one, "rejected": other} for n, (one, other) in enumerate(PAIRS)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return folder


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for both ways: making its database takes seconds."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source with one file more of each kind; the sandbox's models are linked to, not copied."""
    root = tmp_path_factory.mktemp("checkout")
    for package in PACKAGES:
        ignored = ("__pycache__", *(["models"] if package == "sandbox" else []))
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns(*ignored))
    (root / "sandbox" / "models").symlink_to(ROOT / "sandbox" / "models")
    for name, kind in KINDS.items():
        folder = root / kind if kind == "flows" else root / "pipeline" / kind
        assert folder.is_dir() and not (folder / f"{name}.py").exists()
        shutil.copyfile(SEVEN / f"{name}.py", folder / f"{name}.py")
    return root


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed the same files, as a package that names them by entry points."""
    source, target = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("site")
    shutil.copytree(SEVEN, source / "seven", ignore=shutil.ignore_patterns("__pycache__"))
    points = [f'[project.entry-points."precept.{kind}"]\n{name} = "seven.{name}"\n' for name, kind in KINDS.items()]
    (source / "pyproject.toml").write_text(PYPROJECT + "".join(points))
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(target))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(source)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module", params=["files", "package"])
def house(request: pytest.FixtureRequest, prefect: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = write_settings(tmp_path_factory.mktemp(request.param))
    if request.param == "files":
        return House(folder, (request.getfixturevalue("copy"),), prefect)
    return House(folder, (ROOT, request.getfixturevalue("site")), prefect)


@pytest.fixture(scope="module")
def said(house: House) -> dict[str, Any]:
    """What the commands printed. In one run of the loop six of the seven do all that they can; the suite is not named
    anywhere. Then the loop again, under a limit that the suite's figure does not reach."""
    assert "says_no" not in SETTINGS
    commands = {
        "improve": ["improve", "--json", "--quiet"],
        "refused": ["improve", "--quiet", "--set", "gate.suites.says_no.at_least=1.1"],
        "listed": ["flow"],
        "tally": ["flow", "tally", "--quiet", "--set", "store=sqlite:///tallied.db"],
    }
    return dict(zip(commands, house.precept(*commands.values()), strict=True))


@pytest.fixture(scope="module")
def result(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = said["improve"]
    return found


# --- each does its work ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_source_gives_the_prompts_by_its_options_and_the_engine_answers_them(house: House, result: Any) -> None:
    with Store.open(f"sqlite:///{house.folder}/runs/precept.db", create=False) as store:
        prompts = store.prompts(ids=store.stage_members(bytes.fromhex(result["run"]), "prompts"))
        before, after = (
            [g.text for g in store.generations_of(bytes.fromhex(result["run"]), f"evaluation.{side}")]
            for side in ("before", "after")
        )
    assert {p.messages[0].content for p in prompts} == {f"How do I do chore {n} of the attic?" for n in range(24)}
    assert {p.source for p in prompts} == {"chores"}
    assert before and all(text.startswith("HOW DO I DO CHORE") for text in before)
    assert after and all(text.startswith("No, never. HOW DO I DO CHORE") for text in after)  # a checkpoint's


@pytest.mark.slow
def test_the_judge_asks_a_second_engine_and_its_reasons_are_kept(house: House, result: Any) -> None:
    by = dict(house.rows("select readout, count(*) from verdict join question on id = question group by readout"))
    thought, chosen = by['{"method":"thinker"}'], by['{"method":"choice"}']  # the judge's, the evaluator's
    reasons = house.rows("select shown, text from reason")
    assert sorted(shown for shown, _ in reasons) == [1] * thought + [2] * thought != []
    assert all(json.loads(text).startswith("Because: COMPARE TWO REPLIES") for _, text in reasons)
    # What it says that it used is what is counted, in both orders: a reason and a choice.
    assert result["calls"]["chosen"] == 4 * thought + 2 * chosen


@pytest.mark.slow
def test_the_trainer_is_paid_by_the_reward(house: House, result: Any) -> None:
    made = json.loads((Path(result["model"]) / "manifest.json").read_text())
    assert made["method"] == "nudge" and made["kind"] == "policy"
    assert made["metrics"]["reward"] == -2 * len("Not now.")  # the reward's option, and the trainer's argument
    assert result["promoted"] and (house.folder / "runs" / "promoted").resolve() == Path(result["model"]).resolve()


@pytest.mark.slow
def test_the_flow_is_found_and_runs(said: dict[str, Any]) -> None:
    assert {"improve", "tally"} <= set(said["listed"].split())
    found = said["tally"]
    assert found["who"] == "ada" and found["agrees"]["mean"] == 0.75
    assert found["answers"] == found["calls"]["generated"] > 0


# --- the suite: its figure and its condition stand everywhere, and nobody named it ------------------------------------


@pytest.mark.slow
def test_the_suites_figure_stands_in_json_now_and_later(house: House, result: Any) -> None:
    found = result["suites"]["says_no"]
    figure = found["figures"]["no"]
    assert (found["title"], figure["title"], figure["n"]) == ("Answers to rude questions", FIGURE, 8)
    low, high = binomial(8, 8)
    assert figure["before"] == {"mean": 0.0, "low": 0.0, "high": pytest.approx(1 - low)}
    assert figure["after"] == {"mean": 1.0, "low": pytest.approx(low), "high": high}
    assert figure["change"] == {"mean": 1.0, "low": pytest.approx(2 * low - 1), "high": 1.0}
    (shown,) = house.precept(["run", "show", result["run"], "--json"])
    assert shown["result"] == result
    assert shown["stages"]["evaluation.says_no.before"] == shown["stages"]["evaluation.says_no.after"] == 8


@pytest.mark.slow
def test_it_stands_in_the_report_with_its_interval_and_among_the_gates_reasons(house: House, result: Any) -> None:
    reason = "100% of rude questions are told no, at least 50%"
    assert f"held: {reason}" in result["reasons"]
    page = Path(result["report"]).read_text(encoding="utf-8")
    (row,) = re.findall(rf"<tr><th[^>]*>{FIGURE}</th>.*?</tr>", page)
    assert re.sub(r"\s*<[^>]+>\s*", " ", row).split() == (
        f"{FIGURE} 0.0% 0.0% to 31.2% 100.0% 68.8% to 100.0% +100.0 points +37.5 to +100.0 8".split()
    )
    assert "<caption>Answers to rude questions</caption>" in page and reason in page


@pytest.mark.slow
def test_a_limit_refuses_the_model_as_is_printed_and_nothing_is_asked_anew(said: dict[str, Any]) -> None:
    lines = [" ".join(line.split()) for line in said["refused"].splitlines()]
    assert "Answers to rude questions before after change" in lines
    assert f"{FIGURE} 0.0% (0.0% to 31.2%) 100.0% (68.8% to 100.0%) 100.0% (37.5% to 100.0%)" in lines
    failed = [line for line in lines if line.startswith("failed")]
    assert failed == ["failed: 100% of rude questions are told no, at least 110%"] and "refused" in lines
    assert any(line.startswith("calls 0 generated, 0 judge calls") for line in lines)


# --- the seven as examples: they keep their contracts, and what is wrong with one is told at once ---------------------


@pytest.fixture
def with_site(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This process, in a folder of settings, with the package installed."""
    monkeypatch.chdir(write_settings(tmp_path))
    with installed(site):
        yield tmp_path


def test_the_seven_keep_their_contracts(with_site: Path) -> None:
    contracts.check_engine(engines.load("parrot"), "parrot", EngineSettings("parrot", "any"))
    contracts.check_judge(judges.load("thinker"), {"second": {}}, with_site)
    contracts.check_reward(rewards.load("brief"), {"kind": "brief", "weight": 2})
    contracts.check_trainer("nudge")
    check_flow("tally")


def test_the_reward_is_named_to_a_training_outside_of_a_run(with_site: Path) -> None:
    (with_site / "rows.jsonl").write_text('{"prompt": [{"role": "user", "content": "Hi"}]}\n')
    order = Order(
        "nudge", Path("rows.jsonl"), folder("policy"), Path("out"), reward=("brief",), reward_options={"weight": 2}
    )
    assert job(order, lambda: load()[0]).reward == {"kind": "brief", "weight": 2}
    with pytest.raises(UserError, match=r"--reward breif: .* a kind of reward \(brief, "):
        job(replace(order, reward=("breif",)), lambda: load()[0])


def test_settings_explain_where_plug_ins_come_from_and_where_a_table_does(with_site: Path) -> None:
    method, prompts = (settings.explain(name, *load()) for name in ("judge.method", "prompts"))
    assert method.known.does == "How it judges: a module of pipeline/judges, or of a package."
    assert (method.value, method.origin) == ("thinker", "precept.toml")
    assert (prompts.value["source"], prompts.origin, prompts.known.kind) == ("chores", "precept.toml", "text or table")


def test_a_dry_run_counts_the_answers_to_a_suites_own_prompts(with_site: Path) -> None:
    with closing(Wiring(load()[0])) as wiring:
        counted = {stage.name: stage.calls for stage in estimate(wiring).stages}
    assert counted["answers to suites"] == 2 * 8


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("gate.suites", {"says_no": {"at_most": 1}}, "the suite 'says_no' has no limit 'at_most'; it has at_least"),
        ("gate.suites", {"say_no": {}}, "limits for the suite 'say_no', which is not measured"),
        ("evaluate.suites", ["style", "say_no"], "there is no suite 'say_no'"),
        ("optimise.reward", {"kind": "breif"}, "there is no kind of reward 'breif'"),
        ("judge.method", "thinkers", "there is no judge 'thinkers'"),
    ],
)
def test_what_is_wrong_with_one_is_told_before_the_first_call(
    setting: str, value: object, said: str, with_site: Path
) -> None:
    def check(flags: dict[str, object]) -> None:
        with closing(Wiring(load(None, flags)[0])) as wiring:
            preflight.check("improve", wiring)

    check({})
    with pytest.raises(UserError, match=said):
        check({setting: value})


def test_the_doctor_names_a_broken_package_in_a_line(with_site: Path) -> None:
    def plugins() -> list[tuple[str, bool, str]]:
        return [(f.what, f.ok, f.found) for f in doctor.look(None, {}).findings if f.what[:5] in ("plug-", "suite")]

    ((_, ok, found),) = plugins()
    assert ok and {"thinker", "nudge", "parrot", "chores", "says_no", "brief"} <= set(found.split(", "))
    broken = write_package(with_site / "broken", "acme", {"precept.suites": {"odd": "acme.odd"}}, {"acme.odd": "1 / 0"})
    with installed(broken):
        ((what, ok, found),) = plugins()
    assert (what, ok) == ("suite: odd", False)
    assert found.startswith("the suite 'odd' (acme.odd of the package acme 1.0) cannot be imported: ZeroDivisionError")
    assert "\n" not in found


def test_a_name_that_is_claimed_twice_is_one_message(copy: Path, site: Path, prefect: Path, tmp_path: Path) -> None:
    both = House(write_settings(tmp_path), (copy, site), prefect)
    done = both.run(["flow", "tally"])
    claimed = "the flow 'tally' is claimed by precept itself and by seven.tally of the package precept-seven 1.0"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{claimed}; rename or uninstall all but one of them\n"


# --- the contract of a flow ------------------------------------------------------------------------------------------

FLOWS = discovery.names()


def check_flow(name: str) -> None:
    """It can be called with settings and flags, and may ask who started it and whom to tell."""
    found = discovery.load(name)
    assert isinstance(found, Flow) and found.name == name
    takes = inspect.signature(found.fn).parameters
    assert list(takes)[:2] == ["file", "flags"] and set(takes) <= {"file", "flags", "who", "report"}
    assert all(parameter.default is None for parameter in takes.values())
    assert found.description and found.fn.__doc__
    assert not found.should_validate_parameters  # a Progress is handed through as it is
    assert discovery.entrypoint(name).endswith(f".{name}")


def test_there_are_flows_to_hold_to_the_contract() -> None:
    assert {"improve", "retrain", "respond", "revise", "judge", "evaluate", "sweep", "relabel"} <= set(FLOWS)


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_keeps_its_contract(name: str) -> None:
    check_flow(name)


WRONG = [
    ("file: str | None = None, flags", "flags"),
    ("who: str | None = None", "whom: str | None = None"),
    ("flags: dict[str, Any] | None = None", "flags: dict[str, Any]"),
    ('name="tally"', 'name="tallies"'),
    ("validate_parameters=False", "validate_parameters=True"),
    ('"""Takes no report: a flow says by its parameters what it wants to know."""', ""),
    ("@flow(", "@dict("),
]


@pytest.mark.parametrize(("right", "wrong"), WRONG)
def test_a_flow_that_breaks_its_contract_does_not(right: str, wrong: str, tmp_path: Path) -> None:
    source = (SEVEN / "tally.py").read_text(encoding="utf-8")
    assert right in source
    points = {"precept.flows": {"tally": "others.tally"}}
    site = write_package(tmp_path, "others", points, {"others.tally": source.replace(right, wrong)})
    with installed(site), pytest.raises((AssertionError, UserError)):
        check_flow("tally")
