"""One field, example or principle of a text is edited, and every other line, comments among them, stays as it is."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

import pytest

from constitution import editing, loading
from constitution.editing import ByHand
from constitution.errors import UserError
from constitution.problems import ConstitutionError
from constitution.starting_points import starting_point

WHOLE = (Path(__file__).parent.parent.parent / "principles.yaml").read_text(encoding="utf-8")
SHIPPED = WHOLE[WHOLE.index("\nconstitution: ") + 1 : WHOLE.index('  # "Kill the program')]  # two of its principles
ODD = (
    "yes: no", "# no comment", "'", '"', "- a", "[x]", "{x}", "&a *b !c", "a # b", "{{ 7*7 }}", "<script>", "é 漢",
    "long " * 60, "two\n  lines\n\nmore", "a\tb", "true", "1.5", "~", "a:", "? b", "|", ">-", "`@`", "%",
)  # fmt: skip


def gone_and_come(old: str, new: str) -> tuple[list[str], list[str]]:
    lines = list(unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm=""))[2:]
    return [x[1:] for x in lines if x[0] == "-"], [x[1:] for x in lines if x[0] == "+"]


@pytest.mark.parametrize("value", ODD)
def test_a_field_says_what_was_typed_and_no_other_line_changes(value):
    new = editing.set_field(SHIPPED, "candid", "comparison", value)
    assert loading.parse(new)["candid"].comparison == value.strip()
    gone, come = gone_and_come(SHIPPED, new)
    assert gone == ["    comparison: Which reply admits that it does not know and does not invent?"]
    assert all(len(line) <= 120 for line in come)
    example = editing.add_example(SHIPPED, "harmless", value, "better", "worse")
    assert loading.parse(example)["harmless"].examples[-1].prompt[0].content == value.strip()
    assert gone_and_come(SHIPPED, example)[0] == []


@pytest.mark.parametrize("text", [SHIPPED, starting_point("minimal")])
def test_every_field_can_be_edited(text):
    constitution = loading.parse(text)
    principle = constitution.principles[-1]
    for field in editing.FIELDS:
        was = editing.said(principle.as_dict()[field])
        now = "7" if field == "weight" else "one, two" if field == "tags" else f"{was} more".strip()
        new = editing.set_field(text, principle.id, field, now)
        assert editing.said(loading.parse(new)[principle.id].as_dict()[field]) == now
    more = editing.add_example(text, principle.id, "p", "b", "w")
    assert gone_and_come(text, more)[0] == []
    assert editing.remove_example(more, principle.id, len(principle.examples) + 1) == text
    assert principle.id not in loading.parse(editing.remove_principle(text, principle.id)).weights()


def test_nothing_is_changed_by_the_same_again():
    for principle in loading.parse(WHOLE).principles[:2]:
        for field in ("title", "comparison", "weight"):
            assert editing.set_field(WHOLE, principle.id, field, editing.said(principle.as_dict()[field])) == WHOLE


def test_comments_of_others_stay():
    gone, come = gone_and_come(SHIPPED, editing.remove_principle(SHIPPED, "harmless"))
    assert come == [] and gone[0].startswith("  # Above all.")
    assert "  # A made-up answer is worse than none." not in gone
    commented = SHIPPED.replace("    weight: 5\n", "    weight: 5  # agreed in May\n")
    assert "    weight: 6  # agreed in May\n" in editing.set_field(commented, "harmless", "weight", "6")
    more = editing.add_example(SHIPPED, "harmless", "p", "b", "w")
    assert more.index("worse: w") < more.index("# A made-up answer")


def test_a_principle_is_added_at_the_end():
    fields = {"title": "Offer", "critique": "c", "revision": "r", "comparison": "Which: offers?", "weight": "2.5"}
    new = editing.add_principle(SHIPPED, "inviting", fields)
    assert loading.parse(new)["inviting"].weight == 2500
    assert gone_and_come(SHIPPED, new)[0] == []
    with pytest.raises(ConstitutionError):
        editing.add_principle(SHIPPED, "harmless", fields)  # there is one
    with pytest.raises(ConstitutionError):
        editing.add_principle(SHIPPED, "Not An Id", fields)
    with pytest.raises(ConstitutionError):
        editing.add_principle(SHIPPED, "new", {"title": "only"})


@pytest.mark.parametrize("line", ["a: [", "weight: 1", "\n  - id: other", "</textarea>"])
def test_a_value_stays_a_value(line):
    """Whatever is typed into a form is one field, and makes no key and no principle."""
    new = editing.set_field(SHIPPED, "candid", "title", line)
    assert len(loading.parse(new)) == len(loading.parse(SHIPPED))
    with pytest.raises((ConstitutionError, UserError)):
        editing.set_field(SHIPPED, "candid", "weight", f"{line}, 1")


def test_what_a_form_cannot_change_is_said():
    flow = "constitution: x\nversion: 1\nprinciples:\n  - {id: a, title: A, critique: c, revision: r, comparison: q}\n"
    for edit in (
        lambda: editing.set_field(flow, "a", "title", "B"),
        lambda: editing.add_example(flow, "a", "p", "b", "w"),
    ):
        with pytest.raises((ByHand, ConstitutionError)):
            edit()
    with pytest.raises(UserError, match="one principle at least"):
        editing.remove_principle(flow, "a")
    with pytest.raises(UserError, match="no principle"):
        editing.set_field(SHIPPED, "none", "title", "x")
    with pytest.raises(ConstitutionError):
        editing.set_field(SHIPPED, "candid", "title", "")
    with pytest.raises(UserError, match="has no example 9"):
        editing.remove_example(SHIPPED, "candid", 9)
    windows = SHIPPED.replace("\n", "\r\n")
    assert editing.set_field(windows, "candid", "title", "B") == editing.set_field(
        SHIPPED, "candid", "title", "B"
    ).replace("\n", "\r\n")
