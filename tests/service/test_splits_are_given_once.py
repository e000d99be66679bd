"""A prompt that was stored to train on stays so: who calls it held out later is told, and measures nothing by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from constitution.errors import UserError
from constitution.records import Message, Prompt
from flows.session import at_work
from service.actions.collect import LONGEST, collect
from service.work import evaluation
from service.work.progress import Stage, Uncounted
from storage.store import Store

RULES = "rules: [{texts: [Fine.]}]\n"
ROOT = Path(__file__).parents[2]


class Heard:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Stage]:
        yield Uncounted(total)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("script.yaml").write_text(RULES)
    role = "".join(f'[{name}]\nkind = "scripted"\nmodel = "script.yaml"\n' for name in ("policy", "judge", "evaluator"))
    Path("precept.toml").write_text(f'prompts = "prompts.jsonl"\nconstitution = "{ROOT}/principles.yaml"\n{role}')
    return tmp_path


def write(split: str) -> None:
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": f"{n}?", "split": split}) + "\n" for n in range(3)))


def test_prompts_that_come_again_under_another_split_are_told_of(project: Path) -> None:
    first, second = Heard(), Heard()
    write("train")
    with at_work("respond", "precept.toml", {}, "ada", first) as work:
        assert len(work.prompts("train")) == 3
    write("heldout")
    with at_work("respond", "precept.toml", {"seed": 1}, "ada", second) as work:
        assert len(work.prompts("train")) == 3 and work.prompts("heldout") == []
    told = "3 prompts keep the split that they were stored with before"
    assert any(told in text for text in second.said) and not any(told in text for text in first.said)


def test_a_new_prompt_that_opens_like_a_stored_one_has_its_split(project: Path) -> None:
    write("train")
    with at_work("respond", "precept.toml", {}, "ada", Heard()) as work:
        assert len(work.prompts("train")) == 3
    turns = [("user", "0 ?"), ("assistant", "What?"), ("user", "More.")]
    later = [{"role": role, "content": content} for role, content in turns]
    rows = [{"prompt": later, "split": "heldout"}, {"prompt": "Other?", "split": "heldout"}]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with at_work("respond", "precept.toml", {"seed": 1}, "ada", Heard()) as work:
        assert [len(p.messages) for p in work.prompts("train")] == [3]
        assert [p.messages[0].content for p in work.prompts("heldout")] == ["Other?"]


def test_a_suite_measures_nothing_on_a_prompt_that_was_trained_on(project: Path) -> None:
    write("train")
    with at_work("respond", "precept.toml", {}, "ada", Heard()) as work:
        mine = [Prompt((Message("user", "0?"),), "heldout", "a suite")]
        with pytest.raises(UserError, match="was stored before as one to train on"):
            evaluation._of_its_own(work, "evaluation.mine", mine, work.start, work.start)
        assert work.budget.generated == 0


def test_days_that_no_calendar_has_are_refused(tmp_path: Path) -> None:
    with Store.open(tmp_path / "x.db") as store:
        for days in (-1, LONGEST + 1, float("inf"), float("nan")):
            with pytest.raises(UserError, match="days are from 0"):
                collect(store, days, dry_run=True)
        assert collect(store, LONGEST, dry_run=True).dry_run
