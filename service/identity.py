"""Which run is which: what makes two runs the same run, so that starting it again is going on with it.

A run's key is what determines its result: the flow, the settings that it depends on, the constitution, the prompts, the
schedule slot. So that a precept that knows more settings finds the runs of one that knew fewer, a setting whose value
is the default *recorded when it was introduced* stays out of the key: whoever adds a setting adds its default to
`RECORDED`, and never changes a line of it, whatever the default becomes. So that a moved port is no new run, a remote
model is its name and its revision: not its address, nor how patiently or how many at once it is asked.

Stored keys of before are brought into this form by `storage/migrations/versions/v0003_run_keys.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constitution.records import Prompt, canonical, text_digest
from pipeline.models.checkpoint import file_digest
from pipeline.sources.file import located
from service.keyed import named
from service.wiring import Wiring

ROLES = ("policy", "critic", "trained", "judge", "evaluator")
NOT_OF_A_ROLE = ("device", "batch_size", "api_key_env", "base_url")  # where and how it is asked, not what
PATIENCE = (  # options of engines that say how long and how many at once
    "attempts", "timeout", "deadline", "backoff", "max_backoff", "breaker", "cooldown", "concurrency",
    "prompts_per_request", "requests_in_flight",
)  # fmt: skip

_ROLE: dict[str, Any] = {
    "kind": "transformers", "model": "", "revision": "", "dtype": "float32", "options": {}, "answer_prefix": "",
    "template_args": {}, "temperature": 1.0, "top_p": 1.0, "max_tokens": 96,
}  # fmt: skip
_JUDGE: dict[str, Any] = {**_ROLE, "method": "choice", "judge_options": {}}
_TRAINING: dict[str, Any] = {"arguments": {}, "lora": None}

RECORDED: dict[str, Any] = {  # the default of each setting when it was introduced: add, never change
    "pairs": "", "oracle": "", "seed": 0, "rounds": 1, "arguments": {},
    "splits": {"heldout": 0.45, "dev": 0.1},
    "policy": _ROLE, "critic": _ROLE, "trained": _ROLE, "judge": _JUDGE, "evaluator": _JUDGE,
    "revise": {"rounds": 4, "critique": True, "way": "revise"},
    "compare": {"samples": 4, "pairs": 3, "questions_per_batch": 256, "principles": "all"},
    "label": {
        "min_mass": 0.5, "consistent": True, "min_margin": 0.5, "min_readable": 0.5, "tie_margin": 0.1,
        "max_unreadable": 0.5, "choose": "auto",
    },
    "sft": {"method": "sft", **_TRAINING, "use": "last", "helpful": 0.25},
    "reward": {"method": "reward", **_TRAINING, "models": 1, "human": "", "human_share": 0.5},
    "optimise": {"method": "dpo", **_TRAINING, "labels": "judge", "min_p": 0.5, "reward": {}},
    "watch": {"prompts": 128, "every": 5, "kl_budget": 10.0, "stop": True},
    "sweep": {"methods": {"dpo": [], "ppo": []}, "split": "dev"},
    "evaluate": {"prompts": 600, "candidate": "", "suites": None, "reading": ""},
    "gate": {
        "min_win_rate": 0.5, "min_length_controlled": 0.5, "max_refusal_increase": 0.05, "max_length_ratio": 1.5,
        "max_unreadable": 0.2, "max_truncated": 0.05, "max_boilerplate_increase": 0.2, "min_agreement": None,
        "min_spot_checks": 0, "suites": {}, "min_prompts": 100,
    },
    "retrain": {
        "start": "pool", "top_up": False, "train_from": "sft", "base": "", "version": "", "promote": True,
        "min_win_rate": 0.45,
    },
}  # fmt: skip


def run_key(kind: str, wiring: Wiring, prompts: Sequence[Prompt]) -> str:
    """The key of the run that a flow would begin, or go on with. Models are named as the settings name them: what "the
    promoted one" stands for is kept with the run, and does not move on resume."""
    settings = wiring.settings.identity(kind)
    return canonical(
        {
            "recipe": 2,
            "kind": kind,
            "settings": determining(settings),
            "constitution": wiring.constitution.version,
            "prompts": text_digest("".join(p.id.hex() for p in prompts)),
            "slot": wiring.settings.slot,
            **({"keyed": text_digest(canonical(keyed))} if (keyed := named(prompts)) else {}),
            **_of_files(settings),
        }
    )


def _of_files(settings: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Digests of the files whose rows are no prompts, by setting: one that was edited under its name makes another run.
    A file that is not there is told of elsewhere."""
    named = {"pairs": settings.get("pairs"), "reward.human": settings.get("reward", {}).get("human")}
    paths = {name: located(given, name)[0] for name, given in named.items() if given}
    for suite in settings.get("evaluate", {}).get("suites") or ():
        if ":" in suite:  # a public set and its file
            paths[f"evaluate.suites {suite}"] = Path(suite.partition(":")[2])
    found = {name: file_digest(path) for name, path in paths.items() if path.is_file()}
    return {"files": found} if found else {}


def determining(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's settings (`Settings.identity`) is in its key."""
    found = dict(settings)
    for role in ROLES:
        if isinstance(found.get(role), Mapping):
            found[role] = _of_a_role(found[role])
    found["arguments"] = _used(found)
    return _without(found, RECORDED)


def _used(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of the arguments by method, those of the methods that the run trains by."""
    methods = {str(settings.get("optimise", {}).get("method", "dpo"))}
    methods |= {str(name).replace("-", "_") for name in settings.get("sweep", {}).get("methods", {})}
    return {name: given for name, given in settings.get("arguments", {}).items() if name in methods and given}


def _of_a_role(role: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in role.items() if name not in NOT_OF_A_ROLE}
    kept["options"] = {name: value for name, value in role.get("options", {}).items() if name not in PATIENCE}
    further = role.get("judge_options", {})
    if further:  # a judge that asks several engines has their roles there
        kept["judge_options"] = {
            name: _of_a_role(value) if isinstance(value, Mapping) and "model" in value else value
            for name, value in further.items()
        }
    return kept


def _without(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not their recorded default. A setting that no default is recorded for stays."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name not in defaults:
            found[name] = value
            continue
        default = defaults[name]
        if isinstance(value, Mapping) and isinstance(default, Mapping) and default:
            value = _without(value, default)
            if value or name in ("critic", "trained"):  # a critic of its own, alike in all, is not the policy
                found[name] = value
        elif name in ("critic", "trained") and value is None:
            continue
        elif canonical(value) != canonical(default):
            found[name] = value
    return found
