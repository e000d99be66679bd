"""Which run a retrain starts from, and the wiring of what follows an amendment.

A run before the amendment left a pool of answers, their comparisons, an SFT model and a policy. What follows is wired
as that run, under the ratified constitution, whatever the file says by now.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from constitution import loading
from constitution.errors import UserError
from constitution.records import Checkpoint, Prompt
from constitution.streams import Stream
from service.queries import pool
from service.settings import Settings
from service.wiring import Wiring
from storage.runs import Run
from storage.store import Store


class Retraining(Wiring):
    """The wiring of a retrain: under the constitution in force, whatever the file says by now, on the prompts and from
    the policy of its base. Both are resolved here, once; a resumed retrain is handed what it began with."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        try:
            given = settings.retrain
            text, version = _constitution(self.store, given.version)
            self.constitution = loading.parse(text, "the ratified constitution")
            self.base = self.begin_from(version, given.base)
            resolved: dict[str, Any] = {
                "retrain": given.model_copy(update={"version": version, "base": self.base.id.hex()})
            }
            if given.start == "scratch":  # its answers are new ones: a seed that the base did not have
                seed = self.base.settings["settings"]["seed"]
                resolved["seed"] = seed + 1 if settings.seed == seed else settings.seed
            self.settings = self.settings.model_copy(update=resolved)
        except BaseException:
            self.close()
            raise

    def begin_from(self, version: str, name: str) -> Run:
        return base_of(self.store, version, name)

    def prompts(self) -> Sequence[Prompt]:
        return Stream(self.store.stage_ids(self.base.id, "prompts"), lambda some: self.store.prompts(ids=some))

    def start(self) -> str:
        return str(self.base.settings["policy"])


def _constitution(store: Store, version: str) -> tuple[str, str]:
    """Text and version of the constitution in force, or of a version that is named."""
    if not version:
        amendment = store.amendment("ratified")
        return amendment.text, amendment.version
    text = store.constitution(version)
    if text is None:
        raise UserError(f"the store has no constitution {version}; `precept constitution log` shows those ratified")
    return text, version


def base_of(store: Store, version: str, name: str = "") -> Run:
    """The run that a retrain under a version starts from: the one named; or the one that made the promoted model, which
    a retrain would replace; or, where nothing is promoted, the newest finished one under another version.

    Raises UserError where there is none, or nothing was amended since.
    """
    if name:
        run = store.run(name)
        if run.kind not in pool.LOOPS or run.status != "finished":
            raise UserError(
                f"run {name} is a {run.status} {run.kind}; a retrain starts from a finished {' or '.join(pool.LOOPS)}"
            )
        return run
    base = _current(store, version)
    if base.constitution == version and base.kind == "retrain":  # the same retrain again: its result, asking nothing
        return store.run(base.settings["settings"]["retrain"]["base"])
    if base.constitution == version:
        raise UserError(
            f"{_up_to_date(base)}. Amend it first (precept constitution amend FILE), or name the run to start from "
            "with --base RUN"
        )
    return base


def _current(store: Store, version: str) -> Run:
    """The run that a retrain under a version would start from, if it does not live by that version already."""
    finished = pool.finished(store.runs())
    if not finished:
        raise UserError("there is no finished run to start from: `precept improve` makes the first model")
    promoted = store.promoted()
    made = [r for r in finished if promoted is not None and r.result["model"] == promoted.path]
    candidates = made or [r for r in finished if r.constitution != version] or finished
    return candidates[0]


def _up_to_date(base: Run) -> str:
    version = (base.constitution or "")[:12]
    return (
        f"run {base.id.hex()[:12]} already lives by the ratified constitution, version {version}: there is nothing to "
        "retrain"
    )


class Relabelling(Retraining):
    """A retrain's wiring, for the pool of the newest run of the loop, whatever its model lives by."""

    def begin_from(self, version: str, name: str) -> Run:
        found = pool.find(self.store, name).run
        if found is None:
            raise UserError("there is no finished run with labels: `precept improve` makes the first")
        return found


WIRINGS: dict[str, type[Wiring]] = {"retrain": Retraining, "relabel": Relabelling}


def wire(kind: str, settings: Settings) -> Wiring:
    """The wiring of a flow: what follows an amendment is wired as the run it starts from."""
    return WIRINGS.get(kind, Wiring)(settings)


def nothing_to_retrain(settings: Settings) -> str | None:
    """Why a retrain that a schedule or an event starts has nothing to do, in a sentence: the model lives by the
    constitution in force, or one that does waits for a person. None where there is something to do."""
    with closing(Wiring(settings)) as wiring:
        store = wiring.store
        _, version = _constitution(store, settings.retrain.version)
        base = None if settings.retrain.base else _current(store, version)
        waiting = _waiting(store, version)
    if base is not None and base.constitution == version:
        return _up_to_date(base)
    return waiting


def _waiting(store: Store, version: str) -> str | None:
    """That a model under this version waits for a person, in a sentence: to train it again would change nothing."""
    event = store.proposal()
    made = store.checkpoint(event.payload["id"]) if event is not None else None
    if event is None or made is None or made.constitution != version:
        return None
    ident = made.id.hex()[:12]
    return (
        f"model {ident} of the ratified constitution, version {version[:12]}, is proposed and waits for a person: "
        f"precept model promote {ident} --why TEXT"
    )


def ancestors(store: Store, model: str) -> list[Checkpoint]:
    """A checkpoint and what it was trained from, back to the first that was trained."""
    known = store.checkpoints()
    by_path, by_digest = {c.path: c for c in known}, {c.digest: c for c in known}
    line: list[Checkpoint] = []
    at = by_path.get(model)
    while at is not None and at not in line:
        line.append(at)
        at = by_digest.get(at.parent)
    return line
