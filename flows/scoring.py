"""The playground: an answer that anyone typed, put against a model's own by the judge and by the reward.

The baseline are answers of the starting model, the one that a run set out from, to the very same prompt: those that
the store has, and where they are too few as many more as are wanted, asked of the model now. The nearest prompts that
were answered before are told, and their answers are a second baseline for the reward alone: a judge compares two
answers to one prompt. Two answers are put against each other instead.

No Prefect flow, and nothing is stored: the store is for runs, and what was typed is none of its prompts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from constitution.principles import Constitution, Principle
from constitution.records import Comparison, Generation, Id, Message, Prompt, make_id, text_digest
from flows import pool
from flows.budget import Budget, BudgetReached
from flows.progress import Reporter
from flows.settings import JudgeSettings, RoleSettings, prepare_process
from flows.wiring import Wiring
from pipeline import asking, attribution, compare, playground, revise, rewards
from pipeline.asking import Ask, Role
from pipeline.engines.engine import EngineError
from pipeline.evaluate import Interval
from pipeline.judges.judge import Case, Judge
from pipeline.playground import Against, Opinion
from pipeline.respond import respond
from storage.runs import Run

ANSWERS = 16
SHOWN = 3  # nearest prompts


@dataclass(frozen=True)
class Reading:
    """Who read an answer, and what could not be had (`missing`, a sentence each). `judge`: `evaluator`, the judge that
    made none of the training labels, or `judge` where there is no other. `rewards`: the checkpoints, or what else
    rewards. `run`: None where no run is finished."""

    prompt: str
    constitution: Constitution
    run: Run | None
    judge: str
    rewards: tuple[str, ...]
    missing: tuple[str, ...]
    calls: Mapping[str, int]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt, "constitution": self.constitution.name, "version": self.constitution.version,
            "run": self.run.id.hex() if self.run else None, "judge": self.judge, "rewards": list(self.rewards),
            "missing": list(self.missing), "calls": dict(self.calls), "seconds": round(self.seconds, 3),
        }  # fmt: skip


@dataclass(frozen=True)
class Other:
    """An answer of the baseline. `value`: 1 where the judge prefers the scored answer to it, 0 where it prefers this
    one, 1/2 for neither, None where it could not be read. `stored`: it was not asked for now."""

    text: str
    stored: bool
    value: float | None
    reward: float | None

    def as_dict(self) -> dict[str, Any]:
        return {"text": self.text, "stored": self.stored, "value": self.value, "reward": self.reward}


@dataclass(frozen=True)
class Near:
    """A prompt that was answered before. `cosine` of TF-IDF: 1 for the same words; `answers` of it were looked at."""

    prompt: str
    cosine: float
    answers: int

    def as_dict(self) -> dict[str, Any]:
        return {"prompt": self.prompt, "cosine": self.cosine, "answers": self.answers}


@dataclass(frozen=True)
class Rewarded:
    """What the reward says of the answer. `percentile`: its place among the baseline's, 0 to 1, with a 95% interval;
    None where there is no baseline. `among_near`: among answers to the nearest prompts: a rough place, because a reward
    model learns differences between answers to one prompt."""

    reward: float
    percentile: Interval | None
    among_near: Interval | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "reward": self.reward,
            "percentile": self.percentile.as_dict() if self.percentile else None,
            "among_near": self.among_near.as_dict() if self.among_near else None,
        }


@dataclass(frozen=True)
class Revised:
    """One round of critique and revision under the principle that the answer does worst by. `dropped`: why the revision
    cannot stand, or empty; `preferred`: what the judge says of the two, `revision`, `answer`, `neither` or
    `unreadable`, None where it was not asked; `reward`: the revision's."""

    principle: str
    critique: str
    revision: str
    dropped: str
    preferred: str | None
    reward: float | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "principle": self.principle, "critique": self.critique, "revision": self.revision,
            "dropped": self.dropped, "preferred": self.preferred, "reward": self.reward,
        }  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """`model`: the starting model. `near`: empty where the prompt itself was answered before."""

    by: Reading
    answer: str
    model: str
    others: tuple[Other, ...]
    near: tuple[Near, ...]
    against: Against | None
    reward: Rewarded | None
    gap: playground.Gap | None
    revised: Revised | None

    @property
    def stored(self) -> int:
        return sum(other.stored for other in self.others)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: no NaN, no object."""
        return {
            **self.by.as_dict(), "answer": self.answer, "model": self.model,
            "baseline": {
                "answers": len(self.others), "stored": self.stored, "asked": len(self.others) - self.stored,
                "near": [near.as_dict() for near in self.near],
            },
            "judged": self.against.as_dict() if self.against else None,
            "rewarded": self.reward.as_dict() if self.reward else None,
            "gap": self.gap.as_dict() if self.gap else None,
            "revised": self.revised.as_dict() if self.revised else None,
            "others": [other.as_dict() for other in self.others],
        }  # fmt: skip


@dataclass(frozen=True)
class Preferred:
    """Two answers. `opinion` is the label, term by term, as probabilities that the first is the better; `reward`: of
    both, None where nothing rewards."""

    by: Reading
    first: str
    second: str
    opinion: Opinion
    reward: tuple[float, float] | None

    @property
    def difference(self) -> float | None:
        return None if self.reward is None else self.reward[0] - self.reward[1]

    def as_dict(self) -> dict[str, Any]:
        first, second = self.reward or (None, None)
        return {
            **self.by.as_dict(), "first": self.first, "second": self.second, "judged": self.opinion.as_dict(),
            "rewarded": {"first": first, "second": second, "difference": self.difference} if self.reward else None,
        }  # fmt: skip


# --- the two questions ---------------------------------------------------------------------------------------------


def score(
    wiring: Wiring,
    prompt: str,
    answer: str,
    *,
    n: int = ANSWERS,
    run: str = "",
    revision: bool = True,
    report: Reporter | None = None,
) -> Scored:
    """Put an answer against `n` of the starting model of a run (the newest finished one). An empty answer is one.

    Raises UserError for a prompt without text, an unknown run, a limit, and where no judge can be had; EngineError
    where the judge fails. What else is missing is told, and the rest is done.
    """
    session = _Session(wiring, prompt, run, report)
    others, near, model = _baseline(session, n)
    texts = [text for text, _ in others]
    against = session.against(answer, texts) if texts else None
    near_texts = [(messages, text) for found, messages, some in near for text in some]
    rewarded, scores = None, {}
    with session.rewarding() as reward:
        if reward is not None:
            own = dict.fromkeys([answer, *texts])
            values = session.rewards(reward, [(session.prompt, text) for text in own] + near_texts)
            scores = dict(zip(own, values, strict=False))
            rewarded = _rewarded(scores[answer], [scores[text] for text in texts], values[len(own) :])
        gap = None
        if against is not None and rewarded is not None:
            gap = playground.gap(playground.above(scores[answer], [scores[text] for text in texts]), against.values)
        revised = _revise(session, answer, against, reward) if revision else None
    values_of = against.values if against else [float("nan")] * len(texts)
    return Scored(
        session.reading(),
        answer,
        model,
        tuple(
            Other(text, stored, value if value == value else None, scores.get(text))
            for (text, stored), value in zip(others, values_of, strict=True)
        ),
        tuple(found for found, _, _ in near),
        against,
        rewarded,
        gap,
        revised,
    )
