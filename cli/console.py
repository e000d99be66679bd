"""`precept console`: the web application on the run's own store, until Ctrl-C; and its accounts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cli.options import Json, SettingsFile, load, project, store_of
from cli.screen import put, put_json
from cli.serving import listening
from cli.tree import falling

app = typer.Typer(cls=falling("start", alone=True), help="The console: review, amend, watch and promote in a browser.")
people = typer.Typer(no_args_is_help=True, help="Who may sign in to the console.")
app.add_typer(people, name="accounts")
HERE = ("127.0.0.1", "::1", "localhost")


@app.command("start")
def console(
    host: Annotated[str, typer.Option(help="Where to listen; other machines need TLS before it.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8321,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in your browser.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Review, amend, watch and promote in a browser. The first start makes an admin, and prints a one-time link.

    Example: precept console --open
    """
    loaded = project(settings)
    import uvicorn

    from service.actions import accounts
    from service.jobs.watching import Watching
    from service.settings import prepare_process
    from web.app import LOOPBACK, create_app

    prepare_process(loaded)
    named = {*LOOPBACK, *loaded.console.hosts, *([host] if host not in ("0.0.0.0", "::") else [])}
    with listening(host, port) as socket, store_of(loaded) as store:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{socket.getsockname()[1]}/"
        first = accounts.first_admin(store)
        begin = f"{url}link/{first[1]}" if first else url
        if first:
            print(f"The account {first[0]!r} chooses its password here, once:\n\n  {begin}\n", file=sys.stderr)
        print(f"The console is at {url} until Ctrl-C.", file=sys.stderr)
        if host not in HERE:
            print("warning: it can be reached from elsewhere; put TLS before it (docs/console.md)", file=sys.stderr)
        if open_it:
            typer.launch(begin)
        made = create_app(loaded, store=store, hosts=named)
        config = uvicorn.Config(
            made,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
            proxy_headers=False,  # who asks is who is connected: a header would choose its own address
        )
        named_file = ["--settings", str(settings)] if settings else []
        with Watching(store, [sys.executable, "-m", "cli.main", "console", "work", *named_file]):
            uvicorn.Server(config).run(sockets=[socket])


@app.command()
def work(settings: SettingsFile = None) -> None:
    """Do what the console's pages ask of models, until nothing was asked for five minutes. The console starts it.

    Example: precept console work
    """
    loaded = project(settings)
    from service.jobs.worker import work as take

    take(loaded)


Name = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")]
Role = Annotated[str, typer.Argument(metavar="ROLE", help="reviewer, editor, approver or admin.")]
Url = Annotated[str, typer.Option("--url", help="Where the console is, for the link.")]
WHERE = "http://127.0.0.1:8321/"


@people.command("list")
def show(settings: SettingsFile = None, as_json: Json = False) -> None:
    """Who may sign in, and as what.

    Example: precept console accounts list
    """
    with store_of(load(settings)) as store:
        found = store.accounts()
    if as_json:
        put_json([{"name": a.name, "role": a.role, "disabled": a.disabled, "created": a.created} for a in found])
        return
    for a in found:
        put(f"{a.name}  {a.role}{'' if a.password else ', no password yet'}{', disabled' if a.disabled else ''}")
    if not found:
        put("no account yet: `precept console` makes the first one")


@people.command()
def add(name: Name, role: Role = "reviewer", url: Url = WHERE, settings: SettingsFile = None) -> None:
    """Make an account, and print the one-time link by which its owner chooses a password.

    Example: precept console accounts add ada reviewer
    """
    from service.actions import accounts

    with store_of(load(settings)) as store:
        put(f"{url.rstrip('/')}/link/{accounts.invite(store, name, role, accounts.COMMAND_LINE)}")


@people.command()
def link(name: Name, url: Url = WHERE, settings: SettingsFile = None) -> None:
    """Print a one-time link by which somebody chooses a new password: also for an admin who has lost theirs.

    Example: precept console accounts link ada
    """
    from service.actions import accounts

    with store_of(load(settings)) as store:
        put(f"{url.rstrip('/')}/link/{accounts.link(store, name, accounts.COMMAND_LINE)}")


@people.command()
def role(name: Name, role: Role, settings: SettingsFile = None) -> None:
    """Give an account another role.

    Example: precept console accounts role ada approver
    """
    from service.actions import accounts

    with store_of(load(settings)) as store:
        accounts.change_role(store, name, role, accounts.COMMAND_LINE)


@people.command()
def disable(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Enable it again.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Keep somebody out: sessions and tokens end at once. Nothing that they did is taken back.

    Example: precept console accounts disable ada
    """
    from service.actions import accounts

    with store_of(load(settings)) as store:
        accounts.disable(store, name, accounts.COMMAND_LINE, not undo)
