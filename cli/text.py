"""Text on a terminal: what other people or models wrote, obeyed neither by it nor by rich, and stored words in ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from constitution.visible import visible

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["in_words", "literal", "visible"]


def literal(text: str, style: str = "") -> Text:
    """The text for rich's `print`: no markup, emoji code or link in it is read, and what is hidden is shown."""
    from rich.text import Text

    return Text(visible(text), style=style)


def in_words(standing: str) -> str:
    """How a principle's verdict stands in a label, as people read it; JSON keeps the words of before."""
    return {"bears": "votes", "does not bear": "abstains"}.get(standing, standing)
