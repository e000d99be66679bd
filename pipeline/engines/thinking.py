"""What a model thinks before it answers, taken apart from the answer: the one splitter, for every engine.

Tags are those that models are known to write (`TAGS`), those that a tokenizer or its template has (`tags_of`), and a
pair that the user names: `template_args = {thinking_tags = ["<a>", "</a>"]}`. Replies in channels (harmony's
`<|channel|>analysis<|message|>`) keep what was said in the `final` one as the answer.

Text has to come here with its tags: where they are special tokens, read them by their ids first (`chats.ChatTokenizer`
does), or ask a server not to strip them (`skip_special_tokens: false`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from constitution.errors import UserError


class Tags(NamedTuple):
    open: str
    close: str


class Reply(NamedTuple):
    answer: str
    reasoning: str


OPTION = "thinking_tags"  # in a role's template arguments
TAGS = (
    Tags("<think>", "</think>"),
    Tags("<thinking>", "</thinking>"),
    Tags("<thought>", "</thought>"),
    Tags("<reasoning>", "</reasoning>"),
    Tags("[THINK]", "[/THINK]"),
    Tags("<|thinking|>", "<|/thinking|>"),
    Tags("<|think|>", "<|/think|>"),
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),
    Tags("<|begin_of_thought|>", "<|end_of_thought|>"),
    Tags("<seed:think>", "</seed:think>"),
    Tags("\u25c1think\u25b7", "\u25c1/think\u25b7"),
)
CHANNEL = re.compile(
    r"(?:<\|start\|>\s*[\w.=\s-]*)?<\|channel\|>\s*(?P<name>[a-z]+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
)
CHANNEL_MARKS = ("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>")
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
# The same when its special tokens were stripped on the way: what is left of them is written together.
_STRIPPED = re.compile(r"\s*analysis(?P<reasoning>.*?)assistantfinal(?P<answer>.*)", re.DOTALL)

_WORD = re.compile(r"think|thought|reasoning|inner_", re.IGNORECASE)
_ANSWER = re.compile(r"answer|response|final", re.IGNORECASE)
_IN_TEMPLATE = re.compile(r"[<\[\u25c1][^<>\[\]\u25c1\u25b7\s'\"]{1,40}[>\]\u25b7]")
_EDGE = re.compile(
    r"^(?:start|begin|open|end|stop|close)(?:_of)?[_-]?|[_-]?(?:start|begin|open|end|stop|close|prefix|suffix)$",
    re.IGNORECASE,
)
_CLOSES = re.compile(r"^.?[|]?/|^\W*(?:end|stop|close)|(?:end|stop|close|suffix)\W*$", re.IGNORECASE)


def tags_of(tokens: Iterable[str], template: str) -> tuple[Tags, ...]:
    """TAGS, and pairs of the like among a tokenizer's added tokens and the marks that its template writes."""
    marks = dict.fromkeys([*tokens, *_IN_TEMPLATE.findall(template)])
    opening: dict[str, str] = {}
    closing: dict[str, str] = {}
    for mark in marks:
        if _WORD.search(mark):
            stem = _EDGE.sub("", mark.strip("<>[]|/\u25c1\u25b7")).casefold()
            (closing if _CLOSES.search(mark) else opening).setdefault(stem, mark)
    found = [Tags(mark, closing[stem]) for stem, mark in opening.items() if stem in closing]
    # A block may end where the answer's own mark begins.
    answer = next((mark for mark in marks if _ANSWER.search(mark) and not _CLOSES.search(mark)), None)
    if answer:
        found += [Tags(mark, answer) for stem, mark in opening.items() if stem not in closing and mark != answer]
    known = {tags.open for tags in TAGS}
    return (*TAGS, *(tags for tags in found if tags not in TAGS and tags.open not in known))


def tags_named(template_args: Mapping[str, Any]) -> tuple[Tags, ...]:
    """The pair that a role's template arguments name. Raises UserError where it is no pair of marks."""
    given = template_args.get(OPTION)
    if given is None:
        return ()
    if not isinstance(given, list | tuple) or len(given) != 2 or not all(isinstance(tag, str) and tag for tag in given):
        raise UserError(
            f"template_args: {OPTION} is {given!r}; it must be two marks, the one that opens a block of thinking and "
            'the one that closes it, as ["<think>", "</think>"]'
        )
    return (Tags(*given),)


def opened(prompt: str, prefix: str = "", tags: Sequence[Tags] = TAGS) -> bool:
    """Whether `prompt`, which ends in the answer prefix `prefix`, ends inside a block of thinking.

    Only the end is looked at: a tag in a message is text.
    """
    before = prompt[: len(prompt) - len(prefix)] if prefix else prompt
    end = before.rstrip()
    channels = list(CHANNEL.finditer(prefix or end[-200:]))
    if channels and (prefix or channels[-1].end() == len(end[-200:])):
        return channels[-1]["name"] != "final"
    for tag in tags:
        if tag.close in prefix or tag.open in prefix:
            return prefix.rfind(tag.open) > prefix.rfind(tag.close)
    return any(end.endswith(tag.open) for tag in tags)


def split(text: str, inside: bool = False, tags: Sequence[Tags] = TAGS) -> Reply:
    """The answer in a reply, and the thinking before it. `inside`: the prompt had opened a block already.

    A block that is cut short leaves no answer; so does thinking alone. Before a closing tag that nothing opened all is
    thinking: templates and servers swallow the tag that opens.
    """
    if CHANNEL.search(text):
        return _channels(text, inside)
    if not inside and (stripped := _STRIPPED.fullmatch(text)):
        return Reply(stripped["answer"].strip(), stripped["reasoning"].strip())
    thought: list[str] = []
    rest = text
    while True:
        begun = rest.lstrip()
        block = next((tag for tag in tags if begun.startswith(tag.open)), None)
        if block is None and not inside:
            break
        if block:
            rest = begun[len(block.open) :]
        closing = _first(rest, [block.close] if block and not inside else [tag.close for tag in tags])
        inside = False
        if closing is None:
            return Reply("", "\n".join([*thought, rest.strip()]).strip())
        thought.append(rest[: closing.start()].strip())
        rest = rest[closing.end() :]
    if not thought:
        closing = _first(rest, [tag.close for tag in tags])
        alone = closing and not any(tag.open in rest[: closing.start()] for tag in tags)
        if not closing or not alone:
            return Reply(text, "")
        thought, rest = [rest[: closing.start()].strip()], rest[closing.end() :]
    return Reply(rest.lstrip(), "\n".join(part for part in thought if part))


def _first(text: str, marks: Sequence[str]) -> re.Match[str] | None:
    return re.search("|".join(map(re.escape, sorted(marks, key=len, reverse=True))), text)


def _channels(text: str, inside: bool) -> Reply:
    """Of a reply in channels: what was said in the final one, and all else."""
    answer: list[str] = []
    thought: list[str] = []
    heads = list(CHANNEL.finditer(text))
    before = _CHANNEL_END.split(text[: heads[0].start()])[0]
    if before.strip():
        (thought if inside else answer).append(before.strip())
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        said = text[head.end() : following.start() if following else len(text)]
        said = _CHANNEL_END.split(said)[0].strip()
        (answer if head["name"] == "final" else thought).append(said)
    return Reply("\n".join(filter(None, answer)), "\n".join(filter(None, thought)))
