"""Text that other people or models wrote, printed on a terminal without being obeyed by it, nor by rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

from constitution.visible import visible

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["literal", "visible"]


def literal(text: str, style: str = "") -> Text:
    """The text for rich's `print`: no markup, emoji code or link in it is read, and what is hidden is shown."""
    from rich.text import Text

    return Text(visible(text), style=style)
