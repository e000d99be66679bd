"""Writes `docs/settings.md`, every setting with its type and default: `python -m cli.reference > docs/settings.md`.

What a setting does is said by its field in `service/settings.py`, once; a test holds the page to it.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.queries.settings import Known

HEAD = """\
# Settings

<!-- Written by `python -m cli.reference > docs/settings.md` from service/settings.py: edit it there. -->

In `precept.toml`, in the environment (`PRECEPT_JUDGE__MODEL`) or as `--set judge.model=...`; the later goes first.
`precept settings` shows what is in force, `precept settings explain NAME` one of these.
"""
TABLE = "| setting | type | default | |\n|---|---|---|---|\n"


def page() -> str:
    """The page's text."""
    from service.queries.settings import sections

    parts = [HEAD]
    for section in sections():
        title = f"## [{section.name}]" if section.name else "## At the top"
        parts.append(f"{title}\n\n{section.does}\n\n{TABLE}{''.join(_row(known) for known in section.settings)}")
    return "\n".join(parts)


def _row(known: Known) -> str:
    cells = (f"`{known.name}`", known.kind, _default(known.default), known.does)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _default(value: Any) -> str:
    if value is None:
        return "none"
    return f"`{json.dumps(value)}`"


if __name__ == "__main__":
    sys.stdout.write(page())
