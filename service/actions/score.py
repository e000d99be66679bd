"""The playground: an answer that anyone typed, put against a model's own by the judge and by the reward.

The baseline are answers of the starting model, the one that a run set out from, to the very same prompt: those that
the store has, and where they are too few, as many more as are wanted, asked of the model now. Where the store has none,
the nearest prompts that the model answered are looked up besides: their answers place the reward, and only the reward,
because a judge compares answers to one prompt. Two typed answers are put against each other instead.

No Prefect flow, and nothing is stored: the store is for runs, and what was typed is none of their prompts.
"""

from __future__ import annotations

from collections.abc import Sequence

from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import Generation, Prompt, make_id
from pipeline import nearest, revise
from pipeline.engines.engine import EngineError
from pipeline.metrics import baseline, intervals
from pipeline.metrics.baseline import Against
from pipeline.metrics.intervals import Interval
from pipeline.respond import respond
from pipeline.rewards.reward import Reward
from service.actions.score_records import Near, Other, Preferred, Revised, Rewarded, Scored
from service.actions.typed_answers import TYPED, Playground
from service.wiring import Wiring
from service.work.progress import Progress
from storage.runs import Run

ANSWERS = 16  # of the baseline
LOOKED_AT = 200  # nearest prompts: not all were answered

Nearest = Sequence[tuple[Prompt, float, Sequence[str]]]  # a prompt, its cosine, answers to it

# --- the two questions ---------------------------------------------------------------------------------------------


def score(
    wiring: Wiring,
    prompt: str,
    answer: str,
    *,
    n: int = ANSWERS,
    run: str = "",
    revision: bool = True,
    report: Progress,
) -> Scored:
    """Put an answer against `n` of the starting model of a run (the newest finished one). An empty answer is one.

    Raises UserError for a prompt without text, an unknown run, and where no judge can be had; EngineError where the
    judge fails; BudgetReached at a limit. What else is missing is told, and the rest is done.
    """
    at = Playground(wiring, prompt, run, report)
    others, near = _baseline(at, n)
    texts = [text for text, _ in others]
    against = at.against(answer, texts) if texts else None
    with at.rewarding() as reward:
        rewards_of, rewarded = _reward(at, reward, answer, texts, near)
        gap = None
        if against is not None and rewarded is not None:
            above = baseline.above(rewarded.reward, [rewards_of[text] for text in texts])
            gap = baseline.gap(above, against.values)
        revised = _revise(at, answer, against, reward if rewarded else None) if revision else None
    values = against.values if against else ()
    return Scored(
        by=at.reading(),
        answer=answer,
        model=at.model,
        others=tuple(
            Other(text, stored, value if value == value else None, rewards_of.get(text))
            for (text, stored), value in zip(others, values, strict=True)
        ),
        near=tuple(Near(p.messages[-1].content, cosine, len(some)) for p, cosine, some in near),
        against=against,
        reward=rewarded,
        gap=gap,
        revised=revised,
    )


def prefer(wiring: Wiring, prompt: str, first: str, second: str, *, run: str = "", report: Progress) -> Preferred:
    """Put two answers against each other. Raises as `score` does, and for two answers of the same text."""
    if first == second:
        raise UserError("both answers are the same text, so neither can be preferred")
    at = Playground(wiring, prompt, run, report)
    opinion = at.opinion(first, second)
    with at.rewarding() as reward:
        found = at.rewards(reward, [(at.prompt, first), (at.prompt, second)])
    return Preferred(at.reading(), first, second, opinion, (found[0], found[1]) if found else None)


# --- the baseline ---------------------------------------------------------------------------------------------------


def _baseline(at: Playground, n: int) -> tuple[list[tuple[str, bool]], Nearest]:
    """Answers of the starting model to the prompt, each with whether it was stored, `n` of them where they can be had;
    and, where none was stored, the nearest prompts with theirs."""
    if n < 1:
        raise UserError(f"n is {n}: an answer is put against at least one other")
    role = at.policy()
    engine = role.engine.fingerprint if role else at.store.stage_engines(at.run.id).get("answers") if at.run else None
    stored = at.stored(at.prompt.id, engine, n)
    found = [(generation.text, True) for generation in stored]
    if role and len(found) < n:
        asks = respond([at.prompt], role, seed=at.seed, samples=n)
        missing = [a for a in asks if a.id not in {g.id for g in stored}][: n - len(found)]
        try:
            found += [(g.text, False) for g in at.generate("answers of the starting model", missing, role)]
        except (EngineError, UserError) as error:
            at.missing.append(f"answers of the starting model: {error}")
    if stored or at.run is None:
        return found, []
    return found, _nearest(at, at.run, engine, n)


def _nearest(at: Playground, run: Run, engine: str | None, n: int) -> Nearest:
    """The nearest prompts of a run that the model answered, until there are `n` answers."""
    prompts = at.store.prompts(ids=at.store.stage_members(run.id, "prompts"))
    places = nearest.nearest(at.prompt.messages[-1].content, [p.messages[-1].content for p in prompts], LOOKED_AT)
    near: list[tuple[Prompt, float, Sequence[str]]] = []
    wanted = n
    for place, cosine in places:
        texts = [g.text for g in at.stored(prompts[place].id, engine, wanted)]
        if texts:
            near.append((prompts[place], cosine, texts))
            wanted -= len(texts)
        if not wanted:
            break
    return near


# --- the reward, and the revision -----------------------------------------------------------------------------------


def _reward(
    at: Playground, reward: Reward | None, answer: str, texts: Sequence[str], near: Nearest
) -> tuple[dict[str, float], Rewarded | None]:
    """The rewards of the answer and of the baseline, by text, and what they say of the answer."""
    own = list(dict.fromkeys([answer, *texts]))
    aside = [(prompt, text) for prompt, _, some in near for text in some]
    found = at.rewards(reward, [(at.prompt, text) for text in own] + aside)
    if not found:
        return {}, None
    by_text = dict(zip(own, found, strict=False))
    mine = by_text[answer]
    return by_text, Rewarded(mine, _place(mine, [by_text[text] for text in texts]), _place(mine, found[len(own) :]))


def _place(mine: float, others: Sequence[float]) -> Interval | None:
    above = baseline.above(mine, others)
    return intervals.interval_of(above) if above else None


def _revise(at: Playground, answer: str, against: Against | None, reward: Reward | None) -> Revised | None:
    """One round, under the principle that the answer does worst by, or, where it loses by none, the one that a run
    would draw for this prompt."""
    mine = Generation(make_id(TYPED, text=answer), "response", at.prompt.id, answer, "stop", TYPED)
    chains = revise.start([at.prompt], [mine])
    if not chains:
        at.missing.append("a revision: there is nothing in an empty answer to be revised")
        return None
    worst = baseline.worst(against.principles) if against else None
    principle = at.constitution[worst] if worst else revise.principle_of(chains[0], at.constitution, at.seed, 0)
    alone = Constitution(at.constitution.name, (principle,))  # whatever is drawn from it is this principle
    critique = None
    try:
        critic = at.critic()
        if at.settings.revise.critique:
            asks = revise.critiques(chains, critic, alone, seed=at.seed, round=0)
            critique = at.generate("critique", asks, critic)
            if not critique:
                return None
        again = at.settings.revise.way == "answer"
        asks = revise.revisions(chains, critique, critic, alone, seed=at.seed, round=0, again=again)
        revised = at.generate("revision", asks, critic)
        if not revised:
            return None
        revision = revised[0]
    except (EngineError, UserError) as error:
        at.missing.append(f"a revision: {error}")
        return None
    critic_said = critique[0] if critique else None
    dropped, preferred, rewarded = revise.why_dropped(revision, chains[0], critic_said, principle) or "", None, None
    if not dropped:
        same = revision.text == answer
        try:
            outcome = "tied" if same else at.opinion(revision.text, answer).outcome
            preferred = {"first": "revision", "second": "answer", "tied": "neither"}.get(outcome, outcome)
        except UserError as error:
            at.missing.append(f"what the judge says of the revision: {error}")
        found = at.rewards(reward, [(at.prompt, revision.text)])
        rewarded = found[0] if found else None
    said = critic_said.text if critic_said else ""
    return Revised(principle.id, worst is not None, said, revision.text, dropped, preferred, rewarded)
