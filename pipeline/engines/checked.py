"""What an engine of another's code answered, before anybody believes it: a result for each request, of the right kind.

One result too few would be told as an error deep in a step, or be stored as the answer to another request. The engines
of this folder are held to the same by their tests, and handed out as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from constitution.errors import UserError
from pipeline.engines.engine import Choice, Choose, Completion, Engine, Generate, Refused, Score, Scored

METHODS = ("render", "generate", "choose", "score", "close")


class Checked:
    """An `Engine` around another. Raises UserError, naming it, where it breaks its contract."""

    def __init__(self, inner: Engine, who: str) -> None:
        lacks = [name for name in METHODS if not callable(getattr(inner, name, None))]
        lacks += [name for name in ("fingerprint", "capabilities") if not hasattr(inner, name)]
        if lacks:
            raise UserError(
                f"{who} built a {type(inner).__name__}, which is no engine: it has no {lacks[0]}; see "
                "pipeline/engines/engine.py for what an engine has"
            )
        self.inner, self._who = inner, who

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def generate(self, requests: Sequence[Generate]) -> list[Completion | Refused]:
        return self._whole("generate", self.inner.generate(requests), len(requests), Completion)

    def choose(self, groups: Sequence[Choose]) -> list[list[Choice | Refused]]:
        found = self._whole("choose", self.inner.choose(groups), len(groups), Sequence)
        return [self._whole("choose", each, len(g.chats), Choice) for each, g in zip(found, groups, strict=True)]

    def score(self, requests: Sequence[Score]) -> list[Scored | Refused]:
        return self._whole("score", self.inner.score(requests), len(requests), Scored)

    def _whole(self, method: str, found: Any, asked: int, kind: type) -> list[Any]:
        mend = "see pipeline/engines/engine.py for what it returns; nothing of this batch was stored"
        if not isinstance(found, Sequence) or isinstance(found, str | bytes):
            raise UserError(f"{self._who}: {method} returned a {type(found).__name__}, and not a list; {mend}")
        if len(found) != asked:
            raise UserError(f"{self._who}: {method} was asked {asked} and answered {len(found)}; {mend}")
        wrong = [each for each in found if not isinstance(each, kind | Refused)]
        if wrong:
            raise UserError(
                f"{self._who}: {method} returned a {type(wrong[0]).__name__}, and not a {kind.__name__}; {mend}"
            )
        return list(found)
