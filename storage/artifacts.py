"""Files that are whole or not there: atomic writing, a folder's manifest, and the link that a server watches.

Leaves out what is in the files: trainers write checkpoint folders, flows write reports and exports.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from constitution.records import canonical

MANIFEST = "manifest.json"
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})
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


def write_text(path: str | Path, text: str) -> None:
    """`write_bytes` of UTF-8. Lone surrogates, which UTF-8 does not have, become `?`."""
    write_bytes(path, text.encode("utf-8", errors="replace"))


def write_json(path: str | Path, value: Any) -> None:
    """`write_bytes` of ASCII JSON that people can read: sorted keys, indented. Raises ValueError on NaN."""
    text = json.dumps(json.loads(canonical(value)), indent=2, sort_keys=True)
    write_bytes(path, (text + "\n").encode("ascii"))


class Artifacts:
    """A folder of files by run: `artifacts.folder(run)` is that run's own, made when asked for."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def folder(self, run: bytes) -> Path:
        """The folder of a run. Raises UserError when it cannot be made."""
        folder = self.root / "runs" / run.hex()
        with _told(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder


# --- manifests -----------------------------------------------------------------------------------------------------


def manifest(folder: str | Path) -> dict[str, str]:
    """SHA-256 (hex) of every file under a folder but its manifest, by relative path. Raises UserError on a pickle
    or a link: a folder that is published holds neither."""
    root = Path(folder)
    files: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            raise UserError(f"{path} is a link; a checkpoint folder holds plain files only")
        if path.is_file() and path.suffix.lower() in PICKLES:
            raise UserError(f"{path} may be a pickle, which can run code when it is loaded; save safetensors instead")
        if path.is_file() and name != MANIFEST:
            with path.open("rb") as file:
                files[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return files


def digest(files: Mapping[str, str]) -> str:
    """SHA-256 (hex) of a manifest: what the folder really holds."""
    return hashlib.sha256(canonical(dict(files)).encode("ascii")).hexdigest()


def write_manifest(folder: str | Path) -> str:
    """Write the manifest, last of all: a folder without one does not count. Returns its digest."""
    files = manifest(folder)
    write_json(Path(folder) / MANIFEST, {"digest": digest(files), "files": files})
    return digest(files)


def check_manifest(folder: str | Path) -> str:
    """The digest of a folder whose files are what its manifest says. Raises UserError otherwise."""
    root = Path(folder)
    try:
        said = json.loads((root / MANIFEST).read_text("utf-8"))
        promised = dict(said["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{root} has no readable {MANIFEST}, so it is not a whole checkpoint: run again, or choose another"
        ) from error
    found = manifest(root)
    differing = sorted(name for name in promised.keys() | found.keys() if promised.get(name) != found.get(name))
    if differing or said.get("digest") != digest(found):
        raise UserError(
            f"{root} is not what its {MANIFEST} says ({', '.join(differing[:5]) or 'digest'}); it was changed or cut "
            "short: make it again, or choose another"
        )
    return digest(found)


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
