"""Where files lie: what is inside the home folder is stored relative to it, so that a copied folder works.

A home is the folder that the settings name, of checkpoints, data sets and reports. Two forms go in and out:

    kept    checkpoints/dpo-3f2a...         what the store holds: POSIX, relative to the home; absolute outside of it
    found   /data/runs/checkpoints/dpo-...  what a program opens

Beside paths there are names (of a model on a server, of a starter): they come back as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from storage.database import Database

# What precept makes in a home: a checkpoint's folder, and the folder of a run. A relative path like these is a kept
# one, whether or not the file is still there.
CHECKPOINT = re.compile(r"checkpoints/[a-z0-9_]+-[0-9a-f]{16}")
_MADE = re.compile(rf"({CHECKPOINT.pattern}|datasets|[0-9a-f]{{12}})(/.*)?")


# Of records that are read whole (a run's settings and result, a decision, a point of a sweep): what names a file there.
FILES = ("model", "policy", "report", "picture")


class Paths(Database):
    def kept_path(self, path: str | Path) -> str:
        """What to store for an absolute path: relative where it is inside the home. Other texts stay as they are."""
        given = Path(path)
        if self.home is not None and given.is_absolute():
            plain = [given] if ".." not in given.parts else []  # a folder in the home may itself be a link elsewhere
            for place in (*plain, given.parent.resolve() / given.name):
                for home in (self.home, self._written):
                    if place != home and place.is_relative_to(home):
                        return place.relative_to(home).as_posix()
        return str(path)

    def found_path(self, kept: str) -> str:
        """The absolute path that `kept_path` was given, in the home that the store was opened with.

        A relative text that is not the path of anything in the home is a name, or a path by the working directory: it
        stays as it is. So does every text of a store that was opened without a home.
        """
        if self.home is None or PurePosixPath(kept).is_absolute() or not kept or "\0" in kept:
            return kept
        inside = self.home / kept
        return str(inside) if _MADE.fullmatch(kept) or inside.exists() else kept

    def _found_checkpoint(self, kept: str) -> str:
        """As `found_path`, of what is surely a path."""
        return kept if self.home is None else str(self.home / kept)

    def _kept_record(self, record: Any) -> Any:
        """A record with the files that it names as the store holds them."""
        return _with_files(record, self.kept_path)

    def _found_record(self, record: Any) -> Any:
        """A record with the files that it names as a program opens them."""
        return _with_files(record, self.found_path)


def _with_files(record: Any, change: Callable[[str], str]) -> Any:
    if not isinstance(record, Mapping):
        return record
    named: dict[str, Any] = {name: change(record[name]) for name in FILES if isinstance(record.get(name), str)}
    if isinstance(record.get("points"), list):
        named["points"] = [_with_files(point, change) for point in record["points"]]
    return {**record, **named} if named else record
