"""A draft in a page: kept, proposed, ratified, declined, merged with what came meanwhile, and the file beside it."""

from __future__ import annotations

import pytest

from constitution.errors import UserError
from constitution.problems import ConstitutionError
from service.actions import drafts, working_copy
from service.actions.drafts import Behind, Newer
from service.actions.ratify import ratify
from service.queries import changes
from service.queries.checked import check
from storage.store import Store

TEXT = """\
constitution: two
version: 1
principles:
  # Kindness first.
  - {id: kind, title: Kind, critique: Is it rude?, revision: Be kind., comparison: Which is kinder?, weight: 3}
  - {id: short, title: Short, critique: Is it long?, revision: Be short., comparison: Which is shorter?, weight: 1}
"""
HEAVIER = TEXT.replace("weight: 3", "weight: 5")
LIGHTER = TEXT.replace("weight: 3", "weight: 2")
RETITLED = TEXT.replace("title: Short", "title: Brief")


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "precept.db") as store:
        ratify(store, drafts.read(TEXT), None, "ada", "the first")
        yield store


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "principles.yaml"
    path.write_text(TEXT)
    return path


def kept(store, who, text, **more):
    return drafts.keep(store, who, text, **more).digest


def test_a_draft_is_ratified_once_and_the_unchanged_file_is_written(store, file):
    digest = kept(store, "ada", HEAVIER.replace("\n", "\r\n"))  # as a browser sends it
    made = [drafts.ratify_draft(store, "ada", digest, "Kindness  counts\nmore", file) for _ in range(2)]
    assert made[0].amendment == made[1].amendment and made[0].amendment.number == 2
    assert (made[0].amendment.text, made[0].amendment.message) == (HEAVIER, "Kindness counts more")
    assert [done.file.state for done in made] == ["written", "same"]
    assert file.read_text() == HEAVIER
    assert store.draft("ada") is None
    assert len(store.amendments()) == 2


def test_a_file_that_somebody_edits_is_left_as_it_is(store, file):
    file.write_text("# mine\n" + TEXT)
    done = drafts.ratify_draft(store, "ada", kept(store, "ada", HEAVIER), "why", file)
    assert done.file.state == "left" and file.read_text() == "# mine\n" + TEXT
    assert "--merge" in done.file.says
    file.unlink()
    done = drafts.ratify_draft(store, "ada", kept(store, "ada", LIGHTER), "why", file)
    assert done.file.state == "absent" and not file.exists()


def test_a_file_with_other_line_breaks_counts_as_unchanged(store, file):
    file.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert working_copy.compare(file, TEXT) == "same"
    assert drafts.ratify_draft(store, "ada", kept(store, "ada", HEAVIER), "why", file).file.state == "written"


def test_what_is_ratified_is_what_was_shown(store, file):
    digest = kept(store, "ada", HEAVIER)
    kept(store, "ada", LIGHTER)
    with pytest.raises(UserError, match="not the one that was shown"):
        drafts.ratify_draft(store, "ada", digest, "why", file)
    with pytest.raises(UserError, match="a reason"):
        drafts.ratify_draft(store, "ada", kept(store, "ada", LIGHTER), " \n", file)
    kept(store, "ada", "constitution: [")
    with pytest.raises(ConstitutionError):
        drafts.ratify_draft(store, "ada", store.draft("ada").digest, "why", file)
    assert len(store.amendments()) == 1 and file.read_text() == TEXT


def test_the_second_of_two_sees_the_first_and_merges(store, file):
    ada, ben = kept(store, "ada", HEAVIER), kept(store, "ben", RETITLED)
    drafts.ratify_draft(store, "ada", ada, "heavier", file)
    with pytest.raises(Behind, match="ada has ratified amendment 2 since") as raised:
        drafts.ratify_draft(store, "ben", ben, "retitled", file)
    told = changes.told(raised.value.found)
    assert [(t.who, t.what) for t in told] == [("they changed", "kind weight"), ("you changed", "short title")]
    both = drafts.merge(store, "ben")
    assert both.text == HEAVIER.replace("title: Short", "title: Brief")
    assert drafts.merge(store, "ben") == both  # again changes nothing
    assert drafts.ratify_draft(store, "ben", both.digest, "retitled", file).amendment.number == 3


def test_two_edits_that_contradict_are_told_and_one_may_stand_knowingly(store, file):
    ada, ben = kept(store, "ada", HEAVIER), kept(store, "ben", LIGHTER)
    drafts.ratify_draft(store, "ada", ada, "heavier", file)
    with pytest.raises(Behind) as raised:
        drafts.merge(store, "ben")
    assert [t.side for t in changes.told(raised.value.found)] == ["conflict"]
    assert store.draft("ben").text == LIGHTER
    drafts.mine_after_theirs(store, "ben", ben)
    assert drafts.ratify_draft(store, "ben", ben, "lighter after all", file).amendment.text == LIGHTER


def test_a_proposal_waits_for_whoever_may_ratify(store, file):
    digest = kept(store, "ed", HEAVIER)
    proposals = [drafts.propose(store, "ed", digest, "users ask for it", "k1") for _ in range(2)]
    assert proposals[0] == proposals[1] and proposals[0].state == "open"
    assert store.draft("ed") is None and store.ratified().number == 1
    done = [drafts.accept(store, "ada", proposals[0].id, digest, "agreed", file) for _ in range(2)]
    assert done[0].amendment == done[1].amendment
    assert (done[0].amendment.who, done[0].amendment.text) == ("ada", HEAVIER)
    assert drafts.find(store, proposals[0].id).state == "ratified"
    with pytest.raises(UserError, match="ratified by ada already"):
        drafts.decline(store, "kim", proposals[0].id, "no")


def test_a_proposal_is_declined_with_a_reason_or_taken_back(store):
    one = drafts.propose(store, "ed", kept(store, "ed", HEAVIER), "why", "k1")
    other = drafts.propose(store, "ed", kept(store, "ed", LIGHTER), "why", "k2")
    with pytest.raises(UserError, match="the reason"):
        drafts.decline(store, "ada", one.id, "")
    with pytest.raises(UserError, match="only they take it back"):
        drafts.withdraw(store, "ada", other.id)
    assert drafts.decline(store, "ada", one.id, "not now").state == "declined"
    assert drafts.withdraw(store, "ed", other.id).state == "withdrawn"
    assert drafts.take_up(store, "ed", one.id).text == HEAVIER  # to go on with it


def test_a_proposal_that_was_overtaken_is_ratified_with_both_edits(store, file):
    proposal = drafts.propose(store, "ed", kept(store, "ed", RETITLED), "why", "k1")
    drafts.ratify_draft(store, "ada", kept(store, "ada", HEAVIER), "heavier", file)
    with pytest.raises(UserError, match="not what was shown"):
        drafts.accept(store, "ada", proposal.id, proposal.digest, "yes", file)
    text, after = drafts.text_now(store, proposal)
    assert text == HEAVIER.replace("title: Short", "title: Brief") and after == store.ratified().event
    digest = kept(store, "zoe", text)
    assert drafts.accept(store, "ada", proposal.id, digest, "yes", file).amendment.text == text


def test_a_draft_that_says_what_is_in_force_is_none(store):
    kept(store, "ada", HEAVIER)
    assert drafts.keep(store, "ada", TEXT) is None and store.draft("ada") is None
    with pytest.raises(UserError, match="you have no draft"):
        drafts.propose(store, "ada", "0" * 12, "why", "k")
    with pytest.raises(UserError, match="at most 256 KiB"):
        drafts.keep(store, "ada", "x" * 300_000)
    with pytest.raises(UserError, match="no such amendment"):
        drafts.keep(store, "ada", HEAVIER, base="made up")


def test_a_second_window_is_told(store):
    first = kept(store, "ada", HEAVIER)
    kept(store, "ada", LIGHTER, seen=first)
    with pytest.raises(Newer, match="another window"):
        drafts.keep(store, "ada", RETITLED, seen=first)
    with pytest.raises(Newer):
        drafts.keep(store, "ada", TEXT, seen=first)  # going back to what is in force throws nothing away unseen
    assert store.draft("ada").text == LIGHTER


def test_the_first_constitution_of_a_store(tmp_path, file):
    with Store.open(tmp_path / "fresh.db") as store:
        digest = kept(store, "ada", TEXT)
        done = [drafts.ratify_draft(store, "ada", digest, "to begin", file) for _ in range(2)]
        assert done[0].amendment == done[1].amendment and done[0].amendment.number == 1
        assert done[0].file.state == "same"


@pytest.mark.parametrize("odd", ["\x00", "\x1b[31m", "\u202e", "\ud800", "<script>", "{{ 7*7 }}", "\u2028"])
def test_hostile_text_is_kept_and_told_by_line(store, odd):
    draft = drafts.keep(store, "ada", TEXT.replace("Is it long?", f"'{odd}'"))
    found = check(draft.text)
    if odd in ("<script>", "{{ 7*7 }}"):
        assert found.ok
    elif odd != "\ud800":  # half a character is no text, and becomes a mark that is
        assert [p.line for p in found.problems] == [6]
    draft.text.encode()
