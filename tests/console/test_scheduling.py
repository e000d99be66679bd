"""`precept schedule`: what it refuses, and a slot that a worker carries out on a real Prefect server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from console import main
from flows import discovery
from storage.store import Store

ROOT = Path(main.__file__).parents[1]

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
]


@pytest.mark.parametrize(("words", "said"), PROBLEMS)
def test_mistakes_are_told_at_once(project, precept, words, said) -> None:
    outcome = precept("schedule", *words)
    assert outcome.code == 2 and said in outcome.err


def test_the_deployment_file_names_what_is_there() -> None:
    described = YAML(typ="safe").load((ROOT / "prefect.yaml").read_text())
    (deployment,) = described["deployments"]
    path, _, name = deployment["entrypoint"].partition(":")
    assert Path(path).stem == name and name in discovery.names()
    assert deployment["schedules"][0]["cron"] == "0 2 * * *"
    from flows.schedule import POOL

    assert deployment["work_pool"]["name"] == POOL


@pytest.fixture
def environment(project: Path) -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(project / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": f"{project}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def start(project: Path, environment: dict[str, str]) -> Iterator[Callable[..., None]]:
    """Start a Prefect command in the background; all end with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def launch(*words: str) -> None:
        with (project / f"{words[0]}.log").open("wb") as log:
            command = [sys.executable, "-m", "prefect", *words]
            running.append(subprocess.Popen(command, env=environment, cwd=project, stdout=log, stderr=log))

    yield launch
    for process in reversed(running):
        process.terminate()
    for process in running:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(found: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.3)
    raise AssertionError(f"nothing came of it in {seconds} s")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_slot_is_carried_out_once_on_a_real_server(project, environment, start) -> None:
    (project / "flows").mkdir()
    (project / "flows" / "__init__.py").write_text(PACKAGE)
    (project / "flows" / "nightly.py").write_text(NIGHTLY)
    url = environment["PREFECT_API_URL"]

    def precept(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "console.main", *words]
        return subprocess.run(command, env=environment, cwd=project, capture_output=True, text=True)

    words = ["schedule", "nightly", "--cron", "* * * * *", "--set", "seed=9", "--json"]
    down = precept(*words)
    assert down.returncode == 2 and "does not answer" in down.stderr and "Traceback" not in down.stderr

    start("server", "start")
    until(lambda: _healthy(url), 300)
    bad = precept("schedule", "nightly", "--cron", "every night")
    assert bad.returncode == 2 and "no schedule can be made of 'every night'" in bad.stderr
    done = precept(*words)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["deployment"] == "nightly/scheduled" and said["server"] == url
    again = json.loads(precept(*words).stdout)
    assert again["id"] == said["id"]  # the same name is the same deployment, not a second one
    assert _deployed_from_the_file(environment) == (str(ROOT), "flows/improve.py:improve")

    start(*said["worker"].split()[1:])
    flow_run = until(lambda: _finished(url), 300)
    slot = flow_run["expected_start_time"]
    with Store.open("sqlite:///runs/precept.db", create=False) as store:
        slots = [run.result["slot"] for run in store.runs()]
        assert store.runs()[0].result["seed"] == 9
    assert slot[:19] in [s[:19] for s in slots]  # the slot is in the run's identity
    assert len(slots) == len(set(slots))
    listed = precept("run", "list", "--json")
    assert {run["kind"] for run in json.loads(listed.stdout)} == {"nightly"}


def _deployed_from_the_file(environment: dict[str, str]) -> tuple[str, str]:
    """What `prefect deploy` makes of prefect.yaml: the folder that a run is carried out in, and the flow."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, env={**environment, "PWD": str(ROOT)}, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = httpx.get(f"{environment['PREFECT_API_URL']}/deployments/name/improve/nightly", timeout=60)
    (step,) = answer.json()["pull_steps"]
    (values,) = step.values()
    return values["directory"], answer.json()["entrypoint"]


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def _finished(url: str) -> dict[str, Any] | None:
    runs = httpx.post(f"{url}/flow_runs/filter", json={}, timeout=60).json()
    failed = [run["state"]["message"] for run in runs if run["state_type"] in ("FAILED", "CRASHED")]
    assert not failed, failed
    return next((run for run in runs if run["state_type"] == "COMPLETED"), None)
