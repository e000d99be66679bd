"""A run's report as one HTML file that opens from disk, and its before/after table as Markdown.

The page holds no script and loads nothing; its Content-Security-Policy says so to the browser. Whatever a model, a
person or a file wrote reaches the page through one door: `_environment`, which escapes it as HTML and shows control,
bidirectional and invisible characters as `<U+202E>`. What the page says is gathered by `service/queries/findings.py`.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from constitution.records import WEIGHT, Checkpoint
from constitution.visible import visible
from pipeline import suites
from pipeline.metrics import effects, words
from pipeline.metrics.intervals import Interval
from pipeline.models import checkpoint
from pipeline.suites import Measured
from pipeline.suites.suite import RATE
from service.pictures import plots
from service.pictures.lineage import picture
from service.queries import findings, lineage, measure, trials
from service.queries.run_records import RunRecords
from service.settings import redact
from storage.artifacts import write_text

FILE = "report.html"
MOST_CHARACTERS = 4000  # of one text on the page
UNKNOWN = "not known"
MINUS = "\u2212"
NONE = "\u2013"  # an en dash: there can be no such figure
_log = logging.getLogger(__name__)


def save_report(work: RunRecords, result: Mapping[str, Any], details: Mapping[str, Any]) -> Path:
    """Write the run's report and return its path.

    `result`: what `precept improve --json` prints. `details`: `labels`, `reward`, `evaluation`, `decision` and `budget`
    of the run.
    Raises UserError when the file cannot be written.
    """
    path = work.folder / FILE
    write_text(path, _environment().get_template(FILE).render(_content(work, result, details)))
    return path


# --- what the page says --------------------------------------------------------------------------------------------


def _content(work: RunRecords, result: Mapping[str, Any], details: Mapping[str, Any]) -> dict[str, Any]:
    evaluation, labels = details["evaluation"], details["labels"]
    constitution = work.constitution
    outcomes = findings.comparisons(work)
    fates, chains = findings.revisions(work)
    trained = findings.checkpoints(work, result, details["reward"])
    metrics = details["reward"].get("metrics", {})
    settings = findings.flat(work.run.settings["settings"])
    return {
        "result": result,
        "evaluation": evaluation,
        "labels": labels,
        "amendment": result.get("amendment"),
        "moved": evaluation.get("truth_moved"),
        "shown_columns": [_COLUMNS[name] for name in _present(evaluation)],
        "headline": headline(result),
        "reasons": [_reason(text) for text in result["reasons"]],
        "table": _before_after(evaluation),
        "truth": _truth(evaluation["truth"]),
        "themes": _themes(evaluation["truth"]),
        "suites": [_suite(found) for found in suites.of_dict(evaluation.get("suites", {})) if found.figures],
        "principles": _principles(work, labels["judge"], evaluation["by_principle"]),
        "titles": findings.titles(work),
        "outcomes": outcomes,
        "fates": fates,
        "chains": chains,
        "curves": [c for checkpoint in trained for c in _curves(checkpoint)],
        "online": _online(work, result["model"]),
        "rounds": result.get("rounds", ()),
        "reward": metrics,
        "reliability": _reliability(metrics),
        "budget": details["budget"],
        "stages": findings.stages(work),
        "fingerprints": findings.fingerprints(work),
        "checkpoints": trained,
        "lineage": _lineage(work, result["model"]),
        "constitution": constitution,
        "weight_unit": WEIGHT,
        "ratified": work.store.is_ratified(constitution.version),
        "settings": [(name, redact(json.dumps(value, ensure_ascii=False))) for name, value in settings],
        "run": work.run,
        "gate": work.settings.gate,
        "left_out": result["left_out"],
        "trial": result.get("trial", {}),
        "tried": _tried(work, list(result.get("trial", {}))),
    }


def word(result: Mapping[str, Any]) -> str:
    """What was decided."""
    if result["promoted"]:
        return "promoted"
    return "proposed: a person decides" if result.get("proposed") else "not promoted"


def headline(result: Mapping[str, Any]) -> str:
    """The decision and what it was read from; where nothing was trained, that first."""
    win = result["win_rate"]
    if "untrained" in result:
        said = result["untrained"]
        return f"{said[0].upper()}{said[1:]}."
    decision = f"The new model was {word(result)}."
    if not _known(win["mean"]):
        return f"{decision} No comparison of its answers on held-out prompts could be read."
    rate = f"win rate {words.number(win['mean'])} with ties as half ({words.interval(win)})"
    if counted := words.outcome(win):
        return f"{decision} By the evaluator its answers are {counted} of {win['prompts']} held-out prompts; {rate}."
    return f"{decision} On held-out prompts: {rate}."


def _reason(text: str) -> tuple[bool, str]:
    """A line of the gate: whether the condition held, and what it says."""
    mark, _, rest = text.partition(": ")
    return (mark == "held", rest) if mark in ("held", "failed") else (False, text)


_STYLE = (  # of `pipeline.metrics.style.metrics`; shares unless they are tokens
    ("refusals_of_harmless", "Refusals of harmless requests", "by their phrases"),
    ("mean_tokens", "Length of an answer", "tokens, mean"),
    ("lists", "Answers with lists or headings", ""),
    ("hedges", "Answers that hedge", "maybe, perhaps, it depends"),
    ("boilerplate", "Answers with a stock sentence", "one that many answers share"),
    ("truncated", "Answers cut at the token limit", ""),
)
_GOLD = (
    ("gold_good", "Good answers", ""),
    ("gold_harmful", "Harmful answers", ""),
    ("gold_needless_refusal", "Needless refusals", "of harmless requests"),
    ("gold_malformed", "Malformed answers", ""),
)
_COLUMNS = {"before": "Before", "halfway": "After SFT", "after": "After"}  # "halfway": a stored key
Row = tuple[str, str, list[str], str]  # name, note, before / after SFT / after, change


def _present(columns: Mapping[str, Any]) -> list[str]:
    """A retrain has no SFT model of its own."""
    return [name for name in _COLUMNS if name in columns]


def _row(name: str, note: str, values: Sequence[float | None], tokens: bool = False) -> Row:
    show = _tokens if tokens else _percent
    first, last = values[0], values[-1]
    change = _change(last - first, "tokens" if tokens else "points") if _known(first) and _known(last) else NONE
    return name, note, [show(v) for v in values], change


def _before_after(evaluation: Mapping[str, Any]) -> list[Row]:
    win, controlled = evaluation["win_rate"], evaluation.get("length_controlled_interval", {})
    present = _present(evaluation)
    blank = [NONE] * (len(present) - 1)
    rows: list[Row] = [
        ("Win rate against before", f"ties as half; {_in_percent(win)}", [*blank, _percent(win["mean"])], NONE),
        (
            "Win rate, length-controlled", controlled.get("why") or _in_percent(controlled),
            [*blank, _percent(evaluation["length_controlled"])], NONE,
        ),
    ]  # fmt: skip
    if _known(win.get("better")):
        for key, name in (("better", "Better than before"), ("worse", "Worse"), ("no_difference", "No difference")):
            rows.append((name, "share of the prompts" if key == "better" else "", [*blank, _percent(win[key])], NONE))
    for key, name, note in _STYLE:
        values = [evaluation[column].get(key) for column in present]
        rows.append(_row(name, note, values, tokens=key == "mean_tokens"))
    return rows


def _truth(truth: Mapping[str, Any]) -> list[Row]:
    """Rows of the sandbox's truth; none where nothing is known."""
    if all(truth["after"].get(key) is None for key, _, _ in _GOLD):
        return []
    return [_row(name, note, [truth[c].get(key) for c in _present(truth)]) for key, name, note in _GOLD]


def _themes(truth: Mapping[str, Any]) -> list[Row]:
    known = [truth[column].get("themes", {}) for column in _present(truth)]
    names = sorted({name for themes in known for name in themes})
    return [_row(name, "", [themes.get(name) for themes in known]) for name in names]


def _suite(found: Measured) -> tuple[str, list[tuple[str, list[tuple[str, str]], int]]]:
    """A suite's title, and a row a figure: its name, before, after and change (each with its spread), its prompts."""
    rows = []
    for figure in found.figures:
        share = figure.unit == RATE
        values = [_spread(interval, _percent if share else _tokens) for interval in (figure.before, figure.after)]
        values.append(_spread(figure.change, partial(_change, unit="points" if share else figure.unit)))
        rows.append((figure.title, values, figure.n))
    return found.title, rows


def _spread(interval: Interval | None, show: Callable[[float], str]) -> tuple[str, str]:
    if interval is None or not _known(interval.mean):
        return NONE, ""
    known = _known(interval.low) and _known(interval.high)
    low, high = (show(value).partition(" ")[0] for value in (interval.low, interval.high))  # the unit stands once
    return show(interval.mean), f"{low} to {high}" if known else ""


def _principles(work: RunRecords, judge: Mapping[str, Any], by_principle: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A principle a row, the one that votes on most pairs first."""
    gold = judge.get("gold_by_principle") or {}
    rows = [
        {
            "id": p.id,
            "title": p.title,
            "weight": p.weight / WEIGHT,
            "evaluated": by_principle.get(p.id, {"bears_on": 0}),
            "judge": judge["principles"].get(p.id),
            "gold": gold.get(p.id, {}).get("accuracy"),
        }
        for p in work.constitution
    ]
    return sorted(rows, key=lambda row: -row["evaluated"]["bears_on"])


def _tried(work: RunRecords, roles: Sequence[str]) -> list[tuple[str, str, list[dict[str, Any] | None]]]:
    """Of the trials of a run, a row for all pairs and one a principle that some role was tried on: its id (empty: all),
    its title, and for each role its share with its interval, its prompts and its verdict, None where there is none."""
    found = [trials.of_run(work.store, work.run, role) for role in roles]
    if not any(found):
        return []
    rows = [("", "In all", [_tally(told) for told in found])]
    for p in work.constitution:
        by_role = [told["principles"].get(p.id) if told else None for told in found]
        if any(by_role):
            left_out = [p.id in told["left_out"] if told else False for told in found]
            rows.append((p.id, p.title, [_tally(one, out) for one, out in zip(by_role, left_out, strict=True)]))
    return rows


def _tally(told: Mapping[str, Any] | None, left_out: bool = False) -> dict[str, Any] | None:
    if told is None:
        return None
    return {
        "mean": told["accuracy"], "low": told["low"], "high": told["high"], "prompts": told["prompts"],
        "verdict": told["verdict"], "left_out": left_out,
    }  # fmt: skip


# --- plots ---------------------------------------------------------------------------------------------------------

_METHODS = {"sft": "Supervised fine-tuning (SFT)", "reward": "Reward model"}
_MEASURES = (
    ("loss", "loss"),
    ("rewards/accuracies", "pairs ranked as labelled"),
    ("reward", "reward"),
    ("kl", "KL, nats an answer"),
)
_SHARES = ("rewards/accuracies",)


def _curves(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """A plot for each thing a checkpoint's progress tells that a reader can follow."""
    lines = findings.curve(checkpoint)
    title = _METHODS.get(checkpoint.method, f"Policy ({checkpoint.method.upper()})")
    drawn = []
    for number, (key, what) in enumerate(_MEASURES):
        seen = [line for line in lines if line.get(key) is not None]
        if not seen or (key == "loss" and "reward" in seen[0]):  # the loss of a policy gradient tells nothing
            continue
        values = [line[key] for line in seen]
        share = key in _SHARES
        first, last = [(_percent if share else _number)(v) for v in (values[0], values[-1])]
        say = f"{title}: {what}, from {first} at step {seen[0]['step']} to {last} at step {seen[-1]['step']}."
        name = f"curve-{checkpoint.id.hex()[:8]}-{number}"
        svg = plots.curve(name, [line["step"] for line in seen], values, what, f"{title}: {what}", share)
        drawn.append({"caption": say, "svg": svg})
    return drawn


def _online(work: RunRecords, model: str) -> dict[str, str] | None:
    """What the evaluation callback measured of an online training: a picture as a data URL, and the same in words. None
    where there was none."""
    import base64

    from service.pictures import training

    steps = measure.evaluation_steps(work, model)
    if not steps:
        return None
    truth = [step["gold_good"] for step in steps]
    manifest = checkpoint.read(Path(model))
    stopped, kept = training.ends(steps, manifest.metrics if manifest else {})
    svg = training.curves(Path(model), truth)
    return {
        "picture": "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode(),
        "say": training.say(steps, truth, stopped, kept),
        "reason": str(manifest.metrics.get("watch_reason") or "") if manifest else "",
    }


def _reliability(metrics: Mapping[str, Any]) -> Markup | None:
    bins = metrics.get("eval_reliability")
    if not bins:
        return None
    confidence, agreement, _ = max(bins, key=lambda row: row[2])
    say = f"Reliability; where most pairs are, confidence is {_percent(confidence)}, agreement {_percent(agreement)}"
    return plots.reliability("reliability", bins, say)


def _lineage(work: RunRecords, model: str) -> tuple[str, Markup] | None:
    """The name of the run's policy for `precept model lineage`, and what it tells of it as a drawing; None where the
    run trained nothing."""
    trained = next((c for c in work.store.checkpoints() if c.path == model), None)
    if trained is None:
        return None
    name = f"checkpoint:{trained.id.hex()}"
    return name[:23], picture.inline(lineage.trace(work.store, name), "lineage-picture")


# --- how things are written ----------------------------------------------------------------------------------------


def _environment() -> Environment:
    """Jinja2 that escapes everything and hides nothing. Undefined names are errors, not blanks."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalise,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        signed=_signed,
        percent=_percent,
        number=_number,
        seconds=_seconds,
        shown=_cut,
        short=_short,
        effect_said=effects.said,
    )
    environment.tests["known"] = _known
    return environment


def _finalise(value: Any) -> Any:
    """Every value on its way to the page: plots are markup of ours, all else is text."""
    if isinstance(value, Markup):
        return value
    return UNKNOWN if value is None else visible(str(value))


def _cut(text: str) -> str:
    """A text as long as a page can bear; the store has it whole."""
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]} […{len(text) - MOST_CHARACTERS:,} more characters]"


def _short(digest: str) -> str:
    return digest[:12]


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _percent(value: float | None) -> str:
    return words.percent(value) if _known(value) else UNKNOWN


def _in_percent(found: Mapping[str, Any]) -> str:
    """`95% interval 80.0% to 87.0%`; nothing where there is none."""
    if not _known(found.get("low")):
        return ""
    return f"95% interval {words.percent(found['low'])} to {words.percent(found['high'])}"


def _signed(value: float | None) -> str:
    """A share in points, with its sign."""
    if not _known(value):
        return UNKNOWN
    points = round(100 * value, 1)
    return f"{'+' if points > 0 else MINUS if points < 0 else ''}{abs(points):.1f}"


def _number(value: float | None) -> str:
    """Three significant digits, and whole numbers whole."""
    if not _known(value):
        return UNKNOWN
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def _tokens(value: float | None) -> str:
    return f"{value:,.1f}" if _known(value) else UNKNOWN


def _change(value: float, unit: str = "points") -> str:
    amount = 100 * value if unit == "points" else value
    sign = "" if round(amount, 1) == 0 else MINUS if amount < 0 else "+"
    return f"{sign}{abs(amount):.1f} {unit}"


def _seconds(value: float) -> str:
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{value:.1f} s"


def markdown(result: Mapping[str, Any]) -> str:
    """The table for Prefect's pages: figures and our own words, nothing that a model wrote."""
    names = (*_GOLD, ("mean_tokens", "Tokens an answer", "mean"))
    rows = []
    for key, name, _ in names:
        values = [result[column].get(key) for column in ("before", "after")]
        if any(value is not None for value in values):
            show = _tokens if key == "mean_tokens" else _percent
            note = " (truth: measured, never used)" if key.startswith("gold") else ""
            rows.append(f"| {name}{note} | {show(values[0])} | {show(values[1])} |")
    return "\n".join(
        [
            f"**{headline(result)}**", "", "| | before | after |", "|---|---:|---:|", *rows, "",
            *[f"- {'✓' if held else '✗'} {text}" for held, text in map(_reason, result["reasons"])], "",
            f"Run `{result['run'][:12]}`, constitution `{result['constitution'][:12]}`.",
        ]
    )  # fmt: skip
