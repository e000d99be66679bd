"""The contract of a trainer: a job file and a data set in, a checkpoint folder out, in a process of its own.

To add a method, write `pipeline/trainers/x.py` with

    KIND: "policy" or "reward_model"
    COLUMNS: the columns a row of the data set must have
    DEFAULTS: its arguments under TRL's and transformers' own names, with their default values
    READS: the names of all arguments that it reads, where those are not the names of DEFAULTS
    def check(arguments) -> None, where it has one: raises UserError for arguments that do not go together
    def train(job: Job, progress: Progress) -> dict[str, Any]: trains, saves weights into `job.partial`, returns metrics

and settings then say `method: x`. `python -m pipeline.trainers JOB.json` runs a job: it checks the rows, calls
`train`, writes the model card and, last of all, the manifest: a folder without its manifest is no checkpoint.
`train` is where the heavy imports go: what else a method's module says is read by programs that never train.

READS is a promise: an argument that is declared has an effect, and every other is refused before anything is loaded
(`pipeline.trainers.arguments`, which has the names that methods on TRL's trainers share). A job's id hashes its
arguments, so one that changed nothing would still make another id, and whoever set it would believe in it. A name of
DEFAULTS that READS lacks can only be given its default value: it stays for the ids of jobs that are stored. A module of
an installed package does as well as a file here (`pipeline.plugins`).

Rows, all conversational (lists of `{"role", "content"}`):

| data set   | columns |
|------------|---------|
| sft        | prompt, completion |
| preference | prompt, chosen, rejected, p (probability that `chosen` is the better, in [0.5, 1]) |
| unpaired   | prompt, completion, label (true for a good answer) |
| prompts    | prompt |

An online method (`ONLINE = True`; ppo, rloo, grpo, best_of_n) answers prompts itself, is told by `job.reward` how good
its answers are (`pipeline.rewards`), and is measured as `job.watch` says while it learns
(`pipeline.trainers.evaluation_callback`).
`FROZEN = True` says that a method trains no weight of its model, and needs no memory for it.
`COEFFICIENT` names the argument that holds a method near to its reference, where it has one (the KL coefficient:
`beta`, `kl_coef`; best-of-n has `n` in its place): what `precept sweep` varies.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from constitution.errors import UserError
from pipeline.models.checkpoint import Kind

# What a method on TRL's trainers starts its DEFAULTS from: TRL's and transformers' own names, and the last two ours.
COMMON_DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 1.0,
    "max_steps": -1,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 32,
    "gradient_accumulation_steps": 1,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.05,  # under 1 it is a fraction of all steps
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "max_length": 1024,  # tokens of prompt and answer; the model's own context where that is shorter
    "gradient_checkpointing": False,
    "train_sampling_strategy": "group_by_length",
    "save_steps": 100,  # how often resume state is written
    "report_to": "none",
    "divergence_factor": 3.0,  # the loss that stops a run, as a multiple of its lowest; see progress.py
    "chat_template_kwargs": {},  # to the chat template, for example {"enable_thinking": False}
}


# The same of a method with one loop of answering and learning.
ONLINE_DEFAULTS: dict[str, Any] = {
    **{k: v for k, v in COMMON_DEFAULTS.items() if k not in ("train_sampling_strategy", "per_device_eval_batch_size")},
    "max_steps": -1,  # updates; -1: num_train_epochs passes over the prompts
    "max_length": 1024,  # a longer prompt is left out; an answer may go on to the end of the model's context
    "max_completion_length": 256,  # new tokens
    "temperature": 1.0,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,  # at a rate of 0, as a warm-up begins, a batch of answers is sampled for nothing
    "divergence_factor": 1e9,  # such a loss goes up and down as it learns: only one that is not finite stops the run
}


@dataclass(frozen=True)
class Job:
    """What one training run is. Read from and written to JSON; the id says what determined it (records.job_id)."""

    id: str  # hex
    method: str  # module of pipeline.trainers
    model: str  # folder of the parent weights
    out: str  # the checkpoint folder that will exist when it is done
    dataset: str  # JSONL file
    arguments: Mapping[str, Any] = field(default_factory=dict)  # over the method's DEFAULTS
    seed: int = 0
    eval_dataset: str | None = None  # held-out rows of the same columns
    lora: Mapping[str, Any] | None = None  # peft.LoraConfig's arguments; None trains all weights
    device: str = "auto"  # auto (CUDA when there is one), cpu, cuda
    dtype: str = "float32"  # of the saved weights; bfloat16 also trains in mixed precision
    reward: Mapping[str, Any] | None = None  # online methods: what rewards them, see pipeline.rewards
    watch: Mapping[str, Any] | None = None  # online methods: see pipeline.trainers.evaluation_callback
    card: Mapping[str, Any] = field(default_factory=dict)  # provenance for the model card

    @property
    def partial(self) -> Path:
        """Where weights are written before the folder is moved to `out`."""
        return Path(self.out + ".partial")

    @property
    def resume(self) -> Path:
        """The private folder of resume state (optimiser, random state): never published."""
        return Path(self.out + ".resume")

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True, ensure_ascii=True) + "\n")

    @classmethod
    def read(cls, path: Path) -> Job:
        """Raises UserError where the file is missing, is no JSON object, or has fields a job has not."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: the job file cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise UserError(f"{path}: the job file is not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise UserError(f"{path}: a job file is one JSON object")
        known = {f.name for f in dataclasses.fields(cls)}
        required = {"id", "method", "model", "out", "dataset"}
        if wrong := sorted(fields.keys() - known):
            raise UserError(f"{path}: a job has no field {', '.join(wrong)}; it has {', '.join(sorted(known))}")
        if missing := sorted(required - fields.keys()):
            raise UserError(f"{path}: the job lacks {', '.join(missing)}")
        return cls(**fields)


class Progress(Protocol):
    """What a trainer reports while it runs."""

    @property
    def interrupted(self) -> bool:
        """True once somebody asked the run to stop: save what resuming needs, then raise KeyboardInterrupt."""

    def start(self, step: int) -> None:
        """Called before the first step, with the step resumed from (0 for a fresh run): later lines of
        `progress.jsonl` come from an attempt whose work was lost, and are dropped."""

    def step(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Called once an optimiser step; writes `progress.jsonl`. Raises TrainingStopped on a loss that is not
        finite or that diverges."""


class Method(Protocol):
    """What a module of this folder that is a training method offers."""

    KIND: Kind
    COLUMNS: tuple[str, ...]
    DEFAULTS: Mapping[str, Any]
    # and, where it is so: READS, ONLINE = True, COEFFICIENT = "beta"

    def train(self, job: Job, progress: Progress) -> dict[str, Any]: ...


class TrainingStopped(RuntimeError):
    """Training was stopped for a reason that is told; the last good checkpoint is kept.

    `good_steps`: how many optimiser steps can be trusted; resume state of a later step is from the time of trouble.
    """

    def __init__(self, reason: str, good_steps: int = 0) -> None:
        super().__init__(reason)
        self.good_steps = good_steps
