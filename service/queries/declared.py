"""What principles say of their judges, of when they apply and of what tests them, checked: the constitution's own
reader knows the words of the format, and no judge. Nothing is loaded and nobody is asked; a function of the user's is
looked up, not run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pipeline.judges
from constitution.errors import UserError
from constitution.layout import Path, path_text, read_layout
from constitution.principles import CODE, Constitution, JudgedBy, Principle
from constitution.problems import ConstitutionError, Problem
from pipeline import checks
from pipeline.asking import Role
from pipeline.checks.declared import last_user_turn
from pipeline.engines.engine import Capabilities
from pipeline.engines.unloaded import Unloaded
from pipeline.judges.by_principle import ANOTHER
from pipeline.options import WrongOptions, within
from service.settings import role_settings

HINT = "docs/judges.md has the judges that there are, and the options of each."
OWN: Mapping[str, Any] = {}  # stands for the settings of the role itself, which are looked at elsewhere
Said = tuple[Path, str, str]  # the key that is wrong, what is wrong, how to mend it


def check(constitution: Constitution, filename: str) -> None:
    """Raises ConstitutionError with every mistake, its line, and how to mend it."""
    found = problems(constitution)
    if found:
        raise ConstitutionError(filename, found, constitution.source)


def problems(constitution: Constitution) -> list[Problem]:
    """The mistakes in the order of the file. Places are those of its source; (1, 1) where it has none."""
    return placed(constitution, {number: list(_wrong(p)) for number, p in enumerate(constitution)})


def placed(constitution: Constitution, said: Mapping[int, list[Said]]) -> list[Problem]:
    """What is said of the keys of each principle, by its number, with their places in the file."""
    layout = read_layout(constitution.source)
    found = []
    for number, some in said.items():
        for key, message, hint in some:
            path: Path = ("principles", number, *key)
            there = path
            while there and there not in layout.keys and there not in layout.values:  # a key that should be there
                there = there[:-1]
            place = layout.keys.get(there) or layout.place(there)
            found.append(Problem(*place, path_text(path), message, hint))
    return found


def _wrong(principle: Principle) -> Iterator[Said]:
    if principle.judge is not None:
        yield from ((("judge", *key), message, hint) for key, message, hint in _of_judge(principle.judge))
    rule: list[Said] = []
    if principle.when is not None and principle.when.rule:
        rule = [
            (("when", "rule", *_key(m.key)), f"{_name(m.key)}{m.message}", m.hint)
            for m in checks.mistakes(principle.when.rule)
        ]
        yield from rule
    if principle.twin and _plain(principle.twin) == _plain(principle.comparison):
        hint = "Write the question turned round, or remove `twin`: many are made by themselves."
        yield ("twin",), "`twin` asks what `comparison` asks, and its better reply is to be the other one", hint
    yield from _examples(principle, {} if rule or principle.when is None else principle.when.rule)


def _examples(principle: Principle, when: Mapping[str, Any]) -> Iterator[Said]:
    """Examples that can test nothing: of two equal answers, or of a prompt that the principle is not for."""
    asked = checks.Checks.read(when) if when and "function" not in when else None
    for number, example in enumerate(principle.examples):
        if example.better == example.worse:
            hint = "Make them differ in what the principle is about."
            yield ("examples", number, "worse"), "`better` and `worse` are the same text, so neither can win", hint
        if asked is not None and asked.holds(example.prompt, last_user_turn(example.prompt)) is False:
            hint = "Give it a prompt that the principle is for, or mend `when`."
            message = f"`when` leaves this prompt out (it asks for one that {asked.words}), so the principle abstains"
            yield ("examples", number, "prompt"), message, hint


def _of_judge(by: JudgedBy) -> list[Said]:
    """By the key that is wrong, what is wrong and how to mend it."""
    options = by.options
    given = options.pop(ANOTHER, None)
    if by.method == CODE:
        graded = options.pop("graded", False)
        odd: list[Said] = []
        if not isinstance(graded, bool):
            odd = [(("graded",), "graded is neither true nor false", "Write `true`.")]
        if given is not None:
            odd.append(((ANOTHER,), f"`{ANOTHER}` is read by nobody: code asks no model", "Remove it."))
        return [*odd, *((_key(m.key), f"{_name(m.key)}{m.message}", m.hint) for m in checks.mistakes(options))]
    if given is not None and not isinstance(given, Mapping):
        return [((ANOTHER,), f"{ANOTHER} is {given!r}, not the settings of a role", "Write {model: a-folder}.")]
    try:
        pipeline.judges.load(by.method)
    except UserError as error:
        return [(("method",), str(error), HINT)]
    try:
        with within(ANOTHER):
            role = _stand_in(OWN) if given is None else _stand_in(given)
        pipeline.judges.one(by.method, role, options, _stand_in)
    except WrongOptions as error:
        hint = f"Its options are {', '.join(error.known)}. {HINT}"
        return [(each.path, f"{error.who}: {each}", hint) for each in error.wrong]
    except UserError as error:
        return [((), str(error), HINT)]
    return []


def _stand_in(given: Mapping[str, Any]) -> Role:
    """A role whose settings are right, and whose engine answers nothing. Raises UserError where they are not."""
    if given is not OWN:
        role_settings(given)
    return Role(Unloaded("", Capabilities()))


def _plain(question: str) -> str:
    return " ".join(re.findall(r"\w+", question.casefold()))


def _key(key: str) -> Path:
    return (key,) if key else ()


def _name(key: str) -> str:
    return f"`{key}`: " if key else ""
