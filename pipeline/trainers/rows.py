"""Rows as TRL takes them, and the order in which they are trained on. Whether a row is well formed is `checks`'s.

This module imports torch and datasets: import it inside `train`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase

from constitution.errors import UserError
from pipeline.trainers.trainer import Job
from pipeline.training_rows import read_rows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rows:
    """A data set as TRL takes it (`table`), and how many of its rows were left out because they do not fit."""

    table: datasets.Dataset
    left_out: int


def load_rows(path: Path, columns: Sequence[str], tokenizer: PreTrainedTokenizerBase, job: Job, limit: int) -> Rows:
    """Rows of at most `limit` tokens, each with its `length` in tokens and its `line` in the file.

    A prompt that leaves no room for an answer is a mistake (UserError). A row whose answer does not fit is left out
    and counted: half an answer would teach to stop nowhere.
    """
    template = dict(job.arguments["chat_template_kwargs"])
    kept, left_out = [], 0
    for row in read_rows(path, columns):
        row = {key: _messages(value) if isinstance(value, list) else value for key, value in row.items()}
        prompt = _tokens(tokenizer, row["prompt"], template, add_generation_prompt=True)
        if prompt >= limit:
            raise UserError(
                f"{path}, line {row['line']}: the prompt is {prompt} tokens and leaves no room for an "
                f"answer in {limit}; raise max_length, or leave the row out"
            )
        answers = [row[name] for name in ("completion", "chosen", "rejected") if name in row]
        length = max((_tokens(tokenizer, row["prompt"] + answer, template) for answer in answers), default=prompt)
        if length > limit:
            left_out += 1
            continue
        kept.append({**row, "length": length, **({"chat_template_kwargs": template} if template else {})})
    if not kept:
        raise UserError(f"{path}: no row fits into {limit} tokens; raise max_length")
    if left_out:
        log.warning(
            "%s: %d of %d rows are longer than %d tokens and left out", path, left_out, left_out + len(kept), limit
        )
    return Rows(datasets.Dataset.from_list(kept), left_out)


def like_lengths(table: datasets.Dataset, size: int) -> list[list[int]]:
    """The places of a table's rows, at most `size` together, rows of like length together: less padding."""
    order = sorted(range(len(table)), key=table["length"].__getitem__)
    return [order[start : start + size] for start in range(0, len(order), size)]


def _messages(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Role and content only, without lone surrogates: neither Arrow nor a tokenizer can hold those."""
    return [
        {"role": m["role"], "content": m["content"].encode("utf-16", "surrogatepass").decode("utf-16", "replace")}
        for m in messages
    ]


def _tokens(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], template: dict[str, Any], **options: Any
) -> int:
    encoded = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **template, **options)
    return len(encoded["input_ids"])


class LengthGrouped(Sampler[int]):
    """Rows of like length share a batch; the batches' order is drawn from (seed, epoch) alone. Rows of length 0 fill
    up the last batch (see `fitting.TrainerMixin`): they change no other, and come last.

    Transformers' own sampler draws from the global random state, which a resumed run does not have.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        rows = [index for index, length in enumerate(self.lengths) if length]
        order = [rows[position] for position in torch.randperm(len(rows), generator=generator).tolist()]
        pool = 32 * self.batch_size  # sorted within pools, so that batches differ from epoch to epoch
        batches = []
        for start in range(0, len(order), pool):
            chunk = sorted(order[start : start + pool], key=lambda index: self.lengths[index])
            batches += [chunk[i : i + self.batch_size] for i in range(0, len(chunk), self.batch_size)]
        # A batch that is not full goes last, as in any epoch.
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [index for batch in batches if len(batch) < self.batch_size for index in batch]
        for position in torch.randperm(len(full), generator=generator).tolist():
            yield from full[position]
        yield from rest
        yield from (index for index, length in enumerate(self.lengths) if not length)
