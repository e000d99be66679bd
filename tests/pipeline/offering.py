"""Packages for tests: modules and entry points in a folder, as an installed package has them."""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[2]
Groups = Mapping[str, Mapping[str, str]]


def package(folder: Path, name: str, groups: Groups, modules: Mapping[str, str] | None = None) -> Path:
    """Write it, by file its text, and return the folder, which has to be on the path."""
    for file, text in (modules or {}).items():
        (folder / file).write_text(textwrap.dedent(text))
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    blocks = ["\n".join([f"[{group}]", *(f"{k} = {v}" for k, v in points.items())]) for group, points in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(blocks) + "\n")
    return folder


def ours() -> dict[str, dict[str, str]]:
    """What pyproject.toml offers, and the environment does not have: it may be installed from before."""
    written = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    return {
        group: {name: value for name, value in points.items() if name not in entry_points(group=group).names}
        for group, points in written.items()
    }
