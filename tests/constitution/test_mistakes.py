"""A bad file gets one message: file, line, column, what is wrong, what to write instead; in under a second."""

# ruff: noqa: E501  (a table reads best with a case a line)
from __future__ import annotations

import os
import random
import time

import pytest

from constitution import loading
from constitution.errors import UserError
from constitution.loading import MAX_BYTES, parse_bytes
from constitution.problems import SHOWN, ConstitutionError, Problem
from constitution.starting_points import starting_point

GOOD = """\
constitution: test
version: 1
principles:
  - id: one
    title: One
    critique: c
    revision: r
    comparison: k
    weight: 1.0
    tags: [a]
    exemplars:
      - prompt: p
        response: r
        critique: c
        revision: v
"""
# A file with no principle yet; what follows is a full one.
HEAD = "constitution: test\nversion: 1\nprinciples:\n"
REST = "    title: t\n    critique: c\n    revision: r\n    comparison: k\n"


def error_of(text: str) -> ConstitutionError:
    started = time.process_time()  # of the processor, so that a busy machine fails no test
    with pytest.raises(ConstitutionError) as caught:
        loading.parse(text, "file.yaml")
    assert time.process_time() - started < 1
    return caught.value


def problems_of(text: str) -> tuple[Problem, ...]:
    return error_of(text).problems


def test_the_good_file_is_good():
    assert len(loading.parse(GOOD)) == 1


# old text, new text, line, column, what the message says, what the hint says
CASES = {
    "duplicate key": ("    revision: r\n", "    revision: r\n    critique: again\n", 8, 5, "`critique` is here twice, first on line 6", "Keep one"),
    "duplicate top key": ("version: 1\n", "version: 1\nconstitution: two\n", 3, 1, "`constitution` is here twice, first on line 1", "Keep one"),
    "duplicate id": ("    exemplars:", f"  - id: one\n{REST}    exemplars:", 11, 9, "the id `one` is taken by the principle on line 4", "an id of its own"),
    "unknown key": ("    tags: [a]", "    colour: red", 10, 5, "a principle has no key `colour`", "It can have: id, title"),
    "misspelt key": ("    comparison: k", "    comparision: k", 8, 5, "a principle has no key `comparision`", "Did you mean `comparison`?"),
    "key in capitals": ("    critique: c\n    revision: r\n", "    Critique: c\n    revision: r\n", 6, 5, "a principle has no key `Critique`", "Did you mean `critique`?"),
    "misspelt inside": ("        response: r", "        respnse: r", 13, 9, "an exemplar has no key `respnse`", "Did you mean `response`?"),
    "missing key": ("    comparison: k\n", "", 4, 5, "a principle needs `comparison`", "the question the judge answers"),
    "missing top key": ("constitution: test\n", "", 1, 1, "a constitution needs `constitution`", "a name for the whole file"),
    "missing version": ("version: 1\n", "", 1, 1, "a constitution needs `version`", "`version:` 1"),
    "other version": ("version: 1", "version: 2", 2, 10, "`version: 2` is not a format version", "Write `version: 1`"),
    "version true": ("version: 1", "version: true", 2, 10, "`version: true` is not a format version", "Write `version: 1`"),
    "empty value": ("    title: One", "    title:", 5, 5, "`title` is empty", "a line for people"),
    "null": ("    title: One", "    title: ~", 5, 5, "`title` is empty", "a line for people"),
    "empty optional": ("    tags: [a]", "    tags:", 10, 5, "`tags` is empty", "or remove the key"),
    "blank text": ("    critique: c\n    revision", "    critique: '  '\n    revision", 6, 15, "`critique` is blank", "Write a text"),
    "true as text": ("    title: One", "    title: true", 5, 12, "`title` is read as true or false, not as text", 'in quotes: "true"'),
    "number as text": ("    comparison: k", "    comparison: 12", 8, 17, "`comparison` is read as a number, not as text", 'in quotes: "12"'),
    "hex as text": ("    comparison: k", "    comparison: 0x1F", 8, 17, "is read as a number", 'in quotes: "0x1F"'),
    "list as text": ("    revision: r\n    comp", "    revision: [r]\n    comp", 7, 15, "`revision` is a list, not a text", "Write one text"),
    "mapping as text": ("    title: One", "    title: {a: b}", 5, 12, "`title` is a mapping, not a text", "Write one text"),
    "text as list": ("    tags: [a]", "    tags: a", 10, 11, "`tags` is a text, not a list", "[harm, tone]"),
    "number in list": ("    tags: [a]", "    tags: [a, 2]", 10, 15, "this entry of `tags` is read as a number", 'in quotes: "2"'),
    "empty entry in list": ("    tags: [a]", "    tags:\n      - a\n      -", 12, 8, "this entry of `tags` is empty", "Fill it or remove it"),
    "bad id": ("  - id: one", "  - id: Not One!", 4, 9, "`Not One!` is not an id", "`not-one`?"),
    "id with a digit first": ("  - id: one", "  - id: 1st", 4, 9, "`1st` is not an id", "`st`?"),
    "long id": ("  - id: one", "  - id: " + "a" * 65, 4, 9, "is not an id", "at most 64"),
    "weight zero": ("weight: 1.0", "weight: 0", 9, 13, "`weight: 0` is outside 0 to 1000", "above 0"),
    "weight negative": ("weight: 1.0", "weight: -1", 9, 13, "`weight: -1` is outside", "above 0"),
    "weight too large": ("weight: 1.0", "weight: 1000.001", 9, 13, "is outside 0 to 1000", "at most 1000"),
    "weight infinite": ("weight: 1.0", "weight: .inf", 9, 13, "`weight: .inf` is outside", "above 0"),
    "weight overflowing": ("weight: 1.0", "weight: 1e999", 9, 13, "`weight: 1e999` is outside", "above 0"),
    "weight of 5,000 digits": ("weight: 1.0", "weight: " + "9" * 5000, 9, 13, "is outside", "above 0"),
    "weight not a number": ("weight: 1.0", "weight: .nan", 9, 13, "`weight: .nan` is outside", "above 0"),
    "weight true": ("weight: 1.0", "weight: true", 9, 13, "`weight: true` is not a number", "above 0"),
    "weight no": ("weight: 1.0", "weight: no", 9, 13, "`weight: no` is not a number", "above 0"),
    "weight in quotes": ("weight: 1.0", 'weight: "1.0"', 9, 13, "`weight` is not a number", "above 0"),
    "weight as a time": ("weight: 1.0", "weight: 12:30:00", 9, 13, "`weight: 12:30:00` is not a number", "above 0"),
    "weight too fine": ("weight: 1.0", "weight: 0.3333", 9, 13, "`weight: 0.3333` has more than three decimals", "three decimals"),
    "principle is a word": ("  - id: one", "  - hello\n  - id: one", 4, 5, "this entry of `principles` is a text, not a principle with keys", "Its keys are: id"),
    "empty principle": ("  - id: one", "  -\n  - id: one", 4, 4, "this entry of `principles` is empty", "Fill it or remove it"),
    "empty dialogue": ("      - prompt: p", "      - prompt: []", 12, 17, "`prompt` is an empty list", "the user's words"),
    "unknown role": ("      - prompt: p", "      - prompt: [{role: bot, content: x}]", 12, 25, "`role` is `bot`", "'system', 'user' or 'assistant'"),
    "dialogue ends wrong": ("      - prompt: p", "      - prompt: [{role: assistant, content: x}]", 12, 17, "`prompt` ends with the assistant's turn", "ends with the user's turn"),
    "late system message": ("      - prompt: p", "      - prompt: [{role: user, content: x}, {role: system, content: x}, {role: user, content: x}]", 12, 17, "has a system message after its first", "Put it first"),
    "alias": ("    title: One", "    title: *one", 5, 12, "`*one` is an alias", "Write the value out"),
    "emphasis read as alias": ("    title: One", "    title: *very* good", 5, 12, "`*very*` is an alias", "begins with `*`"),
    "anchor": ("    title: One", "    title: &x One", 5, 12, "`&x` is an anchor", "Remove it"),
    "tag": ("    title: One", "    title: !!python/object/apply:os.system [ls]", 5, 12, "", ""),
    "local tag": ("    title: One", "    title: !secret One", 5, 12, "`!secret` is a YAML tag", "Remove it"),
    "list as key": ("    tags: [a]", "    ? [a]\n    : b", 10, 7, "a key must be a word", "`key: value`"),
    "directive": ("constitution: test", "%YAML 1.1\n---\nconstitution: test", 1, 1, "directive", "Remove that line"),
    "second document": ("    tags: [a]", "---\n    tags: [a]", 10, 1, "a second document begins here", "one document"),
    "tab indents": ("    title: One", "\ttitle: One", 5, 1, "a tab indents this line", "spaces only"),
    "colon in text": ("    title: One", "    title: One: two", 5, 15, "a `:` here makes a second key", "in double quotes"),
    "open quote": ("    exemplars:", '    applies: "when\n    exemplars:', 11, 14, "this quote is never closed", "Close it"),
    "quote in quotes": ("    title: One", '    title: "say "hi" to"', 5, 18, "something goes on after the closing quote", '\\"'),
    "open bracket": ("    tags: [a]", "    tags: [a", 11, 14, "a bracket does not match", "a comma between entries"),
    "bad indent": ("    title: One", "   title: One", 5, 4, "the indentation fits nothing above", "two spaces"),
    "starts with @": ("    title: One", "    title: @home", 5, 12, "`@` cannot begin an unquoted text", "in double quotes"),
    "starts with %": ("    title: One", "    title: 5\n    applies: %x", 6, 14, "`%` cannot begin an unquoted text", "in double quotes"),
    "bad escape": ("    title: One", '    title: "\\q"', 5, 14, "no known escape", "single quotes"),
    "escape beyond Unicode": ("    title: One", '    title: "\\U99999999"', 5, 13, "names no character", "the character itself"),
    "block on the key's line": ("    title: One", "    title: > One", 5, 14, "begins on the line of `|` or `>`", "on the next line"),
    "no colon": ("    title: One", "    title", 6, 5, "the line above is neither", "Indent it under its key"),
    "escape character": ("    title: One", "    title: a\x1b[31m", 5, 13, "the hidden character U+001B", "Remove it"),
    "escaped escape character": ("    title: One", '    title: "a\\x1b[31m"', 5, 12, "`title` has the hidden character U+001B", "Remove it"),
    "lone surrogate": ("    title: One", '    title: "\\ud800"', 5, 12, "`title` has the hidden character U+D800", "Remove it"),
    "escaped NUL": ("    title: One", '    title: "\\0"', 5, 12, "`title` has the hidden character U+0000", "Remove it"),
    "right-to-left override": ("    title: One", "    title: a\u202eb", 5, 13, "the hidden character U+202E", "Remove it"),
    "tag characters": ("    title: One", "    title: a\U000e0041", 5, 13, "the hidden character U+E0041", "Remove it"),
    "tier too high": ("    weight: 1.0", "    tier: 10", 9, 11, "`tier: 10` is not a whole number from 0 to 9", "a higher tier decides"),
    "tier between": ("    weight: 1.0", "    tier: 1.5", 9, 11, "`tier: 1.5` is not a whole number", "0 is the usual one"),
    "hard is a word": ("    weight: 1.0", "    hard: yes", 9, 11, "`hard` is a text, not true or false", "without quotes"),
    "hard and overridable": ("    weight: 1.0", "    hard: true\n    overridable: [user]", 10, 5, "the principle is `hard` (line 9) and yet `overridable`", "Remove `overridable`, or remove `hard`"),
    "overridable by nobody known": ("    weight: 1.0", "    overridable: [boss]", 9, 19, "this entry of `overridable` is `boss`", "'operator' or 'user'"),
    "overridable is a word": ("    weight: 1.0", "    overridable: user", 9, 18, "`overridable` is a text, not a list", "[operator, user]"),
    "judge is a list": ("    weight: 1.0", "    judge: [choice]", 9, 12, "`judge` is a list, not the name of a judge", "judge: reasoned"),
    "judge without method": ("    weight: 1.0", "    judge: {max_words: 80}", 9, 12, "`judge` names no `method`", "method: rule"),
    "judge by a number": ("    weight: 1.0", "    judge: {method: 3}", 9, 12, "`judge` names `3`, which is no judge's name", "judge: reasoned"),
    "judge with a number that is none": ("    weight: 1.0", "    judge: {method: rule, max_words: .nan}", 9, 12, "`judge` has a number that is not finite", "finite"),
    "when says nothing": ("    weight: 1.0", "    when: {tags: []}", 9, 11, "`when` states no condition", "`ask: a yes/no question`"),
    "when is empty": ("    weight: 1.0", "    when:", 9, 5, "`when` is empty", "or remove the key"),
    "judge is empty": ("    weight: 1.0", "    judge:", 9, 5, "`judge` is empty", "or remove the key"),
    "rule is empty": ("    weight: 1.0", "    when: {rule: }", 9, 12, "`rule` is empty", "such as {contains"),
    "when is a word": ("    weight: 1.0", "    when: always", 9, 11, "`when` is a text, not `when` with keys", "tags, rule, ask"),
    "when misspelt": ("    weight: 1.0", "    when: {tag: [harm]}", 9, 12, "`when` has no key `tag`", "Did you mean `tags`?"),
    "when by a word for a check": ("    weight: 1.0", "    when: {rule: short}", 9, 18, "`rule` is a text, not a check with keys", "such as {contains"),
    "when asks nothing": ("    weight: 1.0", "    when: {ask: ''}", 9, 17, "`ask` is blank", "Write a text"),
    "why is a number": ("    weight: 1.0", "    why: 3", 9, 10, "`why` is read as a number, not as text", 'Put it in quotes: "3"'),
    "no principles": (GOOD[GOOD.index("principles:") :], "principles: []\n", 3, 13, "`principles` is an empty list", "- id:"),
    "principles missing": (GOOD[GOOD.index("principles:") :], "", 1, 1, "a constitution needs `principles`", "- id:"),
    "a list, not a mapping": (GOOD, "- a\n- b\n", 1, 1, "the file is a list, not a constitution with keys", "constitution, version, principles"),
    "a word": (GOOD, "hello\n", 1, 1, "the file is a text", "constitution, version, principles"),
    "null document": (GOOD, "~\n", 0, 0, "there is no constitution in this file", "constitution new"),
    "empty file": (GOOD, "", 0, 0, "there is no constitution in this file", "constitution new"),
    "only comments": (GOOD, "# nothing\n", 0, 0, "there is no constitution in this file", "constitution new"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_named_with_its_place_and_its_mending(name):
    old, new, line, column, message, hint = CASES[name]
    assert GOOD.count(old) >= 1
    problem, *more = problems_of(GOOD.replace(old, new, 1))
    assert (problem.line, problem.column) == (line, column)
    assert message in problem.message
    assert hint in problem.hint
    assert problem.message
    assert problem.hint
    assert not more or name == "tag", more  # whose list is not a text either


def test_a_merge_key_is_refused_and_nothing_is_merged():
    text = HEAD + "  - &base\n    id: one\n" + REST + "  - <<: *base\n    id: two\n"
    messages = [p.message for p in problems_of(text)]
    assert "merge keys (`<<`) are not read" in messages
    assert "`*base` is an alias, and aliases are not read" in messages
    assert "`&base` is an anchor, and anchors are not read" in messages


def test_all_mistakes_are_told_at_once_and_in_order():
    text = (
        "constitution: test\nversion: 3\nprinciples:\n"
        "  - id: a\n    title: t\n    critque: c\n    revision: 5\n    comparison: k\n    weight: -2\n    weight: 1\n"
        "  - id: a\n    title: &x t\n    critique: ''\n    revision: r\u202e\n"
    )
    with pytest.raises(ConstitutionError) as caught:
        loading.parse(text, "file.yaml")
    places = [(p.line, p.column, p.path) for p in caught.value.problems]
    assert places == [
        (2, 10, "version"),
        (6, 5, "principles[0].critque"),
        (7, 15, "principles[0].revision"),
        (9, 13, "principles[0].weight"),
        (10, 5, "principles[0].weight"),
        (11, 5, "principles[1]"),
        (11, 9, "principles[1].id"),
        (12, 12, ""),
        (13, 15, "principles[1].critique"),
        (14, 16, ""),
    ]
    lines = str(caught.value).splitlines()
    assert lines[0] == "file.yaml: 10 mistakes"
    assert all(f"file.yaml:{line}:{column}: " in str(caught.value) for line, column, _ in places)


def test_the_caret_stands_under_the_mistake():
    text = GOOD.replace("    tags: [a]", "    tags: [日本, {}]")
    assert str(error_of(text)).splitlines()[1:3] == [
        "  10 | " + "    tags: [日本, {}]",
        "     | " + " " * 17 + "^",
    ]


def test_it_is_a_users_mistake_with_exit_code_2():
    assert issubclass(ConstitutionError, UserError)


def test_the_message_is_safe_for_a_terminal():
    error = error_of(GOOD.replace("title: One", "title: \x1b]0;pwned\x07\u202e").replace("tags", "\x9b31m"))
    assert all(char.isprintable() or char == "\n" for char in str(error))
    assert "<U+001B>" in str(error)


def test_a_flood_of_mistakes_is_cut_and_counted():
    text = HEAD + "".join(f"  - id: p{n}\n    colour: red\n{REST}" for n in range(200))
    error = error_of(text)
    assert len(error.problems) == 200
    assert str(error).count("has no key `colour`") == SHOWN
    assert f"... and {200 - SHOWN} more." in str(error)


# --- bytes and files ---------------------------------------------------------------------------------------------

ENCODINGS = {
    "latin-1": (GOOD.replace("One", "Café").encode("latin-1"), 5, 15, "byte 0xE9 is not UTF-8 (in Windows-1252 it is `é`)"),
    "after other letters": (GOOD.replace("One", "é").encode() + b"# \xff\n", 16, 3, "byte 0xFF is not UTF-8"),
    "utf-16": (GOOD.encode("utf-16"), 1, 1, "this file is UTF-16, not UTF-8"),
    "utf-16 without a mark": (GOOD.encode("utf-16-le"), 1, 2, "looks like UTF-16 without a mark"),
    "utf-32": (GOOD.encode("utf-32"), 1, 1, "this file is UTF-32, not UTF-8"),
    "binary": (b"\x89PNG\r\n\x1a\n" + b"data" * 20 + b"\0", 3, 81, "a NUL byte: this is a binary file, not text"),
    "control characters": (b"\x01\x02\x03" * 100, 1, 1, "more than 100 control characters"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODINGS)
def test_what_is_not_utf8_text_is_refused_at_its_first_byte(name):
    data, line, column, message = ENCODINGS[name]
    with pytest.raises(ConstitutionError) as caught:
        parse_bytes(data, "file.yaml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (line, column)
    assert message in problem.message
    assert problem.hint


def test_files_that_are_none(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "huge.yaml").write_bytes(b"a" * 2_000_000)
    cases = {
        tmp_path / "nowhere.yaml": "there is no such file",
        tmp_path / "no" / "where.yaml": "there is no such file",
        tmp_path: "is a folder",
        tmp_path / "fifo": "is not a regular file",
        "/dev/zero": "is not a regular file",
        tmp_path / "huge.yaml": "larger than 256 KiB",
        "nul\0name.yaml": "cannot be read",
        tmp_path / ("x" * 300): "cannot be read",
    }
    for path, message in cases.items():
        with pytest.raises(ConstitutionError, match=message) as caught:
            loading.load(path)
        assert caught.value.problems[0].hint


# --- hostile files -----------------------------------------------------------------------------------------------

HOSTILE = {  # each a little under the size limit, so that size alone saves nobody
    "alias bomb": "a: &a [x]\n" + "".join(f"k{n}: &k{n} [{', '.join(['*a'] * 9)}]\n" for n in range(2000)),
    "merge bomb": "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n}\n  <<: [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 500)),
    "flow nesting": "[" * 250_000,
    "mapping nesting": "{a: " * 60_000,
    "block nesting": "- " * 125_000,
    "key nesting": "? " * 125_000,
    "indented nesting": "".join(" " * n + f"k{n}:\n" for n in range(600)),
    "many entries": "- a\n" * 60_000,
    "many flow entries": "[" + "a," * 125_000 + "]",
    "many duplicate keys": "a: 1\n" * 50_000,
    "many empty principles": HEAD + "  -\n" * 7_500,
    "many unknown keys": "{" + ", ".join(f"k{n}: 1" for n in range(3800)) + "}",
    "long line": "a: " + "word " * 50_000,
    "long number": "version: " + "9" * 250_000,
    "many tabs": "a:\n" + "\tb\n" * 80_000,
    "many hidden": "\x01" * 250_000,
    "many comments": "# x\n" * 60_000,
    "one huge key": "k" * 250_000 + ": 1",
    "too large": "#" * (MAX_BYTES + 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_under_a_second_and_readably(name):
    error = error_of(HOSTILE[name])
    assert error.problems[0].hint
    assert len(str(error)) < 40_000


def test_the_largest_honest_file_is_read_in_under_a_second():
    words = "Which of the two answers is the better one by this measure, and why? " * 6
    one = "  - id: p{}\n    title: t\n    critique: >\n      {w}\n    revision: '{w}'\n    comparison: {w}\n".replace(
        "{w}", words
    )
    text = HEAD + "".join(one.replace("{}", str(n)) for n in range(190))
    assert 0.9 * MAX_BYTES < len(text) < MAX_BYTES
    started = time.process_time()
    assert len(loading.parse(text)) == 190
    assert time.process_time() - started < 1


FRAGMENTS = [
    b"\t", b"\n", b": ", b"- ", b"[", b"]", b"{", b"}", b"'", b'"', b"&a ", b"*a", b"!", b"%", b"@", b"#", b"|", b">",
    b"? ", b"<<: *a", b"---\n", b"...\n", b"\\", b"\xff", b"\0", b"\x1b", b"\xe2\x80\xae", b"~", b"true", b"!<", b"|9\n",
    b"\xc2\x85", b"\r", b"\xef\xbb\xbf", b'"\\U99999999"', b"%YAML 1.1\n", b"1e999", b"0x", b"!!python/name:os.system ",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_no_damage_to_a_file_ends_in_a_traceback(seed):
    """Random damage to a good file: it loads, or it says what is wrong at a place that exists."""
    chance = random.Random(seed)
    whole = starting_point(chance.choice(["minimal", "support-desk"])).encode()
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 6])):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.choice([0, 0, 1, 30])] = chance.choice(FRAGMENTS)
        try:
            parse_bytes(bytes(data), "file.yaml")
        except ConstitutionError as error:
            lines = data.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")
            assert error.problems
            for problem in error.problems:
                assert problem.message
                assert problem.hint
                assert 0 <= problem.line <= len(lines)
