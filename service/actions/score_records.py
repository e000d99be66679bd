"""What scoring (`service/actions/score.py`) finds, as records; `as_dict` is their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from constitution.principles import Constitution
from pipeline.metrics.baseline import Against, Gap
from pipeline.metrics.intervals import Interval
from pipeline.metrics.opinion import Opinion
from storage.runs import Run


@dataclass(frozen=True)
class Reading:
    """Who read the answers. `judge`: `evaluator`, the judge that made none of the training labels, or `judge` where
    there is no other. `rewards`: checkpoints, or what else rewards; none where nothing does. `run`: None where none is
    finished. `missing`: what could not be had and why, a sentence each."""

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


@dataclass(frozen=True)
class Near:
    """A prompt that was answered before. `cosine` of TF-IDF: 1 for the same words; `answers`: how many to it were
    looked at."""

    prompt: str
    cosine: float
    answers: int


@dataclass(frozen=True)
class Rewarded:
    """What the reward says of the answer. `percentile`: its place among the baseline's, 0 to 1, with a 95% interval;
    None where there is no baseline. `among_near`: among answers to the nearest prompts. That is a rough place: a reward
    model learns differences between answers to one prompt, and two prompts may differ by more."""

    reward: float
    percentile: Interval | None
    among_near: Interval | None

    def as_dict(self) -> dict[str, Any]:
        return {"reward": self.reward, "percentile": _of(self.percentile), "among_near": _of(self.among_near)}


@dataclass(frozen=True)
class Revised:
    """One round of critique and revision under one principle. `worst`: the answer does worst by it; otherwise it loses
    by none, and this is the principle that a run would draw. `dropped`: why the revision cannot stand, or empty.
    `preferred`: what the judge says of the two, `revision`, `answer`, `neither` or `unreadable`; None where it was not
    asked. `reward`: the revision's."""

    principle: str
    worst: bool
    critique: str
    revision: str
    dropped: str
    preferred: str | None
    reward: float | None


@dataclass(frozen=True)
class Scored:
    """An answer against others of the starting model, `model`. `near`: empty where the prompt itself was answered
    before. What could not be had is None, and `by.missing` says why."""

    by: Reading
    answer: str
    model: str
    others: tuple[Other, ...]
    near: tuple[Near, ...]
    against: Against | None
    reward: Rewarded | None
    gap: Gap | None
    revised: Revised | None

    @property
    def stored(self) -> int:
        return sum(other.stored for other in self.others)

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.by.as_dict(), "answer": self.answer, "model": self.model,
            "baseline": {
                "answers": len(self.others), "stored": self.stored, "asked": len(self.others) - self.stored,
                "near": [asdict(near) for near in self.near],
            },
            "judged": _of(self.against), "rewarded": _of(self.reward), "gap": _of(self.gap),
            "revised": asdict(self.revised) if self.revised else None,
            "others": [asdict(other) for other in self.others],
        }  # fmt: skip


@dataclass(frozen=True)
class Preferred:
    """Two answers against each other. `opinion`: the label, term by term; `reward`: of both, or None."""

    by: Reading
    first: str
    second: str
    opinion: Opinion
    reward: tuple[float, float] | None

    @property
    def difference(self) -> float | None:
        """Of the rewards: above 0 where the reward likes the first better."""
        return None if self.reward is None else self.reward[0] - self.reward[1]

    def as_dict(self) -> dict[str, Any]:
        rewarded = None
        if self.reward is not None:
            rewarded = {"first": self.reward[0], "second": self.reward[1], "difference": self.difference}
        return {
            **self.by.as_dict(), "first": self.first, "second": self.second, "judged": self.opinion.as_dict(),
            "rewarded": rewarded,
        }  # fmt: skip


def _of(found: Interval | Against | Rewarded | Gap | None) -> dict[str, Any] | None:
    return None if found is None else found.as_dict()
