"""Principle and Constitution: what a file of principles says, its version, and the seeded draw of a principle.

Reading the file and finding its mistakes is `loading.py`; comparing two constitutions is `difference.py`; the requests
that models read are built in `templates.py`. Nothing here imports YAML or pydantic, so that a GPU box needs neither
until a file is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from constitution.records import WEIGHT, Id, Messages, make_id

CODE = "rule"  # the judge that is code, and asks no model


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A worked critique and revision, shown to the critic before the real one (few-shot)."""

    prompt: Messages
    response: str
    critique: str
    revision: str


@dataclass(frozen=True, slots=True)
class Example:
    """A pair of answers with a known winner under the principle: a test of the wording and of the judge. No label is
    made of it."""

    prompt: Messages
    better: str
    worse: str


@dataclass(frozen=True, slots=True)
class JudgedBy:
    """The judge that answers one principle's question: a module of `pipeline/judges`, and its options as canonical
    JSON, so that a Principle stays hashable."""

    method: str
    options_json: str = "{}"

    @property
    def options(self) -> dict[str, Any]:
        """What the file says beside `method`."""
        options: dict[str, Any] = json.loads(self.options_json)
        return options

    def as_dict(self) -> dict[str, Any]:
        """As the file says it."""
        return {"method": self.method, **self.options}


@dataclass(frozen=True, slots=True)
class When:
    """The prompts to which a principle applies: those that satisfy every condition given here. Elsewhere it abstains.

    `tags`: the prompt has one of them. `rule_json`: canonical JSON of a check of its last user's turn, as the `rule`
    judge reads one; empty for none. `ask`: a yes/no question about the request, put to the judge once a prompt.
    """

    tags: tuple[str, ...] = ()
    rule_json: str = ""
    ask: str = ""

    @property
    def rule(self) -> dict[str, Any]:
        """The check, or an empty dict."""
        rule: dict[str, Any] = json.loads(self.rule_json or "{}")
        return rule

    def as_dict(self) -> dict[str, Any]:
        """As the file says it: the conditions that are given."""
        conditions = {"tags": list(self.tags), "rule": self.rule, "ask": self.ask}
        return {name: value for name, value in conditions.items() if value}


@dataclass(frozen=True, slots=True)
class Principle:
    """One entry of a constitution. `weight` is in thousandths (1000 stands for 1.0); texts carry no outer spaces.

    A higher `tier` decides before a lower one; `hard` decides before every tier. `why` and `overridable` (of
    "operator" and "user": who may set the principle aside) are read by critic, reviser and judge. `judge` None: the
    judge of the role.
    """

    id: str
    title: str
    critique: str
    revision: str
    comparison: str
    weight: int = WEIGHT
    tags: tuple[str, ...] = ()
    applies: str = ""
    exemplars: tuple[Exemplar, ...] = ()
    examples: tuple[Example, ...] = ()
    why: str = ""
    tier: int = 0
    hard: bool = False
    overridable: tuple[str, ...] = ()
    judge: JudgedBy | None = None
    when: When | None = None
    twin: str = ""  # the question whose better reply is the other one: for `lint --ask`, in no request and no label

    @property
    def digest(self) -> Id:
        """Digest of what can change a request, a draw or a label: not the title, the examples or the twin."""
        parts: dict[str, Any] = {
            "id": self.id,
            "critique": self.critique,
            "revision": self.revision,
            "comparison": self.comparison,
            "weight": self.weight,
        }
        # Left out at their defaults, so that a field added to the format later voids no version.
        if self.tags:
            parts["tags"] = sorted(set(self.tags))
        if self.applies:
            parts["applies"] = self.applies
        if self.exemplars:
            parts["exemplars"] = [[list(e.prompt), e.response, e.critique, e.revision] for e in self.exemplars]
        if self.why:
            parts["why"] = self.why
        if self.tier:
            parts["tier"] = self.tier
        if self.hard:
            parts["hard"] = True
        if self.overridable:
            parts["overridable"] = sorted(set(self.overridable))
        if self.judge:
            parts["judge"] = self.judge.as_dict()
        if self.when:
            parts["when"] = {**self.when.as_dict(), "tags": sorted(set(self.when.tags))}
        return make_id("principle", **parts)

    def as_dict(self) -> dict[str, Any]:
        """As JSON says it; the weight as people write it."""
        judge, when = self.judge and self.judge.as_dict(), self.when and self.when.as_dict()
        return {**asdict(self), "weight": self.weight / WEIGHT, "judge": judge, "when": when}


@dataclass(frozen=True)
class Constitution:
    """A named set of principles. `source` is the text they were read from, comments and layout included."""

    name: str
    principles: tuple[Principle, ...]
    source: str = ""

    @cached_property
    def version(self) -> str:
        """32 hex digits over the principles' digests, whatever their order: name, titles and comments are not in it."""
        return make_id("constitution", principles=sorted(p.digest.hex() for p in self.principles)).hex()

    def weights(self) -> dict[str, int]:
        """Weight in thousandths by principle id."""
        return {principle.id: principle.weight for principle in self.principles}

    def __iter__(self) -> Iterator[Principle]:
        return iter(self.principles)

    def __len__(self) -> int:
        return len(self.principles)

    def __getitem__(self, id: str) -> Principle:
        """The principle of that id. Raises KeyError."""
        for principle in self.principles:
            if principle.id == id:
                return principle
        raise KeyError(id)


def draw(constitution: Constitution, seed: int, prompt_id: Id, round: int, among: Collection[str] = ()) -> Principle:
    """The principle of one critique-revision round: the one with the highest hash of (seed, prompt, round, its id).

    Uniform, independent between rounds and with replacement, as in Constitutional AI (arXiv 2212.08073, section 3.1).
    A hash for each principle instead of a shared generator, so that an edit redraws only what it must: adding one to
    n moves 1 in n + 1 draws, all to the newcomer; removing one redraws only its own; order, titles and weights move
    none. `among`: the ids of which alone it is drawn, empty for all; where the constitution has none of them (an
    amendment removed them), it is drawn of all.
    """
    named = [p for p in constitution.principles if p.id in among]
    return max(
        named or constitution.principles,
        key=lambda p: make_id("draw", seed=seed, prompt=prompt_id, round=round, principle=p.id),
    )
