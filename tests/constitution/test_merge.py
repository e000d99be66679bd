"""Two amendments of one constitution: each field has one of four fates, and the merged text holds both or is None."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constitution import loading
from constitution.merge import Edit, nearest, three_way
from constitution.problems import ConstitutionError

HEAD = "# ours\nconstitution: x\nversion: 1\nprinciples:\n"


def entry(id: str, **words: object) -> str:
    """One principle, as people lay it out: a comment above, a blank line below."""
    said = {"title": "T", "critique": "c", "revision": "r", "comparison": f"Which {id}?", "weight": 1} | words
    return "\n".join([f"  # on {id}", f"  - id: {id}", *(f"    {name}: {said[name]}" for name in said), "", ""])


A, B, C = entry("a"), entry("b"), entry("c")
BASE = HEAD + A + B + C


def sides(theirs: str, yours: str) -> list[tuple[str, str, str]]:
    return [(edit.id, edit.field, edit.side) for edit in three_way(BASE, theirs, yours).edits]


def test_one_sided_changes_are_both_taken_with_their_comments():
    theirs = BASE.replace("Which a?", "Which is a?  # asked better")
    yours = BASE.replace("  # on c", "  # on c, the last").replace("Which c?", "What c?")
    result = three_way(BASE, theirs, yours)
    assert [(e.id, e.field, e.side, e.base, e.theirs, e.yours) for e in result.edits] == [
        ("a", "comparison", "theirs", "Which a?", "Which is a?", "Which a?"),
        ("c", "comparison", "yours", "Which c?", "Which c?", "What c?"),
    ]
    assert result.conflicts == ()
    assert result.merged == theirs.replace("  # on c", "  # on c, the last").replace("Which c?", "What c?")


def test_the_same_change_by_both_is_no_conflict():
    same = BASE.replace("weight: 1", "weight: 2", 1)
    assert sides(same, same) == [("a", "weight", "both")]
    assert three_way(BASE, same, same).merged == same
    assert three_way(BASE, BASE, BASE).edits == ()
    assert three_way(BASE, BASE, BASE).merged == BASE


def test_one_field_changed_differently_is_a_conflict():
    theirs, yours = (BASE.replace("Which b?", f"{who} b?") for who in ("Their", "Your"))
    result = three_way(BASE, theirs, yours)
    assert result.conflicts == (Edit("b", "comparison", "conflict", "Which b?", "Their b?", "Your b?"),)
    assert result.merged is None


def test_neighbouring_lines_of_one_principle_are_merged():
    """Line tools call this a conflict; here the fields say that it is none."""
    theirs, yours = BASE.replace("Which b?", "Their b?"), BASE.replace("critique: c", "critique: yours")
    merged = three_way(BASE, theirs, yours).merged
    assert merged == theirs.replace("critique: c", "critique: yours")
    theirs, yours = BASE.replace("revision: r", "revision: t"), BASE.replace("critique: c", "critique: y")
    assert three_way(BASE, theirs, yours).merged == theirs.replace("critique: c", "critique: y")


def test_two_principles_added_in_one_place_are_both_kept():
    theirs, yours = BASE + entry("t"), BASE + entry("y")
    assert sides(theirs, yours) == [("t", "", "theirs"), ("y", "", "yours")]
    assert three_way(BASE, theirs, yours).merged == BASE + entry("t") + entry("y")
    assert three_way(BASE, theirs, theirs).edits[0].side == "both"
    other = BASE + entry("t", weight=2)
    assert [e.side for e in three_way(BASE, theirs, other).conflicts] == ["conflict"]


def test_removed_by_one_and_changed_by_the_other_is_a_conflict():
    gone, changed = HEAD + A + C, BASE.replace("Which b?", "What b?")
    for theirs, yours in ((gone, changed), (changed, gone)):
        (edit,) = three_way(BASE, theirs, yours).edits
        assert (edit.id, edit.field, edit.side) == ("b", "", "conflict")
        assert [value and value.id for value in (edit.theirs, edit.yours)] in (["b", None], [None, "b"])
    assert sides(gone, BASE) == [("b", "", "theirs")]
    assert sides(gone, HEAD + B) == [("a", "", "yours"), ("b", "", "theirs"), ("c", "", "yours")]
    assert sides(gone, gone) == [("b", "", "both")]
    assert three_way(BASE, gone, BASE).merged == three_way(BASE, BASE, gone).merged == gone


def test_a_renamed_principle_keeps_what_the_other_changed_of_it():
    theirs, yours = BASE.replace("- id: b", "- id: bee"), BASE.replace("title: T", "title: U")
    assert ("b", "id", "theirs") in sides(theirs, yours)
    merged = three_way(BASE, theirs, yours).merged
    assert merged is not None
    assert loading.parse(merged)["bee"].title == "U"


def test_renamed_twice_and_renamed_into_anothers_new_id_are_conflicts():
    theirs, yours = BASE.replace("- id: b", "- id: t"), BASE.replace("- id: b", "- id: y")
    assert sides(theirs, yours) == [("b", "id", "conflict")]
    theirs, yours = BASE.replace("- id: b", "- id: new"), BASE + entry("new", weight=3)
    (conflict,) = three_way(BASE, theirs, yours).conflicts
    assert (conflict.id, conflict.field, conflict.theirs.weight, conflict.yours.weight) == ("new", "id", 1000, 3000)
    assert three_way(BASE, theirs, yours).merged is None


def test_comments_that_clash_leave_no_merged_text_but_no_conflict_either():
    theirs, yours = BASE.replace("# on b", "# theirs"), BASE.replace("# on b", "# yours")
    result = three_way(BASE, theirs, yours)
    assert (result.edits, result.conflicts, result.merged) == ((), (), None)


def test_a_merged_text_that_says_something_else_is_none():
    """Both moved the weight up, to two places: their lines do not overlap, and together they write it twice."""
    bare = BASE.replace("    weight: 1\n", "", 1)
    theirs = bare.replace("    title: T\n", "    title: T\n    weight: 1\n", 1)
    yours = bare.replace("    title: T\n", "    weight: 1\n    title: T\n", 1)
    result = three_way(BASE, theirs, yours)
    assert (result.edits, result.merged) == ((), None)


def test_a_draft_with_mistakes_is_told_as_yours():
    with pytest.raises(ConstitutionError, match="yours:8:5"):
        three_way(BASE, BASE, BASE.replace("critique: c", "crtique: c", 1))


def test_everything_removed_by_both_together_is_no_constitution():
    result = three_way(HEAD + A + B, HEAD + A, HEAD + B)
    assert [(edit.id, edit.side) for edit in result.edits] == [("a", "yours"), ("b", "theirs")]
    assert result.merged is None


def test_the_name_of_the_file_is_a_field_too():
    theirs, yours = BASE.replace("tion: x", "tion: t"), BASE.replace("Which c?", "What c?")
    assert sides(theirs, yours)[0] == ("", "constitution", "theirs")
    assert three_way(BASE, theirs, yours).merged == theirs.replace("Which c?", "What c?")
    assert three_way(BASE, theirs, BASE.replace("tion: x", "tion: y")).conflicts[0].field == "constitution"


def test_another_systems_line_breaks_are_no_change():
    theirs, yours = BASE.replace("Which a?", "What a?"), BASE.replace("Which c?", "What c?").replace("\n", "\r\n")
    assert three_way(BASE, theirs, yours).merged == yours.replace("Which a?", "What a?")


def test_nearest_is_the_text_with_the_fewest_changed_lines_and_of_equals_the_newest():
    other = BASE.replace("weight: 1", "weight: 5")
    assert nearest(BASE + "# more\n", [BASE, other]) == 0
    assert nearest(other + "# more\n", [BASE, other, HEAD + A]) == 1
    assert nearest(BASE, [BASE, other, BASE, other]) == 2
    with pytest.raises(ValueError):
        nearest(BASE, [])


# --- random edits --------------------------------------------------------------------------------------------------

IDS = tuple("abcdef")
WORDS = ("title", "critique", "revision", "comparison", "weight")


@st.composite
def amended(draw, who: int, ids: list[str]) -> dict[str, str]:
    """By place in the file, what one person makes of it: principles of these ids, and new ones before any."""
    texts = {}
    for id in ids:
        action = draw(st.sampled_from(["keep", "keep", "remove", "reword", "comment", "add"]))
        if action == "remove":
            texts[id] = ""
        elif action == "reword":
            names = draw(st.sets(st.sampled_from(WORDS), min_size=1))
            texts[id] = entry(id, **{name: who if name == "weight" else f"by {who}" for name in names})
        elif action == "comment":
            texts[id] = entry(id).replace(f"# on {id}", f"# on {id} by {who}")
        elif action == "add":
            texts[id] = entry(f"{id}-{who}") + entry(id)
    return texts


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_disjoint_edits_are_both_in_the_merged_text(data):
    """Each principle belongs to one of two people, who does with it what they like; `z` is nobody's."""
    mine = data.draw(st.sets(st.sampled_from(IDS)))
    theirs = data.draw(amended(2, [id for id in IDS if id not in mine]))
    yours = data.draw(amended(3, [id for id in IDS if id in mine]))
    end = entry("z")
    texts = [
        HEAD + "".join(made.get(id, entry(id)) for id in IDS) + end for made in ({}, theirs, yours, theirs | yours)
    ]
    result = three_way(*texts[:3])
    assert result.conflicts == ()
    assert {edit.side for edit in result.edits} <= {"theirs", "yours"}
    assert result.merged == texts[3]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_two_people_do_nothing_is_merged_that_either_did_not_say(data):
    theirs, yours = (data.draw(amended(who, list(IDS))) for who in (2, 3))
    end = entry("z")
    texts = [HEAD + "".join(made.get(id, entry(id)) for id in IDS) + end for made in ({}, theirs, yours)]
    result, mirrored = three_way(*texts), three_way(texts[0], texts[2], texts[1])
    swapped = {"theirs": "yours", "yours": "theirs"}
    assert {(e.id, e.field, e.side) for e in mirrored.edits} == {
        (e.id, e.field, swapped.get(e.side, e.side)) for e in result.edits
    }
    assert (mirrored.merged is None) == (result.merged is None)
    if result.conflicts:
        assert result.merged is None
    if result.merged is not None:
        said = {p.id: p for p in loading.parse(result.merged)}
        for edit in result.edits:
            taken = edit.theirs if edit.side == "theirs" else edit.yours
            assert (getattr(said[edit.id], edit.field) if edit.field else said.get(edit.id)) == taken
        lines = set(result.merged.split("\n"))
        for text in texts[1:]:  # and no comment of either is lost
            assert {line for line in text.split("\n") if " by " in line and "#" in line} <= lines
