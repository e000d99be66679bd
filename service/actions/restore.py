"""Going back to an earlier text of the constitution: over its file, byte for byte, and where a reason is given in force
again. No model is asked."""

from __future__ import annotations

import codecs
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitution.errors import UserError

if TYPE_CHECKING:
    from service.actions.working_copy import Followed
    from storage.amendments import Amendment
    from storage.store import Store


@dataclass(frozen=True)
class Restored:
    """`ratified`: the amendment that this made, if it made one. `in_force`: whether the text is in force now.
    `written`: whether the file was changed; it may have had the text already."""

    file: Path
    wanted: Amendment
    ratified: Amendment | None
    in_force: bool
    written: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "file": str(self.file), "amendment": self.wanted.number, "version": self.wanted.version,
            "ratified": self.ratified.number if self.ratified else None, "in_force": self.in_force,
            "written": self.written,
        }  # fmt: skip


def restore(
    store: Store,
    revision: str,
    file: Path,
    who: str,
    message: str = "",
    told: Callable[[Amendment], object] = lambda amendment: None,
) -> Restored:
    """Write the text of an amendment over a file; with a message ratify it first. `told` is called as soon as the
    amendment is in force, whatever becomes of the file.

    Raises UserError, and changes nothing, where the file holds text that was never ratified, and Superseded where
    somebody ratified meanwhile.
    """
    from storage.artifacts import write_text

    wanted, past = store.amendment(revision), store.amendments()
    found = _bytes(file)
    if found is not None and not _was_ratified(found, past):
        raise UserError(
            f"{file} holds text that was never ratified, so it is left as it is. Copy it away first, or ratify it: "
            f"precept constitution amend {shlex.quote(str(file))} --ratify -m WHY"
        )
    made = None
    in_force = past[-1].text == wanted.text
    if message.strip() and not in_force:
        made, in_force = _ratify(store, wanted, past[-1], who, message), True
        told(made)
    written = found != wanted.text.encode()
    if written:
        write_text(file.resolve(), wanted.text)  # through a link, which stays
    return Restored(file, wanted, made, in_force, written)


def put_back(store: Store, revision: str, file: Path, who: str, message: str, seen: str) -> tuple[Amendment, Followed]:
    """Put the text of an earlier amendment in force again, for whoever has no file in hand: the store first, and the
    file only where it said what was in force until now. `seen`: the event of the amendment that they were shown as in
    force. The same again is one amendment.

    Raises UserError, and changes nothing, without a reason, and Superseded where somebody ratified meanwhile.
    """
    from service.actions import working_copy
    from storage.amendments import Superseded

    if not message.strip():
        raise UserError("an amendment has a reason that later readers will look for: say why")
    wanted, past = store.amendment(revision), store.amendments()
    if past[-1].text == wanted.text:
        before = past[-2].text if len(past) > 1 else None
        return past[-1], working_copy.follow(file, before, wanted.text)
    if past[-1].event != seen:
        raise Superseded(past[-1])
    made = _ratify(store, wanted, past[-1], who, " ".join(message.split()))
    return made, working_copy.follow(file, past[-1].text, wanted.text)


def _ratify(store: Store, wanted: Amendment, now: Amendment, who: str, message: str) -> Amendment:
    from storage.amendments import amendment_key

    key = amendment_key(now.event, wanted.text, message)
    event = store.ratify(wanted.version, who, message, key, text=wanted.text, after=now.event)
    return next(a for a in store.amendments() if a.event == event.id)


def _bytes(path: Path) -> bytes | None:
    """What a file holds; None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Check the path and its permissions.") from None


def _was_ratified(data: bytes, past: Sequence[Amendment]) -> bool:
    """Whether a file's text was ever ratified; a mark at its beginning, and which line breaks it has, are no text."""
    text = data.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    return any(text == a.text.encode().replace(b"\r\n", b"\n") for a in past)
