"""Answers sampled from the model that is being trained, and their log-probabilities under it and its reference.

What every online method needs and TRL does not share: the project's own engine over the live weights, and the
reference as one thing, whether it is a frozen copy or the same model with its adapter switched off.

This module imports torch: import it inside `train`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from constitution.records import Message, Messages, Role
from pipeline.engines.chats import ChatTokenizer
from pipeline.engines.engine import Chat, Generate, Sampling, all_answered
from pipeline.engines.transformers import TransformersEngine

Dialogue = Sequence[Mapping[str, str]]  # messages as data sets have them: {"role", "content"}


@dataclass(frozen=True)
class Rollout:
    """One sampled answer. `ids`: its tokens as they were sampled, the end-of-turn token among them where it `ended`
    (and was not cut at the token limit)."""

    prompt: Dialogue
    prompt_ids: Sequence[int]
    ids: Sequence[int]
    text: str
    ended: bool


class Sampler(Protocol):
    """Where answers come from. One that holds weights of its own (a vLLM server) takes the new ones in `refresh`."""

    def refresh(self, model: Any) -> None:
        """The weights were changed since the last call."""

    def sample(self, prompts: Sequence[Dialogue], seeds: Sequence[int]) -> list[Rollout]: ...


class InProcess:
    """The `transformers` engine over the very model that is trained: its weights are always the newest."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 256,
        batch_size: int = 64,
        template: Mapping[str, Any] | None = None,
    ) -> None:
        self._model = model
        self._engine = TransformersEngine(model, ChatTokenizer(tokenizer), [Path()], batch_size, training=True)
        self._sampling = Sampling(temperature, 1.0, max_new_tokens)
        self._template = dict(template or {})
        self._prompt_ids: dict[Messages, list[int]] = {}  # prompts come again, update after update

    def refresh(self, model: Any) -> None:
        pass

    def render(self, chat: Chat) -> list[int]:
        """The ids that an answer to `chat` is sampled after."""
        return self._engine.render(chat)

    def refusal(self, prompt: Dialogue) -> str:
        """Why `prompt` cannot be answered; empty where it can."""
        return self._engine.refusal(Chat(as_messages(prompt), "", self._template))

    def sample(self, prompts: Sequence[Dialogue], seeds: Sequence[int]) -> list[Rollout]:
        chats = [Chat(as_messages(prompt), "", self._template) for prompt in prompts]
        with evaluating(self._model):
            requests = [Generate(chat, self._sampling, seed) for chat, seed in zip(chats, seeds, strict=True)]
            completions = all_answered(self._engine.generate(requests))
        for chat in chats:
            if chat.messages not in self._prompt_ids:
                self._prompt_ids[chat.messages] = self._engine.render(chat)
        rendered = [self._prompt_ids[chat.messages] for chat in chats]
        return [
            Rollout(prompt, ids, done.ids, done.text, done.finish_reason == "stop")
            for prompt, ids, done in zip(prompts, rendered, completions, strict=True)
        ]


def as_messages(dialogue: Dialogue) -> Messages:
    """A data set's dialogue as the records have it."""
    return tuple(Message(cast(Role, m["role"]), m["content"]) for m in dialogue)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Dropout off, and back to what it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@dataclass(frozen=True)
class Batch:
    """Rollouts as tensors, prompts padded on the left and answers on the right.

    `ids` and `attention` [rows, P + T]; `mask` [rows, T] is true at the answers' tokens, the end of turn among them.
    """

    ids: Tensor
    attention: Tensor
    mask: Tensor

    @property
    def answers(self) -> Tensor:
        return self.ids[:, -self.mask.shape[1] :]

    def rows(self, index: Any) -> Batch:
        return Batch(self.ids[index], self.attention[index], self.mask[index])


def pack(rollouts: Sequence[Rollout], pad: int, device: Any = "cpu") -> Batch:
    """[rows, longest prompt + longest answer]. An empty answer has one masked position."""
    before = max(len(r.prompt_ids) for r in rollouts)
    after = max(1, max(len(r.ids) for r in rollouts))
    ids = torch.full((len(rollouts), before + after), pad, dtype=torch.long)
    attention = torch.zeros_like(ids)
    for row, r in enumerate(rollouts):
        start, end = before - len(r.prompt_ids), before + len(r.ids)
        ids[row, start:end] = torch.tensor([*r.prompt_ids, *r.ids])
        attention[row, start:end] = 1
    return Batch(ids.to(device), attention.to(device), attention[:, before:].bool().to(device))


def logits_of(model: Any, batch: Batch) -> Tensor:
    """[rows, T, vocabulary] float32: what the model says before each answer token."""
    positions = (batch.attention.cumsum(-1) - 1).clamp(min=0)
    width = batch.mask.shape[1]
    out = model(
        input_ids=batch.ids,
        attention_mask=batch.attention,
        position_ids=positions,
        use_cache=False,
        logits_to_keep=width + 1,
    )
    return out.logits[:, :-1].float()  # type: ignore[no-any-return]


def logprobs(model: Any, batch: Batch, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the answers' tokens and the entropies there, both [rows, T], 0 where there is no token."""
    logits = logits_of(model, batch) / temperature
    chosen = -F.cross_entropy(logits.transpose(1, 2), batch.answers, reduction="none")
    with torch.no_grad():
        logs = logits.log_softmax(-1)
        entropy = -(logs.exp() * logs).sum(-1)
    nothing = ~batch.mask
    return chosen.masked_fill(nothing, 0.0), entropy.masked_fill(nothing, 0.0)


class Reference:
    """The policy as it was before training. Of a LoRA policy it is the model with the adapter off: the adapter sits on
    the parent with any earlier adapter merged, so that the two are equal at step 0. Of full weights it is a copy.

    `model`: the copy, or the model itself, whose adapter is then on.
    """

    def __init__(self, model: Any) -> None:
        self._adapter = hasattr(model, "disable_adapter")
        self.model = model if self._adapter else _frozen(model)

    @torch.no_grad()
    def logprobs(self, batch: Batch, temperature: float = 1.0) -> Tensor:
        """[rows, T], 0 where there is no token."""
        with self.model.disable_adapter() if self._adapter else nullcontext(), evaluating(self.model):
            return logprobs(self.model, batch, temperature)[0]


def _frozen(model: Any) -> Any:
    import copy

    return copy.deepcopy(model).eval().requires_grad_(False)
