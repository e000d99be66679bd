"""Which run is which: what makes two runs the same run."""

from __future__ import annotations

from collections.abc import Sequence

from constitution.records import Prompt, canonical, text_digest
from service.wiring import PROMOTED, Wiring


def run_key(kind: str, wiring: Wiring, prompts: Sequence[Prompt]) -> str:
    """What makes two runs the same run: flow, resolved settings and models, constitution, prompts, schedule slot.

    "The promoted one" stays a name here: what it stands for is kept with the run, and does not move on resume.
    """
    settings = wiring.settings
    roles = {"policy": settings.policy, "judge": settings.judge, "evaluator": settings.evaluator}
    return canonical(
        {
            "kind": kind,
            "settings": settings.identity(kind),
            "constitution": wiring.constitution.version,
            "prompts": text_digest("".join(p.id.hex() for p in prompts)),
            "models": {n: r.model if r.model in ("", PROMOTED) else wiring.resolve(r.model) for n, r in roles.items()},
            "slot": settings.slot,
        }
    )
