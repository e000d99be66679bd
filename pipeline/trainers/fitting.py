"""What every method on TRL's trainers shares: a model and settings in, a fitted trainer and saved weights out.

Resuming after a kill and running out of memory are here; what is trained for is in `sft`, `dpo` and `reward`. This
module imports torch and transformers: import it inside `train`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import find_executable_batch_size
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from datasets import Dataset, concatenate_datasets
from torch.utils.data import SequentialSampler
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from constitution.errors import UserError
from pipeline import trainers
from pipeline.engines.chats import ChatTokenizer
from pipeline.models import checkpoint, merging
from pipeline.models.stops import write_stop_ids
from pipeline.trainers import arguments, processes, trackers
from pipeline.trainers.rows import LengthGrouped, as_trained, check_prompts, like_lengths
from pipeline.trainers.trainer import Job, Progress, TrainingStopped

log = logging.getLogger(__name__)

OURS = ("divergence_factor", "chat_template_kwargs")  # arguments that are not TRL's
RESUME = "resume.json"  # in a resume checkpoint, written last: its files by digest, and whose it is


# --- model and settings ------------------------------------------------------------------------------------------


def load_tokenizer(job: Job) -> PreTrainedTokenizerBase:
    with _loading(job):
        tokenizer = AutoTokenizer.from_pretrained(job.model)
    if tokenizer.chat_template is None:
        raise UserError(f"{job.model}: the tokenizer has no chat template; add chat_template.jinja to the folder")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(f"{job.model}: the tokenizer has neither a padding nor an end-of-text token")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(job: Job, architecture: Any, **options: Any) -> PreTrainedModel:
    """The parent's weights, its adapters merged, in the dtype they are trained in.

    Full weights are trained in float32 (bfloat16 is then the autocast's business: AdamW's updates are lost in
    bfloat16 weights); below a LoRA they stay frozen in the job's dtype, or in 4 bits (QLoRA, arXiv 2305.14314).
    """
    set_seed(job.seed)  # a reward model's head is drawn here
    if job.lora and job.lora.get(arguments.BITS):
        return _in_four_bits(job, architecture, **options)
    dtype = torch.bfloat16 if job.lora and job.dtype == "bfloat16" else torch.float32
    with _loading(job):
        return merging.load(Path(job.model), architecture, dtype=dtype, **options)


def _in_four_bits(job: Job, architecture: Any, **options: Any) -> PreTrainedModel:
    """The parent's weights as 4-bit NormalFloat with constants that are quantised, too (sections 3 and 4 there); norms
    and heads stay whole. Adapters are merged before, in float32."""
    arguments.check_bits(job.lora, method=job.method)
    from peft import prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if job.dtype == "bfloat16" else torch.float32,
    )
    device = f"cuda:{torch.cuda.current_device()}" if use_cuda(job) else "cpu"
    merged = job.resume / "merged"
    with _loading(job):
        folder = Path(job.model)
        if len(checkpoint.stack(folder)) > 1:
            merging.load(folder, architecture, dtype=torch.float32, **options).save_pretrained(merged)
            folder = merged
        try:
            model = architecture.from_pretrained(
                folder, use_safetensors=True, quantization_config=how, device_map={"": device}, **options
            )
        finally:
            shutil.rmtree(merged, ignore_errors=True)
    ready: PreTrainedModel = prepare_model_for_kbit_training(
        model, use_gradient_checkpointing=bool(job.arguments.get("gradient_checkpointing"))
    )
    return ready


@contextlib.contextmanager
def _loading(job: Job) -> Iterator[None]:
    """What a library says of a folder whose files are whole and do not fit together, as a UserError."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        if should_reduce_batch_size(error) or isinstance(error, UserError):
            raise
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"{job.model}: the model cannot be loaded: {reason[:200]}") from error


def context_length(job: Job, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens a row may have: `max_length`, or the model's positions where those are fewer.

    Raises UserError where the tokenizer knows tokens that the model does not.
    """
    from transformers import AutoConfig

    folder = checkpoint.stack(Path(job.model))[-1]
    with _loading(job):
        config = AutoConfig.from_pretrained(folder).get_text_config()
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"{job.model}: the tokenizer knows {len(tokenizer)} tokens, the model in {folder} only "
            f"{config.vocab_size}; take the tokenizer that belongs to the model"
        )
    positions = getattr(config, "max_position_embeddings", None)
    limits = [value for value in (job.arguments["max_length"], positions) if value]
    return min(limits) if limits else int(tokenizer.model_max_length)


def lora_config(job: Job, task: str) -> Any:
    """peft's LoraConfig, or None for a job that trains all weights. A reward model's new head is saved with it."""
    if job.lora is None:
        return None
    from peft import LoraConfig

    options = {"task_type": task, **{name: value for name, value in job.lora.items() if name != arguments.BITS}}
    if task == "SEQ_CLS":
        options["modules_to_save"] = sorted({"score", *options.get("modules_to_save", [])})
    try:
        return LoraConfig(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"lora: {error}") from None


# Where the libraries read what a job gives them as it is, by the name of the function that does.
_READERS = {
    "inject_adapter": "lora",
    "create_optimizer": "arguments (optim, optim_args)",
    "create_scheduler": "arguments (lr_scheduler_type, lr_scheduler_kwargs)",
}


@contextlib.contextmanager
def setting_up() -> Iterator[None]:
    """What a library says of an adapter, an optimiser or a schedule that it cannot make, as a UserError. Other errors
    pass: they are no user's mistake."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, re.error) as error:
        frames = (frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__))
        where = next((_READERS[name] for name in frames if name in _READERS), None)
        if where is None or isinstance(error, UserError):
            raise
        raise UserError(f"{where}: {str(error)[:300] or type(error).__name__}") from error


def configure(
    job: Job, config_class: type[TrainingArguments], batch_size: int, limit: int, **method: Any
) -> TrainingArguments:
    """The job's arguments as TRL's configuration, with a batch of `batch_size` rows a device and the rest of the job's
    batch accumulated. `method` holds what the method decides and a job cannot.

    Raises UserError for a value that TRL refuses. Which arguments there are is `arguments`'s business.
    """
    arguments = {key: value for key, value in job.arguments.items() if key not in (*OURS, "report_to")}
    if job.dtype not in ("float32", "bfloat16"):
        raise UserError(f"dtype is {job.dtype!r}; it must be float32 or bfloat16")
    cuda = use_cuda(job)
    decided = {
        "output_dir": str(job.resume),
        "seed": job.seed,
        "use_cpu": not cuda,
        "bf16": job.dtype == "bfloat16",
        "dataloader_pin_memory": cuda,
        "disable_tqdm": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # on, it would hide what the run must stop on
        "eval_strategy": "no",
        "save_strategy": "steps",
        "save_total_limit": 2,  # one may be half written
        "report_to": "none",  # the trackers are `trackers`'s business
        **method,
    }
    arguments |= {
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": share_of(job) // batch_size,
    }
    if any(field.name == "max_length" for field in dataclasses.fields(config_class)):
        arguments["max_length"] = limit
    try:
        with warnings.catch_warnings():  # TRL 1.16 itself sets names that transformers 5.23 calls deprecated
            warnings.simplefilter("ignore", FutureWarning)
            settings = config_class(**decided, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"arguments: {error}") from None
    if processes.current().count > 1:
        processes.allow_fsdp()
    return settings


def use_cuda(job: Job) -> bool:
    if job.device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device is {job.device!r}; it must be auto, cpu or cuda")
    if job.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, and torch finds no GPU; use auto or cpu")
    return job.device != "cpu" and torch.cuda.is_available()


def share_of(job: Job) -> int:
    """Rows of each batch that one process trains on: a job's batch is the whole job's, however many share it."""
    count = processes.current().count
    batch = int(job.arguments["per_device_train_batch_size"]) * int(job.arguments["gradient_accumulation_steps"])
    if batch % count:
        raise UserError(
            f"a batch of {batch} rows (per_device_train_batch_size x gradient_accumulation_steps, of all processes "
            f"together) cannot be shared by {count} processes; make it a multiple of {count}"
        )
    return batch // count


def _largest_divisor(number: int, limit: int) -> int:
    return next((size for size in range(limit, 0, -1) if number % size == 0), 0)


class TrainerMixin:
    """What is ours in each of TRL's trainers: the order of batches, and no model card beside every resume state.

    The order is drawn for the whole job's batches, of which several processes take their parts. An epoch that ends in
    a batch too small to be parted is filled up with rows of no weight, `filler`; where a trainer has none, the library
    fills it with rows that were trained on already.
    """

    train_dataset: Any
    order: Any = None  # the sampler of the last data loader, whose order is drawn from (seed, epoch)

    def as_trained(self, row: dict[str, Any]) -> tuple[list[int], list[list[int]]]:
        """The ids before the first answer of a row of the tokenised training set, and each answer's."""
        return as_trained(row)

    def filler(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """A row like `row`, of the tokenised training set, that weighs nothing in the loss and has `length` 0."""
        return None

    def get_train_dataloader(self) -> Any:
        args: TrainingArguments = self.args  # type: ignore[attr-defined]
        rows = self.train_dataset
        missing = -len(rows) % (args.train_batch_size * args.world_size)
        if args.world_size == 1 or not missing or (row := self.filler(rows[0])) is None:
            return super().get_train_dataloader()  # type: ignore[misc]
        filler = Dataset.from_list([row] * missing, features=rows.features)
        self.train_dataset = concatenate_datasets([rows, filler])
        try:
            return super().get_train_dataloader()  # type: ignore[misc]
        finally:
            self.train_dataset = rows

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        args: TrainingArguments = self.args  # type: ignore[attr-defined]
        if args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        lengths = list(self.train_dataset["length"])
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.order = LengthGrouped(lengths, batch, args.seed)
        return self.order

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        return SequentialSampler(eval_dataset)

    def add_numbers(
        self, dataset: Any, names: Sequence[str], batch_size: int, compute: Callable[[Any], Sequence[torch.Tensor]]
    ) -> Any:
        """`dataset` with a column of numbers more for each of `names`: what `compute` makes of a batch, [rows] for each
        name. Once, before training, by all processes, each some of the batches."""
        together = processes.current()
        mine: dict[int, tuple[float, ...]] = {}
        for part in like_lengths(dataset, batch_size)[together.index :: together.count]:
            batch = self._prepare_inputs(self.data_collator([dataset[row] for row in part]))  # type: ignore[attr-defined]
            with self.accelerator.autocast():  # type: ignore[attr-defined]
                numbers = [values.tolist() for values in compute(batch)]
            mine.update(zip(part, zip(*numbers, strict=True), strict=True))
        computed = {row: values for share in together.gather(mine) for row, values in share.items()}
        columns = zip(*(computed[row] for row in range(len(dataset))), strict=True)
        for name, values in zip(names, columns, strict=True):
            dataset = dataset.add_column(name, list(values))
        return dataset

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        pass


# --- fitting -----------------------------------------------------------------------------------------------------


def fit(job: Job, progress: Progress, build: Callable[[int], Trainer]) -> tuple[Trainer, dict[str, Any]]:
    """Train to the end, from the last good resume state where there is one, and return the trainer and its figures.

    `build(batch_size)` makes a trainer with that many rows a device at the job's effective batch. Where memory runs
    out the batch is halved and the run begins again; with several processes, of which only one may have run out, it is
    for the user to ask for less. Raises TrainingStopped, KeyboardInterrupt, and UserError when not even one row fits.
    """
    together = processes.current()
    share = share_of(job)
    state = together.once(lambda: resume_state(job))
    asked = _largest_divisor(share, int(job.arguments["per_device_train_batch_size"]))
    first = batch_size = state[1] if state and share % state[1] == 0 else asked
    began = time.monotonic()

    def halve() -> int:
        nonlocal batch_size, state
        if together.count > 1:
            raise UserError(
                f"out of memory with {batch_size} rows a device; set per_device_train_batch_size to "
                f"{batch_size // 2 or 1} and gradient_accumulation_steps to keep the product"
            )
        smaller = _largest_divisor(share, batch_size // 2)
        log.warning("out of memory with %d rows a device; trying %d at the same effective batch", batch_size, smaller)
        drop_resume_states(job, after=-1)
        batch_size, state = smaller, None
        return batch_size

    @find_executable_batch_size(starting_batch_size=batch_size, reduce_batch_size_fn=halve)  # type: ignore[untyped-decorator]
    def run(batch_size: int) -> Trainer:
        if batch_size != first:
            clear_device_cache(garbage_collection=True)  # the attempt that failed is unreachable only now
        with setting_up():
            trainer = build(batch_size)
        rows, batch = len(trainer.train_dataset), batch_size * together.count
        if trainer.args.dataloader_drop_last and rows < batch:
            raise UserError(
                f"{job.dataset}: {rows} rows fill no batch of {batch}, and none is left to train on; leave "
                "out dataloader_drop_last, or lower per_device_train_batch_size"
            )
        if "prompt_ids" in trainer.train_dataset.column_names:
            check_prompts(job, trainer.train_dataset, as_trained=trainer.as_trained)
        trainer.remove_callback(PrinterCallback)
        trackers.attach(trainer, job)
        trainer.add_callback(_Report(job, progress, batch_size, trainer))
        together.in_turn(lambda: progress.start(state[2] if state else 0))
        with setting_up():
            trainer.train(resume_from_checkpoint=str(state[0]) if state else None)
        return trainer

    try:
        trainer = run()
    except TrainingStopped as stop:
        good_steps = stop.good_steps
        together.once(lambda: drop_resume_states(job, after=good_steps))
        kept = resume_state(job)
        last = f"the last good weights are in {kept[0]}" if kept else "no state was saved before that"
        raise TrainingStopped(f"{stop}; {last}, and the parent {job.model} is unchanged", stop.good_steps) from None
    except RuntimeError as error:
        if "No executable batch size" in str(error):
            raise UserError(
                "out of memory with one row a device; use LoRA, a smaller max_length, bfloat16 or "
                "gradient_checkpointing"
            ) from None
        raise
    if together.any(progress.interrupted) and trainer.state.global_step < trainer.state.max_steps:
        raise KeyboardInterrupt
    return trainer, {
        **_last_steps(trainer.state.log_history),
        "steps": trainer.state.global_step,
        "epochs": round(float(trainer.state.epoch or 0), 3),
        "per_device_train_batch_size": batch_size,
        "seconds": round(time.monotonic() - began, 2),
    }


def _last_steps(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each logged figure averaged over the last quarter of the steps, ten at most, and the first loss."""
    steps = [entry for entry in history if "loss" in entry]
    last = steps[-max(1, min(10, len(steps) // 4)) :]
    names = {name for entry in last for name in entry} - {"step", "epoch", "num_tokens", "learning_rate", "grad_norm"}
    logged = {name: [entry[name] for entry in last if name in entry] for name in sorted(names)}
    return {"first_loss": steps[0]["loss"], **{name: sum(values) / len(values) for name, values in logged.items()}}


class _Report(TrainerCallback):  # type: ignore[misc]
    """Tells the progress of every step, writes down what makes a resume state whole, and obeys an interruption."""

    def __init__(self, job: Job, progress: Progress, batch_size: int, trainer: Any) -> None:
        self.job, self.progress, self.batch_size, self.trainer = job, progress, batch_size, trainer

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Of several processes that resume within an epoch, accelerate wraps the order once more, and transformers
        tells it no epoch any more: it would be the first one's again."""
        if (order := getattr(self.trainer, "order", None)) is not None:
            order.set_epoch(int(state.epoch or 0))

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if processes.current().any(self.progress.interrupted):
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            numbers = {key: float(value) for key, value in logs.items() if key not in ("epoch", "num_tokens")}
            self.progress.step(state.global_step, state.max_steps, numbers)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        together = processes.current()
        together.wait()  # each saves its random state, and parts of a sharded model
        if not together.first:
            return
        folder = self.job.resume / f"checkpoint-{state.global_step}"
        paths = [path for path in folder.rglob("*") if path.is_file() and path.name != RESUME]
        files = {path.relative_to(folder).as_posix(): checkpoint.file_digest(path) for path in paths}
        whole = {"job": self.job.id, "batch_size": self.batch_size, "processes": together.count, "files": files}
        (folder / RESUME).write_text(json.dumps(whole))


def resume_state(job: Job) -> tuple[Path, int, int] | None:
    """(folder, rows a device, step) of the newest whole resume state of this very job, by as many processes; others
    are passed over."""
    folders = sorted(job.resume.glob("checkpoint-*"), key=step_of, reverse=True)
    for folder in folders:
        try:
            whole = json.loads((folder / RESUME).read_text())
            same = whole["job"] == job.id and whole["processes"] == processes.current().count
            if same and all(checkpoint.file_digest(folder / name) == digest for name, digest in whole["files"].items()):
                return folder, int(whole["batch_size"]), step_of(folder)
        except (OSError, ValueError, KeyError):
            continue
    return None


def step_of(folder: Path) -> int:
    """The step of a resume state, by its folder's name."""
    return int(folder.name.rsplit("-", 1)[1])


def drop_resume_states(job: Job, after: int) -> None:
    """Of later steps."""
    for folder in job.resume.glob("checkpoint-*"):
        if step_of(folder) > after:
            shutil.rmtree(folder)


def save(job: Job, trainer: Trainer) -> None:
    """What a trainer has trained, as `save_model` leaves it."""
    # A sharded model's weights are gathered by all of its processes.
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None
    save_model(job, trainer.accelerator.unwrap_model(trainer.model), weights)


def save_model(job: Job, model: Any, weights: dict[str, torch.Tensor] | None = None) -> None:
    """Weights and the parent's tokenizer into `job.partial`: safetensors, no pickle, nothing of the optimiser's; of a
    policy also every token that ends its answers, for servers, in generation_config.json.
    `weights`: gathered ones, of a model that holds a part of itself. Called by every process."""
    if job.lora is not None:
        # peft remembers the lowest base; where the parent was an adapter itself, that is not what this one sits on.
        model.peft_config["default"].base_model_name_or_path = str(Path(job.model).resolve())
    elif weights is None:
        model.to(_saved_dtype(job))
    else:
        tied = model.all_tied_weights_keys  # gathered, they are two tensors; in a file there is one
        weights = {name: tensor.to(_saved_dtype(job)) for name, tensor in weights.items() if name not in tied}
        model.config.dtype = _saved_dtype(job)

    def write() -> None:
        model.save_pretrained(job.partial, state_dict=weights)
        checkpoint.copy_tokenizer(Path(job.model), job.partial)
        if trainers.load(job.method).KIND == "policy":
            write_stop_ids(job.partial, Path(job.model), ChatTokenizer(load_tokenizer(job)).stop_ids)

    processes.current().once(write)


def _saved_dtype(job: Job) -> torch.dtype:
    return torch.bfloat16 if job.dtype == "bfloat16" else torch.float32
