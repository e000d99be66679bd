"""What stages were made of, counted by the database; ids by their first digits; links of single records."""

from __future__ import annotations

import pytest

from constitution.records import Checkpoint, Comparison, Id, make_id
from storage.lineage import Written
from storage.store import Store
from tests.storage.conftest import World


@pytest.fixture
def run(store: Store) -> Id:
    return store.start_run("key", "improve", {}).id


def test_ids_by_any_number_of_digits(store: Store) -> None:
    texts = [f"prompt {number}" for number in range(40)]
    ids = sorted(World.prompt(text).id for text in texts)
    store.add_prompts([World.prompt(text) for text in texts])
    for digits in (1, 2, 3, 4, 31, 32):
        prefix = ids[7].hex()[:digits]
        assert store.ids_like("prompt", prefix, 40) == [id for id in ids if id.hex().startswith(prefix)]
        assert store.ids_like("prompt", prefix.upper(), 1) == [id for id in ids if id.hex().startswith(prefix)][:1]
    assert store.ids_like("comparison", ids[7].hex()[:4], 5) == []
    with pytest.raises(ValueError):
        store.ids_like("prompt", "no hex", 5)


def test_stages_are_counted(store: Store, world: World, run: Id) -> None:
    comparisons, _ = world.fill(store, 5, 1)
    store.add_members(run, "feedback", comparisons[:2])
    fresh = Comparison.of(world.prompt(0).id, *store.add_answers(["one", "other"]))
    store.add_comparisons([fresh], run=run, stage="feedback")
    store.add_members(run, "other", comparisons[3:])
    assert store.stage_sizes(run) == {"feedback": (3, 2), "other": (2, 2)}
    assert store.stage_prompts((run, "feedback")) == 2  # prompt 0 twice
    assert store.stage_sizes(make_id("no run")) == {}
    assert store.stage_prompts((run, "no stage")) == 0


def test_texts_of_a_stage_leave_out_what_came_later(store: Store, world: World, run: Id) -> None:
    comparisons, _ = world.fill(store, 2, 1)
    made = [world.response(number, sample) for number in (0, 1) for sample in (0, 1)]
    store.add_members(run, "answers", [generation.id for generation in made[:3]])
    store.add_members(run, "evaluation.after", [made[3].id])  # says the same as an answer of the loop
    store.add_members(run, "feedback", comparisons)
    other = store.start_run("another", "improve", {}).id
    store.add_members(other, "answers", [made[3].id])
    assert store.stage_texts((run, "feedback"), [run], ("evaluation%",)) == [Written("response", "scripted", 3)]
    assert store.stage_texts((run, "feedback"), [run]) == [Written("response", "scripted", 4)]
    assert store.stage_texts((run, "feedback"), [run, other], ("evaluation%",)) == [Written("response", "scripted", 4)]
    assert store.stage_texts((run, "feedback"), [other], ("answers", "evaluation%")) == []
    assert store.stage_engines(run) == {"answers": "scripted", "evaluation.after": "scripted"}


def test_verdicts_are_counted_once_a_question(store: Store, world: World, run: Id) -> None:
    comparisons, questions = world.fill(store, 4, 3)
    store.add_members(run, "feedback", comparisons[:3])
    store.add_members(run, "held-out", comparisons[2:3])
    store.add_verdicts([world.verdict(questions[0], id) for id in comparisons])
    store.add_verdicts([world.verdict(questions[1], comparisons[0])])
    stages = {(run, "feedback"), (run, "held-out")}
    assert store.stage_verdicts(stages, questions) == dict(zip(questions, (3, 1, 0), strict=True))
    assert store.stage_verdicts({(run, "held-out")}, questions[:1]) == {questions[0]: 1}
    assert store.stage_verdicts(set(), questions[:1]) == {questions[0]: 0}
    assert store.stage_verdicts(stages, []) == {}


def test_links_of_single_records(store: Store, world: World, run: Id) -> None:
    comparisons, _ = world.fill(store, 2, 1)
    answer = world.response(0)
    revision = world.generation(world.prompt(0), 5, "revised", answer)
    store.add_generations([revision], run=run, stage="revisions")
    later = store.start_run("later", "retrain", {}).id
    for id in (later, run):
        store.add_members(id, "feedback", comparisons[:1])
    assert store.appearances(comparisons[0]) == [(run, "feedback"), (later, "feedback")]
    assert store.appearances(comparisons[1]) == []
    assert store.answers_to(world.prompt(0).id) == [answer.id, world.response(0, 1).id, revision.id]  # by sample
    assert store.written_from(answer.id) == [revision.id]
    assert store.written_from(revision.id) == []
    assert store.comparisons_with(answer.id) == [comparisons[0]]
    assert store.dialogue(world.prompt(0).id) == world.prompt(0).messages
    with pytest.raises(KeyError):
        store.dialogue(make_id("nothing"))


def test_which_run_trained_what(store: Store, run: Id) -> None:
    made = [Checkpoint(make_id("job", n=n), "policy", "sft", f"/{n}", f"{n}", "", "") for n in range(2)]
    store.add_checkpoint(made[0], run=run)
    store.add_checkpoint(made[1])
    found = store.trained_in()
    assert {key: value[0] for key, value in found.items()} == {(made[0].id, "0"): run, (made[1].id, "1"): None}
