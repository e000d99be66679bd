"""`precept engine`: the lives of servers, on one that stands in for vLLM (tests/vllm/test_engine_command.py has a real
one)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.plugins import packaged_model
from service.settings import load
from service.vllm import servers
from tests.cli.conftest import Outcome

FAKE = Path(__file__).with_name("fake_vllm.py")
POLICY = str(packaged_model("sandbox:policy"))
Precept = Callable[..., Outcome]


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A Python in which vLLM is the one that stands in for it."""
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {FAKE} "$@"\n')
    script.chmod(0o755)
    return script


@pytest.fixture(autouse=True)
def ended(project: Path, precept: Precept) -> Iterator[None]:
    yield
    assert precept("engine", "down").code == 0


def ports_free() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def up(precept: Precept, python: Path, *words: object, model: str = POLICY) -> Outcome:
    return precept("engine", "up", model, "--python", python, "--device", "cpu", "--json", *words)


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def child_of(server: dict[str, Any]) -> int:
    return int(Path(server["log"]).read_text().partition("child ")[2].split()[0])


def test_a_server_is_started_looked_at_and_ended_with_all_its_processes(precept: Precept, python: Path) -> None:
    started = up(precept, python)
    assert started.code == 0, started.err
    server = started.json
    assert server["url"] == f"http://127.0.0.1:{server['port']}/v1" and server["model"] == "policy"
    assert os.getsid(server["pid"]) == server["pid"] != os.getsid(0)  # it outlives this terminal
    child = child_of(server)
    looked = precept("engine", "status", "--json")
    assert looked.code == 0
    [found] = looked.json
    assert (found["state"], found["serves"], found["wrong"]) == ("answers", ["policy"], "")
    assert found["memory"] > 2**20
    assert "answers" in precept("engine", "status").out
    began = time.monotonic()
    [ended] = precept("engine", "down", "--json").json
    assert ended["was_up"] and time.monotonic() - began < 10
    assert not is_there(server["pid"]) and not is_there(child)
    assert precept("engine", "status", "--json").json == []


def test_a_server_that_starts_is_said_to_and_not_to_have_stopped(precept: Precept, project: Path) -> None:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    log = project / "new.log"
    log.write_text("(APIServer) INFO [x.py:1] Loading weights\n")
    loading = servers.Server(
        "new", "m", POLICY, POLICY, "", "float32", "127.0.0.1", ports_free(), "", process.pid,
        servers.began(process.pid), "2026-11-28T00:00:00+00:00", str(log), starts=True,
    )  # fmt: skip
    home = load(None, {})[0].home
    (home / servers.FOLDER).mkdir(parents=True)
    servers.keep(home, loading)
    looked = precept("engine", "status", "--json")
    [found] = looked.json
    assert (looked.code, found["state"]) == (1, "starting") and "Loading weights" in found["wrong"]
    assert "stopped answering" not in precept("engine", "status").out
    servers.keep(home, servers.Server(**{**servers.asdict(loading), "starts": False}))
    assert precept("engine", "status", "--json").json[0]["state"] == "no answer"


def test_the_settings_that_it_prints_use_it(precept: Precept, python: Path, project: Path) -> None:
    started = up(precept, python)
    settings = started.json["settings"]
    assert settings["judge.options.tokenizer"] == POLICY  # without it judged text is not safe, nor the client cheap
    loaded, _ = load(None, settings)
    assert loaded.judge.kind == "openai" and loaded.judge.base_url == started.json["url"]
    assert len(loaded.judge.revision) == 12
    shown = precept("engine", "up", POLICY, "--python", python, "--device", "cpu", "--name", "two", "-q")
    assert shown.code == 0, shown.err
    section = shown.out.partition("[judge]")[2].partition("\n\n")[0]
    Path("printed.toml").write_text("[judge]" + section)
    both, _ = load(Path("printed.toml"))
    assert len(both.judge.base_url) == 2 and "precept engine down two" in shown.out


def test_a_role_is_served_at_the_address_that_its_settings_name(precept: Precept, python: Path) -> None:
    port = ports_free()
    given = ["--set", f"judge.base_url=http://127.0.0.1:{port}/v1", "--set", "judge.kind=openai"]
    started = up(precept, python, *given, "--set", f"judge.model={POLICY}", model="judge")
    assert started.code == 0, started.err
    assert (started.json["name"], started.json["port"]) == ("judge", port)
    again = up(precept, python, model="judge")
    assert again.code == 2  # a judge that is scripted has no folder


def test_what_is_taken_is_told(precept: Precept, python: Path) -> None:
    server = up(precept, python).json
    twice = up(precept, python)
    assert twice.code == 2 and "is up already" in twice.err and "--name policy-2" in twice.err
    port = up(precept, python, "--name", "other", "--port", server["port"])
    assert port.code == 2 and "is taken by the server policy" in port.err and "--port " in port.err
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        others = up(precept, python, "--name", "other", "--port", held.getsockname()[1])
    assert others.code == 2 and "another process" in others.err
    second = up(precept, python, "--name", "other")
    assert second.code == 0 and second.json["port"] != server["port"]


def test_a_server_that_dies_while_it_starts_shows_its_last_words_and_what_to_do(precept: Precept, python: Path) -> None:
    died = up(precept, python, "--", "--die")
    assert died.code == 2
    assert "ended with code 1 while it started" in died.err and "CUDA out of memory" in died.err
    assert "--gpu-memory-utilization" in died.err and "Traceback" not in died.err
    assert precept("engine", "status", "--json").json == []


def test_a_server_that_is_not_what_was_started_is_ended_at_once(precept: Precept, python: Path) -> None:
    other = up(precept, python, "--", "--other")
    assert other.code == 2 and "knows no model 'policy'; it has other" in other.err
    assert precept("engine", "status", "--json").json == []


def test_a_server_that_will_not_end_is_killed(precept: Precept, python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert servers.ENDS_WITHIN + servers.KILLED_WITHIN < 10
    monkeypatch.setattr(servers, "ENDS_WITHIN", 0.5)
    server = up(precept, python, "--", "--stubborn").json
    os.kill(server["pid"], signal.SIGSTOP)
    child = child_of(server)
    assert precept("engine", "down", "policy", "--json").code == 0
    assert not is_there(server["pid"]) and not is_there(child)


def test_one_that_died_is_told_and_what_is_left_of_it_is_ended(precept: Precept, python: Path) -> None:
    server = up(precept, python).json
    child = child_of(server)
    os.kill(server["pid"], signal.SIGKILL)
    os.waitpid(server["pid"], 0)
    looked = precept("engine", "status", "--json")
    assert looked.code == 1 and looked.json[0]["state"] == "gone" and server["log"] in looked.json[0]["wrong"]
    assert is_there(child)
    assert precept("engine", "down").code == 0
    assert not is_there(child)


def test_another_process_with_its_number_is_left_alone(precept: Precept, python: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as bystander:
        up(precept, python)
        record = Path("runs/engines/policy.json")
        told = json.loads(record.read_text())
        record.write_text(json.dumps({**told, "pid": bystander.pid}))
        [ended] = precept("engine", "down", "--json").json
        assert not ended["was_up"] and bystander.poll() is None
        bystander.kill()
        os.killpg(told["pid"], signal.SIGKILL)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere/there/x"], "there is no such model folder"),
        (["promoted"], "nothing has been promoted yet"),
        ([POLICY, "--device", "gpu1"], "--device gpu1"),
        ([POLICY, "--host", "0.0.0.0"], "put a key into OPENAI_API_KEY first"),
        ([POLICY, "--host", "0.0.0.0", "--dev"], "--dev opens routes"),
        ([POLICY, "--lora", POLICY], "is no LoRA adapter"),
        ([POLICY, "--python", "/nowhere/python"], "cannot be started"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(words: list[str], said: str, precept: Precept) -> None:
    told = precept("engine", "up", *words, *([] if "--python" in words else ["--python", sys.executable]))
    assert told.code == 2 and said in told.err, told.err
    assert precept("engine", "status", "--json").json == []


def test_without_an_environment_the_command_that_makes_it_is_named(
    precept: Precept, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PRECEPT_CACHE", str(tmp_path / "cache"))
    told = precept("engine", "up", POLICY)
    assert told.code == 2 and "precept engine install" in told.err and not (tmp_path / "cache").exists()


def test_an_adapter_is_served_by_its_name_and_what_cannot_be_is_to_be_merged(
    precept: Precept, python: Path, tmp_path: Path
) -> None:
    def adapter(name: str, base: str, **more: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 4, **more}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        (folder / "adapter_model.safetensors").write_bytes(b"")
        return folder

    low = adapter("low", POLICY)
    started = up(precept, python, model=str(low))
    assert started.code == 0, started.err
    assert started.json["settings"]["judge.model"] == "low" and started.json["adapters"] == ["low"]
    assert precept("engine", "status", "--json").json[0]["serves"] == ["low-base", "low"]
    beside = up(precept, python, "--lora", f"mine={low}")
    assert beside.code == 0 and beside.json["adapters"] == ["mine"] and beside.json["model"] == "policy"
    for folder, why in (
        (adapter("high", str(low)), "an adapter of an adapter"),
        (adapter("whole", POLICY, modules_to_save=["lm_head"]), "whole modules"),
    ):
        refused = up(precept, python, model=str(folder))
        assert refused.code == 2 and why in refused.err and f"precept model merge {folder}" in refused.err
