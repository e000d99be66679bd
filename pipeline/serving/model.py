"""A model as a server needs it: token ids in, and token ids or log-probabilities out, beside all that an engine does.

Log-probabilities are natural, over the whole vocabulary, at temperature 1, whatever is sampled at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from constitution.errors import UserError
from pipeline.engines.chats import ChatTokenizer
from pipeline.engines.engine import Chat, EngineSettings, Refused, Sampling
from pipeline.engines.plain_text import readable
from pipeline.engines.transformers import SCORE_LOGITS, TransformersEngine, checked

if TYPE_CHECKING:
    from torch import Tensor

TAIL = 8  # tokens before an answer that decide how its first ones are spelt


@dataclass(frozen=True, slots=True)
class Continue:
    """Sample after `ids`. `stop`: ids that end it beside the model's own. `ended` as in `decoding.decode`, by text."""

    ids: tuple[int, ...]
    sampling: Sampling
    seed: int
    stop: frozenset[int]
    ended: Callable[[list[int]], bool]


@dataclass(frozen=True, slots=True)
class Read:
    """Log-probabilities of `ids[start:]`, each with the `top` likeliest in its place and those of `wanted`. With
    `sampling` a token is drawn behind the last one, as `Continue` of one token would, and read likewise."""

    ids: tuple[int, ...]
    start: int
    top: int = 0
    wanted: tuple[int, ...] = ()
    sampling: Sampling | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A token in its place. `logprob` None: the first token of all, which nothing came before. `top`: the likeliest
    first, then those that were wanted."""

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()


def load(settings: EngineSettings) -> ServedModel:
    """As the transformers engine's `build`, with the same UserErrors."""
    import torch

    from pipeline.engines.folder import load

    found, device = checked(settings)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tokenizer = load(found, settings.dtype, device)
    return ServedModel(model, tokenizer, found.folders, settings.batch_size)


class ServedModel(TransformersEngine):
    def __init__(self, model: Any, tokenizer: Any, folders: Sequence[Any], batch_size: int) -> None:
        self.chats = ChatTokenizer(tokenizer)
        super().__init__(model, self.chats, folders, batch_size)
        self._raw = tokenizer

    @property
    def context(self) -> int | None:
        """The most tokens that it reads and writes; None where its configuration does not say."""
        return None if math.isinf(self._context) else int(self._context)

    @property
    def vocabulary(self) -> int:
        return self._vocabulary

    @property
    def stop(self) -> frozenset[int]:
        """What ends an answer."""
        return self._stop

    def continued(self, asked: Sequence[Continue]) -> list[list[int] | Refused]:
        """New tokens of each, as `decode` gives them. Raises what an `ended` raises."""
        from pipeline.engines.decoding import decode

        def run(batch: list[int]) -> list[list[int]]:
            of = [asked[i] for i in batch]

            def ended(row: int, written: list[int]) -> bool:
                return written[-1] in of[row].stop or of[row].ended(written)

            return decode(
                self._model, [each.ids for each in of], [each.sampling for each in of], [each.seed for each in of],
                self._stop, ended=ended,
            )  # fmt: skip

        return self._in_batches([len(each.ids) for each in asked], [1] * len(asked), run)

    def read(self, asked: Sequence[Read]) -> list[list[Step] | Refused]:
        """The steps of each: those of `ids[start:]`, and one more where a token was to be drawn."""
        import torch

        from pipeline.engines.tree import plain_logits

        # A row of logits stands before each token that is read, and before the one that is drawn.
        rows = [len(each.ids) - max(each.start, 1) + (each.sampling is not None) for each in asked]
        whole = [each.ids if each.sampling is not None else each.ids[:-1] for each in asked]

        @torch.inference_mode()
        def run(batch: list[int]) -> list[list[Step]]:
            some = [i for i in batch if rows[i]]
            found: dict[int, Tensor] = {}
            if some:
                logits = plain_logits(self._model, [whole[i] for i in some], [rows[i] for i in some])
                found = dict(zip(some, torch.split(logits, [rows[i] for i in some]), strict=True))
            return [_steps(asked[i], found.get(i)) for i in batch]

        weights = [max(1, count * self._vocabulary // SCORE_LOGITS) for count in rows]
        return self._in_batches([len(ids) for ids in whole], weights, run, self._pass_tokens)

    # --- text and ids ---

    def encode(self, text: str, special: bool) -> list[int]:
        """Ids of a text as it stands: a control token that it spells is one. `special`: with what the tokenizer puts
        before a text, where it does."""
        found: list[int] = self._raw(
            readable(text), add_special_tokens=special, return_attention_mask=False, verbose=False
        )["input_ids"]
        return found

    def rendered(self, chat: Chat, open_turn: bool) -> list[int]:
        """Ids of a chat by the template alone: what its messages spell is read as it stands."""
        rows = [{"role": message.role, "content": readable(message.content)} for message in chat.messages]
        arguments = self.chats.arguments(chat.template_args)
        try:
            text = self._raw.apply_chat_template(rows, tokenize=False, add_generation_prompt=open_turn, **arguments)
        except Exception as error:  # a template is a program
            raise UserError(f"the model's chat template refuses this chat: {error}") from None
        return self.encode(text, False)

    def decode(self, ids: Sequence[int], special: bool) -> str:
        """`special`: with the control tokens."""
        text: str = self._raw.decode(list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False)
        return text

    def following(self, before: Sequence[int], ids: Sequence[int], special: bool) -> str:
        """The text of `ids` where they stand behind `before`: some tokenizers drop a space that begins a text."""
        tail = list(before[-TAIL:])
        start, both = self.decode(tail, special), self.decode([*tail, *ids], special)
        return both[len(start) :] if both.startswith(start) else self.decode(ids, special)

    def described(self) -> dict[str, Any]:
        """The tokenizer's control tokens and template, as vLLM's `/tokenizer_info` tells them."""
        added = {
            str(number): {"content": token.content, "special": token.special}
            for number, token in self._raw.added_tokens_decoder.items()
        }
        named = {
            name: str(token)
            for name, token in self._raw.special_tokens_map.items()
            if name.endswith("_token") and isinstance(token, str)
        }
        return {"added_tokens_decoder": added, **named, "chat_template": self._raw.chat_template}


def _steps(asked: Read, logits: Tensor | None) -> list[Step]:
    import torch

    from pipeline.engines.decoding import NOT_A_NUMBER, sample

    read = list(asked.ids[max(asked.start, 1) :])
    steps = [Step(asked.ids[0], None)] if asked.start == 0 else []
    if logits is None:
        return steps
    if logits.isnan().any():
        raise UserError(NOT_A_NUMBER)
    if (sampling := asked.sampling) is not None:
        stream = torch.Generator().manual_seed(asked.seed)
        uniform = torch.rand(1, generator=stream, dtype=torch.float64)
        heat, top_p = torch.tensor([sampling.temperature]), torch.tensor([sampling.top_p])
        last = sample(logits[-1:], *(each.to(logits.device) for each in (heat, top_p, uniform)))
        read.append(int(last[0]))
    total = logits.logsumexp(-1)
    columns = torch.tensor([[token, *asked.wanted] for token in read], device=logits.device)
    said = (logits.gather(-1, columns) - total[:, None]).tolist()
    tops: list[list[tuple[int, float]]] = [[] for _ in read]
    if asked.top:
        values, places = logits.topk(min(asked.top, logits.shape[-1]), dim=-1)
        likeliest = zip(places.tolist(), (values - total[:, None]).tolist(), strict=True)
        tops = [list(zip(tokens, logs, strict=True)) for tokens, logs in likeliest]
    for token, (own, *wanted), top in zip(read, said, tops, strict=True):
        steps.append(Step(token, own, (*top, *zip(asked.wanted, wanted, strict=True))))
    return steps
