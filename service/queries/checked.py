"""A text of a constitution, checked: every mistake with its line and how to mend it, and what does nothing.

For whoever writes one, on the command line or in a page that asks as they type. Nothing is loaded and nobody is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from constitution import loading
from constitution.principles import Constitution
from constitution.problems import ConstitutionError, Problem
from service.queries import declared, unread
from service.settings import Settings


@dataclass(frozen=True)
class Checked:
    """`constitution`: what the text says; None where it has mistakes. `notices`: what is no mistake, and does
    nothing."""

    text: str
    constitution: Constitution | None
    problems: Sequence[Problem] = ()
    notices: Sequence[Problem] = ()

    @property
    def ok(self) -> bool:
        return self.constitution is not None

    def as_dict(self) -> dict[str, Any]:
        """As `precept constitution check --json` says it, without the file's name."""
        told: dict[str, Any] = {"ok": self.ok, "problems": [of_problem(p) for p in self.problems]}
        if self.constitution is None:
            return told
        summary = {
            "constitution": self.constitution.name, "version": self.constitution.version,
            "count": len(self.constitution),
        }  # fmt: skip
        return {**told, "notices": [of_problem(p) for p in self.notices], **summary}


def check(text: str, name: str = "the draft", settings: Settings | None = None) -> Checked:
    """Every mistake of a text. `settings`: of a project, whose prompts and judge are looked at for the notices."""
    try:
        found = loading.parse(text, name)
        declared.check(found, name)
    except ConstitutionError as error:
        return Checked(text, None, error.problems)
    return Checked(text, found, (), unread.notices(found, settings))


def of_problem(problem: Problem) -> dict[str, Any]:
    return {
        "line": problem.line, "column": problem.column, "path": problem.path, "message": problem.message,
        "hint": problem.hint,
    }  # fmt: skip
