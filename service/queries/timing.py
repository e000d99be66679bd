"""How long the roles take, timed on a few real requests: for an estimate where no run has told yet.

Each role is asked once to wake it up, and then a small batch; nothing is stored. What is timed is bounded: the answers
are short, a batch that would take long is not begun, and a model too large to be loaded in passing is left out.
Larger batches are faster, so that the seconds that follow are rather too many than too few.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from constitution.errors import UserError
from constitution.principles import Principle
from constitution.records import Comparison, Prompt, text_digest
from constitution.templates import critique_request
from pipeline.asking import Ask, Role, answer, ask
from pipeline.engines.engine import EngineError
from pipeline.judges.by_principle import by_models
from pipeline.judges.judge import Case
from service.settings import JudgeSettings, RoleSettings
from service.wiring import Wiring

SECONDS = 20.0  # for all roles together, loading apart
BATCH = 4  # requests, after one that wakes the model up
TOKENS = 16  # of an answer that is timed
LARGEST = 4e9  # bytes of weights that are loaded for an estimate


@dataclass(frozen=True)
class Timed:
    """Seconds that a request takes, by role, and to load the models; `requests` were timed. A generation's are those of
    an answer as long as the role may write, or as those that ended before the limit."""

    by_role: dict[str, float]
    loading: float
    requests: int


def timed(wiring: Wiring, prompts: Sequence[Prompt]) -> Timed | None:
    """The roles of `improve`, timed on the first prompts; None where a model is not at hand, or a server silent."""
    settings = wiring.settings
    roles: list[RoleSettings | None] = [settings.policy, settings.critic, settings.judge, settings.evaluator]
    if not prompts or any(role is not None and not _at_hand(wiring, role) for role in roles):
        return None
    watch = _Watch(time.monotonic() + SECONDS)
    try:
        few = prompts[: BATCH + 1]
        replies = watch.texts("policy", wiring, settings.policy, lambda role: _questions(role, few))
        principle = wiring.constitution.principles[0]
        if settings.critic is None and watch.over:  # the same model: as long as the policy takes
            watch.by_role["critic"] = watch.by_role["policy"]
        else:
            critic = settings.critic or settings.policy
            watch.texts(
                "critic", wiring, critic,
                lambda role: [
                    ask("critique", role, critique_request(p.messages, r, principle), prompt=p.id, seed=0)
                    for p, r in zip(few, replies, strict=False)
                ],
            )  # fmt: skip
        for name, judge in (("judge", settings.judge), ("evaluator", settings.evaluator)):
            watch.verdicts(name, wiring, judge, few)
    except (UserError, EngineError):  # the run itself will say what is wrong
        return None
    return Timed(watch.by_role, watch.loading, watch.requests)


def _questions(role: Role, prompts: Sequence[Prompt]) -> list[Ask]:
    return [ask("response", role, p.messages, prompt=p.id, seed=0) for p in prompts]


def _at_hand(wiring: Wiring, role: RoleSettings) -> bool:
    """Whether a role can be asked soon: its settings are sound, its weights are small enough to be loaded."""
    with suppress(UserError):
        wiring.check_role(role)
        folder = Path(wiring.resolve(role.model))
        return not folder.is_dir() or sum(f.stat().st_size for f in folder.glob("*.safetensors")) <= LARGEST
    return False


class _Watch:
    def __init__(self, ends: float) -> None:
        self.by_role: dict[str, float] = {}
        self.loading, self.requests = 0.0, 0
        self._ends = ends

    @property
    def over(self) -> bool:
        """Whether the seconds are spent."""
        return time.monotonic() > self._ends

    def texts(self, name: str, wiring: Wiring, settings: RoleSettings, plan: Callable[[Role], list[Ask]]) -> list[str]:
        """Time a role that writes. Returns what it wrote."""
        role = self._loaded(wiring, settings)
        asks = plan(role)
        began = time.monotonic()
        made, _ = answer(asks[:1], role.engine)
        seconds, timed = time.monotonic() - began, made
        if asks[1:] and time.monotonic() + seconds * len(asks[1:]) < self._ends:
            began = time.monotonic()
            timed, _ = answer(asks[1:], role.engine)
            seconds = time.monotonic() - began
        if not timed:  # all of them were refused
            raise UserError("the model answers none of the first prompts")
        tokens = fmean(max(1, done.tokens) for done in timed)
        cut = any(done.finish_reason == "length" for done in timed)
        self.by_role[name] = seconds / len(timed) * ((settings.max_tokens if cut else tokens) / tokens)
        self.requests += len(timed)
        return [done.text or "-" for done in [*made, *timed]]

    def verdicts(self, name: str, wiring: Wiring, settings: JudgeSettings, prompts: Sequence[Prompt]) -> None:
        """Time a judge, a call being one order of one question."""
        self._loaded(wiring, settings)
        judge = wiring.judge(settings)
        principles = tuple(by_models(wiring.constitution)[:1]) or wiring.constitution.principles[:1]
        cases = [_case(prompt, principles) for prompt in prompts]
        began = time.monotonic()
        judge.judge(cases[:1])
        seconds, timed = time.monotonic() - began, cases[:1]
        if cases[1:] and time.monotonic() + seconds * len(cases[1:]) < self._ends:
            began, timed = time.monotonic(), cases[1:]
            judge.judge(timed)
            seconds = time.monotonic() - began
        asked = 2 * len(principles) * len(timed)
        self.by_role[name] = seconds / asked
        self.requests += asked

    def _loaded(self, wiring: Wiring, settings: RoleSettings) -> Role:
        began = time.monotonic()
        role = wiring.role(settings, max_tokens=min(TOKENS, settings.max_tokens))
        self.loading += time.monotonic() - began
        self._ends += time.monotonic() - began
        return role


def _case(prompt: Prompt, principles: tuple[Principle, ...]) -> Case:
    """Two replies of ordinary length, which no store has."""
    texts = {text_digest(text): text for text in ("Yes, and here is why. " * 4, "I would rather not say. " * 4)}
    (first, one), (second, other) = sorted(texts.items())
    return Case(Comparison(prompt.id, first, second), prompt.messages, one, other, principles, prompt.tags)
