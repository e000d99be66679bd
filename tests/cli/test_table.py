"""Tables and sentences fit the terminal that they are printed to; what a pipe reads is as it was."""

from __future__ import annotations

import ast
import random
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from cli import table
from tests.cli.terminal import ROOT, spawn

WORDS = "judge answers a prompt constitution 漢字 no-needless-refusal /a/path/that/is/long/policy better".split()


def made(draw: random.Random) -> tuple[list[str], list[list[str]], list[str]]:
    """Columns, rows and which columns are figures."""
    count = draw.randint(1, 9)
    columns = [draw.choice(["", *WORDS]) + f" {at}" * draw.randint(0, 1) for at in range(count)]
    right = [name for name in columns[1:] if name.strip() and columns.count(name) == 1 and draw.random() < 0.5]
    rows = [
        [
            f"{draw.random():.1%} ({draw.random():.1%} to {draw.random():.1%})"[: draw.choice([5, 24])]
            if name in right
            else " ".join(draw.choices(WORDS, k=draw.choice([0, 1, 2, 12])))
            for name in columns
        ]
        for _ in range(draw.randint(0, 4))
    ]
    return columns, rows, right


@pytest.mark.parametrize("room", [40, 80, 100, 160])
def test_whatever_a_table_holds_it_fits_and_nothing_is_lost(room: int) -> None:
    draw = random.Random(room)
    kinds = set()
    for _ in range(300):
        columns, rows, right = made(draw)
        widths = table.widths(columns, rows, right, room)
        kinds.add(widths is None)
        if widths is not None:
            assert sum(widths) + table.GAP * (len(columns) - 1) <= room
            for at, name in enumerate(columns):  # figures are never broken
                assert name not in right or all(cell_len(row[at]) <= widths[at] for row in rows)
            continue
        lines = table.paragraphs(columns, rows, room)
        longest = max((cell_len(word) for row in rows for cell in row for word in cell.split()), default=0)
        assert all(cell_len(line) <= max(room, longest + 4 + max(map(cell_len, columns))) for line in lines)
        told = " ".join(lines).split()
        for row in rows:
            assert all(word.rstrip(":") in {t.rstrip(":") for t in told} for cell in row for word in cell.split())
    assert False in kinds and (room > 80 or True in kinds)


def test_sentences_are_broken_at_words_and_commands_are_whole() -> None:
    text = "trial        the judge is trusted; see `precept judge trial --attacks --json` and then go on"
    lines = table.wrapped(text, 40, 13)
    assert lines[1:] and all(line.startswith(" " * 13) for line in lines[1:])
    assert any("`precept judge trial --attacks --json`" in line for line in lines)
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
    said = "go on with: precept run resume 0123456789ab --max-calls 50000, or not"
    assert any("precept run resume 0123456789ab --max-calls 50000," in line for line in table.wrapped(said, 40))
    assert table.wrapped("short", 40) == ["short"]


def test_tables_are_made_in_one_place() -> None:
    """What prints a table with rich by itself has to see to its width as well."""
    own = {
        "cli/screen.py",
        "cli/constitution/diff.py",
        "cli/constitution/files.py",
        "cli/constitution/draft_answers.py",
    }
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "cli").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "rich.table"
    }
    assert found == own


@pytest.mark.parametrize("room", [80, 100, 160])
def test_on_a_terminal_no_line_is_wider_than_it(project: Path, room: int) -> None:
    (project / "said.jsonl").write_text(
        "".join(
            f'{{"prompt": "{n}?", "better": "Yes.", "worse": "No.", "p": 0.9, "principle": "a-long-name-{n % 2}"}}\n'
            for n in range(12)
        )
    )
    child = spawn("judge", "trial", "--recorded", "said.jsonl", COLUMNS=str(room))
    child.expect("record both")
    said = re.sub(r"\x1b\[[0-9;]*m", "", child.before or "")
    child.close()
    assert said.count("\n") > 5 and max(len(line.rstrip("\r")) for line in said.split("\n")) <= room
