"""`precept model serve`: a checkpoint behind the OpenAI protocol, until Ctrl-C."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import completing
from cli.options import Json, SettingsFile, load, store_of
from cli.screen import put, put_json
from constitution.errors import UserError

if TYPE_CHECKING:
    from service.settings import Settings

KEY = "PRECEPT_SERVE_KEY"
HERE = ("127.0.0.1", "::1", "localhost")
CONNECTIONS = 1024  # more are answered 503
GRACE = 3  # seconds that a stopped server gives what it is answering


def serve(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A folder, a checkpoint's id or its first digits, or promoted.",
            autocompletion=completing.checkpoints,
        ),
    ] = "promoted",
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    name: Annotated[str, typer.Option(help="The model's name for clients; the folder's without it.")] = "",
    dtype: Annotated[str, typer.Option(help="float32, or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Texts that are computed together, at most.")] = 64,
    queue: Annotated[
        int, typer.Option("--queue", min=1, help="Texts that may wait or be at work; more are answered 429.")
    ] = 512,
    api_key_env: Annotated[
        str, typer.Option("--api-key-env", metavar="NAME", help="The variable that holds the key that clients show.")
    ] = KEY,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Answer the OpenAI protocol for a checkpoint, so that lm-eval, Inspect and other clients can ask it.

    Example: precept model serve promoted --port 8000
    """
    from service.settings import prepare_process

    loaded = load(settings)
    prepare_process(loaded)
    import uvicorn

    from pipeline.engines.engine import EngineSettings
    from pipeline.serving import app
    from pipeline.serving.model import load as load_model

    key = _key(host, api_key_env)
    folder = _folder(model, loaded)
    engine = EngineSettings(model=folder, dtype=dtype, device=device, batch_size=batch)
    with listening(host, port) as bound:
        serving = app.Serving(load_model(engine), name or Path(folder).resolve().name, key, queue)
        where, at = bound.getsockname()[1], f"[{host}]" if ":" in host else host
        url = f"http://{at}:{where}/v1"
        if as_json:
            put_json({"url": url, "model": serving.name, "folder": folder, "context": serving.model.context})
        else:
            put(f"{serving.name} is served at {url} ({'with a key' if key else 'for this machine alone'})")
        sys.stdout.flush()  # whoever started it waits for the line
        config = uvicorn.Config(
            app.build(serving),
            log_level="warning",
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE,
            timeout_keep_alive=15,
            server_header=False,
            ws="none",
        )
        uvicorn.Server(config).run(sockets=[bound])


def _folder(model: str, settings: Settings) -> str:
    """The folder that a name stands for. Raises UserError."""
    from pipeline import plugins

    if packaged := plugins.packaged_model(model):
        return packaged
    if model != "promoted" and Path(model).is_dir():
        return model
    with store_of(settings) as store:
        path: str = store.checkpoint(model).path
    return path


def _key(host: str, variable: str) -> str:
    """The key that clients have to show; none is needed where only this machine can ask. Raises UserError."""
    from pipeline.keys import secret

    found = secret(variable)
    key = found.get_secret_value() if found else ""
    if not key and host not in HERE:
        raise UserError(
            f"at {host} others can reach the server, and {variable} holds no key for them to show: set it to a long "
            "random text, or listen at 127.0.0.1"
        )
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise UserError(f"{variable} holds a character that no key has (a line break, perhaps); set it again")
    return key


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket there. Raises UserError where there can be none."""
    try:
        [family, *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise UserError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}; name another --port"
        ) from None
    with found:
        yield found
