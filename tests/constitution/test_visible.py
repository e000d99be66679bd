"""Hostile text is shown, never obeyed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constitution.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "<U+001B>[31mred<U+001B>[0m"),
        ("\x1b]0;title\x07", "<U+001B>]0;title<U+0007>"),
        ("\x9b31m", "<U+009B>31m"),  # C1 control sequence introducer
        ("over\rwritten\b", "over<U+000D>written<U+0008>"),
        ("a\0b", "a<U+0000>b"),
        ("\x7f", "<U+007F>"),
        ("user\u202etxt.exe\u202c", "user<U+202E>txt.exe<U+202C>"),
        ("\u2066x\u2069\u200f", "<U+2066>x<U+2069><U+200F>"),
        ("in\u200bvis\u2060ible\ufeff", "in<U+200B>vis<U+2060>ible<U+FEFF>"),
        ("\u3164\u115f\uffa0", "<U+3164><U+115F><U+FFA0>"),  # letters that draw nothing
        ("a\U000e0041\U000e0100", "a<U+E0041><U+E0100>"),  # tags and variation selectors smuggle text
        ("\ud800", "<U+D800>"),
        ("one\u2028two", "one<U+2028>two"),
    ],
)
def test_what_a_screen_would_obey_or_hide_is_written_out(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text", ["", "plain", "two\nlines\tand a tab", "naïve café", "日本語　全角", "שלום", "हिन्दी", "❤️ 🙂", "[bold]x[/]"]
)
def test_ordinary_text_in_any_script_is_left_alone(text):
    assert visible(text) == text


@settings(deadline=None)
@given(st.text(st.characters()))
def test_nothing_hidden_is_left_and_it_can_be_printed(text):
    shown = visible(text)
    shown.encode("utf-8")
    assert not [c for c in shown if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert visible(shown) == shown
