"""`precept schedule`: what it refuses, and a slot that a worker carries out on a real Prefect server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from ruamel.yaml import YAML

from flows import discovery
from storage.store import Store
from tests.cli.serving import ROOT, Prefect, prefect, until

# A flow of the project's own, beside precept's: both folders are one package.
PACKAGE = "from pkgutil import extend_path\n\n__path__ = extend_path(__path__, __name__)\n"
NIGHTLY = '''\
"""Notes that it ran, as a run of its own."""

from prefect import flow

from flows.session import at_work


@flow(name="nightly", validate_parameters=False)
def nightly(file=None, flags=None):
    with at_work("nightly", file, flags) as work:
        result = {"slot": work.settings.slot, "seed": work.settings.seed}
        work.store.finish_run(work.run.id, "finished", result=result)
        return result
'''
PROBLEMS = [
    (["none"], "there is no flow 'none'"),
    (["improve", "--set", "nonsense=1"], "nonsense"),
    (["retrain"], "say when it is to run: --cron"),
    (["improve", "--cron", "0 2 31 2 *"], "no moment is at '0 2 31 2 *' in 'UTC'"),
    (["improve", "--cron", "0 25 * * *"], "in 'UTC': Invalid cron string: \"0 25 * * *\"; write for example --cron"),
    (["improve", "--cron", "0 2 * * *", "--timezone", "Mars/X"], 'Invalid timezone: "Mars/X"'),
]


@pytest.mark.parametrize(("words", "said"), PROBLEMS)
def test_mistakes_are_told_at_once(project, precept, words, said) -> None:
    outcome = precept("schedule", "add", *words)
    assert outcome.code == 2 and said in outcome.err


@pytest.mark.parametrize(
    ("cron", "timezone", "days"),
    [
        ("30 2 * * *", "Europe/Berlin", []),
        ("0 2 1 * 1", "UTC", ["02:00+00:00"] * 3),
        ("@daily", "UTC", ["00:00+00:00"] * 3),
        ("0 9 * * mon-fri", "Asia/Kolkata", ["09:00+05:30"] * 3),
    ],
)
def test_the_next_times_of_a_schedule_are_told(cron: str, timezone: str, days: list[str]) -> None:
    from flows.schedule import upcoming

    found = upcoming(cron, timezone)
    assert len(found) == 3 and found == sorted(found)
    if timezone != "Europe/Berlin":  # where the hour depends on the season
        assert [each.partition(" ")[2] for each in found] == days
    moments = [datetime.fromisoformat(each) for each in found]
    assert all(moment > datetime.now(UTC) for moment in moments)
    if cron == "0 2 1 * 1":  # the first of a month, or a Monday
        assert all(moment.day == 1 or moment.weekday() == 0 for moment in moments)


@pytest.mark.parametrize(
    ("cron", "after", "slots"),
    [
        ("30 2 * * *", "2027-03-27T12:00", ["03-28T01:30+01:00", "03-29T02:30+02:00"]),  # there is no 02:30 that night
        ("30 2 * * *", "2027-10-30T12:00", ["10-31T02:30+02:00", "11-01T02:30+01:00"]),  # there are two
        ("0 * * * *", "2027-10-31T00:30", ["10-31T01:00+02:00", "10-31T02:00+02:00", "10-31T03:00+01:00"]),
    ],
)
def test_a_slot_is_planned_once_where_the_clock_is_moved(cron: str, after: str, slots: list[str]) -> None:
    import asyncio

    from prefect.server.schemas.schedules import CronSchedule  # as the server plans them; docs/operate.md says so

    start = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    found = asyncio.run(CronSchedule(cron=cron, timezone="Europe/Berlin").get_dates(len(slots), start=start))
    assert [moment.isoformat(timespec="minutes")[5:] for moment in found] == slots


@pytest.mark.parametrize("words", [["list"], ["remove", "retrain"]])
def test_without_a_server_nothing_is_scheduled(project, precept, monkeypatch, words) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(set_defaults={PREFECT_API_URL: None}, updates={PREFECT_API_URL: None}):
        outcome = precept("schedule", *words)
    assert outcome.code == 2 and "a schedule needs a Prefect server that stays up" in outcome.err


def test_the_deployment_file_names_what_is_there() -> None:
    described = YAML(typ="safe").load((ROOT / "prefect.yaml").read_text())
    (deployment,) = described["deployments"]
    path, _, name = deployment["entrypoint"].partition(":")
    assert Path(path).stem == name and name in discovery.names()
    assert deployment["schedules"][0]["cron"] == "0 2 * * *"
    from flows.schedule import POOL

    assert deployment["work_pool"]["name"] == POOL


@pytest.fixture
def server(project: Path) -> Iterator[Prefect]:
    with prefect(project) as place:
        yield place


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_slot_is_carried_out_once_on_a_real_server(project: Path, server: Prefect) -> None:
    (project / "flows").mkdir()
    (project / "flows" / "__init__.py").write_text(PACKAGE)
    (project / "flows" / "nightly.py").write_text(NIGHTLY)

    words = ["schedule", "add", "nightly", "--cron", "* * * * *", "--set", "seed=9", "--json"]
    down = server.precept(*words)
    assert down.returncode == 2 and "does not answer" in down.stderr and "Traceback" not in down.stderr

    server.start("server", "start")
    until(server.healthy, 300)
    bad = server.precept("schedule", "add", "nightly", "--cron", "every night")
    assert bad.returncode == 2 and "no schedule can be made of 'every night'" in bad.stderr
    told = server.precept(*words[:-1])
    assert told.returncode == 0 and "the next times: 20" in told.stdout, told.stderr
    done = server.precept(*words)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["deployment"] == "nightly/scheduled" and said["server"] == server.url
    again = json.loads(server.precept(*words).stdout)
    assert again["id"] == said["id"]  # the same name is the same deployment, not a second one
    _listed_and_removed(server, said["id"])
    assert _deployed_from_the_file(server) == (str(ROOT), "flows/improve.py:improve")

    server.start(*said["worker"].split()[1:])
    flow_run = until(lambda: _finished(server), 300)
    slot = flow_run["expected_start_time"]
    with Store.open("sqlite:///runs/precept.db", create=False) as store:
        slots = [run.result["slot"] for run in store.runs()]
        assert store.runs()[0].result["seed"] == 9
    assert slot[:19] in [s[:19] for s in slots]  # the slot is in the run's identity
    assert len(slots) == len(set(slots))
    listed = server.precept("run", "list", "--json")
    assert {run["kind"] for run in json.loads(listed.stdout)} == {"nightly"}

    # The same slot fires again: a flow run of its own, which ends as well, and no second run.
    asked = {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": slot}}}
    again = httpx.post(f"{server.url}/deployments/{said['id']}/create_flow_run", json=asked, timeout=30)
    assert again.status_code == 201 and again.json()["id"] != flow_run["id"]

    def both() -> bool:
        ended = {run["id"] for run in server.all("flow_runs") if run["state_type"] == "COMPLETED"}
        _finished(server)  # none has failed
        return {flow_run["id"], again.json()["id"]} <= ended

    until(both, 300)
    with Store.open("sqlite:///runs/precept.db", create=False) as store:
        slots = [run.result["slot"] for run in store.runs() if run.result]
        assert [s[:19] for s in slots].count(slot[:19]) == 1


def _listed_and_removed(server: Prefect, ident: str) -> None:
    secret = ["--set", "store=postgresql://ada:hunter2@host/db", "--on-ratify"]
    added = server.precept("schedule", "add", "nightly", "--name", "other", "--timezone", "Europe/Berlin", *secret)
    assert added.returncode == 0, added.stderr
    shown = server.precept("schedule", "list", "--json")
    assert "hunter2" not in shown.stdout
    other, first = json.loads(shown.stdout)
    assert (first["deployment"], first["id"], first["cron"]) == ("nightly/scheduled", ident, "* * * * *")
    assert (first["timezone"], first["on_ratify"], first["flags"]) == ("UTC", False, {"seed": 9})
    assert first["folder"] == str(server.folder.resolve())
    assert (other["deployment"], other["cron"], other["on_ratify"]) == ("nightly/other", "", True)
    assert "nightly/scheduled" in server.precept("schedule", "list").stdout
    gone = server.precept("schedule", "remove", "nightly/other")
    assert gone.returncode == 0 and "nightly/other is not scheduled any more" in gone.stdout, gone.stderr
    assert [each["deployment"] for each in json.loads(server.precept("schedule", "list", "--json").stdout)] == [
        "nightly/scheduled"
    ]
    assert server.all("automations") == []
    again = server.precept("schedule", "remove", "nightly/other")
    assert again.returncode == 2 and "precept schedule list" in again.stderr


def _deployed_from_the_file(server: Prefect) -> tuple[str, str]:
    """What `prefect deploy` makes of prefect.yaml: the folder that a run is carried out in, and the flow."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    environment = {**server.environment, "PWD": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = httpx.get(f"{server.url}/deployments/name/improve/nightly", timeout=60)
    (step,) = answer.json()["pull_steps"]
    (values,) = step.values()
    return values["directory"], answer.json()["entrypoint"]


def _finished(server: Prefect) -> dict[str, Any] | None:
    runs = server.all("flow_runs")
    failed = [run["state"]["message"] for run in runs if run["state_type"] in ("FAILED", "CRASHED")]
    assert not failed, failed
    return next((run for run in runs if run["state_type"] == "COMPLETED"), None)
