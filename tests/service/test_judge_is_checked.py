"""A judge that answers too little is told of at once: nothing is stored, and it is not asked for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from constitution.errors import UserError
from pipeline.judges.judge import Case, Judged
from tests.flows import pools
from tests.flows.pools import HashJudge, HashWiring


class Forgetful(HashJudge):
    """Leaves the last verdict out."""

    def judge(self, cases: Sequence[Case]) -> Judged:
        said = super().judge(cases)
        return replace(said, verdicts=said.verdicts[:-1])


@pytest.mark.timeout(60)
def test_a_judge_that_answers_too_little(tmp_path: Path) -> None:
    wiring = HashWiring(f"sqlite:///{tmp_path}/a.db", tmp_path)
    wiring.hash_judge = Forgetful()
    try:
        prompts, ids = pools.fill(wiring.store, 2)
        with pytest.raises(UserError, match="was asked 40 questions and answered 39 of them"):
            pools.base_run(wiring, pools.write([pools.principle("kind"), pools.principle("short")]), prompts, ids)
        questions = [wiring.hash_judge.question(p).id for p in wiring.constitution]
        assert list(wiring.store.verdicts(ids, questions)) == []
    finally:
        wiring.close()
