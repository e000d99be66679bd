"""`precept engine`: vLLM's servers for whoever has none: made, started, looked at, ended."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import completing
from cli.options import Json, Quiet, Set, SettingsFile, flags_of, load
from cli.screen import put, put_json, put_table, took
from cli.text import visible
from constitution.errors import UserError

if TYPE_CHECKING:
    from service.actions.engines import Standing, Up
    from service.settings import Settings

app = typer.Typer(no_args_is_help=True, help="vLLM's servers: start a model, see how they are, end them.")
LINE_EVERY = 10.0  # seconds between lines where there is no terminal
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Servers by name; all.")]


@app.command("install")
def install(
    for_: Annotated[
        str, typer.Option("--for", metavar="KIND", help="cpu or cuda (NVIDIA's GPUs); what this machine has.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Make vLLM's own environment, once: from a lock file, under ~/.cache/precept.

    Example: precept engine install
    """
    from cli.screen import tell
    from service.vllm import environment

    kind = for_ or environment.fitting()
    if kind not in environment.KINDS:
        raise UserError(f"--for {kind}: write cpu or cuda")
    python = environment.make(kind, tell)
    put_json({"for": kind, "python": str(python)}) if as_json else put(str(python))


@app.command("up", context_settings={"allow_extra_args": True})
def up(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A role of the settings, a checkpoint's id, promoted, a folder, or a name on the hub.",
            autocompletion=completing.checkpoints,
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="What the server is called; after the model.")] = "",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Its port; the first free one from 8000.")] = 0,
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICES", help="auto, cpu, or GPUs by number: 0, or 0,1 for both.")
    ] = "auto",
    lora: Annotated[
        list[str] | None,
        typer.Option("--lora", metavar="[NAME=]CHECKPOINT", help="A LoRA checkpoint of that model, too; repeatable."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address that it listens on.")] = "127.0.0.1",
    dtype: Annotated[
        str, typer.Option("--dtype", help="Number format; the role's, else float32 on a CPU, bfloat16 on a GPU.")
    ] = "",
    python: Annotated[
        Path | None, typer.Option("--python", metavar="PATH", help="The Python of a vLLM that is installed already.")
    ] = None,
    dev: Annotated[
        bool, typer.Option("--dev", help="Open the routes that change weights; on this machine alone.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds that it may take to start.")] = 900.0,
    settings: SettingsFile = None,
    set_: Set = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Start a server and wait until it gave a token; print the settings that use it. Words after -- are vLLM's own.

    Example: precept engine up promoted --port 8001 -- --max-model-len 4096
    """
    from service.actions import engines
    from service.wiring import Wiring

    asked = engines.Asked(
        model, name, port, device, host, dtype, _adapters(lora), str(python or ""), dev, timeout, context.args
    )
    loaded = load(settings, flags_of(set_))
    wiring = Wiring(loaded)
    try:
        with _waiting(name or model, quiet) as say:
            found = engines.up(wiring, asked, say)
    finally:
        wiring.close()
    put_json(found.as_dict()) if as_json else _show(found)


@app.command("status")
def status(names: Names = None, settings: SettingsFile = None, as_json: Json = False) -> None:
    """How the servers are: each is asked for a token. The exit code is 1 where one does not give it.

    Example: precept engine status
    """
    from service.actions import engines

    found = engines.status(_home(settings), names or ())
    if as_json:
        put_json([each.as_dict() for each in found])
    elif not found:
        put("no server was started here: precept engine up MODEL")
    else:
        columns = ("server", "state", "serves", "at", "device", "memory", "up since (UTC)")
        put_table(columns, [_row(each) for each in found], right=("memory",))
        for each in found:
            if each.wrong:
                put(f"{each.server.name}: {each.wrong}")
    if any(each.wrong for each in found):
        raise typer.Exit(1)


@app.command("down")
def down(names: Names = None, settings: SettingsFile = None, as_json: Json = False) -> None:
    """End servers with all their processes, within ten seconds each: those that are named, or all.

    Example: precept engine down
    """
    from service.actions import engines

    ended = engines.down(_home(settings), names or ())
    if as_json:
        put_json([each.as_dict() for each in ended])
        return
    for each in ended:
        how = f"ended in {took(each.seconds)}" if each.was_up else "was gone already, and is forgotten"
        put(f"{each.server.name}: {how}; its log: {each.server.log}")
    if not ended:
        put("no server was started here")


def _home(file: Path | None) -> Path:
    loaded: Settings = load(file)
    return loaded.home


def _adapters(given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given or ():
        name, equals, checkpoint = each.partition("=")
        checkpoint = checkpoint if equals else name
        name = name if equals else Path(name).name
        if not name or not checkpoint or name in found:
            raise UserError(f"--lora {each}: write NAME=CHECKPOINT, each name once")
        found[name] = checkpoint
    return found


@contextmanager
def _waiting(name: str, quiet: bool) -> Iterator[Any]:
    """Says how long it takes and what the server does: one line that changes on a terminal, a line now and then
    elsewhere."""
    terminal, said = sys.stderr.isatty() and not quiet, [time.monotonic()]

    def say(seconds: float, stage: str) -> None:
        line = visible(f"  {name}: starting, {took(seconds)}: {stage or 'nothing said yet'}")
        if terminal:
            print(f"\r{line[:100]:<100}", end="", file=sys.stderr, flush=True)
        elif not quiet and time.monotonic() - said[0] >= LINE_EVERY:
            said[0] = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    try:
        yield say
    finally:
        if terminal:
            print(f"\r{'':<100}\r", end="", file=sys.stderr, flush=True)


def _show(found: Up) -> None:
    server = found.server
    put(f"{server.name} answers at {server.url}, after {took(found.seconds)}; its log: {server.log}")
    put("\nsettings that use it:\n")
    put(toml_of(found.settings))
    put("\nor for one command:\n")
    put("  " + " ".join(f"--set {shlex.quote(f'{name}={_value(value)}')}" for name, value in found.settings.items()))
    put(f"\nit runs until: precept engine down {server.name}")


def toml_of(settings: Mapping[str, Any]) -> str:
    """Dotted settings of one role as a section of precept.toml."""
    role = next(iter(settings)).partition(".")[0]
    lines = [f"{name.partition('.')[2]} = {json.dumps(value)}" for name, value in settings.items()]
    return "\n".join([f"[{role}]", *lines])


def _value(value: Any) -> str:
    return json.dumps(value)


def _row(each: Standing) -> tuple[str, ...]:
    server = each.server
    memory = f"{each.memory / 2**30:.1f} GiB"
    if each.gpu_memory is not None:
        memory += f", {each.gpu_memory / 2**30:.1f} on GPUs"
    serves = ", ".join(each.serves) or server.model
    state = (server.name, each.state, serves, server.url)
    return (*state, server.devices or "-", memory, server.started[:19].replace("T", " "))
