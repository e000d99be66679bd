"""`precept train`: one training job from a file of rows, outside of any run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import process
from cli.options import Json, Map, Quiet, SettingsFile, flags_of, load, names_of
from cli.screen import put, put_json, tell
from cli.start import STOPPED

if TYPE_CHECKING:
    from service.actions.train import Trained

METHODS = "sft, dpo, kto, orpo, reward, ppo, rloo, grpo or best-of-n: a module of pipeline/trainers."
Assignments = list[str] | None


def train(
    method: Annotated[str, typer.Option("--method", metavar="METHOD", help=METHODS)],
    data: Annotated[
        Path, typer.Option(metavar="FILE", help="Rows in the method's columns; online: prompts. docs/data.md")
    ],
    model: Annotated[
        str,
        typer.Option(metavar="MODEL", help="To begin with: a folder, sandbox:policy, a checkpoint's id, or promoted."),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The checkpoint; it must not be there yet.")],
    evaluate: Annotated[Path | None, typer.Option("--eval", metavar="FILE", help="Held-out rows.")] = None,
    map_: Map = None,
    arg: Annotated[
        Assignments, typer.Option("--arg", metavar="NAME=VALUE", help="An argument under TRL's name; repeatable.")
    ] = None,
    lora: Annotated[
        Assignments, typer.Option(metavar="NAME=VALUE", help="Train an adapter, for example r=8; repeatable.")
    ] = None,
    reward: Annotated[
        Assignments,
        typer.Option(
            metavar="REWARD",
            help="Online: a reward model's folder (several: an ensemble), package.module:function, a URL, judge, or a "
            "plug-in's name.",
        ),
    ] = None,
    reward_arg: Annotated[
        Assignments,
        typer.Option(metavar="NAME=VALUE", help="Of the reward: combine=minimum, length_penalty=0.1; repeatable."),
    ] = None,
    watch: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Online: rows of prompt and answer. The settings' evaluator compares with them."
        ),
    ] = None,
    watch_every: Annotated[int, typer.Option(min=1, help="Updates between evaluation steps.")] = 5,
    kl_budget: Annotated[float, typer.Option(min=0, help="Nats an answer; beyond, training stops. 0: none.")] = 10.0,
    settings: SettingsFile = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or cuda:1; cuda:0,1 train together.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    as_json: Json = False,
    quiet: Quiet = False,
    set_: Annotated[Assignments, typer.Option("--set", hidden=True)] = None,  # as --arg was called
    reward_set: Annotated[Assignments, typer.Option("--reward-set", hidden=True)] = None,  # as --reward-arg was
) -> None:
    """Train one model on one file of rows. Run again it goes on where it was stopped.

    Example: precept train --method dpo --data pairs.jsonl --model models/policy --out models/tuned --arg beta=0.1
    """
    from cli.progress import Reporter
    from pipeline.trainers import TrainingStopped
    from pipeline.trainers.memory import estimate
    from service.actions.train import EvaluationCallback, Order, job
    from service.actions.train import train as carry_out

    made = job(
        Order(
            method=method,
            data=data,
            model=model,
            out=out,
            evaluate=evaluate,
            arguments=flags_of(set_, "--set", "beta=0.1") | flags_of(arg, "--arg", "beta=0.1"),
            lora=flags_of(lora, "--lora", "r=8") or None,
            reward=reward or (),
            reward_options=flags_of([*(reward_set or ()), *(reward_arg or ())], "--reward-arg", "combine=minimum"),
            callback=EvaluationCallback(watch, watch_every, kl_budget),
            seed=seed,
            device=device,
            dtype=dtype,
            names=names_of(map_),
        ),
        partial(load, settings),
        tell,
    )
    if not quiet and not out.exists():
        tell(str(estimate(made)))
    try:
        done = carry_out(made, Reporter(quiet), device)
    except KeyboardInterrupt:
        process.signals.told = True
        tell(f"interrupted: the state is kept in {made.resume}; go on with the same command")
        raise
    except TrainingStopped as stop:
        tell(f"training was stopped: {stop}\nthe last good state is in {made.resume}")
        raise typer.Exit(STOPPED) from None
    put_json(done.as_dict()) if as_json else _show(done)


def _show(done: Trained) -> None:
    made = done.manifest
    put(f"{done.job.out}: a {made.kind.replace('_', ' ')}, digest {made.digest[:12]}")
    width = max(map(len, made.metrics), default=0) + 2
    for name, value in made.metrics.items():
        for place, each in enumerate(value if isinstance(value, list) else [value]):
            put(f"  {'' if place else name:<{width}}{f'{each:.6g}' if isinstance(each, float) else each}")
