"""A reward: the shorter the answer, the better, so much a character."""

from collections.abc import Mapping, Sequence
from typing import Any

from constitution.errors import UserError
from constitution.records import make_id
from pipeline.rewards.reward import Dialogue


class Brief:
    def __init__(self, weight: float, fingerprint: str) -> None:
        self.weight, self.fingerprint = weight, fingerprint

    def score(self, prompts: Sequence[Dialogue], answers: Sequence[str]) -> list[float]:
        return [-self.weight * len(answer) for answer in answers]

    def close(self) -> None:
        pass


def check(options: Mapping[str, Any]) -> None:
    if unknown := options.keys() - {"weight"}:
        raise UserError(f"the reward brief has no option {', '.join(sorted(unknown))}; it has weight")


def fingerprint(options: Mapping[str, Any]) -> str:
    return make_id("brief", weight=str(options.get("weight", 1))).hex()


def build(options: Mapping[str, Any]) -> Brief:
    return Brief(float(options.get("weight", 1)), fingerprint(options))
