"""Training: a model on rows, in a process of its own; a checkpoint that is there already is used as it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from constitution.records import Checkpoint, Id, canonical, job_id
from pipeline import rewards, trainers
from pipeline.assemble import Row
from pipeline.models import checks
from pipeline.models.checkpoint import weights_digest
from pipeline.trainers import memory
from pipeline.trainers.trainer import Job
from service import devices, placement
from service.settings import TrainSettings
from service.wiring import Wiring
from service.work.holding import WAIT, Holding
from service.work.progress import Progress
from storage.artifacts import write_lines
from storage.claims import Lease, StaleLease
from storage.runs import Run

SHOWN = 60.0  # seconds until a folder that machines share shows what one of them made in it


@dataclass(frozen=True)
class DataSet:
    """Rows on disk, in a file that is named by their digest."""

    path: Path
    digest: str
    rows: int


class Training(Holding):
    def __init__(self, wiring: Wiring, run: Run, *, who: str, report: Progress) -> None:
        super().__init__(wiring, run, who=who, report=report)
        self.seconds: dict[str, float] = {}  # by stage
        self.made: list[str] = []  # folders of what the training steps gave, in their order
        self.untrained: list[str] = []  # why a step had nothing to learn from
        self._trainers: trainers.Worker | None = None

    def warm_up(self) -> None:
        """Start the training process now: its imports take seconds that generation can use."""
        if self._trainers is None:
            names, how = placement.training_devices(self.settings), self.settings.placement
            # One that was not named may be a GPU that nobody but torch knows of.
            names = ("cuda:0",) if {how.training, self.settings.policy.device} == {"", "auto"} else names
            count = placement.processes(self.settings)
            self._trainers = trainers.Worker(devices.seen_by(names), processes=count, config=how.accelerate)
        self._trainers.start()

    def data_set(self, rows: Iterable[Row], name: str = "") -> DataSet:
        """Write rows as they come; none is held. `name`: what stands before the digest in the file's name."""
        lines = (canonical(row) for row in rows)
        path, digest, count = write_lines(self.home / "datasets", lines, lambda d: f"{name}{d[:16]}.jsonl")
        return DataSet(path, digest, count)

    def train(
        self,
        stage: str,
        settings: TrainSettings,
        parent: str,
        rows: DataSet,
        heldout: DataSet | None = None,
        *,
        reward: Mapping[str, Any] | None = None,
        watch: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> Checkpoint:
        """Train a model on rows, in the training process; a checkpoint that is there already is used as it is. Online
        methods are rewarded by `reward` and measured as `watch` says, as `pipeline.trainers.trainer` says."""
        seed = self.settings.seed if seed is None else seed
        digest, parent_digest = rows.digest, self.digest_of(parent)
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
        job = Job(
            id=ident.hex(), method=settings.method, model=parent, out=str(folder), dataset=str(rows.path),
            arguments=given, seed=seed,
            eval_dataset=str(heldout.path) if heldout is not None and heldout.rows else None, lora=settings.lora,
            device=placement.family(self.settings), dtype=self.settings.policy.dtype,
            card={"constitution": self.constitution.version, "run": self.run.id.hex(), "rows": rows.rows},
            reward=devices.inside(reward), watch=devices.inside(watch),
        )  # fmt: skip
        while True:
            try:
                return self._alone(stage, job, Path(parent), (parent_digest, digest))
            except StaleLease as lost:
                self.report.say(f"  {stage}: {lost}; looking again")

    def _alone(self, stage: str, job: Job, parent: Path, digests: tuple[str, str]) -> Checkpoint:
        """Train a job that no other worker trains. One that another trains is waited for. `digests`: of the parent's
        weights, and of the data set."""
        ident, folder = bytes.fromhex(job.id), Path(job.out)
        with self.alone("training", ident, stage) as (lease, waited):
            if waited:
                self._refuse_out_of_reach(stage, ident, folder)
            self.warm_up()
            assert self._trainers is not None
            began = time.monotonic()
            if not folder.exists() and parent.is_dir():
                checks.check_model_folder(parent)
                self.report.say(f"  {stage}: {memory.estimate(job, placement.processes(self.settings))}")
                self.wiring.make_room(
                    placement.training_devices(self.settings),
                    devices.addresses(job.reward) | devices.addresses(job.watch),
                )
            with self.report.stage(stage, 1) as bar:
                result = self._trainers.run(job, on_progress=self._follow(bar, lease), say=self.log)
                if not bar.done:
                    bar.total = 0  # the checkpoint was there: nothing to tell
            self.seconds["training"] = self.seconds.get("training", 0.0) + time.monotonic() - began
            checkpoint = Checkpoint(
                id=ident, kind=result.kind, method=job.method, path=str(folder), digest=result.digest,
                parent=digests[0], dataset=digests[1], constitution=self.constitution.version, metrics=result.metrics,
            )  # fmt: skip
            self.store.add_checkpoint(checkpoint, run=self.run.id)
        self.made.append(checkpoint.path)
        return checkpoint

    def _refuse_out_of_reach(self, stage: str, ident: Id, folder: Path) -> None:
        """Raise UserError where another worker has trained it and this machine does not see the checkpoint. A folder
        that machines share shows what another made in it after a while."""
        gives_up = time.monotonic() + SHOWN
        while not folder.exists() and any(known.id == ident for known in self.store.checkpoints()):
            if time.monotonic() > gives_up:
                raise UserError(
                    f"{stage} was trained by another worker of this run, and {folder} is not on this machine: workers "
                    "on several machines need one home that all of them reach (home = a shared folder)"
                )
            time.sleep(WAIT)

    def _follow(self, bar: Any, lease: Lease) -> Callable[[Job, dict[str, Any]], None]:
        def follow(job: Job, at: dict[str, Any]) -> None:
            if self.lost(lease) and self._trainers is not None:
                self._trainers.kill()  # it saves nothing where another trains now
                raise StaleLease(f"{self.worker} was gone for too long, and another worker trains this now")
            bar.total = at.get("total", bar.total)
            shown = "reward" if at.get("reward") is not None else "loss"
            bar.reach(at.get("step", 0), bar.total, f"{shown} {at[shown]:.4f}" if at.get(shown) is not None else "")

        return follow

    def _as_asked(self, settings: TrainSettings) -> dict[str, Any]:
        """The arguments of a training, its chats rendered as the trained model will be asked (without a thinking block
        where thinking is off), unless they say otherwise."""
        template = (self.settings.trained or self.settings.policy).template_args
        takes = "chat_template_kwargs" in trainers.load(settings.method).DEFAULTS
        return {**({"chat_template_kwargs": template} if template and takes else {}), **settings.arguments}

    def digest_of(self, model: str) -> str:
        """Digest of a model folder's weights: a checkpoint's manifest, or else the files themselves."""
        return weights_digest(Path(model))

    def close(self) -> None:
        if self._trainers is not None:
            self._trainers.close()
            self._trainers = None
        super().close()
