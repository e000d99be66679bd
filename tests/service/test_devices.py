"""Which devices there are, told by an nvidia-smi, and what a process of ours sees of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from pipeline import trainers
from service import devices
from service.devices import Device
from service.settings import RoleSettings

GPUS = "0, GPU-aaa, 24576\n1, GPU-bbb, 24576\n2, GPU-ccc, [N/A]\n"


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`gpus(text)`: an nvidia-smi that says so."""

    def put(text: str) -> None:
        folder = tmp_path / f"bin{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        program = folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'X'\n{text}X\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    monkeypatch.delenv(devices.VISIBLE, raising=False)
    return put


def test_gpus_are_counted_as_torch_counts_them(gpus: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(GPUS)
    memory = 24576 * 2**20
    assert devices.there() == (
        Device("cuda:0", memory, "0"),
        Device("cuda:1", memory, "1"),
        Device("cuda:2", None, "2"),
    )
    assert devices.named("auto") == ("cuda:0",) and devices.named("cuda:0,2") == ("cuda:0", "cuda:2")
    monkeypatch.setenv(devices.VISIBLE, "2,GPU-bbb,-1,0")
    assert devices.there() == (Device("cuda:0", None, "2"), Device("cuda:1", memory, "GPU-bbb"))
    assert devices.seen_by(["cuda:1"]) == {devices.VISIBLE: "GPU-bbb"}
    with pytest.raises(UserError, match=r"placement.training names cuda:2; .*: cuda:0, cuda:1"):
        devices.of(["cuda:2"], "placement.training")
    monkeypatch.setenv(devices.VISIBLE, "")
    assert devices.there() == () and devices.named("auto") == ("cpu",)


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:x", "cuda:0,", "cpu:0", "cuda:0;1"])
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be auto, cpu, cuda"):
        devices.named(text)


def test_a_server_is_on_devices_here_only_where_its_settings_say_so() -> None:
    assert devices.of_role(RoleSettings(base_url="http://localhost:8000/v1")) == ()
    assert devices.of_role(RoleSettings(base_url="http://localhost:8000/v1", device="cuda:0,1")) == ("cuda:0", "cuda:1")
    assert devices.of_role(RoleSettings(device="cpu")) == ("cpu",)


def test_the_training_process_sees_its_devices_and_no_more() -> None:
    with trainers.Worker(devices.seen_by(["cuda:1"])) as worker:
        seen = Path(f"/proc/{worker.pid}/environ").read_bytes().split(b"\0")
    assert b"CUDA_VISIBLE_DEVICES=1" in seen


def test_a_reward_of_another_gpu_is_on_the_first_that_the_training_sees() -> None:
    engine = {"kind": "transformers", "device": "cuda:3"}
    server = {"kind": "openai", "device": "cuda:3", "base_url": "http://localhost:8000/v1"}
    spec: dict[str, Any] = {"kind": "judge", "engine": engine, "judge_options": {"other": server}}
    assert devices.inside(spec) == {
        "kind": "judge", "engine": {**engine, "device": "cuda"}, "judge_options": {"other": server}
    }  # fmt: skip
    assert devices.addresses(spec) == {"http://localhost:8000/v1"} and devices.addresses(None) == set()


def test_counting_them_imports_no_torch() -> None:
    code = "import sys, service.devices as d; d.there(); d.named('auto'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
