"""How a real model is asked: the beginning of its answer by mass, answered examples, and whom a principle is for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from constitution.principles import Constitution, Example, Principle, When
from constitution.records import PROBABILITY, Comparison, Message, dialogue_id, text_digest
from pipeline import engines, judges
from pipeline.asking import Role
from pipeline.engines.engine import EngineSettings
from pipeline.judges import reading
from pipeline.judges.checked import checked
from pipeline.judges.choice import ChoiceOptions
from pipeline.judges.judge import Case

EXAMPLES = tuple(
    Example((Message("user", f"How do I {task}?"),), f"Gladly: you {task} with care.", "Go away, you are stupid.")
    for task in ("bake bread", "mend a shirt", "paint a fence")
)
KIND = Principle("kind", "Be kind", "Is it rude?", "Be kind.", "Which reply is kinder?", examples=EXAMPLES)


@pytest.fixture(scope="module")
def engine(smollm2: Path) -> Iterator[Any]:
    import torch

    torch.set_num_threads(1)
    built = engines.build(EngineSettings(model=str(smollm2), batch_size=16))
    yield built
    built.close()


def test_the_beginning_of_its_answer_is_found_by_mass(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BEGINNINGS", ("", "The better reply is ("))
    monkeypatch.setattr(reading, "FEW", 2)
    ways = reading.settle(Role(engine), Constitution("one", (KIND,)), ChoiceOptions(), "auto", "A")
    assert ways[0].answer_prefix == "The better reply is (" and ways[0].mass > 0.6
    assert ways[1].mass < 0.2  # said plainly, the letters hold next to nothing


def test_it_is_asked_with_answered_examples_and_whom_a_principle_is_for(engine: Any) -> None:
    role = Role(engine, answer_prefix="The better reply is (")
    kind = replace(KIND, when=When(ask="Does this ask how to do something?"))
    judge = judges.build("choice", role, {"shots": 2})
    asked = (Message("user", "How do I wash a cup?"),)
    comparison = Comparison.of(dialogue_id(asked), text_digest("With soap."), text_digest("Go away."))
    first, second = sorted(("With soap.", "Go away."), key=text_digest)
    case = Case(comparison, asked, first, second, (kind, KIND))
    found = checked(judge, [case], judge.judge([case]))
    assert [v.question for v in found.verdicts] == [judge.question(p).id for p in (kind, KIND)]
    assert found.used.requests == 2 + 2  # the question about the request, and one question of the pair for both
    assert min(found.verdicts[1].mass1, found.verdicts[1].mass2) > PROBABILITY // 2
