"""Chats to tokens and back, for a tokenizer of transformers: prompts, answers, option labels, ends of turns, thinking.

The one renderer: engines, judges, rewards and every trainer take their ids from here. Ids are those of transformers'
own `apply_chat_template`, but a message is only ever text: whatever in it spells a token that steers the model (a
forged end of turn in an answer that is judged, `<tool_call>`) is broken (`plain_text`), and the ids that go out are
held against those of the same chat with harmless messages: they must have the same such tokens in the same order. A
lone surrogate, which no tokenizer takes, is read as U+FFFD. No model is needed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any

from constitution.errors import UserError
from constitution.records import Message, canonical
from pipeline.engines import thinking
from pipeline.engines.engine import Chat
from pipeline.engines.plain_text import BREAK, STRONGER, PlainText, Way, steers, with_texts

LABEL_CONTEXT = 64  # characters before an answer that decide how a label is tokenised
LONGEST_MARK = 32  # characters of what a template writes between turns; longer is a sentence
ROUNDS = 8  # of breaking a text and looking at its tokens again
REMEMBERED = 4096  # shapes of chats
HARMLESS = "x"
CHANNEL_TOKENS = (*thinking.CHANNEL_MARKS, "<|end|>", "<|return|>", "<|call|>")
EMPTY_BLOCK = "\n{close}\n\n"  # closes a block of thinking that the prompt opened, as templates write it
TURNS = Chat((Message("user", "Kq7"), Message("assistant", "Jw3"), Message("user", "Zv5")))  # found again in a text
TEMPLATE = "chat_template"  # an argument of apply_chat_template that is no text


class ChatTokenizer:
    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is a `PreTrainedTokenizerBase` with a chat template."""
        self._tokenizer = tokenizer
        self._labels: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        self._shapes: dict[Any, list[int] | None] = {}
        self._plain_texts: dict[str, str] = {}
        self._endings: dict[str, str] = {}
        self._arounds: dict[str, tuple[str, str]] = {}
        added = dict(tokenizer.added_tokens_decoder)
        named = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
        control = {i: t.content for i, t in added.items() if steers(t.content, t.special)}
        control |= {ident: token for ident, token in named.items() if steers(token, True)}
        self._plain = PlainText(control.values())
        if written := self._written_marks():
            self._plain = PlainText([*control.values(), *written])
        # Of a tokenizer that says "unknown" to a rare character that token means nothing.
        unknown = getattr(getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None), "unk_token", None)
        self._control = frozenset(ident for ident, token in control.items() if token != unknown)
        template = tokenizer.chat_template or ""
        if isinstance(template, Mapping):  # several by name: transformers, too, takes this one
            template = template.get("default", "")
        self._tags = thinking.tags_of(control.values(), template)
        self._known = thinking.known_tags(control.values(), template)
        marks = {tag for tags in self._tags for tag in tags}
        if "<|channel|>" in control.values():
            marks |= set(CHANNEL_TOKENS)
        self._marks = {ident: token for ident, token in control.items() if token in marks}

    def _written_marks(self) -> set[str]:
        """What tells turns apart in ordinary letters, as `[/INST]` or `### Response:` do in some templates: it is in no
        list of tokens, and a text that spells it would forge a turn all the same."""
        try:
            text = self._rendered(TURNS, [m.content for m in TURNS.messages], add_generation_prompt=True)
        except UserError:
            return set()
        first, *rest = re.split("Kq7|Jw3|Zv5", text)
        found = self._marks_in("\n".join(rest))
        system = Chat((Message("system", "Bx4"), *TURNS.messages))
        try:
            text = self._rendered(system, [m.content for m in system.messages], add_generation_prompt=True)
        except UserError:
            return found
        before, *rest = re.split("Bx4|Kq7|Jw3|Zv5", text)
        # What opens a system turn is told from what begins every dialogue; it may stand behind another mark.
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, before, strict=False)))
        opening = before[before.rfind("\n", 0, same) + 1 :]
        if found:
            opening = re.sub("|".join(map(re.escape, found)), "\n", opening)
        return found | self._marks_in("\n".join([opening, *rest]))

    def _marks_in(self, between: str) -> set[str]:
        for start, end in reversed(self._plain.spans(between)):
            between = f"{between[:start]}\n{between[end:]}"
        lines = {line.strip() for line in between.splitlines()}
        return {
            line
            for line in lines
            if 3 <= len(line) <= LONGEST_MARK and re.search(r"\w", line) and re.search(r"[^\w\s]", line)
        }

    # --- chats to ids ---

    def prompts(self, chats: Sequence[Chat]) -> list[tuple[str, list[int]] | UserError]:
        """Text and token ids of each chat, ending where the model goes on; in their place a UserError where the
        template refuses the chat, or it holds text that becomes a token which steers the model, however written."""
        texts: dict[int, str] = {}
        found: dict[int, tuple[str, list[int]] | UserError] = {}
        for place, chat in enumerate(chats):
            try:
                texts[place] = self.text(chat)
            except UserError as error:
                found[place] = error
        for (place, text), ids in zip(texts.items(), self.ids(list(texts.values())), strict=True):
            try:
                chat = chats[place]
                found[place] = (text, ids) if self._as_shaped(chat, ids) else self._made_plain(chat)
            except UserError as error:
                found[place] = error
        return [found[place] for place in range(len(chats))]

    def prompt(self, chat: Chat) -> tuple[str, list[int]]:
        """`prompts` of one. Raises UserError."""
        [found] = self.prompts([chat])
        if isinstance(found, UserError):
            raise found
        return found

    def text(self, chat: Chat) -> str:
        """The chat in the model's template, ending where the model goes on. Raises UserError where it is refused."""
        return self._prompt(chat, [self._plain(message.content) for message in chat.messages])

    def only_text(self, text: str) -> str:
        """A message that the template will hold as text alone: see the module."""
        return self._plain(text)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts as they stand: nothing is added in front or behind."""
        if not texts:
            return []
        encoded = self._tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _prompt(self, chat: Chat, contents: Sequence[str]) -> str:
        return self._rendered(chat, contents, add_generation_prompt=True) + self.prefix(chat)

    def prefix(self, chat: Chat) -> str:
        """The answer prefix as it is put in the assistant's mouth: text, in which a block of thinking may be opened and
        closed (what no template argument does for some models)."""
        if not chat.answer_prefix:
            return ""
        tags = {re.escape(tag) for pair in self._tags_of(chat) for tag in pair}
        parts = re.split(f"({'|'.join(sorted(tags, key=len, reverse=True))})", chat.answer_prefix)
        return "".join(part if place % 2 else self._sure(part) for place, part in enumerate(parts))

    def _rendered(self, chat: Chat, contents: Sequence[str], **options: Any) -> str:
        roles = [message.role for message in chat.messages]
        rows = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        arguments = self.arguments(chat.template_args) if chat.template_args else {}
        try:
            text: str = self._tokenizer.apply_chat_template(rows, tokenize=False, **options, **arguments)
        except Exception as error:  # a template is a program: a TypeError in it is no other than what it raises itself
            raise UserError(
                f"The model's chat template refuses a dialogue of the roles {', '.join(roles)}: {error}. "
                "Leave out what it refuses (often the system message), or use a model whose template takes it."
            ) from None
        return text

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Template arguments, their texts as text alone."""
        kept = {name: value for name, value in given.items() if name != thinking.OPTION}
        return {k: v if k == TEMPLATE else with_texts(v, self._sure) for k, v in kept.items()}

    # --- text that stays text ---

    def _as_shaped(self, chat: Chat, ids: Sequence[int]) -> bool:
        """Whether `ids` have the steering tokens of the template alone."""
        shape = self._shape(chat)
        if shape is None:
            contents = [self._plain(message.content) for message in chat.messages]
            return all(self._control.isdisjoint(each) for each in self.ids(contents))
        return [token for token in ids if token in self._control] == shape

    def _shape(self, chat: Chat) -> list[int] | None:
        """The steering tokens of a chat like `chat` with harmless messages; None where its template refuses those."""
        filled = tuple(
            (message.role, message.content if not message.content.strip() else None) for message in chat.messages
        )
        arguments = canonical(dict(chat.template_args)) if chat.template_args else ""
        key = (filled, arguments, chat.answer_prefix)
        if key not in self._shapes:
            if len(self._shapes) >= REMEMBERED:
                self._shapes.clear()
            try:
                text = self._prompt(chat, [HARMLESS if content is None else content for _, content in filled])
            except UserError:
                self._shapes[key] = None
            else:
                self._shapes[key] = [token for token in self.ids([text])[0] if token in self._control]
        return self._shapes[key]

    def _made_plain(self, chat: Chat) -> tuple[str, list[int]]:
        """`prompts` of a chat whose messages have tokens in spite of the first way of breaking them."""
        for way in STRONGER:
            contents = [self._broken(message.content, way) for message in chat.messages]
            text = self._prompt(chat, contents)
            ids = self.ids([text])[0]
            if self._as_shaped(chat, ids) if self._shape(chat) is not None else self._free(contents):
                return text, ids
        # What is left is a template that reads its messages: no mark of any kind can be in them.
        contents = [re.sub(r"([<\[|&])(?=\S)", f"\\1{BREAK}", self._plain(m.content)) for m in chat.messages]
        text = self._prompt(chat, contents)
        ids = self.ids([text])[0]
        if self._as_shaped(chat, ids):
            return text, ids
        raise UserError(
            "A message spells tokens that steer this model, and its tokenizer reads them however they are written: "
            f"{[m.content for m in chat.messages][-1][-60:]!r}. Leave this text out, or use another model."
        )

    def _free(self, texts: Sequence[str]) -> bool:
        return all(self._control.isdisjoint(ids) for ids in self.ids(texts))

    def _broken(self, text: str, way: Way) -> str:
        """`text` with `way` of each token in it, by spelling and as the tokenizer reads it, its normaliser and all."""
        text = self._plain(text)
        for _ in range(ROUNDS):
            spans = self._spans(text)
            if not spans:
                break
            for start, end in reversed(spans):
                token = text[start:end].replace(BREAK, "") or text[start:end]
                text = text[:start] + way(token) + text[end:]
        return text

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Where the tokenizer reads steering tokens in a text, in characters."""
        if not getattr(self._tokenizer, "is_fast", False):
            return self._plain.spans(text)
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        found = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        return [(start, end) for token, (start, end) in found if token in self._control and start < end]

    def _sure(self, text: str) -> str:
        """A short text that comes again and again, broken until the tokenizer reads no token in it."""
        if text not in self._plain_texts:
            plain = self._plain(text)
            for way in STRONGER:
                if self._free([plain]):
                    break
                plain = self._broken(text, way)
            self._plain_texts[text] = plain
        return self._plain_texts[text]

    # --- what follows a prompt ---

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
        found = self._following(prompt, prompt_ids, self._plain(completion))
        if self._control.isdisjoint(found):
            return found
        return self._following(prompt, prompt_ids, self._unspelled(completion))

    def _unspelled(self, text: str) -> str:
        """`text` without a steering token, as it stands by itself."""
        plain = self._plain(text)
        for way in STRONGER:
            if self._free([plain]):
                break
            plain = self._broken(text, way)
        return plain

    def _following(self, prompt: str, prompt_ids: Sequence[int], text: str) -> list[int]:
        whole = self.ids([prompt + text])[0]
        if whole[: len(prompt_ids)] == list(prompt_ids):
            return whole[len(prompt_ids) :]
        return self.ids([text])[0]

    def answered(self, chat: Chat, answer: str) -> tuple[list[int], list[int]]:
        """What is trained on and what a reward model reads: the ids of `chat`, as an engine samples after them, and
        those of `answer` with what ends its turn in the template.

        A block of thinking that the prompt opens is closed at once. Where the template puts nothing that ends an
        answer, the tokenizer's end of text does, which engines stop at, too. Raises UserError where there is neither,
        and where the template refuses the chat. What the template writes itself around an answer, as the space behind
        `assistant:`, a model writes too: an answer that has it is not given it again.
        """
        text, ids = self.prompt(chat)
        before, behind = self._around(chat)
        answer = answer.removeprefix(before).removesuffix(behind)
        plain = self._unspelled(answer)
        if not self._apart(plain, self._ending(chat)):
            plain += BREAK
        inside = self._opened_by(chat, text)
        rest = self._as_rendered(chat, plain, text)
        if rest is None or (
            inside and not thinking.split(rest, inside, self._tags_of(chat)).answer.strip() and answer.strip()
        ):
            closing = EMPTY_BLOCK.format(close=self._closing_tag(chat, text)) if inside else ""
            rest = closing + plain + self._ending(chat)
        following = self._following(text, ids, rest)
        if not self._stops.isdisjoint(following):
            return ids, following
        if self.end_of_text is None:
            raise UserError(
                "The chat template puts no token after an answer, and the tokenizer has no end of text: a model would "
                "never learn to stop. Use a template that ends an assistant's turn with a special token, or name the "
                "tokenizer's eos_token."
            )
        return ids, [*self._following(text, ids, rest.removesuffix(self._ending(chat))), self.end_of_text]

    def _as_rendered(self, chat: Chat, answer: str, prompt: str) -> str | None:
        """What the template writes after `prompt` when `answer` follows it; None where it writes another prompt."""
        whole = Chat((*chat.messages, Message("assistant", answer)), "", chat.template_args)
        contents = [self._plain(message.content) for message in chat.messages]
        try:
            text = self._rendered(whole, [*contents, answer])
        except UserError:
            return None
        return text[len(prompt) :] if text.startswith(prompt) else None

    def _apart(self, answer: str, ending: str) -> bool:
        """Whether an answer without steering tokens is still without them where `ending` follows it: `<|im_end` before
        `|>` is a token of the two."""
        whole, alone = self.ids([answer + ending, ending])
        return [t for t in whole if t in self._control] == [t for t in alone if t in self._control]

    def _around(self, chat: Chat) -> tuple[str, str]:
        """The space that the template writes between a prompt and its answer, and the text between an answer and the
        token that ends it: a model samples both."""
        key = canonical(dict(chat.template_args)) if chat.template_args else ""
        if key not in self._arounds:
            asked = Chat((Message("user", HARMLESS),), "", chat.template_args)
            try:
                rest = self._as_rendered(asked, "Kq7", self._prompt(asked, [HARMLESS])) or ""
            except UserError:
                rest = ""
            before = rest.partition("Kq7")[0] if "Kq7" in rest else ""
            ending = self._ending(chat)
            tokens = self._spans(ending)
            self._arounds[key] = ("" if before.strip() else before, ending[: tokens[0][0]] if tokens else "")
        return self._arounds[key]

    def _ending(self, chat: Chat) -> str:
        """What the template writes behind a last answer: where two that have nothing in common begin to be the same."""
        key = canonical(dict(chat.template_args)) if chat.template_args else ""
        if key not in self._endings:
            texts = []
            for answer in ("Kq7", "Jw3"):
                turn = (Message("user", HARMLESS), Message("assistant", answer))
                try:
                    texts.append(self._rendered(Chat(turn, "", chat.template_args), [m.content for m in turn]))
                except UserError:
                    texts = ["", ""]
                    break
            same = takewhile(lambda pair: pair[0] == pair[1], zip(*map(reversed, texts), strict=False))
            self._endings[key] = "".join(character for character, _ in same)[::-1]
        return self._endings[key]

    @cached_property
    def end_of_turn(self) -> int | None:
        """The token that closes an assistant's turn in the template; the tokenizer's end of text where none does.

        Some folders name only the end of text as the token to stop at, and their models go on into a next turn.
        """
        after = self.ids([self._ending(Chat(())).lstrip()])[0]
        return next((token for token in after if token in self._control), self.end_of_text)

    @property
    def end_of_text(self) -> int | None:
        end: int | None = self._tokenizer.eos_token_id
        return end

    @property
    def stop_ids(self) -> list[int]:
        """Every token that ends an answer by the tokenizer and its template, for an engine to stop at."""
        return sorted(self._stops)

    @cached_property
    def _stops(self) -> frozenset[int]:
        ends = (self.end_of_turn, self.end_of_text, self._next_turn)
        return frozenset(token for token in ends if token is not None)

    @property
    def _next_turn(self) -> int | None:
        """The first token that steers between an answer and a user's next turn. Some templates end an answer by it
        alone: `<|user|>`, or an end that they leave out behind the last answer. Behind a channel more of the same
        answer may follow, so there it is none."""
        try:
            text = self._rendered(TURNS, [m.content for m in TURNS.messages])
        except UserError:
            return None
        if "<|channel|>" in self._marks.values() or not re.search("Jw3.*Zv5", text, re.DOTALL):
            return None
        between = self.ids([text.split("Jw3")[-1].split("Zv5")[0]])[0]
        return next((token for token in between if token in self._control and token not in self._marks), None)

    # --- ids to answers ---

    def without_thinking(self, text: str) -> str:
        """An answer as it was written down, without a block of thinking that it begins with."""
        if thinking.begins(text, self._tags) or thinking.CHANNEL.match(text.lstrip()):
            return thinking.split(text, tags=self._tags).answer
        return text

    def is_thinking(self, chat: Chat, prompt: str) -> bool:
        """Whether `prompt`, which is `chat`'s, ends inside a block of thinking."""
        return bool(self._opened_by(chat, prompt))

    def _opened_by(self, chat: Chat, prompt: str) -> thinking.Tags | bool:
        return thinking.opened_by(prompt, self.prefix(chat), self._tags_of(chat))

    def split(self, text: str, chat: Chat, prompt: str) -> thinking.Reply:
        """A reply after `prompt`, `chat`'s, as text with its tags."""
        known = (*thinking.tags_named(chat.template_args), *self._known)
        return thinking.split(text, self._opened_by(chat, prompt), self._tags_of(chat), known)

    def _closing_tag(self, chat: Chat, prompt: str) -> str:
        last = max(self._tags_of(chat), key=lambda tags: prompt.rfind(tags.open))
        return last.close

    def _tags_of(self, chat: Chat) -> tuple[thinking.Tags, ...]:
        return (*thinking.tags_named(chat.template_args), *self._tags)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of sampled ids: no special tokens but those that tell thinking from answer."""
        pieces: list[str] = []
        run: list[int] = []
        for token in [*ids, None] if not self._marks.keys().isdisjoint(ids) else []:
            if token is not None and token not in self._marks:
                run.append(token)
                continue
            pieces += [self._decode(run), self._marks.get(token, "") if token is not None else ""]
            run = []
        return "".join(pieces) if pieces else self._decode(ids)

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def answer(self, prompt: str, ids: Sequence[int], chat: Chat | None = None) -> thinking.Reply:
        """What was written after `prompt`, `chat`'s, and its thinking. A block cut short leaves no answer."""
        chat = chat or Chat(())
        return self.split(self.decode(ids), chat, prompt)
