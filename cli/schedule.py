"""`precept schedule`: a flow on a cron schedule, or on ratification, as a Prefect deployment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, Set, SettingsFile, flags_of, load
from cli.screen import put, put_json, put_table
from cli.tree import falling

if TYPE_CHECKING:
    from flows.schedule import Deployed

app = typer.Typer(
    cls=falling("add", was="schedule FLOW"),
    no_args_is_help=True,
    help="Flows that run by themselves, on a Prefect server.",
)


@app.command()
def add(
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

    Example: precept schedule add retrain --on-ratify --cron "0 2 * * *" --timezone Europe/Berlin
    """
    from contextlib import closing

    from service import preflight
    from service.wiring import Wiring

    flags = flags_of(set_)
    loaded = load(settings, flags)  # a mistake in them is told now, not at night
    with closing(Wiring(loaded)) as wiring:
        preflight.check(flow, wiring, pool=False)

    from flows.environment import quiet_prefect

    quiet_prefect()

    from flows.schedule import WORKER, register, upcoming

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
        put(f"the next times: {', '.join(upcoming(cron, timezone))}")
    if done.on:
        put(f"an amendment that is ratified in this store ({done.on}) starts {done.deployment} on {done.server}")
    put(f"a worker carries it out, in this environment and on this machine: {WORKER}")
    put(f"to see it run now: prefect deployment run {done.deployment}")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """What is scheduled on the Prefect server: when each flow runs, where, and with which settings.

    Example: precept schedule list
    """
    from flows.environment import quiet_prefect

    quiet_prefect()

    from flows.schedule import scheduled

    found = scheduled()
    if as_json:
        put_json([each.as_dict() for each in found])
        return
    columns = ("deployment", "cron", "timezone", "next", "on ratification", "folder", "settings")
    put_table(columns, [_row(each) for each in found])


@app.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="As `schedule list` names it: improve/scheduled.")],
    as_json: Json = False,
) -> None:
    """Take a flow off its schedule, and off ratifications. The runs that it made stay.

    Example: precept schedule remove improve/scheduled
    """
    from flows.environment import quiet_prefect

    quiet_prefect()

    from flows.schedule import remove

    gone = remove(name)
    put_json(gone.as_dict()) if as_json else put(f"{gone.deployment} is not scheduled any more")


def _row(of: Deployed) -> tuple[str, ...]:
    flags = [f"{name}={json.dumps(value)}" for name, value in of.flags.items()]
    return (
        of.deployment, of.cron or "-", of.timezone or "-", of.next[0] if of.next else "-",
        "yes" if of.on_ratify else "no", of.folder,
        " ".join([*([of.file] if of.file else []), *flags]) or "-",
    )  # fmt: skip
