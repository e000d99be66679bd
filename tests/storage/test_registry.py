"""Constitutions, checkpoints and promotion."""

from __future__ import annotations

from dataclasses import replace

import pytest

from constitution.errors import UserError
from constitution.records import Checkpoint, make_id


def a_checkpoint(number, kind="policy", constitution=None):
    name = f"{number:02}"
    return Checkpoint(
        id=make_id("job", number=number),
        kind=kind,
        method="dpo",
        path=f"/models/{name}-dpo",
        digest=name * 32,
        parent="base",
        dataset="data",
        constitution=constitution,
        metrics={"loss": 0.25},
    )


def test_ratifying_is_an_event_and_a_content_may_come_back(store):
    assert store.ratified() is None
    for version in ("a", "b"):
        store.put_constitution(version, f"text of {version}")
    store.put_constitution("a", "a late text")
    with pytest.raises(UserError, match="no constitution c"):
        store.ratify("c", "ana", "", "0")
    for key, version in enumerate("aba"):
        event = store.ratify(version, "ana", f"amendment {key}", str(key))
        assert store.ratify(version, "ana", f"amendment {key}", str(key)) == event
    assert [(past.version, past.parent) for past in store.amendments()] == [("a", None), ("b", "a"), ("a", "b")]
    current = store.ratified()
    assert (current.version, current.text, current.message) == ("a", "text of a", "amendment 2")
    assert store.is_ratified("b") and not store.is_ratified("c")
    assert list(store.constitutions()) == ["a", "b"]
    assert (store.constitution("b"), store.constitution("c")) == ("text of b", None)


def test_an_amendment_is_found_by_its_number_and_by_its_version(store):
    with pytest.raises(UserError, match="nothing has been ratified"):
        store.amendment("1")
    for key, version in enumerate(["aaaa1", "aaaa2", "aaaa1", "bbbb"]):
        store.ratify(version, "ana", "", str(key), text=f"text {key}")
    past = store.amendments()
    assert [one.number for one in past] == [1, 2, 3, 4] and past[-1] == store.ratified()
    assert [store.amendment(name) for name in ("1", "2", "4", "ratified")] == [past[0], past[1], past[3], past[3]]
    assert store.amendment("AAAA1") == past[2]  # the last that put it in force
    assert store.amendment("bbbb") == past[3]
    for name in ("0", "5", "aaa", "cccc", ""):
        with pytest.raises(UserError, match="there is no amendment"):
            store.amendment(name)
    with pytest.raises(UserError, match="several versions begin with"):
        store.amendment("aaaa")


def test_a_checkpoint_is_found_by_what_people_call_it(store):
    one, two = a_checkpoint(1), a_checkpoint(2, "reward_model")
    for checkpoint in (one, two, one):
        store.add_checkpoint(checkpoint)
    assert store.checkpoints() == [one, two]
    for name in (one.id, one.id.hex(), one.id.hex()[:8], one.id.hex().upper(), one.digest[:6], one.path, "01-dpo"):
        assert store.checkpoint(name) == one
    for name in ("0", "", "03-dpo", "promoted", "0102", "1-dpo", "%1-dpo", "01_dpo", "/models", "\0", "z" * 5_000):
        with pytest.raises(UserError):
            store.checkpoint(name)
    several = [replace(one, id=bytes([7, 7, number]) + b"x" * 13, digest=f"{number}") for number in range(2)]
    for checkpoint in several:
        store.add_checkpoint(checkpoint)
    with pytest.raises(UserError, match=r"several checkpoints answer to '0707' \(0707007878"):
        store.checkpoint("0707")


def test_a_lost_folder_trained_again_is_a_new_attempt(store):
    lost = a_checkpoint(1)
    again = replace(lost, digest="ff" * 32, path="/models/again")
    store.add_checkpoint(lost)
    store.add_checkpoint(again)
    assert store.checkpoints() == [lost, again]
    assert store.checkpoint(lost.id) == again
    moved = replace(lost, path="/elsewhere")  # the same weights, made again elsewhere
    store.add_checkpoint(moved)
    assert store.checkpoint(lost.digest) == moved


def test_promotion_and_rolling_back_step_by_step(store):
    checkpoints = [a_checkpoint(number) for number in range(3)]
    assert store.promoted() is None
    for number, checkpoint in enumerate(checkpoints):
        store.add_checkpoint(checkpoint)
        event = store.promote(checkpoint, "ana", "better", f"p{number}", {"win_rate": 0.6})
        assert store.promote(checkpoint, "ana", "better", f"p{number}", {"win_rate": 0.6}) == event
        assert store.promoted() == checkpoint == store.checkpoint("promoted")
    assert store.roll_back("ben", "worse", "r1") == checkpoints[1]
    assert store.roll_back("ben", "worse", "r1") == checkpoints[1]  # sent twice
    store.promote(checkpoints[2], "ana", "better", "p2", {"win_rate": 0.6})  # an old message arrives again
    assert store.promoted() == checkpoints[1]
    assert store.roll_back("ben", "worse", "r2") == checkpoints[0] == store.promoted()
    with pytest.raises(UserError, match="no earlier promotion"):
        store.roll_back("ben", "worse", "r3")
    assert [(event.kind, event.who) for event in store.promotions()] == [("promotion", "ana")] * 3 + [
        ("roll_back", "ben")
    ] * 2


def test_what_is_promoted_twice_is_rolled_back_once(store):
    one, two = a_checkpoint(1), a_checkpoint(2)
    for checkpoint in (one, two):
        store.add_checkpoint(checkpoint)
    assert store.before_promoted() is None
    for key, checkpoint in enumerate((one, two, two)):
        store.promote(checkpoint, "ana", "better", str(key))
    assert store.before_promoted() == one
    assert store.roll_back("ben", "worse", "r1") == one == store.promoted()
    with pytest.raises(UserError, match="no earlier promotion"):
        store.roll_back("ben", "worse", "r2")


def test_a_stored_roll_back_to_what_was_promoted_twice_took_nothing_away(store):
    one, two = a_checkpoint(1), a_checkpoint(2)
    for checkpoint in (one, two):
        store.add_checkpoint(checkpoint)
    for key, checkpoint in enumerate((one, two, two)):
        store.promote(checkpoint, "ana", "better", str(key))
    payload = {"from": two.digest, "to": two.digest, "why": "as it was done"}
    with store._write(durable=True, alone=True) as connection:
        store._append(connection, "roll_back", "ben", "old", payload, target=two.digest)
    assert store.promoted() == two and store.roll_back("ben", "worse", "r1") == one


def test_only_a_policy_under_a_ratified_constitution_is_promoted(store):
    tried = a_checkpoint(1, constitution="draft")
    reward = a_checkpoint(2, "reward_model")
    for checkpoint in (tried, reward):
        store.add_checkpoint(checkpoint)
    with pytest.raises(UserError, match="only a policy"):
        store.promote(reward, "ana", "", "1")
    with pytest.raises(UserError, match="draft, which is not ratified"):
        store.promote(tried, "ana", "", "2")
    assert store.promoted() is None and store.promotions() == []
    store.put_constitution("draft", "text")
    store.ratify("draft", "ana", "", "3")
    store.promote(tried, "ana", "", "2")
    assert store.promoted() == tried


def test_documents_and_canaries_keep_what_came_first(store):
    assert store.document("evaluation", "x") is None
    assert store.put_document("evaluation", "x", {"win": [1, 0.5, None]}) == {"win": [1, 0.5, None]}
    assert store.put_document("evaluation", "x", {"win": []}) == {"win": [1, 0.5, None]}
    assert store.documents("evaluation") == {"x": {"win": [1, 0.5, None]}}
    first = {"which?": {"A": -0.1, "B": -2.5}}
    assert store.canaries("remote@v1", first) == first
    later = {"which?": {"A": -0.2, "B": -1.5}, "long" * 5_000: {"A": -0.3}}
    assert store.canaries("remote@v1", later) == later | first
    assert store.canaries("remote@v2", later) == later


def test_a_proposal_waits_until_something_else_is_said(store):
    one, two = a_checkpoint(1), a_checkpoint(2)
    for checkpoint in (one, two):
        store.add_checkpoint(checkpoint)
    assert store.proposal() is None
    proposed = store.propose(one, "ana", "run 1 proposes it", "q1", {"reasons": ["failed: x"]})
    assert (
        store.proposal() == proposed == store.propose(one, "ana", "run 1 proposes it", "q1", {"reasons": ["failed: x"]})
    )
    assert store.promoted() is None and store.promotions() == []  # nothing moved
    later = store.propose(two, "ana", "run 2 proposes it", "q2")
    assert store.proposal() == later
    store.promote(one, "ben", "looked at it", "p1")  # whatever is promoted, nothing waits any more
    assert store.proposal() is None and [e.who for e in store.promotions()] == ["ben"]
    store.propose(two, "ana", "run 3 proposes it", "q3")
    store.withdraw_proposal("ana", "run 4 decided after it", "w4")
    assert store.proposal() is None
    store.withdraw_proposal("ana", "run 4 decided after it", "w4")  # sent twice
    store.propose(one, "ana", "run 5 proposes it", "q5")
    store.withdraw_proposal("ana", "run 4 decided after it", "w4")  # an old message arrives again
    assert store.proposal().payload["digest"] == one.digest
    with pytest.raises(UserError, match="only a policy"):
        store.propose(a_checkpoint(3, "reward_model"), "ana", "", "q6")
