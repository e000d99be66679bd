"""What the values of a constitution file must be (pydantic), and each departure from it said in plain words.

`layout.py` has read the values and knows their places; this module says which are wrong and builds the Constitution.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from constitution.errors import nearest_name
from constitution.layout import Layout, Path, Refused, path_text
from constitution.principles import Constitution, Example, Exemplar, JudgedBy, Principle, When
from constitution.problems import Problem
from constitution.records import WEIGHT, Message, Messages, canonical

MAX_WEIGHT = 1000
MAX_TIER = 9
_ID = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_METHOD = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
# Surrogates, controls, and what hides or reorders text on a reviewer's screen while the model still reads it.
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)


def _wrong(message: str, hint: str = "") -> PydanticCustomError:
    return PydanticCustomError("precept", "{message}", {"message": message, "hint": hint})


def _written(text: str) -> str:
    found = UNPRINTABLE.search(text)
    if found:
        raise _wrong(f"has the hidden character U+{ord(found[0]):04X}", "Remove it: what is read must be what is seen.")
    return text.strip()


def _not_blank(text: str) -> str:
    if not text:
        raise _wrong("is blank", "Write a text.")
    return text


def _an_id(text: str) -> str:
    if not _ID.fullmatch(text):
        near = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_0123456789")[:64].rstrip("-_")
        rule = "An id is a lower-case letter, then letters, digits, - or _, at most 64 in all"
        raise _wrong(f"`{text[:80]}` is not an id", f"{rule}: `{near}`?" if near and near != text else f"{rule}.")
    return text


def _a_weight(value: Any) -> Any:
    """Weight as the store keeps it: thousandths. Decimal, so that 0.3 is 300 and 0.0015 is refused, not rounded."""
    hint = f"Write a number above 0 and at most {MAX_WEIGHT}, with at most three decimals: 1.0 is the usual weight."
    if isinstance(value, Refused):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong("is not a number", hint)
    exact = Decimal(str(value))
    if not exact.is_finite() or not 0 < exact <= MAX_WEIGHT:
        raise _wrong(f"is outside 0 to {MAX_WEIGHT}", hint)
    if exact * WEIGHT % 1:
        raise _wrong("has more than three decimals", hint)
    return int(exact * WEIGHT)


def _a_tier(value: Any) -> Any:
    if isinstance(value, Refused):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TIER:
        raise _wrong(
            f"is not a whole number from 0 to {MAX_TIER}",
            f"Write 0 to {MAX_TIER}: a higher tier decides before a lower one, and 0 is the usual one.",
        )
    return value


def _a_judge(value: Any) -> Any:
    """`judge: name`, or `judge: {method: name, ...}` with the judge's own options, which the judge itself checks."""
    if isinstance(value, Refused):
        return value
    hint = "Write the name of a judge, such as `judge: reasoned`, or `judge: {method: rule, max_words: 80}`."
    keys = {"method": value} if isinstance(value, str) else value
    if not isinstance(keys, dict):
        raise _wrong(f"is {_type(value)}, not the name of a judge", hint)
    method = keys.get("method")
    if method is None:
        raise _wrong("names no `method`", hint)
    if isinstance(method, Refused):
        return method
    if not isinstance(method, str) or not _METHOD.fullmatch(method):
        raise _wrong(f"names `{str(method)[:40]}`, which is no judge's name", hint)
    return JudgedBy(method, _as_json({name: option for name, option in keys.items() if name != "method"}))


def _given(value: Any) -> Any:
    """Not an empty value, which means the key was forgotten half written."""
    if value is None:
        raise _wrong("is empty")
    return value


def _a_check(value: Any) -> Any:
    if isinstance(value, Refused):
        return value
    if not isinstance(value, dict) or not value:
        raise _wrong(f"is {_type(value)}, not a check with keys", f"Write {_MEANS['rule']}.")
    return _as_json(value)


def _as_json(value: Any) -> str:
    """Canonical JSON; what was complained about already stands in it as null."""
    try:
        return canonical(_without_refused(value))
    except ValueError:
        raise _wrong("has a number that is not finite", "Write a finite number.") from None


def _without_refused(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_refused(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_refused(inner) for inner in value]
    return None if isinstance(value, Refused) else value


def _a_version(value: Any) -> Any:
    if isinstance(value, Refused):
        return value
    if isinstance(value, bool) or value != 1:
        raise _wrong("is not a format version known here", "Write `version: 1`.")
    return 1


def _as_dialogue(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


def _a_dialogue(turns: list[_Turn]) -> Messages:
    if any(turn.role == "system" for turn in turns[1:]):
        raise _wrong("has a system message after its first message", "Put it first, or make it a user's turn.")
    if turns[-1].role != "user":
        raise _wrong(
            f"ends with the {turns[-1].role}'s turn", "A prompt ends with the user's turn: remove what comes after."
        )
    return tuple(Message(role=turn.role, content=turn.content) for turn in turns)


Free = Annotated[str, AfterValidator(_written)]
Text = Annotated[Free, AfterValidator(_not_blank)]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    noun: ClassVar[str]


class _Turn(_Shape):
    noun: ClassVar[str] = "a message"
    role: Literal["system", "user", "assistant"]
    content: Text


Dialogue = Annotated[list[_Turn], Field(min_length=1), BeforeValidator(_as_dialogue), AfterValidator(_a_dialogue)]


class _Exemplar(_Shape):
    noun: ClassVar[str] = "an exemplar"
    prompt: Dialogue
    response: Text
    critique: Text
    revision: Text


class _Example(_Shape):
    noun: ClassVar[str] = "an example"
    prompt: Dialogue
    better: Text
    worse: Text


class _When(_Shape):
    noun: ClassVar[str] = "`when`"
    tags: list[Text] = []
    rule: Annotated[str, BeforeValidator(_a_check)] = ""
    ask: Text = ""


def _some_condition(when: _When | None) -> _When | None:
    if when is not None and not (when.tags or when.rule or when.ask):
        raise _wrong("states no condition", f"Write {_MEANS['when']}.")
    return when


class _Principle(_Shape):
    noun: ClassVar[str] = "a principle"
    id: Annotated[Text, AfterValidator(_an_id)]
    title: Text
    critique: Text
    revision: Text
    comparison: Text
    weight: Annotated[int, BeforeValidator(_a_weight)] = WEIGHT
    tags: list[Text] = []
    applies: Free = ""
    exemplars: list[_Exemplar] = []
    examples: list[_Example] = []
    why: Free = ""
    tier: Annotated[int, BeforeValidator(_a_tier)] = 0
    hard: bool = False
    overridable: list[Literal["operator", "user"]] = []
    judge: Annotated[JudgedBy | None, BeforeValidator(_a_judge)] = None
    when: Annotated[_When | None, BeforeValidator(_given), AfterValidator(_some_condition)] = None
    twin: Free = ""


class _File(_Shape):
    noun: ClassVar[str] = "a constitution"
    constitution: Text
    version: Annotated[int, BeforeValidator(_a_version)]
    principles: Annotated[list[_Principle], Field(min_length=1)]


_KINDS: dict[str, type[_Shape]] = {
    "principles": _Principle,
    "exemplars": _Exemplar,
    "examples": _Example,
    "prompt": _Turn,
    "when": _When,
}


def build(layout: Layout, source: str) -> tuple[Constitution | None, list[Problem]]:
    """The Constitution of a layout's values, or every mistake in them."""
    try:
        file = _File.model_validate(layout.value)
    except ValidationError as error:
        return None, _problems(error.errors(include_url=False), layout) + _across(layout)
    across = _across(layout)
    if across:
        return None, across
    return Constitution(file.constitution, tuple(_principle(p) for p in file.principles), source), []


def _principle(shape: _Principle) -> Principle:
    exemplars = tuple(Exemplar(e.prompt, e.response, e.critique, e.revision) for e in shape.exemplars)  # type: ignore[arg-type]
    examples = tuple(Example(e.prompt, e.better, e.worse) for e in shape.examples)  # type: ignore[arg-type]
    return Principle(
        id=shape.id,
        title=shape.title,
        critique=shape.critique,
        revision=shape.revision,
        comparison=shape.comparison,
        weight=shape.weight,
        tags=tuple(shape.tags),
        applies=shape.applies,
        exemplars=exemplars,
        examples=examples,
        why=shape.why,
        tier=shape.tier,
        hard=shape.hard,
        overridable=tuple(who for who in ("operator", "user") if who in shape.overridable),
        judge=shape.judge,
        twin=shape.twin,
        when=When(tuple(shape.when.tags), shape.when.rule, shape.when.ask) if shape.when else None,
    )


def _across(layout: Layout) -> list[Problem]:
    """What is wrong between values that are right one by one. Looked for in the raw values, so that it is told
    together with all other mistakes."""
    return [*_repeated_ids(layout), *_contradictions(layout)]


def _contradictions(layout: Layout) -> list[Problem]:
    """A hard constraint is one that nobody sets aside."""
    principles = layout.value.get("principles") if isinstance(layout.value, dict) else None
    problems = []
    for i, entry in enumerate(principles if isinstance(principles, list) else []):
        if isinstance(entry, dict) and entry.get("hard") is True and entry.get("overridable"):
            path = ("principles", i, "overridable")
            hard = layout.place(("principles", i, "hard"))[0]
            message = f"the principle is `hard` (line {hard}) and yet `overridable`, which contradict each other"
            hint = "Remove `overridable`, or remove `hard` and give the principle a high `tier`."
            problems.append(Problem(*layout.keys.get(path, layout.place(path)), path_text(path), message, hint))
    return problems


def _repeated_ids(layout: Layout) -> list[Problem]:
    principles = layout.value.get("principles") if isinstance(layout.value, dict) else None
    first: dict[str, int] = {}
    problems = []
    for i, entry in enumerate(principles if isinstance(principles, list) else []):
        id = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(id, str):
            continue
        line, column = layout.place(("principles", i, "id"))
        if id in first:
            message = f"the id `{id}` is taken by the principle on line {first[id]}"
            problems.append(
                Problem(line, column, f"principles[{i}].id", message, "Give each principle an id of its own.")
            )
        first.setdefault(id, line)
    return problems


# --- pydantic's findings in plain words --------------------------------------------------------------------------


def _problems(errors: list[ErrorDetails], layout: Layout) -> list[Problem]:
    unknown = [e for e in errors if e["type"] == "extra_forbidden"]
    missing = {(e["loc"][:-1], e["loc"][-1]) for e in errors if e["type"] == "missing"}
    problems = []
    for error in unknown:
        path: Path = error["loc"]
        line, column = layout.keys.get(path, layout.place(path))
        kind = _kind(path[:-1])
        meant = nearest_name(str(path[-1]), kind.model_fields)
        if meant and (path[:-1], meant) in missing:
            missing.discard((path[:-1], meant))  # one mistake, told once
        hint = f"Did you mean `{meant}`?" if meant else f"It can have: {', '.join(kind.model_fields)}."
        problems.append(Problem(line, column, path_text(path), f"{kind.noun} has no key `{path[-1]}`", hint))
    for holder in sorted({holder for holder, _ in missing}, key=str):
        names = [name for name in _kind(holder).model_fields if (holder, name) in missing]
        hint = f"Add {'; '.join(f'`{name}:` {_MEANS[name]}' for name in names)}."
        message = f"{_kind(holder).noun} needs {_list(names)}"
        problems.append(Problem(*layout.place(holder), path_text(holder), message, hint))
    for error in errors:
        if error["type"] not in ("extra_forbidden", "missing") and not isinstance(error["input"], Refused):
            message, hint = _words(error, error["loc"], layout)
            problems.append(Problem(*layout.place(error["loc"]), path_text(error["loc"]), message, hint))
    return problems


def _kind(path: Path) -> type[_Shape]:
    names = [part for part in path if isinstance(part, str)]
    return _KINDS.get(names[-1], _File) if names else _File


def _words(error: ErrorDetails, path: Path, layout: Layout) -> tuple[str, str]:
    """What is wrong, and what to write instead."""
    kind, value, name = error["type"], error["input"], next((p for p in reversed(path) if isinstance(p, str)), "")
    subject = f"`{name}`" if path and isinstance(path[-1], str) else f"this entry of `{name}`" if path else "the file"
    if value is None:
        if path and isinstance(path[-1], int):
            return f"{subject} is empty", "Fill it or remove it."
        optional = bool(path) and not _kind(path[:-1]).model_fields[name].is_required()
        return f"{subject} is empty", f"Write {_MEANS[name]}{', or remove the key' if optional else ''}."
    if kind == "precept":
        context = error.get("ctx", {})
        shown = (
            f"`{name}: {layout.written[path][:40]}`"
            if name in ("weight", "version", "tier") and path in layout.written
            else subject
        )
        message = str(context.get("message"))
        return (message if message.startswith("`") else f"{shown} {message}"), str(context.get("hint"))
    if kind == "string_type":
        found = layout.written.get(path)
        if found is not None:
            return f"{subject} is read as {_type(value)}, not as text", f'Put it in quotes: "{found[:40]}".'
        return (
            f"{subject} is {_type(value)}, not a text",
            "Write one text; `>` on the key's line lets it run over several lines.",
        )
    if kind == "bool_type":
        return f"{subject} is {_type(value)}, not true or false", "Write true or false, without quotes."
    if kind == "list_type":
        return f"{subject} is {_type(value)}, not a list", f"Write {_MEANS[name]}."
    if kind == "too_short":
        return f"{subject} is an empty list", f"Write {_MEANS[name]}."
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        noun = _kind(path).noun
        return (
            f"{subject} is {_type(value)}, not {noun} with keys",
            f"Its keys are: {', '.join(_kind(path).model_fields)}.",
        )
    if kind == "literal_error":
        return f"{subject} is `{str(value)[:40]}`", f"Write one of {error.get('ctx', {}).get('expected', '')}."
    return f"{subject}: {error['msg']}", "`precept constitution new` shows the format."


def _list(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _type(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else "a text"


_MEANS = {
    "constitution": "a name for the whole file",
    "version": "1",
    "principles": "a list of principles, each beginning with `- id:`",
    "id": "a short lower-case word",
    "title": "a line for people",
    "critique": "what the critic is asked to look for",
    "revision": "what the reviser is asked to do",
    "comparison": "the question the judge answers about two answers",
    "weight": "a number such as 1.0",
    "applies": "a word on when it applies",
    "response": "the answer that is criticised",
    "better": "the answer that should win",
    "worse": "the answer that should lose",
    "content": "what is said",
    "tags": "a list such as [harm, tone]",
    "exemplars": "a list of worked critiques, each with prompt, response, critique and revision",
    "examples": "a list of pairs, each with prompt, better and worse",
    "prompt": "the user's words, or a list of messages with role and content",
    "why": "the reason for the principle, in a sentence",
    "tier": "a whole number from 0 to 9",
    "hard": "true or false",
    "overridable": "a list of who may set it aside: [operator], [user] or [operator, user]",
    "judge": "the name of a judge, such as reasoned, or a mapping with `method` and its options",
    "when": "one or more of `tags: [harmful]`, `rule: {...}` and `ask: a yes/no question`",
    "twin": "the question whose better answer is the other one, for `lint --ask`",
    "rule": "a check such as {contains: password}",
    "ask": "a yes/no question about the request",
    "role": "system, user or assistant",
}
