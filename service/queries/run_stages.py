"""A run as the pipeline that it is: answers, critiques, revisions, comparisons, reward model, policy, gate; of each
what the store has of it by now, and what it comes to where that can be told.

It is read from the store and from the training's folders alone, so a run of another process, or of another machine that
shares them, is seen as well as one's own. What is asked between two batches is not in the store yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from constitution.errors import UserError
from pipeline.trainers import progress
from pipeline.trainers.trainer import Job
from service.queries.runs import as_it_is

if TYPE_CHECKING:
    from constitution.records import Checkpoint
    from storage.runs import Run
    from storage.store import Store

State: TypeAlias = Literal["done", "working", "waiting", "stopped", "left out"]
OF_ITS_OWN = ("questions", "probes")  # parts of a stage's name that no box counts
ROUND = re.compile(r", round (\d+)$")
JOB = "job.json"  # of a training at work, in the folder of what it resumes from
REVISED = re.compile(r"revisions\.(\d+)(\.critique)?$")


@dataclass(frozen=True)
class Count:
    """How many of what. `of`: how many there will be, where that is known; `stage`: where they can be looked at."""

    what: str
    done: int
    of: int | None = None
    stage: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"what": self.what, "done": self.done, "of": self.of, "stage": self.stage}


@dataclass(frozen=True)
class Trained:
    """A model that a step trained or is training: `step` of `total` optimiser steps, its last `loss`."""

    checkpoint: str | None  # its id, once it is whole
    method: str
    folder: str
    step: int
    total: int
    loss: float | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "checkpoint": self.checkpoint, "method": self.method, "step": self.step, "total": self.total,
            "loss": self.loss,
        }  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A box of the pipeline. `says`: one line of what came of it, where something did."""

    name: str
    title: str
    state: State
    counts: tuple[Count, ...] = ()
    trained: tuple[Trained, ...] = ()
    says: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "title": self.title, "state": self.state, "says": self.says,
            "counts": [count.as_dict() for count in self.counts], "trained": [one.as_dict() for one in self.trained],
        }  # fmt: skip


@dataclass(frozen=True)
class Pipeline:
    """`status` and `error`: of the run, as it is now."""

    run: str
    status: str
    error: str | None
    steps: tuple[Step, ...]

    @property
    def at(self) -> Step | None:
        """The step that the run is at, or was at when it ended."""
        return next((step for step in self.steps if step.state in ("working", "stopped")), None)

    def as_dict(self) -> dict[str, Any]:
        steps = [step.as_dict() for step in self.steps]
        return {"run": self.run, "status": self.status, "error": self.error, "steps": steps}


def pipeline(store: Store, name: str, home: Path) -> Pipeline:
    """The steps of the run whose id begins so. `home`: where its trainings lie. Raises UserError where none fits."""
    run = as_it_is(store, store.run(name))
    return Pipeline(run.id.hex(), run.status, run.error, _Reading(store, run, home).steps())


class _Reading:
    def __init__(self, store: Store, run: Run, home: Path) -> None:
        self.store, self.run, self.home = store, run, home
        self.sizes = {stage: count for stage, (count, _) in store.stage_sizes(run.id).items()}
        self.about: Mapping[str, Any] = run.settings.get("settings") or {}
        trained = store.trained_in()
        self.made = [c for c in store.checkpoints() if trained[c.id, c.digest][0] == run.id]
        self.result = run.result if isinstance(run.result, dict) else {}

    def steps(self) -> tuple[Step, ...]:
        found = [
            self._step("answers", "Answers", self._answers()),
            self._step("critiques", "Critiques", self._critiques()),
            self._step("revisions", "Revisions", self._revisions()),
            self._step("sft", "SFT model", (), self._trained("sft")),
            self._step("comparisons", "Comparisons", self._comparisons()),
            self._step("reward", "Reward model", (), self._trained("reward")),
            self._step("policy", "Policy", (), self._trained("policy")),
            self._step("evaluation", "Evaluation", self._evaluation()),
            self._gate(),
        ]
        return tuple(self._stated(found))

    def _stated(self, found: Sequence[Step]) -> list[Step]:
        """Each step with its state: what comes before something that is there is done, or was left out."""
        begun = [bool(step.counts and any(c.done for c in step.counts)) or bool(step.trained) for step in found]
        decided = "promoted" in self.result
        last = max((number for number, there in enumerate(begun) if there), default=-1)
        finished = self.run.status == "finished"
        stated = []
        for number, step in enumerate(found):
            state: State
            if step.name == "gate":
                state = "done" if decided else "left out" if finished else "waiting"
            elif begun[number]:
                still = number == last and not finished
                state = ("working" if self.run.status == "running" else "stopped") if still else "done"
            else:
                state = "left out" if number < last or finished else "waiting"
            stated.append(Step(step.name, step.title, state, step.counts, step.trained, step.says))
        return stated

    def _step(self, name: str, title: str, counts: Sequence[Count], trained: Sequence[Trained] = ()) -> Step:
        return Step(name, title, "waiting", tuple(counts), tuple(trained))

    # --- what is asked ---

    def _setting(self, section: str, name: str) -> Any:
        found = self.about.get(section)
        return found.get(name) if isinstance(found, Mapping) else None

    def _sum(self, *names: str) -> int:
        """The members of some stages, in every round."""
        return sum(n for stage, n in self.sizes.items() if ROUND.sub("", stage) in names)

    def _counted(self, what: str, stage: str, of: int | None = None) -> list[Count]:
        count = self._sum(stage)
        return [Count(what, count, max(of, count) if of else None, stage)] if count else []

    def _prompts(self, split: str) -> int | None:
        if self.run.status != "running":
            return None
        return len(self.store.prompts_of(self.run.id, split)) or None

    def _answers(self) -> list[Count]:
        return self._counted("answers", "answers", self._prompts("train"))

    def _rounds(self, critique: bool) -> list[Count]:
        """Of each round of critique or revision: at most one an answer."""
        stages = {m[1]: stage for stage in self.sizes if (m := REVISED.match(stage)) and bool(m[2]) == critique}
        of = self.sizes.get("answers") if self.run.status == "running" else None
        what = "critiques" if critique else "revisions"
        return [
            Count(f"{what} of round {int(number) + 1}", self.sizes[stage], of, stage)
            for number, stage in sorted(stages.items(), key=lambda one: int(one[0]))
        ]

    def _critiques(self) -> list[Count]:
        return self._rounds(critique=True)

    def _revisions(self) -> list[Count]:
        return [*self._rounds(critique=False), *self._pairs("revisions judged", "revisions.judged")]

    def _comparisons(self) -> list[Count]:
        samples, trains = self._setting("compare", "samples"), self._prompts("train")
        of = samples * trains if isinstance(samples, int) and trains else None
        return [
            *self._counted("answers of the tuned model", "samples", of),
            *self._pairs("pairs to learn from", "feedback"),
            *self._pairs("pairs held out", "held-out feedback"),
        ]

    def _pairs(self, what: str, stage: str) -> list[Count]:
        """The pairs of a stage, and how many verdicts the judge gave on them."""
        stages = [s for s in self.sizes if ROUND.sub("", s) == stage]
        pairs = sum(self.sizes[s] for s in stages)
        if not pairs:
            return []
        questions = [id for s in stages for id in self.store.stage_members(self.run.id, f"{s}.questions")]
        told = self.store.stage_verdicts([(self.run.id, s) for s in stages], set(questions)) if questions else {}
        wanted = pairs * len(set(questions)) if len(stages) == 1 and not self._draws() else None
        return [
            Count(what, pairs, None, stage),
            *([Count("verdicts on them", sum(told.values()), wanted, "")] if questions else []),
        ]

    def _draws(self) -> bool:
        return self._setting("compare", "principles") not in (None, "all") or self.run.status != "running"

    def _evaluation(self) -> list[Count]:
        of = self._prompts("heldout")
        most = self._setting("evaluate", "prompts")
        of = min(of, most) if of and isinstance(most, int) and most else of
        return [
            *self._counted("answers of the model before", "evaluation.before", of),
            *self._counted("answers of the new model", "evaluation.after", of),
            *self._pairs("pairs before the evaluator", "evaluation.pairs"),
        ]

    # --- what is trained ---

    def _trained(self, section: str) -> list[Trained]:
        found = [_whole(c) for c in self.made if self._of(c.kind, c.method) == section]
        if self.run.status == "running":
            found += [one for one in self._at_work() if self._of("", one.method) == section]
        return found

    def _of(self, kind: str, method: str) -> str:
        reward = self._setting("reward", "method") or "reward"
        if kind == "reward_model" or method in ("reward", reward):
            return "reward"
        return "sft" if method == "sft" else "policy"

    def _at_work(self) -> list[Trained]:
        """Trainings whose folder is not whole yet, and that were at work since this run began."""
        from datetime import datetime

        since = datetime.fromisoformat(self.run.created).timestamp()
        found = []
        for path in sorted((self.home / "checkpoints").glob(f"*.resume/{progress.NAME}")):
            folder = path.parent.name.removesuffix(".resume")
            try:
                lines = progress.read(path) if self._is_mine(path.parent) and path.stat().st_mtime >= since else []
            except OSError:  # the training ended meanwhile, and took its folder away
                continue
            if lines and not (self.home / "checkpoints" / folder).exists():
                method = folder.rpartition("-")[0]
                found.append(_last(None, method, str(path.parent), lines))
        return found

    def _is_mine(self, folder: Path) -> bool:
        """Whether a training is this run's, and not that of another run that is at work in the same home."""
        try:
            return bool(Job.read(folder / JOB).card.get("run") == self.run.id.hex())
        except (OSError, UserError):
            return False

    def _gate(self) -> Step:
        reasons = [str(reason) for reason in self.result.get("reasons", ())]
        failed = [reason for reason in reasons if reason.startswith("failed: ")]
        says = ""
        if "promoted" in self.result:
            word = (
                "promoted" if self.result["promoted"] else "proposed" if self.result.get("proposed") else "not promoted"
            )
            says = f"{word}: {len(reasons) - len(failed)} of {len(reasons)} conditions held"
        return Step("gate", "Gate", "waiting", says=says)


def _whole(of: Checkpoint) -> Trained:
    return _last(of.id.hex(), of.method, of.path, progress.read(Path(of.path) / progress.NAME))


def _last(checkpoint: str | None, method: str, folder: str, lines: Sequence[Mapping[str, Any]]) -> Trained:
    if not lines:
        return Trained(checkpoint, method, folder, 0, 0, None)
    loss = next((line["loss"] for line in reversed(lines) if line.get("loss") is not None), None)
    return Trained(checkpoint, method, folder, int(lines[-1]["step"]), int(lines[-1]["total"]), loss)
