"""What a run may spend, and what it has spent. Reaching a limit stops the run cleanly; it can be resumed."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.judges.judge import Used
from service.settings import LimitSettings


class BudgetReached(RuntimeError):
    """A limit of the settings was reached. All that was answered is stored."""


@dataclass
class Budget:
    limits: LimitSettings
    generated: int = 0  # requests for a text
    judge_calls: int = 0  # two a verdict, where a judge reads letters
    reused: int = 0  # records that were stored already
    tokens: int = 0
    rates: dict[str, tuple[int, float]] = field(default_factory=dict)  # what: (how many, seconds)

    @property
    def calls(self) -> int:
        return self.generated + self.judge_calls

    @property
    def cost(self) -> float:
        return self.tokens / 1000 * self.limits.cost_per_1k_tokens

    def afford(self, calls: int, flying: int = 0) -> None:
        """Raise BudgetReached when `calls` more requests would pass a limit. `flying`: requests that are under way
        already; what tokens they will use is reckoned by those before."""
        limits = self.limits
        expected = self.tokens / max(1, self.calls) * flying
        for name, spent, limit in (
            ("max_calls", self.calls + flying + calls, limits.max_calls),
            ("max_tokens", self.tokens + expected + 1, limits.max_tokens),
            ("max_cost", self.cost + expected / 1000 * limits.cost_per_1k_tokens, limits.max_cost),
        ):
            if limit is not None and spent > limit:
                raise BudgetReached(
                    f"stopped at limits.{name} = {limit} ({self.calls} calls, {self.judge_calls} of them to judges, "
                    f"{self.tokens} tokens, cost {self.cost:.2f}); all that was answered is kept"
                )

    def judged(self, used: Used) -> None:
        """Count what a judge used."""
        self.judge_calls += used.requests
        self.tokens += used.prompt_tokens + used.tokens

    def time(self, what: str, count: int, seconds: float) -> None:
        n, spent = self.rates.get(what, (0, 0.0))
        self.rates[what] = (n + count, spent + seconds)

    def as_dict(self) -> dict[str, int]:
        """As results have it. `chosen` is the stored key of the judge calls."""
        return {"generated": self.generated, "chosen": self.judge_calls, "reused": self.reused}
