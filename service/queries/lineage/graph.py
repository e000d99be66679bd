"""A lineage as a graph: what there is, and what was made of what. Plain records, for text, JSON and pictures alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

Fact: TypeAlias = tuple[str, str | int | float]

# The kinds of nodes, in the order in which values become a model, and what several are called.
KINDS: Mapping[str, str] = {
    "person": "people",
    "amendment": "amendments",
    "principle": "principles",
    "constitution": "constitutions",
    "model": "models",
    "prompt": "prompts",
    "answer": "answers",
    "comparison": "comparisons",
    "verdicts": "sets of verdicts",
    "run": "runs",
    "labels": "sets of labels",
    "data set": "data sets",
    "checkpoint": "checkpoints",
    "evaluation": "evaluations",
    "decision": "decisions",
    "promotion": "promotions",
}
# Of kinds with as many nodes, these are first made one: they say least by themselves.
_DISPENSABLE = ("verdicts", "answer", "comparison", "prompt", "principle", "promotion", "decision", "evaluation")


@dataclass(frozen=True, slots=True)
class Node:
    """`id` is exact: of a kind that can be asked about, it can be written as it stands. A whole number among the facts
    counts what its name says."""

    id: str
    kind: str
    title: str
    facts: tuple[Fact, ...] = ()

    def fact(self, name: str) -> str | int | float | None:
        return dict(self.facts).get(name)


@dataclass(frozen=True, slots=True)
class Edge:
    """`target` was made of, or by, `source`."""

    source: str
    target: str
    why: str


@dataclass(frozen=True)
class Graph:
    """`what`: the question, exactly. `focus`: ids of the nodes it is about."""

    what: str
    focus: tuple[str, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @cached_property
    def by_id(self) -> dict[str, Node]:
        return {node.id: node for node in self.nodes}

    @cached_property
    def place(self) -> dict[str, int]:
        """By node, its place among them."""
        return {node.id: number for number, node in enumerate(self.nodes)}

    @cached_property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """By node, what it was made of, in the order of the nodes."""
        return self._neighbours([(edge.target, edge.source) for edge in self.edges])

    @cached_property
    def targets(self) -> dict[str, tuple[str, ...]]:
        """By node, what was made of it, in the order of the nodes."""
        return self._neighbours([(edge.source, edge.target) for edge in self.edges])

    def _neighbours(self, pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
        found: dict[str, set[str]] = {node.id: set() for node in self.nodes}
        for one, other in pairs:
            found[one].add(other)
        return {id: tuple(sorted(ids, key=self.place.__getitem__)) for id, ids in found.items()}

    def as_dict(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "focus": list(self.focus),
            "nodes": [{"id": n.id, "kind": n.kind, "title": n.title, "facts": dict(n.facts)} for n in self.nodes],
            "edges": [{"from": e.source, "to": e.target, "why": e.why} for e in self.edges],
        }

    def without(self, kind: str) -> Graph:
        """Without the nodes of a kind, unless it is asked about."""
        return self._with(node for node in self.nodes if node.kind != kind or node.id in self.focus)

    def at_most(self, most: int) -> Graph:
        """As many nodes or fewer, where that can be had: of the kind with the most, all become one that counts them."""
        graph = self
        while len(graph.nodes) > most:
            count = Counter(n.kind for n in graph.nodes if n.id not in graph.focus)
            kinds = sorted(KINDS, key=lambda k: (-count[k], [*_DISPENSABLE, *KINDS].index(k)))
            if count[kinds[0]] < 2:
                break
            graph = graph._folded(kinds[0])
        return graph

    def _with(self, nodes: Iterable[Node]) -> Graph:
        kept = tuple(nodes)
        ids = {node.id for node in kept}
        return replace(self, nodes=kept, edges=tuple(e for e in self.edges if {e.source, e.target} <= ids))

    def _folded(self, kind: str) -> Graph:
        folded = [node for node in self.nodes if node.kind == kind and node.id not in self.focus]
        one = Node(f"{kind}:all", kind, f"{len(folded)} {KINDS[kind]}", _sums(folded))
        name = {node.id: one.id for node in folded}
        edges = {
            (name.get(e.source, e.source), name.get(e.target, e.target)): e for e in self.edges
        }  # of several between the same two one is kept
        return replace(
            self,
            nodes=tuple(one if n is folded[0] else n for n in self.nodes if n.id not in name or n is folded[0]),
            edges=tuple(Edge(s, t, e.why) for (s, t), e in edges.items() if s != t),
        )


def _sums(nodes: Sequence[Node]) -> tuple[Fact, ...]:
    total: Counter[str] = Counter()
    for node in nodes:
        total.update({name: value for name, value in node.facts if isinstance(value, int)})
    return tuple(total.items())
