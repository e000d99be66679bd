"""`precept constitution log | blame | show REV | restore | diff --against` on a store with a hand-made history."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import constitution
from constitution import loading
from storage.store import Store

FIRST = """\
# ours
constitution: two
version: 1
principles:
  - id: kind
    title: Kind
    critique: Is it rude?
    revision: Be kind.
    comparison: Which is kinder?
    weight: 3
"""
SHORT = """
  - id: short
    title: Short
    critique: Is it long?
    revision: Be short.
    comparison: Which is shorter?
"""
SECOND = FIRST.replace("Which is kinder?", "Which is kinder to people who did not ask for anything but are spoken to?")
THIRD = SECOND.replace("weight: 3", "weight: 2") + SHORT
FOURTH = THIRD.replace("# ours", "# ours, and \N{CYRILLIC SMALL LETTER YA}")
HISTORY = [
    (FIRST, "ada", "the first"),
    (SECOND, "bob", "kind to whom?"),
    (THIRD, "a-very-long-name", "say it once\x1b[31m"),
    (FOURTH, "ada", "a comment"),
]


@pytest.fixture
def past(project: Path, store: Store) -> list[str]:
    """The events of four amendments; principles.yaml holds the last one's text."""
    (project / "principles.yaml").write_text(FOURTH, encoding="utf-8")
    return [
        store.ratify(_version(text), who, why, f"test:{number}", text=text).id
        for number, (text, who, why) in enumerate(HISTORY)
    ]


def _version(text: str) -> str:
    return loading.parse(text).version


# --- log -----------------------------------------------------------------------------------------------------------


def test_log_is_the_newest_first_and_says_what_changed(past, precept):
    rows = precept("constitution", "log").out.splitlines()
    assert [row.split()[0] for row in rows] == ["no", "4", "3", "2", "1"]
    assert rows[1].rstrip().endswith("comments or layout")
    assert rows[2].rstrip().endswith("1 added, 1 reweighted")
    assert "say it once<U+001B>[31m" in rows[2]
    assert rows[3].split()[1] == _version(SECOND)[:12]
    assert "bob" in rows[3] and rows[3].rstrip().endswith("1 reworded")
    assert rows[4].rstrip().endswith("the first: 1 principle")


def test_log_json(past, precept):
    rows = precept("constitution", "log", "--json").json
    assert [row["number"] for row in rows] == [4, 3, 2, 1]
    assert [row["event"] for row in rows] == past[::-1]
    assert rows[1]["changes"] == [
        {"id": "kind", "kind": "changed", "was": "kind"},
        {"id": "short", "kind": "added", "was": None},
    ]
    assert (rows[0]["version"], rows[0]["parent"], rows[0]["summary"]) == (
        _version(THIRD),
        _version(THIRD),
        "comments or layout",
    )


def test_log_of_a_fresh_store(project, precept):
    assert precept("constitution", "log").code == 2
    assert precept("constitution", "log", "--json").json == []


# --- blame ---------------------------------------------------------------------------------------------------------


def test_blame_gives_each_line_its_amendment_and_each_run_its_reason(past, precept):
    rows = precept("constitution", "blame").out.splitlines()
    runs = [row for row in rows if not row.startswith(" ")]
    assert runs == [
        f"amendment {number}: {why}"
        for number, why in [
            (4, "a comment"),
            (1, "the first"),
            (2, "kind to whom?"),
            (3, "say it once<U+001B>[31m"),
        ]
    ]
    lines = [row for row in rows if row.startswith(" ")]
    assert [line.partition("| ")[2] for line in lines] == [line.rstrip() for line in FOURTH.splitlines()]
    (asked,) = [line for line in lines if "comparison: Which is kinder" in line]
    assert asked.split()[0] == "2" and asked.split()[2] == "bob"
    (name,) = {line.split()[2] for line in lines if line.split()[0] == "3"}
    assert name == "a-very-long…"


def test_blame_of_an_earlier_revision_knows_nothing_later(past, precept):
    found = precept("constitution", "blame", "2", "--json").json
    assert [line["text"] for line in found] == SECOND.splitlines()
    assert [line["amendment"] for line in found] == [1] * 8 + [2, 1]
    assert found[8] | {"at": ""} == {
        "line": 9,
        "text": "    comparison: Which is kinder to people who did not ask for anything but are spoken to?",
        "amendment": 2,
        "version": _version(SECOND),
        "who": "bob",
        "at": "",
        "message": "kind to whom?",
    }
    assert precept("constitution", "blame", _version(SECOND)[:6], "--json").json == found
    assert precept("constitution", "blame", "9").code == 2


def test_blame_fits_the_terminal(past, project):
    pexpect = pytest.importorskip("pexpect")
    root = str(Path(constitution.__file__).parents[1])
    command = ["-m", "cli.main", "constitution", "blame"]
    child = pexpect.spawn(
        sys.executable, command, env={**os.environ, "PYTHONPATH": root, "COLUMNS": "100"}, dimensions=(50, 100),
        timeout=60, encoding="utf-8",
    )  # fmt: skip
    child.expect(pexpect.EOF)
    rows = child.before.replace("\r", "").splitlines()
    assert max(map(len, rows)) <= 100
    start = next(n for n, row in enumerate(rows) if "comparison: Which is kinder" in row)
    assert rows[start].endswith("did not ask for")
    assert rows[start + 1].strip() == "|       anything but are spoken to?"


# --- show ----------------------------------------------------------------------------------------------------------


def test_show_a_revision(past, precept, project):
    shown = precept("constitution", "show", "1").out
    assert "kind" in shown and "short" not in shown and _version(FIRST) in shown
    assert "Which is kinder to people" in precept("constitution", "show", "2", "kind").out
    assert precept("constitution", "show", "ratified", "--json").json["version"] == _version(FOURTH)
    (project / "1").write_text(FOURTH)
    assert "short" in precept("constitution", "show", "1").out  # a file of that name wins


def test_a_principle_goes_before_a_revision_of_its_name(past, precept, project):
    (project / "principles.yaml").write_text(FIRST.replace("id: kind", "id: ratified"))
    assert "Which is kinder?" in precept("constitution", "show", "ratified").out
    (project / "principles.yaml").unlink()
    assert _version(FOURTH) in precept("constitution", "show", "ratified").out


def test_show_source_is_the_text_byte_for_byte(past, precept, project):
    assert precept("constitution", "show", "ratified", "--source").out == FOURTH
    crlf = FIRST.replace("\n", "\r\n").encode()
    (project / "dos.yaml").write_bytes(b"\xef\xbb\xbf" + crlf)
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "constitution", "show", "dos.yaml", "--source"],
        env={**os.environ, "PYTHONPATH": str(Path(constitution.__file__).parents[1])},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"\xef\xbb\xbf" + crlf
    assert precept("constitution", "show", "1", "kind", "--source").code == 2
    assert precept("constitution", "show", "1", "--source", "--json").code == 2


def test_show_of_an_unknown_revision(past, precept):
    assert "there is no amendment '77'" in precept("constitution", "show", "77").err
    assert "It has: kind, short" in precept("constitution", "show", "nobody").err


# --- restore -------------------------------------------------------------------------------------------------------


def test_restore_writes_the_file_and_says_how_to_put_it_in_force(past, precept, project, store):
    done = precept("constitution", "restore", "2")
    assert (project / "principles.yaml").read_text() == SECOND
    assert "precept constitution amend principles.yaml --ratify -m WHY" in done.out
    assert len(store.amendments()) == 4
    assert "already" in precept("constitution", "restore", "2").out
    assert "this text is in force" in precept("constitution", "restore", "ratified").out


def test_restore_with_a_reason_ratifies_at_once(past, precept, project, store):
    done = precept("constitution", "restore", "1", "-m", "it was better")
    assert done.code == 0
    now = store.ratified()
    assert (now.number, now.text, now.who, now.message, now.parent) == (
        5, FIRST, "ada", "it was better", _version(FOURTH),
    )  # fmt: skip
    assert (project / "principles.yaml").read_text() == FIRST
    again = precept("constitution", "restore", "1", "-m", "it was better")
    assert "this text is in force" in again.out
    assert len(store.amendments()) == 5


def test_restore_never_writes_over_text_that_was_never_ratified(past, precept, project, store):
    draft = FOURTH + "# half a thought\n"
    (project / "principles.yaml").write_text(draft)
    done = precept("constitution", "restore", "1", "-m", "x")
    assert done.code == 2
    assert "never ratified" in done.err and "precept constitution amend principles.yaml" in done.err
    assert (project / "principles.yaml").read_text() == draft
    assert len(store.amendments()) == 4
    (project / "principles.yaml").write_bytes(b"\xff\x00 not even text")
    assert precept("constitution", "restore", "1").code == 2


def test_restore_over_ratified_text_with_other_line_breaks_and_into_a_new_file(past, precept, project):
    (project / "principles.yaml").write_bytes(b"\xef\xbb\xbf" + THIRD.replace("\n", "\r\n").encode())
    assert precept("constitution", "restore", "1").code == 0
    assert (project / "principles.yaml").read_bytes() == FIRST.encode()
    assert precept("constitution", "restore", "4", "sub/old.yaml").code == 0
    assert (project / "sub" / "old.yaml").read_bytes() == FOURTH.encode()
    assert "is a directory" in precept("constitution", "restore", "1", "sub").err.lower()


def test_restore_writes_through_a_link(past, precept, project):
    (project / "principles.yaml").rename(project / "real.yaml")
    (project / "principles.yaml").symlink_to("real.yaml")
    precept("constitution", "restore", "1")
    assert (project / "principles.yaml").is_symlink()
    assert (project / "real.yaml").read_text() == FIRST


def test_restore_gives_way_to_an_amendment_that_came_in_between(past, precept, project, store, monkeypatch):
    """The other one ratifies after we looked at what is in force."""
    import service.actions.restore as restoring

    ratify = restoring._ratify

    def late(its_store, *rest):
        store.ratify(_version(THIRD), "bob", "first!", "bob", text=THIRD)
        return ratify(its_store, *rest)

    monkeypatch.setattr(restoring, "_ratify", late)
    done = precept("constitution", "restore", "1", "-m", "x")
    assert done.code == 2
    assert "bob ratified amendment 5 meanwhile (first!)" in done.err
    assert len(store.amendments()) == 5
    assert (project / "principles.yaml").read_text(encoding="utf-8") == FOURTH


# --- diff --against ------------------------------------------------------------------------------------------------


def test_diff_against_an_amendment(past, precept):
    found = precept("constitution", "diff", "--against", "2", "--json").json
    assert found["old"] == _version(SECOND)
    assert [(c["id"], c["kind"]) for c in found["changes"]] == [("kind", "changed"), ("short", "added")]
    done = precept("constitution", "diff", "principles.yaml", "--against", "1")
    assert "added short" in done.out
    assert "against amendment 1 (ada, " in done.err


def test_diff_names_amendments_and_files_alike(past, precept, project):
    against = precept("constitution", "diff", "principles.yaml", "--against", "1", "--json").json
    done = precept("constitution", "diff", "1", "principles.yaml", "--json")
    assert done.json == against and "1 is amendment 1 (ada, " in done.err
    back = precept("constitution", "diff", "principles.yaml", "1", "--json").json
    assert (back["old"], back["new"]) == (against["new"], against["old"])
    both = precept("constitution", "diff", "1", "2", "--json").json
    assert (both["old"], both["new"]) == (_version(FIRST), _version(SECOND))
    (project / "2").write_text(FIRST)  # a file goes first
    assert not precept("constitution", "diff", "1", "2", "--json").json["changes"]
    assert "there is no such file" in precept("constitution", "diff", "1", "gone.yaml").err


def test_diff_against_a_file_as_markdown(past, precept, project):
    (project / "old.yaml").write_text(FIRST)
    text = precept("constitution", "diff", "--against", "old.yaml", "--markdown").out
    assert text.startswith("**Constitution:** 1 added, 1 reworded, 1 reweighted\n")
    assert "| `short` | added | judge asked anew; chains stale where it will be drawn |" in text
    assert "> ~~3~~ **2**" in text
    assert precept("constitution", "diff", "old.yaml", "principles.yaml", "--markdown").out == text
    assert not precept("constitution", "diff", "old.yaml", "old.yaml", "--markdown").out.count("|")


def test_diff_wants_two_files_or_one_and_against(past, precept):
    assert precept("constitution", "diff").code == 2
    assert precept("constitution", "diff", "principles.yaml").code == 2
    assert precept("constitution", "diff", "a", "b", "--against", "1").code == 2
    assert precept("constitution", "diff", "--against", "1", "--json", "--markdown").code == 2


@pytest.fixture
def repository(project: Path) -> Path:
    """A git repository with the file below its root, committed once on `main` and then edited."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = project / "values"
    folder.mkdir()
    (folder / "ours.yaml").write_text(FIRST)

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@t.example", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=project, check=True, capture_output=True)

    git("init", "-b", "main")
    git("add", "values/ours.yaml")
    git("commit", "-m", "first")
    (folder / "ours.yaml").write_text(THIRD)
    return project


def test_diff_against_git_needs_no_store(repository, precept):
    found = precept("constitution", "diff", "values/ours.yaml", "--against", "main", "--json").json
    assert (found["old"], found["new"]) == (_version(FIRST), _version(THIRD))
    assert not (repository / "runs").exists()
    commit = subprocess.run(["git", "rev-parse", "main"], cwd=repository, capture_output=True, text=True).stdout.strip()
    for name in (commit, commit[:7], "HEAD"):
        found = precept("constitution", "diff", "values/ours.yaml", "--against", name, "--json").json
        assert found["old"] == _version(FIRST)


def test_diff_against_what_nobody_knows(repository, precept):
    done = precept("constitution", "diff", "values/ours.yaml", "--against", "nowhere")
    assert done.code == 2
    assert done.err.startswith("nowhere is no amendment and no file, and git says: ")
    assert precept("constitution", "diff", "--against", "main").code == 2  # principles.yaml is not in git
    assert "nothing has been ratified" in precept("constitution", "diff", "--against", "ratified").err
    assert precept("constitution", "diff", "--against", "x" * 300).code == 2
    assert precept("constitution", "diff", "--against", "a\0b").code == 2


def test_a_revision_is_never_an_option_of_git(repository, precept, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *args, **more: pytest.fail("git was run"))
    done = precept("constitution", "diff", "values/ours.yaml", "--against=--output=values/ours.yaml")
    assert done.code == 2
    assert "is no revision" in done.err
    assert (repository / "values" / "ours.yaml").read_text() == THIRD
