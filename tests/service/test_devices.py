"""Which devices there are, told by an nvidia-smi, and what a process of ours sees of them."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.records import Message
from pipeline import trainers
from pipeline.engines.engine import Chat, Choose
from pipeline.trainers import memory
from sandbox.models import folder
from service import devices, placement, preflight
from service import settings as settings_module
from service.devices import Device
from service.settings import RoleSettings
from service.wiring import Wiring
from service.work.holding import Holding
from service.work.progress import Silent

ROOT = Path(__file__).parents[2]
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
    assert devices.seen_by(["cuda:0"]) == {devices.VISIBLE: ""}  # what was hidden stays so


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


# --- what runs where ----------------------------------------------------------------------------------------------


def wired(home: Path, **flags: Any) -> Wiring:
    """The sandbox's settings, as they are in the repository, with others over them."""
    dotted = {name.replace("__", "."): value for name, value in flags.items()}
    given = {"home": str(home), "store": f"sqlite:///{home}/precept.db", "prompts": "", **dotted}
    return Wiring(settings_module.load(ROOT / "precept.toml", given)[0])


def test_what_is_asked_and_what_is_trained_is_told_by_device(gpus: Callable[[str], None], tmp_path: Path) -> None:
    gpus(GPUS)
    flags = {"policy__device": "cuda:0", "judge__device": "cuda:0", "evaluator__device": "cuda:1"}
    with closing(wired(tmp_path, **flags, placement__training="cuda:1,2")) as wiring:
        found = placement.placed(wiring, [])
        placement.check_settings(wiring.settings)
    first, second, third = found.each
    assert found.processes == 2 and not found.refused
    assert set(first.asked) == {"policy's weights", "policy's KV"}  # the judge is the policy: one model
    shapes = memory._model(Path(folder("policy")))[0]
    assert first.asked["policy's weights"] == 4 * sum(math.prod(shape) for shape in shapes.values())
    assert not first.training and second.step == third.step != "" and second.training == third.training
    assert {"weights", "gradients", "AdamW", "activations"} <= set(second.training)
    assert second.training["AdamW"] == 2 * second.training["gradients"]
    assert sum(second.training.values()) <= second.at_batch
    shown = found.lines()
    assert shown[0].startswith("cuda:0 asking ") and shown[-1] == "2 processes train together"
    assert json.loads(json.dumps(found.as_dict()))["devices"][1]["fits"] is True


def test_one_that_cannot_fit_is_refused_with_the_sum(gpus: Callable[[str], None], tmp_path: Path) -> None:
    gpus("0, GPU-aaa, 2\n")  # two MiB
    with closing(wired(tmp_path, evaluator__device="cpu", prompts="sandbox")) as wiring:
        (asked, trained) = placement.placed(wiring, []).refused
        assert re.match(r"cuda:0 has 2 MB, and what is asked needs at least \d+ MB: policy's weights 3 MB", asked)
        assert re.match(r"cuda:0 has 2 MB, and the training \(\w+ by \w+\) needs at least \d+ MB: weights", trained)
        with pytest.raises(UserError, match=r"needs at least .* \+ AdamW (.|\n)*placement.required = false"):
            preflight._placement("improve", wiring, pool=False)
    with closing(wired(tmp_path, evaluator__device="cpu", placement__required=False)) as wiring:
        preflight._placement("improve", wiring, pool=False)


def test_models_that_do_not_fit_together_take_turns(gpus: Callable[[str], None], tmp_path: Path) -> None:
    gpus("0, GPU-aaa, 5\n")  # one model and its training's least do not fit either, which is told
    with closing(wired(tmp_path)) as wiring:
        (on,) = placement.placed(wiring, []).each
        assert on.turns and sum(on.asked.values()) > on.device.memory > sum(on.at_once.values()) > 0
        assert ", by turns, " in on.lines()[0]
        assert all("the training" in line for line in placement.placed(wiring, []).refused)


def test_of_models_that_take_turns_one_is_in_memory(tmp_path: Path) -> None:
    with closing(wired(tmp_path, policy__device="cpu", evaluator__device="cpu")) as wiring:
        wiring.turns = ["cpu"]
        chat = Chat((Message("user", "hello"),))
        first = wiring.role(wiring.settings.policy).engine
        before = first.choose([Choose((chat,), ("A", "B"))])
        second = wiring.role(wiring.settings.evaluator).engine
        held = weakref.ref(second._held)  # type: ignore[attr-defined]
        assert first._held is None  # type: ignore[attr-defined]
        assert first.choose([Choose((chat,), ("A", "B"))]) == before
        assert second._held is None and held() is None  # type: ignore[attr-defined]


def test_servers_keep_a_memory_of_their_own(gpus: Callable[[str], None], tmp_path: Path) -> None:
    gpus(GPUS)
    server = {"judge__kind": "openai", "judge__model": "m", "judge__base_url": "http://localhost:8000/v1"}
    with closing(wired(tmp_path, **server, judge__device="cuda:1,2", judge__revision="1")) as wiring:
        found = placement.placed(wiring, [])
    assert [each.servers for each in found.each][1:] == [("judge (http://localhost:8000/v1)",)] * 2
    assert found.each[1].most == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            {"placement__training": "cuda:0,1", "placement__processes": 1},
            "names 2 devices, and placement.processes is 1",
        ),
        ({"placement__training": "cuda:0", "placement__processes": 2}, "placement.processes is 2, and .* names 1"),
        ({"placement__accelerate": "nowhere.yaml"}, "nowhere.yaml, which is not a file"),
        ({"placement__processes": 2, "optimise__method": "best_of_n"}, "best_of_n trains in one process"),
        ({"placement__training": "gpu"}, "placement.training is 'gpu'; it must be"),
    ],
)
def test_a_placement_that_contradicts_itself_is_refused(flags: dict[str, Any], words: str, tmp_path: Path) -> None:
    flags.setdefault("policy__device", "cpu")
    with closing(wired(tmp_path, **flags)) as wiring, pytest.raises(UserError, match=words):
        placement.check_settings(wiring.settings)


def test_two_flows_never_hold_one_device(gpus: Callable[[str], None], tmp_path: Path) -> None:
    gpus(GPUS)
    with closing(wired(tmp_path)) as wiring:
        wiring.store.put_constitution("v", "text")
        run = wiring.store.start_run("key", "improve", {}, "v")
        one, other = (Holding(wiring, run, who="me", report=Silent()) for _ in range(2))
        one.hold_devices(["cuda:0", "cpu"])
        other.hold_devices(["cpu", "cuda:1"])
        third = Holding(wiring, run, who="me", report=Silent())
        with pytest.raises(UserError, match=rf"cuda:0 is in use by another flow \(process {os.getpid()}\)"):
            third.hold_devices(["cuda:2", "cuda:0"])
        with pytest.raises(UserError, match="cuda:1 is in use"):
            third.hold_devices(["cuda:1"])
        one.close()
        third.hold_devices(["cuda:2", "cuda:0"])  # and what it did not get before, it did not keep


def test_where_models_run_is_no_part_of_what_is_run(tmp_path: Path) -> None:
    with closing(wired(tmp_path)) as here, closing(wired(tmp_path, placement__training="cuda:0,1")) as there:
        assert here.settings.identity("improve") == there.settings.identity("improve")
