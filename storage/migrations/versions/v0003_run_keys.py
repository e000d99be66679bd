"""Run keys as they are made from now on: without recorded defaults, addresses, patience, and folders of models.

A key that says `recipe` is of this form already. Keys of examples and previews name no settings, and stay. A run keeps
its id, which other records name: what finds it is its key. What a run began with is named as its settings name it,
`sandbox:policy` and not where that lay. The lists here are those of `service/identity.py` when this was written.
"""

from __future__ import annotations

import json
import re
from typing import Any

from alembic import op
from sqlalchemy import Column, LargeBinary, MetaData, Table, Text, case, select, update

revision = "0003"
down_revision = "0002"

SANDBOX = re.compile(r"/.*/sandbox/models/([a-z]+)/?")
RUN = Table(
    "run",
    MetaData(),
    Column("id", LargeBinary(16), primary_key=True),
    Column("key", Text),
    Column("settings", Text),
    Column("status", Text),
    Column("created", Text),
)
ROLES = ("policy", "critic", "trained", "judge", "evaluator")
NOT_OF_A_ROLE = ("device", "batch_size", "api_key_env", "base_url")
PATIENCE = (
    "attempts", "timeout", "deadline", "backoff", "max_backoff", "breaker", "cooldown", "concurrency",
    "prompts_per_request", "requests_in_flight",
)  # fmt: skip
ROLE: dict[str, Any] = {
    "kind": "transformers", "model": "", "revision": "", "dtype": "float32", "options": {}, "answer_prefix": "",
    "template_args": {}, "temperature": 1.0, "top_p": 1.0, "max_tokens": 96,
}  # fmt: skip
JUDGE: dict[str, Any] = {**ROLE, "method": "choice", "judge_options": {}}
TRAINING: dict[str, Any] = {"arguments": {}, "lora": None}
RECORDED: dict[str, Any] = {
    "pairs": "", "oracle": "", "seed": 0, "rounds": 1, "arguments": {},
    "splits": {"heldout": 0.45, "dev": 0.1},
    "policy": ROLE, "critic": ROLE, "trained": ROLE, "judge": JUDGE, "evaluator": JUDGE,
    "revise": {"rounds": 4, "critique": True},
    "compare": {"samples": 4, "pairs": 3, "questions_per_batch": 256},
    "label": {
        "min_mass": 0.5, "consistent": True, "min_margin": 0.5, "min_readable": 0.5, "tie_margin": 0.1,
        "max_unreadable": 0.5,
    },
    "sft": {"method": "sft", **TRAINING, "use": "last", "helpful": 0.25},
    "reward": {"method": "reward", **TRAINING, "models": 1, "human": "", "human_share": 0.5},
    "optimise": {"method": "dpo", **TRAINING, "labels": "judge", "min_p": 0.5, "reward": {}},
    "watch": {"prompts": 128, "every": 5, "kl_budget": 10.0, "stop": True},
    "sweep": {"methods": {"dpo": [], "ppo": []}, "split": "dev"},
    "evaluate": {"prompts": 600, "candidate": ""},
    "gate": {
        "min_win_rate": 0.5, "min_length_controlled": 0.5, "max_refusal_increase": 0.05, "max_length_ratio": 1.5,
        "max_unreadable": 0.2, "max_truncated": 0.05, "max_boilerplate_increase": 0.2, "min_agreement": None,
        "min_spot_checks": 0,
    },
    "retrain": {
        "start": "pool", "top_up": False, "train_from": "sft", "base": "", "version": "", "promote": True,
        "min_win_rate": 0.45,
    },
}  # fmt: skip


def upgrade() -> None:
    connection = op.get_bind()
    taken: set[str] = set()
    # Of runs whose keys were apart by an address alone, one is gone on with: a finished one, the newest of them.
    finished_first = case((RUN.c.status == "finished", 0), else_=1)
    in_order = select(RUN.c.id, RUN.c.key, RUN.c.settings).order_by(finished_first, RUN.c.created.desc(), RUN.c.id)
    for id, key, settings in connection.execute(in_order).all():
        found = _key(json.loads(key))
        if found is None or found in taken:
            continue
        taken.add(found)
        values = {"key": _text(found), "settings": _text(_named(json.loads(settings)))}
        connection.execute(update(RUN).where(RUN.c.id == id).values(values))


def _key(stored: Any) -> str | None:
    """The new key of a flow's run; None where the stored one is none, or is new."""
    try:
        old = json.loads(stored)
        if "recipe" in old or "models" not in old:
            return None
        kept = {name: old[name] for name in ("kind", "constitution", "prompts", "slot")}
        return _text({"recipe": 2, "settings": _determining(old["settings"]), **kept})
    except (TypeError, ValueError, KeyError, AttributeError):
        return None


def _determining(settings: dict[str, Any]) -> dict[str, Any]:
    found = dict(settings)
    for role in ROLES:
        if isinstance(found.get(role), dict):
            found[role] = {name: value for name, value in found[role].items() if name not in NOT_OF_A_ROLE}
            options = found[role].get("options", {})
            found[role]["options"] = {name: value for name, value in options.items() if name not in PATIENCE}
    methods = {str(found.get("optimise", {}).get("method", "dpo"))}
    methods |= {str(name).replace("-", "_") for name in found.get("sweep", {}).get("methods", {})}
    found["arguments"] = {name: of for name, of in found.get("arguments", {}).items() if name in methods and of}
    return _without(found, RECORDED)


def _without(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name not in defaults:
            found[name] = value
            continue
        default = defaults[name]
        if isinstance(value, dict) and isinstance(default, dict) and default:
            value = _without(value, default)
            if value or name in ("critic", "trained"):
                found[name] = value
        elif name in ("critic", "trained") and value is None:
            continue
        elif _text(value) != _text(default):
            found[name] = value
    return found


def _named(settings: Any) -> Any:
    """What the run began with: a model of the sandbox by its name."""
    found = SANDBOX.fullmatch(str(settings.get("policy"))) if isinstance(settings, dict) else None
    return {**settings, "policy": f"sandbox:{found[1]}"} if found else settings


def _text(value: Any) -> str:
    """As the store writes JSON."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
