"""Checkpoints as people ask for them: what each is, which run made it, what is known of it, and which is promoted.

Where one comes from and what came of it is told by `service/queries/lineage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from constitution.records import Checkpoint
    from storage.store import Store


@dataclass(frozen=True)
class Model:
    """`run`: the id of the run that trained it, or none where it was trained by hand. `win_rate`: the mean against
    what it was measured against, where a run decided on it; `decided`: "promoted", "proposed" or "refused" then.
    `proposed`: it waits for a person now."""

    checkpoint: Checkpoint
    run: str | None
    created: str  # ISO 8601, UTC
    promoted: bool
    win_rate: float | None
    decided: str | None
    proposed: bool = False

    def as_dict(self) -> dict[str, Any]:
        at = self.checkpoint
        return {
            "id": at.id.hex(), "kind": at.kind, "method": at.method, "path": at.path, "digest": at.digest,
            "run": self.run, "constitution": at.constitution, "created": self.created, "promoted": self.promoted,
            "win_rate": self.win_rate, "decided": self.decided, "proposed": self.proposed,
        }  # fmt: skip


@dataclass(frozen=True)
class Promotion:
    """An event of the history of what is promoted. `path`: where the checkpoint lies, as far as the store knows it."""

    at: str
    who: str
    what: str  # promotion or roll-back
    digest: str
    path: str | None
    why: str

    def as_dict(self) -> dict[str, Any]:
        return {"at": self.at, "who": self.who, "what": self.what, "digest": self.digest, "why": self.why}


@dataclass(frozen=True)
class Shown:
    """All that the store has on one checkpoint. `parent`, `dataset`: digests; `reasons`: the gate's, where a run
    decided; `promotions`: those of this checkpoint."""

    model: Model
    parent: str
    dataset: str
    metrics: Mapping[str, Any]
    reasons: tuple[str, ...]
    promotions: tuple[Promotion, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.model.as_dict(), "parent": self.parent, "dataset": self.dataset, "metrics": dict(self.metrics),
            "reasons": list(self.reasons), "promotions": [p.as_dict() for p in self.promotions],
        }  # fmt: skip


def models(store: Store) -> list[Model]:
    """Every checkpoint, the newest first."""
    trained, now, decisions = store.trained_in(), store.promoted(), _decisions(store)
    digest = now.digest if now is not None else None
    waiting = _proposed(store)
    return [_model(store, c, trained, digest, waiting, decisions) for c in reversed(store.checkpoints())]


def model(store: Store, name: str) -> Shown:
    """One checkpoint, by what `Store.checkpoint` answers to. Raises UserError where none or several fit."""
    checkpoint, now, decisions = store.checkpoint(name), store.promoted(), _decisions(store)
    digest = now.digest if now is not None else None
    of = _model(store, checkpoint, store.trained_in(), digest, _proposed(store), decisions)
    decision = decisions.get(store.kept_path(checkpoint.path), {})
    return Shown(
        of,
        checkpoint.parent,
        checkpoint.dataset,
        checkpoint.metrics,
        tuple(decision.get("reasons", ())),
        tuple(p for p in promotions(store) if p.digest == checkpoint.digest),
    )


def decided(decision: Mapping[str, Any]) -> str:
    """What was decided, in a word."""
    return "promoted" if decision["promoted"] else "proposed" if decision.get("proposed") else "refused"


def _proposed(store: Store) -> str | None:
    """The digest of what waits for a person."""
    event = store.proposal()
    return event.payload["digest"] if event is not None else None


def promotions(store: Store) -> list[Promotion]:
    """Every promotion and roll-back, the oldest first."""
    paths = {c.digest: c.path for c in store.checkpoints()}
    return [
        Promotion(
            e.at,
            e.who,
            "roll-back" if e.kind == "roll_back" else "promotion",
            digest := e.payload.get("to") or e.payload["digest"],
            paths.get(digest),
            e.payload["why"],
        )
        for e in store.promotions()
    ]


def _decisions(store: Store) -> dict[str, dict[str, Any]]:
    """By a model's path as it is kept, the last decision of a run on it, with the mean of its win rate."""
    evaluations = store.documents("evaluation")
    return {
        store.kept_path(decision["model"]): {
            **decision,
            "win_rate": evaluations.get(run, {}).get("win_rate", {}).get("mean"),
        }
        for run, decision in store.documents("decision").items()
    }


def _model(
    store: Store,
    checkpoint: Checkpoint,
    trained: Mapping[Any, Any],
    promoted: str | None,
    proposed: str | None,
    decisions: Mapping[str, Any],
) -> Model:
    run, created = trained[checkpoint.id, checkpoint.digest]
    decision = decisions.get(store.kept_path(checkpoint.path))
    return Model(
        checkpoint,
        run.hex() if run is not None else None,
        created,
        checkpoint.digest == promoted,
        decision["win_rate"] if decision else None,
        decided(decision) if decision else None,
        checkpoint.digest == proposed,
    )
