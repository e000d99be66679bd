"""Where the boxes and lines of a lineage are drawn: columns by kind from left to right, as values become a model.

Within a column boxes are ordered so that few lines cross (sweeps of barycentres), and lie as close to what they are
linked with as their neighbours allow. A line that passes a column has a place of its own in it, so that it runs between
boxes and never behind one (Sugiyama, Tagawa and Toda, 1981). Arithmetic alone; units are points, y grows downwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from service.queries.lineage.graph import Graph

COLUMN = {
    "person": 0, "amendment": 1, "model": 1, "prompt": 1, "principle": 2, "answer": 2, "constitution": 3,
    "verdicts": 3, "comparison": 3, "run": 4, "labels": 5, "data set": 6, "checkpoint": 7, "evaluation": 8,
    "decision": 8, "promotion": 8,
}  # fmt: skip
TEXTS = 5  # columns before this one have values above and texts below
BAND = {"constitution": -1, "model": 1, "prompt": 1, "answer": 1, "comparison": 1}  # of a column's height
HEIGHT, GAP, LANE = 33.0, 9.0, 8.0  # of a box; between two; what a passing line takes
GUTTER, MARGIN = 38.0, 8.0  # between columns; around all
SWEEPS = 30

Point: TypeAlias = tuple[float, float]
Way: TypeAlias = Literal["on", "beside", "back"]  # to a column on the right; within one; to the left, below all


@dataclass(frozen=True, slots=True)
class Box:
    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        return self.y + HEIGHT / 2


@dataclass(frozen=True, slots=True)
class Line:
    """`points` are where it leaves, passes and enters columns."""

    source: str
    target: str
    way: Way
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    width: float
    height: float
    boxes: Mapping[str, Box]
    lines: Sequence[Line]


@dataclass
class _Place:
    """A box, or a line passing a column. `left`, `right`: what it is linked with in other columns; `above`: in its own,
    what comes before it."""

    name: str
    column: int
    room: float
    band: int
    left: list[_Place] = field(default_factory=list)
    right: list[_Place] = field(default_factory=list)
    above: list[_Place] = field(default_factory=list)
    y: float = 0.0  # of its middle


def arrange(graph: Graph, widths: Mapping[str, float]) -> Layout:
    """`widths`: of each node's box; those of a column are drawn as wide as the widest."""
    used = sorted({COLUMN[node.kind] for node in graph.nodes})
    places = {n.id: _Place(n.id, used.index(COLUMN[n.kind]), HEIGHT + GAP, BAND.get(n.kind, 0)) for n in graph.nodes}
    columns: list[list[_Place]] = [[] for _ in used]
    for place in places.values():
        columns[place.column].append(place)
    chains: dict[tuple[str, str], list[_Place]] = {}
    for edge in graph.edges:
        source, target = places[edge.source], places[edge.target]
        if source.column == target.column:
            target.above.append(source)
        elif source.column < target.column:
            between = range(source.column + 1, target.column)
            chain = [_Place("", c, LANE, source.band if used[c] < TEXTS else 0) for c in between]
            for place in chain:
                columns[place.column].append(place)
            for one, other in zip([source, *chain], [*chain, target], strict=True):
                one.right.append(other)
                other.left.append(one)
            chains[edge.source, edge.target] = chain
    for column in columns:
        _stack(column)
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 == 0 else columns[::-1]:
            _order(column, sweep % 2 == 0)
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 == 0 else columns[::-1]:
            _settle(column)
    return _drawn(graph, columns, places, chains, widths)


def _stack(column: Sequence[_Place]) -> None:
    y = 0.0
    for place in column:
        place.y = y + place.room / 2
        y += place.room


def _order(column: list[_Place], rightwards: bool) -> None:
    """Sort a column by the mean height of what each place is linked with in the columns just gone through; what follows
    something in its own column comes below it."""
    wanted: dict[int, float] = {}

    def height(place: _Place) -> float:
        if id(place) not in wanted:
            near = (place.left if rightwards else place.right) or place.right or place.left
            wanted[id(place)] = place.y  # where a circle ends
            below = [height(before) + 0.01 for before in place.above]
            means = [sum(other.y for other in near) / len(near)] if near else []
            wanted[id(place)] = max(means + below, default=place.y)
        return wanted[id(place)]

    column.sort(key=lambda place: (place.band, height(place)))
    _stack(column)


def _settle(column: Sequence[_Place]) -> None:
    """Move the places of a column to the mean of all they are linked with, in their order and without overlap: the
    least squares under these bounds, by pooling neighbours that want to pass each other."""
    offset, pools = 0.0, list[tuple[float, int]]()  # (mean of wanted height less offset, places)
    offsets = []
    for number, place in enumerate(column):
        if number:
            offset += (column[number - 1].room + place.room) / 2
        offsets.append(offset)
        pools.append((_wanted(place) - offset, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n), (b, m) = pools[-2:]
            pools[-2:] = [((a * n + b * m) / (n + m), n + m)]
    heights = [mean for mean, size in pools for _ in range(size)]
    for place, at, base in zip(column, heights, offsets, strict=True):
        place.y = at + base


def _wanted(place: _Place) -> float:
    """The height that would make its lines straight; of what has few links first of all."""
    near = [*place.left, *place.right]
    if near:
        pulls = [1 / (len(other.left) + len(other.right)) for other in near]
        return sum(pull * other.y for pull, other in zip(pulls, near, strict=True)) / sum(pulls)
    return max(before.y for before in place.above) + place.room if place.above else place.y


def _drawn(
    graph: Graph,
    columns: Sequence[Sequence[_Place]],
    places: Mapping[str, _Place],
    chains: Mapping[tuple[str, str], Sequence[_Place]],
    widths: Mapping[str, float],
) -> Layout:
    wide = [max(widths[place.name] for place in column if place.name) for column in columns]
    lefts = [MARGIN + sum(wide[:number]) + GUTTER * number for number in range(len(columns))]
    top = min(place.y - place.room / 2 for column in columns for place in column) - MARGIN
    bottom = max(place.y + place.room / 2 for column in columns for place in column) - top
    boxes = {id: Box(lefts[p.column], p.y - top - HEIGHT / 2, wide[p.column]) for id, p in places.items()}
    lines, backs = [], 0
    for edge in graph.edges:
        one, other = boxes[edge.source], boxes[edge.target]
        start, end = places[edge.source].column, places[edge.target].column
        leaves, enters = (one.x + one.width, one.middle), (other.x, other.middle)
        if start == end:
            off = HEIGHT / 4 if one.y < other.y else -HEIGHT / 4  # apart from the lines that go on
            beside = ((leaves[0], one.middle + off), (other.x + other.width, other.middle - off))
            lines.append(Line(edge.source, edge.target, "beside", beside))
        elif start < end:
            passed = chains[edge.source, edge.target]
            through = [(x, p.y - top) for p in passed for x in (lefts[p.column], lefts[p.column] + wide[p.column])]
            lines.append(Line(edge.source, edge.target, "on", (leaves, *through, enters)))
        else:
            low = bottom + LANE * backs + MARGIN / 2
            backs += 1
            lines.append(Line(edge.source, edge.target, "back", (leaves, (leaves[0], low), (enters[0], low), enters)))
    round = any(line.way == "beside" and places[line.source].column == len(columns) - 1 for line in lines)
    width = lefts[-1] + wide[-1] + (GUTTER if round else MARGIN)
    return Layout(width, bottom + LANE * backs + MARGIN, boxes, lines)
