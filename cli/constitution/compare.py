"""`precept constitution compare`: where two constitutions label the same pairs differently, and their models."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import completing
from cli.options import Json, Quiet, Set, SettingsFile, Verbose, flags_of, project
from cli.results import ROWS
from cli.screen import percent, put, put_json, put_prose, put_table, tell
from cli.start import run_flow
from constitution.errors import UserError
from pipeline.metrics import words

if TYPE_CHECKING:
    from pipeline.metrics.disagreement import Carried
    from service.queries.constitution_compare import Compared, Example, Side

_SUFFIXES = (".svg", ".png")


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A file, or an amendment: its number, version, `ratified`.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other.")],
    run: Annotated[
        str,
        typer.Option(
            "--run",
            metavar="ID",
            help="The run whose labels are looked at and, with --train, that both start from, by the first digits of "
            "its id.",
            autocompletion=completing.runs,
        ),
    ] = "",
    train: Annotated[
        bool, typer.Option("--train", help="Retrain a model on each, alike but for that; neither is promoted.")
    ] = False,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it into a .svg or .png file.")] = None,
    settings: SettingsFile = None,
    set_: Set = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Say where two constitutions label the same pairs differently, and which principles do it. No model is asked.

    --train retrains on each, from the same run, with the same settings and seed, and shows both models side by side.

    Example: precept constitution compare ratified principles.yaml --picture compared.svg
    """
    if picture is not None and picture.suffix.lower() not in _SUFFIXES:
        raise UserError(f"{picture}: a picture is an .svg or a .png file; name it so")
    flags = flags_of(set_)
    loaded = project(settings, flags)
    from service.queries import constitution_compare
    from service.wiring import Wiring

    trained = None
    if train:
        trained = _train(a, b, run, settings, flags, quiet, verbose)
        run = trained["base"]["run"]
    with closing(Wiring(loaded)) as wiring:
        found = constitution_compare.compare(wiring, a, b, run)
    if picture is not None:
        from service.pictures.constitution_compare import save

        save(found, picture, trained)
        tell(f"drawn into {picture}")
    if as_json:
        put_json({**found.as_dict(), **({"trained": trained} if trained else {})})
        return
    _show(found, asks=not train)
    if trained:
        _show_trained(trained, loaded.seed)


def _train(
    a: str, b: str, run: str, settings: Path | None, flags: dict[str, Any], quiet: bool, verbose: bool
) -> dict[str, Any]:
    """A retrain on each: the same base, settings and seed, and no promotion."""
    from service.queries import model_compare
    from service.wiring import Wiring

    with closing(Wiring(project(settings, flags))) as wiring:
        base = model_compare.base_of(wiring.store, run)
        both = model_compare.keep(wiring.store, a, b)
    runs = []
    for name, constitution in zip((a, b), both, strict=True):
        if not quiet:
            tell(f"training on {name} ({constitution.version[:12]}), from run {base.id.hex()[:12]}")
        given = {"retrain.version": constitution.version, "retrain.base": base.id.hex(), "retrain.promote": False}
        runs.append(run_flow("retrain", settings, {**flags, **given}, quiet, verbose)["run"])
    with closing(Wiring(project(settings, flags))) as wiring:
        return model_compare.trained(wiring.store, base, runs)


# --- labels on the screen ------------------------------------------------------------------------------------------


def _show(found: Compared, asks: bool) -> None:
    from service.queries.drawn import AS_IF_ALL

    for name, side in (("A", found.a), ("B", found.b)):
        constitution = side.constitution
        put_prose(
            f"{name}  {side.name}: {constitution.name} ({constitution.version[:12]}), {len(constitution)} principles"
        )
    if found.a.constitution.version == found.b.constitution.version:
        put_prose("   one version: no model, and no label, can tell them apart")
    if found.sampled:
        put_prose(AS_IF_ALL)
    put()
    of = f"run {found.pool.run.id.hex()[:12]}" if found.pool.run else "the store"
    opened = f", {found.open:,} are open" if found.open else ""
    put_prose(f"labels     {found.sure + found.open:,} of {of}: {found.disagreements:,} differ{opened}")
    put_prose(f"agreement  {found.agreement_in_words()}")
    if found.open:
        _show_open(found, asks)
    put()
    _show_table(found)
    put()
    _show_principles(found)
    for example in found.examples:
        _show_example(example)


def _show_open(found: Compared, asks: bool) -> None:
    lacking = "; ".join(_missing(name, side) for name, side in (("A", found.a), ("B", found.b)) if side.missing)
    price = found.price
    time = "" if price.seconds is None else f", about {price.seconds:,.0f} s"
    put_prose(f"open       not asked yet: {lacking}")
    put_prose(f"           to ask: {price.verdicts:,} verdicts, {price.tokens:,} tokens{time}" + (
        "; --train asks, and trains" if asks else ""
    ))  # fmt: skip


def _missing(name: str, side: Side) -> str:
    return f"{name}'s {', '.join(f'{principle} on {count:,} pairs' for principle, count in side.missing.items())}"


def _show_table(found: Compared) -> None:
    """Rows for A, columns for B; outcomes that no label has are left out."""
    table = found.table
    names = list(dict.fromkeys(a for a, _ in table))
    shown = [x for x in names if any(table[x, y] or table[y, x] for y in names)]
    if shown:
        columns = [f"{x} in B" for x in shown]
        rows = [(f"{a} in A", *(f"{table[a, b]:,}" for b in shown)) for a in shown]
        put_table(("labels that are sure" if found.open else "labels", *columns), rows, right=columns)


def _show_principles(found: Compared) -> None:
    """The weights, and where labels differ that can be read, what each principle has to do with it."""
    weights, parts = ("in A", "in B"), ("for A's label", "for B's label", "moves p by", "alone")
    if not found.differing:
        put_table(("weight of", *weights), [(_named(c), *_weights(c)) for c in found.principles], right=weights)
        return
    rows = [(_named(c), *_weights(c), *_part(c)) for c in found.principles]
    put_table(("weight of", *weights, *parts), rows, right=(*weights, *parts))
    total = 100 * sum(c.moved for c in found.principles)
    put_prose(f"of {found.differing:,} labels that differ:")
    put_prose("  for A's label  on how many A's principle speaks for A's label against B's")
    put_prose(f"  moves p by     how far its change moves p towards B's label, in points; {total:.1f} in all")
    put_prose("  alone          how many turn into B's label by its change alone")


def _part(carried: Carried) -> tuple[str, ...]:
    changed = carried.clause.standing != "same"
    return (
        f"{carried.for_a:,}",
        f"{carried.for_b:,}",
        f"{100 * carried.moved:+.1f}" if changed else "-",
        f"{carried.alone:,}" if changed else "-",
    )


def _named(carried: Carried) -> str:
    clause = carried.clause
    old, new = clause.ids
    name = f"{new} ({old} in A)" if old and new and old != new else clause.principle
    return f"{name}, reworded" if clause.standing == "reworded" else name


def _weights(carried: Carried) -> tuple[str, str]:
    old, new = (said or "-" for said in carried.clause.counted)
    return old, new


def _show_example(example: Example) -> None:
    put()
    put_prose(f"  {_line(example.prompt)}")
    put_prose(f"    first    {_line(example.first)}")
    put_prose(f"    second   {_line(example.second)}")
    for name, said, p, principles in (
        ("A", example.a, example.p_a, example.for_a),
        ("B", example.b, example.p_b, example.for_b),
    ):
        by = f", by {', '.join(principles[:5])}" if principles else ""
        put_prose(f"    {name}: {said} ({p:.2f}){by}")


def _line(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= 240 else one[:239] + "…"


# --- trained models on the screen ----------------------------------------------------------------------------------


def _show_trained(trained: dict[str, Any], seed: int) -> None:
    base, sides = trained["base"], (trained["a"], trained["b"])
    put()
    put_prose(f"trained from run {base['run'][:12]}, seed {seed}; measured against its model, on held-out prompts")
    columns = ("that model", "trained on A", "trained on B")
    rows = [("win rate", "", *(_interval(side["win_rate"], percent) for side in sides))]
    counted = [words.outcome(side["win_rate"]).replace(" on ", " ") for side in sides]
    if all(counted):
        rows.append(("answers", "", *counted))
    for name, key, form in ROWS:
        values = [x["figures"].get(key) for x in (base, *sides)]
        if any(value is not None for value in values):
            rows.append((name, *(form(value) for value in values)))
    rows.append(("calls", "", *(f"{s['calls']['generated'] + s['calls']['chosen']:,}" for s in sides)))
    rows.append(("seconds", "", *(f"{s['seconds']:,.0f}" for s in sides)))
    rows.append(("run", base["run"][:12], *(s["run"][:12] for s in sides)))
    put_table(("", *columns), rows, right=columns)
    for name, side in zip("AB", sides, strict=True):
        if side["is_base"]:
            put_prose(f"{name}'s is that model itself: the same labels train it")
    put()
    effects = [
        (name, *(_interval(found[side], _points) for side in ("a", "b"))) for name, found in trained["effects"].items()
    ]
    put_table(("points by the evaluator, 95% interval", *columns[1:]), effects, right=columns[1:])


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"


def _interval(of: dict[str, Any], form: Any) -> str:
    if of["mean"] is None:
        return "not asked" if form is _points else "-"
    return f"{form(of['mean'])} ({form(of['low'])} to {form(of['high'])})"
