"""What a run could not ask, and what it did not use of the answers: counted, and named by the prompt.

One bad item among many (too long for a model, refused by its template or by a server, without a token) is left out of
its stage, and the rest goes on. Nothing of it is stored: a run that is resumed, or a later run whose model reads more,
asks again. So this is kept by the run at work, and goes into its result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from constitution.records import Id, Prompt
from pipeline.engines.engine import Refused

What: TypeAlias = Literal["answer", "critique", "revision", "comparison"]
NAMED = 20  # items that a result names; all are counted
WORDS = 60  # characters of a prompt

# An answer, by its request; a question about a comparison, by both.
Item: TypeAlias = Id | tuple[Id, Id]


@dataclass(frozen=True)
class Omission:
    """One item of a stage. `of`: the comparison of a question, or the request itself; `prompt` is who it is about."""

    stage: str
    what: What
    of: Id
    prompt: Id
    refused: Refused


class LeftOut:
    """`cut`: by stage, how many answers were cut at the token limit, and of how many. `dropped`: by stage of revisions,
    how many could not stand, by reason."""

    def __init__(self) -> None:
        self._omitted: dict[tuple[str, Item], Omission] = {}
        self.cut: dict[str, tuple[int, int]] = {}
        self.dropped: dict[str, dict[str, int]] = {}

    def put(self, item: Item, omission: Omission) -> None:
        self._omitted[omission.stage, item] = omission

    def answered(self, stage: str, items: Collection[Item]) -> None:
        """Asked again, and answered."""
        for item in items:
            self._omitted.pop((stage, item), None)

    def answers(self, stage: str) -> list[Id]:
        """The requests of a stage that were left out."""
        return [item for at, item in self._omitted if at == stage and isinstance(item, bytes)]

    def questions(self, stage: str) -> list[tuple[Id, Id]]:
        """The comparisons and questions of a stage that were left out."""
        return [item for at, item in self._omitted if at == stage and isinstance(item, tuple)]

    def comparisons(self, questions: Collection[Id]) -> set[Id]:
        """The comparisons that one of these questions could not be asked about."""
        return {o.of for (_, item), o in self._omitted.items() if isinstance(item, tuple) and item[1] in questions}

    def of_stage(self, stage: str) -> list[Omission]:
        """The items of a stage, each comparison once."""
        return list({o.of: o for o in self._omitted.values() if o.stage == stage}.values())

    @property
    def everything(self) -> list[Omission]:
        return list(self._omitted.values())

    @property
    def prompts(self) -> set[Id]:
        return {o.prompt for o in self._omitted.values()}

    def as_dict(self, prompts: Mapping[Id, Prompt], rows: Mapping[Id, int]) -> dict[str, Any]:
        """`count` of all items, by stage and reason (`stages`), the first `NAMED` of them (`items`), and what else was
        not used: `cut` and `dropped`, by stage. `rows`: which row, counted from 1, a prompt or a comparison is."""
        stages: dict[str, dict[str, int]] = {}
        items: list[dict[str, Any]] = []
        for stage in dict.fromkeys(o.stage for o in self._omitted.values()):
            found = self.of_stage(stage)
            stages[stage] = dict(sorted(Counter(o.refused.kind for o in found).items()))
            items += [_named(o, prompts.get(o.prompt), rows.get(o.prompt, rows.get(o.of))) for o in found]
        return {
            "count": len(items),
            "stages": stages,
            "items": items[:NAMED],
            "cut": {stage: {"count": cut, "of": of} for stage, (cut, of) in self.cut.items() if cut},
            "dropped": {stage: found for stage, found in self.dropped.items() if found},
        }


def _named(omission: Omission, prompt: Prompt | None, row: int | None) -> dict[str, Any]:
    words = " ".join(prompt.messages[-1].content.split()) if prompt else ""
    return {
        "stage": omission.stage,
        "what": omission.what,
        "why": omission.refused.kind,
        "said": omission.refused.said,
        "prompt": omission.prompt.hex()[:12],
        "source": prompt.source if prompt else "",
        "row": row,
        "words": words if len(words) <= WORDS else f"{words[: WORDS - 3]}...",
    }
