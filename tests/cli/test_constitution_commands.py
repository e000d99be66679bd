"""`precept constitution ...` as a person or a script meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import constitution
from cli.constitution import app
from cli.text import literal
from constitution import loading
from constitution.errors import UserError
from constitution.starting_points import starting_point, starting_points

BAD = "constitution: x\nversion: 1\nprinciples:\n  - id: a\n    title: t\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "principles.yaml").write_text(starting_point("minimal"))
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path


def run(*words: str):
    return CliRunner().invoke(app, list(words))


def ok(*words: str) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def mistake(*words: str) -> str:
    """The message of a UserError, which the entry point prints before it exits with 2."""
    result = run(*words)
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def test_check_reads_principles_yaml_unless_told_otherwise(folder):
    assert "principles.yaml: 3 principles, no mistakes" in ok("check")
    assert ok("check") == ok("check", "principles.yaml")


def test_check_tells_what_is_wrong(folder):
    text = mistake("check", "bad.yaml")
    assert text.startswith("bad.yaml:4:5: a principle needs `critique`, `revision` and `comparison`")


def test_check_json(folder):
    good = json.loads(ok("check", "--json"))
    assert good["ok"] is True
    assert good["version"] == loading.load("principles.yaml").version
    result = run("check", "bad.yaml", "--json")
    assert result.exit_code == 2
    bad = json.loads(result.stdout)
    assert (bad["ok"], bad["problems"][0]["line"], bad["problems"][0]["path"]) == (False, 4, "principles[0]")


def test_show_lists_and_shows_one(folder):
    text = ok("show")
    assert all(name in text for name in ("helpful", "honest", "harmless", "Help nobody to hurt anyone"))
    one = ok("show", "principles.yaml", "harmless")
    assert "Which reply gives less help to someone who means to do harm?" in one
    assert "flatmate" in one and "bump key" in one
    assert ok("show", "harmless") == one


def test_show_json(folder):
    whole = json.loads(ok("show", "--json"))
    assert [p["id"] for p in whole["principles"]] == ["helpful", "honest", "harmless"]
    one = json.loads(ok("show", "harmless", "--json"))
    assert one["weight"] == 2.0
    assert one["exemplars"][0]["prompt"][0]["role"] == "user"


def test_show_of_an_unknown_principle_names_the_known(folder):
    assert mistake("show", "nobody").endswith("It has: helpful, honest, harmless.")
    assert "there is no such file" in mistake("show", "nowhere.yaml")
    assert "cannot be read" in mistake("show", "x" * 300)


def test_diff(folder):
    text = starting_point("minimal")
    (folder / "new.yaml").write_text(
        text.replace("weight: 2.0", "weight: 1.5")
        .replace("id: honest", "id: truthful")
        .replace("Which reply does", "What does")
    )
    shown = ok("diff", "principles.yaml", "new.yaml")
    assert "The judge is asked anew on 1 of 3 principles." in shown
    assert "renamed honest -> truthful" in shown
    assert "- 2.0" in shown
    assert "+ 1.5" in shown
    found = json.loads(ok("diff", "principles.yaml", "new.yaml", "--json"))
    assert found["asks_judge"] == ["helpful"]
    assert [(c["id"], c["kind"], c["fields"]) for c in found["changes"]] == [
        ("helpful", "changed", ["comparison"]),
        ("truthful", "renamed", ["id"]),
        ("harmless", "changed", ["weight"]),
    ]


def test_diff_of_the_same_and_of_added_and_removed(folder):
    assert "No principle differs." in ok("diff", "principles.yaml", "principles.yaml")
    (folder / "less.yaml").write_text(starting_point("minimal").split("  - id: harmless")[0])
    assert "removed harmless" in ok("diff", "principles.yaml", "less.yaml")
    assert "added harmless" in ok("diff", "less.yaml", "principles.yaml")


@pytest.mark.parametrize("name", ["assistant", "minimal", "support-desk"])
def test_new_writes_what_check_accepts(folder, name):
    assert "written" in ok("new", "mine.yaml", "--from", name)
    assert "no mistakes" in ok("check", "mine.yaml")
    assert (folder / "mine.yaml").read_text() == starting_point(name)


def test_new_never_writes_over_a_file(folder):
    before = (folder / "principles.yaml").read_bytes()
    assert "exists already" in mistake("new", "principles.yaml", "--from", "assistant")
    assert (folder / "principles.yaml").read_bytes() == before


def test_new_lists_the_choices_when_nobody_can_be_asked(folder):
    for words in (["new", "mine.yaml"], ["new", "mine.yaml", "--from", "nobody"]):
        text = mistake(*words)
        assert all(name in text for name in ("assistant", "minimal", "support-desk"))
    assert not (folder / "mine.yaml").exists()


def test_new_asks_when_somebody_can_answer(folder):
    pexpect = pytest.importorskip("pexpect")
    code = "from cli.constitution import app; app()"
    child = pexpect.spawn(sys.executable, ["-c", code, "new", "mine.yaml"], env=_env(), timeout=30, encoding="utf-8")
    child.expect("number or name")
    child.sendline("2")
    child.expect("written from `minimal`")
    child.expect(pexpect.EOF)
    assert (folder / "mine.yaml").read_text() == starting_point("minimal")


def test_new_into_a_folder_that_is_not_there(folder):
    assert "cannot be written" in mistake("new", "no/where.yaml", "--from", "minimal")
    assert "cannot be written" in mistake("new", "x" * 300, "--from", "minimal")


def test_no_words_of_a_file_are_obeyed_by_terminal_or_rich(folder):
    words = "[red]x[/red] :smile: [link=http://x]y[/link] [/] \u200bz"
    (folder / "odd.yaml").write_text(starting_point("minimal").replace("Help nobody to hurt anyone", f"'{words}'"))
    shown = ok("show", "odd.yaml", "harmless")
    assert words.replace("\u200b", "<U+200B>") in shown
    assert ok("show", "odd.yaml")
    assert literal("\x1b[31m[b]\ud800").plain == "<U+001B>[31m[b]<U+D800>"


def test_no_color_is_respected(folder):
    (folder / "less.yaml").write_text(starting_point("minimal").split("  - id: harmless")[0])

    def shown(**env: str) -> str:
        code = "from cli.constitution import app; app()"
        command = [sys.executable, "-c", code, "diff", "principles.yaml", "less.yaml"]
        return subprocess.run(command, env={**_env(), **env}, capture_output=True, text=True, check=True).stdout

    red = "\x1b[31m"
    assert red in shown(FORCE_COLOR="1", TERM="xterm")
    assert red not in shown(FORCE_COLOR="1", TERM="xterm", NO_COLOR="1")


def test_importing_the_commands_is_light():
    code = (
        "import sys, cli.constitution;"
        "print([m for m in ('ruamel.yaml', 'pydantic', 'rich.console', 'torch', 'sqlalchemy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_env())
    assert result.stdout.strip() == "[]"


def _env() -> dict[str, str]:
    """The test's own environment, with the project on the path wherever the test runs."""
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return {**plain, "PYTHONPATH": str(Path(constitution.__file__).parents[1])}


def test_the_file_that_the_settings_name_is_the_one_that_is_read(project, precept) -> None:
    other = Path("principles.yaml").rename("values.yaml").read_text().replace("id: short", "id: brief")
    Path("values.yaml").write_text(other)
    Path("precept.toml").write_text('constitution = "values.yaml"\n' + Path("precept.toml").read_text())
    for words in (["show"], ["show", "brief"], ["show", "brief", "--json"], ["show", "--source"], ["check"]):
        done = precept("constitution", *words)
        assert done.code == 0, (words, done.err)
    assert json.loads(precept("constitution", "show", "brief", "--json").out)["id"] == "brief"
    assert "values.yaml: 2 principles" in precept("constitution", "check").out
    Path("old.yaml").write_text(other.replace("Be kind", "Be nice"))
    assert precept("constitution", "diff", "--against", "old.yaml").code == 0
    assert "values.yaml has no principle" in precept("constitution", "show", "short").err


JUDGED = """\
constitution: x
version: 1
principles:
  - id: brief
    title: Be brief
    critique: Long?
    revision: Shorten.
    comparison: Which reply is shorter?
    judge:
      method: rule
      max_words: many
      headings: none
  - id: kind
    title: Be kind
    critique: Rude?
    revision: Be kind.
    comparison: Which reply is kinder?
    judge: nobody
    when:
      rule: {contain: please}
  - id: safe
    title: Be safe
    critique: Harm?
    revision: Be safe.
    comparison: Which reply is safer?
    judge: {method: reasoned, max_token: 3}
"""


def test_check_tells_what_is_wrong_with_a_principles_judge_and_with_when_it_applies(folder):
    (folder / "judged.yaml").write_text(JUDGED)
    text = mistake("check", "judged.yaml")
    assert "judged.yaml:11:7: `max_words`: 'many' is no number of words" in text
    assert "Write a whole number, 1 or more." in text
    assert "judged.yaml:18:5: there is no judge 'nobody'; there are" in text
    assert "judged.yaml:20:14: `contain`: there is no such check" in text
    assert "judged.yaml:26:31: the reasoned judge: max_token: there is no such option; did you mean max_tokens?" in text
    bad = json.loads(run("check", "judged.yaml", "--json").stdout)
    assert [p["path"] for p in bad["problems"]] == [
        "principles[0].judge.max_words", "principles[1].judge.method", "principles[1].when.rule.contain",
        "principles[2].judge.max_token",
    ]  # fmt: skip
    odd = JUDGED.replace("max_token: 3", "another: [[1]]").replace("max_words: many", "language: [[en]]")
    (folder / "odd.yaml").write_text(odd)
    text = mistake("check", "odd.yaml")
    assert "odd.yaml:11:7: `language`: [['en']] is no language that is known here" in text
    assert "odd.yaml:26:31: another is [[1]], not the settings of a role" in text
    mended = JUDGED.replace("many", "80").replace("nobody", "choice")
    (folder / "judged.yaml").write_text(mended.replace("contain:", "contains:").replace("_token:", "_tokens:"))
    assert "3 principles, no mistakes" in ok("check", "judged.yaml")


ONE = """constitution: one
version: 1
principles:
  - id: kind
    title: Be kind
    critique: Rude?
    revision: Be kind.
    comparison: Which reply is kinder?
"""
ODD = [  # what is added to the principle, where it is told, and what is said
    ("judge: resoned", "9:5", "there is no judge 'resoned'; there are", "did you mean reasoned?"),
    ("judge: {method: choice, letters: x}", "9:29", "letters: they are", 'for a whole role, "auto"'),
    ("judge: {method: choice, letters: auto}", "9:29", '"auto" is found out once for a whole role', "names them"),
    ("judge: {method: choice, another: {modle: x}}", "9:39", "another.modle: there is no such option", "mean model?"),
    ("judge: {method: choice, another: {}}", "9:29", "another.model: it has to be given", "settings of a further role"),
    ("judge: {method: choice, another: {model: x, answer_prefix: auto}}", "9:49", "answer_prefix", "for a whole role"),
    ("judge: {method: cascade}", "9:5", "the cascade judge: large: it has to be given", "options are large"),
    ("judge: {method: cascade, large: {modle: x}}", "9:38", "large.modle: there is no such option", "mean model?"),
    ("judge: {method: cascade, large: {model: x}, judge_options: {shots: 1}}", "9:65", "multiple of 2", "not 1"),
    ("judge: {method: rule, max_word: 3}", "9:27", "`max_word`: there is no such check", "Did you mean max_words?"),
    ("judge: {method: rule, max_words: 3, another: {model: x}}", "9:41", "read by nobody", "code asks no model"),
    ("twin: 'which reply is kinder'", "9:5", "asks what `comparison` asks", "turned round"),
    ("examples: [{prompt: Hi, better: Yes., worse: Yes.}]", "9:43", "the same text", "neither can win"),
    (
        "when: {rule: {contains: please}}\n    examples: [{prompt: Hi, better: Yes., worse: No.}]",
        "10:17", "`when` leaves this prompt out (it asks for one that says 'please')", "abstains",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("added", "place", "said", "more"), ODD, ids=[row[0][:60] for row in ODD])
def test_check_points_at_the_key_that_is_wrong_and_says_what_was_meant(folder, added, place, said, more):
    (folder / "one.yaml").write_text(f"{ONE}    {added}\n")
    text = " ".join(mistake("check", "one.yaml").split())
    assert f"one.yaml:{place}: " in text and said in text and more in text, text
    assert "Input" not in text and "Field required" not in text and "permitted" not in text


IDLE = [  # what is added to the principle, where it is told, and what is said
    ("hard: true\n    tier: 2", "10:5", "so this tier orders nothing but its own ties"),
    ("tier: 2", "9:5", "every principle is of tier 2"),
    ("judge: {method: rule, max_words: 3}\n    twin: Which reply is longer?", "10:5", "`rule` puts no question"),
    ("judge: {method: choice, shots: 2}", "9:29", "there is no example to be shown"),
    ("judge: {method: choice, another: {model: /nope}}", "9:39", "there is no model folder /nope"),
    ("judge: {method: cascade, large: {model: nope/large}}", "9:38", "there is no model folder nope/large"),
    ("when: {tags: [harmfull, cooking]}", "9:19", "has the tag 'harmfull'; did you mean harmful?"),
    ("when: {tags: [law]}", "9:19", "and so the principle votes on none of them"),
    (
        "when: {tags: [cooking]}\n"
        "  - {id: two, title: T, critique: c, revision: r, comparison: Which reply is kinder?,"
        " when: {tags: [cooking]}}",
        "10:51", "it asks what `kind` asks: one question, whose verdict counts with the weights of both",
    ),
    (
        "judge: {method: rule, max_words: 3}\n  - {id: two, title: T, critique: c, revision: r, comparison: Is it so?,"
        " judge: {method: rule, max_words: 3}}",
        "10:74", "it asks what `kind` asks",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("added", "place", "said"), IDLE, ids=[row[0][:60] for row in IDLE])
def test_check_notices_what_nobody_reads_and_fails_nothing(folder, added, place, said):
    (folder / "precept.toml").write_text('prompts = "prompts.jsonl"\n')
    (folder / "prompts.jsonl").write_text('{"prompt": "Hi", "tags": ["harmful", "cooking"]}\n')
    (folder / "one.yaml").write_text(f"{ONE}    {added}\n")
    text = " ".join(ok("check", "one.yaml").split())
    assert "no mistakes, 1 notice" in text and f"one.yaml:{place}: notice: " in text and said in text, text
    (told,) = json.loads(ok("check", "one.yaml", "--json"))["notices"]
    assert said in told["message"] and f"{told['line']}:{told['column']}" == place


def test_check_notices_nothing_where_nothing_is_known_and_of_what_ships(folder):
    (folder / "one.yaml").write_text(f"{ONE}    when: {{tags: [harmfull]}}\n")
    assert json.loads(ok("check", "one.yaml", "--json"))["notices"] == []  # no prompts here
    (folder / "precept.toml").write_text("nonsense = [")
    assert json.loads(ok("check", "one.yaml", "--json"))["notices"] == []
    for name in starting_points():
        (folder / "it.yaml").write_text(starting_point(name))
        assert json.loads(ok("check", "it.yaml", "--json"))["notices"] == [], name


def test_what_decides_who_judges_and_when_are_listed_where_a_file_says_them(project, precept) -> None:
    plain = precept("constitution", "show").out
    assert "decides" not in plain and "when" not in plain
    text = (project / "principles.yaml").read_text()
    keys = "weight: 3, hard: true, judge: reasoned, when: {tags: [harm], ask: 'Could it hurt?'}}"
    (project / "more.yaml").write_text(
        text.replace("weight: 3}", keys).replace("weight: 1}", "tier: 2, overridable: [user]}")
    )
    shown = precept("constitution", "show", "more.yaml").out
    for words in ("decides", "hard", "reasoned", "harm; asked", "tier 2", "user"):
        assert words in shown
    one = precept("constitution", "show", "more.yaml", "kind").out
    assert "its vote decides before every tier" in one and '"method": "reasoned"' in one
