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
- Our rows make it void: truncation and packing (a row that is too long is left out), `remove_unused_columns`.
- Nothing reads it here: TRL's generation and vLLM settings, its other losses where the loss is ours, evaluation by the
  library, and what needs a library that is no dependency (liger, deepspeed).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from constitution.errors import UserError

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
PAIRS_READ = ROWS_READ | HELDOUT_READS | {"disable_dropout", "dataset_num_proc"}
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


def check(method: str, module: Any, given: Mapping[str, Any]) -> None:
    """Raises UserError for the first argument that the method does not read.

    A default that it does not read (it is there for the ids of jobs that are stored) may be given as it is.
    """
    known = reads(module)
    for name, value in given.items():
        if name in known or (name in module.DEFAULTS and module.DEFAULTS[name] == value):
            continue
        hint = f"the job's {_SAID_BY[name]} says it" if name in _SAID_BY else _nearest(name, known)
        raise UserError(
            f"arguments: {method} does not read {name}{f'; {hint}' if hint else ''}; all that it reads: "
            f"python -m pipeline.trainers --arguments {method}"
        )


def listed(module: Any) -> list[str]:
    """A line for each argument that a method reads, its default behind it where the method has one."""
    return [
        f"{name} = {module.DEFAULTS[name]!r}" if name in module.DEFAULTS else name for name in sorted(reads(module))
    ]


def _nearest(name: str, known: Collection[str]) -> str:
    """A name that is spelled much the same, or of which this is a part ("epochs"); of several the shortest."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    close = close or sorted((k for k in known if name in k), key=lambda k: (len(k), k))[:1]
    return f"did you mean {close[0]}?" if close else ""
