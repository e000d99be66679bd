"""What a flow would find out late, told before it begins: hours may lie between its first step and its last.

Settings alone come first, then files, then models and servers. Nothing is asked, no model is loaded, no run is begun,
and Prefect is not needed. A run that is finished needs no model any more, so what is missing for it is no mistake.

Left out: what only a model can say (`doctor` asks them), and what a step of the loop makes first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pipeline.engines
from constitution.errors import UserError
from constitution.streams import parts
from pipeline import rewards, suites, trainers
from pipeline.engines import thinking
from pipeline.models import checks
from pipeline.sources.file import located
from pipeline.sources.openings import Openings
from pipeline.sources.rows import MOST_SHOWN, naming, pair_kind, read
from pipeline.trainers import arguments
from service import placement
from service.queries import trials
from service.queries.estimate import find
from service.settings import JudgeSettings, OptimiseSettings, RoleSettings, Settings
from service.wiring import Wiring
from service.work.life import as_they_open

ASKS = {  # the roles that each flow asks
    "respond": ("policy",),
    "revise": ("policy", "critic", "judge"),
    "judge": ("judge",),
    "relabel": ("judge",),
    "evaluate": ("policy", "trained", "evaluator"),
    **dict.fromkeys(("improve", "retrain", "sweep"), ("policy", "critic", "trained", "judge", "evaluator")),
}
TRAINS = ("improve", "retrain", "sweep")
MEASURES = (*TRAINS, "evaluate")
TRIES = (*MEASURES, "judge")  # a judge, or the evaluator, on known pairs
TAKES = {"sft": {"prompt", "completion"}, "reward": {"prompt", "chosen", "rejected", "p"}}  # the columns of their rows


def check(kind: str, wiring: Wiring, *, pool: bool = True) -> None:
    """Raises the UserError that a flow of this kind would raise on its way. A flow that is not the house's own is left
    to itself. `pool` False leaves out prompts that a retrain takes from a run that there may not be yet."""
    if kind not in ASKS:
        return
    try:
        check_settings(kind, wiring)
        _files(kind, wiring, pool)
        for name in ASKS[kind]:
            _role(name, wiring)
        if kind == "evaluate":
            _candidate(wiring)
        if kind in ("improve", "sweep"):
            _adapters(wiring)
        _placement(kind, wiring, pool)
        _writable(wiring.settings.home, "home")
        if file := _store_file(wiring.settings):
            _writable(file.parent, "store")
        assert wiring.store is not None  # opened now: a database that cannot be reached is told of, too
        if kind in TRAINS:  # the last, because it reads weights
            wiring.refuse_one_model_twice()
    except UserError:
        if pool and _finished(kind, wiring):
            return
        raise


def check_settings(kind: str, wiring: Wiring) -> None:
    """As `check`, of what settings alone tell: no file is opened, no model has to be at hand, and nothing is made."""
    _settings(kind, wiring)
    _home(wiring.settings)
    for name in ASKS[kind]:
        if (role := getattr(wiring.settings, name)) is not None:
            with _of(name):
                thinking.tags_named(role.template_args)


def check_plan(kind: str, wiring: Wiring) -> None:
    """As `check_settings`, and of the roles what can be told where their models are not at hand: the engines and judges
    that they name are there, and have these options."""
    check_settings(kind, wiring)
    for name in ASKS[kind]:
        if (role := getattr(wiring.settings, name)) is not None:
            with _of(name):
                pipeline.engines.load(role.kind)
                if isinstance(role, JudgeSettings):
                    wiring.check_judge(role, at_hand=False)


def check_evaluator(wiring: Wiring) -> None:
    """Raises UserError where the evaluator is the judge, which a run would refuse. Models that are not at hand yet are
    no mistake here, and a run that is finished asks neither."""
    try:
        for name in ("judge", "evaluator"):
            _role(name, wiring)
    except UserError:
        return
    if not _finished("improve", wiring):
        wiring.refuse_one_model_twice()


@contextmanager
def _of(name: str) -> Iterator[None]:
    """A mistake is told with the setting that it is in."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


# --- settings alone ----------------------------------------------------------------------------------------------


def _settings(kind: str, wiring: Wiring) -> None:
    settings = wiring.settings
    placement.local(settings, ASKS[kind], kind in TRAINS)  # each names devices
    if kind in TRAINS:
        placement.check_settings(settings)
        _training(settings)
        _reward(wiring, settings.optimise)
    if kind == "sweep":
        _sweep(settings)
    if kind in MEASURES:
        with _of("evaluate.suites"):
            suites.check(suites.chosen(settings.evaluate.suites), settings.gate.suites)
        if settings.evaluate.reading and wiring.code_measures:
            raise UserError("evaluate.reading asks the evaluator, which has no model: name one, or leave it out")
        if settings.evaluate.reading and settings.evaluator.method == "reward":
            raise UserError(
                "evaluate.reading: the evaluator is a reward model, which answers no question; leave it out"
            )
        wiring.oracle()
    if kind == "evaluate" and not settings.evaluate.candidate:
        raise UserError("name the model to measure: precept model evaluate MODEL")
    if kind == "judge" and not settings.pairs:
        raise UserError("name the pairs: precept judge pairs FILE.jsonl (or pairs = in the settings)")


def _training(settings: Settings) -> None:
    """Each method is one of its kind, takes the rows that it will be given, and reads its arguments."""
    for method, given in settings.arguments.items():
        trainers.resolve(method, given, f"arguments.{method}")
    for name, kind in (("sft", "policy"), ("reward", "reward_model"), ("optimise", "policy")):
        training = getattr(settings, name)
        module = trainers.load(training.method)
        if kind != module.KIND:
            raise UserError(f"{name}.method is {training.method!r}, which trains a {module.KIND.replace('_', ' ')}")
        if name in TAKES and not {"prompt"} < set(module.COLUMNS) <= TAKES[name]:
            raise UserError(
                f"{name}.method is {training.method!r}, which learns from rows of {', '.join(module.COLUMNS)}; here "
                f"there are {', '.join(sorted(TAKES[name]))}"
            )
        shared = settings.arguments.get(training.method, {}) if name == "optimise" else {}
        trainers.resolve(training.method, {**shared, **training.arguments}, f"{name}.arguments")
        arguments.check_lora(training.lora, f"{name}.lora", training.method)


def _reward(wiring: Wiring, settings: OptimiseSettings) -> None:
    """What rewards an online method; its gaps a run fills in with its own reward models, or its own judge."""
    if not settings.reward:
        return
    kind = settings.reward.get("kind", "model")
    if not isinstance(kind, str):
        raise UserError(f"optimise.reward: kind is {kind!r}; it must be the name of a kind of reward, in quotes")
    with _of("optimise.reward"):
        spec = wiring.resolved_reward({"kind": kind, **settings.reward})
        if kind == "rule" and not {"checks", "constitution"} & spec.keys():  # the run's own constitution
            spec["constitution"] = str(wiring.settings.constitution)
        if kind == "model" and "paths" not in spec:
            rewards.check_options({**spec, "paths": ["this run's own"]})
        elif kind == "judge" and "engine" not in spec:
            own = wiring.judge_spec(
                wiring.unsettled(wiring.settings.judge), wiring.settings.constitution, "this run's own answers"
            )
            rewards.check_options({**own, **spec})
        else:
            rewards.check(spec)


def _sweep(settings: Settings) -> None:
    from service.work.frontier import plan

    if not settings.sweep.methods:
        raise UserError("sweep.methods names no method; write for example {ppo = [0, 0.05], dpo = []}")
    for point, _ in plan(settings):
        module = trainers.load(point.method)
        if module.KIND != "policy":
            raise UserError(f"sweep.methods: {point.method} trains a {module.KIND.replace('_', ' ')}, and no policy")
        shared = settings.arguments.get(point.method, {})
        trainers.resolve(point.method, {**shared, **point.arguments}, f"sweep.methods.{point.method}")


# --- files -------------------------------------------------------------------------------------------------------


def _files(kind: str, wiring: Wiring, pool: bool) -> None:
    settings, _ = wiring.settings, wiring.constitution
    if kind == "judge":
        _rows(settings, settings.pairs, "pairs")
    if kind in TRAINS and settings.reward.human:
        _rows(settings, settings.reward.human, "reward.human")
    if kind in TRIES:
        with _of("trial"):
            trials.named_pairs(settings)
    if kind == "judge" and not settings.prompts:
        return
    if kind in ("retrain", "relabel") and not pool:
        return
    _named_principles(wiring)
    given = _splits(wiring)
    if kind in (*TRAINS, "respond", "revise") and "train" not in given:
        raise UserError("no prompt is in the training split: add prompts, or lower splits.heldout and splits.dev")
    if kind in MEASURES and kind != "sweep" and "heldout" not in given:
        raise UserError(
            "no prompt is in the held-out split, on which models are measured: add prompts, or raise splits.heldout"
        )
    if kind == "sweep" and settings.sweep.split not in given:
        raise UserError(f"no prompt is in the split {settings.sweep.split}, on which a sweep measures: set splits.dev")
    if kind == "improve" and settings.rounds > 1 and "dev" not in given:
        raise UserError("whether a round helped is measured on the development split, which is empty: set splits.dev")


def _named_principles(wiring: Wiring) -> None:
    """The principles that prompts name are in the constitution. Those of a file are told by line."""
    known, given = wiring.constitution.weights(), wiring.settings.prompts
    unknown = {id for prompt in wiring.prompts() for id in prompt.principles} - known.keys()
    if not unknown:
        return
    rows = [f"the prompts name {', '.join(map(repr, sorted(unknown)))}, which no principle has as its id"]
    file = given if isinstance(given, str) else given.get("path")
    if isinstance(file, str) and Path(file).is_file():
        names = {} if isinstance(given, str) else given.get("map", {})
        rows = naming(Path(file), unknown, names) or rows
    more = [f"... and {len(rows) - MOST_SHOWN} more"] if len(rows) > MOST_SHOWN else []
    raise UserError(
        "\n".join([*rows[:MOST_SHOWN], *more]) + f"\nmend these rows: the constitution has {', '.join(known)}"
    )


def _splits(wiring: Wiring) -> set[str]:
    """The splits that the settings' prompts have in a run: the store's, where it has one or its opening already."""
    prompts, file = wiring.prompts(), _store_file(wiring.settings)
    if file is not None and not file.exists():  # not made for the question
        return {prompt.split for prompt in prompts}
    known, found = Openings(wiring.store.every_prompt()), set[str]()
    for some in parts(prompts):
        kept = {prompt.id: prompt.split for prompt in wiring.store.prompts(ids=[prompt.id for prompt in some])}
        found |= {kept.get(prompt.id, prompt.split) for prompt in as_they_open(some, kept, known)}
    return found


def _rows(settings: Settings, given: str | dict[str, Any], setting: str) -> None:
    """The rows of a file that a setting names can be used."""
    path, names, skip_bad = located(given, setting)
    kind = pair_kind(path, names) if setting == "pairs" else "preferences"
    splits = settings.splits
    read(path, kind, heldout=splits.heldout, dev=splits.dev, skip_bad=skip_bad, names=names)


def _home(settings: Settings) -> None:
    """What is kept under `home` has a path: no loop of links is in it, and no name that is too long."""
    try:
        settings.home.resolve().exists()
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "its links lead in a circle"
        raise UserError(
            f"home: {str(settings.home)[:200]} is no path: {why}; set home to a folder, as 'runs'"
        ) from None


def _writable(folder: Path, setting: str) -> None:
    """A folder of what a run makes can be made, and written to. It is made here, if it is not there."""
    folder = folder.expanduser().absolute()
    mend = (
        f"set {setting} to a place that can be written, as {'runs' if setting == 'home' else 'sqlite:///runs/x.db'!r}"
    )
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not there.is_dir():
        raise UserError(f"{setting}: {there} is a file, and no folder can be made there; {mend}")
    if folder.parts[1:2] in (("mnt",), ("media",), ("Volumes",)) and len(there.parts) < 3:
        disk = "/".join(folder.parts[:3])[1:]
        raise UserError(f"{setting}: {disk} is not there: is the disk mounted? Mount it, or {mend}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{setting}: {folder} cannot be written: {error.strerror}; {mend}") from None


# --- models and servers ------------------------------------------------------------------------------------------


def _role(name: str, wiring: Wiring) -> None:
    settings: RoleSettings | None = getattr(wiring.settings, name)
    if settings is None:
        return
    with _of(name):
        if name == "trained":  # its model is what a run trains
            pipeline.engines.load(settings.kind)
            return
        if not (isinstance(settings, JudgeSettings) and wiring.no_model(settings)):
            wiring.check_role(settings)
        if isinstance(settings, JudgeSettings):
            wiring.check_judge(settings)


def _placement(kind: str, wiring: Wiring, pool: bool) -> None:
    """The models of the flow fit the devices that they are on."""
    prompts = wiring.prompts() if pool and (wiring.settings.prompts or kind != "judge") else []
    found = placement.placed(wiring, prompts, kind in TRAINS, ASKS[kind])
    wiring.turns = [each.device.name for each in found.each if each.turns]
    if found.refused and wiring.settings.placement.required:
        raise UserError(
            "\n".join(found.refused)
            + "\nTake a smaller model, lora, bfloat16 or another device (device, placement.training)"
            "; placement.required = false begins nevertheless"
        )


def _adapters(wiring: Wiring) -> None:
    """The policy, where it is a folder, has the modules that adapters of it are for."""
    folder = Path(wiring.resolve(wiring.settings.policy.model))
    for name in ("sft", "reward", "optimise"):
        if folder.is_dir():
            checks.check_lora(folder, getattr(wiring.settings, name).lora, f"{name}.lora")


def _candidate(wiring: Wiring) -> None:
    settings = wiring.settings
    with _of("evaluate.candidate"):
        wiring.check_role(settings.trained or settings.policy, settings.evaluate.candidate)


def _finished(kind: str, wiring: Wiring) -> bool:
    """Whether the run of these settings is finished. A store that is not there is not made for the question."""
    file = _store_file(wiring.settings)
    if file is not None and not file.is_file():
        return False
    try:
        found = find(kind, wiring)
    except UserError:
        return False
    return found is not None and found.status == "finished"


def _store_file(settings: Settings) -> Path | None:
    """The file of a store in SQLite; None of one on a server."""
    url = settings.store.get_secret_value()
    return Path(url.partition(":///")[2].partition("?")[0]) if url.startswith("sqlite:///") else None
