"""The AI judge itself as a reward: how likely an answer beats the stored one to the same prompt, under a constitution.

    reward = 1/2 + sum(w * s) / (2 * sum(w)),  s = p1 + p2 - 1

over the principles whose verdict votes under the label rule (`constitution.records.LabelRule`; with tiers, those of the
tier that decides), turned to the side of the answer that is rewarded: the p of the label that the store would compute
from the same verdicts, in the same integers. It is 1/2 where all principles abstain, where the two texts are equal, and
where the label is unreadable; and where the judge had to omit a question of the pair (too long for it, say), which is
said in the log and asked again by the next reward.

`against` is a JSONL file of rows {"prompt": messages, "answer": text}, with every prompt that will be asked about, and
its `tags` where principles apply by them. A prompt with several stored answers: the mean over them. No pair is judged
twice by one reward.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

import pipeline.engines
import pipeline.judges
from constitution import loading
from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import (
    PROBABILITY,
    Comparison,
    Id,
    LabelRule,
    Messages,
    Ruling,
    Verdict,
    Voice,
    dialogue_id,
    make_id,
    messages_of,
    text_digest,
)
from pipeline import label, plugins
from pipeline.asking import Role
from pipeline.engines.engine import Engine, EngineError, EngineSettings, Sampling
from pipeline.judges.applies import every_tag
from pipeline.judges.judge import Case, Judge
from pipeline.keys import secret
from pipeline.metrics import attribution, voting
from pipeline.models.checkpoint import file_digest
from pipeline.rewards.options import Options, read
from pipeline.rewards.reward import Dialogue
from pipeline.training_rows import read_rows

log = logging.getLogger(__name__)


class JudgeOptions(Options):
    engine: EngineSettings
    api_key_env: str = ""  # the environment variable of the server's key, where it wants one
    constitution: Path  # a constitution's file
    against: Path  # JSONL
    method: str = "choice"  # a module of pipeline.judges
    judge_options: Mapping[str, Any] = Field(default_factory=dict)  # its own
    answer_prefix: str = ""
    template_args: Mapping[str, Any] = Field(default_factory=dict)
    rule: LabelRule = LabelRule()
    left_out: tuple[str, ...] = ()  # principles without a voice
    rules: Mapping[str, LabelRule] = Field(default_factory=dict)  # by the method of a principle's own judge
    evaluator: bool = False  # it measures, and made none of the labels: see pipeline.judges.by_principle

    @property
    def ruling(self) -> Ruling:
        return Ruling(self.left_out, self.rule, self.rules)


class FurtherRole(Options):
    """What a judge may say of a further role in its options: the names that settings have for it."""

    kind: str = "transformers"
    model: str  # a folder, or the name a server knows
    revision: str = ""
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    batch_size: int = Field(64, ge=1)
    base_url: str | list[str] = ""
    api_key_env: str = "OPENAI_API_KEY"
    options: Mapping[str, Any] = Field(default_factory=dict)
    answer_prefix: str = ""
    template_args: Mapping[str, Any] = Field(default_factory=dict)
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(96, ge=1)


def check(options: Mapping[str, Any]) -> None:
    """The engine's settings, the constitution and the stored answers are sound. No model is loaded."""
    check_options(options)
    stored(read(JudgeOptions, "judge", options).against)


def check_options(options: Mapping[str, Any]) -> None:
    """The engine's settings and the constitution are sound; the stored answers need not be there yet."""
    given = read(JudgeOptions, "judge", options)
    pipeline.engines.check(given.engine)
    pipeline.judges.load(given.method)
    loading.load(given.constitution)


def fingerprint(options: Mapping[str, Any]) -> str:
    given = read(JudgeOptions, "judge", options)
    constitution = loading.load(given.constitution)
    roles = _Roles(pipeline.engines.named)
    try:
        voices = label.voices(constitution, roles.judge(given), given.ruling)
    finally:
        roles.close()
    return make_id(
        "reward_judge",
        questions={question.hex(): _plain(voice) for question, voice in voices.items()},
        against=file_digest(given.against),
        rule=asdict(given.rule),
    ).hex()


def _plain(voice: Voice) -> Any:
    """A voice as the fingerprint hashes it: one that is nothing but a weight is that."""
    return voice.weight if voice == Voice(voice.weight) else asdict(voice)


def build(options: Mapping[str, Any]) -> JudgeReward:
    given = read(JudgeOptions, "judge", options)
    constitution, against, digest = loading.load(given.constitution), stored(given.against), fingerprint(options)
    roles = _Roles(pipeline.engines.build)
    try:
        judge = roles.judge(given)
    except BaseException:
        roles.close()
        raise
    return JudgeReward(judge, constitution, against, given.ruling, digest, [roles], stored_tags(given.against))


class _Roles:
    """The roles of one judge, and their engines: as many as it asks for."""

    def __init__(self, make: Callable[[EngineSettings], Engine]) -> None:
        self._make = make
        self._engines: list[Engine] = []

    def judge(self, given: JudgeOptions) -> Judge:
        engine = self._engine(given.engine, given.api_key_env)
        role = Role(engine, answer_prefix=given.answer_prefix, template_args=given.template_args)
        return pipeline.judges.build(given.method, role, given.judge_options, self.another, evaluator=given.evaluator)

    def another(self, settings: Mapping[str, Any]) -> Role:
        given = read(FurtherRole, "judge", settings)
        names = ("kind", "model", "revision", "dtype", "device", "batch_size", "base_url", "options")
        engine = EngineSettings(**{name: getattr(given, name) for name in names})
        engine = replace(engine, model=plugins.packaged_model(engine.model) or engine.model)
        return Role(
            self._engine(engine, given.api_key_env if given.base_url else ""),
            sampling=Sampling(given.temperature, given.top_p, given.max_tokens),
            answer_prefix=given.answer_prefix,
            template_args=given.template_args,
        )

    def close(self) -> None:
        while self._engines:
            self._engines.pop().close()

    def _engine(self, settings: EngineSettings, variable: str) -> Engine:
        key = secret(variable) if variable else None
        keyed = replace(settings, options={**settings.options, "api_key": key}) if key else settings
        self._engines.append(self._make(keyed))
        return self._engines[-1]


def stored(path: Path) -> dict[Id, list[str]]:
    """The stored answers of each dialogue. Raises UserError, with the line, for a row that is not one."""
    answers: dict[Id, list[str]] = {}
    for row in read_rows(path, ("prompt", "answer")):
        texts = answers.setdefault(dialogue_id(messages_of(row["prompt"])), [])
        if row["answer"] not in texts:
            texts.append(row["answer"])
    return answers


def stored_tags(path: Path) -> dict[Id, tuple[str, ...]]:
    """The tags of each dialogue whose row has any (`tags`, a list of texts), of a file that `stored` has read."""
    if path.suffix != ".jsonl":
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {
        dialogue_id(messages_of(row["prompt"])): tuple(map(str, row["tags"]))
        for row in rows
        if isinstance(row.get("tags"), list) and isinstance(row.get("prompt"), list)
    }


class JudgeReward:
    """See the module."""

    def __init__(
        self,
        judge: Judge,
        constitution: Constitution,
        against: Mapping[Id, Sequence[str]],
        ruling: Ruling,
        digest: str,
        owned: Sequence[Any] = (),
        tags: Mapping[Id, tuple[str, ...]] | None = None,
    ) -> None:
        """`owned` is closed with the reward. `tags`: the prompts', by which principles apply to them or not; a prompt
        without is one to which each is meant to apply."""
        self.name, self.fingerprint = f"({judge.fingerprint[:8]})", digest
        self._judge, self._against, self._rule = judge, against, ruling.rule or LabelRule()
        self._principles = tuple(p for p in constitution.principles if p.id not in ruling.left_out)
        self._voices = label.voices(constitution, judge, ruling)
        self._owned = owned
        self._tags, self._every_tag = tags or {}, every_tag(constitution.principles)
        self._said: dict[Id, float | None] = {}  # by comparison, for its first answer; None where unreadable

    def score(self, prompts: Sequence[Dialogue], answers: Sequence[str]) -> list[float]:
        """Raises UserError for a prompt that has no stored answer."""
        dialogues = [messages_of(prompt) for prompt in prompts]
        wanted = [self._pairs(dialogue, answer) for dialogue, answer in zip(dialogues, answers, strict=True)]
        self._ask({case.comparison.id: case for pairs in wanted for case in pairs if case is not None}.values())
        return [
            sum(self._of(case, text_digest(answer)) for case in pairs) / len(pairs)
            for pairs, answer in zip(wanted, answers, strict=True)
        ]

    def close(self) -> None:
        for engine in self._owned:
            engine.close()

    def _pairs(self, dialogue: Messages, answer: str) -> list[Case | None]:
        """The answer against each stored one, None where they are the same."""
        prompt = dialogue_id(dialogue)
        if prompt not in self._against:
            raise UserError(
                f"the judge has no stored answer to the prompt {dialogue[-1].content[:60]!r}; add one to the file that "
                "against names"
            )
        return [self._case(prompt, dialogue, answer, other) for other in self._against[prompt]]

    def _case(self, prompt: Id, dialogue: Messages, answer: str, other: str) -> Case | None:
        if answer == other:
            return None
        comparison = Comparison.of(prompt, text_digest(answer), text_digest(other))
        first, second = (answer, other) if comparison.first == text_digest(answer) else (other, answer)
        tags = self._tags.get(prompt, self._every_tag)
        return Case(comparison, dialogue, first, second, self._principles, tags)

    def _ask(self, cases: Iterable[Case]) -> None:
        missing = [case for case in cases if case.comparison.id not in self._said]
        if not missing:
            return
        try:
            judged = self._judge.judge(missing)
        except EngineError as error:
            raise UserError(f"the judge {self.name}: {error}") from None
        omitted = {o.comparison: o for o in judged.omitted}
        said = probabilities(judged.verdicts, self._voices, self._rule)
        for case in missing:
            comparison = case.comparison.id
            self._said[comparison] = None if comparison in omitted else said.get(comparison)
        if omitted:
            first = next(iter(omitted.values())).refused.said
            log.warning(
                "the judge %s could not be asked about %d of %d pairs, which are rewarded as if neither answer were "
                "better: %s",
                self.name,
                len(omitted),
                len(missing),
                first,
            )

    def _of(self, case: Case | None, answer: Id) -> float:
        p = None if case is None else self._said[case.comparison.id]
        if case is None or p is None:
            return 0.5
        return p if case.comparison.first == answer else 1 - p


def probabilities(
    verdicts: Sequence[Verdict], voices: Mapping[Id, Voice | int], rule: LabelRule
) -> dict[Id, float | None]:
    """The p of the label of each comparison that has a verdict, None where it is unreadable: as the store computes it
    from the same verdicts (`constitution.tally`). A verdict for each question at most."""
    names = {question.hex(): question for question in voices}
    said = {name: voices[question] for name, question in names.items()}
    votes = voting.votes(voting.evidence(verdicts), names, said, rule)
    p, outcomes = attribution.labels(attribution.sums(votes), rule)
    found = zip(votes.comparisons, p.tolist(), outcomes.tolist(), strict=True)
    return {id: None if outcome == attribution.UNREADABLE else value / PROBABILITY for id, value, outcome in found}
