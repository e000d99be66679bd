"""Two constitutions by the models that they make: a retrain on each, from the same run and by the same settings, and
their results side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from constitution.principles import Constitution
from service.queries import base_run, revisions
from storage.runs import Run
from storage.store import Store

FIGURES = ("gold_good", "gold_harmful", "gold_needless_refusal", "gold_malformed", "mean_tokens")


def base_of(store: Store, run: str = "") -> Run:
    """The run that both retrains start from: the one named, or the one whose model is promoted, or the newest. A
    retrain that was only tried (`retrain.promote` false) is none to start from: the one it started from is, so that
    the same comparison made again is the same runs."""
    base = base_run.base_of(store, "", run)
    while not run and base.kind == "retrain" and not base.settings["settings"]["retrain"]["promote"]:
        base = store.run(base.settings["settings"]["retrain"]["base"])
    return base


def keep(store: Store, a: str, b: str) -> tuple[Constitution, Constitution]:
    """Both constitutions, their texts stored, so that a retrain finds them whatever the files say by then. Raises
    UserError where no model could tell one from the other."""
    one, other = revisions.read(a, store), revisions.read(b, store)
    if one.version == other.version:
        raise UserError(
            f"{a} and {b} are one version, {one.version[:12]}: a model trained on either is the same model, so there "
            "is nothing to train side by side"
        )
    for constitution in (one, other):
        store.put_constitution(constitution.version, constitution.source)
    return one, other


def trained(store: Store, base: Run, runs: Sequence[str]) -> dict[str, Any]:
    """The two retrains side by side, as their runs are stored: against the model of the base, on the same held-out
    prompts, by the evaluator. `calls` are what each asked when it was made. `is_base`: the same labels led to the same
    training, and so to the model of the base itself."""
    results = dict(zip(("a", "b"), (store.run(run).result for run in runs), strict=True))
    effects = {name: {e["principle"]: e for e in r["amendment"]["effects"]} for name, r in results.items()}
    names = list(dict.fromkeys(name for found in effects.values() for name in found))
    return {
        "base": {
            "run": base.id.hex(), "version": base.constitution, "model": base.result["model"],
            "figures": {name: results["a"]["before"].get(name) for name in FIGURES},
        },
        **{
            name: {
                "run": r["run"], "version": r["constitution"], "model": r["model"], "win_rate": r["win_rate"],
                "labels": r["labels"], "figures": {name: r["after"].get(name) for name in FIGURES},
                "calls": r["calls"], "seconds": r["seconds"]["total"],
                # a folder is named after its training job, wherever it lies
                "is_base": Path(r["model"]).name == Path(base.result["model"]).name,
            }
            for name, r in results.items()
        },
        "effects": {
            principle: {
                side: {key: effects[side].get(principle, {}).get(key) for key in ("mean", "low", "high", "found")}
                for side in results
            }
            for principle in names
        },
    }  # fmt: skip
