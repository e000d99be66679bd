"""What each way of retraining would take: verdicts, texts, tokens, seconds, counted before anything is asked.

Verdicts of the default are exact: those that the store lacks. What only a new model will show (how many of its answers
are new, how many pairs differ) is counted at its most. Seconds are at the rates of the newest finished run; without
one they are None, because a guess would be worse than nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from constitution.difference import Diff
from constitution.principles import Constitution, draw
from constitution.records import Prompt
from constitution.templates import critique_template, revision_template
from pipeline.judges.by_principle import by_models
from service import keyed
from service.queries.estimate import Lengths, count, measured
from service.settings import Settings
from storage.runs import Run
from storage.store import Store

ORDERS = 2
DRAWN = 5_000  # prompts whose draws are looked at; of more, the share is taken


@dataclass(frozen=True)
class Stale:
    """What an amendment makes stale of the run before: chains of critique and revision (and of their steps, two a
    round), and the checkpoints whose training data would be other than they were, by method."""

    chains: int
    of: int
    steps: int
    checkpoints: tuple[str, ...]


@dataclass(frozen=True)
class Way:
    """One way of retraining. `verdicts`: a model's, for labels; `evaluation`: verdicts on held-out pairs, at most;
    `generated`: texts. A verdict is two requests, one an order. `tokens`: read and written by all of them."""

    name: str
    command: str
    verdicts: int
    evaluation: int
    generated: int
    tokens: int
    seconds: float | None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "requests": self.generated + ORDERS * (self.verdicts + self.evaluation)}


@dataclass(frozen=True)
class Rates:
    """Seconds a text and a verdict took in a run, and its training, by method."""

    text: float
    verdict: float
    training: dict[str, float]

    @classmethod
    def of(cls, store: Store, run: Run | None) -> Rates | None:
        if run is None:
            return None
        calls, seconds = run.result["calls"], run.result["seconds"]
        each = seconds["asking"] / max(1, calls["generated"] + calls["chosen"])
        text = seconds["generating"] / calls["generated"] if calls["generated"] and "generating" in seconds else each
        choice = seconds["judging"] / calls["chosen"] if calls["chosen"] and "judging" in seconds else each
        made = store.checkpoints()
        return cls(text, ORDERS * choice, {c.method: float(c.metrics.get("seconds", 0.0)) for c in made})


def stale(store: Store, base: Run | None, difference: Diff) -> Stale:
    """Draws are a hash, so an edit moves only what it must; a chain is stale from the first round that it moves."""
    if base is None:
        return Stale(0, 0, 0, ())
    settings = base.settings["settings"]
    rounds, seed = settings["revise"]["rounds"], settings["seed"]
    ids = store.stage_members(base.id, "prompts")
    prompts = keyed.with_principles(store, base.id, [p for p in store.prompts(ids=ids) if p.split == "train"])
    moves = any(c.asks_critic or c.redraws for c in difference.changes)
    looked = prompts[:DRAWN] if moves else []
    first = [_first_stale(p, difference.old, difference.new, seed, rounds) for p in looked]
    scale = len(prompts) / len(looked) if looked else 0.0
    chains = round(scale * sum(at is not None for at in first))
    steps = round(scale * sum(rounds - at for at in first if at is not None)) * (
        2 if settings["revise"]["critique"] else 1
    )
    relabels = bool(difference.judged_anew or difference.removed or difference.reweighted)
    names = [settings["sft"]["method"]] if chains else []
    if chains or relabels:
        names += [settings["reward"]["method"], settings["optimise"]["method"]]
    return Stale(chains, len(prompts), steps, tuple(names))


def _first_stale(prompt: Prompt, old: Constitution, new: Constitution, seed: int, rounds: int) -> int | None:
    for round in range(rounds):
        was, now = (draw(each, seed, prompt.id, round, prompt.principles) for each in (old, new))
        if (critique_template(was), revision_template(was)) != (critique_template(now), revision_template(now)):
            return round
    return None


def ways(
    settings: Settings,
    store: Store,
    base: Run | None,
    draft: Constitution,
    missing: int,
    silent: int,
    gone: int,
    staleness: Stale,
) -> list[Way]:
    """The default, `--top-up`, `--from revise` and `--from scratch`, in the order of what they ask.

    `missing`: verdicts of a model that the pool lacks. `silent`: prompts on which a new principle may find nothing to
    prefer, for each such principle. `gone`: principles taken away, about which the evaluator is asked besides.
    Without a run to start from, only the labels are priced.
    """
    prompts = store.prompts(ids=store.stage_members(base.id, "prompts")) if base else []
    splits = {s: sum(p.split == s for p in prompts) for s in ("train", "heldout")}
    earlier = measured(store)
    rates = Rates.of(store, earlier)
    lengths = Lengths(settings, draft, prompts, store, earlier)
    held = min(splits["heldout"], settings.evaluate.prompts)
    n = len(by_models(draft))

    def price(name: str, command: str, verdicts: int, generated: int, tokens: float, methods: Sequence[str]) -> Way:
        asked = held * (n + gone) if base else 0
        spent = None
        if rates is not None:
            training = sum(rates.training.get(m, 0.0) for m in methods) if base else 0.0
            spent = rates.text * generated + rates.verdict * (verdicts + asked) + training
        used = round(tokens + ORDERS * (verdicts + asked) * lengths.verdict)
        return Way(name, command, verdicts, asked, generated, used, spent)

    late = (settings.reward.method, settings.optimise.method)
    answers = held if base else 0
    read = answers * lengths.generation("answers") if base else 0.0
    found = [price("default", "precept retrain", missing, answers, read, late)]
    if base is None:
        return found
    more = silent * (3 if settings.revise.critique else 2)
    longer = silent * sum(lengths.generation(s) for s in ("critiques", "revisions", "answers"))
    found.append(
        price("top-up", "precept retrain --top-up", missing + 2 * silent * n, answers + more, read + longer, late)
    )
    whole = {s.name: s for s in count(settings, n, splits, lengths)}
    labels = sum(s.calls // ORDERS for s in whole.values() if s.kind == "choose" and s.name != "verdicts on evaluation")
    texts = {s.name: s for s in whole.values() if s.kind == "generate" and s.name != "evaluation"}
    kept = {"answers", "critiques", "revisions"}
    anew = [s for name, s in texts.items() if name not in kept]
    steps = staleness.steps
    chain = steps * (lengths.generation("critiques") + lengths.generation("revisions")) / 2
    everything = (settings.sft.method, *late)
    found.append(
        price(
            "revise", "precept retrain --from revise", labels, sum(s.calls for s in anew) + steps + answers,
            read + chain + sum(s.tokens for s in anew), everything,
        )
    )  # fmt: skip
    found.append(
        price(
            "scratch", "precept retrain --from scratch", labels, sum(s.calls for s in texts.values()) + answers,
            read + sum(s.tokens for s in texts.values()), everything,
        )
    )  # fmt: skip
    return found
