"""`precept sandbox`: the small world that ships: its wordings, its prompts, and making its models again."""

from __future__ import annotations

import json
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json
from cli.screen import put, put_json, put_table
from constitution.errors import UserError

app = typer.Typer(no_args_is_help=True, help="The small world that ships: wordings, prompts, models.")


class Role(StrEnum):
    policy = "policy"
    evaluator = "evaluator"


@app.command()
def build(
    role: Annotated[Role, typer.Option(help="Which of the two models.")],
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where; over the one that ships.")] = None,
) -> None:
    """Train one of the two models again, from random weights. It takes about half an hour on one core.

    Example: precept sandbox build --role policy --out /tmp/policy
    """
    command = [sys.executable, "-m", "sandbox.recipe", "--role", role.value]
    if out is not None:
        command += ["--out", str(out)]
    if code := subprocess.run(command).returncode:
        raise typer.Exit(130 if code < 0 else code)


@app.command()
def words(
    theme: Annotated[str, typer.Argument(metavar="[THEME]", help="One theme, with all its wordings.")] = "",
    as_json: Json = False,
) -> None:
    """What a principle can be about here, and in which words: the models understand principles made of these.

    Example: precept sandbox words sourced
    """
    from sandbox import themes

    if theme and theme not in themes.THEMES:
        raise UserError(f"the sandbox has no theme {theme!r}; it has {', '.join(themes.THEMES)}")
    if not theme:
        if as_json:
            put_json({name: _words(name) for name in themes.THEMES})
            return
        rows = [(name, "which reply " + of.good.shipped[0]) for name, of in themes.THEMES.items()]
        put_table(("theme", "for example"), rows)
        return
    if as_json:
        put_json(_words(theme))
        return
    for name, wordings in _words(theme).items():
        put(name)
        for wording in wordings:
            put(f"  {wording}")


def _words(theme: str) -> dict[str, list[str]]:
    """Wordings of each kind in their first frame, and the other frames."""
    from sandbox import themes

    of = themes.THEMES[theme]
    found: dict[str, list[str]] = {}
    for name, frames, phrases in (
        ("comparison", themes.COMPARISON_FRAMES, of.good),
        ("critique", themes.CRITIQUE_FRAMES, of.fault),
        ("revision", themes.REVISION_FRAMES, of.good),
    ):
        first, *others = dict.fromkeys(frame for role in frames.values() for frame in role)
        found[name] = [first.format(good=phrase, fault=phrase) for phrase in phrases]
        found[f"{name}, framed otherwise"] = [frame.format(good="...", fault="...") for frame in others]
    return found


@app.command()
def prompts(as_json: Json = False) -> None:
    """The prompts of the small world; with --json as JSONL that can be edited and read in again.

    Example: precept sandbox prompts --json > prompts.jsonl
    """
    from sandbox.prompts import prompts
    from service.queries.prompts import row

    for p in prompts():
        if as_json:
            typer.echo(json.dumps(row(p)))
        else:
            put(f"{p.split:<8} {p.tags[0]:<9} {p.messages[-1].content}")
