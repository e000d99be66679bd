"""How a run ends: its evaluation before the gate, a promotion, a proposal or the reasons against it, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from constitution.records import Checkpoint
from pipeline import promote, suites
from pipeline.metrics import effects, rules
from pipeline.replacing import Outcome, settle
from service.queries import measure, rounds
from service.work import trial
from service.work.work import Work
from storage.artifacts import point


def promote_or_refuse(
    work: Work, model: str, evaluation: Mapping[str, Any], amendment: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Put the evaluation before the gate; promote, or record why not. Either way a record says who and why.

    After an amendment (`after_amendment.look`) the model is measured against one that was promoted: it may also be
    proposed, which a person confirms (`pipeline.replacing`).
    """
    store, run = work.store, work.run.id.hex()
    gate = work.settings.conditions()
    besides: list[tuple[bool, str]] = list(
        suites.conditions(suites.of_dict(evaluation["suites"]), work.settings.gate.suites)
    )
    besides += trial.conditions(work)
    ratified = store.is_ratified(work.constitution.version)
    agreement = measure.agreement(work)
    if amendment is None:
        decision = promote.decide(gate, evaluation, agreement, ratified, besides)
        found = Outcome(decision.promoted, False, decision.reasons)
    else:
        if not work.settings.retrain.promote:
            besides.append((False, "this run was asked not to promote (retrain.promote)"))
        moved = [effects.Effect(**e) for e in amendment["effects"]]
        floor = work.settings.retrain.min_win_rate
        found = settle(gate, floor, evaluation, moved, agreement, ratified, besides)
    if why := nothing_trained(work, model, amendment):
        found = Outcome(False, False, (f"failed: {why}", *found.reasons))
    payload = {"promoted": found.promoted, "reasons": list(found.reasons), "model": model}
    if amendment is not None:
        payload["proposed"] = found.proposed
    store.put_document("evaluation", run, dict(evaluation))
    store.put_document("decision", run, payload)
    _act(work, found, model, payload, amendment is not None)
    return payload


def _act(work: Work, found: Outcome, model: str, payload: Mapping[str, Any], after_amendment: bool) -> None:
    """Move the pointer, or leave word for a person. What an earlier retrain proposed is no more after this one."""
    store, run = work.store, work.run.id.hex()
    if found.promoted:
        checkpoint: Checkpoint = store.checkpoint(model)
        store.promote(
            checkpoint, who=work.who, why=f"run {run[:12]} passed its gate", key=f"run:{run}", evidence=payload
        )
        point(work.home / "promoted", Path(checkpoint.path))
    elif found.proposed:
        store.propose(
            store.checkpoint(model), who=work.who, why=f"run {run[:12]} proposes it", key=f"propose:{run}",
            evidence=payload,
        )  # fmt: skip
        work.log(
            "proposed: nothing speaks against this model, and not enough for it; look at the report, then: precept "
            f"model promote {store.checkpoint(model).id.hex()[:12]} --why TEXT"
        )
    elif after_amendment:
        store.withdraw_proposal(work.who, f"run {run[:12]} decided after it", key=f"withdraw:{run}")


def nothing_trained(work: Work, model: str, amendment: Mapping[str, Any] | None = None) -> str:
    """Why the model at the end is one that was there before the run; empty where it is new."""
    if work.untrained and model not in work.made:
        why = " and ".join(dict.fromkeys(work.untrained))
        return f"nothing was trained, because {why}: there is nothing to promote"
    if amendment is not None and model == work.store.run(amendment["base"]).result["model"]:
        return (
            "nothing was trained, because the amendment changed nothing that is learnt from: the model is the one that "
            "it would replace"
        )
    return ""


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
        "judge": {
            **{k: labels["judge"][k] for k in ("gold_accuracy", "position_consistency", "unreadable_rate")},
            **{k: labels["judge"][k] for k in ("cascade",) if k in labels["judge"]},  # of a judge that is two
        },
        "reward_model": {
            "heldout_accuracy": metrics.get("eval_accuracy"),
            "heldout_pairs": metrics.get("eval_pairs"),
            "gold_accuracy": measure.reward(work, work.wiring.judge(work.settings.judge), reward),
            "ece": metrics.get("eval_ece"),
            "unseen": reward.get("unseen"),
        },
        "label_rule": _rule(work),
        "labels": {
            **{k: labels["labels"][k] for k in ("gold_accuracy", "count", "tied", "unreadable")},
            **{k: labels["labels"][k] for k in ("conflicts",) if k in labels["labels"]},  # of hard constraints
        },
        **{
            name: {k: v for k, v in truth[name].items() if k != "themes"}
            | {"mean_tokens": evaluation[name]["mean_tokens"]}
            for name in ("before", "after")
        },
        "win_rate": evaluation["win_rate"],
        "length_controlled_interval": evaluation["length_controlled_interval"],
        "suites": evaluation["suites"],
        "promoted": decision["promoted"],
        **({"proposed": decision["proposed"]} if "proposed" in decision else {}),
        "reasons": decision["reasons"],
        "left_out": work.what_was_left_out(),
        "calls": work.budget.as_dict(),
        "seconds": work.clock(),
        "model": model,
        **({"untrained": why} if (why := nothing_trained(work, model, amendment)) else {}),
        **({"amendment": dict(amendment)} if amendment is not None else {}),
        **({"rounds": found} if (found := rounds.told(work)) else {}),
        **({"trial": tried} if (tried := trial.of_run(work)) else {}),
        **({"watch": seen} if (seen := _online(work, model)) else {}),
    }  # fmt: skip


def _rule(work: Work) -> dict[str, Any]:
    """By which rule the judge's verdicts vote, whether its trial chose it, and why; who has no voice."""
    ruling = work.ruling()
    return {
        "rule": rules.name_of(work.rule()),
        "chosen": ruling.rule is not None,
        "why": ruling.why or "as the settings say",
        "left_out": list(ruling.left_out),
    }


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
