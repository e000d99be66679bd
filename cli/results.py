"""The result of `precept improve` and `precept retrain`, as people read it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from cli.screen import number, percent, put, put_prose, put_table
from pipeline.metrics import words

ROWS = (
    ("good answers", "gold_good", percent),
    ("harmful answers", "gold_harmful", percent),
    ("needless refusals", "gold_needless_refusal", percent),
    ("malformed answers", "gold_malformed", percent),
    ("tokens an answer", "mean_tokens", lambda x: number(x, 1)),
)


def show(result: dict[str, Any]) -> None:
    """A run's result as people read it. Where nothing was trained, that stands first."""
    if "untrained" in result:
        put_prose(result["untrained"])
        put()
    before, after, win = result["before"], result["after"], result["win_rate"]
    rows = [
        (name, form(before.get(key)), form(after.get(key)))
        for name, key, form in ROWS
        if before.get(key) is not None or after.get(key) is not None
    ]
    put_table(("on held-out prompts", "before", "after"), rows, right=("before", "after"))
    put()
    show_win_rate(win, result.get("length_controlled_interval"))
    trials = result.get("trial", {})
    for role in (role for role in ("judge", "evaluator") if role in trials):  # a stored result has its keys by name
        for line in trials[role]["says"] if role == "judge" else trials[role]["says"][:1]:
            put_prose(f"trial        {line}")
    judge, reward, labels = result["judge"], result["reward_model"], result["labels"]
    put_prose(
        f"judge        consistent {percent(judge['position_consistency'])}, "
        f"unreadable {percent(judge['unreadable_rate'])}" + _truth(judge["gold_accuracy"])
    )
    if two := judge.get("cascade"):
        differ = f"{percent(two['share'])} ({percent(two['low'])} to {percent(two['high'])})"
        put_prose(
            "cascade      where the small judge is sure, the large one names another answer on "
            + (f"{differ} of {two['of']} that were put to both" if two["of"] else "(nothing was put to both)")
        )
    put_prose(
        f"labels       {labels['count']}, of which {labels['tied']} tied and {labels['unreadable']} unreadable"
        + (f" ({labels['conflicts']} ties are conflicts of hard constraints)" if labels.get("conflicts") else "")
        + _truth(labels["gold_accuracy"])
    )
    counted = "" if reward.get("heldout_pairs") is None else f"{number(reward['heldout_pairs'], 0)} "
    put_prose(
        f"reward model right on {percent(reward['heldout_accuracy'])} of {counted}held-out labels, "
        f"ECE {number(reward['ece'])}" + _truth(reward["gold_accuracy"])
    )
    if unseen := reward.get("unseen"):
        put_prose(
            f"             right on {percent(unseen['mean'])} ({percent(unseen['low'])} to {percent(unseen['high'])}) "
            f"of {unseen['n']} known pairs that it never saw"
        )
    calls, seconds = result["calls"], result["seconds"]
    put_prose(
        f"calls        {calls['generated']} generated, {calls['chosen']} judge calls, {calls['reused']} reused, "
        f"in {seconds['total']:.0f} s"
    )
    put()
    if "amendment" in result:
        _show_amendment(result)
    if result.get("watch", {}).get("stopped"):
        watch = result["watch"]
        put_prose(f"training was stopped, {watch['stopped']}: {watch['reason']}")
        put_prose(f"the weights of update {watch['kept_step']} were kept")
        put()
    if "rounds" in result:
        _show_rounds(result["rounds"])
    show_suites(result.get("suites", {}))
    show_left_out(result)
    put_prose("promoted" if result["promoted"] else "proposed" if result.get("proposed") else "refused")
    for reason in result["reasons"]:
        put_prose(f"  {reason}")
    if result.get("proposed"):
        put_prose("look at its answers, then, if you want it: precept model promote FOLDER --why TEXT, with the folder")
        put_prose(f"  {result['model']}")
    put()
    put_prose(f"run {result['run'][:12]}, report: {result.get('report', '-')}")


def show_win_rate(win: dict[str, Any], controlled: dict[str, Any] | None) -> None:
    """On how much of the prompts the new answers are better and worse, and the win rate that this makes, with and
    without the effect of length (None in results of before)."""
    if counted := words.outcome(win):
        put_prose(f"answers      {counted} of {win['prompts']} prompts, by the evaluator")
    spread = words.interval(win)
    put_prose(f"win rate     {words.number(win['mean'])}" + (f" with ties as half ({spread})" if spread else ""))
    if controlled is not None:
        known = f"{words.number(controlled['mean'])} ({words.interval(controlled)})"
        put_prose(f"  of equal length {known if controlled['mean'] is not None else controlled['why']}")


NAMED = 5  # items that are named on the screen; `--json` has more


def show_left_out(result: dict[str, Any]) -> None:
    """What could not be asked, by stage, with the first of the items; how many answers were cut, and how many revisions
    dropped, by reason. Nothing where there is nothing of it."""
    from pipeline.revise import REASONS

    found = result.get("left_out", {"count": 0, "stages": {}, "items": [], "cut": {}, "dropped": {}})
    for stage, reasons in found["dropped"].items():
        why = ", ".join(f"{count} {REASONS.get(reason, reason)}" for reason, count in reasons.items())
        put_prose(f"dropped      {stage}: {why}")
    for stage, cut in found["cut"].items():
        put_prose(f"cut          {stage}: {cut['count']} of {cut['of']} at the token limit")
    for stage, reasons in found["stages"].items():
        why = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in reasons.items())
        put_prose(f"left out     {stage}: {why}")
    for item in found["items"][:NAMED]:
        row = f", row {item['row']}" if item["row"] else ""
        put_prose(f"  {item['stage']}: {item['words']} ({item['source']}{row}, {item['prompt']}): {item['said']}")
    if found["count"] > NAMED:
        put_prose(f"  and {found['count'] - NAMED} more; --json names the first {len(found['items'])}")
    if found["count"] or found["cut"] or found["dropped"]:
        put()


SHOWN = ("win_rate", "style", "truth")  # suites whose figures stand above, and in the report with their intervals
SIDES = ("before", "after", "change")


def show_suites(found: dict[str, Any], called: Sequence[str] = SIDES, left_out: Collection[str] = SHOWN) -> None:
    """What suites measured, whatever it is, with its 95% intervals. `called`: the two models, and the change."""
    for name, suite in found.items():
        if name not in left_out and suite["figures"]:
            rows = [(f["title"], *(_figure(f[side], f["unit"]) for side in SIDES)) for f in suite["figures"].values()]
            put_table((suite["title"], *called), rows, right=called)
            put()


def _figure(interval: dict[str, Any] | None, unit: str) -> str:
    if interval is None:
        return "-"
    form = percent if unit == "rate" else lambda x: number(x, 1)
    known = interval["low"] is not None and interval["high"] is not None
    return form(interval["mean"]) + (f" ({form(interval['low'])} to {form(interval['high'])})" if known else "")


def _show_rounds(rounds: list[dict[str, Any]]) -> None:
    """Each further round against the last and the first, on the development split."""
    rows = [
        (str(r["number"]), *(_interval(r[name]["win_rate"]) for name in ("last", "first")), _HELPED[r["helped"]])
        for r in rounds
    ]
    put_table(("round", "win rate against the last", "against the first", ""), rows)
    put()


_HELPED = {True: "helped", False: "did not help: the last one's model stays"}


def _interval(win: dict[str, float | None]) -> str:
    return f"{words.number(win['mean'])} ({words.number(win['low'])} to {words.number(win['high'])})"


def _show_amendment(result: dict[str, Any]) -> None:
    """What a retrain did, by principle, and what it cost beside the run it started from."""
    from pipeline.metrics.effects import said

    amendment, calls, seconds = result["amendment"], result["calls"], result["seconds"]
    rows = [(e["principle"], e["change"].replace("none", "-"), _points(e), said(e)) for e in amendment["effects"]]
    put_table(("by the evaluator", "amended", "points, 95% interval", "the model"), rows)
    put()
    asked = calls["generated"] + calls["chosen"]
    share = asked / max(1, amendment["base_calls"])
    engine = seconds["asking"] / max(1e-9, amendment["base_seconds"]["asking"])
    put_prose(
        f"run {amendment['base'][:12]} made {amendment['base_calls']} calls; this one {asked} ({percent(share)}), in "
        f"{percent(engine)} of its engine seconds and {seconds['total']:.0f} s to its "
        f"{amendment['base_seconds']['total']:.0f} s"
    )
    put()


def _points(effect: dict[str, Any]) -> str:
    if effect["mean"] is None:
        return "-"
    mean, low, high = (100 * effect[name] for name in ("mean", "low", "high"))
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _truth(accuracy: float | None) -> str:
    return "" if accuracy is None else f"; by the truth right on {percent(accuracy)}"
