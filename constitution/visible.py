"""Text from a file, a model or a person, made safe to show in a terminal or a log: what is hidden becomes visible.

It stands at the bottom of the house because errors, logs and screens all need it. It does not know any markup: for
rich's, see `cli/text.py`; pages escape HTML by themselves.
"""

from __future__ import annotations

import unicodedata

# Cc control, Cf format (bidi, zero-width, tags), Cs lone surrogate, Co private, Cn unassigned, Zl/Zp line separators.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Letters and marks that draw nothing, so a text could hide in them. U+FE0E and U+FE0F stay: they only style emoji.
_HIDDEN_RANGES = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0D),
    (0xFFA0, 0xFFA0),
    (0xE0100, 0xE01EF),
)


def visible(text: str) -> str:
    """The text with every character that a screen obeys or hides written as `<U+001B>`; newline and tab stay.

    The result can always be encoded as UTF-8. It is for reading, not for parsing back.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"<U+{ord(char):04X}>" if _hidden(char) else char for char in text)


def _hidden(char: str) -> bool:
    if char in "\n\t":
        return False
    if unicodedata.category(char) in _HIDDEN_CATEGORIES:
        return True
    return any(low <= ord(char) <= high for low, high in _HIDDEN_RANGES)
