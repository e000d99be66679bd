"""More than one process, less memory: the same losses, and what is printed of memory before training starts.

The processes are real: `accelerate launch` with the configurations that the documentation ships, over gloo.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from constitution.errors import UserError
from pipeline.models import checkpoint
from pipeline.trainers import fitting, memory, processes
from pipeline.trainers.progress import NAME, read
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job

MakeJob = Callable[..., Job]
ROOT = Path(__file__).parents[3]
PAIRS = ["reward", "dpo", "orpo"]
# 21 rows in batches of 8: the last batch of an epoch is one that two processes cannot part evenly.
ROWS = 21
CUT = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}


def curve(job: Job) -> list[dict[str, Any]]:
    return read(Path(job.out) / NAME)


def launch(config: str, jobs: Iterable[Job]) -> subprocess.CompletedProcess[str]:
    """Train jobs by two processes."""
    files = []
    for job in jobs:
        files.append(Path(f"{job.out}.json"))
        job.write(files[-1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", f"docs/accelerate/{config}.yaml"]
    command += ["--main_process_port", port, "-m", "pipeline.trainers", *map(str, files)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=280)


def check_same_training(two: Job, one: Job) -> None:
    here, there = curve(one), curve(two)
    assert [line["step"] for line in there] == [1, 2, 3, 4, 5, 6]
    for name in here[0].keys() - {"time", "entropy"}:  # TRL's entropy is a mean over micro-batches
        assert [line[name] for line in there] == pytest.approx([line[name] for line in here], abs=1e-5), name
    after = [load_file(Path(job.out) / "model.safetensors") for job in (one, two)]
    assert after[0].keys() == after[1].keys()
    for name, weights in after[0].items():
        assert torch.allclose(weights, after[1][name], atol=1e-5), name
    metrics = [checkpoint.verify(Path(job.out)).metrics for job in (one, two)]
    for name in ("loss", "eval_loss"):
        assert metrics[1][name] == pytest.approx(metrics[0][name], abs=1e-5)
    assert metrics[1]["per_device_train_batch_size"] == 4


@pytest.mark.parametrize("first", [True, False])
def test_what_is_held_out_is_written_by_the_first_process_alone(
    first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that write one file is a race: the first may have published its digest while the second still writes."""
    from pipeline.trainers import processes, soft_targets

    class Told(processes.Processes):
        def once(self, work: Any) -> Any:
            return work() if self.first else None

    monkeypatch.setattr(processes, "current", lambda: Told(0 if first else 1, 2))
    scores = {name: [0.5, -0.5] for name in ("margins", "chosen", "rejected")}
    monkeypatch.setattr(soft_targets, "score_pairs", lambda trainer, table: scores)
    trainer = SimpleNamespace(eval_dataset={"line": [1, 2], "p": [1.0, 0.0]})
    found = soft_targets.evaluate_pairs(trainer, tmp_path / "heldout.jsonl")
    assert found["eval_pairs"] == 2 and found["eval_accuracy"] == 1
    assert (tmp_path / "heldout.jsonl").exists() is first


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_train_to_the_losses_of_one(make_job: MakeJob, sample_rows: Any) -> None:
    jobs = {}
    for method in ("sft", *PAIRS):
        rows = sample_rows(method, ROWS)
        one = make_job(method, f"{method}-one", rows=rows, **CUT)
        heldout = {"rows": rows, "eval_dataset": one.dataset}
        jobs[method] = tuple(make_job(method, f"{method}-{name}", **heldout, **CUT) for name in ("one", "two"))
    done = launch("ddp", [two for _, two in jobs.values()])
    assert done.returncode == 0, done.stderr[-4000:]
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == (["step"] * 6 + ["done"]) * len(jobs)  # told once, by the first
    assert f"dpo needs about {memory.size(memory.estimate(jobs['dpo'][1], 2).total)}: weights" in done.stderr
    for one, two in jobs.values():
        run(one)
        check_same_training(two, one)
        assert not two.partial.exists() and not two.resume.exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sharded_model_trains_to_the_losses_of_a_whole_one(make_job: MakeJob, sample_rows: Any) -> None:
    rows = sample_rows("sft", ROWS)
    one = make_job("sft", "one", rows=rows, **CUT)
    heldout = {"rows": rows, "eval_dataset": one.dataset}
    one, two = (make_job("sft", name, **heldout, **CUT) for name in ("one", "two"))
    done = launch("fsdp", [two])
    assert done.returncode == 0, done.stderr[-4000:]
    run(one)
    check_same_training(two, one)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_is_wrong_is_said_once_by_several_processes(make_job: MakeJob) -> None:
    odd = make_job("dpo", per_device_train_batch_size=3)
    done = launch("ddp", [odd])
    assert done.returncode != 0
    (event,) = map(json.loads, done.stdout.splitlines())
    assert event["event"] == "user_error"
    assert "a batch of 3 rows" in event["message"] and "cannot be shared by 2 processes" in event["message"]
    assert not Path(odd.out).exists()


def test_one_process_has_nobody_to_wait_for() -> None:
    alone = processes.current()
    assert alone == processes.join(0, 1, "cpu") == processes.Processes(0, 1)
    alone.wait()
    assert alone.any(True) and not alone.any(False)
    assert alone.gather(3) == [3]
    with pytest.raises(UserError, match="no"):
        alone.once(lambda: (_ for _ in ()).throw(UserError("no")))


@pytest.mark.parametrize("method", ["reward", "dpo"])
def test_the_last_small_batch_of_an_epoch_is_cut_like_the_others(
    method: str, make_job: MakeJob, sample_rows: Any
) -> None:
    rows = sample_rows(method, ROWS)
    whole = make_job(method, "whole", rows=rows)
    cut = make_job(method, "cut", rows=rows, **CUT)
    run(whole)
    run(cut)
    for name in ("loss", "rewards/margins"):
        assert [line[name] for line in curve(cut)] == pytest.approx([line[name] for line in curve(whole)], abs=1e-5)


@pytest.mark.parametrize("method", ["sft", "reward", "dpo"])
def test_checkpointed_activations_change_no_loss(method: str, make_job: MakeJob) -> None:
    kept = make_job(method, "kept", max_steps=3)
    again = make_job(method, "again", max_steps=3, gradient_checkpointing=True)
    run(kept)
    run(again)
    expected = [line["loss"] for line in curve(kept)]
    assert [line["loss"] for line in curve(again)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("method", ["sft", "reward", "dpo"])
def test_bfloat16_trains_near_the_losses_of_float32(method: str, make_job: MakeJob) -> None:
    full = make_job(method, "full", max_steps=3)
    half = make_job(method, "half", max_steps=3, dtype="bfloat16", **CUT)
    run(full)
    run(half)
    expected = [line["loss"] for line in curve(full)]
    assert [line["loss"] for line in curve(half)] == pytest.approx(expected, rel=0.03)
    assert {weights.dtype for weights in load_file(Path(half.out) / "model.safetensors").values()} == {torch.bfloat16}


def test_the_estimate_of_memory_by_hand(make_job: MakeJob, model: Path) -> None:
    job = make_job("sft")
    weights = sum(tensor.numel() for tensor in load_file(model / "model.safetensors").values())
    parts = memory.estimate(job).parts
    assert [parts[name] for name in ("weights", "gradients", "AdamW")] == [4 * weights, 4 * weights, 8 * weights]
    adapter = memory.estimate(make_job("sft", lora={**LORA, "r": 1}))
    matrices = [t for t in load_file(model / "model.safetensors").values() if t.dim() == 2]
    in_and_out = sum(sum(matrix.shape) for matrix in matrices) - sum(matrices[0].shape)  # the embedding has none
    assert adapter.parts["gradients"] == 4 * in_and_out
    assert adapter.parts["AdamW"] == 8 * in_and_out
    assert adapter.parts["weights"] == 4 * (weights + in_and_out)
    assert str(memory.estimate(job)).startswith("needs about 5")


def test_the_estimate_of_memory_goes_where_memory_goes(make_job: MakeJob) -> None:
    def part(name: str, method: str = "dpo", **options: Any) -> float:
        return memory.estimate(make_job(method, **options)).parts[name]

    assert part("activations", per_device_train_batch_size=16) == 2 * part("activations")
    assert part("activations", gradient_checkpointing=True) < part("activations")
    assert part("activations", dtype="bfloat16") < part("activations")
    assert part("logits", "reward") == 0 < part("logits")
    assert part("weights", "sft", dtype="bfloat16", lora=LORA) < 0.75 * part("weights", "sft", lora=LORA)
    shared = memory.estimate(make_job("dpo"), processes=2)
    assert shared.parts["activations"] == part("activations") / 2


def test_what_memory_it_took_is_in_the_manifest(make_job: MakeJob) -> None:
    manifest = run(make_job("sft", max_steps=1))
    assert 100 < manifest.metrics["peak_memory_mb"] < 20_000


def test_the_estimate_is_within_a_factor_of_two_of_what_a_step_takes(tmp_path: Path, model: Path) -> None:
    """A model that is large enough to be seen beside the libraries, in a process of its own."""
    code = f"""
import json, re, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
from pipeline.trainers.__main__ import import_training_libraries
from pipeline.trainers import memory
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job
import_training_libraries()
torch.set_num_threads(1)
folder = Path({str(tmp_path)!r})
config = Qwen3Config(hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=4, head_dim=64,
                     num_key_value_heads=4, vocab_size=8192, max_position_embeddings=128, tie_word_embeddings=True)
Qwen3ForCausalLM(config).save_pretrained(folder / "model")
AutoTokenizer.from_pretrained({str(model)!r}).save_pretrained(folder / "model")
say = lambda role, word: [dict(role=role, content=" ".join([word] * 12))]
rows = [dict(prompt=say("user", "door"), chosen=say("assistant", "apple"), rejected=say("assistant", "window"), p=0.9)]
(folder / "rows.jsonl").write_text((json.dumps(rows[0]) + "\\n") * 32)
job = Job("m", "dpo", str(folder / "model"), str(folder / "out"), str(folder / "rows.jsonl"), device="cpu",
          arguments=dict(per_device_train_batch_size=32, max_steps=2, per_device_eval_batch_size=8))
before = int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
grown = run(job).metrics["peak_memory_mb"] * 1e6 - before
need = memory.estimate(job)
print((need.total - need.parts["libraries"]) / grown)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 0.5 < float(done.stdout.split()[-1]) < 2.0


def test_out_of_memory_in_one_of_several_processes_is_for_the_user(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job("sft", per_device_train_batch_size=8, gradient_accumulation_steps=1)
    monkeypatch.setattr(fitting.processes, "current", lambda: _Pretended())

    def build(batch_size: int) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    class Quiet:
        interrupted = False

    with pytest.raises(UserError, match="out of memory with 4 rows a device; set per_device_train_batch_size to 2"):
        fitting.fit(job, Quiet(), build)  # type: ignore[arg-type]


class _Pretended(processes.Processes):
    def __init__(self) -> None:
        super().__init__(0, 2)

    def once(self, work: Callable[[], Any]) -> Any:
        return work()
