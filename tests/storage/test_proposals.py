"""Drafts and proposals: kept as they are typed, proposed once, decided once, in one transaction with the amendment."""

from __future__ import annotations

import threading

import pytest

from constitution.errors import UserError
from storage.amendments import amendment_key
from storage.proposals import DECLINED, WITHDRAWN
from storage.store import Store

ODD = "text: '\u202e \x00 \ud800'\n"


def test_a_draft_is_kept_by_person_and_survives_closing(store_url, tmp_path):
    with Store.open(store_url) as store:
        assert store.draft("ada") is None
        assert store.put_draft("ada", "one", "e1")[1]
        assert store.put_draft("ben", ODD, "e1")[1]
    with Store.open(store_url) as store:
        assert (store.draft("ada").text, store.draft("ada").base) == ("one", "e1")
        assert store.draft("ben").text == ODD
        assert {d.who for d in store.drafts()} == {"ada", "ben"}
        store.drop_draft("ada")
        assert store.draft("ada") is None and store.draft("ben") is not None


def test_a_second_window_does_not_write_over_the_first(store):
    first, _ = store.put_draft("ada", "one", "e1", seen="")
    second, kept = store.put_draft("ada", "two", "e1", seen=first.digest)
    assert kept
    other, kept = store.put_draft("ada", "three", "e1", seen=first.digest)  # a window that still shows "one"
    assert (other.text, kept) == ("two", False)
    assert store.put_draft("ada", "two", "e1", seen="whatever")[1]  # the same text is no conflict
    assert store.put_draft("ada", "three", "e1", seen=None)[0].text == "three"
    assert second.digest != first.digest


def test_a_proposal_is_made_once_and_drops_the_draft(store):
    store.put_draft("ada", "text", "e1")
    made = [store.propose_amendment("ada", "v", "text", "e1", "why", "key") for _ in range(2)]
    assert made[0] == made[1]
    [proposal] = store.proposed_amendments()
    assert (proposal.state, proposal.who, proposal.text, proposal.base, proposal.message) == (
        "open", "ada", "text", "e1", "why",
    )  # fmt: skip
    assert store.draft("ada") is None


def test_a_proposal_is_decided_once(store):
    proposal = store.propose_amendment("ada", "v", "text", "", "why", "key").id
    store.close_proposal(DECLINED, proposal, "eve", "too long")
    store.close_proposal(DECLINED, proposal, "eve", "sent again")
    with pytest.raises(UserError, match="declined by eve already"):
        store.close_proposal(WITHDRAWN, proposal, "ada", "")
    with pytest.raises(UserError, match="declined by eve already"):
        store.ratify("v", "ben", "why", "k", text="text", proposal=proposal)
    assert store.amendments() == []  # the amendment went with it: one transaction
    with pytest.raises(UserError, match="no such proposal"):
        store.close_proposal(DECLINED, "none", "eve", "")
    [found] = store.proposed_amendments()
    assert (found.state, found.decided.payload["why"]) == ("declined", "too long")


def test_ratifying_a_proposal_closes_it_and_names_the_amendment(store):
    proposal = store.propose_amendment("ada", "v", "text", "", "why", "key").id
    store.put_draft("eve", "text", "")
    key = amendment_key("", "text", "yes")
    events = [store.ratify("v", "eve", "yes", key, text="text", after="", proposal=proposal) for _ in range(2)]
    assert events[0] == events[1]
    [found] = store.proposed_amendments()
    assert (found.state, found.decided.payload["amendment"]) == ("ratified", events[0].id)
    assert len(store.amendments()) == 1
    assert store.draft("eve") is None  # it says what is in force


def test_of_two_who_decide_at_once_one_does(store):
    proposal = store.propose_amendment("ada", "v", "text", "", "why", "key").id
    said, start = [], threading.Barrier(2)

    def decide(work):
        start.wait()
        try:
            work()
            said.append("done")
        except UserError as error:
            said.append(str(error))

    works = (
        lambda: store.ratify("v", "eve", "yes", "k", text="text", proposal=proposal),
        lambda: store.close_proposal(DECLINED, proposal, "kim", "no"),
    )
    threads = [threading.Thread(target=decide, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [found] = store.proposed_amendments()
    assert said.count("done") == 1
    assert (found.state == "ratified") == (len(store.amendments()) == 1)
