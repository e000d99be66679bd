"""What somebody sees first: what is in force, what is at work, and what waits for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from service.queries import models, runs
from service.queries.runs import Summary
from storage.store import Store


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that needs a person: what, and the path of the console where it is done."""

    what: str
    path: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Home:
    promoted: models.Promotion | None
    amendment: Mapping[str, Any] | None  # number, version, who, at, message
    at_work: tuple[Summary, ...]
    recent: tuple[Summary, ...]
    waiting: tuple[Waiting, ...]
    empty: bool  # nothing was ever run

    def as_dict(self) -> dict[str, Any]:
        return {
            "promoted": self.promoted.as_dict() if self.promoted else None,
            "amendment": self.amendment,
            "at_work": [one.as_dict() for one in self.at_work],
            "recent": [one.as_dict() for one in self.recent],
            "waiting": [one.as_dict() for one in self.waiting],
            "empty": self.empty,
        }


def home(store: Store) -> Home:
    """Read only; asks no model, and no server."""
    found = runs.runs(store)
    at_work = tuple(one for one in found if one.run.status == "running")
    promotions = models.promotions(store)
    last = store.ratified()
    told = None if last is None else {
        "number": last.number, "version": last.version, "who": last.who, "at": last.at, "message": last.message,
    }  # fmt: skip
    promoted, waiting = promotions[-1] if promotions else None, tuple(_waiting(store, found))
    return Home(
        promoted,
        told,
        at_work,
        tuple(found[:8]),
        waiting,
        not found,
    )


def _waiting(store: Store, found: Sequence[Summary]) -> Iterator[Waiting]:
    proposal = store.proposal()
    if proposal is not None:
        yield Waiting("a retrained model is proposed: a person confirms it, or leaves it", "/models")
    for draft in store.drafts():
        yield Waiting(f"a draft of the constitution by {draft.who}", "/constitution")
    newest = next((one for one in found if one.run.result), None)
    if newest is None or newest.run.result is None:
        return
    run = newest.run.id.hex()
    if newest.outcome == "refused":
        yield Waiting("the newest run's model was refused, with reasons", f"/runs/{run}")
    for role, tried in newest.run.result.get("trial", {}).items():
        verdict = tried.get("verdict") if isinstance(tried, Mapping) else None
        if verdict not in (None, "trusted"):
            yield Waiting(f"the {role} did not pass its trial: {verdict}", f"/runs/{run}")
    if not store.spot_checks(run=newest.run.id):
        yield Waiting("nobody has reviewed what the judge said in the newest run", f"/review?run={run[:12]}")
