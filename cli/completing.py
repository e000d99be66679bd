"""What the shell is offered at a Tab: runs, checkpoints, settings, principles.

It has to be there at once, so nothing is asked of the store: what lies in the folders of the settings in force is
offered, and a name that is not offered is as good. Whatever goes wrong, nothing is offered and nothing is said.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_RUN = re.compile(r"[0-9a-f]{12}")
_PRINCIPLE = re.compile(r"^\s*-\s*\{?\s*id:\s*([a-z][a-z0-9_-]*)", re.MULTILINE)


def runs(incomplete: str) -> list[str]:
    """Runs that left files in the home, the newest first."""
    folders = sorted(_folders(_home()), key=lambda folder: -folder.stat().st_mtime)
    return [folder.name for folder in folders if _RUN.fullmatch(folder.name) and folder.name.startswith(incomplete)]


def checkpoints(incomplete: str) -> list[str]:
    """`promoted`, and the folders of checkpoints in the home."""
    found = ["promoted", *sorted(folder.name for folder in _folders(_home() / "checkpoints") if _whole(folder))]
    return [name for name in found if name.startswith(incomplete)]


def settings(incomplete: str) -> list[str]:
    """Dotted names of settings."""
    from service.queries.settings import known

    return [name for name in known() if name.startswith(incomplete)]


def assignments(incomplete: str) -> list[str]:
    """Dotted names of settings, ready for a value."""
    return [f"{name}=" for name in settings(incomplete)]


def principles(incomplete: str) -> list[str]:
    """Ids in the settings' file of principles. Read without parsing it: it may be half written."""
    return [id for id in _read_principles() if id.startswith(incomplete)]


def traced(incomplete: str) -> list[str]:
    """What a lineage may begin with: checkpoints, principles, runs."""
    return [*checkpoints(incomplete), *principles(incomplete), *runs(incomplete)]


def _folders(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from (path for path in place.iterdir() if path.is_dir())


def _whole(folder: Path) -> bool:
    return not folder.name.endswith((".partial", ".resume"))


def _home() -> Path:
    return Path(str(_file().get("home", "runs")))


def _read_principles() -> list[str]:
    try:
        text = Path(str(_file().get("constitution", "principles.yaml"))).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    return _PRINCIPLE.findall(text)


def _file() -> dict[str, Any]:
    try:
        return tomllib.loads(Path("precept.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
