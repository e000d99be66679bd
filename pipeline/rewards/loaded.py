"""A reward model in memory: dialogues as text in, the raw reward of each head out.

It reads with its own tokenizer and chat template, so it can reward a policy of any other: the very ids that it was
trained on. Special tokens spelled out in a text are only text (`pipeline.engines.chats`): an answer cannot forge the
end of its turn. A dialogue that does not fit the model's positions is a UserError, never cut: half an answer would be
given the reward of another.

This module imports torch and transformers: import it inside `build`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from constitution.errors import UserError
from constitution.records import Message, Role
from pipeline.engines.chats import ChatTokenizer
from pipeline.engines.engine import Chat
from pipeline.models import merging
from pipeline.rewards import reading
from pipeline.rewards.reward import Dialogue


class RewardModel:
    def __init__(
        self, folder: Path, heads: int, template: Mapping[str, Any], dtype: str, device: str, batch_size: int
    ) -> None:
        """`template` goes to the chat template: what the model was trained with. Raises UserError where the folder
        cannot be loaded, or its tokenizer has tokens that the model does not know."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UserError("device is cuda, and torch finds no GPU; use auto or cpu")
        self._folder, self._template, self._batch_size = folder, dict(template), batch_size
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # a bar for every load, on a terminal that shows our own progress
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            options = {"dtype": getattr(torch, dtype), "num_labels": heads}
            model = merging.load(folder, AutoModelForSequenceClassification, **options)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise UserError(
                f"{folder} could not be loaded as a reward model: {error}; train or copy it again"
            ) from None
        finally:
            if bars:
                logging.enable_progress_bar()
        if self._tokenizer.chat_template is None:
            raise UserError(f"{folder}: the tokenizer has no chat template; add chat_template.jinja to the folder")
        self._chats = ChatTokenizer(self._tokenizer)
        config = model.config.get_text_config()
        pad = self._tokenizer.pad_token_id
        self._pad: int = self._tokenizer.eos_token_id if pad is None else pad
        config.pad_token_id = self._pad  # transformers insists on one; where a text ends is told by its length
        if len(self._tokenizer) > config.vocab_size:
            raise UserError(
                f"{folder}: the tokenizer has {len(self._tokenizer)} tokens and the model {config.vocab_size}; they do "
                "not belong together, copy the folder again"
            )
        self._positions: int | None = getattr(config, "max_position_embeddings", None)
        self._model = model.to(device).eval()
        self._over_answer = reading.over_answer(model)

    @torch.no_grad()
    def score(self, prompts: Sequence[Dialogue], answers: Sequence[str]) -> list[list[float]]:
        """[answers, heads]. Answers of like length share a batch; the last bits of a reward depend on its batch."""
        found = [self._ids(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        texts = [ids for ids, _ in found]
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        rewards: list[list[float]] = [[]] * len(texts)
        for start in range(0, len(order), self._batch_size):
            some = order[start : start + self._batch_size]
            width = max(len(texts[index]) for index in some)
            ids = torch.full((len(some), width), self._pad)
            attention = torch.zeros_like(ids)
            for row, index in enumerate(some):  # on the right: where a text ends is told by its length
                ids[row, : len(texts[index])] = torch.tensor(texts[index])
                attention[row, : len(texts[index])] = 1
            ids, attention = ids.to(self._model.device), attention.to(self._model.device)
            begins = torch.tensor([found[index][1] for index in some]) if self._over_answer else None
            scores = reading.rewards(self._model, ids, attention, begins)
            for index, values in zip(some, scores.float().tolist(), strict=True):
                rewards[index] = values
        return rewards

    def _ids(self, prompt: Dialogue, answer: str) -> tuple[list[int], int]:
        """The ids of a dialogue with its answer, and where the answer begins."""
        chat = Chat(tuple(Message(cast(Role, turn["role"]), turn["content"]) for turn in prompt), "", self._template)
        try:
            before, said = self._chats.answered(chat, answer)
        except UserError as error:
            raise UserError(f"the reward model {self._folder}: {error}") from None
        ids = [*before, *said]
        if self._positions is not None and len(ids) > self._positions:
            raise UserError(
                f"the reward model {self._folder} has {self._positions} positions, and the prompt "
                f"{prompt[-1]['content'][:60]!r} with its answer is {len(ids)} tokens to it; leave the prompt out, "
                "lower max_completion_length, or use a reward model with a longer context"
            )
        return ids, len(before)
