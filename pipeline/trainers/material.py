"""What every method on rows begins with: the job's tokenizer and its rows, read once, whatever batch then fits.

This module imports torch and transformers: import it inside `train`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from pipeline.trainers import fitting
from pipeline.trainers.rows import Rows, load_rows
from pipeline.trainers.trainer import Job


@dataclass(frozen=True)
class Material:
    """What a method on rows begins with. `limit`: tokens that a row may have."""

    tokenizer: PreTrainedTokenizerBase
    limit: int
    rows: Rows
    heldout: Rows | None

    @classmethod
    def of(cls, job: Job, columns: Sequence[str]) -> Material:
        tokenizer = fitting.load_tokenizer(job)
        limit = fitting.context_length(job, tokenizer)
        rows = load_rows(Path(job.dataset), columns, tokenizer, job, limit)
        heldout = load_rows(Path(job.eval_dataset), columns, tokenizer, job, limit) if job.eval_dataset else None
        return cls(tokenizer, limit, rows, heldout)

    @property
    def counted(self) -> dict[str, Any]:
        """For the metrics: how many rows there are, and how many were left out."""
        return self.rows.counted

    def options(self, job: Job, task: str) -> dict[str, Any]:
        """What TRL's trainers take of it. Their `train_dataset` may be replaced."""
        return {
            "train_dataset": self.rows.table,
            "eval_dataset": self.heldout.table if self.heldout else None,
            "processing_class": self.tokenizer,
            "peft_config": fitting.lora_config(job, task),
        }
