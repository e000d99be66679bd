"""How a run ends: its evaluation before the gate, a promotion or the reasons against it, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from constitution.records import Checkpoint
from pipeline import promote, suites
from pipeline.metrics import effects
from service.queries import measure, rounds
from service.work.work import Work
from storage.artifacts import point


def promote_or_refuse(
    work: Work, model: str, evaluation: Mapping[str, Any], amendment: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Put the evaluation before the gate; promote, or record why not. Either way a record says who and why.

    After an amendment (`after_amendment.look`) the model is measured against one that was promoted: it need not be
    better than that, but no worse, and it has to have done what the amendment says.
    """
    store, run = work.store, work.run.id.hex()
    gate = promote.Gate(**work.settings.gate.model_dump(exclude={"suites"}))
    besides: list[tuple[bool, str]] = list(
        suites.conditions(suites.of_dict(evaluation["suites"]), work.settings.gate.suites)
    )
    if amendment is not None:
        floor = min(work.settings.retrain.min_win_rate, gate.min_win_rate)
        controlled = None if gate.min_length_controlled is None else min(floor, gate.min_length_controlled)
        gate = replace(gate, min_win_rate=floor, min_length_controlled=controlled)
        besides += effects.conditions([effects.Effect(**e) for e in amendment["effects"]])
        if not work.settings.retrain.promote:
            besides.append((False, "this run was asked not to promote (retrain.promote)"))
    ratified = store.is_ratified(work.constitution.version)
    decision = promote.decide(gate, evaluation, measure.agreement(work), ratified, besides)
    if untrained(work, model):
        decision = promote.Decision(False, (f"failed: {nothing_trained(work)}", *decision.reasons))
    payload = {"promoted": decision.promoted, "reasons": list(decision.reasons), "model": model}
    store.put_document("evaluation", run, dict(evaluation))
    store.put_document("decision", run, payload)
    if decision.promoted:
        checkpoint: Checkpoint = store.checkpoint(model)
        store.promote(
            checkpoint, who=work.who, why=f"run {run[:12]} passed its gate", key=f"run:{run}", evidence=payload
        )
        point(work.home / "promoted", Path(checkpoint.path))
    return payload


def untrained(work: Work, model: str) -> bool:
    """Whether the model was there before the run, because its training steps had nothing to learn from."""
    return bool(work.untrained) and model not in work.made


def nothing_trained(work: Work) -> str:
    """Why the model at the end is one that was there before the run."""
    why = " and ".join(dict.fromkeys(work.untrained))
    return f"nothing was trained, because {why}: there is nothing to promote"


def result_of(
    work: Work,
    labels: Mapping[str, Any],
    reward: Mapping[str, Any],
    model: str,
    evaluation: Mapping[str, Any],
    decision: Mapping[str, Any],
    amendment: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What `precept improve --json` prints of the run, but for its report."""
    metrics = reward.get("metrics", {})
    truth = evaluation["truth"]
    return {
        "run": work.run.id.hex(),
        "constitution": work.constitution.version,
        "judge": {k: labels["judge"][k] for k in ("gold_accuracy", "position_consistency", "unreadable_rate")},
        "reward_model": {
            "heldout_accuracy": metrics.get("eval_accuracy"),
            "gold_accuracy": measure.reward(work, work.wiring.judge(work.settings.judge), reward),
            "ece": metrics.get("eval_ece"),
        },
        "labels": {k: labels["labels"][k] for k in ("gold_accuracy", "count", "tied", "unreadable")},
        **{
            name: {k: v for k, v in truth[name].items() if k != "themes"}
            | {"mean_tokens": evaluation[name]["mean_tokens"]}
            for name in ("before", "after")
        },
        "win_rate": evaluation["win_rate"],
        "suites": evaluation["suites"],
        "promoted": decision["promoted"],
        "reasons": decision["reasons"],
        "left_out": work.what_was_left_out(),
        "calls": work.budget.as_dict(),
        "seconds": work.clock(),
        "model": model,
        **({"untrained": nothing_trained(work)} if untrained(work, model) else {}),
        **({"amendment": dict(amendment)} if amendment is not None else {}),
        **({"rounds": found} if (found := rounds.told(work)) else {}),
        **({"watch": seen} if (seen := _online(work, model)) else {}),
    }  # fmt: skip


def _online(work: Work, model: str) -> dict[str, Any]:
    """What the evaluation callback of an online training said, from the checkpoint's metrics; nothing where there was
    none. The keys have the word of before."""
    made = next((c for c in work.store.checkpoints() if c.path == model), None)
    metrics = made.metrics if made is not None else {}
    names = ("stopped", "reason", "stopped_step", "kept_step", "steps")
    return {name: metrics[f"watch_{name}"] for name in names} if "watch_stopped" in metrics else {}


def finish(work: Work, **found: Any) -> dict[str, Any]:
    """The result of a flow that is not the whole loop."""
    result = {
        "run": work.run.id.hex(), **found, "left_out": work.what_was_left_out(), "calls": work.budget.as_dict(),
        "seconds": work.clock(),
    }  # fmt: skip
    work.store.finish_run(work.run.id, "finished", result=result)
    return result
