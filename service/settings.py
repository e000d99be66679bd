"""Settings: from one file (`precept.toml`), the environment (`PRECEPT_JUDGE__MODEL=...`) and flags, in that order.

The only module that reads the environment, but for keys (`pipeline.keys`). Everything else is handed values.
`precept.toml` at the root of a checkout is the sandbox's; `precept settings` shows every value with where it came from.
"""

from __future__ import annotations

import getpass
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from constitution.errors import UserError, nearest_name
from constitution.records import LabelRule
from pipeline.options import Wrong, WrongOptions, wrong_options
from pipeline.promote import Gate
from service import mistakes
from service.no_secrets import refuse_secrets

FILE = "precept.toml"
USER = "PRECEPT_USER"  # who acts: no setting
CACHE = "PRECEPT_CACHE"  # where what is dear to make is kept, of all projects: no setting either
FROM_POLICY = ("critic", "trained", "judge")
_RULE = LabelRule()


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, given: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(given, bool) and {int, float} & {kind, *get_args(kind)}:
            raise ValueError(f"{str(given).lower()} is no number")
        if given == "none" and type(None) in get_args(kind) and str not in get_args(kind):
            return None  # TOML and a flag have no other word for it
        return given

    @field_validator("*")
    @classmethod
    def _no_secret(cls, given: Any) -> Any:
        refuse_secrets(given)
        return given


class RoleSettings(_Section):
    """A model in a role, and how it is spoken to. The critic and the judge are the policy where they name neither a
    model nor an engine."""

    kind: str = Field(
        "transformers", description="The engine that runs the model: a module of pipeline/engines, or of a package."
    )
    model: str = Field(
        "",
        description="A folder, a name that a server knows, `sandbox:policy`, a checkpoint's id, or `promoted` (the "
        "checkpoint that was promoted last, resolved once when a run begins).",
    )
    revision: str = Field("", description="Of a server's model, which weights they are: a server shows none.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Number format of the weights.")
    device: str = Field(
        "auto",
        description="`cpu`, `cuda`, `cuda:1`, or `auto`: a GPU where there is one. Of a server, the GPUs of this "
        "machine that it is on, as `cuda:0,1`: it is asked to sleep while they are needed; `auto`: elsewhere.",
    )
    batch_size: int = Field(64, ge=1, description="Requests that are answered together.")
    base_url: str | list[str] = Field(
        "",
        description="Of a server that speaks OpenAI's protocol, as in http://localhost:8000/v1, or a list: several "
        "servers of the same model, which share the work.",
    )
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="The environment variable that holds the server's key; NAME_FILE names a file."
    )
    options: dict[str, Any] = Field({}, description="Passed on to the engine as they are.")
    answer_prefix: str = Field(
        "",
        description="What the model's answer is made to begin with, for a judge that will not say a bare letter; auto: "
        "found out by a few questions, for a choice judge.",
    )
    template_args: dict[str, Any] = Field(
        {},
        description="Arguments of the chat template, as enable_thinking = false. thinking_tags, two marks, names a "
        "pair that holds thinking.",
    )
    temperature: float = Field(
        1.0,
        ge=0,
        description="Of sampling; 0 takes the likeliest token. Not set: as the model's generation_config.json says, "
        "else 1.",
    )
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Sample from the likeliest tokens that hold this probability. Not set: as the model says, else 1.",
    )
    max_tokens: int = Field(96, ge=1, description="An answer is cut after so many tokens.")

    @property
    def addresses(self) -> list[str]:
        """Those of the model's servers; none of a model in this process."""
        return [self.base_url] if self.base_url and isinstance(self.base_url, str) else list(self.base_url)


class JudgeSettings(RoleSettings):
    method: str = Field("choice", description="How it judges: a module of pipeline/judges, or of a package.")
    judge_options: dict[str, Any] = Field({}, description="Passed on to that method as they are.")


class ReviseSettings(_Section):
    rounds: int = Field(
        4, ge=0, description="Rounds of critique and revision, a principle drawn anew for each; 0: none."
    )
    critique: bool = Field(
        True, description="Criticise before revising; false revises directly (Constitutional AI, section 3.5)."
    )
    way: Literal["revise", "answer"] = Field(
        "revise",
        description="How an answer becomes a better one. answer: the model does not see what it wrote, but answers the "
        "prompt again with the principle's `revision` at its end (context distillation; needs critique = false). For "
        "models too small to revise.",
    )

    @model_validator(mode="after")
    def _answers_without_critique(self) -> Self:
        if self.way == "answer" and self.critique:
            raise ValueError('way = "answer" reads no critique: set critique = false as well')
        return self


class CompareSettings(_Section):
    samples: int = Field(4, ge=2, description="Answers of the SFT model to each training prompt.")
    pairs: int = Field(3, ge=1, description="Pairs of those answers that are judged, for each prompt.")
    principles: Literal["all", "sampled"] = Field(
        "all",
        description="Who labels a pair: all principles, or one of each tier, drawn for each pair (Constitutional AI, "
        "4.1), and all that are hard.",
    )
    questions_per_batch: int = Field(256, ge=1, description="Verdicts that are stored in one commit.")


class LabelSettings(_Section):
    min_mass: float = Field(
        _RULE.min_mass, ge=0, le=1, description="Below this probability on A and B together a verdict is unreadable."
    )
    consistent: bool = Field(
        _RULE.consistent, description="A verdict votes only where both orders of the answers name the same one."
    )
    min_margin: float = Field(
        _RULE.min_margin, ge=0, le=1, description="How sure, of 1, a verdict has to be over both orders to vote."
    )
    min_readable: float = Field(
        _RULE.min_readable, ge=0, le=1, description="The share of the principles' weight that has to be readable."
    )
    tie_margin: float = Field(
        _RULE.tie_margin, ge=0, le=1, description="A label whose answers are less than this apart, of 1, is tied."
    )
    choose: Literal["auto", "fixed"] = Field(
        "auto",
        description="Where neither consistent nor min_margin is set, auto has the trial choose them; fixed does not.",
    )
    max_unreadable: float = Field(0.5, ge=0, le=1, description="Labelling stops above this rate of unreadable labels.")


class TrialSettings(_Section):
    """What a judge is tried on before it labels: pairs whose better answer is known."""

    pairs: list[str | dict[str, Any]] = Field(
        [],
        description='Files of known pairs (docs/trial.md), besides the principles\' own examples, as "pairs.jsonl" or '
        '{path = "x.json", format = "llmbar"}.',
    )
    canaries: int = Field(
        4,
        ge=0,
        description="Known pairs that a judge is asked again where its weights cannot be seen, at the start of a later "
        "run, before it labels and before it measures; answers that moved stop the run. 0: none.",
    )
    most: int = Field(40, ge=1, description="Pairs that are asked, of each principle and of those that name none.")
    required: bool | Literal["checks"] = Field(
        True,
        description="A judge that is not trusted makes no labels, and an evaluator that is not, no promotion; false "
        "goes on nevertheless. checks: who is not trusted is not asked again, and the principles that code checks "
        "decide alone; the evaluator needs no model then.",
    )


class TrainSettings(_Section):
    method: str = Field(description="The training method: a module of pipeline/trainers, or of a package.")
    arguments: dict[str, Any] = Field({}, description="Of the trainer, under TRL's and transformers' own names.")
    lora: dict[str, Any] | None = Field(
        None,
        description="Train an adapter with these arguments of peft, as r = 16, and bits = 4 for weights in 4 bits "
        "below it; none: all weights.",
    )

    @field_validator("method")
    @classmethod
    def _as_module(cls, name: str) -> str:
        return name.replace("-", "_")  # best-of-n is pipeline/trainers/best_of_n.py


class SftSettings(TrainSettings):
    method: str = Field("sft", description="The training method: a module of pipeline/trainers, or of a package.")
    use: Literal["all", "last"] = Field(
        "last", description="Revisions of all rounds (Constitutional AI, section 3.1) or of the last (section 1.2)."
    )
    helpful: float = Field(
        0.25, ge=0, description="The policy's own answers that are mixed in, as a share of the revisions."
    )


class RewardSettings(TrainSettings):
    method: str = Field("reward", description="The training method: a module of pipeline/trainers, or of a package.")
    models: int = Field(1, ge=1, description="Reward models in the ensemble, each from a seed of its own.")
    human: str | dict[str, Any] = Field(
        "",
        description="A file of people's preferences (docs/data.md), blended with the AI's labels (Constitutional AI, "
        'section 4.1), or {path = "x.csv", map = {prompt = "question"}}.',
    )
    human_share: float = Field(0.5, gt=0, lt=1, description="The share of people's pairs among all pairs.")


class OptimiseSettings(TrainSettings):
    method: str = Field("dpo", description="The training method: a module of pipeline/trainers, or of a package.")
    arguments: dict[str, Any] = Field(
        {},
        description="Of the trainer, under TRL's own names; they stand over those of the section [arguments.METHOD].",
    )
    labels: Literal["judge", "people"] = Field(
        "judge", description="Whose preferences an offline method learns from: the judge's, or people's spot checks."
    )
    min_p: float = Field(
        0.5, ge=0.5, le=1, description="Labels at least so sure become good and bad answers (kto, sft)."
    )
    reward: dict[str, Any] = Field(
        {},
        description="What rewards an online method, for pipeline.rewards; empty, or without a `kind`: this run's "
        "reward models.",
    )


class WatchSettings(_Section):
    """The evaluation callback, which measures a policy while an online method trains it: the evaluator, on prompts of
    the development split. The section keeps the word of before, which a run's id hashes."""

    prompts: int = Field(128, ge=0, description="Development prompts that it answers, at most; 0: no callback.")
    every: int = Field(5, ge=1, description="Updates between two evaluation steps.")
    kl_budget: float = Field(
        10.0,  # as far as the best of 60,000 answers
        ge=0,
        description="Nats an answer that the policy may move from where it began before training stops; 0: no budget.",
    )
    stop: bool = Field(True, description="Stop the training when a rule fires; false only tells.")


class PlacementSettings(_Section):
    """What runs where. Where each role's model is, the role's own `device` says."""

    training: str = Field(
        "",
        description="The devices of the training, which sees no other: `cuda:1`; or as `cuda:0,1`, which train "
        "together, a process each. Not set: policy.device, one of it.",
    )
    processes: int | None = Field(
        None, ge=1, description="Processes that train together; none: one on each GPU of `training`, on a CPU one."
    )
    accelerate: str = Field(
        "",
        description="A configuration file of accelerate's, as docs/accelerate/fsdp.yaml: how several processes share a "
        "model (FSDP, DeepSpeed).",
    )
    required: bool = Field(
        True, description="A flow whose models do not fit their devices is refused before it begins; false only tells."
    )


class SweepSettings(_Section):
    """What `precept sweep` draws."""

    methods: dict[str, list[float]] = Field(
        {"dpo": [], "ppo": []},
        description="By method, its KL coefficients (of best-of-n, n); none: the method's own arguments, once.",
    )
    split: Literal["dev", "heldout"] = Field(
        "dev",
        description="Prompts it is measured on. Settings are chosen on dev; held-out ones are for what is claimed.",
    )


class EvaluateSettings(_Section):
    prompts: int = Field(600, ge=1, description="Held-out prompts that a model is measured on, at most.")
    suites: list[str] | None = Field(
        None,
        description='What is measured of the answers (docs/suites.md), as "style", or a public set, as "xstest:FILE". '
        "None: every suite that is found, without those that ship with prompts of their own.",
    )
    reading: Literal["", "evaluator"] = Field(
        "",
        description='Who reads the answers to the prompts of a suite beside phrases and code; "evaluator": it is asked '
        "a yes/no question about each, two requests an answer, which are not stored.",
    )
    candidate: str = Field(
        "", description="A model to measure against the policy, for the flow `evaluate`; improve measures its own."
    )


class GateSettings(_Section):
    min_win_rate: float = Field(
        Gate.min_win_rate, ge=0, le=1, description="The lower end of the win rate's 95% interval has to be above this."
    )
    min_length_controlled: float | None = Field(
        Gate.min_length_controlled,
        ge=0,
        le=1,
        description="The lower end of the length-controlled win rate's 95% interval has to be above this; none: not "
        "asked.",
    )
    max_refusal_increase: float | None = Field(
        Gate.max_refusal_increase,
        ge=-1,
        le=1,
        description="How far refusals of harmless requests may rise, as a fraction of the answers; none: not asked.",
    )
    max_length_ratio: float | None = Field(
        Gate.max_length_ratio,
        gt=0,
        description="Mean tokens of an answer, after over before, at most; none: not asked.",
    )
    max_unreadable: float = Field(
        Gate.max_unreadable, ge=0, le=1, description="The share of comparisons that could not be read, at most."
    )
    max_truncated: float | None = Field(
        Gate.max_truncated,
        ge=0,
        le=1,
        description="The share of answers cut at the token limit, at most; none: not asked.",
    )
    max_boilerplate_increase: float | None = Field(
        Gate.max_boilerplate_increase,
        ge=-1,
        le=1,
        description="How far answers with a sentence that 5% of all answers share may rise; none: not asked.",
    )
    min_agreement: float | None = Field(
        Gate.min_agreement,
        ge=-1,
        le=1,
        description="The lower end of the interval of Gwet's AC1, people against the judge, at least; none: not asked.",
    )
    min_spot_checks: int = Field(
        Gate.min_spot_checks, ge=0, description="Pairs, drawn at random, that people have to have answered."
    )
    min_prompts: int = Field(
        Gate.min_prompts, ge=1, description="Held-out prompts whose two answers were compared, at least."
    )
    suites: dict[str, dict[str, Any]] = Field({}, description="By suite, limits that stand over its own.")


class RetrainSettings(_Section):
    """What a retrain keeps of the run before the amendment, and how its model is decided on. `base` and `version` are
    resolved once, when the retrain begins."""

    start: Literal["pool", "revise", "scratch"] = Field(
        "pool",
        description="pool: the answers and the SFT model stay. revise: the answers stay and are revised anew. scratch: "
        "nothing stays.",
    )
    top_up: bool = Field(False, description="Add answers and pairs where a new principle finds nothing to prefer.")
    train_from: Literal["sft", "last"] = Field(
        "sft", description="The parent: the SFT model, or the model that is to be replaced."
    )
    base: str = Field(
        "",
        description="The run to start from, by the first digits of its id; none: the one that made the promoted model, "
        "or the newest under another constitution.",
    )
    version: str = Field("", description="The version of the constitution; none: the ratified one.")
    promote: bool = Field(True, description="Promote or propose what passes the gate; false only measures.")
    min_win_rate: float = Field(
        0.45,
        ge=0,
        le=1,
        description="In a retrain, of a model that did what the amendment asked and lost nothing: the lower end of the "
        "win rate's interval has to be above this. What is neither so nor better by `gate.min_win_rate` is proposed.",
    )
    on_ratify: bool = Field(False, description="Retrain as soon as an amendment is ratified on this machine.")


class LimitSettings(_Section):
    """A run that reaches a limit stops cleanly, keeps what it has, and can be resumed. Counted since its last start,
    with the requests and tokens of judge and evaluator."""

    max_calls: int | None = Field(
        None, ge=0, description="Model requests, those to judges too (two a verdict by letters); none: no limit."
    )
    max_tokens: int | None = Field(
        None, ge=0, description="Prompt and answer tokens of what is generated and judged; none: no limit."
    )
    max_cost: float | None = Field(None, ge=0, description="What the tokens cost, in your currency; none: no limit.")
    cost_per_1k_tokens: float = Field(0.0, ge=0, description="What a thousand tokens cost, for max_cost.")
    stop_at_chance: bool = Field(
        True,
        description="Stop before training on a judge at chance: its orders agree no more often than a coin's.",
    )


class ReviewSettings(_Section):
    """What people who review are shown."""

    guidelines: str = Field(
        "", description="A text file that stands beside each pair in the console; none: the constitution's own words."
    )
    closed: list[str] = Field(
        [],
        description='Tags of prompts, as ["harm"]: what may hurt to read stays closed in the console until opened.',
    )


class ConsoleSettings(_Section):
    """`precept console`, the web application."""

    user_header: str = Field(
        "", description="A header in which a trusted proxy names who is signed in, as X-Forwarded-User; none: accounts."
    )
    trusted_proxies: list[str] = Field([], description="The proxy's addresses: from any other, the header is ignored.")
    new_users: Literal["reviewer", "editor", "approver", "admin"] = Field(
        "reviewer", description="The role of somebody whom the proxy names for the first time."
    )
    hosts: list[str] = Field([], description="Host names by which browsers may call it, besides those of this machine.")


class SplitSettings(_Section):
    heldout: float = Field(0.45, ge=0, lt=1, description="The share of the prompts that models are measured on.")
    dev: float = Field(0.1, ge=0, lt=1, description="The share of the prompts that settings are chosen on.")

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.heldout + self.dev >= 1:
            raise ValueError(
                f"heldout ({self.heldout:g}) and dev ({self.dev:g}) are {self.heldout + self.dev:g} of the prompts "
                "together, and none is left to train on; make it less than 1"
            )
        return self


class Settings(_Section):
    store: SecretStr = Field(
        SecretStr("sqlite:///runs/precept.db"),
        description="Where everything is remembered: sqlite:///FILE or postgresql://USER@HOST/DATABASE. It may hold a "
        "password.",
    )
    home: Path = Field(
        Path("runs"), description="The folder of checkpoints, data sets, reports and the link `promoted`."
    )
    constitution: Path = Field(Path("principles.yaml"), description="The file of principles.")
    prompts: str | dict[str, Any] = Field(
        "",
        description='A file (docs/data.md), a source by name, or {source = "x", ...} with options of its own; of a '
        'file {path = "x.csv", map = {prompt = "question"}, skip_bad = true}.',
    )
    pairs: str | dict[str, Any] = Field(
        "", description="A file of pairs or human preferences, as `prompts` names one, for the flow `judge`."
    )
    oracle: str = Field(
        "",
        description="Known truth, to measure against: `sandbox` there; empty on real models. It is never learnt from.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Of every draw; another seed is another run.")
    slot: str = Field("", description="The schedule slot: the same slot is the same run.")
    splits: SplitSettings = Field(SplitSettings(), description="How prompts are split.")
    policy: RoleSettings = Field(RoleSettings(), description="The model that is made better.")
    critic: RoleSettings | None = Field(None, description="The model that criticises and revises; none: the policy.")
    trained: RoleSettings | None = Field(None, description="How checkpoints are run; none: as the policy.")
    judge: JudgeSettings = Field(JudgeSettings(), description="The model whose verdicts become labels.")
    evaluator: JudgeSettings = Field(
        JudgeSettings(), description="The model that measures. It has to be named, and may not be the judge."
    )
    revise: ReviseSettings = Field(ReviseSettings(), description="Critique and revision.")
    compare: CompareSettings = Field(CompareSettings(), description="Which answers are compared.")
    trial: TrialSettings = Field(TrialSettings(), description="What judge and evaluator are tried on first.")
    label: LabelSettings = Field(LabelSettings(), description="How verdicts become labels.")
    sft: SftSettings = Field(SftSettings(), description="Training on the revisions.")
    reward: RewardSettings = Field(RewardSettings(), description="Training of the reward model.")
    optimise: OptimiseSettings = Field(OptimiseSettings(), description="Training of the policy on preferences.")
    arguments: dict[str, dict[str, Any]] = Field(
        {}, description="By method, what it is trained with where `optimise` names it, as [arguments.ppo]."
    )
    watch: WatchSettings = Field(
        WatchSettings(), description="The evaluation callback, which measures a policy while it is trained online."
    )
    placement: PlacementSettings = Field(PlacementSettings(), description="What runs on which device.")
    rounds: int = Field(
        1,
        ge=1,
        description="Rounds of answering, labelling and training, each from the model that the last one made.",
    )
    sweep: SweepSettings = Field(SweepSettings(), description="Methods side by side.")
    evaluate: EvaluateSettings = Field(EvaluateSettings(), description="The measurement on held-out prompts.")
    gate: GateSettings = Field(GateSettings(), description="What must hold for a model to be promoted.")
    retrain: RetrainSettings = Field(RetrainSettings(), description="What follows an amendment.")
    console: ConsoleSettings = Field(ConsoleSettings(), description="The web application.")
    review: ReviewSettings = Field(ReviewSettings(), description="What people who review are shown.")
    limits: LimitSettings = Field(LimitSettings(), description="When a run stops by itself.")
    threads: int | None = Field(None, ge=1, description="Threads of torch; none: as many as there are cores.")

    def identity(self, kind: str = "") -> dict[str, Any]:
        """What of the settings determines a run of a flow: not where things are kept, nor its limits, devices, batches,
        nor what its judges are tried on (as a constitution's examples are no part of its version: what was found is
        kept with the run), but whether code decides alone where they are not believed; and of the sections `retrain`
        and `sweep` nothing, but for the flows that they are of."""
        aside = {
            "console",
            "store", "home", "constitution", "prompts", "limits", "threads", "slot", "trial", "placement", "review",
        }  # fmt: skip
        follows = kind in ("retrain", "relabel")
        own = {"retrain"} if follows else {"sweep"} if kind == "sweep" else set()
        whole = self.model_dump(mode="json", exclude=aside | ({"retrain", "sweep"} - own))
        if follows:
            whole["retrain"].pop("on_ratify")
        if self.trial.required == "checks":  # it says who is asked about what, and what is revised
            whole["trial"] = {"required": "checks"}
        for role in ("policy", "critic", "trained", "judge", "evaluator"):
            for name in ("device", "batch_size", "api_key_env"):
                (whole[role] or {}).pop(name, None)
        return whole

    @property
    def code_measures(self) -> bool:
        """Whether the evaluator names no model, and need not: only what code checks is measured."""
        return self.trial.required == "checks" and not self.evaluator.model

    def rule(self) -> LabelRule:
        return LabelRule(**self.label.model_dump(exclude={"max_unreadable", "choose"}))

    def conditions(self) -> Gate:
        """The gate's own, without the suites'."""
        return Gate(**self.gate.model_dump(exclude={"suites"}))


def role_settings(given: Mapping[str, Any]) -> RoleSettings:
    """A role written inside the options of another (a judge that asks several). Raises WrongOptions where it is
    none."""
    from pipeline.judges.choice import AUTO  # the judges bring numpy, which a shell's completion has no time for

    who = "the settings of a further role"
    try:
        role = RoleSettings.model_validate(given)
    except ValidationError as error:
        raise wrong_options(error, who, RoleSettings) from None
    if not role.model:
        raise WrongOptions(who, [Wrong(("model",), "it has to be given, and is not")], RoleSettings.model_fields)
    if role.answer_prefix == AUTO:
        said = f'"{AUTO}" is found out for a whole role, in [judge]; name the beginning of its answer'
        raise WrongOptions(who, [Wrong(("answer_prefix",), said)], RoleSettings.model_fields)
    return role


def _environment() -> dict[str, Any]:
    """`PRECEPT_JUDGE__MODEL` and the like, as nested dictionaries. Raises UserError for a variable that cannot be read,
    and for one that is meant for a setting and names none."""

    class Named(BaseSettings, Settings):  # the fields of Settings, so that the source knows their shapes
        model_config = SettingsConfigDict(env_prefix="PRECEPT_", env_nested_delimiter="__", extra="ignore")

    for variable in os.environ:
        prefix, _, name = variable.upper().partition("PRECEPT_")
        first, nested, _ = name.lower().partition("__")
        near = nearest_name(first, Settings.model_fields)
        meant = name and first not in Settings.model_fields and (nested or near) and variable not in (USER, CACHE)
        if not prefix and meant:
            raise UserError(
                f"the environment variable {variable} sets nothing: there is no setting {first}"
                + (f"; did you mean PRECEPT_{near.upper()}?" if near else "; `precept settings` lists all")
            )
    try:
        return EnvSettingsSource(Named)()
    except SettingsError as error:
        field = re.search(r'field "(\w+)"', str(error))
        variable = f"PRECEPT_{field[1].upper()}" if field else "a variable PRECEPT_..."
        raise UserError(
            f"the environment variable {variable} is no JSON; write for example "
            f'{variable}=\'{{"name": "value"}}\', or one variable a setting: {variable}__NAME=value'
        ) from None


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
        origins.update(dict.fromkeys((name for name in _flatten(values) if not _is_empty(name, values)), origin))
    wrong = [f"{mistakes.where(name, origins, path)}: {name} {what}" for name, what in mistakes.unwritable(merged)]
    if wrong:
        raise UserError("\n".join(wrong))
    try:
        return Settings.model_validate(_inherit(merged)), origins
    except ValidationError as error:
        raise UserError(mistakes.explain(error, Settings, origins, path, inherited=FROM_POLICY)) from None


def prepare_process(settings: Settings) -> None:
    """What has to be in the environment before torch, transformers or a child process starts. A value that is set
    already is left alone."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two spinning threads on a busy machine are ten times slower
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # GPUs are counted as nvidia-smi counts them
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if settings.threads:
        os.environ["OMP_NUM_THREADS"] = str(settings.threads)


def cache_folder() -> Path:
    """Where what is dear to make is kept (vLLM's environment), for all projects of this user."""
    return Path(os.environ.get(CACHE) or Path.home() / ".cache" / "precept")


def process_environment() -> dict[str, str]:
    """The environment of this process, for one that is started from it."""
    return dict(os.environ)


def process_user() -> str:
    """Who runs this process. Only the edges ask (the command line, a flow that a schedule started): further in, who
    acts is an argument."""
    try:
        return os.environ.get(USER) or getpass.getuser()  # USER and its kin, then the password database
    except (OSError, KeyError, ImportError):  # a container with a user id and no name
        return f"unknown uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def redact(url: str) -> str:
    """A database URL without its passwords, the one before the host and those after the question mark."""
    shown = re.sub(r"(://[^:/@]*):[^/]*@", r"\1:***@", url)  # a password may hold a colon or an at
    return re.sub(r"([?&][^=&\s]*(?:password|passwd|token|secret|api_?key)=)[^&\s]*", r"\1***", shown)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: the settings cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except RecursionError:
        raise UserError(f"{path}: its lists or tables are nested too deep to be read") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}") from None
    except ValueError:
        raise UserError(f"{path}: a whole number in it has thousands of digits; no setting takes one") from None


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for dotted, value in flat.items():
        *parents, last = dotted.split(".")
        level = nested
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise UserError(f"flag: {dotted} is set, and {parent}, which it is a part of, is set to a single value")
        level[last] = value
    return nested


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in nested.items():
        names += _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]
    return names


def _is_empty(name: str, values: Mapping[str, Any]) -> bool:
    """Whether it is a section in which nothing is set: all its lines are commented out, say."""
    kind = Settings.model_fields[name].annotation if name in Settings.model_fields else None
    return values.get(name) == {} and isinstance(kind, type) and issubclass(kind, BaseModel)


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
    for role in FROM_POLICY:
        own = values.get(role)
        if own is None and role != "judge":
            continue
        own = own or {}
        if isinstance(own, dict) and isinstance(policy, dict) and not {"model", "kind"} & own.keys():
            values[role] = {**policy, **own}
    return values
