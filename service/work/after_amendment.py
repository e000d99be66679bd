"""What a retrain adds to the loop: what it keeps of the run it starts from, and a look at what the amendment did.

A run before the amendment left a pool of answers, their comparisons, an SFT model and a policy. Labels are a query, so
under the new constitution only the verdicts on its new questions are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constitution import loading
from constitution.difference import Diff, diff
from constitution.errors import UserError
from constitution.principles import Constitution, Principle
from constitution.records import Generation, Id, Prompt
from pipeline import compare as comparing
from pipeline import label
from pipeline import revise as revising
from pipeline.metrics import effects
from pipeline.respond import respond as plan_responses
from service.queries import pool
from service.queries.base_run import ancestors
from service.work.roles import role_of
from service.work.stages import one_round
from service.work.work import Work
from storage.runs import Run

KEPT = ("samples", "held-out samples", *pool.STAGES)  # stages of the base that a retrain on its pool takes over

# --- what is kept --------------------------------------------------------------------------------------------------


def standing(work: Work) -> dict[str, str]:
    """The models that a retrain starts from: `policy` (where the base began), `sft`, and `last`, which it would
    replace. Raises UserError where a folder is gone."""
    base, policy = _base(work), work.start
    last = str(base.result["model"])
    line = ancestors(work.store, last)
    rooted = bool(line) and line[-1].method == work.settings.sft.method
    found = {"policy": policy, "sft": line[-1].path if rooted else policy, "last": last}
    for name in ("sft", "last"):
        if found[name] != policy and not Path(found[name]).exists():
            raise UserError(
                f"the {name} model of run {base.id.hex()[:12]}, {found[name]}, is not there any more: put it back, or "
                "train it again with `precept retrain --from revise`"
            )
    return found


def take_over(work: Work) -> int:
    """The pool of the base: its SFT model's answers and their comparisons. Returns how many comparisons."""
    base, taken = _base(work), 0
    for stage in KEPT:
        ids = work.store.stage_members(base.id, stage)
        work.store.add_members(work.run.id, stage, ids, list(range(len(ids))))
        taken += len(ids) if stage in pool.STAGES else 0
    return taken


def top_up(work: Work, stage: str, model: str, into: str = "feedback") -> int:
    """Answers and pairs where a new principle finds nothing to prefer in the pool: one more answer of the model, and a
    first answer revised under that very principle, each against that first answer. Returns how many pairs."""
    judge = work.wiring.judge(work.settings.judge)
    prompts = {p.id: p for p in work.prompts("train")}
    first: dict[Id, Generation] = {}
    for g in comparing.whole(work.generations("samples")):
        if g.prompt in prompts:
            first.setdefault(g.prompt, g)
    work.store.add_members(work.run.id, into, work.store.stage_members(_base(work).id, into))
    pairs: list[tuple[Generation, Generation]] = []
    for principle in _new(changes(work)):
        alone = Constitution(work.constitution.name, (principle,))
        ids = work.members(into)
        question = judge.question(principle).id
        work.ask_judge(into, judge, ids, {i: {question} for i in ids})
        cases = work.cases(ids)
        rule, voice = work.rule(), label.voice(principle, judge.question(principle), work.ruling())
        spoken = {
            cases[c.comparison].comparison.prompt
            for c in work.store.contributions(ids, {question: voice}, rule)
            if c.chooses
        }
        silent = [prompts[i] for i in first if i not in spoken]
        pairs += _shown_under(work, f"{stage}.{principle.id}", alone, [first[p.id] for p in silent])
        pairs += _more(work, f"{stage}.{principle.id}.more", model, silent, first)
    made = [i for i in work.compare(into, pairs, more=True) if i is not None]
    work.log(f"topped up: {len(made)} pairs where an added principle found nothing to prefer")
    return len(made)


def _new(difference: Diff) -> list[Principle]:
    """Principles whose question is new."""
    return [c.new for c in difference.changes if c.asks_judge and c.new is not None]


def _shown_under(
    work: Work, stage: str, alone: Constitution, answers: Sequence[Generation]
) -> list[tuple[Generation, Generation]]:
    """Answers and their revisions under the one principle of a constitution."""
    chains = revising.start(work.prompts("train"), answers)
    ended = one_round(work, (f"{stage}.critique", stage), chains, alone, 0)
    return [(c.original, c.kept[-1]) for c in ended if c.kept]


def _more(
    work: Work, stage: str, model: str, prompts: Sequence[Prompt], first: Mapping[Id, Generation]
) -> list[tuple[Generation, Generation]]:
    """One more answer of the model to each prompt, against its first."""
    role, samples = role_of(work, model), work.settings.compare.samples
    plan = plan_responses(prompts, role, seed=work.settings.seed, samples=samples + 1)
    asks = [a for a in plan if a.sample == samples]
    found = work.gather(stage, asks, role, work.settings.policy.batch_size)
    made = comparing.whole(g for g in found if g is not None)
    return [(first[g.prompt], g) for g in made]


# --- what the amendment did ----------------------------------------------------------------------------------------


def changes(work: Work) -> Diff:
    """From the constitution that the base was trained under to this run's."""
    text = work.store.constitution(_base(work).constitution or "") or ""
    return diff(loading.parse(text, "the base's constitution"), work.constitution)


def removed(work: Work) -> list[str]:
    """Principles of the base's constitution that this one has no more: the evaluator is asked about them all the same,
    to see whether the behaviour went with them."""
    return [c.id for c in changes(work).removed]


def look(work: Work, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What the amendment should have changed and what it should not, by the evaluator, on the held-out prompts."""
    base, difference = _base(work), changes(work)
    found = effects.look(difference, {name: seen.get("effect") for name, seen in evaluation["by_principle"].items()})
    calls = base.result["calls"]
    return {
        "base": base.id.hex(),
        "from": base.constitution,
        "to": work.constitution.version,
        **_reason(work),
        "start": work.settings.retrain.start,
        "effects": [e.as_dict() for e in found],
        "truth_moved": evaluation["truth_moved"],
        "base_calls": calls["generated"] + calls["chosen"],
        "base_seconds": base.result["seconds"],
    }


def _reason(work: Work) -> dict[str, str]:
    """Who amended, and why; nothing where this version was never ratified."""
    past = [a for a in work.store.amendments() if a.version == work.constitution.version]
    return {"who": past[-1].who, "why": past[-1].message} if past else {}


def _base(work: Work) -> Run:
    return work.store.run(work.settings.retrain.base)
