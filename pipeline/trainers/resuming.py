"""What a training loop of our own needs that transformers' Trainer has: resume state, and room in memory.

The state of `ppo` is written here in the form that `fitting.resume_state` reads. This module imports torch: import it
inside `train`.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from safetensors.torch import load_file, save_file
from torch import Tensor

from constitution.errors import UserError
from pipeline.models import checkpoint
from pipeline.trainers import fitting, processes
from pipeline.trainers.trainer import Job, TrainingStopped

log = logging.getLogger(__name__)
T = TypeVar("T")

Weights = Mapping[str, Mapping[str, Tensor]]  # of each role: its trained parameters by name
STATE = "state.pt"  # private to the run, and read as data alone


def save(job: Job, step: int, rows: int, weights: Weights, state: Mapping[str, Any]) -> None:
    """Into `job.resume`: weights, `state` (tensors and plain data) and the random state. The last two are kept.

    The files' digests come last: without them, or with others, a state is passed over.
    """
    folder = job.resume / f"checkpoint-{step}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for role, parameters in weights.items():
        save_file({name: p.detach().contiguous() for name, p in parameters.items()}, folder / f"{role}.safetensors")
    drawn = {
        "python": random.getstate(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    torch.save({**state, "random": drawn}, folder / STATE)
    files = {path.name: checkpoint.file_digest(path) for path in folder.iterdir()}
    whole = {"job": job.id, "batch_size": rows, "processes": processes.current().count, "files": files}
    (folder / fitting.RESUME).write_text(json.dumps(whole))
    for old in sorted(job.resume.glob("checkpoint-*"), key=fitting.step_of)[:-2]:
        shutil.rmtree(old)


def load(folder: Path, weights: Weights) -> dict[str, Any]:
    """Put back weights and random state, and return the `state` that was saved."""
    for role, parameters in weights.items():
        saved = load_file(folder / f"{role}.safetensors")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(saved[name])
    state: dict[str, Any] = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    drawn = state.pop("random")
    random.setstate(drawn["python"])
    torch.set_rng_state(drawn["torch"])
    if drawn["cuda"]:
        torch.cuda.set_rng_state_all(drawn["cuda"])
    return state


def fit(job: Job, attempt: Callable[[int], T]) -> T:
    """What `attempt(rows)` returns, with so many rows through a model at a time that they fit into memory: where they
    do not, half as many, from the last state that was saved.

    Raises TrainingStopped, once the states it does not trust are dropped, and UserError when not even one row fits, or
    where one of several processes runs out of memory: the others cannot go back.
    """
    together = processes.current()
    kept = together.once(lambda: fitting.resume_state(job))
    rows = kept[1] if kept else min(int(job.arguments["per_device_train_batch_size"]), fitting.share_of(job))
    while True:
        try:
            return attempt(rows)
        except TrainingStopped as stop:
            together.once(partial(fitting.drop_resume_states, job, after=stop.good_steps))
            kept = together.once(lambda: fitting.resume_state(job))
            last = f"the last good weights are in {kept[0]}" if kept else "no state was saved before that"
            raise TrainingStopped(f"{stop}; {last}, and the parent {job.model} is unchanged", stop.good_steps) from None
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if together.count > 1:
                raise UserError(
                    f"out of memory with {rows} rows a device; set per_device_train_batch_size to {rows // 2 or 1} and "
                    "gradient_accumulation_steps to keep the product"
                ) from None
            if rows == 1:
                raise UserError(
                    "out of memory with one row a device; use LoRA, a shared value trunk, shorter answers, bfloat16 or "
                    "gradient_checkpointing"
                ) from None
        log.warning("out of memory with %d rows a device; trying %d at the same effective batch", rows, rows // 2)
        rows //= 2
        clear_device_cache(garbage_collection=True)  # here, where the error no longer holds the failed attempt
