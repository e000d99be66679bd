"""A model's name without the model: what a stored answer is looked up by needs no weights in memory.

Whether a question has been answered is told by the judge's fingerprint. Loading a model of many gigabytes to say that
it has nothing left to be asked would be a waste, so commands that only look things up use this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from pipeline.engines.engine import Capabilities, Chat, Choose, Generate, Score


@dataclass(frozen=True)
class Unloaded:
    """An `Engine` that answers nothing: each request raises RuntimeError."""

    fingerprint: str
    capabilities: Capabilities

    def render(self, chat: Chat) -> NoReturn:
        self._refuse()

    def generate(self, requests: Sequence[Generate]) -> NoReturn:
        self._refuse()

    def choose(self, groups: Sequence[Choose]) -> NoReturn:
        self._refuse()

    def score(self, requests: Sequence[Score]) -> NoReturn:
        self._refuse()

    def close(self) -> None:
        pass

    def _refuse(self) -> NoReturn:
        raise RuntimeError("this engine was made to look answers up; its model is not loaded")
