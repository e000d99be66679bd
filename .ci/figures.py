"""Fails when a figure of `precept improve --json` leaves the range that the README states.

The README has one table between `<!-- figures -->` marks with rows `| what | key | low | high |`; keys are dotted.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any


def ranges(readme: str) -> list[tuple[str, float, float]]:
    """(key, low, high) of each row. Raises ValueError when the table is missing or empty."""
    found = re.search(r"<!-- figures -->(.*?)<!-- /figures -->", readme, re.DOTALL)
    rows = re.findall(
        r"^\|[^|]*\|\s*`([\w.]+)`\s*\|\s*([-\d.]+)\s*\|\s*([-\d.]+)\s*\|", found[1] if found else "", re.MULTILINE
    )
    if not rows:
        raise ValueError("the README has no table of figures")
    return [(key, float(low), float(high)) for key, low, high in rows]


def look_up(result: dict[str, Any], key: str) -> float:
    value: Any = result
    for part in key.split("."):
        value = value[part]
    return float(value)


def main(result_file: str, readme_file: str) -> int:
    result = json.loads(Path(result_file).read_text(encoding="utf-8"))
    outside = 0
    for key, low, high in ranges(Path(readme_file).read_text(encoding="utf-8")):
        value = look_up(result, key)
        held = low <= value <= high
        outside += not held
        print(f"{'ok  ' if held else 'FAIL'} {key} = {value:.4g}, stated {low:g} to {high:g}")
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
