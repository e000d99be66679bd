"""Standard streams that are closed, full, narrow or of another encoding, and an environment that lacks what most have:
no traceback, the right exit code, and no half of a result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from service.settings import process_user
from storage.store import Store
from tests.cli.terminal import NOBODY, call, ended, environment, spawn


@pytest.fixture
def strange(labelled, store: Store) -> None:
    """A store whose texts no narrow encoding has characters for."""
    store.finish_run(labelled.run.id, "stopped", error="“ärgerlich” → \U0001f408 Ж")


def shell(line: str, **changed: str) -> subprocess.CompletedProcess[bytes]:
    command = line.replace("precept", f"{sys.executable} -m cli.main")
    return subprocess.run(["bash", "-c", command], env=environment(**changed), capture_output=True, timeout=120)


ENCODINGS = [
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "ascii"},
    {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"},
]


@pytest.mark.parametrize("changed", ENCODINGS, ids=["cp1252", "ascii", "C"])
def test_an_encoding_that_lacks_characters(strange: None, changed: dict[str, str]) -> None:
    shown = call("run", "list", "--json", **changed)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert json.loads(shown.stdout)[0]["error"].endswith("\U0001f408 Ж")
    listed = call("run", "list", **changed)
    assert (listed.returncode, listed.stderr) == (0, b"") and b"rgerlich" in listed.stdout


def test_closed_standard_streams(strange: None) -> None:
    for closed in (">&-", "2>&-", "<&-", ">&- 2>&- <&-"):
        done = shell(f"precept run list --json {closed}")
        assert done.returncode == 0 and b"Traceback" not in done.stderr, closed
    assert json.loads(shell("precept run list --json 2>&- <&-").stdout)
    with Store.open("sqlite:///runs/precept.db") as store:  # nothing was printed into it
        assert len(store.runs()) == 1


@pytest.mark.parametrize("words", ["run list", "run list --json", "--help", "constitution show --source"])
def test_a_full_disk_under_standard_output_is_one_line(strange: None, words: str) -> None:
    done = shell(f"precept {words} > /dev/full")
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert "the result cannot be written to standard output (No space left on device)" in line


def test_a_full_disk_under_standard_error_takes_nothing_from_a_run(project: Path) -> None:
    done = shell("precept flow respond 2> /dev/full", PREFECT_API_URL=NOBODY)
    assert done.returncode == 0 and json.loads(done.stdout)["answers"] == 5
    done = shell("precept run show nonsense 2> /dev/full")
    assert done.returncode == 2


@pytest.mark.parametrize("words", ["run list --json", "constitution show --source"])
def test_a_reader_that_goes_away_is_told_nothing(strange: None, words: str) -> None:
    done = shell(f"precept {words} | true; exit ${{PIPESTATUS[0]}}")
    assert done.stderr == b"" and done.returncode in (0, 1)  # 0 where all of it had fitted into the pipe
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "cli.main", *words.split()]
    gone = subprocess.run(command, env=environment(), stdout=write, stderr=subprocess.PIPE, timeout=120)
    os.close(write)
    assert (gone.returncode, gone.stderr) == (1, b"")


def test_a_reader_that_is_slow_gets_all_of_it(labelled, store: Store) -> None:
    store.finish_run(labelled.run.id, "stopped", error="x" * 67_000)  # more than a pipe holds, the rest in our buffer
    done = shell("precept run list --json | (sleep 6; cat)")
    assert json.loads(done.stdout)[0]["error"] == "x" * 67_000 and done.stderr == b""


def test_a_terminal_that_is_dumb_and_narrow(strange: None) -> None:
    for words in (("run", "list"), ("--help",)):
        child = spawn(*words, TERM="dumb", COLUMNS="20")
        child.setwinsize(20, 20)
        code, said = ended(child, within=60)
        assert code == 0 and "Traceback" not in said, (words, said)
    child = spawn("review", "-n", "1", "--by", "bea", TERM="dumb", COLUMNS="20")
    child.expect("Q: ")
    child.send("a")
    assert ended(child, within=60)[0] == 0


def test_a_system_without_termios_reads_lines(labelled) -> None:
    code = (
        "import sys; sys.modules['termios'] = sys.modules['tty'] = None\n"
        "from cli.main import run; sys.exit(run(['review', '-n', '1', '--by', 'bea']))"
    )
    child = pexpect.spawn(sys.executable, ["-c", code], env=environment(), encoding="utf-8", timeout=60)
    child.expect("Q: ")
    child.sendline("a")
    code, said = ended(child, within=60)
    assert code == 0 and "1 answered" in said


def test_who_acts_where_user_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PRECEPT_USER", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert process_user() not in ("", "unknown")  # the password database knows
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert process_user() == "unknown uid 54321"


def test_a_home_that_is_unset_or_read_only(project: Path) -> None:
    for home in ("", "/dev/null"):
        for words in (("run", "list"), ("improve", "--dry-run")):
            done = call(*words, HOME=home, PREFECT_HOME="")
            assert b"Traceback" not in done.stderr and done.returncode in (0, 1), (words, done.stderr)


def test_review_on_a_closed_input_says_so(labelled) -> None:
    for line in ("precept review <&-", "precept review </dev/null"):
        done = shell(line)
        assert done.returncode == 0 and b"Traceback" not in done.stderr
        assert b"0 answered" in done.stdout


def test_a_question_on_a_closed_input_is_a_mistake_that_says_what_to_write(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for closed in ("<&-", "</dev/null"):
        done = shell(f"precept constitution new mine.yaml {closed}")
        assert done.returncode == 2 and b"Traceback" not in done.stderr
        assert b"--from" in done.stderr
        assert list(tmp_path.iterdir()) == []
