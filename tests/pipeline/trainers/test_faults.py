"""What goes wrong outside of the program: one clear message, and every good checkpoint as it was.

Rows, template and settings have their messages tested in test_job_checks and test_training; here are all ties, parents
that are damaged in ways that only loading shows, and a disk that fills up in the middle of a save.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from pipeline.models import checkpoint
from pipeline.trainers import fitting
from pipeline.trainers.progress import NAME, read
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job

MakeJob = Callable[..., Job]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}


def check_one_line(error: pytest.ExceptionInfo[UserError]) -> None:
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("method", ["dpo", "reward"])
def test_rows_that_are_all_ties_teach_nothing(method: str, make_job: MakeJob, sample_rows: Any) -> None:
    job = make_job(method, rows=sample_rows(method, p=0.5))
    with pytest.raises(UserError, match=r"every row is a tie \(p is 0.5\), so there is nothing to learn") as error:
        run(job)
    check_one_line(error)
    assert not Path(job.out).exists() and not job.partial.exists()
    one = sample_rows(method, p=0.5)
    one[3]["p"] = 0.6
    assert run(make_job(method, "one", rows=one, max_steps=1)).metrics["rows"] == len(one)


def test_an_empty_data_set_is_said_to_be_empty(make_job: MakeJob) -> None:
    job = make_job("dpo")
    Path(job.dataset).write_text("\n\n")
    with pytest.raises(UserError, match="the data set is empty; it needs rows with prompt, chosen, rejected, p"):
        run(job)


# --- a parent that is damaged ------------------------------------------------------------------------------------


@pytest.fixture
def parent(model: Path, tmp_path: Path) -> Path:
    shutil.copytree(model, tmp_path / "copy")
    return tmp_path / "copy"


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def emptied(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def overwritten(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(b"\xff" * 16 + path.read_bytes()[16:])


def no_tensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def half_a_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:500])


def no_architecture(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def another_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))


def half_a_configuration(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text()[:100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, r"model.safetensors: is damaged, \d+ bytes of \d+; copy it again"),
        (emptied, "model.safetensors: is damaged, it does not begin as a safetensors file"),
        (overwritten, "model.safetensors: is damaged, it does not begin as a safetensors file"),
        (no_tensors, "model.safetensors: is damaged, it does not begin as a safetensors file"),
        (half_a_tokenizer, "tokenizer.json: cannot be read as JSON"),
        (half_a_configuration, "config.json: cannot be read as JSON"),
        (no_architecture, "the model cannot be loaded: "),
        (another_width, "the model cannot be loaded: "),
    ],
)
@pytest.mark.parametrize("method", ["sft", "reward"])
def test_a_damaged_parent_is_named(
    damage: Callable[[Path], None], message: str, method: str, parent: Path, make_job: MakeJob
) -> None:
    damage(parent)
    job = make_job(method, model=str(parent))
    with pytest.raises(UserError, match=message) as error:
        run(job)
    check_one_line(error)
    assert str(parent) in str(error.value)
    assert not Path(job.out).exists()


def test_a_damaged_checkpoint_is_found_before_it_is_trained_on(make_job: MakeJob) -> None:
    first = make_job("sft", "first", max_steps=1)
    run(first)
    weights = Path(first.out) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")  # as long as ever
    with pytest.raises(UserError, match=r"model\.safetensors is not what was published"):
        run(make_job("dpo", "second", model=first.out))


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(parent: Path, make_job: MakeJob) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(parent)
    size = len(tokenizer)
    tokenizer.add_tokens(["<|more|>"])
    tokenizer.save_pretrained(parent)
    with pytest.raises(UserError, match=f"the tokenizer knows {size + 1} tokens, the model in .* only {size}"):
        run(make_job("dpo", model=str(parent)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lora": {"target_modules": "nope"}}, "lora: Target modules"),
        ({"lora": {"target_modules": "(["}}, "lora: "),
        ({"lora": {"target_modules": ["(["]}}, "lora: Target modules"),
        ({"lora": {"layers_to_transform": 99, "target_modules": ["q_proj"]}}, "lora: Target modules"),
        ({"optim_args": "foo"}, "arguments .*optim_args"),
        ({"lr_scheduler_kwargs": {"x": 1}, "lr_scheduler_type": "linear"}, "arguments .*lr_scheduler_kwargs"),
    ],
)
def test_what_a_library_cannot_set_up_is_told(make_job: MakeJob, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        run(make_job("sft", **options))


def test_a_reference_with_another_vocabulary_is_refused(parent: Path, make_job: MakeJob) -> None:
    adapter = make_job("sft", "adapter", model=str(parent), lora=LORA, max_steps=1)
    run(adapter)
    tokenizer = json.loads((parent / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    one, other = list(vocabulary)[10], list(vocabulary)[11]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    (parent / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match="its tokenizer has another vocabulary than the model it adapts") as error:
        run(make_job("dpo", "next", model=adapter.out))
    check_one_line(error)


# --- a full disk -------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """`small_disk(kB)`: a file system of that size, mounted again larger when asked again."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False

    def mount(size: int) -> Path:
        nonlocal mounted
        options = f"remount,size={size}k" if mounted else f"size={size}k"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip("only root can mount a small disk; the file-size limit below stands for it")
        mounted = True
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # an error's traceback may hold a file open


@pytest.mark.parametrize(
    ("kilobytes", "steps_kept"),
    [(260, 0), (900, 2)],  # in the first resume state; in the second
)
def test_a_disk_that_fills_up_is_told_and_the_run_goes_on_when_there_is_room(
    kilobytes: int, steps_kept: int, small_disk: Callable[[int], Path], make_job: MakeJob, tmp_path: Path
) -> None:
    disk = small_disk(kilobytes)
    clean = make_job("dpo", "clean", save_steps=2)
    run(clean)
    full = make_job("dpo", "disk/full", save_steps=2)
    before = {path: path.read_bytes() for path in Path(clean.out).rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"the disk is full \(\d\.\d MB free where it lies\); make room") as error:
        run(full)
    check_one_line(error)
    assert not Path(full.out).exists()
    kept = fitting.resume_state(full)
    assert (kept[2] if kept else 0) == steps_kept
    assert all(path.read_bytes() == content for path, content in before.items())

    small_disk(20_000)
    steps: list[int] = []
    manifest = run(full, on_step=lambda line: steps.append(line["step"]))
    assert steps == list(range(steps_kept + 1, 7))
    assert manifest.digest == checkpoint.verify(Path(clean.out)).digest
    losses = [[line["loss"] for line in read(Path(job.out) / NAME)] for job in (clean, full)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
    assert disk.is_dir()


def test_weights_that_do_not_fit_at_the_very_end_leave_no_checkpoint(make_job: MakeJob) -> None:
    """No root needed: a file may not grow beyond a size that the weights have, and the files before them have not."""
    job = make_job("sft", "limited", max_steps=1, save_steps=500, optim="sgd")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match="the disk is full"):
            run(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert not Path(job.out).exists()
    assert run(job).metrics["steps"] == 1
    assert checkpoint.verify(Path(job.out)).job == job.id


# --- the experiment tracker (promises, row 22) ---


@pytest.mark.parametrize("method", ["sft", "ppo"])
@pytest.mark.parametrize("dies_at", ["__init__", "on_train_begin", "on_log"])
def test_a_tracker_that_is_down_or_dies_is_one_warning(
    method: str, dies_at: str, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import TrainerCallback
    from transformers.integrations import integration_utils

    told: list[str] = []

    def dies(self: Any, *_: Any, **__: Any) -> None:
        told.append(dies_at)
        raise ConnectionError("nobody answers")

    tracker = type("MLflowCallback", (TrainerCallback,), {dies_at: dies, "__module__": integration_utils.__name__})
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "mlflow", tracker)
    monkeypatch.setattr("pipeline.trainers.arguments._untracked", lambda value: "")
    job = tracked(method, make_job)
    manifest = run(job)
    assert checkpoint.verify(Path(job.out)).digest == manifest.digest
    (warning,) = [r.message for r in caplog.records if "tracker" in r.message]
    assert warning == "the tracker MLflow failed (ConnectionError: nobody answers): training goes on without it"
    assert told == [dies_at]


@pytest.mark.parametrize("method", ["sft", "ppo"])
def test_a_tracker_is_told_every_step_and_keeps_its_files(
    method: str, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import TrainerCallback
    from transformers.integrations import integration_utils

    told: list[tuple[str, int]] = []
    folders: list[str] = []

    class MLflowCallback(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            folders.append(os.environ["TENSORBOARD_LOGGING_DIR"])

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            told.append(("begin", len(args.to_dict()) and model.config.vocab_size and state.max_steps))

        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
            if "loss" in logs:
                told.append(("log", state.global_step))

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            told.append(("end", state.global_step))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "mlflow", MLflowCallback)
    monkeypatch.setattr("pipeline.trainers.arguments._untracked", lambda value: "")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    job = tracked(method, make_job)
    run(job)
    assert told == [("begin", 2), ("log", 1), ("log", 2), ("end", 2)]
    assert folders == [f"{job.out}.tensorboard"] and "TENSORBOARD_LOGGING_DIR" not in os.environ


def tracked(method: str, make_job: MakeJob) -> Job:
    if method == "sft":
        return make_job("sft", "tracked", report_to="mlflow", max_steps=2)
    online = {"max_completion_length": 4, "per_device_train_batch_size": 4, "num_ppo_epochs": 1}
    rows = [{"prompt": [{"role": "user", "content": "help please"}]}] * 4
    job = make_job("ppo", "tracked", report_to="mlflow", max_steps=2, rows=rows, **online)
    return dataclasses.replace(job, reward={"kind": "rule", "checks": {"max_words": 3}})
