"""The dry run's arithmetic, against counts made by hand."""

from __future__ import annotations

import time

import pytest

from constitution import loading
from pipeline.engines.scripted import ScriptedEngine
from service.queries.estimate import Lengths, count, estimate
from service.settings import Settings, load
from service.wiring import Wiring
from storage.store import Store


@pytest.fixture
def counted(project):
    def by_name(
        flags: dict[str, object], train: int, heldout: int, principles: int = 11, dev: int = 0
    ) -> dict[str, int]:
        settings: Settings = load(None, flags)[0]
        lengths = Lengths(settings, loading.load("principles.yaml"), [])
        prompts = {"train": train, "heldout": heldout, "dev": dev}
        return {stage.name: stage.calls for stage in count(settings, principles, prompts, lengths)}

    return by_name


def test_rounds_and_an_online_method_are_counted(counted) -> None:
    flags = {"rounds": 3, "optimise.method": "ppo", "watch.prompts": 20}
    found = counted(flags, train=512, heldout=640, dev=90)
    assert found["answers for the evaluation callback"] == 3 * 20
    assert found["further rounds"] == 2 * (512 * 4 + 150 * 2 + 90 * 2)
    assert found["verdicts of further rounds"] == 2 * (512 * 3 + 150 + 90 * 2) * 11 * 2


def test_counts_by_hand(counted) -> None:
    flags = {"revise.rounds": 4, "compare.samples": 4, "compare.pairs": 3, "evaluate.prompts": 600}
    assert counted(flags, train=512, heldout=640) == {
        "answers": 512,
        "critiques": 512 * 4,
        "revisions": 512 * 4,
        "verdicts on revisions": 512 * 11 * 2,
        "probes of the judge": 40 * 11 * 2,  # forty pairs for each principle, asked about it alone
        "samples": 512 * 4 + 150 * 2,
        "verdicts on samples": (512 * (3 + 1) + 150) * 11 * 2,
        "evaluation": 600 * 3,
        "verdicts on evaluation": 600 * 11 * 2,
    }


def test_suites_with_prompts_of_their_own_are_counted_and_who_reads_their_answers(counted) -> None:
    named = {"evaluate.suites": ["style", "over_refusal", "hedging"]}
    found = counted(named, train=10, heldout=4)
    assert found["answers to suites"] == 2 * (50 + 25) and "answers to suites, read" not in found
    read = counted({**named, "evaluate.reading": "evaluator"}, train=10, heldout=4)["answers to suites, read"]
    assert read == 2 * 2 * (50 * 1 + 25 * 2)  # two models, two orders, one question and two


def test_what_the_settings_leave_out_is_not_counted(counted) -> None:
    direct = counted({"revise.critique": False, "revise.rounds": 2, "sft.use": "all"}, train=10, heldout=4)
    assert direct["critiques"] == 0
    assert direct["verdicts on revisions"] == 10 * 2 * 11 * 2  # every round's revision is judged
    none = counted({"revise.rounds": 0, "compare.samples": 2}, train=10, heldout=4)
    assert none["revisions"] == none["verdicts on revisions"] == 0
    assert none["verdicts on samples"] == (10 * 1 + 4) * 11 * 2  # two samples make one pair, whatever `pairs` asks for


def test_lengths_come_from_the_texts_when_nothing_was_measured(project) -> None:
    wiring = Wiring(load(None, {"policy.max_tokens": 50})[0])
    found = {stage.name: stage for stage in estimate(wiring).stages}
    wiring.close()
    answers = found["answers"]
    assert answers.calls == 5
    assert answers.tokens == round(5 * (len("Question 0?") / 4 + 50))  # four characters a token, then a full answer


def test_a_dry_run_asks_nothing_and_knows_a_finished_run(project, store, labelled, precept) -> None:
    fresh = precept("improve", "--dry-run", "--no-sample", "--json", "--seed", "7").json
    assert fresh["status"] == "new"
    assert fresh["calls"]["total"] == fresh["calls"]["generated"] + fresh["calls"]["chosen"] > 0
    assert fresh["seconds"] is fresh["sample"] is None

    result = {
        "calls": {"generated": 100, "chosen": 100, "reused": 0},
        "seconds": {"total": 60, "startup": 1.0, "models": 2.0, "training": 20.0, "asking": 40.0},
    }
    store.finish_run(labelled.run.id, "finished", result=result)
    again = precept("improve", "--dry-run", "--json").json
    assert (again["status"], again["calls"]["total"], again["tokens"], again["seconds"]) == ("finished", 0, 0, 0.0)
    other = precept("improve", "--dry-run", "--json", "--seed", "7").json
    expected = 1.0 + 2.0 + 20.0 + other["calls"]["total"] * 40.0 / 200  # at the finished run's rate
    assert other["seconds"] == pytest.approx(expected)
    assert "finished" in precept("improve", "--dry-run").out


def test_stored_averages_replace_the_guess(project, store, labelled, precept) -> None:
    made = [store.generations(store.origins([c])[c])[0] for c in labelled.comparisons]
    store.add_members(labelled.run.id, "answers", [g.id for g in made])
    spent = {"startup": 0.0, "models": 0.0, "training": 0.0, "asking": 1.0}
    store.finish_run(labelled.run.id, "finished", result={"calls": {"generated": 6, "chosen": 24}, "seconds": spent})
    found = precept("improve", "--dry-run", "--json", "--seed", "7").json
    (answers,) = (stage for stage in found["stages"] if stage["name"] == "answers")
    assert answers["tokens"] == 5 * 40  # 10 read and 30 written, each
    assert found["measured_by"] == labelled.run.id.hex()


def test_a_price_makes_a_cost(project, precept) -> None:
    found = precept("improve", "--dry-run", "--json", "--set", "limits.cost_per_1k_tokens=2").json
    assert found["cost"] == pytest.approx(found["tokens"] / 1000 * 2)


def test_a_few_requests_are_timed_where_no_run_told(project, precept, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = {"generate": 0.02, "choose": 0.01}
    asked = {"generate": 0, "choose": 0}
    for name in slow:
        real = getattr(ScriptedEngine, name)

        def waits(self, requests, name=name, real=real):
            count = len(requests) if name == "generate" else sum(len(group.chats) for group in requests)
            asked[name] += count
            time.sleep(slow[name] * count)
            return real(self, requests)

        monkeypatch.setattr(ScriptedEngine, name, waits)
    found = precept("improve", "--dry-run", "--json").json
    by_role, calls = found["sample"]["by_role"], found["calls"]
    for name, role in (("generate", "policy"), ("generate", "critic"), ("choose", "judge"), ("choose", "evaluator")):
        assert slow[name] <= by_role[role] < slow[name] * 3
    least = calls["generated"] * slow["generate"] + calls["chosen"] * slow["choose"]
    assert least <= found["seconds"] < least * 3
    assert 0 < asked["generate"] <= 10 and 0 < asked["choose"] <= 2 * 2 * 2 * 5
    with Store.open("runs/precept.db") as store:
        assert store.runs() == []  # nothing of it is stored
    said = precept("improve", "--dry-run").out
    assert "and the training, measured now on" in said
    asked.update(generate=0, choose=0)
    assert precept("improve", "--dry-run", "--no-sample").code == 0 and set(asked.values()) == {0}


def test_a_model_that_is_not_at_hand_leaves_the_time_unknown(project, precept) -> None:
    found = precept("improve", "--dry-run", "--json", "--set", "evaluator={kind='transformers', model='gone'}").json
    assert found["seconds"] is found["sample"] is None and found["calls"]["total"] > 0
