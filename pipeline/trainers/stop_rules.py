"""When an online run is stopped for the sake of its own goal, and which of its weights are good. Pure arithmetic.

Every few updates a run has an evaluation step (in short an evaluation): one answer to each of the same prompts, with
the same seeds, scored by the reward that it trains on (the proxy) and by a judge that made none of the labels. The
rules, by name:

- `proxy and judge part`: since the best evaluation the proxy has risen, while the judge's score has fallen by more than
  its noise. The mark of a policy that has found what the reward likes and nobody else does.
- `kl over budget`: nats a sequence from the reference, where a budget was set.
- `not finite`: a figure of an evaluation that is no number. (Of the loss, `evaluation_callback` is told by the
  trainer.)

How much is noise. The evaluations are paired, so the fall is the mean over prompts of (judge now - judge at the best
evaluation), and its standard error comes from those differences: what differs between prompts cancels. But the best
evaluation was chosen as the best of many, so a part of its height is luck (the winner's curse), and every evaluation is
one more chance to be wrong. With z = 2 a policy that does not change at all is stopped in 86% of runs of 21 evaluations
at 64 prompts, with z = 3 in 19% (simulated, the proxy rising all the while, which is the worst case). The rule
therefore asks how far apart the highest and the lowest of so many equal means are by chance: Tukey's studentized range,
at 5% for all evaluations of the run together, divided by sqrt(2) for a difference. That is z = 3.2 for 9 evaluations
and 3.7 for 21 at 64 prompts, more where prompts are few. Only a low evaluation after a high one counts here, so the
rate is below 5% (simulated: 0 to 4%).

The first rule is as good as its judge. One that cannot tell broken text from good text (a small one, far from what it
was trained on) lets a policy run away with its score held high: a budget of KL, which needs no judge, is the second.

One evaluation is enough. Asking for two in a row at z = 3 has the same rate of false alarms and the same power
(simulated: a fall of 0.05 an evaluation is seen within half an evaluation of each other), but it cannot see a fall at a
run's last evaluation, and it depends on the noise of neighbouring evaluations being independent, which the common seeds
make untrue.

Which weights are good. Not the last ones before the rule fired: by then the fall was larger than its noise, so it began
earlier, at evaluations that were each within the noise of the best. Nor those of the best evaluation: of evaluations
that the judge cannot tell apart the highest is the luckiest, and a policy that went further from its start for nothing
has only found more of what the judge cannot see. Kept are those of the first evaluation within the KL budget, until a
later one, also within it, has a judge's score above it by more than the standard error of the difference: the
one-standard-error rule (Breiman et al. 1984, section 3.4.3: of the models that the noise cannot tell from the best, the
simplest), taken evaluation by evaluation, so that one set of weights is enough. This may be the start (step 0): then no
step of the run has helped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

FALSE_ALARMS = 0.05  # of runs in which the judge's score has no trend, at most

PART, KL, NOT_FINITE, DIVERGED = "proxy and judge part", "kl over budget", "not finite", "the loss diverges"


@dataclass(frozen=True)
class EvaluationStep:
    """What the evaluation callback measured at one step. `proxy` and `judge`: a score for each prompt, in
    the same order each time. `kl` [nats a sequence] and `entropy` [nats a token] are means."""

    step: int
    proxy: Sequence[float]
    judge: Sequence[float]
    kl: float
    entropy: float = 0.0


@dataclass(frozen=True)
class Stop:
    """A rule that fired: its name, the figures that made it, and the step."""

    rule: str
    reason: str
    step: int

    def __str__(self) -> str:
        return f"{self.rule}: {self.reason}"


def decide(evaluations: Sequence[EvaluationStep], planned: int, kl_budget: float | None = None) -> Stop | None:
    """The rule that the newest of `evaluations` breaks, if any. `planned`: how many the whole run will have."""
    now = evaluations[-1]
    if not _finite(now):
        seen = f"proxy {mean(now.proxy):.4g}, judge {mean(now.judge):.4g}, KL {now.kl:.4g}, entropy {now.entropy:.4g}"
        return Stop(NOT_FINITE, f"step {now.step}: {seen}", now.step)
    if kl_budget is not None and now.kl > kl_budget:
        reason = f"step {now.step}: {now.kl:.3g} nats a sequence from the reference, the budget is {kl_budget:g}"
        return Stop(KL, reason, now.step)
    before = best(evaluations[:-1], kl_budget)
    if before is None or mean(now.proxy) <= mean(before.proxy):
        return None
    fall, error = difference(now.judge, before.judge)
    z = critical(max(planned, len(evaluations)), len(now.judge))
    if fall < 0 and -fall > z * error:
        reason = (
            f"step {now.step}: since step {before.step} the proxy rose from {mean(before.proxy):.3g} to "
            f"{mean(now.proxy):.3g}, and the judge's score fell from {mean(before.judge):.3g} to "
            f"{mean(now.judge):.3g} (noise: {z:.2g} x {error:.2g})"
        )
        return Stop(PART, reason, now.step)
    return None


def best(evaluations: Sequence[EvaluationStep], kl_budget: float | None = None) -> EvaluationStep | None:
    """The one with the best judge's score, the earliest of equals; None where none is finite and within the budget."""
    return max(
        (evaluation for evaluation in evaluations if _within(evaluation, kl_budget)),
        key=lambda evaluation: mean(evaluation.judge),
        default=None,
    )


def kept(evaluations: Sequence[EvaluationStep], kl_budget: float | None = None) -> EvaluationStep | None:
    """The evaluation whose weights are good; None where none is finite and within the budget."""
    good: EvaluationStep | None = None
    for evaluation in evaluations:
        if not _within(evaluation, kl_budget):
            continue
        if good is not None:
            rise, error = difference(evaluation.judge, good.judge)
            if not rise > error:
                continue
        good = evaluation
    return good


def difference(now: Sequence[float], then: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error of the paired differences. One pair has an error without bound."""
    differences = [a - b for a, b in zip(now, then, strict=True)]
    return mean(differences), standard_error(differences)


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan


def standard_error(values: Sequence[float]) -> float:
    if len(values) < 2:
        return math.inf
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1) / len(values))


@lru_cache
def critical(evaluations: int, prompts: int) -> float:
    """How many standard errors two of so many evaluations of one policy lie apart, but for FALSE_ALARMS of runs."""
    from scipy.stats import studentized_range

    if evaluations < 2 or prompts < 2:
        return math.inf
    return float(studentized_range.ppf(1 - FALSE_ALARMS, evaluations, prompts - 1)) / math.sqrt(2)


def _within(evaluation: EvaluationStep, kl_budget: float | None) -> bool:
    return _finite(evaluation) and (kl_budget is None or evaluation.kl <= kl_budget)


def _finite(evaluation: EvaluationStep) -> bool:
    return all(map(math.isfinite, (*evaluation.proxy, *evaluation.judge, evaluation.kl, evaluation.entropy)))
