"""The life of a run: found or begun, and left finished, stopped or failed, never in doubt. In one place, for whatever
asks a model and stores what it says: flows, a constitution's examples, the sample of a preview.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from constitution.errors import UserError
from constitution.records import Id, Prompt
from constitution.streams import AT_ONCE
from pipeline.sources.openings import Openings
from pipeline.trainers.trainer import TrainingStopped
from service import keyed
from service.identity import run_key
from service.wiring import Wiring
from service.work.budget import BudgetReached
from service.work.drift import refuse_drift
from service.work.progress import Progress
from service.work.work import Work


@contextmanager
def at_work(
    wiring: Wiring, kind: str, key: str, about: Mapping[str, Any], *, who: str, report: Progress
) -> Iterator[Work]:
    """The run of a key, at work. `about`: what is kept of its settings. Whatever ends it, what was answered is stored
    and the run says how it ended, unless other workers go on with it; a finished one is handed out as it is, and stays
    so."""
    store, constitution = wiring.store, wiring.constitution
    store.put_constitution(constitution.version, constitution.source)
    run = store.start_run(key, kind, about, constitution.version)
    work: Work | None = None
    try:
        work = Work(wiring, run, who=who, report=report)
        yield work
    except BaseException as error:
        stopped = _interrupted(error) or isinstance(error, BudgetReached | TrainingStopped)
        others = work.leave() if work is not None else []  # before it is looked who is left: the last one says it
        if others:
            report.say(f"  the run goes on without this worker: others are at it on {', '.join(others)}")
        else:
            store.finish_run(run.id, "stopped" if stopped else "failed", error=_told(error))
        raise
    finally:
        if work is not None:
            work.close()


def _interrupted(error: BaseException) -> bool:
    """Ctrl-C, SIGTERM and the like, whatever raised for them: they are no failures, and derive from no Exception."""
    return not isinstance(error, Exception)


def _told(error: BaseException) -> str:
    if _interrupted(error):
        return "interrupted"
    if isinstance(error, BudgetReached | TrainingStopped | UserError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def as_they_open(prompts: Sequence[Prompt], stored: Collection[Id], known: Openings) -> list[Prompt]:
    """Prompts with their splits, but those that are new and open like a stored one with that one's: what was trained on
    in another turn of the same dialogue measures nothing. `stored`: those of the prompts that are; `known`: how all
    stored ones open."""
    return [
        prompt if prompt.id in stored else replace(prompt, split=known.split(prompt.messages, prompt.split))
        for prompt in prompts
    ]


def _keep(work: Work, prompts: Sequence[Prompt]) -> None:
    """Store the prompts of a run, and that they are its own, a part at a time."""
    store, known, moved = work.store, Openings(work.store.every_prompt()), 0
    for start in range(0, len(prompts), AT_ONCE):
        some = prompts[start : start + AT_ONCE]
        ids = [p.id for p in some]
        stored = {p.id for p in store.prompts(ids=ids)}
        store.add_prompts(as_they_open(some, stored, known))
        kept = {p.id: p.split for p in store.prompts(ids=ids)}
        moved += sum(kept[p.id] != p.split for p in some)
        store.add_members(work.run.id, "prompts", ids, list(range(start, start + len(ids))))
    if moved:
        work.log(f"{moved} prompts keep the split that they were stored with before: a split is given once")
    keyed.keep(store, work.run.id, prompts)


@contextmanager
def of_prompts(wiring: Wiring, kind: str, *, who: str, report: Progress) -> Iterator[Work]:
    """The run of a flow: on the prompts of its wiring, which are stored with it. Ratifies the first constitution of a
    fresh store. Raises UserError where there are no prompts, or a server answers as another model."""
    store, constitution, settings = wiring.store, wiring.constitution, wiring.settings
    store.put_constitution(constitution.version, constitution.source)
    if store.ratified() is None:  # a fresh store ratifies its first by itself
        store.ratify(
            constitution.version, who=who, message="the first constitution of this store",
            key=f"first:{constitution.version}",
        )  # fmt: skip
    prompts = wiring.prompts() if settings.prompts or kind != "judge" else ()  # pairs bring their own
    if not prompts and kind != "judge":
        raise UserError(f"there are no prompts in {settings.prompts}")
    # "The promoted one" must not move when a run is resumed: what it stood for is kept with the run.
    about = {
        "settings": settings.identity(kind), "prompts": settings.prompts,
        "policy": wiring.start() if settings.policy.model else "",
    }  # fmt: skip
    with at_work(wiring, kind, run_key(kind, wiring, prompts), about, who=who, report=report) as work:
        if work.run.status != "finished":
            refuse_drift(work)
        _keep(work, prompts)
        yield work
