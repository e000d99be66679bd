"""An engine for tests: answers and faults from a file, the same for the same request, whatever was asked before.

`model` names a script: YAML with a list `rules`, or JSONL with a rule a line. The first rule that fits a request
answers it; a request that none fits is a UserError, because a hole in a script is a mistake. A rule:

    - match: "bake (?P<thing>\\w+)"    # regex; or `contains:` a text. Neither: fits all
      in: last                        # where to look: the last user message (default), or `all`, the whole rendering
      text: "Take {thing} and wait."  # {name} is what the group of that name matched
      finish_reason: stop             # or length, other
      reasoning: ""                   # a thinking block
      sleep: 0.5                      # seconds that each request takes

Instead of `text`:
- `texts: [...]`, one picked by a hash of the request and its seed;
- `choose: {A: 0.9, B: 0.1, mass: 0.95}` for choices (mass 1 if left out), or `choose: hash`, a repeatable random one;
- `prefer: "sorry"` with `p: 0.9`, for choices: the `match` regex has a group a label, in lower case, that catches what
  the label stands for (`Reply A:(?P<a>.*)Reply B:(?P<b>.*)`); where one alone matches `prefer` it gets `p`, else all
  are equal;
- `fault: {error: 500}`, an EngineError; `{error: hang, seconds: 60}` waits first; `times: 2` lets only the first two
  requests of this process fail, and `probability: 0.1` picks which by a hash. What does not fail looks at later rules.
- `refuse: too_long`, or another kind of `engine.Refused`: this request is refused, and the others are answered.

Rules with `text` or `texts` fit only what is to be generated, `choose` and `prefer` only choices. Scores are minus the
number of characters. A token is a byte. `options["log"]` names a file that gets a line a request before it is answered;
`options["context"]` is the most bytes of a rendering that are read: a longer one is refused as too long.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.error import MarkedYAMLError

from constitution.errors import UserError
from constitution.records import FinishReason, make_id, seed_of
from pipeline.engines.engine import (
    Capabilities,
    Chat,
    Choice,
    Choose,
    Completion,
    EngineError,
    EngineSettings,
    Generate,
    Refused,
    Score,
    Scored,
    WhyRefused,
)
from pipeline.options import words


class Fault(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    error: int | Literal["hang"]
    seconds: float = Field(3600.0, ge=0)  # that a hang lasts
    times: int | None = Field(None, ge=1)
    probability: float = Field(1.0, ge=0, le=1)


class Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    match: re.Pattern[str] | None = None
    contains: str | None = None
    where: Literal["last", "all"] = Field("last", alias="in")
    text: str | None = None
    texts: tuple[str, ...] = ()
    choose: dict[str, float] | Literal["hash"] | None = None
    prefer: re.Pattern[str] | None = None
    p: float = Field(0.9, ge=0, le=1)
    fault: Fault | None = None
    refuse: WhyRefused | None = None
    finish_reason: FinishReason = "stop"
    reasoning: str = ""
    sleep: float = Field(0.0, ge=0)

    @field_validator("choose")
    @classmethod
    def _probabilities(cls, choose: Any) -> Any:
        if isinstance(choose, dict) and not all(0 <= p <= 1 for p in choose.values()):
            raise ValueError("probabilities and mass lie between 0 and 1")
        return choose

    @model_validator(mode="after")
    def _one_answer(self) -> Rule:
        given = [self.text is not None, bool(self.texts), self.choose is not None, self.prefer is not None]
        if sum([*given, self.fault is not None, self.refuse is not None]) != 1:
            raise ValueError("a rule has exactly one of text, texts, choose, prefer, fault and refuse")
        if self.match is not None and self.contains is not None:
            raise ValueError("a rule has match or contains, not both")
        if self.prefer is not None and (self.match is None or not self.match.groupindex):
            raise ValueError("prefer needs a match with a named group for each label, in lower case")
        return self

    def fits(self, kind: str, last: str, everything: str) -> re.Match[str] | bool | None:
        """What the rule's regex matched; True where it has none and fits; None or False where it does not fit."""
        if (
            self.fault is None
            and self.refuse is None
            and (kind == "generate") != (self.text is not None or bool(self.texts))
        ):
            return None
        text = last if self.where == "last" else everything
        if self.match is not None:
            return self.match.search(text)
        return self.contains is None or self.contains in text


def build(settings: EngineSettings) -> ScriptedEngine:
    unknown = set(settings.options) - {"log", "context"}
    if unknown:
        raise UserError(
            f"the scripted engine has no option {', '.join(sorted(unknown))}; it knows log (a file) and context (bytes)"
        )
    log, context = settings.options.get("log"), settings.options.get("context")
    if context is not None and (type(context) is not int or context < 1):
        raise UserError(f"the scripted engine's option context is a number of bytes, not {context!r}")
    return ScriptedEngine(Path(settings.model), Path(log) if log else None, context)


check = build  # which loads nothing


class ScriptedEngine:
    """See the module. `calls` counts the requests answered or failed so far: generate, choose (a chat each), score."""

    capabilities = Capabilities()

    def __init__(self, script: Path, log: Path | None = None, context: int | None = None) -> None:
        """Raises UserError, with the line, for a script that is not as the module says."""
        data, self._rules = _load(script)
        self.fingerprint = make_id("engine", engine="scripted", script=hashlib.sha256(data).hexdigest()).hex()
        self.calls: Counter[str] = Counter()
        self._script = script
        self._log = log
        self._context = context
        self._failed: Counter[int] = Counter()  # faults so far, by rule

    def render(self, chat: Chat) -> list[int]:
        return list(_rendering(chat).encode("utf-8", "surrogatepass"))

    def generate(self, requests: Sequence[Generate]) -> list[Completion | Refused]:
        return [self._generate(request) for request in requests]

    def choose(self, groups: Sequence[Choose]) -> list[list[Choice | Refused]]:
        return [[self._choose(chat, group.labels) for chat in group.chats] for group in groups]

    def score(self, requests: Sequence[Score]) -> list[Scored | Refused]:
        scored: list[Scored | Refused] = []
        for request in requests:
            self._count("score", request.chat, 0)
            if refused := self._too_long(_rendering(request.chat) + request.completion):
                scored.append(refused)
                continue
            tokens = len(request.completion.encode("utf-8", "surrogatepass")) + request.end
            whole = len(self.render(request.chat)) + tokens
            scored.append(Scored(-float(len(request.completion)), tokens, whole))
        return scored

    def close(self) -> None:
        pass

    def _generate(self, request: Generate) -> Completion | Refused:
        rule, found = self._rule("generate", request.chat, request.seed)
        if isinstance(rule, Refused):
            return rule
        text = rule.text
        if text is None:
            text = rule.texts[seed_of("texts", _rendering(request.chat), request.seed) % len(rule.texts)]
        groups = found.groupdict() if isinstance(found, re.Match) else {}
        text = re.sub(r"\{(\w+)\}", lambda slot: groups.get(slot[1], slot[0]) or "", text)
        tokens = len(text.encode("utf-8", "surrogatepass"))
        return Completion(text, rule.finish_reason, len(self.render(request.chat)), tokens, rule.reasoning)

    def _choose(self, chat: Chat, labels: tuple[str, ...]) -> Choice | Refused:
        rule, found = self._rule("choose", chat, 0)
        if isinstance(rule, Refused):
            return rule
        mass = 1.0
        if rule.choose == "hash":
            weights = [_uniform("choose", _rendering(chat), label) for label in labels]
        elif rule.choose is not None:
            weights = [rule.choose.get(label, 0.0) for label in labels]
            mass = rule.choose.get("mass", 1.0)
        else:
            weights = _preferring(rule, found, labels)
        total = sum(weights)
        if mass == 0 or total == 0:
            return Choice((1 / len(labels),) * len(labels), 0.0, len(self.render(chat)))
        return Choice(tuple(weight / total for weight in weights), mass, len(self.render(chat)))

    def _rule(
        self, kind: Literal["generate", "choose"], chat: Chat, seed: int
    ) -> tuple[Rule | Refused, re.Match[str] | bool]:
        """The rule that answers, and what it matched; or that the request is refused. Raises EngineError for a
        fault."""
        self._count(kind, chat, seed)
        everything = _rendering(chat)
        if refused := self._too_long(everything):
            return refused, False
        last = next((message.content for message in reversed(chat.messages) if message.role == "user"), "")
        for place, rule in enumerate(self._rules):
            found = rule.fits(kind, last, everything)
            if not found:
                continue
            if rule.refuse is not None:
                return Refused(rule.refuse, f"the script refuses this request ({rule.refuse})"), found
            if rule.fault is None:
                time.sleep(rule.sleep)
                return rule, found
            used_up = rule.fault.times is not None and self._failed[place] >= rule.fault.times
            if not used_up and _uniform("fault", place, everything, seed) < rule.fault.probability:
                self._failed[place] += 1
                time.sleep(rule.fault.seconds if rule.fault.error == "hang" else rule.sleep)
                raise EngineError(f"scripted fault {rule.fault.error}; nothing was lost: run again")
        raise UserError(f"no rule of {self._script} answers this request to {kind}: {last[:80]!r}")

    def _too_long(self, text: str) -> Refused | None:
        tokens = len(text.encode("utf-8", "surrogatepass"))
        if self._context is None or tokens <= self._context:
            return None
        return Refused("too_long", f"A text has {tokens} tokens, and the script reads at most {self._context}.")

    def _count(self, kind: str, chat: Chat, seed: int) -> None:
        self.calls[kind] += 1
        if self._log is not None:
            line = {
                "kind": kind,
                "request": make_id("asked", text=_rendering(chat), seed=seed).hex(),
                "process": os.getpid(),
            }
            with self._log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")


def _preferring(rule: Rule, found: re.Match[str] | bool, labels: tuple[str, ...]) -> list[float]:
    texts: Mapping[str, str | None] = found.groupdict() if isinstance(found, re.Match) else {}
    assert rule.prefer is not None
    liked = [bool(rule.prefer.search(texts.get(label.lower()) or "")) for label in labels]
    if sum(liked) != 1 or len(labels) == 1:
        return [1.0] * len(labels)
    return [rule.p if like else (1 - rule.p) / (len(labels) - 1) for like in liked]


def _rendering(chat: Chat) -> str:
    turns = [f"{message.role}: {message.content}\n" for message in chat.messages]
    args = json.dumps(dict(chat.template_args), sort_keys=True) + "\n" if chat.template_args else ""
    return f"{args}{''.join(turns)}assistant: {chat.answer_prefix}"


def _uniform(*parts: Any) -> float:
    """A number in [0, 1) that is the same for the same parts."""
    return seed_of("scripted", *parts) / 2**63


def _load(script: Path) -> tuple[bytes, list[Rule]]:
    try:
        data = script.read_bytes()
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the script {script}: {getattr(error, 'strerror', None) or error}") from None
    entries = _jsonl(script, text) if script.suffix == ".jsonl" else _yaml(script, text)
    if not entries:
        raise UserError(f"{script} has no rules; write `rules:` and a list, or a JSONL file with a rule a line")
    rules = []
    for line, entry in entries:
        try:
            rules.append(Rule.model_validate(entry))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            said = words(first, Rule.model_fields)
            raise UserError(f"{script}, line {line}: {where + ': ' if where else ''}{said}") from None
    return data, rules


def _jsonl(script: Path, text: str) -> list[tuple[int, Any]]:
    entries = []
    for line, row in enumerate(text.split("\n"), start=1):
        if row.strip():
            try:
                entries.append((line, json.loads(row)))
            except ValueError as error:
                raise UserError(f"{script}, line {line}: not JSON ({error})") from None
    return entries


def _yaml(script: Path, text: str) -> list[tuple[int, Any]]:
    try:
        tree = YAML().load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{script}, line {line}: {error.problem}") from None
    rules = tree.get("rules") if isinstance(tree, dict) and len(tree) == 1 else None
    if not isinstance(rules, CommentedSeq):
        raise UserError(f"{script}, line 1: the file must hold `rules:` and a list, and nothing else")
    return [(rules.lc.item(place)[0] + 1, entry) for place, entry in enumerate(rules)]
