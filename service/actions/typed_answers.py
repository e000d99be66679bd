"""What both questions of the playground need: a typed prompt, the run it is looked at from, that run's starting model
and reward, the judge and the critic of the settings; and a list of what is missing, and of what was spent.

Nothing is stored: the store is for runs, and what was typed is none of their prompts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from constitution.errors import UserError
from constitution.records import Comparison, Generation, Id, Message, Prompt, Verdict, text_digest
from pipeline import asking, label
from pipeline.asking import Ask, Role
from pipeline.engines.engine import EngineError
from pipeline.judges.applies import every_tag
from pipeline.judges.checked import checked
from pipeline.judges.judge import Case
from pipeline.metrics import baseline, voting
from pipeline.metrics import opinion as opinions
from pipeline.metrics.baseline import Against
from pipeline.metrics.opinion import Opinion
from pipeline.metrics.voting import Votes
from pipeline.rewards.reward import Reward
from service.actions.score_records import Reading
from service.queries import pool, rulings
from service.queries.rulings import Whose
from service.settings import RoleSettings, prepare_process
from service.wiring import Wiring
from service.work.budget import Budget, BudgetReached
from service.work.progress import Progress
from storage.runs import Run
from storage.store import Store

TYPED = "typed"  # the source of what no run has


class Playground:
    """See the module. `missing` grows with what could not be had; `rewards` and `against` go on without it."""

    def __init__(self, wiring: Wiring, prompt: str, run: str, report: Progress) -> None:
        if not prompt.strip():
            raise UserError("the prompt is empty: write what the answer is an answer to")
        self.began = time.monotonic()
        self.wiring, self.settings, self.store = wiring, wiring.settings, wiring.store
        prepare_process(self.settings)
        self.report = report
        wiring.tell(lambda text: report.say(f"  {text}"))
        self.constitution = wiring.constitution
        self.prompt = Prompt((Message("user", prompt),), "heldout", TYPED)
        self.missing: list[str] = []
        self.budget = Budget(self.settings.limits)
        self.sources: tuple[str, ...] = ()
        self.run = self._run(run)
        began: Mapping[str, Any] = self.run.settings["settings"] if self.run else {}
        here = self.settings.policy
        self.role = here
        if began:  # as it was asked then, on today's machine
            today = {"device": here.device, "batch_size": here.batch_size, "api_key_env": here.api_key_env}
            self.role = RoleSettings(**{**began["policy"], **today})
        self.seed: int = began.get("seed", self.settings.seed)
        self.model = wiring.resolve(str(self.run.settings["policy"])) if self.run else self.role.model
        self.named: Whose = "evaluator" if self.settings.evaluator.model else "judge"
        if self.named == "judge":
            self.missing.append(
                "an evaluator (evaluator.model): the judge that made the labels is asked, and what the reward learnt "
                "of its mistakes does not show in the gap"
            )

    def _run(self, name: str) -> Run | None:
        if not name:
            run = pool.newest(self.store.runs())
            if run is None:
                self.missing.append("a finished run: `precept improve` makes one, with answers and a reward model")
        else:
            run = self.store.run(name)
            if run.kind not in pool.LOOPS:
                raise UserError(f"run {name} is a run of {run.kind}; name one of {' or '.join(pool.LOOPS)}")
        if run is not None and run.constitution != self.constitution.version:
            self.missing.append(
                f"a reward for this constitution: run {run.id.hex()[:12]} was trained under version "
                f"{(run.constitution or '')[:12]}, and the judge is asked by {self.constitution.version[:12]}"
            )
        return run

    def reading(self) -> Reading:
        return Reading(
            self.prompt.messages[0].content, self.constitution, self.run, self.named, self.sources,
            tuple(self.missing), self.budget.as_dict(), time.monotonic() - self.began,
        )  # fmt: skip

    # --- models ---

    def policy(self) -> Role | None:
        """The starting model, or None, and then it is told why."""
        self.report.say("  loading the starting model")
        try:
            return self.wiring.role(self.role, self.model if self.run else None)
        except UserError as error:
            self.missing.append(f"the starting model: {error}")
            return None

    def critic(self) -> Role:
        """As in a run: the starting model, or a critic of its own."""
        critic = self.settings.critic
        if critic is None or critic.model == self.settings.policy.model:
            return self.wiring.role(critic or self.role, self.model if self.run else None)
        return self.wiring.role(critic)

    def stored(self, prompt: Id, engine: str | None, most: int) -> list[Generation]:
        """Answers of that engine to a prompt: by sample."""
        found = self.store.generations(self.store.answers_to(prompt)) if engine else []
        return [g for g in found if g.kind == "response" and g.engine == engine][:most]

    def generate(self, what: str, asks: Sequence[Ask], role: Role) -> list[Generation]:
        """The answers to a plan, in its order, without those that were refused; these are told as missing."""
        made: dict[Id, Generation] = {}
        with self.report.stage(what, len(asks)) as progress:
            for batch in asking.batches(asks, self.settings.policy.batch_size):
                self._afford(len(batch))
                answered, refused = asking.answer(batch, role.engine)
                made |= {g.id: g for g in answered}
                self.missing += [f"{what}: {said}" for said in dict.fromkeys(r.said for r in refused.values())]
                self.budget.generated += len(answered)
                progress.advance(len(batch))
        return [made[a.id] for a in asks if a.id in made]

    # --- the judge ---

    def against(self, answer: str, texts: Sequence[str]) -> Against:
        pairs = [self._pair(answer, text) for text in texts]
        votes = self._votes({pair[0].id: pair[0] for pair in pairs if pair}, [answer, *texts])
        return baseline.against(votes, [(pair[0].id, pair[1]) if pair else None for pair in pairs])

    def opinion(self, first: str, second: str) -> Opinion:
        pair = self._pair(first, second)
        assert pair is not None
        return opinions.opinion(self._votes({pair[0].id: pair[0]}, [first, second]), pair[1])

    def _pair(self, one: str, other: str) -> tuple[Comparison, bool] | None:
        """The comparison of two answers, and whether `one` is its first; None where they are the same text."""
        digests = text_digest(one), text_digest(other)
        if digests[0] == digests[1]:
            return None
        comparison = Comparison.of(self.prompt.id, *digests)
        return comparison, comparison.first == digests[0]

    def _votes(self, comparisons: Mapping[Id, Comparison], texts: Sequence[str]) -> Votes:
        """What the judge says of each under every principle, both orders, cast by the label rule. A comparison with a
        question that it had to omit is left out, and told as missing. Raises UserError where none is left."""
        principles, settings = self.constitution.principles, getattr(self.settings, self.named)
        by_digest = {text_digest(text): text for text in texts}
        tags = self.prompt.tags or every_tag(principles)
        cases = [
            Case(c, self.prompt.messages, by_digest[c.first], by_digest[c.second], principles, tags)
            for c in comparisons.values()
        ]
        verdicts: list[Verdict] = []
        omitted: dict[Id, str] = {}
        size = max(1, self.settings.compare.questions_per_batch // len(principles))
        with self.report.stage(f"verdicts of the {self.named}", len(cases) * len(principles)) as progress:
            judge = self.wiring.judge(settings)
            for start in range(0, len(cases), size):
                some = cases[start : start + size]
                self._afford(2 * len(some) * len(principles))
                judged = checked(judge, some, judge.judge(some))
                verdicts += judged.verdicts
                omitted |= {o.comparison: o.refused.said for o in judged.omitted}
                self.budget.judged(judged.used)
                progress.advance(len(some) * len(principles))
        if omitted:
            said = next(iter(omitted.values()))
            why = f"the {self.named} cannot be asked about {len(omitted)} of {len(cases)} pairs: {said}"
            if len(omitted) == len(cases):
                raise UserError(why)
            self.missing.append(why)
            verdicts = [v for v in verdicts if v.comparison not in omitted]
        ruling = rulings.under(self.store, self.run, judge, self.constitution, self.named)
        questions, voices = label.by_principle(principles, judge, ruling)
        return voting.votes(voting.evidence(verdicts), questions, voices, ruling.rule or self.settings.rule())

    def _afford(self, calls: int) -> None:
        try:
            self.budget.afford(calls)
        except BudgetReached as stop:
            limit = str(stop).partition(";")[0]  # the rest is about a run, which keeps what it has
            raise BudgetReached(f"{limit}; raise it, or ask for fewer answers with --n") from None

    # --- the reward ---

    @contextmanager
    def rewarding(self) -> Iterator[Reward | None]:
        """The reward that the run trained its policy on, or would have; None, and it is told why, where there is
        none."""
        reward: Reward | None = None
        try:
            spec = reward_of(self.store, self.run) if self.run else None  # without a run it is told already
            if spec is not None:
                spec = {"device": self.settings.policy.device, **spec} if spec["kind"] == "model" else spec
                from pipeline import rewards

                self.report.say("  loading the reward")
                reward = rewards.build(spec)
                self.sources = tuple(map(str, spec.get("paths") or [spec["kind"]]))
        except UserError as error:
            self.missing.append(f"the reward: {error}")
        try:
            yield reward
        finally:
            if reward is not None:
                reward.close()

    def rewards(self, reward: Reward | None, pairs: Sequence[tuple[Prompt, str]]) -> list[float]:
        """A reward for each pair of a prompt and an answer; none where nothing rewards, and it is told why."""
        if reward is None:
            return []
        prompts = [[{"role": m.role, "content": m.content} for m in prompt.messages] for prompt, _ in pairs]
        try:
            with self.report.stage("rewards", len(pairs)) as progress:
                found = reward.score(prompts, [text for _, text in pairs])
                progress.advance(len(pairs))
        except (EngineError, UserError) as error:
            self.missing.append(f"the reward: {error}")
            return []
        return found


def reward_of(store: Store, run: Run) -> dict[str, Any]:
    """What a run's policy was trained on, or could have been: the spec of its settings where that is whole, or else its
    reward models, all that were trained on the data set of the newest. A run that found its reward model trained before
    has the newest of that time. Raises UserError where there is none."""
    given: Mapping[str, Any] = run.settings["settings"].get("optimise", {}).get("reward", {})
    kind = given.get("kind", "model")
    if "paths" in given or kind not in ("model", "judge"):
        return {"kind": kind, **given}
    models = [c for c in store.checkpoints() if c.kind == "reward_model"]
    trained = store.trained_in()
    own = [c for c in models if trained[c.id, c.digest][0] == run.id]
    found = own or [c for c in models if run.finished is None or trained[c.id, c.digest][1] <= run.finished]
    if not found:
        raise UserError(f"run {run.id.hex()[:12]} has no reward model, and there is none from before it")
    paths = [c.path for c in found if c.dataset == found[-1].dataset]
    return {**(given if kind == "model" else {}), "kind": "model", "paths": paths}
