"""The layout of a lineage beside networkx's: how many lines cross, and how many run through a box that is not theirs.

    python -m benchmarks.lineage_layout STORE_URL [--home HOME]

Lays out the lineage of the promoted model by `service.pictures.lineage.layout` and by `networkx.multipartite_layout`,
in the same columns, boxes of one size. networkx comes with torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from pathlib import Path

import networkx

from service.pictures.lineage import layout, picture
from service.queries import lineage
from storage.store import Store

WIDTH = 150.0  # of every box
Point = tuple[float, float]
Lines = Mapping[tuple[str, str], Sequence[Point]]


def crosses(a: Point, b: Point, c: Point, d: Point) -> bool:
    def side(p: Point, q: Point, r: Point) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < -1e-9 and side(c, d, a) * side(c, d, b) < -1e-9


def runs_through(points: Sequence[Point], left: float, top: float) -> bool:
    for (x0, y0), (x1, y1) in pairwise(points):
        for step in range(1, 200):
            x, y = x0 + (x1 - x0) * step / 200, y0 + (y1 - y0) * step / 200
            if left + 1 < x < left + WIDTH - 1 and top + 1 < y < top + layout.HEIGHT - 1:
                return True
    return False


def told(name: str, lines: Lines, boxes: Mapping[str, Point]) -> None:
    pieces = [(ends, *piece) for ends, points in lines.items() for piece in pairwise(points)]
    crossings = sum(one != other and crosses(a, b, c, d) for (one, a, b), (other, c, d) in combinations(pieces, 2))
    hidden = sum(any(runs_through(p, *box) for n, box in boxes.items() if n not in ends) for ends, p in lines.items())
    print(f"{name}: {len(boxes)} boxes, {len(lines)} lines, {crossings} crossings, {hidden} lines through a box")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--home", type=Path)
    arguments = parser.parse_args()
    with Store.open(arguments.store, create=False, home=arguments.home) as store:
        graph = lineage.trace(store, "promoted").without("person").at_most(picture.MOST)
    ours = layout.arrange(graph, {node.id: WIDTH for node in graph.nodes})
    lines = {(line.source, line.target): line.points for line in ours.lines if line.way == "on"}
    told("ours", lines, {name: (box.x, box.y) for name, box in ours.boxes.items()})

    drawn = networkx.DiGraph()
    for node in graph.nodes:
        drawn.add_node(node.id, layer=layout.COLUMN[node.kind])
    drawn.add_edges_from(lines)
    at = networkx.multipartite_layout(drawn, subset_key="layer")
    columns: dict[float, list[float]] = {}
    for x, y in at.values():
        columns.setdefault(round(float(x), 6), []).append(float(y))
    wide = (WIDTH + layout.GUTTER) / min(b - a for a, b in pairwise(sorted(columns)))
    high = (layout.HEIGHT + layout.GAP) / min(b - a for ys in columns.values() for a, b in pairwise(sorted(ys)))
    placed = {name: (float(x) * wide, float(y) * high) for name, (x, y) in at.items()}
    straight = {(a, b): [(placed[a][0] + WIDTH, placed[a][1]), placed[b]] for a, b in lines}
    told("networkx", straight, {name: (x, y - layout.HEIGHT / 2) for name, (x, y) in placed.items()})


if __name__ == "__main__":
    main()
