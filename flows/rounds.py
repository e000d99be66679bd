"""Further rounds of the loop: a tuned model answers again, its answers are judged, and it is trained on that.

The first round's labels are of answers that the SFT model gave; a policy that has moved gives others, which a reward
model has not seen (CAI section 4.3 and iterated RLHF: arXiv 2204.05862, section 4.5). The reward models are trained
again, from the SFT model, on the labels of all rounds; the policy goes on from the last one on the newest.

Whether a round helped is measured on the development split, so that the held-out prompts stay unseen by the choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from constitution.streams import Ids
from flows import steps
from pipeline.metrics import words
from service.work.work import Work

Labels = Mapping[str, Any]


@dataclass(frozen=True)
class Round:
    """The labels of all rounds up to this one, the reward models trained on them, and the new model."""

    labels: dict[str, Any]
    reward: dict[str, Any]
    model: str


def another(work: Work, number: int, sft: str, last: str, labels: Labels) -> Round:
    """One round, from the model that the last one made."""
    name = f"round {number}"
    steps.respond(work, f"samples, {name}", last, split="train", samples=work.settings.compare.samples)
    steps.respond(work, f"held-out samples, {name}", last, split="heldout", samples=2, most=150)
    steps.compare(work, f"feedback, {name}", samples=f"samples, {name}")
    steps.compare(work, f"held-out feedback, {name}", samples=f"held-out samples, {name}")
    new = steps.label(work, f"feedback, {name}", heldout=f"held-out feedback, {name}")
    both = {**new, **{key: Ids([*labels[key], *new[key]]).in_order() for key in ("train", "heldout")}}
    reward = steps.train_reward_models(work, f"reward model, {name}", parent=sft, labels=both)
    tuned = steps.optimise(work, f"policy, {name}", parent=last, labels=new, reward=reward)
    return Round(both, reward, tuned)


def helped(work: Work, number: int, first: str, last: str, new: str) -> bool:
    """Whether the evaluator prefers a round's model to the last one's on the development prompts: the lower end of the
    win rate's 95% interval above a half. What was found is kept with the run (document `round`)."""
    found: dict[str, Mapping[str, Any]] = {
        name: steps.evaluate(work, f"round {number} against the {name}", before=model, after=new, split="dev")
        for name, model in (("first", first), ("last", last))
    }
    low = found["last"]["win_rate"]["low"]
    better = low is not None and low > 0.5
    work.log(
        f"round {number}: win rate {_shown(found['last'])} against the last round's model, {_shown(found['first'])} "
        f"against the first model: " + ("it helped" if better else "it did not help, and the last round's model stays"),
    )
    work.store.put_document("round", f"{work.run.id.hex()}:{number}", {"number": number, "helped": better, **found})
    return better


def _shown(found: Mapping[str, Any]) -> str:
    win: Mapping[str, float | None] = found["win_rate"]
    if win["mean"] is None:
        return "not known"
    return f"{words.number(win['mean'])} ({words.number(win['low'])} to {words.number(win['high'])})"
