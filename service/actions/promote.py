"""Which checkpoint a server should run: promoting one by hand, going back to the one before, and an adapter's weights
merged into the model they were trained on.

The gate of a run promotes by itself (`service/work/deciding.py`). Here somebody acts, and says why.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitution.errors import UserError

if TYPE_CHECKING:
    from constitution.records import Checkpoint
    from storage.store import Store

MERGED = "merged"  # of a promotion's evidence: the folder of full weights that the link points to
POINTER = "promoted"  # a link in the settings' home, which a server can watch


@dataclass(frozen=True)
class Promoted:
    """What is promoted now. `link` points to `folder`: the checkpoint's own, or that of its merged weights."""

    checkpoint: Checkpoint
    link: Path
    folder: Path

    def as_dict(self) -> dict[str, Any]:
        now = self.checkpoint
        return {"promoted": now.id.hex(), "digest": now.digest, "path": now.path, "link": str(self.link)}


@dataclass(frozen=True)
class Merged:
    """A model's full weights, in a folder with a manifest of its own. `checkpoint`: what was merged, where the store
    knows it."""

    checkpoint: Checkpoint | None
    folder: Path
    digest: str

    def as_dict(self) -> dict[str, Any]:
        ident = self.checkpoint.id.hex() if self.checkpoint else None
        return {"checkpoint": ident, "path": str(self.folder), "digest": self.digest}


def promote(
    store: Store, home: Path, name: str, who: str, why: str, merged: Path | None = None, key: str = ""
) -> Promoted:
    """Make a checkpoint the promoted one and move the link to it. `merged`: a folder that its full weights are written
    to first; the link then points there.

    A server will load it, so every file has to be what its manifest says. Raises UserError where one is not, where no
    reason is given, and where its constitution was never ratified.
    """
    _reason(why)
    checkpoint = store.checkpoint(name)
    _whole(checkpoint)
    folder = Path(checkpoint.path)
    evidence = _proposal(store, checkpoint)
    if merged is not None:
        folder = merge(store, name, merged).folder.absolute()
        evidence |= {MERGED: store.kept_path(folder)}
    store.promote(checkpoint, who, why, key=_key(key), evidence=evidence)
    return _move(home, checkpoint, folder)


def _proposal(store: Store, checkpoint: Checkpoint) -> dict[str, Any]:
    """What had been proposed, where this promotion confirms it."""
    event = store.proposal()
    return {"proposal": event.id} if event is not None and event.payload["digest"] == checkpoint.digest else {}


def roll_back(store: Store, home: Path, who: str, why: str, key: str = "") -> Promoted:
    """Promote what was promoted before, and move the link: to its merged weights, where it was promoted with some.
    Raises UserError where there is no earlier promotion, no reason is given, or a file of what was promoted before is
    missing or altered: a server would load it."""
    _reason(why)
    before, merged = store.before_promoted(), None
    if before is not None:
        try:
            _whole(before)
            if (merged := _merged(store, before)) is not None:
                _sound(merged)
        except UserError as error:
            said = f"nothing was rolled back: {error}; or choose another (precept model promote ID)"
            raise UserError(said) from error
    checkpoint = store.roll_back(who, why, key=_key(key))
    return _move(home, checkpoint, merged or Path(checkpoint.path))


def _merged(store: Store, checkpoint: Checkpoint) -> Path | None:
    """The folder of full weights that a checkpoint's last promotion named, where it named one: a server that watches
    the link may read no adapter."""
    said = [e.payload for e in store.promotions() if e.payload.get("digest") == checkpoint.digest]
    kept = said[-1].get("evidence", {}).get(MERGED) if said else None
    return Path(store.found_path(kept)) if kept else None


def merge(store: Store, name: str, out: Path) -> Merged:
    """Write a LoRA checkpoint, or an adapter in a folder or a package (sandbox:x), as a folder of full weights. Raises
    UserError where it has none to merge, or the folder is there already."""
    from pipeline.models.merging import merge as write_merged
    from pipeline.plugins import packaged_model

    known = next((c for c in store.checkpoints() if c.path == name), None)
    given = packaged_model(name) or (name if known is None and Path(name, "adapter_config.json").is_file() else None)
    checkpoint = None if given else store.checkpoint(name)
    folder = Path(given) if given else Path(checkpoint.path if checkpoint else name)
    if given and not (folder / "adapter_config.json").is_file():
        raise UserError(f"{name}: there is no adapter to merge, its weights are whole already")
    return Merged(checkpoint, out, write_merged(folder, out).digest)


def _reason(why: str) -> None:
    if not why.strip():
        raise UserError("say why, for those who come after: --why TEXT")


def _whole(checkpoint: Checkpoint) -> None:
    _sound(Path(checkpoint.path))


def _sound(folder: Path) -> None:
    from pipeline.models.checkpoint import verify

    verify(folder)


def _move(home: Path, checkpoint: Checkpoint, folder: Path) -> Promoted:
    from storage.artifacts import point

    link = home / POINTER
    point(link, folder)
    return Promoted(checkpoint, link, folder)


def _key(given: str = "") -> str:
    """`given`: the caller's own, so that a form that is sent twice is one act."""
    return f"promote:{given or secrets.token_hex(16)}"
