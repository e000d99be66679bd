"""The reference page of settings: made of the settings' own descriptions, and not stale."""

from __future__ import annotations

from pathlib import Path

from cli.reference import page
from service.queries.settings import known

ROOT = Path(__file__).parents[2]


def test_the_page_of_settings_says_what_the_settings_say() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page(), (
        "write it anew: python -m cli.reference > docs/settings.md"
    )


def test_every_setting_stands_on_it() -> None:
    said = page()
    assert len(list(known())) > 100
    assert [name for name in map(str, known()) if name.rpartition(".")[2] not in said] == []
