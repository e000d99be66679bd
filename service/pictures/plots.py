"""Training curves and reliability plots as SVG that lives inside an HTML page.

Colours are the page's own CSS variables, so that a plot follows the reader's dark or light setting; text stays text.
Nothing that a model or a person wrote is drawn: titles and captions belong to the page. matplotlib is imported when the
first plot is asked for, without pyplot: there is no window and no global state.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What matplotlib draws with, and the variable of the page that takes its place.
INK, MUTED, LINE, ACCENT = "#010203", "#040506", "#070809", "#0a0b0c"
VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)", ACCENT: "var(--accent)"}
_STYLE = {
    "svg.fonttype": "none", "font.size": 10, "axes.edgecolor": LINE, "axes.labelcolor": MUTED, "text.color": INK,
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": LINE, "grid.linewidth": 0.6, "path.simplify": True,
}  # fmt: skip


def curve(name: str, steps: Sequence[int], values: Sequence[float | None], what: str, say: str, share: bool) -> Markup:
    """A training curve: each step thin, and over it the running mean of a tenth of the steps.

    `name`: unique on the page. `what`: the axis, from 0 to 1 where it is a `share`. `say`: the same in words, for
    those who cannot see it. None is a gap.
    """
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    y = np.array([np.nan if v is None else v for v in values], dtype=float)
    width = max(1, len(y) // 10)
    seen = np.convolve(~np.isnan(y), np.ones(width), "same")
    mean = np.convolve(np.nan_to_num(y), np.ones(width), "same") / np.where(seen == 0, np.nan, seen)

    def draw(axes: Axes) -> None:
        if share:
            axes.set_ylim(0, 1.02)
        axes.plot(steps, y, color=ACCENT, alpha=0.3, linewidth=0.9, marker="." if len(y) < 3 else None)
        axes.plot(steps, mean, color=ACCENT, linewidth=2)
        axes.set_xlabel("optimiser step")
        axes.set_ylabel(what)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))

    return _svg(name, (3.7, 2.5), draw, say)


def reliability(name: str, bins: Sequence[Sequence[float]], say: str) -> Markup:
    """A reliability plot of (mean confidence, mean agreement, pairs) bins: on the diagonal, confidence is honest.

    The area of a point is its share of the pairs, and beside it stands how many they are.
    """
    total = sum(n for _, _, n in bins)

    def draw(axes: Axes) -> None:
        axes.plot([0.5, 1], [0.5, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        x, y = [c for c, _, _ in bins], [a for _, a, _ in bins]
        axes.plot(x, y, color=ACCENT, linewidth=1.2)
        axes.scatter(x, y, s=[20 + 300 * n / total for _, _, n in bins], color=ACCENT, alpha=0.75, linewidth=0)
        for confidence, agreement, n in bins:
            above = confidence <= agreement < 0.95  # away from the diagonal, where there is room
            axes.annotate(
                f"{n:.0f}", (confidence, agreement), (0, 9 if above else -9), textcoords="offset points",
                ha="center", va="bottom" if above else "top", fontsize=8, color=MUTED,
            )  # fmt: skip
        axes.set_xlim(0.48, 1.02)
        axes.set_ylim(min(0.48, *y) - 0.06, 1.06)
        axes.set_xlabel("confidence of the reward model")
        axes.set_ylabel("labels that agree (number of pairs)")
        axes.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])

    return _svg(name, (3.7, 2.9), draw, say)


def _svg(name: str, inches: tuple[float, float], draw: Any, say: str) -> Markup:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    out = io.StringIO()
    with rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=inches, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.tick_params(length=0)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return inline(name, out.getvalue(), say)


def inline(name: str, text: str, say: str, look: str = "plot", colours: Mapping[str, str] = VARIABLES) -> Markup:
    """A file's SVG as a part of a page: no prologue, metadata or namespaces; ids of its own and the page's colours.

    `look`: its class. `colours`: what takes the place of those it was drawn with."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)  # a style here would style the page
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None, "matplotlib writes a viewBox"
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'href="#|url\(#', lambda found: f"{found[0]}{name}-", body)
    body = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", body)
    for colour, variable in colours.items():
        body = body.replace(colour, variable)
    title = Markup("<title>{}</title>").format(say)
    return Markup(f'<svg role="img" class="{look}" {box[0]}>') + title + Markup(body)
