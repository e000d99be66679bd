"""The constitutions that `precept constitution new` offers to begin with: the files in `constitution/starters`."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "starters"


def starting_points() -> dict[str, str]:
    """What each starting point is for, by name: the first line of its file, a comment."""
    return {path.stem: _first_line(path) for path in sorted(_FOLDER.glob("*.yaml"))}


def starting_point(name: str) -> str:
    """The text of one. Raises KeyError when there is none of that name."""
    if name not in starting_points():
        raise KeyError(name)
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()
