"""Prompts that name principles: the critic's are drawn of these alone, unknown ones are refused by line, and runs of
prompts that name none are what they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from constitution.errors import UserError
from constitution.principles import Constitution, Principle, draw
from constitution.records import Message, Prompt, make_id
from pipeline.sources import rows
from service import keyed, preflight
from service import settings as settings_module
from service.identity import run_key
from service.wiring import Wiring
from storage.store import Store

PRINCIPLES = """\
constitution: three
version: 1
principles:
  - {id: kind, title: t, critique: Is it rude?, revision: Be kind., comparison: Which is kinder?}
  - {id: short, title: t, critique: Is it long?, revision: Be short., comparison: Which is shorter?}
  - {id: plain, title: t, critique: Is it odd?, revision: Be plain., comparison: Which is plainer?}
"""
SETTINGS = 'prompts = "p.jsonl"\noracle = ""\n' + "".join(
    f'[{role}]\nkind = "scripted"\nmodel = "{model}"\n'
    for role, model in (("policy", "script.yaml"), ("judge", "script.yaml"), ("evaluator", "script.yaml"))
)


@pytest.fixture
def wired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("principles.yaml").write_text(PRINCIPLES)
    Path("script.yaml").write_text("rules:\n  - {text: An answer.}\n")
    Path("precept.toml").write_text(SETTINGS)

    def wiring(*named: object) -> Wiring:
        given = [
            {"prompt": f"Question {n}?", "split": "train", **({"principles": p} if p else {})}
            for n, p in enumerate(named)
        ]
        Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
        return Wiring(settings_module.load()[0])

    return wiring


def test_draws_are_of_the_named_alone_and_the_same_hash() -> None:
    all_ = Constitution("x", tuple(Principle(id, "t", "c", "r", "k") for id in "abcde"))
    for n in range(50):
        prompt = make_id("p", n=n)
        drawn = {draw(all_, 0, prompt, round, ("b", "d")).id for round in range(8)}
        assert drawn <= {"b", "d"}
        free = draw(all_, 0, prompt, 0)
        assert draw(all_, 0, prompt, 0, ("zz",)) == free  # none of them is there any more
        assert free.id not in "bd" or draw(all_, 0, prompt, 0, ("b", "d")) == free
    assert len({draw(all_, 0, make_id("p", n=n), 0, ("b", "d")).id for n in range(50)}) == 2


def test_a_row_names_principles(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(
        '{"prompt": "A?", "principles": ["kind", "short", "kind"]}\n'
        '{"prompt": "B?", "principles": "kind"}\n{"prompt": "C?"}\n'
    )
    read = rows.read_prompts(file, heldout=0, dev=0)
    assert [p.principles for p in read] == [("kind", "short"), ("kind",), ()]
    file.write_text('{"prompt": "A?", "principles": [3]}\n')
    with pytest.raises(UserError, match=r"p.jsonl:1: 'principles' is a list of ids"):
        rows.read_prompts(file, heldout=0, dev=0)


def test_unknown_ids_are_refused_with_their_lines(wired) -> None:
    with pytest.raises(UserError) as caught:
        preflight.check("respond", wired(["kind"], None, ["kin", "short"], ["nobody"]))
    assert "p.jsonl:3: there is no principle 'kin'" in str(caught.value)
    assert "p.jsonl:4: there is no principle 'nobody'" in str(caught.value)
    assert "the constitution has kind, short, plain" in str(caught.value)


def test_what_is_named_is_part_of_a_run_only_where_something_is(wired) -> None:
    def key(*named: object) -> str:
        wiring = wired(*named)
        return run_key("improve", wiring, wiring.prompts())

    plain = key(None, None)
    assert "keyed" not in plain and key(None, None) == plain
    one, other = key(["kind"], None), key(["short"], None)
    assert len({plain, one, other}) == 3


def test_a_run_finds_again_what_its_prompts_named(tmp_path: Path) -> None:
    prompts = [Prompt((Message("user", f"Q{n}"),), "train", principles=("kind",) if n else ()) for n in range(3)]
    with Store.open(tmp_path / "store.db") as store:
        run = store.start_run("k", "improve", {}, None)
        store.add_prompts(prompts)
        stored = store.prompts(ids=[p.id for p in prompts])
        assert {p.principles for p in stored} == {()}
        assert keyed.with_principles(store, run.id, stored) == stored
        keyed.keep(store, run.id, prompts)
        found = {p.id: p.principles for p in keyed.with_principles(store, run.id, stored)}
        assert found == {p.id: p.principles for p in prompts}
