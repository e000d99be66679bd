"""`precept schedule`: a flow on a cron schedule, or on ratification, as a Prefect deployment."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import Json, Set, SettingsFile, flags_of, load
from cli.screen import put, put_json


def schedule(
    flow: Annotated[str, typer.Argument(metavar="[FLOW]", help="A flow by name.")] = "improve",
    cron: Annotated[str, typer.Option("--cron", metavar="LINE", help="Minute, hour, day, month, weekday.")] = "",
    on_ratify: Annotated[
        bool, typer.Option("--on-ratify", help="As soon as an amendment is ratified in this store.")
    ] = False,
    timezone: Annotated[str, typer.Option("--timezone", help="For example Europe/Berlin.")] = "UTC",
    settings: SettingsFile = None,
    set_: Set = None,
    name: Annotated[str, typer.Option("--name", help="The deployment's; again, it is replaced.")] = "scheduled",
    as_json: Json = False,
) -> None:
    """Put a flow on a schedule, or have a ratification start it. A slot is a run; one that fires twice is one run.

    Example: precept schedule retrain --on-ratify --cron "0 2 * * *" --timezone Europe/Berlin
    """
    from flows.environment import quiet_prefect

    flags = flags_of(set_)
    loaded = load(settings, flags)  # a mistake in them is told now, not at night
    quiet_prefect()

    from flows.schedule import WORKER, register

    store = loaded.store.get_secret_value() if on_ratify else ""
    done = register(flow, cron, ratified_in=store, timezone=timezone, name=name, file=settings, flags=flags)
    if as_json:
        put_json(
            {
                "deployment": done.deployment, "id": done.id, "server": done.server, "worker": WORKER,
                "on_ratify": done.on or None,
            }
        )  # fmt: skip
        return
    if cron:
        put(f"scheduled {done.deployment} at {cron!r} ({timezone}) on {done.server}")
    if done.on:
        put(f"an amendment that is ratified in this store ({done.on}) starts {done.deployment} on {done.server}")
    put(f"a worker carries it out, in this environment and on this machine: {WORKER}")
    put(f"to see it run now: prefect deployment run {done.deployment}")
