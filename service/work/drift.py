"""Whether the model behind an address is still the one whose answers are stored.

A remote model has no fingerprint, only a declared revision: its canary answers are compared, before anything is asked,
with those it gave when the store first met that revision.
"""

from __future__ import annotations

from typing import Any

from constitution.errors import UserError
from pipeline.engines.openai_identity import DRIFT
from service.work.holding import Holding
from storage.store import Store

ROLES = ("policy", "critic", "judge", "evaluator")


def refuse_moved(store: Store, name: str, engine: Any) -> None:
    """Raise UserError where the canary answers of a role's engine moved. An engine without canaries passes."""
    ask = getattr(engine, "canary", None)
    if ask is None:
        return
    now = {str(n): value for n, value in enumerate(ask())}
    first = store.canaries(engine.fingerprint, {"canary": now})["canary"]
    moved = max((abs(now.get(n, -100.0) - value) for n, value in first.items()), default=0.0)
    if moved > DRIFT:
        raise UserError(
            f"the {name}'s server does not answer as it did under this revision (its canaries moved by {moved:.2f}): "
            f"it serves other weights. Declare another {name}.revision, or serve the model that it names."
        )


def refuse_drift(work: Holding, *roles: str) -> None:
    """Ask the canaries of the roles (of all) that a server answers for. Raises UserError where they moved. An
    engine that reads no probabilities passes."""
    for name in roles or ROLES:
        role = getattr(work.settings, name)
        if role is None or not role.base_url or not role.model:
            continue
        engine = work.wiring.role(role).engine
        if engine.capabilities.choose:
            refuse_moved(work.store, name, engine)
