"""What a reviewer reads: true, with the changed words marked, and nothing in it obeyed by what renders it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from constitution.difference import diff
from constitution.markdown import MAX_TEXT, Cost, Flip, Flips, code, fenced, markdown, marked, summary, word
from constitution.principles import Constitution, Example, Exemplar, JudgedBy, Principle, When
from constitution.records import Message


def _principle(name: str, **changes) -> Principle:
    return replace(Principle(name, f"Title {name}", f"c {name}", f"r {name}", f"Which is {name}?"), **changes)


def _markdown(old: list[Principle], new: list[Principle], **given) -> str:
    return markdown(diff(Constitution("x", tuple(old)), Constitution("x", tuple(new))), **given)


def _html(text: str) -> str:
    """As forges read it: HTML in it would be HTML, tables and strikethrough are known."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)


A, B, C, D = (_principle(name) for name in "abcd")


def test_summary_counts_each_kind_of_change():
    old = Constitution("x", (A, B, C, D))
    new = (replace(A, comparison="k", weight=2000), replace(B, revision="v"), replace(C, id="see"), _principle("e"))
    assert summary(diff(old, Constitution("x", new))) == "1 added, 1 removed, 1 renamed, 2 reworded, 1 reweighted"
    new = (replace(A, title="T"), replace(B, tags=("t",)), replace(C, examples=(Example((), "b", "w"),)), D)
    assert summary(diff(old, Constitution("x", new))) == "1 retitled, 1 retagged, 1 with other examples"
    assert summary(diff(old, old)) == "no principle differs"


def test_the_table_says_what_each_change_costs():
    text = _markdown([A, B, C, D], [replace(A, comparison="k"), replace(B, critique="x", weight=5), D, _principle("e")])
    assert text.startswith("**Constitution:** 1 added, 1 removed, 2 reworded, 1 reweighted\n\nVersion `")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows == [
        "| `a` | reworded | judge asked anew |",
        "| `b` | reworded, reweighted | chains stale where it is drawn |",
        "| `e` | added | judge asked anew; chains stale where it will be drawn |",
        "| `c` | removed | chains stale where it was drawn |",
    ]
    assert "| `a` | reweighted | nothing |" in _markdown([A, B], [replace(A, weight=5), B])
    assert "| `a` → `z` | renamed | chains stale where it was drawn |" in _markdown([A, B], [replace(A, id="z"), B])


def test_the_changed_words_are_marked():
    before, after = "Which reply is kind and polite to people?", "Which answer is kind to most people?"
    line = "> Which ~~reply~~ **answer** is kind ~~and polite~~ to **most** people?"
    assert line in _markdown([replace(A, comparison=before)], [replace(A, comparison=after)])
    assert marked("one\ntwo", "one\n2\n\nthree") == "> one\\\n> ~~two~~ **2**\n>\n> **three**"
    assert marked("", "a") == "> **a**"
    assert marked("a", "") == "> ~~a~~"
    assert marked("5", "4.5") == "> ~~5~~ **4.5**"


def test_added_and_removed_principles_are_shown_whole():
    shot = Exemplar((Message("user", "hi"),), "r", "c", "v")
    text = _markdown([A, B], [A, replace(C, exemplars=(shot,), weight=1500)])
    added, removed = text.split("### `b`: removed")
    assert "### `c`: added\n\n> Title c\n\n**critique**\n\n> c c\n\n" in added
    assert "**weight**\n\n> 1.5\n\n" in added
    assert "```diff\n+user: hi\n+response: r\n+critique: c\n+revision: v\n```" in added
    assert "> Which is b?" in removed


def test_what_decides_who_judges_and_when_are_shown():
    new = replace(
        A, why="People leave.", tier=2, overridable=("user",), judge=JudgedBy("rule", '{"max_words":80}'),
        when=When(tags=("harm",)),
    )  # fmt: skip
    text = _markdown([A, B], [new, replace(B, hard=True)])
    assert (
        "| `a` | reworded, reweighted, judged otherwise, asked of other prompts | checked anew, by code: no call"
        in text
    )
    assert "| `b` | reweighted | nothing |" in text
    for words in (
        "**why**\n\n> **People leave.**",
        "**tier**\n\n> **2**",
        "**overridable**\n\n> **user**",
        "**hard**\n\n> **true**",
    ):
        assert words in text
    html = _html(text)
    assert "max_words" in html and "harm" in html and "80" in html


def test_changed_examples_are_a_diff_of_lines():
    before, after = (Example((Message("user", "hi"),), better, "w") for better in ("good", "better"))
    text = _markdown([replace(A, examples=(before,))], [replace(A, examples=(after,))])
    assert "```diff\n user: hi\n-better: good\n+better: better\n worse: w\n```" in text
    assert "the same version" in text


def test_prices_and_flips_are_those_handed_in():
    flip = Flip("p", "one", "two", "first is better", "second is better", ("a", "b"))
    new = [replace(A, weight=2)]
    text = _markdown([A], new, cost=Cost(1200, 345678, 12.4), flips=Flips(2000, 50, 30, (flip,)))
    assert "**Price of a default retrain:** 1,200 verdicts, 345,678 tokens, about 12 s." in text
    assert "**Labels that flip:** 50 of 2,000 (2.5%); 30 more depend on what the judge will answer." in text
    assert "**first is better → second is better**, because of `a`, `b`\n\nprompt:\n\n```text\np\n```\n\nfirst:" in text
    assert "0 tokens." in _markdown([A], new, cost=Cost(0, 0))
    assert "0 of 0." in _markdown([A], new, flips=Flips(0, 0, 0))
    assert "Price" not in _markdown([A], new) and "flip" not in _markdown([A], new)


def test_no_change_is_one_line_of_words():
    text = _markdown([A, B], [B, A])
    assert text.startswith("**Constitution:** no principle differs\n\nVersion `")
    assert "|" not in text


HOSTILE = [
    "<script>alert(1)</script>", "<!-- x", "&lt;b&gt;", "```", "~~~", "`````` x", "# heading", "- item", "+ item",
    "1. item", "1) x", "> quote", "---", "===", "***", "**bold**", "_em_", "~~struck~~", "[link](http://evil.example)",
    "![image](http://evil.example/x.png)", "<http://evil.example>", "http://evil.example", "www.evil.example", "@ada",
    "#12", "$x$", ":tada:", "| a | b |\n|---|---|", "\\", "\\`", "[^1]", "[x]: http://evil.example", "    code",
    "\x1b[31mred", "\u202egnp", "a\\\n", "\t- x", "*", "**", "`", "`` ` ``", "a@b.example", "]]>", "&#60;b>", "<b",
]  # fmt: skip
TAGS = {"p", "strong", "s", "code", "pre", "h3", "blockquote", "br", "table", "thead", "tbody", "tr", "th", "td"}


def _check(text: str) -> None:
    html = _html(text).replace("<br />", "<br>")
    tags = set(re.findall(r"</?([a-z0-9]+)", html))
    assert tags <= TAGS, (tags - TAGS, text)
    assert re.findall(r"<(?!/)[a-z0-9]+ (?!class=\"language-(?:text|diff)\")[^>]*>", html) == []
    assert html.count("<h3") == len(re.findall(r"^### ", text, re.MULTILINE))
    assert "\x1b" not in text and "\u202e" not in text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_words_are_shown_and_not_obeyed(hostile):
    old = _principle("a", comparison=f"{hostile}\n{hostile} old {hostile}", title=hostile)
    new = _principle("a", comparison=f"new {hostile}\n{hostile}\n\n{hostile} {hostile}", title=f"{hostile} {hostile}")
    shot = Example((Message("user", hostile),), hostile, f"x\n{hostile}")
    flips = Flips(1, 1, 0, (Flip(hostile, hostile, f"x\n{hostile}", hostile, hostile, (hostile,)),))
    text = _markdown([old], [new, _principle("b", title=hostile, critique=hostile, examples=(shot,))], flips=flips)
    _check(text)
    assert _html(text).count("<h3") == 3  # a, b and the flips


def test_what_a_forge_would_link_is_a_code_span():
    for text in ("@ada", "#12", "https://evil.example", "WWW.evil.example", "$x$", ":tada:"):
        assert word(text) == f"`{text}`"
    assert code("a`b") == "``a`b``"
    assert code("`") == "`` ` ``"
    assert word("<b>|*_[x]~\\") == "&lt;b&gt;\\|\\*\\_\\[x\\]\\~\\\\"
    assert (word("1.", first=True), word("1."), word("-", first=True)) == ("1\\.", "1.", "\\-")


def test_a_fence_is_longer_than_any_in_the_text_and_long_texts_are_cut():
    assert fenced("a\n````\nb") == "`````text\na\n````\nb\n`````"
    assert fenced("x" * (MAX_TEXT + 1234)).endswith("x\n... and 1,234 more characters\n```")


NASTY = st.lists(st.sampled_from([*HOSTILE, "word", "\n", " ", "a", "b."]), max_size=8).map("".join)


@settings(max_examples=150, deadline=None)
@given(NASTY, NASTY)
def test_whatever_is_written_the_page_holds(before, after):
    old, new = _principle("a", critique=before), _principle("a", critique=after, title=before)
    _check(_markdown([old], [new], flips=Flips(1, 1, 0, (Flip(before, after, after, before, after, ()),))))


@settings(max_examples=150, deadline=None)
@given(*[st.lists(st.sampled_from(["one", "two", "-", "1.", "*x*", "<b>", "\n"]), max_size=7).map(" ".join)] * 2)
def test_without_the_struck_words_it_reads_as_the_new_text(before, after):
    html = re.sub(r"<s>.*?</s>", "", _html(marked(before, after)), flags=re.DOTALL)
    shown = re.sub(r"<[^>]+>", " ", html).replace("&lt;", "<").replace("&gt;", ">")
    assert shown.split() == after.split()
