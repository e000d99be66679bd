"""`precept judge trial` as people meet it, and where it is told that judge and evaluator were tried."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipeline.metrics.trust import needed
from service.work import trial
from service.work.work import Work

# The judge finds kinder what says "please"; under the other question it names whatever is shown first.
PAIR = r"(?s)\[Reply A\]\s(?P<a>.*)\[Reply B\]\s(?P<b>.*)\[Question\]\sWhich is "
SCRIPT = f"""\
rules:
  - {{match: '{PAIR}kinder', prefer: please, p: 0.9}}
  - {{match: '{PAIR}shorter', choose: {{A: 0.9, B: 0.1}}}}
  - {{text: An answer.}}
"""


@pytest.fixture
def tried(project: Path) -> Path:
    (project / "script.yaml").write_text(SCRIPT)
    rows = [
        {"prompt": f"Help me with {n}.", "better": f"Yes, please {n}.", "worse": f"No {n}!", "principle": principle}
        for n in range(40)
        for principle in (("kind",) if n % 2 else ("kind", "short"))
    ]
    (project / "known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return project


def test_what_is_right_and_what_follows(tried, precept) -> None:
    done = precept("judge", "trial", "--pairs", "known.jsonl", "--quiet")
    assert done.code == 0, done.err
    assert "the judge is trusted: right on" in done.out and "`short` is left out: no better than chance" in done.out
    for name in ("always first", "longer", "random", "bag of words", "requests and"):
        assert name in done.out
    found = precept("judge", "trial", "--pairs", "known.jsonl", "--quiet", "--json").json
    assert found["verdict"] == "trusted" and found["left_out"] == ["short"] and found["calls"] == 0
    assert found["principles"]["kind"]["accuracy"] == 1.0 and found["principles"]["short"]["tied"] == 20
    assert found["principles"]["short"]["first_chosen"]["share"] == 1.0


def test_too_few_is_said_with_how_many_and_is_no_success(tried, precept) -> None:
    Path("known.jsonl").write_text(Path("known.jsonl").read_text().splitlines()[0] + "\n")
    done = precept("judge", "trial", "--pairs", "known.jsonl", "--quiet", "--evaluator")
    assert done.code == 1
    assert "too few pairs to say whether the evaluator is right: right on 100% of 1 prompt (95% interval" in done.out
    assert f"{needed() - 1} more examples or known pairs would settle it" in done.out


def test_mistakes_are_told(tried, precept) -> None:
    Path("columns.csv").write_text("prompt,left,right,choice\nWhy?,Because.,No.,left\n")
    for words, told in (
        (("--pairs", "gone.jsonl"), "gone.jsonl"),
        (("--pairs", "known.jsonl", "--format", "llmbar"), "not of the format 'llmbar'"),
        (("--recorded", "known.jsonl"), "there is no verdict"),
        (("--recorded", "columns.csv"), "one known pair: prompt, better, worse, or another shape of docs/data.md"),
        ((), "there is nothing to try the judge on"),
    ):
        done = precept("judge", "trial", "--quiet", *words)
        assert done.code == 2 and told in done.err and "Traceback" not in done.err


def test_recorded_verdicts_need_no_project(tmp_path, monkeypatch, precept) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"{n}?", "better": "Yes.", "worse": "No.", "choice": "worse"} for n in range(12)]
    Path("said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = precept("judge", "trial", "--recorded", "said.jsonl")
    assert done.code == 1 and "the recorded judge is at chance or inverted: right on 0% of 12 prompts" in done.out


def test_what_recorded_verdicts_have_no_use_for_is_refused(tmp_path, monkeypatch, precept) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"{n}?", "better": "Yes.", "worse": "No.", "choice": "better"} for n in range(12)]
    Path("said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for words in (
        ("--attacks",), ("--pairs", "said.jsonl"), ("--evaluator",), ("--prefixes",), ("--reward", "x"),
        ("--most", "3"), ("--set", "seed=1"), ("--max-calls", "0"), ("--settings", "x.toml"),
    ):  # fmt: skip
        done = precept("judge", "trial", "--recorded", "said.jsonl", *words)
        assert done.code == 2 and f"so {words[0]} would do nothing beside it" in done.err and not done.out
    done = precept("judge", "trial", "--recorded", "said.jsonl")
    assert done.code == 1 and "is seen in one order only: right on 100%" in done.out and "trusted" not in done.out


def test_bad_rows_are_left_out_where_that_is_said(tried, precept) -> None:
    with Path("known.jsonl").open("a") as file:
        file.write('{"prompt": "Q?", "better": "x", "worse": "x"}\n')
    done = precept("judge", "trial", "--pairs", "known.jsonl", "--quiet")
    assert done.code == 2 and "known.jsonl:61: 'better' and 'worse' are the same text" in done.err
    assert "--skip-bad" in done.err
    done = precept("judge", "trial", "--pairs", "known.jsonl", "--quiet", "--skip-bad")
    assert done.code == 0 and "left out, 1 bad rows: known.jsonl:61:" in done.out


def test_doctor_and_a_dry_run_say_whether_they_were_tried(tried, precept) -> None:
    def said() -> tuple[str, str]:
        findings = precept("doctor", "--json").json["findings"]
        pairs = ("--set", 'trial.pairs=["known.jsonl"]')
        plan = precept("improve", "--dry-run", "--no-sample", "--json", *pairs).json
        assert {s["name"]: s["calls"] for s in plan["stages"]}["trial of the judge"] == 2 * 60
        return next(f["found"] for f in findings if f["what"] == "trial: judge"), plan["trials"]["judge"]

    assert all("was not tried yet" in line for line in said())
    precept("judge", "trial", "--pairs", "known.jsonl", "--quiet")
    assert all("the judge is trusted: right on" in line for line in said())
    held = Path("principles.yaml").read_text()
    Path("principles.yaml").write_text(held.replace("kinder?", "kinder then?"))
    assert all("was not tried yet" in line for line in said())


def test_a_judge_at_chance_is_told_of_with_what_follows_everywhere(tried, precept, monkeypatch) -> None:
    monkeypatch.delenv("PRECEPT_TRIAL__REQUIRED", raising=False)
    Path("script.yaml").write_text("rules: [{match: Reply A, choose: {A: 0.9, B: 0.1}}, {text: An answer.}]\n")
    done = precept("judge", "trial", "--pairs", "known.jsonl", "--quiet")
    assert done.code == 1 and "a run stops at its trial" in done.out and "next: Name a better judge" in done.out
    finding = next(f for f in precept("doctor", "--json").json["findings"] if f["what"] == "trial: judge")
    assert finding["state"] == "not trusted" and "a run stops at its trial" in finding["found"]
    assert finding["mend"].startswith("Name a better judge")
    assert "not trusted  trial: judge" in precept("doctor").out
    plan = precept("improve", "--dry-run", "--no-sample")
    assert "a run stops at its trial" in plan.out
    only = ("--set", "trial.required=checks")  # no principle is checked by code, so nothing else could decide
    assert "a run stops at its trial" in precept("improve", "--dry-run", "--no-sample", *only).out
    finding = next(f for f in precept("doctor", "--json", *only).json["findings"] if f["what"] == "trial: judge")
    assert "a run stops at its trial" in finding["found"]


def test_attacks_are_told_with_intervals_and_of_what_they_are(tried, precept) -> None:
    done = precept("judge", "trial", "--pairs", "known.jsonl", "--quiet", "--attacks")
    rows = {line.split()[0]: line for line in done.out.splitlines() if " of 20  " in line}
    assert "fooled, of pairs" in done.out and "95% interval" in done.out and len(rows) > 8
    assert all(re.search(r"\d+% to \d+%", line) for line in rows.values())
    assert "by its letter" in rows["letters"]


def test_the_gate_asks_for_an_evaluator_that_was_tried_and_is_trusted(tried, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import closing

    from service import settings as settings_module
    from service.wiring import Wiring
    from service.work import life
    from service.work.progress import Silent

    monkeypatch.delenv("PRECEPT_TRIAL__REQUIRED", raising=False)

    def conditions(**flags: object) -> list[tuple[bool, str]]:
        given = {name.replace("__", "."): value for name, value in flags.items()}
        with closing(Wiring(settings_module.load(None, given)[0])) as wiring:
            key = json.dumps(given)
            with life.at_work(wiring, "improve", key, {}, who="me", report=Silent()) as work:
                assert isinstance(work, Work)
                if "limits__max_calls" not in flags:
                    trial.try_judge(work, "evaluator", work.settings.evaluator)
                return trial.conditions(work)

    [(held, told)] = conditions(trial__pairs=["known.jsonl"])
    assert held and "the evaluator is trusted" in told and "its two orders agree on" in told
    [(held, told)] = conditions()
    assert not held and "too few pairs" in told
    [(held, told)] = conditions(limits__max_calls=100)
    assert not held and "not known whether it is right" in told
    assert conditions(trial__required=False) == []


@pytest.mark.parametrize(
    ("set_to", "told"),
    [
        ("judge.method=contrats", "judge: there is no judge 'contrats'"),
        ("judge.judge_options={shotz=2}", "judge: the choice judge: shotz: there is no such option"),
        ("evaluator.method=cascade", "evaluator: the cascade judge: large: it has to be given"),
        ("policy.kind=scriptd", "policy: there is no engine 'scriptd'"),
    ],
)
def test_a_dry_run_counts_nothing_that_the_run_would_refuse(tried, precept, set_to: str, told: str) -> None:
    done = precept("improve", "--dry-run", "--no-sample", "--set", set_to)
    assert done.code == 2 and told in done.err and not done.out
