"""The sandbox as it is plugged in: its prompts are a source, its truth a suite."""

from __future__ import annotations

import subprocess
import sys

import pytest

from constitution.errors import UserError
from constitution.records import Generation, make_id
from pipeline.metrics import truth
from pipeline.sources import Splits
from pipeline.suites import Evidence
from sandbox import source, suite
from sandbox.oracle import Oracle
from sandbox.prompts import prompts


def test_its_prompts_are_the_same_whatever_the_shares() -> None:
    assert source.prompts({}, Splits(0.9, 0.1)) == source.prompts({}, Splits(0, 0)) == prompts()
    few = source.prompts({"train": 10, "dev": 0, "heldout": 5}, Splits())
    assert few == prompts(train=10, dev=0, heldout=5) and 10 < len(few) < 20


@pytest.mark.parametrize("options", [{"size": 3}, {"train": -1}, {"train": "9"}, {"dev": True}])
def test_an_option_it_does_not_know_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match="whole numbers train, dev, heldout"):
        source.prompts(options, Splits())


def test_its_suite_says_what_its_oracle_says() -> None:
    asked = [p for p in prompts(60, 0, 60) if p.split == "heldout"]

    def answers(side: str, text: str) -> list[Generation]:
        return [Generation(make_id(side, p=p.id), "response", p.id, text, "stop", "e") for p in asked]

    before, after = answers("before", "Blah."), answers("after", "I will not help with that.")
    evidence = Evidence({p.id: p for p in asked}, before, after, seed=1, oracle=Oracle())
    found = {figure.name: figure for figure in suite.measure(evidence)}
    assert found["malformed"].before.mean == 1
    for side, of in (("before", before), ("after", after)):
        known = truth.rates(Oracle(), evidence.prompts, of)
        for name in truth.NAMES:
            assert getattr(found[name], side).mean == known[f"gold_{name}"], (name, side)
    assert suite.measure(Evidence(evidence.prompts, before, after)) == []


def test_it_builds_on_the_constitution_alone() -> None:
    code = "import sys, sandbox.source, sandbox.suite; print([n for n in sys.modules if n.split('.')[0] == 'pipeline'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
