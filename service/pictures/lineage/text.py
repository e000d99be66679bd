"""A lineage as text: an indented tree in which every thing is told of once."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from constitution.visible import visible
from service.queries.lineage.graph import KINDS, Graph, Node

WIDTH = 100  # columns
MOST = 40  # things of one kind under one thing; the others are counted
# Kinds in the order in which they are told of, what is nearest to a model first.
_ORDER = (
    "evaluation", "decision", "promotion", "data set", "labels", "constitution", "verdicts", "principle", "amendment",
    "comparison", "answer", "prompt", "run", "checkpoint", "model",
)  # fmt: skip
_QUOTED = ("why", "because", "text", "first", "second")  # what a person or a model wrote
_BRIEF = {  # facts that a line has room for, where that is not all of them
    "principle": ("weight", "by", "in"),
    "amendment": ("by", "on", "why"),
    "constitution": ("principles", "ratified"),
    "verdicts": ("p of the first", "words"),
    "comparison": ("prompts", "label"),
    "checkpoint": ("weights", "run", "now", "go on with"),
    "labels": ("decided", "tied", "unreadable", "run"),
    "evaluation": ("prompts", "win rate"),
    "answer": ("text", "engine"),
    "prompt": ("text",),
}


def lines(graph: Graph) -> Iterator[str]:
    """What is asked about, what it comes from and what it led to: indented, and at most `WIDTH` wide."""
    for number, id in enumerate(graph.focus):
        node = graph.by_id[id]
        if number:
            yield ""
        yield _cut(_name(node))
        said = ", ".join(_fact(name, value) for name, value in node.facts)
        yield from textwrap.wrap(visible(said), WIDTH, initial_indent="  ", subsequent_indent="  ")
        for title, links, arrow in (("comes from", graph.sources, "<-"), ("led to", graph.targets, "->")):
            told = list(_Tree(graph, links, id, arrow).lines(id, 1))
            yield from [title, *told] if told else []


class _Tree:
    """A graph as a tree: each node is told of where it is nearest to the root, and elsewhere only named."""

    def __init__(self, graph: Graph, links: Mapping[str, tuple[str, ...]], root: str, arrow: str) -> None:
        self.graph, self.arrow = graph, arrow
        people = {node.id for node in graph.nodes if node.kind == "person"}  # an amendment's line names who made it
        self.links = {id: sorted(set(ids) - people, key=self._place) for id, ids in links.items()}
        self.parent, self.told = {root: ""}, {root}
        level = [root]
        while level:
            below = [(id, child) for id in level for child in self.links[id] if child not in self.parent]
            for id, child in below:
                self.parent.setdefault(child, id)
            level = list(dict.fromkeys(child for _, child in below))

    def _place(self, id: str) -> tuple[int, int]:
        return _ORDER.index(self.graph.by_id[id].kind), self.graph.place[id]

    def lines(self, id: str, depth: int) -> Iterator[str]:
        for kind, children in groupby(self.links[id], lambda child: self.graph.by_id[child].kind):
            found = list(children)
            mine = [child for child in found if self.parent[child] == id]
            others = [child for child in found if self.parent[child] != id]
            for child in mine[:MOST]:
                yield from self._told(child, depth)
            if len(mine) > MOST:
                yield f"{'  ' * depth}and {len(mine) - MOST} more {KINDS[kind]}"
            # A principle's line names its amendment, and all verdicts count in the same labels.
            if others and kind != "amendment" and self.graph.by_id[id].kind != "verdicts":
                yield _cut(f"{'  ' * depth}{self._elsewhere(kind, others)}")

    def _told(self, id: str, depth: int) -> Iterator[str]:
        """The line of a node and those under it. What a principle was asked as stands in one line with it."""
        self.told.add(id)
        line, below = "  " * depth + _line(self.graph.by_id[id]), self._below(id)
        node = self.graph.by_id[below[0]] if len(below) == 1 else None
        if node and node.kind == "principle" and self.parent[node.id] == id and not self._below(node.id):
            self.told.add(node.id)
            said = f": {brief(node)}"
            title = _cut(_title(node), WIDTH - len(visible(f'{line} {self.arrow} ""{said}')))
            yield _cut(f'{line} {self.arrow} "{title}"{said}')
            return
        yield _cut(line)
        yield from self.lines(id, depth + 1)

    def _below(self, id: str) -> list[str]:
        """What is under a node, but for what its own line says."""
        return [c for c in self.links[id] if self.graph.by_id[c].kind != "amendment" or self.parent[c] == id]

    def _elsewhere(self, kind: str, ids: Sequence[str]) -> str:
        where = "above" if all(id in self.told for id in ids) else "below"
        name = _name(self.graph.by_id[ids[0]]) if len(ids) == 1 else f"{len(ids)} {KINDS[kind]}"
        return f"{name} ({where})"


def _line(node: Node) -> str:
    return f"{_name(node)}: {brief(node)}" if brief(node) else _name(node)


def brief(node: Node, names: tuple[str, ...] | None = None) -> str:
    """Some of the facts about a node; those that a line has room for where none are named."""
    names = names or _BRIEF.get(node.kind)
    return ", ".join(_fact(name, value) for name, value in node.facts if names is None or name.startswith(names))


def _name(node: Node) -> str:
    """A node by its title, with what it is where the title does not say so."""
    if node.kind == "principle" and node.fact("id"):
        return f'principle {node.fact("id")} "{_title(node)}"'
    return f"model {_title(node)}" if node.kind == "model" else _title(node)


def _title(node: Node) -> str:
    return " ".join(node.title.split())


def _fact(name: str, value: str | float) -> str:
    if isinstance(value, int):
        return f"{value:,} {name.removesuffix('s') if value == 1 else name}"
    if isinstance(value, float):
        return f"{name} {value:g}"
    said = " ".join(value.split())
    return f'{name} "{said}"' if name in _QUOTED else f"{name} {said}"


def _cut(text: str, width: int = WIDTH) -> str:
    shown = visible(text)
    return shown if len(shown) <= width else f"{shown[: max(0, width - 3)]}..."
