"""What a sweep adds to the loop: its plan, and a point of it, measured: reward, independent judge, truth and KL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from constitution.errors import UserError
from constitution.records import Generation, Prompt
from pipeline import rewards, trainers
from pipeline.assemble import messages
from pipeline.engines.engine import Refused, Score
from pipeline.metrics import intervals
from service.queries import measure as measure_truth
from service.settings import OptimiseSettings, Settings
from service.work.evaluation import evaluate
from service.work.learning import reward_of
from service.work.roles import role_of
from service.work.work import Work

# Metrics of a checkpoint that a point has.
CARRIED = ("seconds", "peak_memory_mb", "watch_stopped", "watch_stopped_step", "watch_kept_step")
Plan = Sequence[tuple[OptimiseSettings, str]]


def plan(settings: Settings) -> Plan:
    """The points to be trained, each with its name ("ppo kl_coef 0.05"). Raises UserError for a method that is none, or
    has no KL coefficient to vary."""
    found = []
    for name, coefficients in settings.sweep.methods.items():
        given = settings.optimise.model_copy(update={"method": name.replace("-", "_"), "arguments": {}})
        argument = getattr(trainers.load(given.method), "COEFFICIENT", None)
        if coefficients and argument is None:
            raise UserError(f"{name} has no KL coefficient to vary: name it without values")
        if not coefficients:
            found.append((given, given.method))
        for coefficient in coefficients:
            value = int(coefficient) if argument == "n" else coefficient
            one = given.model_copy(update={"arguments": {argument: value}})
            found.append((one, f"{given.method} {argument} {value:g}"))
    return found


def measure(
    work: Work,
    name: str,
    model: str,
    policy: str,
    reference: str,
    reward: Mapping[str, Any],
    settings: OptimiseSettings | None = None,
) -> dict[str, Any]:
    """A model as a point: against the first policy by the evaluator, its answers' reward, and their KL from the model
    that training started from. Measured once; it is kept with the run (document `point`)."""
    ident = f"{work.run.id.hex()}:{name}"
    if known := work.store.document("point", ident):
        return dict(known)
    split = work.settings.sweep.split
    stage = f"point {name}"
    found = evaluate(work, stage, before=policy, after=model, split=split)
    answers = work.generations(f"{stage}.after")
    prompts = {p.id: p for p in work.prompts(split)}
    in_order = [prompts[g.prompt] for g in answers]
    rewarded = reward_of(work, reward, settings or work.settings.optimise) if reward else None
    scores = _rewards(rewarded, in_order, answers) if rewarded else []
    carried = work.store.checkpoint(model).metrics if settings is not None and model != reference else {}
    point = {
        "name": name,
        "method": settings.method if settings else name,
        "leash": _coefficient(work, settings),  # a stored key, with the word of before
        "seed": work.settings.seed,
        "model": model,
        "kl": _kl(work, model, reference, in_order, answers),
        "reward": intervals.mean_of(scores).as_dict() if scores else None,
        "win_rate": found["win_rate"],
        "length_controlled": found["length_controlled"],
        "surfaces": found["after"],  # the style metrics; a stored key, as `leash`
        "truth": {key: value for key, value in found["truth"]["after"].items() if key != "themes"},
        "looks": measure_truth.evaluation_steps(work, model) if carried else [],
        **{key: carried.get(key) for key in CARRIED},
    }
    return dict(work.store.put_document("point", ident, point))


def _coefficient(work: Work, settings: OptimiseSettings | None) -> float | None:
    """What a method was held near to its reference by: the value of its argument; None where it has none."""
    name = getattr(trainers.load(settings.method), "COEFFICIENT", None) if settings else None
    if settings is None or name is None:
        return None
    arguments = {**work.settings.arguments.get(settings.method, {}), **settings.arguments}
    return float(trainers.resolve(settings.method, arguments)[name])


def _rewards(spec: Mapping[str, Any], prompts: Sequence[Prompt], answers: Sequence[Generation]) -> list[float]:
    reward = rewards.build(spec)
    try:
        return reward.score([messages(p.messages) for p in prompts], [g.text for g in answers])
    finally:
        reward.close()


def _kl(
    work: Work, model: str, reference: str, prompts: Sequence[Prompt], answers: Sequence[Generation]
) -> dict[str, float | None] | None:
    """KL(model || reference) in nats an answer: the mean over the model's own answers of log model - log reference,
    each summed over the answer's tokens. At a sampling temperature other than 1 it is of other samples than the
    model's. None where an engine cannot score a text."""
    if model == reference:
        return intervals.Interval(0.0, 0.0, 0.0).as_dict()
    sums = []
    for path in (model, reference):
        role = role_of(work, path)
        if not role.engine.capabilities.score:
            return None
        asked = [
            Score(role.chat(p.messages), g.text, end=g.finish_reason == "stop")
            for p, g in zip(prompts, answers, strict=True)
        ]
        sums.append([None if isinstance(s, Refused) else s.logprob for s in role.engine.score(asked)])
    # An answer that one of the two cannot read tells nothing of their distance.
    gaps = [a - b for a, b in zip(*sums, strict=True) if a is not None and b is not None]
    return intervals.mean_of(gaps).as_dict() if gaps else None
