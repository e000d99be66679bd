"""Two constitutions as a drawing: labels under one against labels under the other, and by principle the labels that
differ; or, where models were trained on each, what each model does by principle. A file on paper: SVG or PNG.

The names of files and principles are drawn as text, with what a screen would obey or hide made visible. matplotlib is
imported when something is drawn.
"""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitution.visible import visible
from pipeline.metrics.attribution import OUTCOMES
from pipeline.metrics.disagreement import Carried
from pipeline.metrics.effects import ALLOWED
from pipeline.metrics.words import percent
from service.queries.constitution_compare import Compared
from storage.artifacts import write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER, DIFFERS = "#1c1e22", "#5c626c", "#c9cdd3", "#fff", "#7d4fa3"
SIDES = {"a": "#1d5fa7", "b": "#c2571a"}  # told apart by people who do not see red and green alike
RESOLUTION = 200  # dots an inch, of a PNG
ROW = 0.27  # inches
MOST = 30  # principles that are drawn
LONGEST = 44  # characters of a name
_STYLE = {
    "svg.fonttype": "none", "font.size": 9, "font.family": ["DejaVu Sans"], "text.parse_math": False,
    "text.color": INK, "axes.edgecolor": LINE, "axes.labelcolor": MUTED, "axes.titlesize": 9.5, "axes.titlecolor": INK,
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": MUTED, "ytick.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "grid.color": LINE,
    "grid.linewidth": 0.6, "svg.hashsalt": "comparing",
}  # fmt: skip


def save(compared: Compared, path: Path, trained: Mapping[str, Any] | None = None) -> None:
    """The drawing as a file. `trained`: `comparing.trained`. Raises UserError where it cannot be written."""
    from matplotlib import rc_context

    out = io.BytesIO()
    with rc_context(_STYLE):
        figure = _effects(compared, trained) if trained else _labels(compared)
        if path.suffix.lower() == ".png":
            figure.savefig(out, format="png", dpi=RESOLUTION, facecolor=PAPER)
            write_bytes(path, out.getvalue())
            return
        figure.savefig(out, format="svg", facecolor=PAPER, metadata={"Date": None})
    head, tag, rest = out.getvalue().decode().partition("<svg ")
    attributes, _, body = rest.partition(">")
    words = html.escape(say(compared, trained))
    write_text(path, f'{head}{tag}role="img" {attributes}>\n<title>{words}</title>{body}')


def say(compared: Compared, trained: Mapping[str, Any] | None = None) -> str:
    """What the drawing shows, in words, for those who cannot see it."""
    both = f"{_name(compared.a.name)} (A) against {_name(compared.b.name)} (B)"
    if trained:
        rates = " and ".join(f"{_rate(trained[side]['win_rate'])} on {side.upper()}" for side in SIDES)
        return f"{both}: models trained on each, with win rates of {rates}, and their effects by principle."
    opened = f", {compared.open:,} are open" if compared.open else ""
    differ = f"{compared.disagreements:,} of {compared.sure + compared.open:,} labels differ{opened}"
    return f"{both}: {differ}.\nAgreement: {compared.agreement_in_words()}."


# --- labels --------------------------------------------------------------------------------------------------------


def _labels(compared: Compared) -> Figure:
    from matplotlib.figure import Figure

    rows = [c for c in compared.principles if c.clause.standing != "same" or c.for_a or c.for_b][:MOST]
    figure = Figure(figsize=(9.2, 1.7 + max(7, len(rows)) * ROW), layout="constrained")
    figure.suptitle(say(compared), fontsize=10, x=0.01, ha="left")
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    _draw_table(left, compared)
    _draw_principles(right, rows)
    return figure


def _draw_table(axes: Axes, compared: Compared) -> None:
    """How many labels have each outcome under A (rows) and B (columns); what differs is coloured."""
    from matplotlib.patches import Rectangle

    table = compared.table
    shown = [o for o in OUTCOMES if any(table[o, x] or table[x, o] for x in OUTCOMES)] or list(OUTCOMES[:3])
    most = max(1, *table.values())
    for y, a in enumerate(shown):
        for x, b in enumerate(shown):
            count = table[a, b]
            colour = MUTED if a == b else DIFFERS
            shade = 0.12 + 0.5 * count / most if count else 0.0
            axes.add_patch(Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, color=colour, alpha=shade, linewidth=0))
            axes.text(x, y, f"{count:,}", ha="center", va="center", color=INK if count else MUTED)
    axes.set_xlim(-0.5, len(shown) - 0.5)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xticks(range(len(shown)), shown)
    axes.set_yticks(range(len(shown)), shown)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("label under B")
    axes.set_ylabel("label under A")
    axes.tick_params(length=0, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_principles(axes: Axes, rows: Sequence[Carried]) -> None:
    """To the left the labels that differ on which a principle speaks for A's label, to the right for B's."""
    axes.set_title("labels that differ, and for which side each principle speaks", loc="left")
    if not any(c.for_a or c.for_b for c in rows):
        axes.text(0.5, 0.5, "no label that can be read differs", ha="center", va="center", color=MUTED)
        axes.set_axis_off()
        return
    widest = max(max(c.for_a, c.for_b) for c in rows)
    for y, c in enumerate(rows):
        for count, sign, side in ((c.for_a, -1, "a"), (c.for_b, 1, "b")):
            axes.barh(y, sign * count, height=0.66, color=SIDES[side], linewidth=0)
            if count:
                axes.annotate(
                    f"{count:,}", (sign * count, y), (4 * sign, 0), textcoords="offset points",
                    ha="left" if sign > 0 else "right", va="center", color=INK, fontsize=8,
                )  # fmt: skip
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_xlim(-1.2 * widest, 1.2 * widest)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [f"{_name(c.clause.principle)}  {_weights(c)}" for c in rows])
    axes.set_xticks([])
    axes.set_xlabel("for A's label  |  for B's label")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)


def _weights(carried: Carried) -> str:
    """Its weight, or both, and what else there is to say of it."""
    clause = carried.clause
    old, new = clause.counted
    weight = old or new if old == new or not (old and new) else f"{old} → {new}"
    return f"({weight}{'' if clause.standing in ('same', 'reweighted') else f', {clause.standing}'})"


# --- trained models ------------------------------------------------------------------------------------------------


def _effects(compared: Compared, trained: Mapping[str, Any]) -> Figure:
    """What the model trained on each prefers to the base's by each principle, with 95% intervals."""
    from matplotlib.figure import Figure

    effects = dict(list(trained["effects"].items())[:MOST])
    figure = Figure(figsize=(7.6, 1.7 + len(effects) * 1.35 * ROW), layout="constrained")
    axes = figure.add_subplot()
    axes.axvspan(-100 * ALLOWED, 100 * ALLOWED, color=LINE, alpha=0.35, linewidth=0)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    for side, shift in (("a", -0.17), ("b", 0.17)):
        seen = [(y + shift, found[side]) for y, found in enumerate(effects.values()) if found[side]["mean"] is not None]
        x = [100 * e["mean"] for _, e in seen]
        spread = [[100 * (e["mean"] - e["low"]) for _, e in seen], [100 * (e["high"] - e["mean"]) for _, e in seen]]
        name = _name(getattr(compared, side).name)
        axes.errorbar(
            x, [y for y, _ in seen], xerr=spread, fmt="o" if side == "a" else "s", markersize=4.5, color=SIDES[side],
            linewidth=1.5, label=f"{side.upper()}: {name}, win rate {_rate(trained[side]['win_rate'])}",
        )  # fmt: skip
    axes.set_ylim(len(effects) - 0.4, -0.6)
    axes.set_yticks(range(len(effects)), [_name(name) for name in effects])
    axes.set_xlabel(
        f"points towards the principle, from the model of run {trained['base']['run'][:12]} (95% interval)\n"
        f"grey: within {100 * ALLOWED:g} points of 0, which is the loss allowed"
    )
    axes.xaxis.grid(True)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    title = "What models trained on A and on B do, on held-out prompts"
    figure.legend(title=title, loc="outside upper left", alignment="left", frameon=False, fontsize=9)
    return figure


def _rate(win: Mapping[str, float | None]) -> str:
    return (
        "not known"
        if win["mean"] is None
        else f"{percent(win['mean'])} ({percent(win['low'])} to {percent(win['high'])})"
    )


def _name(text: str) -> str:
    shown = visible(" ".join(text.split()))
    return shown if len(shown) <= LONGEST else f"…{shown[1 - LONGEST :]}"
