"""What a model thinks before it answers, taken apart from the answer: the one splitter, for every engine.

Tags are those that models are known to write (`TAGS`), those that a tokenizer or its template has (`tags_of`), and a
pair that the user names: `template_args = {thinking_tags = ["<a>", "</a>"]}`. Replies in channels (harmony's
`<|channel|>analysis<|message|>`) keep what was said in the `final` one as the answer.

A tag in the middle of an answer, or one that closes what nothing opened, is believed only of a model that has it
(`known_tags`): any other may write of tags.

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

_BLANK = "\ufeff\u200b\u200c\u200d\u2060"  # seen by nobody in front of a tag
_USUAL = (Tags("<think>", "</think>"),)

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


def known_tags(tokens: Iterable[str], template: str) -> tuple[Tags, ...]:
    """Of `tags_of`, those that the tokenizer or its template has."""
    tokens = list(tokens)
    marks = {*tokens, *_IN_TEMPLATE.findall(template)}
    return tuple(tags for tags in tags_of(tokens, template) if not marks.isdisjoint(tags))


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
    return bool(opened_by(prompt, prefix, tags))


def opened_by(prompt: str, prefix: str = "", tags: Sequence[Tags] = TAGS) -> Tags | bool:
    """`opened`, and by which tags; True where a channel did it."""
    before = prompt[: len(prompt) - len(prefix)] if prefix else prompt
    end = before.rstrip()
    channels = list(CHANNEL.finditer(prefix or end[-200:]))
    if channels and (prefix or channels[-1].end() == len(end[-200:])):
        return channels[-1]["name"] != "final"
    for tag in tags:
        if tag.close in prefix or tag.open in prefix:
            return tag if prefix.rfind(tag.open) > prefix.rfind(tag.close) else False
    return next((tag for tag in tags if end.endswith(tag.open)), False)


def begins(text: str, tags: Sequence[Tags] = TAGS) -> Tags | None:
    """The tags of the block of thinking that `text` begins with, None where it begins with none."""
    begun = _begun(text)
    return next((tag for tag in tags if begun[: len(tag.open)].lower() == tag.open.lower()), None)


def split(text: str, inside: Tags | bool = False, tags: Sequence[Tags] = TAGS, known: Sequence[Tags] = ()) -> Reply:
    """The answer in a reply, and the thinking before it. `inside`: the prompt had opened a block already (`opened_by`).
    `known`: the tags that this model has, as far as anybody knows.

    A block that is cut short leaves no answer; so does thinking alone. Before a closing tag that nothing opened all is
    thinking: templates and servers swallow the tag that opens. A known block later in an answer is thinking, too.
    """
    if CHANNEL.search(text):
        return _channels(text, bool(inside))
    if not inside and (stripped := _STRIPPED.fullmatch(text)):
        return Reply(stripped["answer"].strip(), stripped["reasoning"].strip())
    thought: list[str] = []
    rest = text
    while True:
        block = begins(rest, tags)
        if block is None and not inside:
            break
        if block:
            rest = _begun(rest)[len(block.open) :]
        if isinstance(inside, Tags):
            closing = _closing(rest, inside)
        elif block and not inside:
            closing = _closing(rest, block)
        else:
            closing = _first(rest, [tag.close for tag in tags])
        inside = False
        if closing is None:
            return Reply("", "\n".join([*thought, rest.strip()]).strip())
        thought.append(rest[: closing.start()].strip())
        rest = rest[closing.end() :]
    if not thought and (closing := _alone(rest, tags, known or _USUAL)):
        thought, rest = [rest[: closing.start()].strip()], rest[closing.end() :]
    found, between = bool(thought), []
    for tag in known:
        rest, said = _taken_out(rest, tag)
        between += said
    if not found and not between:
        return Reply(text, "")
    return Reply(rest.lstrip(), "\n".join(part for part in [*thought, *between] if part))


def _begun(text: str) -> str:
    begun = text.lstrip()
    while begun[:1] and begun[0] in _BLANK:
        begun = begun[1:].lstrip()
    return begun


def _first(text: str, marks: Sequence[str]) -> re.Match[str] | None:
    return re.search("|".join(map(re.escape, sorted(marks, key=len, reverse=True))), text, re.IGNORECASE)


def _closing(text: str, tags: Tags) -> re.Match[str] | None:
    """What closes a block of which `text` is the inside: behind the blocks of the same tags in it, where they close."""
    first = None
    depth = 1
    for mark in re.finditer(f"{re.escape(tags.open)}|(?P<close>{re.escape(tags.close)})", text, re.IGNORECASE):
        if not mark["close"]:
            depth += 1
        elif text[mark.start() - 1 : mark.start()] != "`" or text[mark.end() : mark.end() + 1] != "`":
            depth -= 1
            first = first or mark
            if not depth:
                return mark
    return first


def _alone(text: str, tags: Sequence[Tags], believed: Sequence[Tags]) -> re.Match[str] | None:
    """A tag that closes what nothing opened, where the model may have meant it."""
    closes = "|".join(re.escape(tag.close) for tag in believed)
    marks = re.finditer(closes, text, re.IGNORECASE)
    closing = next((mark for mark in marks if not _in_code(text, mark)), None)
    return closing if closing and not any(tag.open in text[: closing.start()] for tag in tags) else None


def _taken_out(text: str, tags: Tags) -> tuple[str, list[str]]:
    """`text` without its blocks, and what was in them."""
    said: list[str] = []
    place = 0
    while begun := re.compile(re.escape(tags.open), re.IGNORECASE).search(text, place):
        place = begun.end()
        if _in_code(text, begun) or (closing := _closing(text[place:], tags)) is None:
            continue
        said.append(text[place : place + closing.start()].strip())
        text, place = text[: begun.start()] + text[place + closing.end() :], begun.start()
    return text, said


def _in_code(text: str, mark: re.Match[str]) -> bool:
    """Whether a mark stands between backticks: on its line, or between fences."""
    before, after = text[: mark.start()], text[mark.end() :]
    if before.count("```") % 2 and "```" in after:
        return True
    return before[before.rfind("\n") + 1 :].count("`") % 2 == 1 and "`" in after.split("\n", 1)[0]


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
