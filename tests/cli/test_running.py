"""`precept run list | show | resume`, `precept flow`, and how a run that stops is gone on with. On a real Prefect."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import flows
from flows import discovery
from service.queries.processes import own_name

TINY = textwrap.dedent('''
    """Answers the training prompts, one by one."""

    import os
    import signal
    import time
    from pathlib import Path

    from prefect import flow

    from constitution.errors import UserError
    from flows.session import at_work
    from pipeline.respond import respond


    @flow(name="tiny", validate_parameters=False)
    def tiny(file=None, flags=None):
        with at_work("tiny", file, flags) as work:
            if work.finished:
                return work.finished
            if Path("mistake").exists():
                raise UserError("a mistake of yours")
            role = work.wiring.role(work.settings.policy)
            asks = respond(work.prompts("train"), role, seed=work.settings.seed, samples=1)
            work.gather("answers", asks[:2], role, batch=1)
            if Path("interrupt").exists():
                Path("interrupt").unlink()
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(10)
            work.gather("answers", asks, role, batch=1)
            version = work.constitution.version
            result = {"run": work.run.id.hex(), "constitution": version, "calls": work.budget.as_dict()}
            work.store.finish_run(work.run.id, "finished", result=result)
            return result
''')


pytestmark = pytest.mark.timeout(900)  # a fresh Prefect server takes 10 s to start, and minutes on a busy machine


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=600):
        yield


@pytest.fixture
def tiny(project: Path, prefect: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file dropped in: a flow of that name."""
    folder = project / "more"
    folder.mkdir()
    (folder / "tiny.py").write_text(TINY)
    monkeypatch.setattr(flows, "__path__", [*flows.__path__, str(folder)])


def test_flows_are_found_by_name(tiny, precept) -> None:
    (Path("more") / "other.py").write_text("def other(): pass")  # no flow
    (Path("more") / "mine.py").write_text("import prefect\n@prefect.flow\ndef mine(): return 1\n")
    found = precept("flow").out.split()
    assert {"improve", "tiny", "mine"} <= set(found)
    assert not {"other", "stages", "settings", "schedule"} & set(found)
    assert discovery.entrypoint("tiny") == "flows.tiny.tiny"


def test_a_run_that_reached_a_limit_is_resumed_as_it_began(tiny, store, precept) -> None:
    stopped = precept("flow", "tiny", "--set", "limits.max_calls=2", "--set", "seed=5")
    assert stopped.code == 3 and not stopped.out
    (run,) = store.runs()
    ident = run.id.hex()
    assert f"precept run resume {ident[:12]} --max-calls N" in stopped.err
    assert "Traceback" not in stopped.err
    assert run.status == "stopped" and len(store.stage_members(run.id, "answers")) == 2

    Path("principles.yaml").write_text(Path("principles.yaml").read_text().replace("kinder", "nicer"))
    Path("precept.toml").write_text(Path("precept.toml").read_text() + "[revise]\nrounds = 1\n")
    done = precept("run", "resume", ident[:6], "--json", "--quiet")
    assert done.code == 0 and not done.err
    assert done.json["run"] == ident  # neither the edited file of principles nor the edited settings made another run
    assert done.json["constitution"] == run.constitution
    assert done.json["calls"] == {"generated": 3, "chosen": 0, "reused": 4}  # two, looked up twice
    assert [r.status for r in store.runs()] == ["finished"]
    again = precept("run", "resume", ident[:6], "--json")
    assert again.json["calls"]["generated"] == 0


def test_a_run_whose_prompts_changed_is_not_resumed(tiny, store, precept) -> None:
    precept("flow", "tiny", "--set", "limits.max_calls=1")
    Path("prompts.jsonl").write_text('{"prompt": "another", "split": "train"}\n')
    refused = precept("run", "resume", store.runs()[0].id.hex())
    assert refused.code == 2 and "its prompts (prompts.jsonl)" in refused.err
    assert len(store.runs()) == 1


def test_a_run_goes_on_with_the_prompts_it_began_with_whatever_file_the_settings_name(tiny, store, precept) -> None:
    Path("others.csv").write_text("Frage,split\none?,train\ntwo?,train\n")
    named = 'prompts={path="others.csv",map={prompt="Frage"}}'
    stopped = precept("flow", "tiny", "--set", named, "--set", "limits.max_calls=1")
    assert stopped.code == 3
    done = precept("run", "resume", store.runs()[0].id.hex(), "--json")
    assert done.code == 0, done.err
    assert len(store.runs()) == 1 and store.runs()[0].status == "finished"


def test_ctrl_c_keeps_what_was_answered_and_says_how_to_go_on(tiny, store, precept) -> None:
    Path("interrupt").touch()
    outcome = precept("flow", "tiny")
    (run,) = store.runs()
    assert outcome.code == 130
    assert f"go on with: precept run resume {run.id.hex()[:12]}" in outcome.err
    assert run.status == "stopped" and len(store.stage_members(run.id, "answers")) == 2
    done = precept("run", "resume", run.id.hex(), "--json")
    assert done.json["calls"] == {"generated": 3, "chosen": 0, "reused": 4}


def test_a_mistake_inside_a_flow_is_one_message(tiny, store, precept) -> None:
    Path("mistake").touch()
    outcome = precept("flow", "tiny")
    assert (outcome.code, outcome.out, outcome.err) == (2, "", "a mistake of yours\n")
    assert store.runs()[0].status == "failed"


def test_measuring_a_model_shows_every_suite_with_its_words_and_intervals(tiny, store, precept) -> None:
    Path("other.yaml").write_text("rules: [{text: Another answer.}]\n")
    flags = ["--set", "trial.required=false", "--set", "evaluate.suites=['style', 'verbosity']", "--quiet"]
    done = precept("model", "evaluate", "other.yaml", *flags)
    assert done.code == 0, done.err
    assert "Length of an answer" in done.out and "mean_tokens" not in done.out
    assert "policy" in done.out and "change" in done.out and "words" in done.out  # of verbosity


def test_list_and_show(store, labelled, precept) -> None:
    store.come(labelled.run.id, own_name(), 60)
    (row,) = precept("run", "list", "--json").json
    assert (row["id"], row["kind"], row["status"]) == (labelled.run.id.hex(), "improve", "running")
    store.finish_run(labelled.run.id, "stopped", error="stopped at limits.max_calls \x1b[2J")
    assert "\x1b" not in precept("run", "list").out
    shown = precept("run", "show", row["id"][:6]).out
    assert "stopped at limits.max_calls <U+001B>[2J" in shown
    assert f"precept run resume {row['id'][:12]}" in shown
    found = precept("run", "show", row["id"][:6], "--json").json
    assert found["stages"]["feedback"] == 5 and found["settings"]["policy"] == "script.yaml"


RESULT = {
    "run": "ab" * 16,
    "judge": {"gold_accuracy": 0.97, "position_consistency": 0.9, "unreadable_rate": 0.01},
    "reward_model": {"heldout_accuracy": 0.91, "gold_accuracy": 0.9, "ece": 0.03},
    "labels": {"gold_accuracy": 0.93, "count": 900, "tied": 20, "unreadable": 3},
    "before": {"gold_good": 0.25, "gold_harmful": 0.3, "mean_tokens": 30.0},
    "after": {"gold_good": 0.75, "gold_harmful": 0.01, "mean_tokens": 20.5},
    "win_rate": {"mean": 0.81, "low": 0.78, "high": 0.84},
    "promoted": False,
    "reasons": ["failed: win rate \x1b[31m"],
    "calls": {"generated": 1, "chosen": 2, "reused": 3},
    "seconds": {"total": 61.4},
    "report": "runs/x/report.html",
}


def test_a_result_reads_as_before_and_after(store, labelled, precept, capfd) -> None:
    store.finish_run(labelled.run.id, "finished", result=RESULT)
    lines = precept("run", "show", labelled.run.id.hex()).out.split("\n")
    assert ["good", "answers", "25.0%", "75.0%"] in [line.split() for line in lines]
    assert ["tokens", "an", "answer", "30.0", "20.5"] in [line.split() for line in lines]
    assert "win rate     0.810 with ties as half (95% interval 0.780 to 0.840)" in lines
    assert "refused" in lines and "  failed: win rate <U+001B>[31m" in lines
    assert any("runs/x/report.html" in line for line in lines)
    real = {**RESULT, "judge": {**RESULT["judge"], "gold_accuracy": None}, "before": {"mean_tokens": 30.0}}
    from cli import results

    results.show(real)  # no truth is known of a real model
    capfd.readouterr()
    results.show({**RESULT, "reward_model": {**RESULT["reward_model"], "heldout_accuracy": 0.0, "heldout_pairs": 1.0}})
    assert "reward model right on 0.0% of 1 held-out labels" in capfd.readouterr().out  # so small that it says nothing
    tried = {role: {"says": [f"the {role} is trusted"]} for role in ("evaluator", "judge")}  # as the store sorts them
    results.show({**RESULT, "trial": tried})
    assert [line.split()[2] for line in capfd.readouterr().out.splitlines() if line.startswith("trial")] == [
        "judge", "evaluator"
    ]  # fmt: skip
    win = {"better": 0.0, "worse": 0.0, "no_difference": 1.0, "prompts": 9, "mean": 0.5, "low": 0.4, "high": 0.6}
    controlled = {"mean": None, "low": None, "high": None, "why": "it cannot be told"}
    more = {"win_rate": win, "length_controlled_interval": controlled, "untrained": "nothing was trained, because x"}
    results.show({**RESULT, **more})
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "nothing was trained, because x"
    assert "answers      better on 0%, worse on 0%, no difference on 100% of 9 prompts, by the evaluator" in lines
    assert "  of equal length it cannot be told" in lines
