"""Online training as SVG text: one run's evaluation steps, the frontier of many runs, and runs that hack their reward.

Against the square root of the KL a reward is nearly a straight line while a policy goes where it is sent (arXiv
2204.05862, section 4.3), so that the bends of judge and truth show. Truth is drawn dashed: nothing that trained,
measured or stopped it has seen it. Colours are those of Okabe and Ito, which people who do not see red and green alike
tell apart; every method also has a mark of its own. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import html
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias

from constitution.visible import visible
from pipeline.models import checkpoint
from pipeline.trainers import progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Evaluation = Mapping[str, Any]  # an evaluation step of online training: a line of watch.jsonl

INK, MUTED, LINE, PAPER = "#1c1e22", "#5c626c", "#c9cdd3", "#fff"
PROXY, JUDGE, TRUTH, STOPPED = "#0072B2", "#D55E00", "#000000", "#882255"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A6D3B", "#7F7F7F")
MARKS = "osD^vPX*h"
DASHED = (0, (4, 2))
FIRED, KEPT = "a stop rule fired", "kept"
WIDTH = 9.4  # inches: 900 pixels
SHARES = {
    "refusals": "o", "lists": "s", "hedges": "D", "flattery": "^", "boilerplate": "v", "truncated": "X",
}  # fmt: skip
_STYLE = {
    "svg.fonttype": "none", "font.size": 9, "font.family": ["DejaVu Sans"], "text.parse_math": False,
    "text.color": INK, "axes.edgecolor": LINE, "axes.labelcolor": MUTED, "axes.titlesize": 9.5, "axes.titlecolor": INK,
    "axes.titlelocation": "left", "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.grid": True, "grid.color": LINE, "grid.linewidth": 0.5, "lines.linewidth": 1.6, "lines.markersize": 4,
    "legend.frameon": False, "legend.fontsize": 8.5, "svg.hashsalt": "watching",
}  # fmt: skip


# --- one run -----------------------------------------------------------------------------------------------------


def curves(run: Path | Sequence[Evaluation], truth: Sequence[float | None] | None = None) -> str:
    """The evaluation steps of one run: a checkpoint's folder, or the lines of its watch.jsonl. `truth`: the share
    of good answers at each, where it is known (else the steps' own `gold_good`, if they have one)."""
    evaluations = progress.read(run / "watch.jsonl") if isinstance(run, Path) else list(run)
    if not evaluations:
        raise ValueError("there is no evaluation step to draw")
    manifest = checkpoint.read(run) if isinstance(run, Path) else None
    stopped, kept = ends(evaluations, manifest.metrics if manifest else {})
    good = [evaluation.get("gold_good") for evaluation in evaluations] if truth is None else list(truth)

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(3, 4, height_ratios=(1.15, 1.15, 1))
        for column, (of, label) in enumerate(((_step, "update"), (_root, "square root of the KL, in nats a sequence"))):
            place = slice(2 * column, 2 * column + 2)
            above, below = figure.add_subplot(grid[0, place]), figure.add_subplot(grid[1, place])
            _band(above, evaluations, of, "proxy", PROXY, "o", "proxy (what it trains on)")
            _band(below, evaluations, of, "judge", JUDGE, "s", "independent judge (± standard error)")
            if any(value is not None for value in good):
                known = [
                    (of(evaluation), value)
                    for evaluation, value in zip(evaluations, good, strict=True)
                    if value is not None
                ]
                below.plot(*zip(*known, strict=True), color=TRUTH, linestyle=DASHED, label="truth (not seen)")
            for axes, name in ((above, "proxy"), (below, "judge")):
                _mark(axes, evaluations, of, name, stopped, kept)
                axes.set_xlabel(label if axes is below else "")
            if column == 0:
                above.set_ylabel("reward")
                below.set_ylabel("score, share of good")
                handles = [item for axes in (below, above) for item in axes.get_legend_handles_labels()[0]]
                by_label = {str(item.get_label()): item for item in handles}
        order = sorted(by_label, key=lambda label: (label in (FIRED, KEPT), label))
        figure.legend([by_label[label] for label in order], order, loc="outside upper left", ncols=5, columnspacing=1.4)
        for column, (name, what) in enumerate((("kl", "KL, nats a sequence"), ("entropy", "entropy, nats a token"),
                                               ("tokens", "tokens an answer"))):  # fmt: skip
            axes = figure.add_subplot(grid[2, column])
            axes.plot(list(map(_step, evaluations)), _values(evaluations, name), color=INK, linewidth=1.3)
            _small(axes, what, stopped)
        axes = figure.add_subplot(grid[2, 3])
        for (name, mark), colour in zip(SHARES.items(), COLOURS, strict=False):
            y = _values(evaluations, name)
            if any(value > 0 for value in y if not math.isnan(value)):
                axes.plot(
                    list(map(_step, evaluations)), y, color=colour, marker=mark, markersize=3, linewidth=1.1, label=name
                )
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7, handlelength=1.2, labelspacing=0.2)
        axes.set_ylim(-0.03, 1.03)
        _small(axes, "share of answers", stopped)

    return _svg((WIDTH, 7.4), draw, say(evaluations, good, stopped, kept))


def say(evaluations: Sequence[Evaluation], truth: Sequence[float | None], stopped: int | None, kept: int) -> str:
    """The drawing of a run in words, for those who cannot see it."""
    first, last = evaluations[0], evaluations[-1]
    words = [
        f"From update {first['step']} to {last['step']}: proxy {_number(first['proxy'])} to {_number(last['proxy'])}, "
        f"judge {_number(first['judge'])} to {_number(last['judge'])}, KL to {_number(last['kl'])} nats."
    ]
    if truth[0] is not None and truth[-1] is not None:
        words.append(f"Truth, not seen: {truth[0]:.3g} to {truth[-1]:.3g}.")
    rule = next((evaluation["stopped"] for evaluation in evaluations if evaluation.get("stopped")), "")
    if stopped is not None:
        words.append(f"Stopped at update {stopped}{f' ({rule})' if rule else ''}; update {kept} is kept.")
    return " ".join(words)


def ends(evaluations: Sequence[Evaluation], metrics: Mapping[str, Any]) -> tuple[int | None, int]:
    """The update at which a rule fired, None where none did, and the one that is kept."""
    if metrics.get("watch_stopped"):
        return metrics["watch_stopped_step"], metrics["watch_kept_step"]
    fired = next((evaluation for evaluation in evaluations if evaluation.get("stopped")), None)
    if fired is None:
        return None, evaluations[-1]["step"]
    kept = fired.get("kept")
    return fired["step"], evaluations[0]["step"] if kept is None else kept


def _band(
    axes: Axes,
    evaluations: Sequence[Evaluation],
    of: Callable[[Evaluation], float],
    name: str,
    colour: str,
    mark: str,
    label: str,
) -> None:
    """A curve through the evaluation steps in time, with its standard error: a band, or bars where the KL goes back."""
    x, y, error = list(map(of, evaluations)), _values(evaluations, name), _values(evaluations, f"{name}_se")
    low, high = ([mean + sign * e for mean, e in zip(y, error, strict=True)] for sign in (-1, 1))
    if all(a <= b for a, b in pairwise(x)):
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    else:
        axes.vlines(x, low, high, color=colour, alpha=0.5, linewidth=1.2)
    axes.plot(x, y, color=colour, marker=mark, markersize=3.5, label=label)


def _mark(
    axes: Axes,
    evaluations: Sequence[Evaluation],
    of: Callable[[Evaluation], float],
    name: str,
    stopped: int | None,
    kept: int,
) -> None:
    """A line where a rule fired, and a ring around what is kept."""
    for evaluation in evaluations:
        if evaluation["step"] == stopped:
            axes.axvline(of(evaluation), color=STOPPED, linewidth=1.6, linestyle=(0, (1, 1)), label=FIRED)
        if evaluation["step"] == kept and evaluation[name] is not None:
            axes.plot(
                [of(evaluation)], [evaluation[name]], linestyle="", marker="o", markersize=11, markerfacecolor="none",
                markeredgecolor=INK, markeredgewidth=1.4, label=KEPT,
            )  # fmt: skip


def _small(axes: Axes, title: str, stopped: int | None) -> None:
    axes.set_title(title, fontsize=8.5)
    axes.set_xlabel("update")
    axes.tick_params(length=0, labelsize=8)
    if stopped is not None:
        axes.axvline(stopped, color=STOPPED, linewidth=1.4, linestyle=(0, (1, 1)))


# --- many runs ---------------------------------------------------------------------------------------------------


def frontier(points: Sequence[Mapping[str, Any]]) -> str:
    """Reward, independent judge and truth (where it is known) of trained models against the root of their KL.

    A point: `method`, `leash` (the stored key of the KL coefficient, None where it has none), `seed`, `kl` [nats a
    sequence], `reward`, `judge`, `judge_low`, `judge_high`, `truth`; what is not known is None or left out. The seeds
    of one coefficient are faint, their mean is drawn.
    """
    panels = [
        ("reward", "reward"),
        ("judge", "judge: win rate over the start"),
        ("truth", "truth: share of good (not seen)"),
    ]
    shown = [panel for panel in panels if any(point.get(panel[0]) is not None for point in points)]
    if not shown:
        raise ValueError("there is no point to draw")
    methods = list(dict.fromkeys(str(point["method"]) for point in points))

    def draw(figure: Figure) -> None:
        row = figure.subplots(1, len(shown), squeeze=False)[0]
        labels: list[tuple[Axes, list[Label]]] = []
        for axes, (name, what) in zip(row, shown, strict=True):
            labels.append((axes, []))
            for place, method in enumerate(methods):
                mine = [p for p in points if str(p["method"]) == method and p.get(name) is not None]
                labels[-1][1].extend(_points(axes, mine, name, place))
            axes.set_title(what)
            axes.set_xlabel(
                "square root of the KL (nats)\nnumbers: KL coefficient" if axes is row[0] else "square root of the KL"
            )
            axes.tick_params(length=0)
            axes.margins(x=0.1, y=0.08)
        figure.legend(*_legend(methods), loc="outside upper left", ncols=min(9, len(methods)), handletextpad=0.3)
        _label(figure, labels)

    words = "; ".join(_in_words([p for p in points if str(p["method"]) == method], method) for method in methods)
    return _svg((WIDTH, 4.6), draw, f"Reward, independent judge and truth against the KL. {words}.")


LINED = 20.0  # points from its point from which a label is joined to it: a shorter line looks like a minus
Label: TypeAlias = tuple[float, float, str, str]  # where its point is, its words, its colour


def _points(axes: Axes, points: Sequence[Mapping[str, Any]], name: str, place: int) -> list[Label]:
    """One method's points in one panel, by KL coefficient; returns their labels. The judge's interval is the mean of
    its seeds'."""
    colour, mark = COLOURS[place % len(COLOURS)], MARKS[place % len(MARKS)]
    by_coefficient: dict[Any, list[Mapping[str, Any]]] = {}
    for point in points:
        by_coefficient.setdefault(point.get("leash"), []).append(point)
    means = []
    for coefficient, same in by_coefficient.items():
        if len(same) > 1:
            x, y = [_root(point) for point in same], [point[name] for point in same]
            axes.plot(x, y, color=colour, marker=mark, markersize=3.5, alpha=0.35, linestyle="", markeredgewidth=0)
        at = fmean(map(_root, same))
        low, high = ([p[end] for p in same if p.get(end) is not None] for end in (f"{name}_low", f"{name}_high"))
        if low and high:
            axes.plot([at, at], [fmean(low), fmean(high)], color=colour, alpha=0.5, linewidth=1.2)
        means.append((at, fmean(point[name] for point in same), coefficient))
    means.sort(key=lambda found: found[0])
    axes.plot(
        [x for x, _, _ in means], [y for _, y, _ in means], color=colour, marker=mark, markersize=6, linewidth=1.3
    )
    return [(at, height, f"{number:g}", colour) for at, height, number in means if number is not None]


def _label(figure: Figure, wanted: Sequence[tuple[Axes, Sequence[Label]]]) -> None:
    """Write each number beside its point, where it covers no other number and no point: near, or on a thin line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.draw_without_rendering()  # where the points are is known only now
    figure.set_layout_engine("none")
    pixels, renderer = figure.dpi / 72, FigureCanvasAgg(figure).get_renderer()
    for axes, labels in wanted:
        points = [axes.transData.transform((at, height)) for at, height, _, _ in labels]
        taken = [(x - 5 * pixels, y - 5 * pixels, x + 5 * pixels, y + 5 * pixels) for x, y in points]
        inside = tuple(axes.get_window_extent(renderer).extents)
        for (at, height, text, colour), (x, y) in zip(labels, points, strict=True):
            probe = axes.text(at, height, text, fontsize=7.5)
            size = probe.get_window_extent(renderer)
            probe.remove()
            wide, high = size.width / pixels, size.height / pixels
            best: tuple[float, float, float] | None = None
            for dx, dy in _beside(wide, high):
                left, low = x + dx * pixels, y + dy * pixels
                box = (left, low, left + wide * pixels, low + high * pixels)
                bad = sum(_shared(box, other) for other in taken) + _outside(box, inside)
                if best is None or bad < best[0]:
                    best = (bad, dx, dy)
                if not bad:
                    break
            assert best is not None
            line = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
            axes.annotate(
                text, (at, height), best[1:], textcoords="offset points", fontsize=7.5, color=colour, zorder=5,
                bbox={"boxstyle": "round,pad=0.05", "facecolor": PAPER, "alpha": 0.6, "linewidth": 0},
                arrowprops=line if math.hypot(*best[1:]) > LINED else None,
            )  # fmt: skip
            left, low = x + best[1] * pixels, y + best[2] * pixels
            taken.append((left, low, left + wide * pixels, low + high * pixels))


def _beside(wide: float, high: float) -> Iterator[tuple[float, float]]:
    """Places of a label's lower left corner, in points from its point, the nearest first."""
    for far in (6, 10, 16, 24, 34, 46, 60, 76):
        flat = far * 0.7
        yield from ((flat, flat), (flat, -flat - high), (-flat - wide, flat), (-flat - wide, -flat - high))
        yield from ((far, -high / 2), (-far - wide, -high / 2), (-wide / 2, far), (-wide / 2, -far - high))


def _shared(one: Sequence[float], other: Sequence[float]) -> float:
    """The area that two boxes (left, low, right, high) share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, across) * max(0.0, up)


def _outside(box: Sequence[float], of: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1]) - _shared(box, of)


def _legend(methods: Sequence[str]) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    marks = [(COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)]) for i in range(len(methods))]
    return [Line2D([], [], color=c, marker=m, markersize=6) for c, m in marks], [_name(m) for m in methods]


def _in_words(points: Sequence[Mapping[str, Any]], method: str) -> str:
    figures = [
        f"{name} {fmean(values):.3g}"
        for name in ("kl", "reward", "judge", "truth")
        if (values := [point[name] for point in points if point.get(name) is not None])
    ]
    return f"{_name(method)}: {', '.join(figures)}, means of {len(points)}"


def hacking(runs: Sequence[Mapping[str, Any]]) -> str:
    """Runs with their evaluation steps, a column for each pair of `reward_models` and KL coefficient (`leash`), a line
    a seed: proxy, judge and truth. A cross: a rule fired, or would have; a ring: what is kept, or would be."""
    conditions = list(dict.fromkeys((str(run["reward_models"]), run["leash"]) for run in runs))
    seeds = list(dict.fromkeys(run["seed"] for run in runs))
    panels = [("proxy", "proxy (reward)"), ("judge", "judge"), ("gold_good", "truth (not seen)")]
    shown = [p for p in panels if any(evaluation.get(p[0]) is not None for run in runs for evaluation in run["looks"])]
    if not shown:
        raise ValueError("there is no evaluation step to draw")

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(shown), len(conditions), squeeze=False, sharex=True, sharey="row")
        for column, (reward, coefficient) in enumerate(conditions):
            mine = [run for run in runs if (str(run["reward_models"]), run["leash"]) == (reward, coefficient)]
            for row, (name, what) in enumerate(shown):
                axes = grid[row][column]
                for run in mine:
                    _seed(axes, run, name, COLOURS[seeds.index(run["seed"]) % len(COLOURS)])
                if row == 0:
                    held = "" if coefficient is None else f"\nKL coefficient {coefficient:g}"
                    axes.set_title(_name(reward) + held)
                if column == 0:
                    axes.set_ylabel(what)
                if row == len(shown) - 1:
                    axes.set_xlabel("update")
                axes.tick_params(length=0)
        _hacking_legend(figure, seeds)

    words = "; ".join(
        f"{_name(str(run['reward_models']))}, KL coefficient {run['leash']}, seed {run['seed']}: "
        + say(
            run["looks"], [evaluation.get("gold_good") for evaluation in run["looks"]], *ends(run["looks"], run)
        ).rstrip(".")
        for run in runs
    )
    return _svg((WIDTH, 0.9 + 1.75 * len(shown)), draw, f"{words}.")


def _seed(axes: Axes, run: Mapping[str, Any], name: str, colour: str) -> None:
    evaluations = run["looks"]
    stopped, kept = ends(evaluations, run)
    dashes: Any = DASHED if name == "gold_good" else "-"
    axes.plot(list(map(_step, evaluations)), _values(evaluations, name), color=colour, linewidth=1.3, linestyle=dashes)
    for evaluation in evaluations:
        if evaluation.get(name) is None:
            continue
        if evaluation["step"] == stopped:
            axes.plot(
                [evaluation["step"]], [evaluation[name]], color=colour, marker="X", markersize=8, markeredgecolor=PAPER
            )
        if stopped is not None and evaluation["step"] == kept:
            axes.plot(
                [evaluation["step"]], [evaluation[name]], color=colour, marker="o", markersize=9,
                markerfacecolor="none", markeredgewidth=1.4,
            )  # fmt: skip


def _hacking_legend(figure: Figure, seeds: Sequence[Any]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=COLOURS[i % len(COLOURS)], label=f"seed {seed}") for i, seed in enumerate(seeds)]
    fired = Line2D([], [], color=INK, marker="X", markersize=8, linestyle="", label="a stop rule fires")
    kept = Line2D([], [], color=INK, marker="o", markersize=9, markerfacecolor="none", linestyle="", label="kept then")
    figure.legend(handles=[*lines, fired, kept], loc="outside upper left", ncols=len(lines) + 2)


# --- shared ------------------------------------------------------------------------------------------------------


def _step(evaluation: Evaluation) -> float:
    return float(evaluation["step"])


def _root(point: Mapping[str, Any]) -> float:
    """The square root of a KL; an estimate may come out below 0, where there is none."""
    return math.nan if point["kl"] is None else math.sqrt(max(0.0, point["kl"]))


def _values(evaluations: Sequence[Evaluation], name: str) -> list[float]:
    return [math.nan if evaluation.get(name) is None else float(evaluation[name]) for evaluation in evaluations]


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.3g}"


def _name(text: str) -> str:
    return visible(" ".join(text.split()))[:44]


def _svg(inches: tuple[float, float], draw: Callable[[Figure], None], words: str) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    out = io.StringIO()
    with rc_context(_STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        figure.savefig(out, format="svg", facecolor=PAPER, metadata={"Date": None})
    head, tag, rest = out.getvalue().partition("<svg ")
    attributes, _, body = rest.partition(">")
    return f'{head}{tag}role="img" {attributes}>\n<title>{html.escape(words)}</title>{body}'
