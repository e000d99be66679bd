"""`precept train`: one training job from a file of rows, outside of any run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.improve import STOPPED, Quiet
from cli.options import Json, SettingsFile, flags_of, load
from cli.screen import put, put_json, tell
from constitution.errors import UserError

if TYPE_CHECKING:
    from pipeline.trainers import Job

METHODS = "sft, dpo, kto, orpo, reward, ppo, rloo, grpo or best-of-n: a module of pipeline/trainers."


def train(
    method: Annotated[str, typer.Option("--method", metavar="METHOD", help=METHODS)],
    data: Annotated[Path, typer.Option(metavar="FILE", help="JSONL in the method's columns; online: prompts.")],
    model: Annotated[Path, typer.Option(metavar="FOLDER", help="The model to begin with.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The checkpoint; it must not be there yet.")],
    evaluate: Annotated[Path | None, typer.Option("--eval", metavar="FILE", help="Held-out rows.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="An argument under TRL's name; repeatable.")
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Train an adapter, for example r=8; repeatable.")
    ] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REWARD",
            help="Online: a reward model's folder (several: an ensemble), package.module:function, a URL, or judge.",
        ),
    ] = None,
    reward_set: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of the reward: combine=minimum, length_penalty=0.1; repeatable."),
    ] = None,
    watch: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Online: rows of prompt and answer. The settings' evaluator compares with them."
        ),
    ] = None,
    watch_every: Annotated[int, typer.Option(min=1, help="Updates between looks.")] = 5,
    kl_budget: Annotated[float, typer.Option(min=0, help="Nats an answer; beyond, training stops. 0: none.")] = 10.0,
    settings: SettingsFile = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train one model on one file of rows. Run again it goes on where it was stopped.

    Example: precept train --method dpo --data pairs.jsonl --model models/policy --out models/tuned --set beta=0.1
    """
    from cli.progress import Reporter
    from constitution.records import job_id
    from pipeline import rewards, trainers
    from pipeline.trainers import checks
    from pipeline.trainers.checkpoint import file_digest, weights_digest
    from pipeline.trainers.memory import estimate

    method = method.replace("-", "_")
    arguments = flags_of(set_)
    adapter = flags_of(lora) if lora else None
    resolved = trainers.resolve(method, arguments)
    checks.check_model_folder(model)
    checks.read_rows(data, trainers.load(method).COLUMNS)
    rewarded, watched = _online(method, reward or [], flags_of(reward_set), watch, watch_every, kl_budget, settings)
    determined = resolved | ({"lora": adapter} if adapter else {})
    if rewarded is not None:
        determined["reward"] = rewards.fingerprint(rewarded)
    if watched is not None:
        seen = {"judge": rewards.fingerprint(watched["judge"]), "dataset": file_digest(Path(watched["dataset"]))}
        determined["watch"] = {**watched, **seen}
    ident = job_id(
        parent=weights_digest(model), dataset=file_digest(data), method=method, arguments=determined, seed=seed
    )  # fmt: skip
    job = trainers.Job(
        id=ident.hex(), method=method, model=str(model), out=str(out), dataset=str(data), arguments=arguments,
        seed=seed, eval_dataset=str(evaluate) if evaluate else None, lora=adapter, device=device, dtype=dtype,
        reward=rewarded, watch=watched,
    )  # fmt: skip
    if not quiet and not out.exists():
        tell(str(estimate(job)))
    _report(job, _run(job, Reporter(quiet)), as_json)


def _run(job: Job, reporter: Any) -> Any:
    from pipeline import trainers

    try:
        with reporter.stage(f"train {job.method}", 1) as bar:

            def follow(_: Job, at: dict[str, Any]) -> None:
                shown = "reward" if at.get("reward") is not None else "loss"
                note = f"{shown} {at[shown]:.4f}" if at.get(shown) is not None else ""
                bar.reach(at.get("step", 0), at.get("total", bar.total), note)

            (manifest,) = trainers.launch([job], on_progress=follow)
    except KeyboardInterrupt:
        tell(f"interrupted: the state is kept in {job.resume}; go on with the same command")
        raise
    except trainers.TrainingStopped as stop:
        tell(f"training was stopped: {stop}\nthe last good state is in {job.resume}")
        raise typer.Exit(STOPPED) from None
    return manifest


def _report(job: Job, manifest: Any, as_json: bool) -> None:
    if as_json:
        put_json({"path": job.out, "kind": manifest.kind, "digest": manifest.digest, "metrics": manifest.metrics})
        return
    put(f"{job.out}: a {manifest.kind.replace('_', ' ')}, digest {manifest.digest[:12]}")
    for name, value in manifest.metrics.items():
        put(f"  {name:<24}{value}")


def _online(
    method: str, reward: list[str], options: dict[str, Any], watch: Path | None, every: int, budget: float,
    settings: Path | None,
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:  # fmt: skip
    """What rewards an online method and who watches it. Raises UserError where one is missing, or is not wanted."""
    from pipeline import rewards, trainers
    from service.wiring import Wiring

    if not getattr(trainers.load(method), "ONLINE", False):
        if reward or watch:
            raise UserError(f"{method} learns from its rows alone: leave out --reward and --watch")
        return None, None
    if not reward:
        raise UserError(f"{method} answers prompts itself: say with --reward what its answers are worth")
    against = str(watch) if watch else ""
    wiring = Wiring(load(settings))
    try:
        loaded = wiring.settings
        if reward == ["judge"]:
            if not against:
                raise UserError("--reward judge compares with stored answers: name their file with --watch")
            spec = wiring.judge_spec(loaded.judge, loaded.constitution, against)
        else:
            spec = reward_spec(reward)
        looked = None
        if watch:
            judge = wiring.judge_spec(loaded.evaluator, loaded.constitution, against)
            looked = {"dataset": against, "judge": judge, "every": every, "kl_budget": budget or None}
    finally:
        wiring.close()
    spec |= options
    rewards.check(spec)
    return spec, looked


def reward_spec(given: list[str]) -> dict[str, Any]:
    """Folders of reward models, one function, or one URL, as `pipeline.rewards` takes them."""
    if all(Path(name).is_dir() for name in given):
        return {"kind": "model", "paths": given}
    if len(given) > 1:
        missing = next(name for name in given if not Path(name).is_dir())
        raise UserError(f"--reward {missing}: there is no such folder; an ensemble is of reward models' folders")
    (name,) = given
    if name.startswith(("http://", "https://")):
        return {"kind": "http", "url": name}
    if ":" in name:
        return {"kind": "function", "name": name}
    raise UserError(f"--reward {name}: there is no such folder; give one, package.module:function, a URL, or judge")
