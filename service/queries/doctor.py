"""What is installed and reachable, what is missing for which feature, and the command that mends it.

Everything is looked at; whether something is `needed` is what the settings in force say. Nothing is made by looking.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitution import loading
from constitution.errors import UserError

if TYPE_CHECKING:
    from service.settings import RoleSettings, Settings

TOKEN_SECONDS = 30.0  # for one token of a server
ROOM = 2 * 1024**3  # bytes of free disk under which a training may not end well


@dataclass(frozen=True)
class Finding:
    """`needed`: the settings in force cannot do without it. `mend`: the command that mends it. `state`: what is the
    matter where it is not ok; by itself, that it is not there."""

    what: str
    ok: bool
    found: str
    feature: str
    needed: bool = False
    mend: str = ""
    state: str = ""

    @property
    def word(self) -> str:
        return "ok" if self.ok else self.state or ("MISSING" if self.needed else "absent")


@dataclass(frozen=True)
class Health:
    """All findings; `ok`: whether the settings in force have all that they need."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.broken

    @property
    def broken(self) -> list[Finding]:
        return [f for f in self.findings if f.needed and not f.ok]

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "findings": [{**asdict(f), "state": f.word} for f in self.findings]}


def look(file: Path | None, flags: Mapping[str, Any]) -> Health:
    """Look at this machine for the settings of a file and flags; settings that are wrong are a finding, too."""
    from service.settings import load

    findings = list(_python())
    try:
        settings, _ = load(file, flags)
    except UserError as error:
        findings.append(
            Finding("settings", False, str(error), "everything", True, "mend the file, or: precept init", "BROKEN")
        )
    else:
        findings += [
            *_libraries(settings), *_store(settings), *_plugins(settings), *_models(settings), *_constitution(settings),
            *_trials(settings), *_disk(settings),
        ]  # fmt: skip
    return Health(tuple(findings))


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", sys.version_info >= (3, 11), version, "everything", True, "install Python 3.11 or newer")


def _libraries(settings: Settings) -> Iterator[Finding]:
    kinds = {role.kind for _, role in _roles(settings)}
    local = "transformers" in kinds
    yield _library("prefect", "flows and schedules", True)
    yield _library("sqlalchemy", "the store", True)
    yield _library("torch", "models in this process, training", True)
    yield _library("transformers", "models in this process, training", True)
    yield _library("trl", "training", True)
    yield _library("peft", "LoRA", any(t.lora for t in (settings.sft, settings.reward, settings.optimise)))
    yield _cuda([role.device for _, role in _roles(settings) if not role.base_url] if local else [])
    postgres = settings.store.get_secret_value().startswith("postgres")
    yield _library("psycopg", "a store on Postgres", postgres, "pip install 'psycopg[binary]>=3.2'")
    yield _library("pyarrow", "Parquet files", ".parquet" in str(settings.prompts))


def _library(name: str, feature: str, needed: bool, mend: str = "") -> Finding:
    try:
        found, ok = importlib.metadata.version(name), importlib.util.find_spec(name) is not None
    except importlib.metadata.PackageNotFoundError:
        found, ok = "not installed", False
    return Finding(name, ok, found, feature, needed, mend or "pip install -c constraints.txt -e .")


def _cuda(devices: list[str]) -> Finding:
    needed = any(device.startswith("cuda") for device in devices)
    feature, what = "large models at a bearable speed", "CUDA"
    mend = "install a driver and torch's CUDA build (pip install torch), or set the roles' device to auto"
    try:
        import torch
    except ImportError:
        return Finding(what, False, "torch is not installed", feature, needed, mend)
    if not torch.cuda.is_available():
        return Finding(what, False, "no device that torch can use", feature, needed, mend)
    return Finding(what, True, f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}", feature, needed)


def _store(settings: Settings) -> Iterator[Finding]:
    from service.settings import redact
    from storage.store import Store

    url = settings.store.get_secret_value()
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not path.exists():
        yield Finding("store", True, f"{path} (made by the first run)", "everything", True)
        return
    try:
        with Store.open(url, create=False, patience=5.0) as store:
            yield Finding("store", True, f"{store.url}, {len(store.runs())} runs", "everything", True)
            if (waiting := store.proposal()) is not None:
                ident = str(waiting.payload["id"])[:12]
                found = f"model {ident} waits for a person since {waiting.at[:10]}"
                mend = f"look at it, then: precept model promote {ident} --why TEXT"
                yield Finding("proposal", False, found, "what a retrain proposed to take effect", False, mend, "waits")
    except UserError as error:
        mend = f"mend {redact(url)}, or name another store: precept improve --set store=sqlite:///runs/precept.db"
        yield Finding("store", False, str(error), "everything", True, mend)


def _plugins(settings: Settings) -> Iterator[Finding]:
    """A line for each plug-in that the settings name, or find, and that is not there, is broken or is claimed twice."""
    from pipeline import engines, judges, rewards, sources, suites, trainers

    named: list[tuple[str, Callable[[str], object], str]] = [
        *((f"{of}.kind", engines.load, role.kind) for of, role in _roles(settings)),
        *((f"{of}.method", judges.load, getattr(settings, of).method) for of in ("judge", "evaluator")),
        *((f"{of}.method", trainers.load, getattr(settings, of).method) for of in ("sft", "reward", "optimise")),
        *(("suite", suites.load, name) for name in suites.chosen(settings.evaluate.suites)),
    ]
    if "kind" in settings.optimise.reward:
        named.append(("optimise.reward", rewards.load, settings.optimise.reward["kind"]))
    if isinstance(settings.prompts, dict):
        named.append(("prompts", sources.load, settings.prompts.get("source", "file")))
    broken = False
    for what, load, name in named:
        try:
            load(name)
        except UserError as error:
            broken = True
            mend = "name another, or mend or uninstall its package"
            yield Finding(f"{what}: {name}", False, str(error), "the run", True, mend)
    if not broken:
        yield Finding("plug-ins", True, ", ".join(sorted({name for _, _, name in named})), "the run", True)


def _models(settings: Settings) -> Iterator[Finding]:
    """A line a role: its folder is whole, or its server answers."""
    for name, role in _roles(settings):
        behind = role.base_url and role.kind != "transformers"  # which has no use for an address
        yield _server(name, role) if behind else _folder(settings, name, role)


def _roles(settings: Settings) -> list[tuple[str, RoleSettings]]:
    from service.wiring import Wiring

    named = ("policy", "critic", "trained", "judge", "evaluator")
    idle = Wiring(settings).code_measures  # no store is opened, and nothing is made
    asked = [name for name in named if name != "evaluator" or not idle]
    return [(name, role) for name in asked if (role := getattr(settings, name)) is not None]


def _folder(settings: Settings, name: str, role: RoleSettings) -> Finding:
    from pipeline import plugins
    from pipeline.engines.folder import find_model
    from pipeline.models.checks import check_model_folder
    from service.wiring import PROMOTED, Wiring

    what = f"{name}: {role.model}"
    mend = f"name a model folder that is there: precept improve --set {name}.model=FOLDER"
    if Path(role.model).name == "smollm2":  # as `precept init --from smollm2` writes it
        mend = f"precept model fetch {role.model}"
    if role.kind != "transformers" or role.model == PROMOTED:
        return Finding(what, True, f"{role.kind}, looked at when it is used", "the run", True)
    try:
        folder = Path(role.model)
        package, colon, model = role.model.partition(":")
        if colon and package in plugins.installed("models"):
            mend = f"precept sandbox build --role {model}" if package == "sandbox" else f"install {package} anew"
            folder = Path(Wiring(settings).resolve(role.model))  # a model of a package: no store is opened
        check_model_folder(folder)
        find_model(str(folder), "")  # what its engine asks for besides: a tokenizer, a chat template
    except UserError as error:
        return Finding(what, False, str(error), "the run", True, mend)
    return Finding(what, True, str(folder), "the run", True)


def _server(name: str, role: RoleSettings) -> Finding:
    """Whether a role's server gives a real token: a port may answer while the engine behind it is dead."""
    from pipeline import engines
    from pipeline.engines.engine import EngineError, EngineSettings
    from pipeline.keys import Key, secret

    what, mend = f"{name}: {role.model}", f"start the server: precept engine up {name}"
    options = dict(role.options)
    key = secret(role.api_key_env)
    if key is not None:
        options["api_key"] = key
    if role.kind == "openai":
        options.setdefault("api_key", Key("", role.api_key_env))
        options |= {"attempts": 1, "timeout": TOKEN_SECONDS, "deadline": TOKEN_SECONDS}
    try:
        engine: Any = engines.build(
            EngineSettings(
                role.kind, role.model, role.revision, role.dtype, role.device, role.batch_size, role.base_url, options
            )
        )
        try:
            if not hasattr(engine, "check"):
                return Finding(what, True, f"{role.kind}, looked at when it is used", "the run", True)
            if hasattr(engine, "tell"):
                engine.tell(lambda text: None)  # it is all in the finding
            engine.check()
        finally:
            engine.close()
    except EngineError as error:
        return Finding(what, False, f"{', '.join(role.addresses)}: {error}", "the run", True, mend)
    except UserError as error:
        if getattr(error, "status", None) in (401, 403):
            mend = f"put the server's key into the environment variable {role.api_key_env}"
        elif "knows no model" in str(error):
            mend = f"name what it serves: --set {name}.model=NAME"
        else:
            mend = f"see what the settings of {name} say of it: precept settings"
        return Finding(what, False, str(error), "the run", True, mend)
    return Finding(what, True, f"{', '.join(role.addresses)}, which gave a token", "the run", True)


def _constitution(settings: Settings) -> Iterator[Finding]:
    from pipeline import sources

    mend = f"precept constitution check {settings.constitution}; precept constitution new writes one"
    try:
        principles = loading.load(settings.constitution)
    except UserError as error:
        yield Finding("constitution", False, str(error), "everything", True, mend)
    else:
        found = f"{settings.constitution}, {len(principles)} principles"
        yield Finding("constitution", True, found, "everything", True)
    where, mend = settings.prompts, "precept improve --set prompts=FILE.jsonl"
    if isinstance(where, dict) and "path" in where and where.get("source", "file") == "file":
        where = str(where["path"])
    if isinstance(where, str) and where not in sources.names():
        there = Path(where).is_file()
        yield Finding("prompts", there, where if there else f"there is no file {where}", "the run", True, mend)
        return
    name = where if isinstance(where, str) else str(where.get("source", ""))
    try:
        sources.load(name)
    except UserError as error:
        yield Finding("prompts", False, str(error), "the run", True, mend)
    else:
        yield Finding("prompts", True, f"the source {name}", "the run", True)


def _trials(settings: Settings) -> Iterator[Finding]:
    """Whether judge and evaluator were tried on pairs with known answers, and are trusted."""
    from pipeline.judges.by_principle import by_models
    from service.queries import trials
    from service.wiring import Wiring
    from storage.store import Store

    if Wiring(settings).code_decides:
        for role in trials.ROLES:
            yield Finding(f"trial: {role}", True, trials.said(None, role, False, by_code=True), "labels", False)
        return
    url, checked = settings.store.get_secret_value(), True
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        tried: dict[str, dict[str, Any] | None] = dict.fromkeys(trials.ROLES)
    else:
        try:
            with Store.open(url, create=False, patience=5.0) as store:
                constitution = loading.load(settings.constitution)
                checked = len(by_models(constitution)) < len(constitution.principles)
                tried = {role: trials.last(store, settings, role, constitution.version) for role in trials.ROLES}
        except UserError:  # told of with the store, or the constitution
            return
    for role, told in tried.items():
        option = " --evaluator" if role == "evaluator" else ""
        if role == "evaluator" and settings.code_measures:
            continue
        ok, feature = bool(told and told["believed"]), "labels" if role == "judge" else "promotions"
        state, mend = (
            ("not tried", f"precept judge trial{option}") if told is None else ("not trusted", told.get("next", ""))
        )
        found = trials.said(told, role, settings.trial.required, checked=checked)
        yield Finding(f"trial: {role}", ok, found, feature, False, mend, state)


def _disk(settings: Settings) -> Iterator[Finding]:
    place = next(p for p in (Path(settings.home).resolve(), *Path(settings.home).resolve().parents) if p.exists())
    free = shutil.disk_usage(place).free
    found = f"{free / 1024**3:.1f} GB free at {place}"
    mend = "make room, or keep files elsewhere: precept improve --set home=FOLDER"
    yield Finding("disk", free >= ROOM, found, "checkpoints and the store", True, mend, "FULL")
