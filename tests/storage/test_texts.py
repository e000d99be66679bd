"""Prompts, generations and comparisons: stored once, in both databases alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from constitution.records import Comparison, Message, Prompt
from storage import tables

HOSTILE = "NUL \x00, lone \ud800 and \udfff, \u202eright to left, \x1b[31mred, <script>, '; DROP TABLE answer; --, 😀"


def test_hostile_text_comes_back_as_it_went_in(store, world):
    messages = (Message("system", HOSTILE), Message("user", HOSTILE))
    prompt = Prompt(messages, "heldout", HOSTILE, (HOSTILE, ""))
    written = replace(world.generation(prompt, 0, HOSTILE), principle=HOSTILE, engine=HOSTILE)
    store.add_prompts([prompt])
    store.add_generations([written])
    assert store.prompts(source=HOSTILE) == [prompt]
    assert store.generations([written.id]) == [written]
    check = store.add_spot_check(HOSTILE, b"c" * 16, "tie", reason=HOSTILE, sampled_by="random", key=HOSTILE)
    assert store.spot_checks() == [check]
    assert (check.reviewer, check.reason) == (HOSTILE, HOSTILE)


def test_a_prompt_keeps_the_split_it_was_given_first(store, world):
    first = world.prompt(1)
    assert store.add_prompts([first, first]) == 1
    assert store.add_prompts([replace(first, split="heldout", source="again"), world.prompt(2)]) == 1
    assert store.prompts(ids=[first.id]) == [first]
    assert store.prompts(split="heldout") == []


def test_a_prompt_that_is_stored_again_with_tags_has_those(store, world):
    first, other = replace(world.prompt(1), tags=()), replace(world.prompt(2), tags=("safe",))
    store.add_prompts([first, other])
    assert store.add_prompts([replace(first, tags=("harmless", "b"), split="heldout", source="again")]) == 0
    assert store.prompts(ids=[first.id, other.id]) == [replace(first, tags=("harmless", "b")), other]
    assert store.add_prompts([replace(first, tags=("harmful",)), world.prompt(3)]) == 1
    store.add_prompts([first, replace(other, tags=())])  # no tags take none away
    assert store.prompts(ids=[first.id, other.id]) == [replace(first, tags=("harmful",)), other]


def test_a_dialogue_that_is_no_prompt_can_be_compared_and_has_no_split(store, world):
    prompt = world.prompt(1)
    store.add_dialogues([prompt.messages, prompt.messages, (Message("user", HOSTILE),)])
    contents = store.add_answers(["one", "other"])
    comparison = Comparison.of(prompt.id, *contents)
    store.add_comparisons([comparison])
    (pair,) = store.pairs([comparison.id])
    assert (pair.messages, {pair.first, pair.second}) == (prompt.messages, {"one", "other"})
    assert store.prompts() == []
    assert store.add_prompts([replace(prompt, split="heldout")]) == 1  # it may become one later, of any split
    assert store.prompts(split="heldout") == [replace(prompt, split="heldout")]


def test_prompts_come_in_the_order_asked_or_of_their_ids(store, world):
    prompts = [world.prompt(number) for number in range(30)]
    store.add_prompts(prompts)
    assert store.prompts() == sorted(prompts, key=lambda prompt: prompt.id)
    assert store.prompts(ids=[prompts[7].id, b"?" * 16, prompts[2].id]) == [prompts[7], prompts[2]]


def test_the_first_answer_to_a_request_is_the_answer(store, world):
    store.add_prompts([world.prompt(1)])
    first, late = world.response(1, text="first"), world.response(1, text="late")
    assert store.add_generations([first]) == [first]
    assert store.add_generations([late]) == [first]
    assert store.generations([first.id]) == [first]
    with store._read() as connection:
        texts = connection.execute(select(tables.answer.c.text)).scalars().all()
    assert texts == ["first"]  # the loser left nothing behind


def test_members_are_written_with_their_records_and_know_what_was_reused(store, world):
    store.add_prompts([world.prompt(number) for number in range(3)])
    texts = [world.response(number) for number in range(3)]
    first, second = (store.start_run(key, "respond", {}).id for key in ("one", "two"))
    store.add_generations(texts[:2], run=first, stage="respond", ordinals=[5, 3])
    assert store.generations_of(first, "respond") == [texts[1], texts[0]]
    store.add_generations(texts, run=second, stage="respond", ordinals=[0, 1, 2])
    assert store.generations_of(second, "respond") == texts
    assert store.reused(second) == {"respond": 2}
    assert store.reused(first) == {"respond": 0}


def test_running_a_stage_again_adds_no_slot(store, world):
    store.add_prompts([world.prompt(number) for number in range(4)])
    texts = [world.response(number) for number in range(4)]
    run = store.start_run("one", "respond", {}).id
    for batch in (texts[:2], texts[1:3], texts):
        store.add_generations(batch, run=run, stage="respond")
    assert store.generations_of(run, "respond") == texts
    for _ in range(2):
        store.add_members(run, "prompts", [world.prompt(0).id, world.prompt(1).id], ordinals=[0, 1])
    assert store.stage_members(run, "prompts") == [world.prompt(0).id, world.prompt(1).id]


def test_a_batch_is_stored_whole_or_not_at_all(store, world):
    store.add_prompts([world.prompt(1)])
    run = store.start_run("one", "respond", {}).id
    orphan = world.response(2)  # its prompt is not stored
    with pytest.raises(IntegrityError):
        store.add_generations([world.response(1), orphan], run=run, stage="respond")
    assert store.have_generations([world.response(1).id, orphan.id]) == {}
    assert store.stage_members(run, "respond") == []


def test_children_may_be_stored_with_their_parents_in_any_order(store, world):
    store.add_prompts([world.prompt(1)])
    chain = [world.response(1)]
    for round in range(6):
        chain.append(world.generation(world.prompt(1), round, f"revision {round}", parent=chain[-1]))
    assert store.add_generations(chain[::-1]) == chain[::-1]
    assert store.generations([chain[6].id])[0].parent == chain[5].id


def test_a_comparison_depends_on_texts_and_remembers_where_they_came_from(store, world):
    store.add_prompts([world.prompt(1)])
    a, b = world.response(1, 0, "a"), world.response(1, 1, "b")
    again = world.response(1, 2, "a")  # another sample, the same words
    store.add_generations([a, b, again])
    pair = Comparison.of(world.prompt(1).id, a.content, b.content)
    store.add_comparisons([pair], origins=[[a.id, b.id]])
    store.add_comparisons([Comparison.of(world.prompt(1).id, b.content, again.content)], origins=[[b.id, again.id]])
    assert store.comparisons([pair.id]) == [pair]
    assert store.origins([pair.id]) == {pair.id: sorted([a.id, b.id, again.id])}
    texts = {a.content: "a", b.content: "b"}
    [found] = store.pairs([pair.id])
    assert (found.messages, found.first, found.second) == (
        world.prompt(1).messages,
        texts[pair.first],
        texts[pair.second],
    )


def test_imported_pairs_need_no_generation(store, world):
    store.add_prompts([world.prompt(1)])
    one, other = store.add_answers(["by a person", "by another"])
    pair = Comparison.of(world.prompt(1).id, one, other)
    store.add_comparisons([pair])
    assert {store.pairs([pair.id])[0].first, store.pairs([pair.id])[0].second} == {"by a person", "by another"}


def test_look_ups_reach_beyond_one_chunk(store, world):
    prompts = [world.prompt(number) for number in range(2_500)]
    store.add_prompts(prompts)
    texts = [world.response(number) for number in range(2_500)]
    store.add_generations(texts)
    assert store.generations([text.id for text in texts]) == texts
    assert len(store.have_generations([text.id for text in texts] + [b"?" * 16])) == 2_500
    with pytest.raises(KeyError):
        store.generations([b"?" * 16])


WRITER = """
import sys
from dataclasses import replace
from constitution.records import Generation, Message, Prompt, make_id
from storage.store import Store
url, name = sys.argv[1:]
prompt = Prompt((Message("user", "prompt 1"),), "train", "test")
def text(number):
    return Generation(make_id("t", n=number), "response", prompt.id, f"{name} says {number}", "stop", "scripted")
with Store.open(url) as store:
    store.add_prompts([prompt])
    run = store.start_run("one", "respond", {}).id
    print("ready", flush=True)
    sys.stdin.readline()
    order = range(400) if name == "a" else range(399, -1, -1)  # opposite orders: the way to a deadlock
    numbers = list(order)
    for start in range(0, 400, 20):
        batch = numbers[start:start + 20]
        got = store.add_generations([text(n) for n in batch], run=run, stage="respond", ordinals=batch)
        for g in got:
            print(g.id.hex(), g.text)
"""


def test_two_processes_that_write_the_same_ids_agree_on_every_answer(store_url, store, spawn):
    writers = [spawn(WRITER, store_url, name) for name in "ab"]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    said = []
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        output, _ = writer.communicate(timeout=300)
        assert writer.returncode == 0
        said.append(dict(line.split(" ", 1) for line in output.splitlines()))
    assert said[0] == said[1] and len(said[0]) == 400  # the loser was told what the winner wrote
    stored = store.generations_of(store.runs()[0].id, "respond")
    assert {g.id.hex(): g.text for g in stored} == said[0]
    assert [g.text.rsplit(" ", 1)[1] for g in stored] == [str(number) for number in range(400)]


KILLED = """
import sys
from constitution.records import Generation, Message, Prompt, make_id
from storage.store import Store
prompt = Prompt((Message("user", "prompt 1"),), "train", "test")
with Store.open(sys.argv[1]) as store:
    store.add_prompts([prompt])
    run = store.start_run("one", "respond", {}).id
    for start in range(0, 1_000_000, 25):
        numbers = list(range(start, start + 25))
        batch = [Generation(make_id("t", n=n), "response", prompt.id, str(n), "stop", "scripted") for n in numbers]
        store.add_generations(batch, run=run, stage="respond", ordinals=numbers)
        print(start + 25, flush=True)
"""


@pytest.mark.parametrize("batches", [1, 7, 40])
def test_a_writer_killed_at_any_moment_leaves_whole_batches(store_url, store, spawn, batches):
    writer = spawn(KILLED, store_url)
    acknowledged = [int(writer.stdout.readline()) for _ in range(batches)][-1]
    writer.kill()
    writer.wait()
    acknowledged = max(
        [acknowledged, *(int(line) for line in writer.stdout.read().splitlines(True) if line[-1] == "\n")]
    )
    stored = store.generations_of(store.runs()[0].id, "respond")
    assert [text.text for text in stored] == [str(number) for number in range(len(stored))]
    assert len(stored) % 25 == 0
    assert len(stored) - acknowledged in (0, 25)  # all that was acknowledged, and at most what was in flight
