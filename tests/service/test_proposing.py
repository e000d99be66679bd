"""How a retrain ends: what it decides is done in the store and told, and a later word takes the place of a proposal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.records import Checkpoint, make_id
from pipeline.models.checkpoint import seal
from pipeline.replacing import Outcome
from service.actions import promote
from service.pictures.report import headline
from service.queries import models, runs
from service.work import deciding
from storage.runs import Run
from storage.store import Store

WIN = {"mean": 0.48, "low": 0.46, "high": 0.5, "prompts": 200}
REASONS = ("failed: win rate 0.480, may not be below one half",)


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Any]:
    """As much of a retrain's work as its end needs; `said` is its log."""
    with Store.open(f"sqlite:///{tmp_path}/precept.db") as store:
        run = store.start_run("key", "retrain", {"settings": {}}, None)
        said: list[str] = []
        yield SimpleNamespace(store=store, run=run, who="night", home=tmp_path, log=said.append, said=said)


def trained(work: Any, name: str) -> Checkpoint:
    partial = work.home / f"{name}.partial"
    partial.mkdir()
    (partial / "config.json").write_text(json.dumps({"name": name}))
    ident, out = make_id("job", name=name), work.home / name
    known = {"kind": "policy", "method": "dpo", "parent": "0" * 64, "dataset": "0" * 64, "metrics": {}}
    manifest = seal(partial, out, job=ident.hex(), **known)
    made = Checkpoint(ident, "policy", "dpo", str(out), manifest.digest, "0" * 64, "0" * 64, None)
    work.store.add_checkpoint(made, work.run.id)
    return made


def end(work: Any, found: Outcome, model: Checkpoint) -> None:
    payload = {
        "promoted": found.promoted,
        "proposed": found.proposed,
        "reasons": list(found.reasons),
        "model": model.path,
    }
    work.store.put_document("decision", work.run.id.hex(), payload)
    deciding._act(work, found, model.path, payload, after_amendment=True)


def again(work: Any, key: str) -> None:
    work.run = work.store.start_run(key, "retrain", {"settings": {}}, None)


def test_a_proposal_moves_nothing_and_is_told_everywhere(work: Any) -> None:
    model = trained(work, "unclear")
    end(work, Outcome(False, True, REASONS), model)
    assert work.store.promoted() is None and not (work.home / "promoted").exists()
    (event,) = [work.store.proposal()]
    assert (event.who, event.payload["digest"]) == ("night", model.digest)
    assert event.payload["evidence"]["reasons"] == list(REASONS)
    assert f"precept model promote {model.id.hex()[:12]} --why TEXT" in work.said[-1]
    shown = models.model(work.store, "unclear")
    assert shown.model.proposed and shown.model.decided == "proposed" and shown.reasons == REASONS
    result = {"promoted": False, "proposed": True, "win_rate": WIN}
    work.store.finish_run(work.run.id, "finished", result=result)
    assert runs.summary(work.store.run(work.run.id)).outcome == "proposed"
    assert "was proposed: a person decides" in headline(result)


@pytest.mark.parametrize("found", [Outcome(False, False, REASONS), Outcome(True, False, ())])
def test_a_later_retrain_takes_its_place(work: Any, found: Outcome) -> None:
    end(work, Outcome(False, True, REASONS), trained(work, "unclear"))
    again(work, "later")
    later = trained(work, "later")
    end(work, found, later)
    assert work.store.proposal() is None
    assert (work.store.promoted() == later) == found.promoted
    assert models.model(work.store, "unclear").model.decided == "proposed"  # what was said then stays said
    assert not models.model(work.store, "unclear").model.proposed


def test_a_run_that_ends_twice_says_it_once(work: Any) -> None:
    model = trained(work, "unclear")
    for _ in range(2):  # resumed after its end was stored
        end(work, Outcome(False, True, REASONS), model)
    assert len(work.store.events("proposal")) == 1
    run = work.store.run(work.run.id)
    assert isinstance(run, Run)


@pytest.mark.parametrize("harm", ["altered", "missing"])
def test_nothing_is_rolled_back_to_a_model_that_is_not_whole(work: Any, harm: str) -> None:
    """A server loads what the link points to."""
    one, two = trained(work, "one"), trained(work, "two")
    for model in (one, two):
        promote.promote(work.store, work.home, model.path, "ana", "better")
    if harm == "altered":
        (Path(one.path) / "config.json").write_text("{}")
    else:
        shutil.rmtree(one.path)
    with pytest.raises(UserError, match=r"nothing was rolled back: .*one.*precept model promote ID"):
        promote.roll_back(work.store, work.home, "ana", "worse")
    assert work.store.promoted() == two and [e.kind for e in work.store.promotions()] == ["promotion"] * 2
    assert (work.home / "promoted").resolve() == Path(two.path).resolve()
