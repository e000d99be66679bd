"""Settings: from one file (`precept.toml`), the environment (`PRECEPT_JUDGE__MODEL=...`) and flags, in that order.

The only module that reads the environment, but for keys (`pipeline.keys`). Everything else is handed values.
`precept.toml` at the root of a checkout is the sandbox's; `precept settings` shows every value with where it came from.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from constitution.errors import UserError
from constitution.records import LabelRule
from pipeline.promote import Gate

FILE = "precept.toml"
_RULE = LabelRule()


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RoleSettings(_Section):
    """A model in a role, and how it is spoken to. `model`: a folder, a name a server knows, `sandbox:policy`, or
    `promoted` (the checkpoint that was promoted last, resolved once when a run begins). The critic and the judge are
    the policy where they name neither a model nor an engine."""

    kind: str = "transformers"
    model: str = ""
    revision: str = ""
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    batch_size: int = Field(64, ge=1)
    base_url: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    options: dict[str, Any] = {}
    answer_prefix: str = ""
    template_args: dict[str, Any] = {}
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(96, ge=1)

    @field_validator("options")
    @classmethod
    def _no_key(cls, given: dict[str, Any]) -> dict[str, Any]:
        if "api_key" in given:
            raise ValueError("a key does not belong in settings: put it where api_key_env says, in the environment")
        return given


class JudgeSettings(RoleSettings):
    method: str = "choice"  # a module of pipeline.judges
    judge_options: dict[str, Any] = {}


class ReviseSettings(_Section):
    rounds: int = Field(4, ge=0)
    critique: bool = True  # False: revise directly (CAI section 3.5)


class CompareSettings(_Section):
    samples: int = Field(4, ge=2)  # answers of the SFT model to each training prompt
    pairs: int = Field(3, ge=1)  # of those, compared, a prompt
    questions_per_batch: int = Field(256, ge=1)  # verdicts to a commit


class LabelSettings(_Section):
    min_mass: float = Field(_RULE.min_mass, ge=0, le=1)
    consistent: bool = _RULE.consistent
    min_margin: float = Field(_RULE.min_margin, ge=0, le=1)
    min_readable: float = Field(_RULE.min_readable, ge=0, le=1)
    tie_margin: float = Field(_RULE.tie_margin, ge=0, le=1)
    max_unreadable: float = Field(0.5, ge=0, le=1)  # labelling stops above this rate


class TrainSettings(_Section):
    """`arguments` go to the trainer, under TRL's and transformers' own names."""

    method: str
    arguments: dict[str, Any] = {}
    lora: dict[str, Any] | None = None

    @field_validator("method")
    @classmethod
    def _as_module(cls, name: str) -> str:
        return name.replace("-", "_")  # best-of-n is pipeline/trainers/best_of_n.py


class SftSettings(TrainSettings):
    method: str = "sft"
    use: Literal["all", "last"] = "last"  # revisions of all rounds (CAI 3.1) or of the last (CAI 1.2)
    helpful: float = Field(0.25, ge=0)  # answers of the policy itself mixed in, as a share of the revisions


class RewardSettings(TrainSettings):
    method: str = "reward"
    models: int = Field(1, ge=1)  # an ensemble of so many, each from a seed of its own
    human: str = ""  # a JSONL or Parquet file of people's preferences, blended with the AI's labels (CAI section 4.1)
    human_share: float = Field(0.5, gt=0, lt=1)  # of all pairs


class OptimiseSettings(TrainSettings):
    """`labels`: whose preferences an offline method learns from, the judge's or those of people's spot checks.
    `reward`: what rewards an online method, a mapping for `pipeline.rewards`; empty, or without a `kind`, it is this
    run's reward models. `arguments` stand over those of the section `[arguments.METHOD]`."""

    method: str = "dpo"
    labels: Literal["judge", "people"] = "judge"
    min_p: float = Field(0.5, ge=0.5, le=1)  # labels at least so sure become good and bad answers (kto, sft)
    reward: dict[str, Any] = {}


class WatchSettings(_Section):
    """Who looks at a policy while an online method trains it: the evaluator, on prompts of the development split."""

    prompts: int = Field(128, ge=0)  # at most; 0: nobody looks
    every: int = Field(5, ge=1)  # updates between looks
    kl_budget: float = Field(10.0, ge=0)  # nats an answer, from the model before: the best of 60,000; 0: none
    stop: bool = True  # False: look and tell, and let it go on


class SweepSettings(_Section):
    """What `precept sweep` draws: by method, the weights of its leash; none: its own arguments, once."""

    methods: dict[str, list[float]] = {"dpo": [], "ppo": []}
    split: Literal["dev", "heldout"] = "dev"  # settings are chosen on dev; held-out prompts are for what is claimed


class EvaluateSettings(_Section):
    prompts: int = Field(600, ge=1)  # held-out prompts, at most
    suites: list[str] | None = None  # what is measured of the answers; none: every suite that is found
    candidate: str = ""  # a model to measure against the policy (the evaluate flow; improve measures its own)


class GateSettings(_Section):
    min_win_rate: float = Gate.min_win_rate
    min_length_controlled: float | None = Gate.min_length_controlled
    max_refusal_increase: float | None = Gate.max_refusal_increase
    max_length_ratio: float | None = Gate.max_length_ratio
    max_unreadable: float = Gate.max_unreadable
    max_truncated: float | None = Gate.max_truncated
    max_boilerplate_increase: float | None = Gate.max_boilerplate_increase
    min_agreement: float | None = Gate.min_agreement
    min_spot_checks: int = Gate.min_spot_checks
    suites: dict[str, dict[str, Any]] = {}  # by suite, limits over its own


class RetrainSettings(_Section):
    """What a retrain keeps of the run before the amendment, and how its model is decided on.

    `start`: the pool of answers and the SFT model stay (pool); the answers stay, and are revised anew (revise); nothing
    stays (scratch). `base` and `version` are resolved once, when the retrain begins.
    """

    start: Literal["pool", "revise", "scratch"] = "pool"
    top_up: bool = False  # add answers and pairs where a new principle finds nothing to prefer
    train_from: Literal["sft", "last"] = "sft"  # the parent: the SFT model, or the model that is to be replaced
    base: str = ""  # the run, by the first digits of its id; none: the newest under another constitution
    version: str = ""  # of the constitution; none: the ratified one
    promote: bool = True
    min_win_rate: float = 0.45  # of the gate: the model that is replaced was good enough, so no worse is enough
    on_ratify: bool = False  # retrain as soon as an amendment is ratified


class LimitSettings(_Section):
    """A run that reaches a limit stops cleanly, keeps what it has, and can be resumed. Counted since its last start."""

    max_calls: int | None = Field(None, ge=0)  # model requests
    max_tokens: int | None = Field(None, ge=0)  # prompt and answer tokens of what is generated
    max_cost: float | None = Field(None, ge=0)
    cost_per_1k_tokens: float = Field(0.0, ge=0)


class SplitSettings(_Section):
    heldout: float = Field(0.45, ge=0, lt=1)
    dev: float = Field(0.1, ge=0, lt=1)


class Settings(_Section):
    store: SecretStr = SecretStr("sqlite:///runs/precept.db")  # a URL may hold a password
    home: Path = Path("runs")  # checkpoints, data sets, reports
    constitution: Path = Path("principles.yaml")
    prompts: str | dict[str, Any] = ""  # a JSONL or Parquet file, a source by name, or {source = "x", ...its options}
    pairs: str = ""  # a JSONL or Parquet file of pairs or human preferences, for the judge flow
    oracle: str = ""  # known truth, to measure against: "sandbox" there, empty on real models
    seed: int = 0
    slot: str = ""  # the schedule slot: the same slot is the same run
    splits: SplitSettings = SplitSettings()
    policy: RoleSettings = RoleSettings()
    critic: RoleSettings | None = None  # none: the policy
    trained: RoleSettings | None = None  # how checkpoints are run; none: as the policy
    judge: JudgeSettings = JudgeSettings()
    evaluator: JudgeSettings = JudgeSettings()  # has to be named: it may not be the judge that made the labels
    revise: ReviseSettings = ReviseSettings()
    compare: CompareSettings = CompareSettings()
    label: LabelSettings = LabelSettings()
    sft: SftSettings = SftSettings()
    reward: RewardSettings = RewardSettings()
    optimise: OptimiseSettings = OptimiseSettings()
    arguments: dict[str, dict[str, Any]] = {}  # by method: what it is trained with where `optimise` names it
    watch: WatchSettings = WatchSettings()
    rounds: int = Field(1, ge=1)  # of answering, labelling and training, each from the model that the last one made
    sweep: SweepSettings = SweepSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    gate: GateSettings = GateSettings()
    retrain: RetrainSettings = RetrainSettings()
    limits: LimitSettings = LimitSettings()
    threads: int | None = Field(None, ge=1)  # of torch; none: as many as there are cores

    def identity(self, kind: str = "") -> dict[str, Any]:
        """What of the settings determines a run of a flow: not where things are kept, nor its limits, devices, batches;
        and of the sections `retrain` and `sweep` nothing, but for the flows that they are of."""
        aside = {"store", "home", "constitution", "prompts", "limits", "threads", "slot"}
        follows = kind in ("retrain", "relabel")
        own = {"retrain"} if follows else {"sweep"} if kind == "sweep" else set()
        whole = self.model_dump(mode="json", exclude=aside | ({"retrain", "sweep"} - own))
        if follows:
            whole["retrain"].pop("on_ratify")
        for role in ("policy", "critic", "trained", "judge", "evaluator"):
            for name in ("device", "batch_size", "api_key_env"):
                (whole[role] or {}).pop(name, None)
        return whole

    def rule(self) -> LabelRule:
        return LabelRule(**self.label.model_dump(exclude={"max_unreadable"}))


def role_settings(given: Mapping[str, Any]) -> RoleSettings:
    """A role written inside the options of another (a judge that asks several). Raises UserError where it is none."""
    try:
        return RoleSettings.model_validate(given)
    except ValidationError as error:
        raise UserError(_explain(error, {})) from None


def _environment() -> dict[str, Any]:
    """`PRECEPT_JUDGE__MODEL` and the like, as nested dictionaries."""

    class Named(BaseSettings, Settings):  # the fields of Settings, so that the source knows their shapes
        model_config = SettingsConfigDict(env_prefix="PRECEPT_", env_nested_delimiter="__", extra="ignore")

    return EnvSettingsSource(Named)()


def load(file: Path | None = None, flags: Mapping[str, Any] | None = None) -> tuple[Settings, dict[str, str]]:
    """Settings and, for each dotted name that is not at its default, where it came from.

    `flags`: dotted names to values. Raises UserError that lists every setting that is wrong, with its origin.
    """
    path = file or Path(FILE)
    if file is not None and not path.is_file():
        raise UserError(f"there is no settings file {path}; `precept init` writes one")
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, values in (
        (str(path), _read(path) if path.is_file() else {}),
        ("environment", _environment()),
        ("flag", _nest(flags or {})),
    ):
        _merge(merged, values)
        origins.update(dict.fromkeys(_flatten(values), origin))
    try:
        return Settings.model_validate(_inherit(merged)), origins
    except ValidationError as error:
        raise UserError(_explain(error, origins)) from None


def prepare_process(settings: Settings) -> None:
    """What has to be in the environment before torch, transformers or a child process starts. A value that is set
    already is left alone."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two spinning threads on a busy machine are ten times slower
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if settings.threads:
        os.environ["OMP_NUM_THREADS"] = str(settings.threads)


def process_user() -> str:
    """Who runs this process. Only the edges ask (the command line, a flow that a schedule started): further in, who
    acts is an argument."""
    return os.environ.get("PRECEPT_USER") or os.environ.get("USER") or os.environ.get("LOGNAME") or "unknown"


def redact(url: str) -> str:
    """A database URL without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from None


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for dotted, value in flat.items():
        *parents, last = dotted.split(".")
        level = nested
        for parent in parents:
            level = level.setdefault(parent, {})
        level[last] = value
    return nested


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in nested.items():
        names += _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]
    return names


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, dict) else value


def _inherit(values: dict[str, Any]) -> dict[str, Any]:
    """A role that names no model or engine of its own is the policy, but for what its section changes. (The evaluator
    is not: it has to be another model, so it has to be named.)"""
    policy = values.get("policy", {})
    for role in ("critic", "trained", "judge"):
        own = values.get(role)
        if own is None and role != "judge":
            continue
        own = own or {}
        if isinstance(own, dict) and isinstance(policy, dict) and not {"model", "kind"} & own.keys():
            values[role] = {**policy, **own}
    return values


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        origin = origins.get(name, "settings")
        hint = " (is it spelled right? `precept settings` lists all)" if problem["type"] == "extra_forbidden" else ""
        lines.append(f"{origin}: {name}: {problem['msg'].removeprefix('Value error, ').lower()}{hint}")
    return "\n".join(lines)
