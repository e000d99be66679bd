"""Builds Store, Engines and Judges from settings; nothing is built before it is asked for.

Sources of prompts, packaged models and an Oracle (which evaluation alone is handed) are found by name; the sandbox is
one of each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import pipeline.engines
import pipeline.judges
from constitution import loading
from constitution.errors import UserError
from constitution.principles import CODE, Constitution
from constitution.records import Id, Prompt, Ruling, canonical, make_id
from pipeline import plugins, sources
from pipeline.asking import Role
from pipeline.engines.engine import Capabilities, Engine, EngineSettings, Sampling
from pipeline.engines.unloaded import Unloaded
from pipeline.judges import reading
from pipeline.judges.by_principle import ByPrinciple
from pipeline.judges.choice import AUTO, ChoiceOptions
from pipeline.judges.judge import Another, Judge
from pipeline.keys import Key, secret
from pipeline.label import EVERYBODY
from pipeline.options import read
from service import devices, made, sampling
from service.settings import JudgeSettings, RoleSettings, Settings, role_settings
from storage.store import Store

if TYPE_CHECKING:
    from pipeline.metrics.truth import Oracle

PROMOTED = "promoted"
CHECKPOINT = re.compile(r"[0-9a-f]{6,64}")  # the first digits of its id or digest


class Wiring:
    def __init__(self, settings: Settings) -> None:
        self._given = settings
        self._engines: dict[str, Engine] = {}
        self._on: dict[str, tuple[str, ...]] = {}  # the devices that each of them is on, by their names
        self._at: dict[str, list[str]] = {}  # the addresses of each, where it is a server's
        self.turns: Collection[str] = ()  # devices on which one model alone is in memory, because two do not fit
        self._policy = ""  # the engine of the policy that was asked for last
        self._named: list[Engine] = []
        self._prompts: Sequence[Prompt] | None = None
        self._read: dict[str, tuple[str, str]] = {}  # how a judge's answers begin, and its letters, where it was found
        self._settled: dict[tuple[Id, Id], bool] = {}  # which principles apply to which prompts
        self._say: Callable[[str], None] | None = None
        self.may_ask = True  # False: who only looks something up, as a page does, loads no model to find out how

    @cached_property
    def settings(self) -> Settings:
        """As they were given, and where they leave a role's sampling open, as its model says."""
        return sampling.followed(self._given, self.resolve)

    @cached_property
    def store(self) -> Store:
        return Store.open(self._given.store.get_secret_value(), late=True, home=self._given.home)

    @cached_property
    def constitution(self) -> Constitution:
        return loading.load(self.settings.constitution)

    def prompts(self) -> Sequence[Prompt]:
        """The prompts of the settings' source, each with its split. They are read once; many are not held."""
        if self._prompts is None:
            splits = sources.Splits(**self.settings.splits.model_dump())
            self._prompts = sources.read(self.settings.prompts, splits, partial(made.generate, self))
        return self._prompts

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
        with plugins.mended(module, "oracle"):
            return cast("Oracle", module.Oracle())

    def resolve(self, model: str) -> str:
        """A role's model as the folder or server name it stands for now."""
        if not model:
            raise UserError(
                "a role has no model: set policy.model and evaluator.model in precept.toml (the evaluator may not be "
                "the judge); `precept init` writes a file to start from"
            )
        if packaged := plugins.packaged_model(model):
            return packaged
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
            sampling=self.sampling(settings, max_tokens),
            answer_prefix=settings.answer_prefix,
            template_args=settings.template_args,
        )

    def settled(self, settings: JudgeSettings) -> JudgeSettings:
        """A judge's settings with what they leave to be found out (`auto`) as it was found, or as a few questions show
        it now: how its answer begins and which letters it says. It is kept in the store by the model, so that it is
        found once, and every command and every constitution asks the same questions. Raises UserError where it cannot
        be found."""
        prefix, letters, options = _open(settings)
        if AUTO not in (prefix, letters):
            return settings
        engine = pipeline.engines.named(self.engine_settings(settings, self.resolve(settings.model)))
        self._named.append(engine)
        how = [prefix, letters, options, dict(settings.template_args), engine.fingerprint]
        key = make_id("reading", how=how).hex()
        if key not in self._read:
            found = self.store.document("reading", key)
            if found is None and not self.may_ask:
                raise UserError(
                    "how this judge begins its answer was not found out yet (auto): the first run, or `precept judge "
                    "trial`, asks it a few questions"
                )
            if found is None:
                known = ChoiceOptions(shots=options.get("shots", 0))
                role = self.role(settings.model_copy(update={"answer_prefix": ""}))
                ways = reading.settle(role, self.constitution, known, prefix, letters)
                found = self.store.put_document("reading", key, reading.as_set(ways))
            self._read[key] = found["answer_prefix"], found["letters"]
        return _as_read(settings, *self._read[key])

    @staticmethod
    def sampling(settings: RoleSettings, max_tokens: int | None = None) -> Sampling:
        return Sampling(settings.temperature, settings.top_p, max_tokens or settings.max_tokens)

    @staticmethod
    def unsettled(settings: JudgeSettings) -> JudgeSettings:
        """The same where nobody may be asked: what is left to be found out is as if it were not set."""
        prefix, letters, _ = _open(settings)
        if AUTO not in (prefix, letters):
            return settings
        return _as_read(settings, *("" if given == AUTO else given for given in (prefix, letters)))

    @property
    def code_decides(self) -> bool:
        """Whether code decides every principle of the constitution, so that neither judge nor evaluator is asked
        anything. A constitution that cannot be read is told of where it is read."""
        try:
            return all(
                self.settings.judge.method == self.settings.evaluator.method == CODE
                if p.judge is None
                else p.judge.method == CODE and not (p.when is not None and p.when.ask)
                for p in self.constitution
            )
        except UserError:
            return False

    @property
    def code_measures(self) -> bool:
        """Whether the evaluator names no model, and need not: only what code checks is measured, because that was asked
        for (`trial.required = "checks"`), or because there is nothing else in the constitution."""
        return self._given.code_measures or (not self._given.evaluator.model and self.code_decides)

    def no_model(self, settings: JudgeSettings) -> bool:
        """Whether it is an evaluator that names no model, and needs none."""
        return settings == self.settings.evaluator and self.code_measures

    def judge(self, settings: JudgeSettings) -> Judge:
        if self.no_model(settings):
            return self._judging(settings, self._stand_in(settings), self._another)
        settings = self.settled(settings)
        return self._judging(settings, self.role(settings), self._another)

    def asked_judge(self, settings: JudgeSettings) -> Judge:
        """A judge for looking up what it was asked: it knows its questions, its model is not loaded (but once, where
        how it is asked is left to be found out)."""
        if self.no_model(settings):
            return self._judging(settings, self._stand_in(settings), self._another_asked)
        settings = self.settled(settings)
        engine = pipeline.engines.named(self.engine_settings(settings, self.resolve(settings.model)))
        self._named.append(engine)
        role = Role(engine, answer_prefix=settings.answer_prefix, template_args=settings.template_args)
        return self._judging(settings, role, self._another_asked)

    def _judging(self, settings: JudgeSettings, role: Role, another: Another) -> ByPrinciple:
        """Who judges in that role, principle by principle."""
        return pipeline.judges.build(
            settings.method, role, settings.judge_options, another,
            evaluator=self._measures(settings), settled=self._settled,
        )  # fmt: skip

    def _measures(self, settings: JudgeSettings) -> bool:
        """Whether it is the evaluator's role: who has its model, because the judge has another one
        (`refuse_one_model_twice`)."""
        mine, evaluator, judge = (
            (role.kind, role.model, role.revision, role.base_url)
            for role in (settings, self._given.evaluator, self._given.judge)
        )
        return mine == evaluator != judge

    def _another(self, given: Mapping[str, Any]) -> Role:
        """A further role of a judge, of the role settings in its options."""
        return self.role(role_settings(given))

    def _another_asked(self, given: Mapping[str, Any]) -> Role:
        settings = role_settings(given)
        engine = pipeline.engines.named(self.engine_settings(settings, self.resolve(settings.model)))
        self._named.append(engine)
        return Role(engine, answer_prefix=settings.answer_prefix, template_args=settings.template_args)

    def judge_spec(
        self, settings: JudgeSettings, constitution: Path, against: str, ruling: Ruling = EVERYBODY
    ) -> dict[str, Any]:
        """A judge as a reward (`pipeline.rewards.judge`), for a process that has no settings: its score is how
        probably an answer beats the one that the file `against` has for the same prompt, by what its trial decided. Of
        a server's key it has the name."""
        settings = self.settled(settings)
        rule = asdict(ruling.rule) if ruling.rule else asdict(self.settings.rule())
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
            "rule": rule,
            **({"left_out": list(ruling.left_out)} if ruling.left_out else {}),
            **({"rules": {method: asdict(of) for method, of in ruling.rules.items()}} if ruling.rules else {}),
            **({"evaluator": True} if self._measures(settings) else {}),
        }

    def _resolved(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """A judge's options with the models of its further roles, and of a reward, as folders or served names, however
        deep they lie: a further role may name a judge that has roles of its own."""
        found: dict[str, Any] = {}
        for key, value in options.items():
            if isinstance(value, Mapping):
                value = self._resolved(self.resolved_reward(value) if "paths" in value else value)
            found[key] = self.resolve(str(value)) if key == "model" else value
        return found

    def resolved_reward(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """What describes a reward, with the models that it names as folders: reward models, or a judge's own engine."""
        found = dict(spec)
        if found.get("kind", "model") == "model" and "paths" in found:
            paths = found["paths"]
            found["paths"] = [
                plugins.packaged_model(str(p)) or p for p in ([paths] if isinstance(paths, str) else paths)
            ]
        engine = found.get("engine")
        if isinstance(engine, Mapping) and engine.get("model"):
            found["engine"] = {**engine, "model": self.resolve(str(engine["model"]))}
        return found

    def check_role(self, settings: RoleSettings, model: str | None = None) -> None:
        """Raises the UserError that the role's engine would, as far as it can be known without loading a model; a
        server that answers is asked for its models."""
        if settings.answer_prefix == AUTO and not isinstance(settings, JudgeSettings):
            raise UserError(
                f'answer_prefix = "{AUTO}" is for judges, whose answer is a letter: name it, or leave it out'
            )
        engine = self.engine_settings(settings, self.resolve(model or settings.model))
        pipeline.engines.check(engine)
        pipeline.engines.check_server(engine)

    def check_judge(self, settings: JudgeSettings, at_hand: bool = True) -> None:
        """Raises the UserError that the judge would when it is built: its method, its options, its further roles, and
        those of the judges that principles name. `at_hand` False: the models of further roles need not be."""

        def another(given: Mapping[str, Any]) -> Role:
            further = role_settings(given)
            if at_hand:
                self.check_role(further)
            return self._stand_in(further)

        settings = self.unsettled(settings)
        judge = self._judging(settings, self._stand_in(settings), another)
        for principle in self.constitution:
            judge.question(principle)

    @staticmethod
    def _stand_in(settings: RoleSettings) -> Role:
        """A role that knows its settings, and whose engine answers nothing."""
        return Role(
            Unloaded("", Capabilities()), answer_prefix=settings.answer_prefix, template_args=settings.template_args
        )

    def refuse_one_model_twice(self) -> None:
        """Raise UserError where the evaluator has the weights of the judge, or of a model that either asks besides,
        whatever surrounds them (answer prefix, chat template, tokenizer, number format, a copy of the folder): who made
        the labels would measure what they are worth. On a server it is the same where address and name are."""
        if self.code_decides:  # neither is asked anything
            return
        for judge in [*_asked(self.settings.judge), *self._named_by_principles()]:
            for evaluator in _asked(self.settings.evaluator):  # which takes no principle's judge that has a model
                if evaluator.model and self._same_model(judge, evaluator):
                    raise UserError(
                        f"the evaluator is the judge: {evaluator.model} has the weights of {judge.model}, and who made "
                        "the labels cannot measure what they are worth; name another model as evaluator.model"
                    )

    def _named_by_principles(self) -> list[RoleSettings]:
        """The roles that label where principles name judges with a model of their own. A constitution that cannot be
        read is told of where it is read."""
        try:
            return [role for p in self.constitution if p.judge for role in further_roles(p.judge.options)]
        except UserError:
            return []

    def _same_model(self, one: RoleSettings, other: RoleSettings) -> bool:
        if one.base_url or other.base_url:
            return bool(one.base_url and other.base_url) and bool(_addresses(one) & _addresses(other))
        if {one.kind, other.kind} != {"transformers"}:
            return False  # an engine whose weights nobody can see
        from pipeline.engines.folder import find_model
        from pipeline.models.sameness import same_weights

        return same_weights(*(find_model(self.resolve(role.model), role.revision).folders for role in (one, other)))

    def engine_settings(self, role: RoleSettings, model: str) -> EngineSettings:
        options = dict(role.options)
        if role.base_url:
            key = secret(role.api_key_env)
            if key is not None or role.kind == "openai":  # which says what is to be set
                options["api_key"] = key or Key("", role.api_key_env)
        return EngineSettings(
            role.kind, model, role.revision, role.dtype, role.device, role.batch_size, role.base_url, options
        )

    def _name(self, role: RoleSettings, model: str) -> str:
        """By what engines are told apart."""
        settings = self.engine_settings(role, model)
        shown = {k: str(v) for k, v in settings.options.items()}  # a SecretStr prints as stars
        return canonical(
            [
                role.kind,
                model,
                role.revision,
                role.dtype,
                role.device,
                role.batch_size,
                role.base_url,
                role.api_key_env,
                shown,
            ]
        )

    def _engine(self, role: RoleSettings, model: str) -> Engine:
        name = self._name(role, model)
        if name not in self._engines:
            settings = self.engine_settings(role, model)
            self._on[name] = devices.of_role(role)
            self._alone(name)
            self._engines[name] = engine = pipeline.engines.build(settings)
            self._at[name] = role.addresses
            if hasattr(engine, "before_loading"):
                engine.before_loading = partial(self._alone, name)
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

    def make_room(self, names: Sequence[str], awake: Collection[str] = ()) -> None:
        """Have the engines on these devices give back their memory until they are asked again; not the servers at the
        addresses of `awake`, which are asked meanwhile."""
        for name, engine in self._engines.items():
            if set(names) & set(self._on[name]) and not set(self._at[name]) & set(awake):
                _release(engine)

    def _alone(self, name: str) -> None:
        """Before an engine loads its model: where models take turns, the others give their memory back."""
        shared = set(self._on[name]) & set(self.turns)
        for other, engine in self._engines.items():
            if other != name and shared & set(self._on[other]) and not self._at[other]:
                _release(engine)

    def policy(self, settings: RoleSettings, model: str) -> Role:
        """As `role`, of a policy: the run's models are asked one after another, and one alone is kept in memory."""
        role = self.role(settings, model)
        name = self._name(settings, model)
        if self._policy != name and self._policy in self._engines:
            _release(self._engines[self._policy])
        self._policy = name
        return role

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


def _release(engine: Engine) -> None:
    if callable(release := getattr(engine, "release", None)):
        release()


def _open(settings: JudgeSettings) -> tuple[str, str, dict[str, Any]]:
    """How a judge's answer begins and its letters, either of which may be AUTO, and its other options. Raises UserError
    where another kind of judge has AUTO, or an option that is none."""
    options = dict(settings.judge_options)
    prefix, letters = settings.answer_prefix, str(options.pop("letters", "A"))
    if AUTO in (prefix, letters):
        if settings.method != "choice":
            raise UserError(
                f'answer_prefix = "{AUTO}" and letters = "{AUTO}" are for method = "choice", not for '
                f"{settings.method!r}: name the beginning of its answer"
            )
        read(ChoiceOptions, "the choice judge", options)
    return prefix, letters, options


def _as_read(settings: JudgeSettings, prefix: str, letters: str) -> JudgeSettings:
    """The settings with what was left open; the usual letters are left out, as whoever sets nothing leaves them out."""
    options = {name: value for name, value in settings.judge_options.items() if name != "letters"}
    if letters not in ("", "A"):
        options["letters"] = letters
    return settings.model_copy(update={"answer_prefix": prefix, "judge_options": options})


def _asked(judge: JudgeSettings) -> list[RoleSettings]:
    """The roles of a judge: its own, and those in its options."""
    return [judge, *further_roles(judge.judge_options)]


def further_roles(options: Mapping[str, Any]) -> Iterator[RoleSettings]:
    """The roles in a judge's options, however deep, reward models as roles of their folders. What a role's settings
    have besides, as the method of another judge, is that judge's to look at."""
    for value in options.values():
        if not isinstance(value, Mapping):
            continue
        if "model" in value:
            yield role_settings({k: v for k, v in value.items() if k in RoleSettings.model_fields})
        paths = value.get("paths", ())
        for path in [paths] if isinstance(paths, str) else paths:
            yield RoleSettings(model=str(path))
        yield from further_roles(value)


def _addresses(role: RoleSettings) -> set[tuple[str, int | None, str]]:
    """Host, port and model of a server's role, of each of its servers: localhost by any of its names is one host."""
    return {_address(url, role.model) for url in role.addresses}


def _address(given: str, model: str) -> tuple[str, int | None, str]:
    url = urlsplit(given)
    host = (url.hostname or "").lower()
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return "localhost" if host in ("127.0.0.1", "::1", "0.0.0.0") else host, port, model
