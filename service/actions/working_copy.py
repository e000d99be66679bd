"""The file of principles beside the store: what is in force is the store's, and the file is what runs here read.

An amendment that was made without the file (in a page) is written into it only where the file said what was in force
until then. Anything else in it is somebody's work, and stays.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from constitution.errors import UserError
from storage.artifacts import write_text

State: TypeAlias = Literal["same", "other", "absent", "unreadable"]
After: TypeAlias = Literal["written", "same", "left", "absent", "unwritable"]


@dataclass(frozen=True)
class Followed:
    """What became of the file after an amendment; `says`: that in a sentence, with what to do."""

    file: Path
    state: After
    says: str

    def as_dict(self) -> dict[str, Any]:
        return {"file": str(self.file), "state": self.state, "says": self.says}


def compare(file: Path, text: str) -> State:
    """Whether a file says a text; a mark at its beginning, and which line breaks it has, are no text."""
    try:
        found = file.read_bytes()
    except FileNotFoundError:
        return "absent"
    except (OSError, ValueError):  # a folder, no permission, a name that no file can have
        return "unreadable"
    return "same" if _plain(found) == _plain(text.encode("utf-8", errors="replace")) else "other"


def before(file: Path, text: str) -> str:
    """How file and what is in force relate, in a sentence: shown before anybody ratifies."""
    return {
        "same": f"{file} says what is in force. When a draft is ratified here, the file is written, too.",
        "other": f"{file} says something else than what is in force: somebody edits it. When a draft is ratified here, "
        "the file is left as it is.",
        "absent": f"There is no file {file} here: what is in force is kept in the store alone.",
        "unreadable": f"{file} cannot be read here. What is in force is kept in the store.",
    }[compare(file, text)]


def follow(file: Path, old: str | None, new: str) -> Followed:
    """Write the text that is in force now over a file that said the one before (None: nothing was in force)."""
    state = compare(file, new)
    if state == "same":
        return Followed(file, "same", f"{file} says it already.")
    if state == "absent":
        return Followed(file, "absent", f"There is no file {file} here, and none was made: the store has the text.")
    if state == "unreadable" or old is None or compare(file, old) != "same":
        return Followed(
            file, "left",
            f"{file} held something else than what was in force, so it was left as it is. Runs here read that file: "
            f"precept constitution amend {file} --merge brings the amendment into it",
        )  # fmt: skip
    try:
        write_text(file.resolve(), new)  # through a link, which stays
    except (OSError, UserError) as error:
        return Followed(
            file, "unwritable",
            f"The amendment is in force, and {file} could not be written ({error}): precept constitution restore "
            "ratified writes it",
        )  # fmt: skip
    return Followed(file, "written", f"{file} was written, too: runs here read it.")


def _plain(data: bytes) -> bytes:
    return data.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
