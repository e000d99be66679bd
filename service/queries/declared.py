"""What principles say of their judges and of when they apply, checked: the constitution's own reader knows the words of
the format, and no judge. Nothing is loaded and nobody is asked; a function of the user's is looked up, not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pipeline.judges
from constitution.errors import UserError
from constitution.layout import Path, path_text, read_layout
from constitution.principles import Constitution, JudgedBy
from constitution.problems import ConstitutionError, Problem
from pipeline import checks
from pipeline.asking import Role
from pipeline.engines.engine import Capabilities
from pipeline.engines.unloaded import Unloaded
from pipeline.judges.by_principle import ANOTHER
from service.settings import role_settings

HINT = "docs/judges.md has the judges that there are, and the options of each."


def check(constitution: Constitution, filename: str) -> None:
    """Raises ConstitutionError with every mistake, its line, and how to mend it."""
    found = problems(constitution)
    if found:
        raise ConstitutionError(filename, found, constitution.source)


def problems(constitution: Constitution) -> list[Problem]:
    """The mistakes in the order of the file. Places are those of its source; (1, 1) where it has none."""
    layout = read_layout(constitution.source)
    found = []
    for number, principle in enumerate(constitution):
        at: Path = ("principles", number)
        wrong: list[tuple[Path, str, str]] = []
        if principle.judge is not None:
            wrong += [((*at, "judge", *key), message, hint) for key, message, hint in _of_judge(principle.judge)]
        if principle.when is not None and principle.when.rule:
            wrong += [
                ((*at, "when", "rule", *_key(m.key)), f"{_name(m.key)}{m.message}", m.hint)
                for m in checks.mistakes(principle.when.rule)
            ]
        for path, message, hint in wrong:
            place = layout.keys.get(path) or layout.place(path)
            found.append(Problem(*place, path_text(path), message, hint))
    return found


def _of_judge(by: JudgedBy) -> list[tuple[Path, str, str]]:
    """By the key that is wrong, what is wrong and how to mend it."""
    options = by.options
    if by.method == "rule":
        graded = options.pop("graded", False)
        odd = [] if isinstance(graded, bool) else [(("graded",), "graded is neither true nor false", "Write `true`.")]
        options.pop(ANOTHER, None)
        return [*odd, *((_key(m.key), f"{_name(m.key)}{m.message}", m.hint) for m in checks.mistakes(options))]
    given = options.pop(ANOTHER, None)
    if given is not None and not isinstance(given, Mapping):
        return [((ANOTHER,), f"{ANOTHER} is {given!r}, not the settings of a role", "Write {model: a-folder}.")]
    try:
        role = _stand_in({}) if given is None else _stand_in(given)
        pipeline.judges.one(by.method, role, options, _stand_in)
    except UserError as error:
        return [((), str(error), HINT)]
    return []


def _stand_in(given: Mapping[str, Any]) -> Role:
    """A role whose settings are right, and whose engine answers nothing. Raises UserError where they are not."""
    if given:
        role_settings(given)
    return Role(Unloaded("", Capabilities()))


def _key(key: str) -> Path:
    return (key,) if key else ()


def _name(key: str) -> str:
    return f"`{key}`: " if key else ""
