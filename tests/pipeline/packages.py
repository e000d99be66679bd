"""Real packages for tests: modules and a dist-info folder, as an installer leaves them; on `sys.path` while used."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline import plugins


def write_package(
    site: Path, name: str, points: Mapping[str, Mapping[str, str]], modules: Mapping[str, str], version: str = "1.0"
) -> Path:
    """A package in the folder `site`: its entry points by group, its modules' source by dotted name."""
    for dotted, source in modules.items():
        path = site.joinpath(*dotted.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in named.items()) for group, named in points.items()]
    (info / "entry_points.txt").write_text("\n".join(groups))
    return site


@contextmanager
def installed(*sites: Path) -> Iterator[None]:
    """Folders on `sys.path`, and what precept knows of installed packages read anew before and after."""
    before, known = list(sys.path), set(sys.modules)
    sys.path[:0] = [str(site) for site in sites]
    plugins._entry_points.cache_clear()
    try:
        yield
    finally:
        sys.path[:] = before
        plugins._entry_points.cache_clear()
        for name in set(sys.modules) - known:
            module = vars(sys.modules[name])
            places = [module.get("__file__") or "", *(module.get("__path__") or ())]  # a namespace has no file
            if any(str(place).startswith(str(site)) for place in places for site in sites):
                del sys.modules[name]
