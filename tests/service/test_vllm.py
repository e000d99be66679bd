"""What vLLM is told, on a CPU and on GPUs that this machine does not have, and what two servers may share."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from constitution.errors import UserError
from service.vllm import environment, launch, servers
from service.vllm.models import Model

MODEL = Model("tuned", "tuned-base", Path("/m/base"), Path("/m/base"), {"tuned": Path("/m/tuned")}, rank=12)
PLAIN = Model("big", "big", Path("/m/big"), Path("/m/big"))
UP = servers.Server("a", "big", "", "", "", "", "127.0.0.1", 8000, "0,1", 1, "", "", "")


def after(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_several_gpus_are_one_server_and_nothing_of_a_cpu_is_said() -> None:
    words = launch.command("python", PLAIN, "127.0.0.1", 8000, "cuda", "bfloat16", "0,3", ["--max-model-len", "9"])
    assert after(words, "--tensor-parallel-size") == "2" and words[-2:] == ["--max-model-len", "9"]
    assert "--enforce-eager" not in words and "--enable-lora" not in words
    around = launch.environment({"CUDA_VISIBLE_DEVICES": "7", "PYTHONPATH": "x"}, "/e/bin/python", "cuda", "0,3")
    assert around["CUDA_VISIBLE_DEVICES"] == "0,3" and around["PATH"].startswith("/e/bin:")
    assert "PYTHONPATH" not in around and "VLLM_CPU_KVCACHE_SPACE" not in around


def test_an_adapter_has_room_for_its_rank() -> None:
    words = launch.command("python", MODEL, "127.0.0.1", 8000, "cpu", "float32", "", [])
    assert after(words, "--max-lora-rank") == "16" and after(words, "--lora-modules") == "tuned=/m/tuned"
    assert after(words, "--served-model-name") == "tuned-base" and "--enforce-eager" in words


def test_the_tokenizer_and_what_changes_weights_are_shown_to_this_machine_alone() -> None:
    shown = "--enable-tokenizer-info-endpoint"
    for host in launch.LOOPBACK:
        assert shown in launch.command("python", PLAIN, host, 8000, "cpu", "float32", "", [])
        launch.refuse_open(host, dev=True, key=False)
    assert shown not in launch.command("python", PLAIN, "0.0.0.0", 8000, "cpu", "float32", "", [])
    with pytest.raises(UserError, match="--dev opens routes"):
        launch.refuse_open("10.0.0.1", dev=True, key=True)
    given = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_API_KEY": "old", "VLLM_CPU_KVCACHE_SPACE": "4"}
    closed = launch.environment(given, "python", "cpu", "")
    assert "VLLM_SERVER_DEV_MODE" not in closed and "VLLM_API_KEY" not in closed
    assert closed["VLLM_CPU_KVCACHE_SPACE"] == "4"  # whoever set it means it
    assert launch.environment(given, "python", "cpu", "", dev=True)["VLLM_SERVER_DEV_MODE"] == "1"


@pytest.mark.parametrize(
    ("given", "kind", "devices"),
    [
        ("auto", "cuda", ""),
        ("cpu", "cpu", ""),
        ("0", "cuda", "0"),
        ("cuda:0,cuda:1", "cuda", "0,1"),
        ("0, 1", "cuda", "0,1"),
    ],
)
def test_devices_as_people_write_them(given: str, kind: environment.Kind, devices: str) -> None:
    assert launch.devices_of(given, kind) == devices


@pytest.mark.parametrize(("given", "kind"), [("0", "cpu"), ("gpu", "cuda"), ("0,0", "cuda"), ("mps", "cuda")])
def test_devices_that_are_none(given: str, kind: environment.Kind) -> None:
    with pytest.raises(UserError, match=f"--device {given}"):
        launch.devices_of(given, kind)


def test_a_gpu_has_one_server_unless_both_were_told_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "members", lambda server: [server.pid])
    servers.refuse_taken("b", "2", False, [UP])
    with pytest.raises(UserError, match="the server a has device 1"):
        servers.refuse_taken("b", "1,2", True, [UP])
    servers.refuse_taken("b", "1,2", True, [replace(UP, shares=True)])


@pytest.mark.parametrize(
    ("said", "mend"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "--gpu-memory-utilization"),
        ("ValueError: To serve at least one request with the models's max seq len (8192), (0.5 GiB KV cache is needed",
         "--max-model-len"),
        ("OSError: [Errno 98] Address already in use", "leave out --port"),
        ("/usr/bin/python: No module named vllm", "precept engine install"),
        ("something else", "its log says why"),
    ],
)  # fmt: skip
def test_what_mends_a_bad_start_is_read_from_its_log(said: str, mend: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"INFO a line\n{said}\n")
    assert mend in launch.mend(tmp_path / "log")


def test_both_environments_have_the_same_vllm_and_another_lock_is_another(tmp_path: Path) -> None:
    pins = [
        re.search(r"^vllm(?:-cpu)?==(\S+)", (environment.LOCKS / f"{kind}.lock").read_text(), re.MULTILINE)
        for kind in environment.KINDS
    ]
    assert len({pin[1] for pin in pins if pin}) == 1 and all(pins)
    (tmp_path / "lock").write_text("one==1")
    before = environment.place("x", tmp_path / "lock")
    (tmp_path / "lock").write_text("one==2")
    assert environment.place("x", tmp_path / "lock") != before
