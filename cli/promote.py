"""`precept promote`: by hand what the gate does by itself; roll back; and who did so, when and why."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, SettingsFile, load, store_of
from cli.screen import put, put_json, put_table
from constitution.errors import UserError

if TYPE_CHECKING:
    from constitution.records import Checkpoint
    from storage.store import Store

POINTER = "promoted"  # a link in the settings' home, which a server can watch


def promote(
    checkpoint: Annotated[
        str, typer.Argument(metavar="[CHECKPOINT]", help="Its folder, or the first digits of its id or digest.")
    ] = "",
    why: Annotated[str, typer.Option("--why", help="The reason, kept for good.")] = "",
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to what was promoted before.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Every promotion so far.")] = False,
    merge: Annotated[Path | None, typer.Option(metavar="OUT", help="Full weights of a LoRA checkpoint.")] = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Make a checkpoint the promoted one, and move the link `promoted` to it.

    Example: precept promote 3f2a --why "reviewed by hand"
    """
    from service.settings import process_user

    loaded = load(settings)
    with store_of(loaded) as store:
        if list_:
            _list(store, as_json)
            return
        if bool(checkpoint) == rollback:
            raise UserError("name a checkpoint, or write --rollback: precept promote CHECKPOINT --why TEXT")
        if rollback and merge is not None:
            raise UserError("--merge goes with a checkpoint, not with --rollback")
        if not why.strip():
            raise UserError("say why, for those who come after: --why TEXT")
        if rollback:
            now = store.roll_back(process_user(), why, key=_key())
        else:
            now = store.checkpoint(checkpoint)
            _whole(now)
            if merge is not None:
                _merge(now, merge)
            store.promote(now, process_user(), why, key=_key())
        link = Path(loaded.home) / POINTER
        _move(link, merge if merge is not None else Path(now.path))
    if as_json:
        put_json({"promoted": now.id.hex(), "digest": now.digest, "path": now.path, "link": str(link)})
    else:
        put(f"promoted {now.id.hex()[:12]}: {link} -> {now.path if merge is None else merge}")


def _list(store: Store, as_json: bool) -> None:
    history = [
        {
            "at": e.at, "who": e.who, "what": "roll-back" if e.kind == "roll_back" else "promotion",
            "digest": e.payload.get("to") or e.payload["digest"], "why": e.payload["why"],
        }
        for e in store.promotions()
    ]  # fmt: skip
    if as_json:
        put_json(history)
        return
    paths = {c.digest: c.path for c in store.checkpoints()}
    rows = [(h["at"][:19], h["who"], h["what"], paths.get(h["digest"], h["digest"][:12]), h["why"]) for h in history]
    put_table(("at (UTC)", "who", "what", "checkpoint", "why"), rows)


def _whole(checkpoint: Checkpoint) -> None:
    """A server will load it: every file has to be what its manifest says. Raises UserError otherwise."""
    from pipeline.trainers.checkpoint import verify

    verify(Path(checkpoint.path))


def _merge(checkpoint: Checkpoint, out: Path) -> None:
    from pipeline.trainers.checkpoint import merge

    merge(Path(checkpoint.path), out)


def _move(link: Path, folder: Path) -> None:
    from storage.artifacts import point

    point(link, folder)


def _key() -> str:
    return f"promote:{secrets.token_hex(16)}"
