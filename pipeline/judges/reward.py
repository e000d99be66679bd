"""A reward as a judge: p(A is better) = sigmoid((r_A - r_B) / scale), as Bradley and Terry have it. Of one of two:

- `reward`: any reward of `pipeline.rewards`, as settings describe one ({kind: model, paths: [folder]}). A single reward
  model is read as it was trained, not normalised, so a difference of 1 is a log-odds of 1. The role's own model has no
  part in it.
- `reference`: the settings of a role. Then the role's own model is a policy that was trained by DPO, and r is its
  implicit reward, beta * (log pi(y | x) - log pi_ref(y | x)), the end of the turn included (arXiv 2305.18290, eq. 5).

Each answer is scored once, whatever pairs it is in. One question for all principles: a reward knows nothing of
principles, so asking it under each would give the same number each time and count it as many votes that agree. Their
weights add, as those of principles with the same words do. Named by one principle, it speaks for that one.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from constitution.errors import UserError
from constitution.principles import Principle
from constitution.records import Id, Question, make_id
from pipeline.asking import Role
from pipeline.engines.engine import Refused, Score
from pipeline.judges import alone
from pipeline.judges.contrast import sigmoid, used_by
from pipeline.judges.judge import Another, Case, Judge, Judged, Used
from pipeline.options import Options, read, within

TEMPLATE = "Which reply has the higher reward?"  # read by nobody
WHO = "the reward judge"


class RewardOptions(Options):
    reward: dict[str, Any] | None = None
    reference: dict[str, Any] | None = None
    beta: float = Field(0.1, gt=0)  # of the implicit reward
    scale: float = Field(1.0, gt=0)  # the difference of rewards that is a log-odds of 1

    @model_validator(mode="after")
    def _one_of_two(self) -> RewardOptions:
        if (self.reward is None) == (self.reference is None):
            raise ValueError("it needs either reward (a kind of reward and its options) or reference (a role)")
        if self.reward is not None and "beta" in self.model_fields_set:
            raise ValueError("beta does nothing without reference")
        return self


class _Judge:
    """What both have in common. A reward is a number; `_look` finds it."""

    fingerprint: str

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._known: dict[Id, float] = {}

    def question(self, principle: Principle) -> Question:
        how = {"method": "reward"} if self._scale == 1 else {"method": "reward", "scale": self._scale}
        return Question(self.fingerprint, how, TEMPLATE, principle.id)

    def judge(self, cases: Sequence[Case]) -> Judged:
        return alone.judge(cases, self.question, self._look, self._weigh, self._known)

    def _weigh(self, first: float, second: float) -> alone.Weighed:
        return alone.Weighed(sigmoid((first - second) / self._scale))

    def _look(self, answers: Sequence[alone.Answer]) -> alone.Looked[float]:
        raise NotImplementedError


class RewardJudge(_Judge):
    """By a reward of `pipeline.rewards`, which is loaded when it is first asked."""

    def __init__(self, spec: Mapping[str, Any], scale: float) -> None:
        super().__init__(scale)
        # By name: `pipeline.rewards` has the judge as a reward, so it imports this package.
        self._rewards: Any = importlib.import_module("pipeline.rewards")
        paths = spec.get("paths")
        one = isinstance(paths, str) or (isinstance(paths, Sequence) and len(paths) == 1)
        self._spec = {"normalise": False, **spec} if spec.get("kind") == "model" and one else dict(spec)
        self._rewards.check(self._spec)
        self._built: Any = None

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        return make_id("reward_as_judge", reward=self._rewards.fingerprint(self._spec)).hex()

    def _look(self, answers: Sequence[alone.Answer]) -> alone.Looked[float]:
        """What no reward can be given, as a text that is too long for it, is refused, where it is not all of them."""
        if self._built is None:
            self._built = self._rewards.build(self._spec)
        try:
            found: list[float | Refused] = list(self._score(answers))
        except UserError:
            found = [self._alone(answer) for answer in answers]
            if all(isinstance(each, Refused) for each in found):
                raise
        scored = sum(not isinstance(each, Refused) for each in found)
        return alone.Looked(found, Used(requests=scored))

    def _alone(self, answer: alone.Answer) -> float | Refused:
        try:
            return self._score([answer])[0]
        except UserError as error:
            return Refused("refused", str(error))

    def _score(self, answers: Sequence[alone.Answer]) -> list[float]:
        prompts = [[{"role": m.role, "content": m.content} for m in answer.messages] for answer in answers]
        scores: list[float] = self._built.score(prompts, [answer.text for answer in answers])
        return scores


class ImplicitRewardJudge(_Judge):
    """By what DPO taught a policy, against the model that it was trained from."""

    def __init__(self, policy: Role, reference: Role, beta: float, scale: float) -> None:
        super().__init__(scale)
        if not (policy.engine.capabilities.score and reference.engine.capabilities.score):
            raise UserError("this engine cannot score a text, so it has no implicit reward")
        self._roles, self._beta = (policy, reference), beta

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        parts = {"template_args": [dict(role.template_args) for role in self._roles]}
        told = parts if any(parts["template_args"]) else {}
        engines = [role.engine.fingerprint for role in self._roles]
        return make_id("implicit_reward", engines=engines, beta=self._beta, **told).hex()

    def _look(self, answers: Sequence[alone.Answer]) -> alone.Looked[float]:
        policy, reference = (
            role.engine.score([Score(role.chat(a.messages), a.text, end=True) for a in answers]) for role in self._roles
        )
        found: list[float | Refused] = []
        for ours, theirs in zip(policy, reference, strict=True):
            if isinstance(ours, Refused) or isinstance(theirs, Refused):
                found.append(ours if isinstance(ours, Refused) else theirs)  # type: ignore[arg-type]
            else:
                found.append(self._beta * (ours.logprob - theirs.logprob))
        return alone.Looked(found, used_by([*policy, *reference]))


def build(role: Role, options: Mapping[str, Any], another: Another) -> Judge:
    given = read(RewardOptions, WHO, options)
    if given.reward is not None:
        with within("reward"):
            return RewardJudge(given.reward, given.scale)
    assert given.reference is not None
    with within("reference"):
        reference = another(given.reference)
    return ImplicitRewardJudge(role, reference, given.beta, given.scale)
