"""What a row says, in whichever of the usual shapes: a prompt, two answers, a ranking, an answer with its label.

`docs/data.md` has the table of shapes. Every function takes a row as `files.rows` gives it and raises ValueError, in
one line, for what it cannot read or does not take: a tool's turn, a picture, dialogues that part before their last
answer. Nothing is guessed: an answer that is no text is refused and never turned into one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, get_args

from constitution.errors import UserError
from constitution.records import Message, Messages, Role

Row = Mapping[str, Any]
OURS = (  # what a row may have: the names that `--map` takes on its left
    "prompt", "messages", "conversations", "instruction", "input", "question", "history", "system", "system_prompt",
    "chosen", "rejected", "p", "score_chosen", "score_rejected", "a", "b", "winner", "label",
    "responses", "answers", "completions", "ranks", "rankings", "scores",
    "completion", "response", "output", "answer", "split", "source", "tags", "principles",
)  # fmt: skip
MOST_ANSWERS = 64  # of one row: they become up to 2,016 pairs
_ROLES: dict[str, Role] = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
_TOOLS = ("tool", "tools", "function", "function_call", "observation", "ipython", "tool_call", "tool_response")
_TEXTS = ("content", "text", "response", "answer", "completion", "output")  # the text of an answer that is an object
_RANKS, _SCORES = ("rank",), ("score", "overall_score", "rating")
_FIRST = ("a", "model_a", "response_a", "answer_a")
_SECOND = ("b", "model_b", "response_b", "answer_b")
_TIED = ("tie", "tied", "both", "equal", "tie (bothbad)", "both_bad", "neither")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to a prompt. Of preferences the first is the better, with the probability `p` that it is."""

    prompt: Messages
    first: str
    second: str
    p: float = 1.0


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of a row, and those of which it says that neither answer is the better."""

    pairs: tuple[Pair, ...]
    tied: tuple[Pair, ...] = ()


# --- columns under other names -----------------------------------------------------------------------------------


def check_names(names: Mapping[str, str], also: Sequence[str] = ()) -> None:
    """Raises UserError for a `--map` of a column that no row of ours has. `also`: what a reader takes besides."""
    known = (*OURS, *also)
    for ours, theirs in names.items():
        if ours not in known:
            raise UserError(f"--map {ours}={theirs}: {ours!r} is no column of ours; there are {', '.join(known)}")
        if not isinstance(theirs, str):
            raise UserError(f"--map {ours}=...: say which column of the file it is, as in --map prompt=question")


def renamed(row: Any, names: Mapping[str, str]) -> Any:
    """A row with `names[ours]`, a column of the file, under our name; inside of it by dots, as `conversation.0.text`.
    Columns that the row does not have are left as they are, and those that are mapped to nothing are left out."""
    if not names or not isinstance(row, Mapping):
        return row
    row = {name: held for name, held in row.items() if names.get(name) != ""}
    found = {ours: held for ours, theirs in names.items() if theirs and (held := _at(row, theirs)) is not None}
    return {**row, **found}


def check_found(names: Mapping[str, str], rows: Iterable[Any], path: object) -> None:
    """Raises UserError for a `--map` of a column that no row has. `rows`: as the file has them."""
    wanted, first = {ours: theirs for ours, theirs in names.items() if theirs}, None
    for row in rows:
        first = first or row
        wanted = {ours: theirs for ours, theirs in wanted.items() if _at(row, theirs) is None}
        if not wanted:
            return
    for ours, theirs in wanted.items():
        has = ", ".join(repr(str(key)[:40]) for key in list(first)[:12]) if isinstance(first, Mapping) else "nothing"
        raise UserError(f"--map {ours}={theirs}: no row of {path} has {theirs!r}; the first has {has}")


def _at(row: Any, path: str) -> Any:
    if isinstance(row, Mapping) and path in row:  # a name may have dots of its own
        return row[path]
    for part in path.split("."):
        if isinstance(row, Mapping):
            row = row.get(part)
        elif isinstance(row, list) and part.isdecimal() and len(part) < 6:
            row = row[int(part)] if int(part) < len(row) else None
        else:
            return None
    return row


# --- messages ----------------------------------------------------------------------------------------------------


def messages(value: Any, name: str) -> Messages:
    """A dialogue: a text (one user's turn), or a list of messages, with `role` and `content` or `from` and `value`."""
    if isinstance(value, str):
        if not value.strip():
            raise ValueError(f"{name!r} is empty")
        return _spoken(value, cue=True) or (Message("user", value),)
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name!r} is a string or a list of messages")
    spoken = [(place, turn) for place, turn in enumerate(value) if not _says_nothing(turn)]
    if not spoken:
        raise ValueError(f"{name!r} is empty")
    return tuple(_message(turn, f"{name}[{place}]") for place, turn in spoken)


def _says_nothing(turn: Any) -> bool:
    """Whether a turn is an empty system message, as many data sets have them for none."""
    if not isinstance(turn, Mapping):
        return False
    role, said = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    return isinstance(role, str) and _ROLES.get(role.lower()) == "system" and isinstance(said, str) and not said.strip()


def _message(turn: Any, where: str) -> Message:
    role = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
    if isinstance(role, str) and role.lower() in _TOOLS:
        raise ValueError(f"{where} is a tool's turn (role {role!r}), which is not taken")
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise ValueError(f"{where} needs a 'role' of {', '.join(get_args(Role))}, not {_shown(role)}")
    for calls in ("tool_calls", "function_call"):
        if turn.get(calls):
            raise ValueError(f"{where} has {calls!r}, which are not taken")
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list):
        content = _parts(content, where)
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"{where} needs a 'content' that is text")
    return Message(_ROLES[role.lower()], content)


def _parts(parts: Sequence[Any], where: str) -> str:
    """The text of a content that is a list of parts, all of them text."""
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind != "text" or not isinstance(part.get("text"), str):
            raise ValueError(f"{where} has a part of type {str(kind)[:40]!r}: only text is taken")
    return "".join(part["text"] for part in parts)


_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def _spoken(text: str, cue: bool) -> Messages | None:
    """The turns of a text like "\\n\\nHuman: ...\\n\\nAssistant: ...", as hh-rlhf has them; None for another text.
    `cue`: it ends in an empty turn of the assistant's, that is to be answered."""
    if not re.match(r"\s*Human:", text) or "\n\nAssistant:" not in text:
        return None
    _, *parts = _SPEAKER.split(text)
    turns = [(_ROLES[who.lower()], said.strip()) for who, said in zip(parts[::2], parts[1::2], strict=True)]
    if cue:
        if turns[-1] != ("assistant", ""):
            return None
        turns = turns[:-1]
    if any(not said for _, said in turns):
        raise ValueError("a turn of the dialogue is empty")
    return tuple(Message(role, said) for role, said in turns)


# --- prompts -----------------------------------------------------------------------------------------------------


def prompt(row: Row) -> Messages:
    """The dialogue that is to be answered. Of a row that holds whole dialogues, what comes before their last answer."""
    given = _given(row)
    if given is None and ("chosen" in row or "rejected" in row):
        openings = [opened for name in ("chosen", "rejected") if name in row and (opened := _answer(row, name)[0])]
        if openings:
            given = openings[0]
    if given is None:
        raise ValueError(missing(row, "prompt"))
    return _ends_in_user(given)


def _given(row: Row) -> Messages | None:
    """The prompt as a row's own columns give it; None where only its answers do."""
    found: Messages
    if "prompt" in row:
        found = messages(row["prompt"], "prompt")
    elif (name := _dialogue_column(row)) is not None:
        found = messages(row[name], name)
        if found[-1].role == "assistant":
            found = found[:-1]
        if not found:
            raise ValueError(f"{name!r} has no user's turn")
    elif "instruction" in row:
        found = (Message("user", _instruction(row)),)
    elif "question" in row:
        found = messages(row["question"], "question")
    else:
        return None
    found = _history(row) + found
    for name in ("system", "system_prompt"):
        if isinstance(row.get(name), str) and row[name].strip() and found[0].role != "system":
            found = (Message("system", row[name]), *found)
    return found


def _dialogue_column(row: Row) -> str | None:
    return next((name for name in ("messages", "conversations") if name in row), None)


def _instruction(row: Row) -> str:
    instruction, given = row["instruction"], row.get("input", "")
    if not isinstance(instruction, str) or not instruction.strip():
        raise ValueError("'instruction' needs to be text")
    if not isinstance(given, str):
        raise ValueError("'input' needs to be text")
    return f"{instruction}\n\n{given}" if given.strip() else instruction


def _history(row: Row) -> Messages:
    """Earlier turns beside an instruction: pairs of a user's and an assistant's text."""
    history = row.get("history", [])
    if "instruction" not in row or not history:
        return ()
    if not isinstance(history, list) or not all(
        isinstance(turn, list) and len(turn) == 2 and all(isinstance(said, str) for said in turn) for turn in history
    ):
        raise ValueError("'history' is a list of pairs: what the user said, and the answer")
    return tuple(turn for asked, said in history for turn in (Message("user", asked), Message("assistant", said)))


def _ends_in_user(found: Messages) -> Messages:
    if found[-1].role != "user":
        raise ValueError("a prompt ends in a user's turn")
    return found


def missing(row: Row, name: str) -> str:
    """That a row has no such key, and which keys it has."""
    hint = f" (it has {', '.join(repr(str(key)[:40]) for key in list(row)[:6])})" if row else ""
    return f"the key {name!r} is missing{hint}"


def text(row: Row, name: str) -> str:
    """A column that has to be a text."""
    held = row.get(name)
    if not isinstance(held, str) or not held.strip():
        raise ValueError(f"{name!r} has to be a text" if name in row else f"the key {name!r} is missing")
    return held


# --- answers -----------------------------------------------------------------------------------------------------


def _answer(row: Row, name: str) -> tuple[Messages | None, str]:
    if name not in row:
        raise ValueError(missing(row, name) if name in ("chosen", "better") else f"the key {name!r} is missing")
    return answer(row[name], name)


def answer(value: Any, name: str) -> tuple[Messages | None, str]:
    """An answer: the turns that come before it where they are there, and its text."""
    if isinstance(value, str):
        if not value.strip():
            raise ValueError(f"{name!r} is empty")
        turns = _spoken(value, cue=False)
        if turns is None:
            return None, value
    else:
        turns = messages([value] if isinstance(value, Mapping) else value, name)
    if turns[-1].role != "assistant":
        raise ValueError(f"{name!r} has to end in an assistant's message")
    return (turns[:-1] or None), turns[-1].content


def _before(row: Row, *openings: Messages | None) -> Messages:
    """The prompt of answers that may be whole dialogues. Raises ValueError where the dialogues part before their last
    answer, or open otherwise than the prompt that is beside them says."""
    given = _given(row)
    whole = []
    for opening in openings:
        if opening is None:
            continue
        if opening[0].role == "assistant":  # it goes on from the prompt
            if given is None:
                raise ValueError(missing(row, "prompt"))
            opening = given + opening
        elif given is not None and not _opens_with(opening, given):
            raise ValueError("the dialogue of an answer does not open with the prompt beside it")
        whole.append(opening)
    if not whole:
        if given is None:
            raise ValueError(missing(row, "prompt"))
        return _ends_in_user(given)
    if any(other != whole[0] for other in whole):
        raise ValueError("the two dialogues part before their last answer")
    if any(opening is None for opening in openings) and given is None:
        raise ValueError("one answer is a whole dialogue and the other is not")
    return _ends_in_user(whole[0])


def _opens_with(opening: Messages, given: Messages) -> bool:
    """Whether a dialogue holds the prompt that stands beside it: the same turns, or, of several, one of the user's."""
    spoken = [(m.role, m.content.strip()) for m in opening if m.role != "system"]
    wanted = [(m.role, m.content.strip()) for m in given if m.role != "system"]
    return spoken == wanted or (len(wanted) == 1 and wanted[0] in spoken)


def number(value: Any, name: str) -> float:
    """A number, also as a cell of CSV has it. Raises ValueError for another thing, NaN, and what no float can hold."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"{name} must be a number, not {value[:40]!r}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, not {_shown(value)}")
    if not abs(value) < 1e300:  # not NaN, nor infinite, nor of hundreds of digits
        raise ValueError(f"{name} must be a number, not {str(value)[:40]}")
    return float(value)


def probability(value: Any) -> float:
    """`p`, the probability that `chosen` is the better."""
    p = number(value, "p")
    if not 0.5 <= p <= 1:
        raise ValueError(
            f"p is {value}; it is the probability that `chosen` is the better, in [0.5, 1]: swap the two if it is less"
        )
    return p


# --- preferences and pairs ---------------------------------------------------------------------------------------


def preferences(row: Row) -> Pairs:
    """What a row prefers: `chosen` to `rejected` (one each, or a list of texts each), `a` or `b` as its `winner` or
    `label` says, or the better ranked of several to the worse."""
    if "chosen" in row or "rejected" in row:
        return chosen(row)
    if "a" in row and "b" in row:
        verdict = winner(row)
        if verdict is None:
            said = _shown(row.get("winner", row.get("label")))
            raise ValueError(f"'winner' (or 'label') has to say which is the better, a, b or tie, not {said}")
        found = _two(row, "a", "b")
        if verdict == "tie":
            return Pairs((), (found,))
        return Pairs((found if verdict == "a" else Pair(found.prompt, found.second, found.first),))
    if (name := _several(row)) is not None:
        return _ranked(row, name)
    raise ValueError(missing(row, "chosen"))


def pairs(row: Row) -> Pairs:
    """The pairs of a row that says nothing of which is better: `a` and `b`, or all pairs of its `responses`."""
    name = _several(row)
    if "a" not in row and name is not None:
        before = _ends_in_user(_required(row))
        texts = [text for text, _ in _answers(row, name, {})]
        return Pairs(tuple(Pair(before, one, other) for one, other in combinations(dict.fromkeys(texts), 2)))
    return Pairs((_two(row, "a", "b"),))


def winner(row: Row) -> str | None:
    """`a`, `b` or `tie`, as the column `winner` or `label` says; None where neither says such a thing."""
    for name in ("winner", "label"):
        said = row.get(name)
        if isinstance(said, str):
            folded = said.strip().lower()
            for word, forms in (("a", _FIRST), ("b", _SECOND), ("tie", _TIED)):
                if folded in forms:
                    return word
    return None


def is_preference(row: Any) -> bool:
    """Whether a row says which answer is the better."""
    if not isinstance(row, Mapping):
        return False
    if "chosen" in row or "rejected" in row:
        return True
    if "a" in row and "b" in row:
        return winner(row) is not None
    name = _several(row)
    return name is not None and bool(_ratings(row, name))


def _two(row: Row, one: str, other: str) -> Pair:
    (before, first), (before_other, second) = _answer(row, one), _answer(row, other)
    opening = _before(row, before, before_other)
    if first == second:
        raise ValueError(f"{one!r} and {other!r} are the same text")
    return Pair(opening, first, second)


def chosen(row: Row, better: str = "chosen", worse: str = "rejected") -> Pairs:
    """What a row prefers in the column `better` to what it has in `worse`: one text or dialogue each, or several."""
    one, other = row.get(better), row.get(worse)
    if _texts(one) or _texts(other):  # several of each, as a benchmark of reward models has them
        good: list[Any] = one if isinstance(one, list) and _texts(one) else [one]
        bad: list[Any] = other if isinstance(other, list) and _texts(other) else [other]
        if len(good) + len(bad) > MOST_ANSWERS:
            raise ValueError(f"{len(good) + len(bad)} answers are more than the {MOST_ANSWERS} that a row may have")
        found = [chosen({**row, better: one, worse: other}, better, worse) for one, other in product(good, bad)]
        return Pairs(
            tuple(pair for each in found for pair in each.pairs), tuple(pair for each in found for pair in each.tied)
        )
    pair = _two(row, better, worse)
    p = probability(row["p"]) if "p" in row else 1.0
    scores = [_score(row.get(name)) for name in ("score_chosen", "score_rejected")]
    if p == 0.5 or (scores[0] is not None and scores[0] == scores[1]):
        return Pairs((), (pair,))
    return Pairs((Pair(pair.prompt, pair.first, pair.second, p),))


def _score(value: Any) -> float | None:
    try:
        return number(value, "score")
    except ValueError:  # it only stands beside, and says nothing
        return None


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _several(row: Row) -> str | None:
    """The column that holds several answers."""
    return next((name for name in ("responses", "answers", "completions") if isinstance(row.get(name), list)), None)


def _ratings(row: Row, name: str) -> dict[str, bool]:
    """The columns, or keys of the answers, that rate them, and whether the higher number is the better."""
    columns = {"ranks": False, "rankings": False, "scores": True}
    if found := {column: higher for column, higher in columns.items() if column in row}:
        return found
    first = row[name][0] if row[name] else None
    if not isinstance(first, Mapping):
        return {}
    keys = {**dict.fromkeys(_RANKS, False), **dict.fromkeys(_SCORES, True)}
    return {f"{name}[].{key}": higher for key, higher in keys.items() if key in first}


def _ranked(row: Row, name: str) -> Pairs:
    """Every pair of a ranking whose two answers are not ranked alike, the better first."""
    ratings = _ratings(row, name)
    if not ratings:
        raise ValueError(f"{name!r} has no ranks (1 is the best) and no scores (the highest is the best) beside it")
    column, higher = next(iter(ratings.items()))
    before = _ends_in_user(_required(row))
    rated = _answers(row, name, {column: higher})
    if not higher and any(rank < 1 for _, rank in rated):
        raise ValueError(f"{column!r} count from 1, the best; a 0 may as well be a place in an order, best first")
    found: list[Pair] = []
    tied: list[Pair] = []
    for (one, at_one), (other, at_other) in combinations(rated, 2):
        if one == other:  # the same answer twice is no pair
            continue
        if at_one == at_other:
            tied.append(Pair(before, one, other))
            continue
        better = (at_one > at_other) == higher
        found.append(Pair(before, one, other) if better else Pair(before, other, one))
    return Pairs(tuple(dict.fromkeys(found)), tuple(tied))


def _answers(row: Row, name: str, rating: Mapping[str, bool]) -> list[tuple[str, float]]:
    """The answers of a row with several, each with its rating (0 where none is asked for)."""
    given = row[name]
    if not 2 <= len(given) <= MOST_ANSWERS:
        raise ValueError(f"{name!r} has {len(given)} answers; two to {MOST_ANSWERS} can be compared")
    (column,) = rating or ("",)
    beside = row.get(column) if column and "[]" not in column else None
    if column and "[]" not in column and (not isinstance(beside, list) or len(beside) != len(given)):
        raise ValueError(f"{column!r} has to be a list of {len(given)} numbers, one for each of {name!r}")
    found = []
    for place, one in enumerate(given):
        where = f"{name}[{place}]"
        text = _text_of(one, where)
        if beside is not None:
            found.append((text, number(beside[place], f"{column}[{place}]")))
        elif column:
            key = column.rsplit(".", 1)[-1]
            held = one.get(key) if isinstance(one, Mapping) else None
            found.append((text, number(held, f"{where}.{key}")))
        else:
            found.append((text, 0.0))
    return found


def _text_of(held: Any, where: str) -> str:
    if isinstance(held, Mapping) and "role" not in held and "from" not in held:
        held = next((held[key] for key in _TEXTS if isinstance(held.get(key), str)), None)
        if held is None:
            raise ValueError(f"{where} needs a text: one of {', '.join(_TEXTS)}")
    before, text = answer(held, where)
    if before is not None:
        raise ValueError(f"{where} is a whole dialogue; give the answer alone")
    return text


def _required(row: Row) -> Messages:
    given = _given(row)
    if given is None:
        raise ValueError(missing(row, "prompt"))
    return given


# --- answers by themselves ---------------------------------------------------------------------------------------


def completion(row: Row) -> tuple[Messages, str]:
    """A prompt and its answer: beside it, or the last turn of a dialogue."""
    for name in ("completion", "response", "output", "answer"):
        if name in row:
            before, text = _answer(row, name)
            return _before(row, before), text
    column = _dialogue_column(row) if "prompt" not in row else None
    if column is None:
        raise ValueError(missing(row, "completion"))
    before, text = answer(row[column], column)
    if before is None:
        raise ValueError(f"{column!r} has no user's turn")
    return _before({key: row[key] for key in ("system", "system_prompt") if key in row}, before), text


def good(value: Any) -> bool:
    """`label` of an answer by itself: true for a good one, also as a cell of CSV has it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise ValueError(f"label must be true (a good answer) or false, not {_shown(value)}")


def _shown(value: Any) -> str:
    """A value in a message: what it is where it holds others, which may be nested as deep as they like."""
    return f"a {type(value).__name__}" if isinstance(value, list | dict) else repr(value)[:40]
