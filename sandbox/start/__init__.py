"""The two files a sandbox project begins with: precept.toml and principles.yaml, the ones at the root of a checkout.

They lie here as links to those, so that there is one of each to edit, and building a wheel follows the links: where
precept is installed they are plain files.
"""

from __future__ import annotations

from pathlib import Path

from constitution.errors import UserError

NAMES = ("precept.toml", "principles.yaml")


def text(name: str) -> str:
    """The text of one of the two. Raises UserError where it is not there: a checkout that lost its links."""
    try:
        return (Path(__file__).parent / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"this copy of precept has no {name} of the sandbox; install or check it out again") from None
