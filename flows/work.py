"""One run at work: asks what is not stored yet, stores what comes back, and counts what it cost.

Here `pipeline` (which says what to ask) and `storage` (which knows what was answered) meet. Every batch is claimed,
asked and committed whole, with its place in the run, so that a run killed anywhere goes on from there, two runs never
ask the same thing, and nothing is asked of a model twice.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from constitution.principles import Constitution
from constitution.records import (
    Checkpoint,
    Comparison,
    Generation,
    Id,
    Label,
    Prompt,
    Verdict,
    canonical,
    job_id,
    make_id,
    text_digest,
)
from flows.budget import Budget
from flows.progress import Reporter
from flows.settings import Settings, TrainSettings, user
from flows.wiring import PROMOTED, Wiring
from pipeline import asking, compare, label, rewards, trainers
from pipeline.asking import Ask, Role
from pipeline.assemble import dataset_digest, write
from pipeline.judges.judge import Case, Judge
from pipeline.trainers import checks, memory
from pipeline.trainers.checkpoint import weights_digest
from pipeline.trainers.trainer import Job
from storage.artifacts import write_text
from storage.claims import Lease, StaleLease
from storage.runs import Run

LEASE = 300.0  # seconds a batch may take before another worker may have it
WAIT = 0.5  # seconds between looks at what another worker holds


class Work:
    """A run and everything it works with. Stages keep their results in the store; this object only finds them."""

    def __init__(self, wiring: Wiring, run: Run, report: Reporter) -> None:
        self.wiring, self.run, self.report = wiring, run, report
        self.settings: Settings = wiring.settings
        self.store = wiring.store
        self.constitution: Constitution = wiring.constitution
        self.budget = Budget(self.settings.limits)
        self.home = Path(self.settings.home).resolve()
        self.folder = self.home / run.id.hex()[:12]
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"
        self.who = user()
        self.started = time.monotonic()
        self.seconds: dict[str, float] = {}  # by stage
        self._trainers: trainers.Worker | None = None
        self._bury_the_dead()

    @property
    def finished(self) -> dict[str, Any] | None:
        """The result of a run that was finished before, with what it costs now: nothing."""
        if self.run.status != "finished":
            return None
        calls = self.run.result["calls"]
        return {**self.run.result, "calls": {"generated": 0, "chosen": 0, "reused": sum(calls.values())}}

    # --- prompts and stored records --------------------------------------------------------------------------------

    def prompts(self, split: str, most: int | None = None) -> list[Prompt]:
        """This run's prompts of a split, in the run's order."""
        members = self.store.prompts(ids=self.store.stage_members(self.run.id, "prompts"))
        return [p for p in members if p.split == split][:most]

    def generations(self, stage: str) -> list[Generation]:
        return self.store.generations_of(self.run.id, stage)

    def members(self, stage: str) -> list[Id]:
        return self.store.stage_members(self.run.id, stage)

    # --- asking ----------------------------------------------------------------------------------------------------

    def gather(self, stage: str, asks: Sequence[Ask], role: Role, batch: int) -> list[Generation]:
        """The answers to a plan, in its order: stored ones looked up, missing ones asked for, all in the run."""
        store = self.store
        place: dict[Id, int] = {}
        for ordinal, a in enumerate(asks):
            place.setdefault(a.id, ordinal)
        have = store.have_generations(list(place))
        self.budget.reused += len(have)
        if have:
            stored = [i for i in place if i in have]
            store.add_members(self.run.id, stage, stored, [place[i] for i in stored])
        with self.report.stage(stage, len(place) - len(have)) as progress:
            for planned in asking.batches(asks, batch):
                missing = [a for a in planned if a.id not in have]
                while missing:
                    with self._claimed("generation", [a.id for a in missing]) as lease:
                        have |= store.have_generations([a.id for a in missing])
                        mine = [a for a in missing if a.id in lease.ids and a.id not in have]
                        if mine:
                            self.budget.afford(len(mine))
                            began = time.monotonic()
                            made = asking.answer(mine, role.engine)
                            self.budget.time("generate", len(made), time.monotonic() - began)
                            self.budget.generated += len(made)
                            self.budget.tokens += sum(g.prompt_tokens + g.tokens for g in made)
                            slots = [place[g.id] for g in made]
                            kept = store.add_generations(
                                made, run=self.run.id, stage=stage, ordinals=slots, lease=lease
                            )
                            have |= {g.id: g for g in kept}
                            progress.advance(len(made))
                    missing = [a for a in missing if a.id not in have]
                    if missing:
                        time.sleep(WAIT)  # another worker has them: it finishes, or its lease ends
        late = [i for i in place if i in have]  # what another worker wrote meanwhile is a member all the same
        store.add_members(self.run.id, stage, late, [place[i] for i in late])
        return [have[a.id] for a in asks]

    def compare(self, stage: str, pairs: Sequence[tuple[Generation, Generation]]) -> list[Id | None]:
        """Store the comparisons of some pairs; the id of each, None where both texts are the same."""
        made = [compare.pair(one, other) for one, other in pairs]
        kept: dict[Id, tuple[Comparison, list[Id]]] = {}
        for comparison, (one, other) in zip(made, pairs, strict=True):
            if comparison is not None:
                kept.setdefault(comparison.id, (comparison, []))[1].extend([one.id, other.id])
        self.store.add_comparisons(
            [c for c, _ in kept.values()], origins=[sorted(set(o)) for _, o in kept.values()],
            run=self.run.id, stage=stage, ordinals=list(range(len(kept))),
        )  # fmt: skip
        return [c.id if c else None for c in made]

    def ask_judge(
        self,
        stage: str,
        judge: Judge,
        comparisons: Sequence[Id],
        only: Mapping[Id, Set[Id]] | None = None,
        constitution: Constitution | None = None,
    ) -> None:
        """Have the judge answer each principle's question about each comparison, both orders, where it has not.

        `only`: by comparison, the questions to be asked where it is not all of them. `constitution`: this run's, or
        another whose principles are asked about besides.
        """
        constitution = constitution or self.constitution
        store, plan = self.store, sorted(set(comparisons))
        by_question = {judge.question(p).id: p for p in constitution.principles}
        store.add_questions(
            [judge.question(p) for p in constitution.principles],
            constitution=constitution.version, run=self.run.id, stage=f"{stage}.questions",
        )  # fmt: skip

        def lacking(ids: Sequence[Id]) -> dict[Id, list[Id]]:
            found: dict[Id, list[Id]] = {}
            for c, q in store.missing_verdicts(ids, list(by_question)):
                if only is None or q in only[c]:
                    found.setdefault(c, []).append(q)
            return found

        missing = lacking(plan)
        total = sum(len(q) for q in missing.values())
        wanted = len(plan) * len(by_question) if only is None else sum(len(only[c]) for c in plan)
        self.budget.reused += wanted - total
        with self.report.stage(stage, total) as progress:
            for batch in compare.judging_batches(missing, plan, self.settings.compare.questions_per_batch):
                while batch:
                    units = {make_id("verdict", c=c, q=q): (c, q) for c, asked in batch.items() for q in asked}
                    mine: dict[Id, list[Id]] = {}
                    with self._claimed("verdict", list(units)) as lease:
                        still = set(store.missing_verdicts(list(batch), list(by_question)))
                        for unit in lease.ids:
                            c, q = units[unit]
                            if (c, q) in still:
                                mine.setdefault(c, []).append(q)
                        if mine:
                            verdicts = self._ask_batch(judge, self._cases(mine, by_question))
                            store.add_verdicts(verdicts, run=self.run.id, stage=stage, lease=lease)
                            progress.advance(len(verdicts))
                    batch = lacking(list(batch))
                    if batch and not mine:
                        time.sleep(WAIT)

    @contextmanager
    def _claimed(self, what: str, ids: Sequence[Id]) -> Iterator[Lease]:
        """A lease on what nobody else holds, given back whatever happens. When it was lost to another worker, what
        came of it was not written, and the caller looks again at what is missing."""
        lease = self.store.claim(what, ids, self.worker, LEASE)
        try:
            yield lease
        except StaleLease as lost:
            self.report.say(f"  {lost}: looking again")
        finally:
            self.store.release(lease)

    def _ask_batch(self, judge: Judge, cases: Sequence[Case]) -> list[Verdict]:
        questions = 2 * sum(len(case.principles) for case in cases)
        self.budget.afford(questions)
        began = time.monotonic()
        verdicts = judge.judge(cases)
        self.budget.time("judge", len(verdicts), time.monotonic() - began)
        self.budget.chosen += questions
        return verdicts

    def _cases(self, asked: dict[Id, list[Id]], principles: dict[Id, Any]) -> list[Case]:
        return [
            Case(p.comparison, p.messages, p.first, p.second, tuple(principles[q] for q in asked[p.comparison.id]))
            for p in self.store.pairs(list(asked))
        ]

    def cases(self, comparisons: Sequence[Id]) -> dict[Id, Case]:
        """Comparisons with their texts, by id."""
        return {
            p.comparison.id: Case(p.comparison, p.messages, p.first, p.second, self.constitution.principles)
            for p in self.store.pairs(list(comparisons))
        }

    def labels(self, judge: Judge, comparisons: Sequence[Id]) -> dict[Id, Label]:
        """The labels of comparisons under this run's constitution and rule: a query, no model."""
        weights = label.weights(self.constitution, judge)
        found = self.store.labels(sorted(set(comparisons)), weights, self.settings.rule())
        return {x.comparison: x for x in found}

    def consistency(self, judge: Judge, comparisons: Sequence[Id]) -> dict[Id, label.Consistency]:
        questions = [judge.question(p).id for p in self.constitution.principles]
        return label.consistency(self.store.verdicts(sorted(set(comparisons)), questions), self.settings.label.min_mass)

    # --- training --------------------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Start the training process now: its imports take seconds that generation can use."""
        if self._trainers is None:
            self._trainers = trainers.Worker()
        self._trainers.start()

    def train(
        self,
        stage: str,
        settings: TrainSettings,
        parent: str,
        rows: Sequence[dict[str, Any]],
        heldout: Sequence[dict[str, Any]] | None = None,
        *,
        reward: Mapping[str, Any] | None = None,
        watch: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> Checkpoint:
        """Train a model on rows, in the training process; a checkpoint that is there already is used as it is. Online
        methods are rewarded by `reward` and looked at by `watch`, as `pipeline.trainers.trainer` says."""
        seed = self.settings.seed if seed is None else seed
        digest, parent_digest = dataset_digest(rows), self.digest_of(parent)
        given = self._as_asked(settings)
        arguments = trainers.resolve(settings.method, given)
        if settings.lora is not None:
            arguments["lora"] = settings.lora
        if reward is not None:
            arguments["reward"] = rewards.fingerprint(reward)
        if watch is not None:
            arguments["watch"] = {
                **watch,
                "judge": rewards.fingerprint(watch["judge"]),
                "dataset": Path(watch["dataset"]).stem,
            }
        ident = job_id(parent=parent_digest, dataset=digest, method=settings.method, arguments=arguments, seed=seed)
        folder = self.home / "checkpoints" / f"{settings.method}-{ident.hex()[:16]}"
        data = self.home / "datasets" / f"{digest[:16]}.jsonl"
        write_text(data, write(rows))
        evaluated = None
        if heldout:
            evaluated = self.home / "datasets" / f"{dataset_digest(heldout)[:16]}.jsonl"
            write_text(evaluated, write(heldout))
        job = Job(
            id=ident.hex(), method=settings.method, model=parent, out=str(folder), dataset=str(data),
            arguments=given, seed=seed,
            eval_dataset=str(evaluated) if evaluated else None, lora=settings.lora,
            device=self.settings.policy.device, dtype=self.settings.policy.dtype,
            card={"constitution": self.constitution.version, "run": self.run.id.hex(), "rows": len(rows)},
            reward=reward, watch=watch,
        )  # fmt: skip
        self.warm_up()
        assert self._trainers is not None
        began = time.monotonic()
        if not folder.exists() and Path(parent).is_dir():
            checks.check_model_folder(Path(parent))
            self.report.say(f"  {stage}: {memory.estimate(job)}")
        with self.report.stage(stage, 1) as bar:
            result = self._trainers.run(job, on_progress=_follow(bar))
            if not bar.done:
                bar.total = 0  # the checkpoint was there: nothing to tell
        self.seconds["training"] = self.seconds.get("training", 0.0) + time.monotonic() - began
        checkpoint = Checkpoint(
            id=ident, kind=result.kind, method=settings.method, path=str(folder),
            digest=result.digest, parent=parent_digest, dataset=digest, constitution=self.constitution.version,
            metrics=result.metrics,
        )  # fmt: skip
        self.store.add_checkpoint(checkpoint, run=self.run.id)
        return checkpoint

    def _as_asked(self, settings: TrainSettings) -> dict[str, Any]:
        """The arguments of a training, its chats rendered as the trained model will be asked (without a thinking block
        where thinking is off), unless they say otherwise."""
        template = (self.settings.trained or self.settings.policy).template_args
        takes = "chat_template_kwargs" in trainers.load(settings.method).DEFAULTS
        return {**({"chat_template_kwargs": template} if template and takes else {}), **settings.arguments}

    def digest_of(self, model: str) -> str:
        """Digest of a model folder's weights: a checkpoint's manifest, or else the files themselves."""
        return weights_digest(Path(model))

    # --- the end ---------------------------------------------------------------------------------------------------

    def timed(self, name: str, began: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def clock(self) -> dict[str, float]:
        """Seconds: in all, until work began, loading models, asking them (for texts, for verdicts), training."""
        asking_seconds = sum(seconds for _, seconds in self.budget.rates.values())
        spent = {"startup": 0.0, "models": 0.0, "training": 0.0} | self.seconds
        total = spent["startup"] + time.monotonic() - self.started
        rates = self.budget.rates
        split = {
            name: rates[what][1] for name, what in (("generating", "generate"), ("judging", "judge")) if what in rates
        }
        return {"total": total, **spent, "asking": asking_seconds, **split}

    def close(self) -> None:
        if self._trainers is not None:
            self._trainers.close()
            self._trainers = None
        self.store.release_worker(self.worker)

    def _bury_the_dead(self) -> None:
        """Give back what processes of this machine held that are no more: their leases would keep us waiting."""
        host = socket.gethostname()
        for worker in self.store.workers():
            name, pid, _ = worker.rsplit(":", 2)
            if name == host and not _alive(int(pid)):
                self.store.release_worker(worker)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _follow(bar: Any) -> Callable[[Job, dict[str, Any]], None]:
    def follow(job: Job, at: dict[str, Any]) -> None:
        bar.total = at.get("total", bar.total)
        shown = "reward" if at.get("reward") is not None else "loss"
        bar.reach(at.get("step", 0), bar.total, f"{shown} {at[shown]:.4f}" if at.get(shown) is not None else "")

    return follow


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
