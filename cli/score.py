"""`precept score`: the playground. An answer against a model's own, by judge and reward; or two against each other."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, Quiet, RunId, Set, SettingsFile, flags_of, project
from cli.screen import bar, number, put, put_json, put_prose, put_table, tell
from cli.start import STOPPED
from cli.text import in_words

if TYPE_CHECKING:
    from pipeline.metrics.baseline import Against, PrincipleRate
    from pipeline.metrics.intervals import Interval
    from pipeline.metrics.opinion import Part
    from service.actions.score_records import Near, Preferred, Revised, Scored

BAR = 12  # characters
SHORT = 100  # characters of a prompt that only names something


def score(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What is answered: a user's turn.")],
    answer: Annotated[str, typer.Argument(metavar="ANSWER", help="The answer; an empty one is one, too.")],
    second: Annotated[
        str | None, typer.Argument(metavar="[SECOND]", help="Another answer: the two are put against each other.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Answers of the starting model that it is put against.")] = 16,
    run: RunId = "",
    revision: Annotated[bool, typer.Option(help="Have the answer criticised and revised.")] = True,
    settings: SettingsFile = None,
    set_: Set = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what the judge and the reward make of an answer, and where they part: the mark of reward hacking.

    The answer is put against answers of the model that the run started from to the same prompt, stored ones first.
    Then it is criticised and revised. With two answers: which is preferred, by which principles. Nothing is stored.

    Example: precept score "How can I forge the baker's letter?" "No, I will not help with that."
    """
    loaded = project(settings, flags_of(set_))

    from cli.progress import Reporter
    from service.actions import score
    from service.actions.score_records import Scored
    from service.wiring import Wiring
    from service.work.budget import BudgetReached

    report = Reporter(quiet)
    found: Scored | Preferred
    try:
        with closing(Wiring(loaded)) as wiring:
            if second is None:
                found = score.score(wiring, prompt, answer, n=n, run=run, revision=revision, report=report)
            else:
                found = score.prefer(wiring, prompt, answer, second, run=run, report=report)
    except BudgetReached as stop:
        tell(str(stop))
        raise typer.Exit(STOPPED) from None
    if as_json:
        put_json(found.as_dict())
        return
    if isinstance(found, Scored):
        _show(found)
    else:
        _show_two(found)
    for missing in found.by.missing:
        tell(f"missing: {missing}")


# --- one answer ------------------------------------------------------------------------------------------------------


def _show(found: Scored) -> None:
    _texts(prompt=found.by.prompt, answer=found.answer)
    _show_baseline(found)
    if rows := _figures(found):
        put_table(("", "of 1", "95% interval", " "), rows, right=("of 1", "95% interval"))
    if found.gap is not None:
        put_prose(f"\n{found.gap.reading}")
    if found.against is not None:
        put()
        columns = ("principle", "weight", "votes on", "prefers it to", "win rate", "95% interval", "")
        put_table(columns, [_rate(r, len(found.others)) for r in found.against.principles], right=columns[1:6])
    if found.revised is not None:
        _show_revised(found.revised, found)


def _show_baseline(found: Scored) -> None:
    by, count = found.by, len(found.others)
    whose = f"the model that run {by.run.id.hex()[:12]} started from" if by.run else "the policy"
    put_prose(f"against {count} answers of {whose}: {found.stored} stored, {count - found.stored} asked for now")
    put_prose(f"judged by the {by.judge}, under {by.constitution.name} ({by.constitution.version[:12]})")
    if by.rewards:
        put_prose(f"rewarded by {', '.join(Path(name).name for name in by.rewards)}")
    if found.near:
        put_prose(f"the prompt was never answered before; {_nearest(found.near)}")
    put()


def _nearest(near: tuple[Near, ...]) -> str:
    first = near[0]
    many = f"{len(near)} prompts down to {near[-1].cosine:.2f}" if len(near) > 1 else "1 prompt"
    return f"nearest, {first.cosine:.2f} of 1: {_short(first.prompt)!r} ({many} looked at)"


def _figures(found: Scored) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    if found.against is not None:
        rows.append(("the judge's win rate", *_line(found.against.win_rate), _counts(found.against)))
    if found.reward is not None:
        of, said = found.reward, f"reward {found.reward.reward:+.3f}"
        if of.percentile is not None:
            rows.append(("the reward's percentile", *_line(of.percentile), said))
            said = ""
        if of.among_near is not None or of.percentile is None:
            rows.append(("  among the nearest prompts' answers", *_line(of.among_near), said))
    if found.gap is not None:
        marked = "marked" if found.gap.marked else ""
        rows.append(("gap of the two", *_line(found.gap.interval, sign="+"), marked))
    return rows


def _line(of: Interval | None, sign: str = "") -> tuple[str, str]:
    if of is None:
        return "-", ""
    return f"{of.mean:{sign}.2f}", f"{of.low:{sign}.2f} to {of.high:{sign}.2f}"


def _counts(of: Against) -> str:
    unreadable = f", {of.unreadable} unreadable" if of.unreadable else ""
    return f"{of.count(1)} won, {of.count(0.5)} tied, {of.count(0)} lost{unreadable}"


def _rate(rate: PrincipleRate, n: int) -> tuple[str, ...]:
    weight = f"{rate.weight / 1000:g}"
    if rate.win_rate is None:
        return rate.principle, weight, f"0 of {n}", "-", "-", "", ""
    mean, interval = _line(rate.win_rate)
    filled = round(BAR * rate.win_rate.mean)
    return (
        rate.principle, weight, f"{rate.bears} of {n}", str(rate.wins), mean, interval,
        "█" * filled + "·" * (BAR - filled),
    )  # fmt: skip


def _show_revised(revised: Revised, found: Scored) -> None:
    why = "it does worst by" if revised.worst else "it loses by none; drawn:"
    put_prose(f"\ncritique and revision ({why} {revised.principle})")
    parts = {"critique": revised.critique} if revised.critique else {}
    _texts(**parts, revision=revised.revision)
    if revised.dropped:
        from pipeline.revise import REASONS

        put_prose(f"the revision cannot stand: it is {REASONS.get(revised.dropped, revised.dropped)}")
        return
    said = {
        "revision": "the judge prefers the revision", "answer": "the judge prefers the answer as it was",
        "neither": "the judge prefers neither", "unreadable": "what the judge says of the two cannot be read",
        None: "the judge could not be asked about the two",
    }[revised.preferred]  # fmt: skip
    if revised.reward is not None and found.reward is not None:
        said += f"; the reward goes from {found.reward.reward:+.3f} to {revised.reward:+.3f}"
    put_prose(said)


# --- two answers -----------------------------------------------------------------------------------------------------


def _show_two(found: Preferred) -> None:
    _texts(prompt=found.by.prompt, first=found.first, second=found.second)
    opinion = found.opinion
    said = {
        "first": "the first is better", "second": "the second is better", "tied": "neither is better",
        "unreadable": "what it says cannot be read",
    }[opinion.outcome]  # fmt: skip
    put_prose(f"{found.by.judge}: {said}; p of the first is {opinion.p:.3f}")
    put_prose(_reward_of_two(found))
    put()
    widest = max((abs(part.moved) for part in opinion.parts), default=0.0)
    columns = ("principle", "weight", "first as A", "first as B", "says", "moves p by", "second | first", "without it")
    put_table(columns, [_part(part, widest) for part in opinion.parts], right=("weight", *columns[2:4], columns[5]))


def _reward_of_two(found: Preferred) -> str:
    if found.reward is None or found.difference is None:
        return "reward: none"
    if found.difference == 0:
        return f"reward: the same, {found.reward[0]:+.3f}"
    liked = "first" if found.difference > 0 else "second"
    agrees = ""
    if found.opinion.outcome in ("first", "second"):
        agrees = ", as the judge does" if found.opinion.outcome == liked else ", unlike the judge"
    return (
        f"reward: likes the {liked} better{agrees}; {found.reward[0]:+.3f} and {found.reward[1]:+.3f}, "
        f"difference {found.difference:+.3f}"
    )


def _part(part: Part, widest: float) -> tuple[str, ...]:
    said = in_words(part.standing)
    if part.standing == "bears":
        pull = part.moved or round(part.shown_a + part.shown_b - 1, 9)
        said = "first" if pull > 0 else "second" if pull < 0 else "neither"
    return (
        part.principle, f"{part.weight / 1000:g}", number(part.shown_a), number(part.shown_b), said,
        f"{part.moved:+.3f}" if part.moved else "0", bar(Fraction(part.moved), Fraction(widest)), part.without,
    )  # fmt: skip


# --- texts -----------------------------------------------------------------------------------------------------------


def _texts(**texts: str) -> None:
    """Indented, so that no text can pass for a line of ours."""
    for name, text in texts.items():
        put(f"{name}\n{indent(text or '(empty)', '    ', lambda _: True)}")
    put()


def _short(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= SHORT else f"{one[: SHORT - 3]}..."
