"""A lineage as a drawing, from left to right: amendments, the principles they wrote, what a judge answered, what was
trained on that, and what came of it. An SVG without scripts, for a page or a file, or a PNG.

Titles and names in it were written by people: they are drawn as text, cut to their box, with what a screen would
obey or hide made visible. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import html
import io
import unicodedata
import warnings
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from constitution.visible import visible
from service.pictures import plots
from service.pictures.lineage.layout import GUTTER, HEIGHT, Box, Line, Point, arrange
from service.pictures.lineage.text import brief
from service.queries.lineage.graph import KINDS, Graph, Node
from storage.artifacts import write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 40  # boxes; of the kinds with the most, all become one
NARROW, WIDE, PAD = 84.0, 176.0, 7.0  # points: a box, and what is left free inside of it
TITLE, FACTS = 9.0, 7.5  # points: the letters of its two lines
LONG = 100  # letters of which nobody draws more in a box
HEAD = 4.0  # points: the tip of a line
RESOLUTION = 200  # dots an inch, of a PNG
CARD = "#0d0e0f"
# A page has its own colours, dark or light; a file is on paper.
_PAGE = plots.VARIABLES | {CARD: "var(--card)"}
_PAPER = {plots.INK: "#1c1e22", plots.MUTED: "#5c626c", plots.LINE: "#c9cdd3", plots.ACCENT: "#1d5fa7", CARD: "#fff"}
_STYLE = {"svg.fonttype": "none", "font.family": ["DejaVu Sans"], "text.parse_math": False}


def inline(graph: Graph, name: str) -> Markup:
    """The drawing as a part of a page. `name`: unique on it."""
    return plots.inline(name, _svg(graph, name), say(graph), "lineage", _PAGE)


def save(graph: Graph, path: Path) -> None:
    """The drawing as a file that stands by itself: SVG or PNG, as it is named. Raises UserError where it cannot be
    written."""
    if path.suffix.lower() == ".png":
        write_bytes(path, _png(graph))
    else:
        write_text(path, standing_alone(graph))


def standing_alone(graph: Graph) -> str:
    """The drawing as SVG text that stands by itself, on paper."""
    text = _svg(graph, "lineage", CARD)
    for colour, shown in _PAPER.items():
        text = text.replace(colour, shown)
    head, tag, rest = text.partition("<svg ")
    attributes, _, body = rest.partition(">")
    return f'{head}{tag}role="img" {attributes}>\n<title>{html.escape(say(graph))}</title>{body}'


def say(graph: Graph) -> str:
    """What the drawing shows, in words, for those who cannot see it."""
    about = " and ".join(graph.by_id[id].title for id in graph.focus[:3])
    counts = Counter(node.kind for node in graph.nodes if node.id not in graph.focus)
    others = [f"{n} {KINDS[kind] if n > 1 else kind}" for kind in KINDS if (n := counts[kind])]
    return visible(f"Lineage of {_flat(about)}, with {', '.join(others) or 'nothing else'}.")


# --- drawing ----------------------------------------------------------------------------------------------------------


def _svg(graph: Graph, salt: str, ground: str = "none") -> str:
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({**_STYLE, "svg.hashsalt": salt}):
        _figure(graph, {}).savefig(out, format="svg", facecolor=ground, metadata={"Date": None})
    return out.getvalue()


def _png(graph: Graph) -> bytes:
    from matplotlib import rc_context

    out = io.BytesIO()
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # drawn as an empty box
        _figure(graph, _PAPER).savefig(out, format="png", dpi=RESOLUTION, facecolor=_PAPER[CARD])
    return out.getvalue()


def _figure(graph: Graph, colours: Mapping[str, str]) -> Figure:
    """`colours`: those to draw with, in the place of the page's."""
    from matplotlib.figure import Figure

    shown = graph.without("person").at_most(MOST)  # an amendment's box names who made it
    words = {node.id: _words(node) for node in shown.nodes}
    widths = {id: min(WIDE, max(NARROW, 2 * PAD + max(_width(*line) for line in lines))) for id, lines in words.items()}
    layout = arrange(shown, widths)
    figure = Figure(figsize=(layout.width / 72, layout.height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, layout.width)
    axes.set_ylim(layout.height, 0)
    ink = {name: colours.get(name, name) for name in _PAPER}
    for line in layout.lines:
        _draw_line(axes, line, ink)
    for id, box in layout.boxes.items():
        _draw_box(axes, box, words[id], ink, id in graph.focus)
    return figure


# The facts in a box, where they are not those of a line of text.
_SAID: Mapping[str, tuple[str, ...]] = {
    "amendment": ("by", "on"),
    "principle": ("id", "weight"),
    "constitution": ("principles",),
    "labels": ("decided", "tied"),
    "checkpoint": ("run",),
    "evaluation": ("prompts",),
    "decision": ("held", "failed"),
    "promotion": ("by", "on"),
    "run": ("flow", "status"),
}


def _words(node: Node) -> tuple[tuple[str, float], tuple[str, float]]:
    """The two lines of a box, each with the size of its letters. The second says what the first does not."""
    title, facts = _flat(node.title), _flat(brief(node, _SAID.get(node.kind)))
    win = node.fact("win rate")
    if node.kind == "evaluation" and isinstance(win, str):
        title = f"win rate {win.partition(' ')[0]}"
    if node.kind == "verdicts" and " on " in title:
        title, _, about = title.partition(" on ")
        facts = f"on {about}" + (f": {facts}" if facts else "")
    elif node.kind == "checkpoint" and node.fact("now"):
        facts = f"now {node.fact('now')}, {facts}"
    elif node.kind in ("evaluation", "model"):
        facts = ", ".join(filter(None, (node.kind, facts)))
    return (title[:LONG], TITLE), (facts[:LONG], FACTS)


def _draw_box(axes: Axes, box: Box, words: tuple[tuple[str, float], ...], ink: Mapping[str, str], focus: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    edge, width = (ink[plots.ACCENT], 1.8) if focus else (ink[plots.LINE], 1.0)
    style = "round,pad=0,rounding_size=4"
    corner = (box.x, box.y)
    axes.add_patch(
        FancyBboxPatch(corner, box.width, HEIGHT, style, facecolor=ink[CARD], edgecolor=edge, linewidth=width, zorder=3)
    )
    heights = (13.5, 25.0) if words[1][0] else (20.0,)
    for (text, size), height, colour in zip(words, heights, (plots.INK, plots.MUTED), strict=False):
        cut = _cut(text, size, box.width - 2 * PAD)
        axes.text(box.x + PAD, box.y + height, cut, fontsize=size, color=ink[colour], va="baseline", zorder=4)


def _draw_line(axes: Axes, line: Line, ink: Mapping[str, str]) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path as Drawn

    codes, points = _way(line)
    colour, (x, y) = ink[plots.MUTED], line.points[-1]
    dashes = (0, (3, 2)) if line.way == "back" else "solid"
    path = Drawn(points, [Drawn.MOVETO, *({"line": Drawn.LINETO, "curve": Drawn.CURVE4}[c] for c in codes)])
    axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=0.8, alpha=0.6, linestyle=dashes, zorder=1))
    tail = x + HEAD * (1 if line.way == "beside" else -1)
    tip = [(x, y), (tail, y - HEAD / 2), (tail, y + HEAD / 2)]
    axes.add_patch(Polygon(tip, closed=True, facecolor=colour, edgecolor="none", alpha=0.8, zorder=2))


def _way(line: Line) -> tuple[list[str], list[Point]]:
    """The points of a line, and how each after the first is reached."""
    points, codes = [line.points[0]], list[str]()

    def curve(to: Point, one: Point, other: Point) -> None:
        points.extend((one, other, to))
        codes.extend(["curve"] * 3)

    if line.way == "beside":
        (x, y), (at, below) = line.points
        out = max(x, at) + GUTTER * 0.7
        curve((at, below), (out, y), (out, below))
    elif line.way == "back":
        (x, y), (_, low), (_, _), (at, end) = line.points
        turn = GUTTER / 2
        curve((x + turn, (y + low) / 2), (x + turn, y), (x + turn, y))
        curve((x, low), (x + turn, low), (x + turn, low))
        points.append((at, low))
        codes.append("line")
        curve((at - turn, (end + low) / 2), (at - turn, low), (at - turn, low))
        curve((at, end), (at - turn, end), (at - turn, end))
    else:
        for number, (x, y) in enumerate(line.points[1:]):
            before = points[-1]
            middle = (before[0] + x) / 2
            if number % 2 == 0:  # from column to column
                curve((x, y), (middle, before[1]), (middle, y))
            else:  # through one
                points.append((x, y))
                codes.append("line")
    return codes, points


# --- letters ----------------------------------------------------------------------------------------------------------


def _flat(text: str) -> str:
    return " ".join(visible(text).split())


@cache
def _width(text: str, size: float) -> float:
    """Points that a text takes. A letter of a wide script counts as the widest that the font has."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    plain = "".join("W" if unicodedata.east_asian_width(c) in "WF" else c for c in text)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        width: float = text_to_path.get_text_width_height_descent(plain, FontProperties(size=size), ismath=False)[0]
    return width


def _cut(text: str, size: float, room: float) -> str:
    """As much of a text as there is room for."""
    if _width(text, size) <= room:
        return text
    kept = bisect_right(range(len(text)), room, key=lambda n: _width(f"{text[:n].rstrip()}…", size)) - 1
    return f"{text[: max(0, kept)].rstrip()}…"
