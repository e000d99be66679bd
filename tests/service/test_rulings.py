"""What a judge's trial decided about a run is followed wherever its labels are made, looked at or trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from constitution.errors import UserError
from constitution.records import Label, LabelRule, Ruling, Voice
from pipeline import assemble, label
from pipeline.sources.source import sample
from service.queries import attribution, findings, judged, lint, preview, rulings
from service.queries.lineage.records import Records
from service.queries.run_records import RunRecords
from service.work import learning
from tests import plain_labels
from tests.flows import pools
from tests.flows.pools import HashWiring, principle, write

CONSTITUTION = write(
    [
        principle("kind", 3),
        principle("short"),
        principle("fair", 2),
        principle("safe", hard=True),
        principle("calm", tier=1),
    ]
)
RULE = LabelRule(consistent=False, min_margin=0.0, min_readable=0.2)
RULING = Ruling(("fair", "safe"), RULE, {}, "both are at chance")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[HashWiring, object, list[bytes]]]:
    wiring = HashWiring(f"sqlite:///{tmp_path}/a.db", tmp_path)
    prompts, ids = pools.fill(wiring.store, 12)
    yield wiring, pools.base_run(wiring, CONSTITUTION, prompts, ids), ids
    wiring.close()


def plain(wiring: HashWiring, ids: list[bytes]) -> dict[bytes, Label]:
    """The labels under RULING, from its voices written down by hand."""
    ask = wiring.hash_judge.question
    voices = {"kind": Voice(3_000), "short": Voice(1_000), "calm": Voice(1_000, tier=1)}
    asked = {ask(CONSTITUTION[name]).id: voice for name, voice in voices.items()}
    return {x.comparison: x for x in wiring.store.labels(ids, asked, RULE, whole=True)}


def test_labels_of_the_run_and_all_that_looks_at_them_follow_it(place, tmp_path: Path) -> None:
    wiring, run, ids = place
    before = judged.of(wiring.store, run).labels(ids)
    assert rulings.put(wiring.store, run, "judge", RULING) == RULING
    assert rulings.put(wiring.store, run, "judge", Ruling()) == RULING  # once written it does not change
    labels = plain(wiring, ids)
    assert labels != before and {x.state for x in labels.values()} >= {"decided", "tied"}

    about = judged.of(wiring.store, run)
    assert about.labels(ids) == labels and set(about.principles.values()) == {("kind",), ("short",), ("calm",)}
    records = Records(wiring.store)
    asked = records.asked((run.id, "feedback"))
    here = wiring.store.stage_members(run.id, "feedback")
    assert {x.comparison: x for x in records.labels(asked, here)}.keys() == set(here)
    with wiring.at_work(run, CONSTITUTION) as work:
        assert work.labels(wiring.hash_judge, ids) == labels
        assert work.labels(wiring.hash_judge, ids, "evaluator") == before  # another judge: another ruling
        panel = findings.Panel.of(work, "feedback")
        assert panel is not None and panel.labels(work, ids) == labels
        rows = learning.preferences(work, here, "train")
        assert {row["comparison"] for row in rows} <= {
            i.hex() for i, x in labels.items() if x.preferred_first is not None
        }

        spec = learning.judge_spec(work, "judge", "answers.jsonl")
        assert spec["left_out"] == ["fair", "safe"] and LabelRule(**spec["rule"]) == RULE

    votes = attribution.votes(wiring, CONSTITUTION, ids, "judge", run)
    assert votes.principles == ("kind", "short", "calm") and votes.rule == RULE
    linted = lint.lint(wiring, "", run.id.hex()).lint
    assert [f.principle for f in linted.figures] == ["kind", "short", "calm"]


def test_a_preview_carries_it_to_principles_whose_words_are_the_same(place) -> None:
    wiring, run, _ids = place
    rulings.put(wiring.store, run, "judge", RULING)
    reworded = write(
        [
            principle("kind", 3),
            principle("short"),
            principle("fair", 2, comparison="Which is juster?"),
            principle("safe", hard=True),
        ]
    )
    ruling = rulings.under(wiring.store, run, wiring.hash_judge, reworded)
    assert ruling.left_out == ("safe",) and ruling.rule == RULE  # `fair` in other words was not tried yet
    turn = preview._turn(wiring, wiring.hash_judge, preview.pool.find(wiring.store), CONSTITUTION, reworded)
    before, after = turn.before, turn.after
    ask = wiring.hash_judge.question
    assert len(before) == 3 and set(after) == {ask(reworded[name]).id for name in ("kind", "short", "fair")}


def test_without_a_voice_there_is_nothing_to_label_by(place) -> None:
    wiring, _run, _ids = place
    everybody = Ruling(tuple(p.id for p in CONSTITUTION), why="all are at chance")
    with pytest.raises(UserError, match=r"left out every principle.*all are at chance"):
        label.voices(CONSTITUTION, wiring.hash_judge, everybody)


def test_a_label_that_rests_on_flips_feeds_soft_labels_and_no_hard_pair(place) -> None:
    wiring, run, _ids = place
    rulings.put(wiring.store, run, "judge", Ruling(rule=replace(RULE, tie_margin=0.0)))
    here = wiring.store.stage_members(run.id, "feedback")
    with wiring.at_work(run, CONSTITUTION) as work:
        labels = work.labels(wiring.hash_judge, here)
        voices, strict = work.voices(wiring.hash_judge), replace(RULE, tie_margin=0.0, consistent=True)
        said = {id: list(wiring.store.verdicts([id], list(voices))) for id in here}
        agreed = {id: plain_labels.label(id, said[id], voices, strict).preferred_first for id in here}
        steady = {id for id, x in labels.items() if x.preferred_first is not None and x.preferred_first == agreed[id]}
        decided = {id for id, x in labels.items() if x.preferred_first is not None}
        assert work.steady(wiring.hash_judge, labels) == steady and 5 < len(steady) < len(decided)

        def learnt(columns: tuple[str, ...], min_p: float = 0.5) -> list[dict[str, object]]:
            given = work.settings.optimise.model_copy(update={"min_p": min_p})
            rows = list(learning._rows(work, given, columns, here))
            return rows

        soft = learnt(("prompt", "chosen", "rejected", "p"))
        assert {row["comparison"] for row in soft} == {id.hex() for id in decided}
        assert {row["comparison"] for row in learnt(("prompt", "chosen", "rejected"))} == {id.hex() for id in steady}
        assert len(learnt(("prompt", "completion"))) == len(steady)  # SFT on winners
        sure = [id for id in steady if max(labels[id].p, 10**9 - labels[id].p) >= 0.7 * 10**9]
        assert len(learnt(("prompt", "completion"), 0.7)) == len(sure)
        alone = assemble.unpaired([row for row in soft if bytes.fromhex(str(row["comparison"])) in steady], 0.5)
        assert learnt(("prompt", "completion", "label")) == alone  # KTO


def test_where_both_orders_have_to_agree_every_label_is_steady(place) -> None:
    wiring, run, ids = place
    with wiring.at_work(run, CONSTITUTION) as work:
        labels = work.labels(wiring.hash_judge, ids)
        assert work.steady(wiring.hash_judge, labels) == {i for i, x in labels.items() if x.preferred_first is not None}


def test_a_relabelling_that_tried_nobody_goes_by_the_run_whose_pool_it_labels(place) -> None:
    wiring, run, _ids = place
    rulings.put(wiring.store, run, "judge", RULING)
    reworded = write([principle("kind", 3), principle("fair", 2, comparison="Which is juster?"), principle("safe")])
    wiring.store.put_constitution(reworded.version, reworded.source)
    settings = {**run.settings["settings"], "retrain": {"base": run.id.hex()}}
    again = wiring.store.start_run("again", "relabel", {"settings": settings, "policy": "p"}, reworded.version)
    wiring.label(again, reworded, wiring.store.stage_members(run.id, "feedback"))
    found = rulings.of(wiring.store, again)
    assert (found.left_out, found.rule) == (("safe",), RULE)
    wiring.store.start_run("other", "improve", {"settings": settings, "policy": "p"}, reworded.version)
    other = next(r for r in wiring.store.runs() if r.kind == "improve" and r.id != run.id)
    assert rulings.of(wiring.store, other) == Ruling()


def test_a_part_of_a_runs_prompts_is_a_sample_of_them_in_their_order(place) -> None:
    """A file is often sorted by what its prompts are about: the first of them are no picture of it."""
    wiring, run, _ = place
    records = RunRecords(wiring, run)
    every = records.prompts("train")
    some = records.prompts("train", 3)
    assert len(every) > 6 and some == sample(every, 3) != every[:3]
    assert records.prompts("train", 1000) == every
