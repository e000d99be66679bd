"""Chats to tokens and back, for a tokenizer of transformers: prompts, option labels, ends of turns, thinking blocks.

Ids are those of transformers' own `apply_chat_template`, but that text is only ever text: a special token spelled out
in a message (a forged end of turn in an answer that is judged) is broken by a zero-width space, and a lone surrogate,
which no tokenizer takes, is read as U+FFFD. No model is needed here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from constitution.errors import UserError
from pipeline.engines.engine import Chat

LABEL_CONTEXT = 64  # characters before an answer that decide how a label is tokenised


class ChatTokenizer:
    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is a `PreTrainedTokenizerBase` with a chat template."""
        self._tokenizer = tokenizer
        self._labels: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._special = re.compile("|".join(map(re.escape, special)) or r"(?!)")

    def text(self, chat: Chat) -> str:
        """The chat in the model's template, ending where the model goes on. Raises UserError where it is refused."""
        from jinja2 import TemplateError

        rows = [{"role": message.role, "content": self.only_text(message.content)} for message in chat.messages]
        try:
            text: str = self._tokenizer.apply_chat_template(
                rows, tokenize=False, add_generation_prompt=True, **chat.template_args
            )
        except TemplateError as error:
            roles = ", ".join(row["role"] for row in rows)
            raise UserError(
                f"The model's chat template refuses a dialogue of the roles {roles}: {error}. "
                "Leave out what it refuses (often the system message), or use a model whose template takes it."
            ) from None
        return text + self.only_text(chat.answer_prefix)

    def only_text(self, text: str) -> str:
        """A message that the template will hold as text alone: see the module."""
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self._special.sub(lambda found: f"{found[0][0]}\u200b{found[0][1:]}", text)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts as they stand: nothing is added in front or behind."""
        if not texts:
            return []
        encoded = self._tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def label_ids(self, prompt: str, prompt_ids: list[int], labels: tuple[str, ...]) -> list[int]:
        """The one token of each label right after `prompt`: "A" and " A" differ, and so may "A" in two contexts.

        Raises UserError where a label is not one token there, or two labels are the same one.
        """
        key = (prompt[-LABEL_CONTEXT:], labels)
        if key not in self._labels:
            found = []
            for label, ids in zip(labels, self.ids([prompt + label for label in labels]), strict=True):
                if len(ids) != len(prompt_ids) + 1 or ids[:-1] != prompt_ids:
                    raise UserError(
                        f"The option {label!r} is not one token of this model after {prompt[-20:]!r}. "
                        "Change the answer prefix (end it with '(' or a space, or without one) or the options' names."
                    )
                found.append(ids[-1])
            if len(set(found)) < len(found):
                raise UserError(f"Two of the options {', '.join(labels)} are the same token of this model. Rename one.")
            self._labels[key] = found
        return self._labels[key]

    def completion_ids(self, prompt: str, prompt_ids: list[int], completion: str) -> list[int]:
        """Tokens of `completion` as they follow `prompt`; by itself where the two would merge into one token."""
        completion = self.only_text(completion)
        whole = self.ids([prompt + completion])[0]
        if whole[: len(prompt_ids)] == prompt_ids:
            return whole[len(prompt_ids) :]
        return self.ids([completion])[0]

    @cached_property
    def end_of_turn(self) -> int | None:
        """The token that closes an assistant's turn in the template; the tokenizer's end of text where none does.

        Some folders name only the end of text as the token to stop at, and their models go on into a next turn.
        """
        from jinja2 import TemplateError

        turn = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "turn"}]
        try:
            after = self._tokenizer.apply_chat_template(turn, tokenize=False).rpartition("turn")[2]
        except TemplateError:
            after = ""
        ids = self.ids([after.lstrip()])[0]
        if ids and ids[0] in self._tokenizer.added_tokens_decoder:
            return ids[0]
        end: int | None = self._tokenizer.eos_token_id
        return end

    @property
    def end_of_text(self) -> int | None:
        end: int | None = self._tokenizer.eos_token_id
        return end

    def answer(self, prompt: str, ids: list[int]) -> tuple[str, str]:
        """What was written after `prompt`, and its thinking block. A block cut short leaves no answer."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        opened = prompt.rstrip().endswith("<think>")  # some templates open the block themselves
        if not opened and not text.lstrip().startswith("<think>"):
            return text, ""
        reasoning, _, rest = text.partition("</think>")
        return rest.lstrip(), reasoning.replace("<think>", "", 1).strip()
