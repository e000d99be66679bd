"""Builds Store, Engines and Judges from settings; nothing is built before it is asked for.

Sources of prompts, packaged models and an Oracle (which evaluation alone is handed) are found by name; the sandbox is
one of each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pipeline.engines
import pipeline.judges
from constitution import loading
from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import Prompt, canonical
from pipeline import plugins, rewards, sources, suites, trainers
from pipeline.asking import Role
from pipeline.engines.engine import Engine, EngineSettings, Sampling
from pipeline.judges.judge import Judge
from pipeline.keys import secret
from service.settings import JudgeSettings, RoleSettings, Settings, role_settings
from storage.store import Store

if TYPE_CHECKING:
    from pipeline.metrics.truth import Oracle

PROMOTED = "promoted"
CHECKPOINT = re.compile(r"[0-9a-f]{6,64}")  # the first digits of its id or digest


class Wiring:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._engines: dict[str, Engine] = {}
        self._named: list[Engine] = []
        self._say: Callable[[str], None] | None = None

    @cached_property
    def store(self) -> Store:
        return Store.open(self.settings.store.get_secret_value(), late=True, home=self.settings.home)

    @cached_property
    def constitution(self) -> Constitution:
        return loading.load(self.settings.constitution)

    def prompts(self) -> list[Prompt]:
        """The prompts of the settings' source, each with its split."""
        return sources.read(self.settings.prompts, sources.Splits(**self.settings.splits.model_dump()))

    def start(self) -> str:
        """The policy that a run begins with, as it is kept with the run: a checkpoint by its folder, because "the
        promoted one" moves, and anything else as the settings name it. `resolve` finds it."""
        model = self.settings.policy.model
        resolved = self.resolve(model)
        return resolved if model == PROMOTED or CHECKPOINT.fullmatch(model) else model

    def oracle(self) -> Oracle | None:
        name = self.settings.oracle
        if not name:
            return None
        module = plugins.outside("oracles", "Oracle", name, "oracle")
        return cast("Oracle", module.Oracle())

    def resolve(self, model: str) -> str:
        """A role's model as the folder or server name it stands for now."""
        if not model:
            raise UserError(
                "a role has no model: set policy.model and evaluator.model in precept.toml (the evaluator may not be "
                "the judge); `precept init` writes a file to start from"
            )
        package, colon, name = model.partition(":")
        if colon and package in plugins.installed("models"):  # a model in a package: sandbox:policy
            return str(plugins.outside("models", "folder", package, "package of models").folder(name))
        if model == PROMOTED:
            checkpoint = self.store.promoted()
            if checkpoint is None:
                raise UserError('nothing has been promoted yet: set policy.model to a model folder, not "promoted"')
            return checkpoint.path
        if CHECKPOINT.fullmatch(model) and not Path(model).exists():
            return self.store.checkpoint(model).path
        return model

    def role(self, settings: RoleSettings, model: str | None = None, max_tokens: int | None = None) -> Role:
        """A role as its settings say, or with another model of the same kind (a checkpoint)."""
        return Role(
            engine=self._engine(settings, model or self.resolve(settings.model)),
            sampling=Sampling(settings.temperature, settings.top_p, max_tokens or settings.max_tokens),
            answer_prefix=settings.answer_prefix,
            template_args=settings.template_args,
        )

    def judge(self, settings: JudgeSettings) -> Judge:
        return pipeline.judges.build(settings.method, self.role(settings), settings.judge_options, self._another)

    def asked_judge(self, settings: JudgeSettings) -> Judge:
        """A judge for looking up what it was asked: it knows its questions, its model is not loaded."""
        engine = pipeline.engines.named(self._engine_settings(settings, self.resolve(settings.model)))
        self._named.append(engine)
        role = Role(engine, answer_prefix=settings.answer_prefix, template_args=settings.template_args)
        return pipeline.judges.build(settings.method, role, settings.judge_options, self._another_asked)

    def _another(self, given: Mapping[str, Any]) -> Role:
        """A further role of a judge, of the role settings in its options."""
        return self.role(role_settings(given))

    def _another_asked(self, given: Mapping[str, Any]) -> Role:
        settings = role_settings(given)
        engine = pipeline.engines.named(self._engine_settings(settings, self.resolve(settings.model)))
        self._named.append(engine)
        return Role(engine, answer_prefix=settings.answer_prefix, template_args=settings.template_args)

    def judge_spec(self, settings: JudgeSettings, constitution: Path, against: str) -> dict[str, Any]:
        """A judge as a reward (`pipeline.rewards.judge`), for a process that has no settings: its score is how
        probably an answer beats the one that the file `against` has for the same prompt. Of a server's key it has the
        name."""
        return {
            "kind": "judge",
            "engine": {
                "kind": settings.kind,
                "model": self.resolve(settings.model),
                "revision": settings.revision,
                "dtype": settings.dtype,
                "device": settings.device,
                "batch_size": settings.batch_size,
                "base_url": settings.base_url,
                "options": dict(settings.options),
            },
            "api_key_env": settings.api_key_env if settings.base_url else "",
            "method": settings.method,
            **({"judge_options": self._resolved(settings.judge_options)} if settings.judge_options else {}),
            "answer_prefix": settings.answer_prefix,
            "template_args": dict(settings.template_args),
            "constitution": str(constitution),
            "against": against,
            "rule": self.settings.label.model_dump(exclude={"max_unreadable"}),
        }

    def _resolved(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """A judge's options with the models of its further roles as folders or served names."""
        found = {}
        for key, value in options.items():
            role = isinstance(value, Mapping) and "model" in value
            found[key] = {**value, "model": self.resolve(value["model"])} if role else value
        return found

    def check(self) -> None:
        """Tell what is wrong with a later step of the loop before its first: hours may lie between. Loads no model."""
        settings = self.settings
        for role in (settings.policy, settings.critic, settings.judge, settings.evaluator):
            if role is not None:
                pipeline.engines.check(self._engine_settings(role, self.resolve(role.model)))
        for judge in (settings.judge, settings.evaluator):
            pipeline.judges.load(judge.method)
        for training in (settings.sft, settings.reward, settings.optimise):
            given = settings.arguments.get(training.method, {}) if training is settings.optimise else {}
            trainers.resolve(training.method, {**given, **training.arguments})
        for method, arguments in settings.arguments.items():
            trainers.resolve(method, arguments)
        for name, kind in (("sft", "policy"), ("reward", "reward_model"), ("optimise", "policy")):
            method = getattr(settings, name).method
            trains = trainers.load(method).KIND
            if trains != kind:
                raise UserError(f"{name}.method is {method!r}, which trains a {trains.replace('_', ' ')}")
        if "kind" in settings.optimise.reward:
            rewards.load(settings.optimise.reward["kind"])  # what it lacks, the run may fill in
        suites.check(suites.chosen(settings.evaluate.suites), settings.gate.suites)
        self.oracle()

    def _engine_settings(self, role: RoleSettings, model: str) -> EngineSettings:
        options = dict(role.options)
        if role.base_url:
            key = secret(role.api_key_env)
            if key is not None:
                options["api_key"] = key
        return EngineSettings(
            role.kind, model, role.revision, role.dtype, role.device, role.batch_size, role.base_url, options
        )

    def _engine(self, role: RoleSettings, model: str) -> Engine:
        settings = self._engine_settings(role, model)
        shown = {k: str(v) for k, v in settings.options.items()}  # a SecretStr prints as stars
        name = canonical(
            [role.kind, model, role.revision, role.dtype, role.device, role.batch_size, role.base_url, shown]
        )
        if name not in self._engines:
            self._engines[name] = engine = pipeline.engines.build(settings)
            self._listen(engine)
        return self._engines[name]

    def tell(self, say: Callable[[str], None]) -> None:
        """Have what an engine says while it is asked (that its server does not answer) said there."""
        self._say = say
        for engine in self._engines.values():
            self._listen(engine)

    def _listen(self, engine: Engine) -> None:
        tell = getattr(engine, "tell", None)
        if tell is not None and self._say is not None:
            tell(self._say)

    def release(self, model: str) -> None:
        """Close the engines of one model, when no role needs it any more."""
        for name in [n for n in self._engines if f'"{model}"' in n]:
            self._engines.pop(name).close()

    def close(self) -> None:
        for engine in (*self._engines.values(), *self._named):
            engine.close()
        self._engines.clear()
        self._named.clear()
        if "store" in self.__dict__:
            self.store.close()
