"""What code can tell of an answer, exactly and for nothing: one place for the judge, the reward, the suite and `when`.

    Checks.read({"max_words": 80, "lists": "none", "ends_sentence": True}).holds(messages, answer)

A mapping names its checks by key (`KINDS`), and all of them must hold. A check says how well an answer keeps it: 1 is
kept, less is how near it comes (0.5 for twice the words that are allowed), and None is that nobody can tell, a language
that is not known here, say. Hostile text is text: no answer makes a check hang, and none is a mistake of the settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from constitution.errors import UserError, nearest_name
from constitution.records import Messages
from pipeline.checks import content, shape
from pipeline.checks.check import Check, Make, Wrong

KINDS: Mapping[str, Make] = {**shape.KINDS, **content.KINDS}
SPANS = ("words", "sentences", "characters")  # with a least and a most


@dataclass(frozen=True)
class Mistake:
    """What is wrong with one key of a mapping of checks (`key` is empty where it is the whole), and how to mend it."""

    key: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}. {self.hint}" if self.key else f"{self.message}. {self.hint}"


class Checks:
    """Checks that must all hold."""

    def __init__(self, checks: Mapping[str, Check], options: Mapping[str, Any]) -> None:
        self._checks, self._options = dict(checks), dict(options)

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Checks:
        """Raises UserError with all that is wrong."""
        found = mistakes(options)
        if found:
            raise UserError("; ".join(str(mistake).removesuffix(".") for mistake in found))
        return cls({key: KINDS[key](value) for key, value in options.items()}, options)

    @classmethod
    def of_json(cls, text: str) -> Checks:
        return cls.read(json.loads(text))

    @property
    def readout(self) -> dict[str, Any]:
        """What determines the results: the options and, of functions, the digest of their file."""
        sources = {key: check.source for key, check in self._checks.items() if check.source}
        return {**self._options, **({"sources": sources} if sources else {})}

    @property
    def words(self) -> str:
        """The checks in words, in the order of their names, so that equal checks have equal words."""
        return "; ".join(self._checks[key].says for key in sorted(self._checks))

    def kept(self, messages: Messages, answer: str) -> dict[str, float | None]:
        """By check, how well the answer to this dialogue keeps it: 1 is kept, None is not known."""
        return {key: check.kept(messages, answer) for key, check in self._checks.items()}

    def holds(self, messages: Messages, answer: str) -> bool | None:
        """Whether all are kept; None where none is known to be broken, and of one or more nobody can tell."""
        return held(self.kept(messages, answer))


def held(kept: Mapping[str, float | None]) -> bool | None:
    """Whether all of what `Checks.kept` found is kept; None as `Checks.holds` says."""
    if any(value is not None and value < 1 for value in kept.values()):
        return False
    return None if any(value is None for value in kept.values()) else True


def mistakes(options: Mapping[str, Any]) -> list[Mistake]:
    """All that is wrong with a mapping of checks, in its order."""
    if not options:
        return [Mistake("", "there is no check", f"Write one or more of: {', '.join(KINDS)}.")]
    found = []
    for key, value in options.items():
        if key not in KINDS:
            near = nearest_name(str(key), KINDS)
            hint = f"There are {', '.join(KINDS)}." + (f" Did you mean {near}?" if near else "")
            found.append(Mistake(str(key), "there is no such check", hint))
            continue
        try:
            KINDS[key](value)
        except Wrong as wrong:
            found.append(Mistake(key, wrong.message, wrong.hint))
        except UserError as error:  # a function that is not there
            found.append(Mistake(key, str(error), "Name a function as package.module:function."))
    if found:
        return found
    for what in SPANS:
        least, most = options.get(f"min_{what}"), options.get(f"max_{what}")
        if least is not None and most is not None and least > most:
            found.append(
                Mistake(f"max_{what}", f"{most} is under min_{what}, {least}: nothing can hold both", "Raise it.")
            )
    return found
