"""`precept train`: one training job from a file of rows, outside of any run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from console.improving import STOPPED, Quiet
from console.options import Json, flags_of
from console.screen import put, put_json, tell


def train(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="sft, reward, dpo: a module of pipeline/trainers.")],
    data: Annotated[Path, typer.Option(metavar="FILE", help="JSONL in the method's columns.")],
    model: Annotated[Path, typer.Option(metavar="FOLDER", help="The model to begin with.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The checkpoint; it must not be there yet.")],
    evaluate: Annotated[Path | None, typer.Option("--eval", metavar="FILE", help="Held-out rows.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="An argument under TRL's name; repeatable.")
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Train an adapter, for example r=8; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train one model on one file of rows. Run again it goes on where it was stopped.

    Example: precept train dpo --data pairs.jsonl --model models/policy --out models/tuned --set beta=0.1
    """
    from constitution.records import job_id
    from flows.progress import Reporter
    from pipeline import trainers
    from pipeline.trainers import checks
    from pipeline.trainers.checkpoint import file_digest, weights_digest

    arguments = flags_of(set_)
    adapter = flags_of(lora) if lora else None
    resolved = trainers.resolve(method, arguments)
    checks.check_model_folder(model)
    checks.read_rows(data, trainers.load(method).COLUMNS)
    determined = resolved | ({"lora": adapter} if adapter else {})
    ident = job_id(
        parent=weights_digest(model), dataset=file_digest(data), method=method, arguments=determined, seed=seed
    )  # fmt: skip
    job = trainers.Job(
        id=ident.hex(), method=method, model=str(model), out=str(out), dataset=str(data), arguments=arguments,
        seed=seed, eval_dataset=str(evaluate) if evaluate else None, lora=adapter, device=device, dtype=dtype,
    )  # fmt: skip
    reporter = Reporter(quiet)
    try:
        with reporter.stage(f"train {method}", 1) as bar:

            def follow(_: trainers.Job, at: dict[str, Any]) -> None:
                note = f"loss {at['loss']:.4f}" if at.get("loss") is not None else ""
                bar.reach(at.get("step", 0), at.get("total", bar.total), note)

            (manifest,) = trainers.launch([job], on_progress=follow)
    except KeyboardInterrupt:
        tell(f"interrupted: the state is kept in {job.resume}; go on with the same command")
        raise
    except trainers.TrainingStopped as stop:
        tell(f"training was stopped: {stop}\nthe last good state is in {job.resume}")
        raise typer.Exit(STOPPED) from None
    if as_json:
        put_json({"path": str(out), "kind": manifest.kind, "digest": manifest.digest, "metrics": manifest.metrics})
        return
    put(f"{out}: a {manifest.kind.replace('_', ' ')}, digest {manifest.digest[:12]}")
    for name, value in manifest.metrics.items():
        put(f"  {name:<24}{value}")
