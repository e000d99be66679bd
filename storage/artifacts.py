"""Files that are whole or not there: atomic writing, and the link that a server watches.

Leaves out what is in the files: trainers write checkpoint folders, flows write reports and exports.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from constitution.errors import UserError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Put `data` at `path` in one step: a reader sees the old file or the new one, and so does a crash.

    Raises UserError when the disk is full or the folder cannot be written; the old file is then as it was.
    """
    target = Path(path)
    with _told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                os.fsync(file.fileno())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


def write_lines(folder: str | Path, lines: Iterable[str], name: Callable[[str], str]) -> tuple[Path, str, int]:
    """However many lines of ASCII as a file of a folder, `name`d by its SHA-256 and there in one step; the file, its
    digest and how many lines it has. Nothing is written where there are none. Raises as `write_bytes` does."""
    folder, sha, count = Path(folder), hashlib.sha256(), 0
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=folder, prefix=".lines.")
        try:
            with os.fdopen(handle, "wb") as file:
                for line in lines:
                    data = line.encode("ascii") + b"\n"
                    sha.update(data)
                    file.write(data)
                    count += 1
                file.flush()
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                os.fsync(file.fileno())
            target = folder / name(sha.hexdigest())
            if count:
                Path(scratch).replace(target)
        finally:
            Path(scratch).unlink(missing_ok=True)
        _sync_folder(folder)
    return target, sha.hexdigest(), count


def write_text(path: str | Path, text: str) -> None:
    """`write_bytes` of UTF-8. Lone surrogates, which UTF-8 does not have, become `?`."""
    write_bytes(path, text.encode("utf-8", errors="replace"))


# --- the pointer that a server watches -----------------------------------------------------------------------------


def point(link: str | Path, folder: str | Path) -> None:
    """Make `link` a symbolic link to `folder`, in one step. Raises UserError where `link` is a real file or folder."""
    link, folder = Path(link), Path(folder)
    if link.exists() and not link.is_symlink():
        raise UserError(f"{link} is not a link, so it is left alone; move it away, or point elsewhere")
    with _told(link):
        link.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=link.parent, prefix=f".{link.name}."))
        try:
            new = scratch / link.name
            new.symlink_to(os.path.relpath(folder.resolve(), link.parent.resolve()), target_is_directory=True)
            new.replace(link)
        finally:
            shutil.rmtree(scratch)
        _sync_folder(link.parent)


# --- the disk ------------------------------------------------------------------------------------------------------


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise UserError(
                f"no room to write {path}: {error.strerror}; make room on the disk and run again"
            ) from error
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    """Put a rename on disk: a crash of the machine may otherwise forget it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
