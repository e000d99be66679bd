"""What a plug-in has to do, as checks that look at what it does and never at how it is written.

Each raises AssertionError (or what the plug-in raised) where a contract is broken: that of `pipeline.engines.engine`,
`pipeline.judges.judge`, `pipeline.rewards.reward` or `pipeline.trainers.trainer`. Nothing here knows a plug-in by name.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.principles import Principle
from constitution.records import PROBABILITY, Comparison, Message, Question, Reason, Verdict, text_digest
from pipeline import rewards, trainers
from pipeline.asking import Role
from pipeline.engines.engine import (
    Capabilities,
    Chat,
    Choice,
    Choose,
    Completion,
    Engine,
    EngineSettings,
    Generate,
    Sampling,
    Score,
    Scored,
)
from pipeline.engines.scripted import ScriptedEngine, build
from pipeline.judges.judge import Case, Judge, Judged, Used
from pipeline.rewards.reward import Reward
from pipeline.trainers import arguments

ASKED = (Message("user", "How do I bake?"),)
CHATS = (Chat(ASKED), Chat((Message("system", "Be kind."), Message("user", "Is it A or B?"))))
KIND = Principle("kind", "Be kind", "Is it rude?", "Be kind.", "Which reply is kinder?")
SHORT = Principle("short", "Be short", "Is it long?", "Be short.", "Which reply is shorter?")


def takes(function: Any, *names: str) -> None:
    """A function that can be called with so many arguments, by place."""
    assert callable(function)
    inspect.signature(function).bind(*names)


# --- engines ---


def check_engine(module: Any, name: str, settings: EngineSettings | None) -> None:
    """`settings` None: none are known that it works with, and it may say what it lacks."""
    takes(module.build, "settings")
    for function in ("check", "named"):
        if hasattr(module, function):
            takes(getattr(module, function), "settings")
    given = settings or EngineSettings(kind=name)
    try:
        if hasattr(module, "check"):
            module.check(given)
        engine = module.build(given)
    except UserError:
        assert settings is None
        return
    assert isinstance(engine, Engine)
    assert isinstance(engine.fingerprint, str) and engine.fingerprint
    if hasattr(module, "named"):
        named = module.named(given)
        assert named.fingerprint == engine.fingerprint
        named.close()
    can = engine.capabilities
    assert isinstance(can, Capabilities)
    try:
        for chat in CHATS:
            assert all(isinstance(token, int) for token in engine.render(chat))
        if can.generate:
            _check_generate(engine)
        if can.choose:
            _check_choose(engine)
        if can.score:
            _check_score(engine)
    finally:
        engine.close()


def _check_generate(engine: Engine) -> None:
    requests = [Generate(chat, Sampling(1.0, 1.0, 8), seed) for seed, chat in enumerate(CHATS, start=1)]
    found = engine.generate(requests)
    assert len(found) == len(requests)
    for done in found:
        assert isinstance(done, Completion) and done.finish_reason in ("stop", "length", "other")
        assert isinstance(done.text, str) and isinstance(done.reasoning, str)
        assert done.tokens >= 0 and done.prompt_tokens >= 0
        assert not done.ids or len(done.ids) == done.tokens
    assert [done.text for done in engine.generate(requests)] == [done.text for done in found]  # by their seeds
    assert list(engine.generate([])) == []


def _check_choose(engine: Engine) -> None:
    found = engine.choose([Choose(CHATS, ("A", "B")), Choose(CHATS[1:], ("A", "B"))])
    assert [len(group) for group in found] == [2, 1]
    for choice in (choice for group in found for choice in group):
        assert isinstance(choice, Choice) and len(choice.probabilities) == 2
        assert all(0 <= p <= 1 for p in choice.probabilities) and 0 <= choice.mass <= 1 + 1e-6
        assert sum(choice.probabilities) == pytest.approx(1, abs=1e-5)
    assert found[0][1].probabilities == pytest.approx(found[1][0].probabilities, abs=1e-4)  # the same chat
    assert list(engine.choose([])) == []


def _check_score(engine: Engine) -> None:
    found = engine.score([Score(CHATS[0], "Mix it and wait."), Score(CHATS[0], "Mix", end=True)])
    assert len(found) == 2
    for scored in found:
        assert isinstance(scored, Scored) and math.isfinite(scored.logprob)
        assert scored.logprob <= 1e-6 and scored.tokens > 0
    assert list(engine.score([])) == []


# --- judges ---


def check_judge(module: Any, options: Mapping[str, Any] | None, folder: Path) -> None:
    """On scripted engines, which count what they are asked. `options` None: none are known that it works with, and it
    may say what it lacks."""
    takes(module.build, "role", "options", "another")
    (folder / "judge.yaml").write_text("rules:\n  - text: Because.\n  - choose: hash\n")
    engines: list[ScriptedEngine] = []

    def another(settings: Mapping[str, Any]) -> Role:
        engines.append(build(EngineSettings("scripted", str(folder / "judge.yaml"))))
        return Role(engines[-1])

    try:
        judge = module.build(another({}), options or {}, another)
    except UserError:
        assert options is None
        return
    assert isinstance(judge, Judge)
    assert isinstance(judge.fingerprint, str) and judge.fingerprint
    assert isinstance(judge.question(KIND), Question) and judge.question(KIND).id == judge.question(KIND).id
    assert judge.question(KIND).principle == KIND.id
    cases = [_case("Mix it.", "Mix it, please.", KIND, SHORT), _case("No.", "Yes.", SHORT)]
    found = judge.judge(cases)
    assert isinstance(found, Judged)
    wanted = [(case.comparison.id, judge.question(p).id) for case in cases for p in case.principles]
    assert [(verdict.comparison, verdict.question) for verdict in found.verdicts] == wanted
    for verdict in found.verdicts:
        assert isinstance(verdict, Verdict)
        numbers = (verdict.p1, verdict.p2, verdict.mass1, verdict.mass2)
        assert all(isinstance(number, int) and 0 <= number <= PROBABILITY for number in numbers)
    for reason in found.reasons:
        assert isinstance(reason, Reason) and isinstance(reason.text, str) and reason.shown in (1, 2)
        assert (reason.comparison, reason.question) in wanted
    assert isinstance(found.used, Used)
    assert found.used.requests == sum(engine.calls.total() for engine in engines)
    assert found.used.prompt_tokens >= 0 and found.used.tokens >= 0
    nothing = judge.judge([])
    assert (list(nothing.verdicts), list(nothing.reasons), nothing.used) == ([], [], Used())


def _case(one: str, other: str, *principles: Principle) -> Case:
    comparison = Comparison.of(text_digest("prompt"), text_digest(one), text_digest(other))
    first, second = (one, other) if comparison.first == text_digest(one) else (other, one)
    return Case(comparison, ASKED, first, second, principles)


# --- rewards ---


def check_reward(module: Any, spec: Mapping[str, Any] | None) -> None:
    """`spec` None: none is known that it works with, and it may say what it lacks."""
    for name in ("check", "fingerprint", "build"):
        takes(getattr(module, name), "options")
    kind = module.__name__.rpartition(".")[2]
    try:
        module.check({} if spec is None else _options(spec))
    except UserError:
        assert spec is None
        return
    spec = spec or {"kind": kind}
    digest = module.fingerprint(_options(spec))
    inner = module.build(_options(spec))
    assert isinstance(inner, Reward) and inner.fingerprint == digest and isinstance(digest, str) and digest
    inner.close()
    prompts = [[{"role": "user", "content": ASKED[0].content}]] * 3
    answers = ["Mix it, please.", "No.", "Mix it and wait until it is done."]
    built = rewards.checked.Checked(module.build(_options(spec)), kind, digest, 0.0, rewards.LengthLine())
    try:
        found = built.score(prompts, answers)  # one finite number each, or `checked` says so
        assert built.score(prompts, answers[::-1]) == pytest.approx(found[::-1], abs=1e-4)
        assert built.score(prompts[:1], answers[1:2]) == pytest.approx(found[1:2], abs=1e-4)
    finally:
        built.close()


def _options(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "kind"}


# --- trainers ---


def check_trainer(name: str) -> None:
    """By what it declares: what it trains is for tests of its own."""
    module = trainers.load(name)
    takes(module.train, "job", "progress")
    assert module.KIND in ("policy", "reward_model")
    assert _are_names(module.COLUMNS) and module.COLUMNS and "prompt" in module.COLUMNS
    assert json.loads(json.dumps(dict(module.DEFAULTS))) == module.DEFAULTS  # a job's id hashes them
    assert _are_names(getattr(module, "READS", ()))
    known = arguments.reads(module)
    assert isinstance(getattr(module, "ONLINE", False), bool)
    assert getattr(module, "COEFFICIENT", None) is None or module.COEFFICIENT in known
    assert trainers.resolve(name, {}) == module.DEFAULTS
    assert trainers.resolve(name, module.DEFAULTS) == module.DEFAULTS
    for argument in known & module.DEFAULTS.keys():  # a number that is none is no value of anything
        with pytest.raises(UserError, match=f"arguments: {argument} is nan"):
            trainers.resolve(name, {argument: math.nan})
    with pytest.raises(UserError, match=f"{name} does not read no_such_argument"):
        trainers.resolve(name, {"no_such_argument": 1})


def _are_names(names: Any) -> bool:
    return not isinstance(names, str) and isinstance(names, Sequence | frozenset) and all(map(str.isidentifier, names))
