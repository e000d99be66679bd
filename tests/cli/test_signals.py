"""Ctrl-C, SIGTERM and a closed window, in a real terminal: one line, the right exit code, all kept, no orphan; and a
Prefect server that dies."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.waiting_server import waiting
from sandbox.models import folder
from storage.store import Store
from tests.cli.terminal import NOBODY, call, child_of, ended, environment, gone, lines, spawn

pytestmark = pytest.mark.timeout(600)  # a fresh Prefect server takes 10 s to start, and minutes on a busy machine
SLOW = "rules: [{match: 'Question 0', text: An answer.}, {text: An answer., sleep: 600}]\n"
SHORT = "rules: [{text: An answer., sleep: 0.2}]\n"
RESPOND = ("flow", "respond", "--set", "policy.batch_size=1")


@pytest.fixture(scope="module")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for Prefect's own database, which takes seconds to make."""
    return str(tmp_path_factory.mktemp("prefect"))


@pytest.fixture
def slow(project: Path) -> Path:
    """A project whose model answers the first prompt, and then nothing for ten minutes, like a server that hangs."""
    (project / "script.yaml").write_text(SLOW)
    return project


def check_stopped(status: str = "stopped") -> None:
    with Store.open("sqlite:///runs/precept.db") as store:
        (run,) = store.runs()
        assert (run.status, run.error) == (status, "interrupted")
        assert len(store.stage_members(run.id, "answers")) == 1


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_is_one_line_its_code_and_nothing_lost(slow: Path, name: str, code: int) -> None:
    child = spawn(*RESPOND, PREFECT_API_URL=NOBODY)
    child.expect("1/5")
    child.sendintr() if name == "SIGINT" else os.kill(child.pid, getattr(signal, name))
    found, said = ended(child)
    assert found == code
    (line,) = lines(said)
    assert line.startswith("interrupted: what was answered is kept; go on with: precept run resume ")
    check_stopped()


def test_ctrl_c_with_batches_in_flight_at_a_server_that_hangs(project: Path) -> None:
    """Each batch is one prompt, and four are in flight: the server answers the first that it is asked, and no other."""
    numbers = itertools.count()
    with waiting(lambda share: 600.0 if next(numbers) else 0.0) as (server, _):
        role = f'kind = "openai"\nmodel = "waits"\nrevision = "1"\nbase_url = "{server.url}"\nbatch_size = 1\n'
        settings = (project / "precept.toml").read_text().partition("[policy]")[0]
        options = 'options = {dialect = "chat", concurrency = 3}\n'
        (project / "precept.toml").write_text(f"{settings}[policy]\n{role}{options}")
        child = spawn("flow", "respond", PREFECT_API_URL=NOBODY, OPENAI_API_KEY="me")
        child.expect("1/5")
        server.wait_for("me", 4)
        child.sendintr()
        code, said = ended(child)
        assert code == 130 and len(lines(said)) == 1
        check_stopped()


def test_sigterm_without_a_terminal(slow: Path) -> None:
    """As a process manager sends it."""
    command = [sys.executable, "-m", "cli.main", *RESPOND]
    with subprocess.Popen(
        command,
        env=environment(PREFECT_API_URL=NOBODY),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    ) as process:
        begun = time.monotonic()
        while not answered() and time.monotonic() < begun + 120:
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        out, said = process.communicate(timeout=10)
    assert process.returncode == 143 and out == b""
    told = [line for line in said.decode().splitlines() if "does not answer" not in line and "answers:" not in line]
    assert len(told) == 1 and told[0].startswith("interrupted: what was answered is kept; go on with: precept run")
    check_stopped()


def answered() -> int:
    if not Path("runs/precept.db").exists():
        return 0
    with Store.open("sqlite:///runs/precept.db") as store:
        return sum(len(store.stage_members(run.id, "answers")) for run in store.runs())


def test_a_second_ctrl_c_ends_at_once_what_does_not_end(slow: Path) -> None:
    (slow / "sitecustomize.py").write_text(
        "import atexit, time\natexit.register(lambda: (print('stuck', flush=True), time.sleep(600)))\n"
    )
    child = spawn(*RESPOND, PREFECT_API_URL=NOBODY, PYTHONPATH=f"{slow}:{Path(__file__).parents[2]}")
    child.expect("1/5")
    child.sendintr()
    child.expect("stuck")
    child.sendintr()
    assert ended(child, within=3)[0] == 130


@pytest.mark.slow
def test_ctrl_c_with_a_temporary_prefect_server_and_while_it_starts(slow: Path, prefect_home: str) -> None:
    child = spawn(*RESPOND, PREFECT_HOME=prefect_home)
    server = child_of(child.pid, "flows.temporary")
    child.sendintr()  # it is starting
    code, said = ended(child)
    assert code == 130
    assert [line.partition(":")[0] for line in lines(said)] == ["interrupted"]
    assert gone(server)

    child = spawn(*RESPOND, PREFECT_HOME=prefect_home)
    child.expect("1/5")
    server = child_of(child.pid, "flows.temporary")
    child.sendintr()
    code, said = ended(child)
    assert code == 130
    (line,) = lines(said)
    assert line.startswith("interrupted: what was answered is kept; go on with: precept run resume ")
    assert gone(server)
    check_stopped()

    child = spawn(*RESPOND, PREFECT_HOME=prefect_home)
    child.expect("0/4")
    server = child_of(child.pid, "flows.temporary")
    os.kill(child.pid, signal.SIGKILL)  # no handler runs
    assert gone(server) and gone(child.pid)
    (row,) = json.loads(call("run", "list", "--json").stdout)
    assert (row["status"], row["error"]) == ("stopped", "its process is gone")
    with Store.open("sqlite:///runs/precept.db") as store:
        assert store.runs()[0].status == "running"  # nobody was there to write it


@pytest.mark.slow
def test_prefect_killed_in_the_middle_is_one_warning(project: Path, prefect_home: str) -> None:
    (project / "script.yaml").write_text(SHORT)
    child = spawn(*RESPOND, PREFECT_HOME=prefect_home)
    child.expect("1/5")
    os.kill(child_of(child.pid, "flows.temporary"), signal.SIGKILL)
    code, said = ended(child, within=60)
    assert code == 0
    assert said.count("the Prefect server does not answer") == 1
    result = "\n".join(lines(said))
    assert "Traceback" not in said and "Error" not in said
    assert json.loads(result[result.index("{") :])["answers"] == 5
    assert sum(line.startswith(("{", "}", '"')) or "does not answer" in line for line in lines(said)) == len(
        lines(said)
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [("PREFECT_API_URL", NOBODY), ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:////dev/null/nowhere")],
)
def test_prefect_dead_at_the_start_is_one_warning(project: Path, prefect_home: str, setting: str, value: str) -> None:
    done = call(*RESPOND, "--quiet", PREFECT_HOME=prefect_home, **{setting: value})
    assert done.returncode == 0
    assert json.loads(done.stdout)["answers"] == 5
    (warning,) = done.stderr.decode().strip().split("\n")
    assert "the Prefect server does not answer" in warning and "goes on without" in warning


def test_a_home_folder_that_nothing_can_be_written_to(project: Path) -> None:
    done = call(*RESPOND, "--quiet", HOME="/dev/null", PREFECT_HOME="/dev/null/nowhere")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["answers"] == 5


@pytest.mark.slow
def test_a_training_process_interrupted_and_killed_in_the_middle(project: Path) -> None:
    rows = [{"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Ho"}]}]
    (project / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 8))
    shutil.copytree(folder("policy"), project / "model")
    words = ("train", "--method", "sft", "--data", "rows.jsonl", "--model", "model", "--out", "tuned")
    words = (*words, "--arg", "max_steps=100000", "--arg", "save_steps=50")
    child = spawn(*words)
    child.expect(r"[1-9]\d*/100000")
    trainer = child_of(child.pid, "pipeline.trainers")
    child.sendintr()
    code, said = ended(child)
    assert code == 130
    (line,) = lines(said)
    assert line.startswith("interrupted: the state is kept in ") and "go on with the same command" in line
    assert gone(trainer) and any(Path("tuned.resume").glob("checkpoint-*"))

    child = spawn(*words)
    child.expect(r"[1-9]\d*/100000")
    os.kill(child_of(child.pid, "pipeline.trainers"), signal.SIGKILL)  # as the system does when memory runs out
    code, said = ended(child)
    assert code == 1
    line = " ".join(lines(said))  # one sentence, as wide as the terminal
    assert "killed by the system (SIGKILL)" in line and "per_device_train_batch_size smaller" in line
