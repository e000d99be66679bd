"""Which arguments a training method reads: what a job may set, and what is refused before anything is loaded.

A job's id hashes its arguments. One that nobody reads would make another id of the same training, and let whoever set
it believe that it did something: so a method declares what it reads, and the rest is a mistake.

What is declared here for the methods on TRL's trainers has an effect on what is trained, on how fast, or on where it is
reported. Of what transformers and TRL have besides, these are left out, and why:

- The job says it: seeds, device, folders, what is saved, precision (`dtype`; a gradient of fp16 overflows now and then,
  and `progress` stops on that), sharding (how the processes are launched). Nothing is pushed to a hub.
- It would break a promise: `average_tokens_across_devices`, `accelerator_config`, `dataloader_in_order` change losses
  with the number of processes, `ignore_data_skip` and `save_only_model` resuming, `auto_find_batch_size` the batch, and
  `logging_strategy` hides losses from `progress`.
- Our rows make it void: truncation and packing (a row that is too long is left out), `remove_unused_columns`, and, but
  for SFT, `dataset_num_proc` (they come tokenised).
- Nothing reads it here: TRL's generation and vLLM settings, its other losses where the loss is ours, evaluation by the
  library, and what needs a library that is no dependency (liger, deepspeed).

A value is looked at as well, strictly: its type is the one that TRL's, transformers' or peft's own dataclass has
(`declared`), or else that of the method's default; a size is no fraction, no rate negative, nothing NaN or infinite.
What one argument asks of another a method says itself, in a function `check(arguments)` of its module.
"""

from __future__ import annotations

import importlib.util
import math
import types
from collections.abc import Collection, Mapping
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Len
from pydantic import ConfigDict, TypeAdapter, ValidationError

from constitution.errors import UserError, nearest_name
from pipeline.trainers import declared

# Arguments of every method on TRL's trainers, under the names of transformers' TrainingArguments.
TRAINER_READS = frozenset(
    [
        # how long, and in which batches
        *("num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps"),
        # the optimiser and its schedule
        *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
        *("optim", "optim_args", "optim_target_modules", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
        *("max_grad_norm", "neftune_noise_alpha"),
        # memory and speed
        *("gradient_checkpointing", "gradient_checkpointing_kwargs", "torch_empty_cache_steps", "tf32"),
        *("torch_compile", "torch_compile_backend", "torch_compile_mode", "full_determinism"),
        *("dataloader_num_workers", "dataloader_persistent_workers", "dataloader_prefetch_factor"),
        *("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers"),
        # what is told of it, and what is kept
        *("report_to", "run_name", "project", "log_level", "log_level_replica", "debug", "save_steps"),
        # ours: see trainer.COMMON_DEFAULTS
        *("max_length", "divergence_factor", "chat_template_kwargs"),
    ]
)
# Those on a data set of rows, and not on answers of their own.
ROWS_READ = TRAINER_READS | {"train_sampling_strategy", "dataloader_drop_last", "activation_offloading"}
HELDOUT_READS = frozenset({"per_device_eval_batch_size"})
PAIRS_READ = ROWS_READ | HELDOUT_READS | {"disable_dropout"}
SFT_READS = ROWS_READ | {
    *("loss_type", "label_smoothing_factor", "shuffle_dataset", "pad_to_multiple_of", "dataset_num_proc"),
    "router_aux_loss_coef",
}

# What people try to set that a job says by another name.
_SAID_BY = {
    **dict.fromkeys(("seed", "data_seed"), "seed"),
    **dict.fromkeys(("bf16", "fp16"), "dtype"),
    **dict.fromkeys(("use_cpu", "no_cuda"), "device"),
    "output_dir": "out",
}


def reads(module: Any) -> frozenset[str]:
    """The arguments that a method's module reads: READS, or else the names of its DEFAULTS."""
    declared: Collection[str] = getattr(module, "READS", module.DEFAULTS)
    return frozenset(declared)


# Types that are ours, or narrower here than where they are passed on to.
_OURS: dict[str, Any] = {
    "max_length": int | None,
    "divergence_factor": float,
    "chat_template_kwargs": dict[str, Any],
    "heads": int,
    "n": int,
    "max_completion_length": int,
    "temperature": float,
    "num_generations": int,
    "scale_rewards": bool | Literal["group", "batch", "none"],
    "reward_clip_range": Annotated[list[float], Len(2, 2)] | None,
    "train_sampling_strategy": Literal["random", "sequential", "group_by_length"],
    "importance_sampling_level": Literal["token", "sequence"],
    **dict.fromkeys(
        ("log_level", "log_level_replica"),
        Literal["detail", "debug", "info", "warning", "error", "critical", "passive"],
    ),
    **dict.fromkeys(("missing_eos_penalty", "kl_target", "target_kl"), float | None),
    "value_trunk": Literal["separate", "shared"],
}
_LOSSES: dict[str, Any] = {
    "sft": Literal["nll", "dft"],
    "best_of_n": Literal["nll", "dft"],
    "grpo": Literal["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"],
}
_LORA: dict[str, Any] = {"lora_alpha": float}
_TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow", "clearml", "codecarbon", "comet_ml", "dvclive", "swanlab")
_LIMITS: tuple[tuple[tuple[str, ...], float, float, str], ...] = (  # the least and the greatest, both allowed
    (
        (
            *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "max_length"),
            *("max_completion_length", "num_generations", "num_iterations", "n", "heads", "num_ppo_epochs"),
            *("num_mini_batches", "precompute_ref_batch_size", "torch_empty_cache_steps", "dataset_num_proc"),
            *("pad_to_multiple_of", "dataloader_prefetch_factor", "ddp_bucket_cap_mb", "r"),
        ),
        1,
        math.inf,
        "a whole number, 1 or more",
    ),
    (("dataloader_num_workers",), 0, math.inf, "a whole number, 0 or more"),
    (
        (
            *("num_train_epochs", "save_steps", "temperature", "divergence_factor", "adam_epsilon", "lora_alpha"),
            *("cliprange", "cliprange_value", "kl_target", "kl_horizon", "target_kl", "delta"),
            *("sapo_temperature_neg", "sapo_temperature_pos"),
        ),
        math.ulp(0.0),
        math.inf,
        "a finite number above 0",
    ),
    (
        (
            *("learning_rate", "weight_decay", "warmup_steps", "max_grad_norm", "neftune_noise_alpha", "beta"),
            *("epsilon", "epsilon_high", "kl_coef", "vf_coef", "missing_eos_penalty", "desirable_weight"),
            *("undesirable_weight", "router_aux_loss_coef", "off_policy_mask_threshold", "entropy_target"),
        ),
        0,
        math.inf,
        "a finite number, 0 or more",
    ),
    (("gamma", "lam", "top_entropy_quantile"), 0, 1, "a number from 0 to 1"),
    (
        ("adam_beta1", "adam_beta2", "label_smoothing_factor", "lora_dropout"),
        0,
        math.nextafter(1, 0),
        "a number from 0 up to, and not, 1",
    ),
)
_BOUNDS = {name: (low, high, text) for names, low, high, text in _LIMITS for name in names}
_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


def check(method: str, module: Any, given: Mapping[str, Any], where: str = "arguments") -> None:
    """Raises UserError for the first argument that the method does not read, or whose value it cannot work with.
    `where` is what the message calls the arguments: the setting or the option that they stand in.

    A default that it does not read (it is there for the ids of jobs that are stored) may be given as it is.
    """
    known = reads(module)
    for name, value in given.items():
        if name in module.DEFAULTS and _same(module.DEFAULTS[name], value):
            continue
        if name not in known:
            hint = f"the job's {_SAID_BY[name]} says it" if name in _SAID_BY else _nearest(name, known)
            raise UserError(
                f"{where}: {method} does not read {name}{f'; {hint}' if hint else ''}; all that it reads: "
                f"python -m pipeline.trainers --arguments {method}"
            )
        if wanted := _refused(name, value, _kind(method, module, name), _is_ours(module)):
            raise UserError(f"{where}: {name} is {_shown(value)}; it must be {wanted}")
    if hasattr(module, "check"):
        try:
            module.check({**module.DEFAULTS, **given})
        except UserError as error:
            raise UserError(f"{where}: {str(error).removeprefix('arguments: ')}") from None


def check_lora(given: Mapping[str, Any] | None, where: str = "lora", method: str = "") -> None:
    """Raises UserError for the first argument of an adapter that peft does not have, or that has no value for it.
    `bits` is ours: the weights below the adapter in 4 bits."""
    known = declared.fields("LoraConfig")
    check_bits(given, where, method)
    for name, value in (given or {}).items():
        if name == BITS:
            continue
        if known and (name not in known or name in ("peft_type", "task_type", "inference_mode")):
            hint = _nearest(name, known)
            raise UserError(f"{where}: peft's LoRA has no {name} to set{f'; {hint}' if hint else ''}, as in r = 16")
        if wanted := _refused(name, value, _LORA.get(name, known.get(name, Any)), True):
            raise UserError(f"{where}: {name} is {_shown(value)}; it must be {wanted}")


def check_bits(given: Mapping[str, Any] | None, where: str = "lora", method: str = "") -> None:
    """Raises UserError where 4 bits are asked for and cannot be had, or another number of them."""
    bits = (given or {}).get(BITS)
    if bits is None:
        return
    if type(bits) is not int or bits != 4:
        raise UserError(f"{where}: {BITS} is {bits!r}; it can be 4, and nothing else: leave it out for whole weights")
    if method and method not in FOUR_BITS:
        raise UserError(f"{where}: {BITS} = 4 is for {', '.join(FOUR_BITS)}, and not for {method}; leave {BITS} out")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"{where}: {BITS} = 4 needs bitsandbytes, which is not installed: pip install bitsandbytes, or leave "
            f"{BITS} out"
        )


def _is_ours(module: Any) -> bool:
    """Whether a method is a file here: only then does a name mean what it means to TRL."""
    return str(getattr(module, "__name__", "")).startswith(f"{__package__}.")


def _kind(method: str, module: Any, name: str) -> Any:
    """The type of an argument: ours, or the library's, or that of the default; Any where nobody says."""
    default = module.DEFAULTS.get(name)
    if _is_ours(module):
        if name == "loss_type" and method in _LOSSES:
            return _LOSSES[method]
        if name in _OURS:
            return _OURS[name]
        library = declared.fields(declared.TRAINERS.get(method, "TrainingArguments"))
        if name in library:
            return library[name]
    if isinstance(default, bool):
        return bool
    if isinstance(default, int | float):  # a plug-in's 1 may mean 1.0
        return int if isinstance(default, int) and _is_ours(module) else float
    return next((kind for kind in (str, list, dict) if isinstance(default, kind)), Any)


def _refused(name: str, value: Any, kind: Any, limited: bool) -> str:
    """What a value should be, in words, where it is not that; empty where it is well. `limited`: whether the name has
    the limits that are known here."""
    low, high, text = _BOUNDS.get(name, (-math.inf, math.inf, "")) if limited else (-math.inf, math.inf, "")
    text = text or _words(kind)
    if name == "max_steps" and limited:
        text = "a whole number, 1 or more, or -1: as num_train_epochs says"
    if not _finite(value):
        return text if "number" in text else f"{text}, every number in it finite"
    if "\0" in str(value):
        return f"{text} without a NUL character"
    try:
        _adapter(kind).validate_python(list(value) if isinstance(value, tuple) else value)
    except ValidationError:
        return text
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not low <= value <= high or (name == "max_steps" and limited and value != -1 and value < 1):
            return text
        if abs(value) > _GREATEST:
            return f"{text}, and no more than {_GREATEST:.0e}"
    return _untracked(value) if name == "report_to" and limited else ""


BITS = "bits"  # of `lora`
FOUR_BITS = ("sft", "reward", "dpo", "kto", "orpo", "rloo", "grpo")  # methods whose model may be in 4 bits
_GREATEST = 1e300  # more than a float holds is no number of anything


def _untracked(value: Any) -> str:
    """Where runs are reported: the trackers that are known, and that are installed."""
    for tracker in [value] if isinstance(value, str) else value or []:
        if tracker in ("none", "all"):
            continue
        if tracker not in _TRACKERS:
            return f"none, or of {', '.join(_TRACKERS)}"
        if importlib.util.find_spec(tracker) is None:
            return f"a tracker that is installed: pip install {tracker.replace('_', '-')}, or take another"
    return ""


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=_STRICT)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _finite(value: Any) -> bool:
    """Whether every number in a value is finite."""
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _words(kind: Any) -> str:
    """A type as people say it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return f"{inner[1].max_length} numbers"
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(part) for part in inner if part is not type(None)))
    if origin is list:
        return f"a list, each {_words(inner[0])}"
    plain = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
    return plain.get(kind, {dict: "a table", list: "a list"}.get(origin or kind, "a value that can be written as JSON"))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(module: Any) -> list[str]:
    """A line for each argument that a method reads, its default behind it where the method has one."""
    return [
        f"{name} = {module.DEFAULTS[name]!r}" if name in module.DEFAULTS else name for name in sorted(reads(module))
    ]


def _nearest(name: str, known: Collection[str]) -> str:
    """A name that is spelled much the same, or of which this is a part ("epochs"); of several the shortest."""
    near = nearest_name(name, sorted(known))
    near = near or next(iter(sorted((k for k in known if name in k), key=lambda k: (len(k), k))), "")
    return f"did you mean {near}?" if near else ""
