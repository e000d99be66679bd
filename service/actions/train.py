"""One training job from a file of rows, outside of any run: what makes the job, and its training.

The id of a job hashes what determines its weights, so that the same order again finds its checkpoint or goes on.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitution.errors import UserError
from service import devices

if TYPE_CHECKING:
    from pipeline import training_rows
    from pipeline.models.checkpoint import Manifest
    from pipeline.trainers import Job
    from service.settings import Settings
    from service.work.progress import Progress


@dataclass(frozen=True)
class EvaluationCallback:
    """What measures a policy while an online method trains it: the settings' evaluator, which compares with the answers
    of `rows` every `every` updates; beyond `kl_budget` nats an answer training stops (0: no budget)."""

    rows: Path | None = None
    every: int = 5
    kl_budget: float = 10.0


@dataclass(frozen=True)
class Order:
    """What is to be trained. `model`: a folder, `sandbox:policy`, a checkpoint's id, or `promoted`. `reward`: of an
    online method, folders of reward models, `package.module:function`, a URL, `judge`, or the kind of a plug-in, with
    `reward_options`. `lora`: of the adapter, or none for all weights. `names`: columns of the files by the names that
    they have here."""

    method: str
    data: Path
    model: str | Path
    out: Path
    evaluate: Path | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    lora: Mapping[str, Any] | None = None
    reward: Sequence[str] = ()
    reward_options: Mapping[str, Any] = field(default_factory=dict)
    callback: EvaluationCallback = EvaluationCallback()
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A job's checkpoint."""

    job: Job
    manifest: Manifest

    def as_dict(self) -> dict[str, Any]:
        made = self.manifest
        return {"path": self.job.out, "kind": made.kind, "digest": made.digest, "metrics": made.metrics}


def job(order: Order, settings: Callable[[], Settings], tell: Callable[[str], None] | None = None) -> Job:
    """The job of an order, checked: its method, model and rows are there, and its reward is. Loads no model.

    Rows that the file, the rows to evaluate on, or the project's store hold out are not trained on, and `tell` is told
    how many. `settings` say where that store is, and to an online method who rewards or measures it. Raises UserError
    for what is missing, or not wanted.
    """
    from constitution.records import job_id
    from pipeline import rewards, trainers, training_rows
    from pipeline.models import checks
    from pipeline.models.checkpoint import file_digest, weights_digest

    method, arguments = order.method.replace("-", "_"), dict(order.arguments)
    resolved = trainers.resolve(method, arguments, "--arg")
    _check(order)
    _check_out(order.out)
    model = Path(_folder(str(order.model), settings))
    checks.check_model_folder(model)
    checks.check_lora(model, order.lora, "--lora")
    columns = trainers.load(method).COLUMNS
    data, evaluate, chosen = _files(order, columns, settings)
    for why, count in chosen.left_out.items():
        if tell is not None:
            tell(f"{order.data}: {count} rows are left out: {why}")
    if order.names and order.callback.rows:
        rows = training_rows.read_rows(order.callback.rows, ("prompt", "answer"), order.names)
        order = replace(order, callback=replace(order.callback, rows=_copy(order, "watch", rows)))
    rewarded, watch = _online(method, order, settings)
    adapter = dict(order.lora) if order.lora else None
    determined = resolved | ({"lora": adapter} if adapter else {})
    if rewarded is not None:
        determined["reward"] = rewards.fingerprint(rewarded)
    if watch is not None:
        seen = {"judge": rewards.fingerprint(watch["judge"]), "dataset": file_digest(Path(watch["dataset"]))}
        determined["watch"] = {**watch, **seen}
    ident = job_id(
        parent=weights_digest(model), dataset=file_digest(data), method=method, arguments=determined,
        seed=order.seed,
    )  # fmt: skip
    return trainers.Job(
        id=ident.hex(), method=method, model=str(model), out=str(order.out), dataset=str(data),
        arguments=arguments, seed=order.seed, eval_dataset=str(evaluate) if evaluate else None,
        lora=adapter, device=order.device.partition(":")[0], dtype=order.dtype,
        reward=devices.inside(rewarded), watch=devices.inside(watch),
    )  # fmt: skip


def _files(
    order: Order, columns: Sequence[str], settings: Callable[[], Settings]
) -> tuple[Path, Path | None, training_rows.Chosen]:
    """The files to train on and to evaluate on: the order's, or where rows stay out, or columns have other names,
    copies beside the checkpoint that hold what is read of them."""
    from constitution.records import messages_of, split_group
    from pipeline import training_rows

    evaluated = training_rows.read_rows(order.evaluate, columns, order.names) if order.evaluate else []
    away = {split_group(messages_of(row["prompt"])) for row in evaluated}
    away |= _held_out(settings)
    chosen = training_rows.to_train_on(order.data, columns, order.names, away)
    if not chosen.rows:
        why = "; ".join(f"{count}: {why}" for why, count in chosen.left_out.items())
        raise UserError(f"{order.data}: no row of it may be trained on ({why})")
    data, evaluate = order.data, order.evaluate
    if order.names or chosen.left_out:
        data = _copy(order, "train", chosen.rows)
    if order.names and order.evaluate:
        evaluate = _copy(order, "eval", evaluated)
    return data, evaluate, chosen


def _copy(order: Order, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    from pipeline import training_rows
    from storage.artifacts import write_text

    path = Path(f"{order.out}.data") / f"{name}.jsonl"
    write_text(path, training_rows.text(rows))
    return path


def _held_out(settings: Callable[[], Settings]) -> set[str]:
    """The openings of the prompts that the project holds out: those of its settings, where they can be read, and those
    of its store, where there is one."""
    from pipeline import sources
    from pipeline.sources.rows import openings
    from storage.store import Store

    given, prompts = settings(), list[Any]()
    if given.prompts:
        with contextlib.suppress(UserError):  # another command's mistake, which tells it
            prompts += sources.read(given.prompts, sources.Splits(given.splits.heldout, given.splits.dev))
    url = given.store.get_secret_value()
    if not url.startswith("sqlite") or Path(url.partition(":///")[2].partition("?")[0]).is_file():
        with Store.open(url, home=given.home) as store:
            prompts += store.prompts()
    return {opening for opening, split in openings(prompts).items() if split != "train"}


def train(job: Job, report: Progress, device: str = "auto") -> Trained:
    """Train a job in a process of its own, which sees `device` alone, or in one on each of several (`cuda:0,1`); one
    that was stopped goes on, one that is done is found. Raises TrainingStopped where training went wrong; its last good
    state is in `job.resume`."""
    from pipeline import trainers

    with report.stage(f"train {job.method}", 1) as bar:

        def follow(_: Job, at: dict[str, Any]) -> None:
            shown = "reward" if at.get("reward") is not None else "loss"
            note = f"{shown} {at[shown]:.4f}" if at.get(shown) is not None else ""
            bar.reach(at.get("step", 0), at.get("total", bar.total), note)

        names = ("cuda:0",) if device == "auto" else devices.named(device)
        (manifest,) = trainers.launch(
            [job], on_progress=follow, say=lambda text: report.say(f"  {text}"), env=devices.seen_by(names),
            processes=len(names),
        )  # fmt: skip
    return Trained(job, manifest)


def _check(order: Order) -> None:
    """Raises UserError for what no training has: a device, a number format, a seed."""
    from pipeline.trainers import arguments

    arguments.check_lora(order.lora, "--lora", order.method.replace("-", "_"))
    devices.named(order.device, "--device")
    if order.dtype not in ("float32", "bfloat16"):
        raise UserError(f"--dtype {order.dtype}: it must be float32 or bfloat16")
    if not 0 <= order.seed < 2**32:
        raise UserError(f"--seed {order.seed}: it must be a whole number from 0 to {2**32 - 1}")
    if not math.isfinite(order.callback.kl_budget):
        raise UserError(f"--kl-budget {order.callback.kl_budget}: it must be a finite number, 0 for none")


def _check_out(out: Path) -> None:
    """Raises UserError where no checkpoint can be made at `out`: found out now, and not when it is trained."""
    if out == Path():
        raise UserError("--out: name a folder to make, as models/tuned")
    try:
        for name in (str(out), f"{out}.partial"):  # the longest name of those that are made beside it
            with contextlib.suppress(FileNotFoundError):
                Path(name).stat()
        if out.is_symlink() and not out.exists():
            raise UserError(f"--out {out}: it is a link to nothing; take it away, or choose another folder")
        if not out.exists():
            folder = out.absolute().parent
            with tempfile.TemporaryFile(dir=next(each for each in (folder, *folder.parents) if each.exists())):
                pass
    except OSError as error:
        raise UserError(f"--out {str(out)[:200]}: no folder can be made there: {error.strerror}") from None


def _folder(model: str, settings: Callable[[], Settings]) -> str:
    """The folder of a model: one that is there, that of a package (sandbox:policy), or a checkpoint's in the store."""
    from pipeline.plugins import packaged_model
    from service.wiring import CHECKPOINT, PROMOTED, Wiring

    if packaged := packaged_model(model):
        return packaged
    if Path(model).exists() or not (model == PROMOTED or CHECKPOINT.fullmatch(model)):
        return model
    with closing(Wiring(settings())) as wiring:
        return wiring.resolve(model)


def _online(
    method: str, order: Order, settings: Callable[[], Settings]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What rewards an online method, and what measures it."""
    from pipeline import rewards, trainers
    from service.wiring import Wiring

    callback = order.callback
    if not getattr(trainers.load(method), "ONLINE", False):
        if order.reward or order.reward_options or callback.rows:
            raise UserError(f"{method} learns from its rows alone: leave out --reward, --reward-arg and --watch")
        return None, None
    if not order.reward:
        raise UserError(f"{method} answers prompts itself: say with --reward what its answers are worth")
    against = str(callback.rows) if callback.rows else ""
    wiring = Wiring(settings())
    try:
        loaded = wiring.settings
        if list(order.reward) == ["judge"]:
            if not against:
                raise UserError("--reward judge compares with stored answers: name their file with --watch")
            spec = wiring.judge_spec(loaded.judge, loaded.constitution, against)
        else:
            spec = reward_spec(order.reward)
        watch = None
        if against:
            judge = wiring.judge_spec(loaded.evaluator, loaded.constitution, against)
            budget = callback.kl_budget or None
            watch = {"dataset": against, "judge": judge, "every": callback.every, "kl_budget": budget}
    finally:
        wiring.close()
    spec |= order.reward_options
    rewards.check(spec)
    return spec, watch


def reward_spec(given: Sequence[str]) -> dict[str, Any]:
    """Folders of reward models, one function, one URL, or a kind of reward, as `pipeline.rewards` takes them."""
    from pipeline import plugins, rewards

    given = [plugins.packaged_model(name) or name for name in given]
    if all(Path(name).is_dir() for name in given):
        return {"kind": "model", "paths": list(given)}
    if len(given) > 1:
        missing = next(name for name in given if not Path(name).is_dir())
        raise UserError(f"--reward {missing}: there is no such folder; an ensemble is of reward models' folders")
    (name,) = given
    if name.startswith(("http://", "https://")):
        return {"kind": "http", "url": name}
    if ":" in name:
        return {"kind": "function", "name": name}
    if name in rewards.kinds():
        return {"kind": name}
    raise UserError(
        f"--reward {name}: there is no such folder; give one, package.module:function, a URL, or a kind of reward "
        f"({', '.join(rewards.kinds())})"
    )
