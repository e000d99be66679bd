"""Every noun of precept as a frozen record, and how each record's id is made.

An id names a *request*: it hashes what determined the record (its parents' contents, the model's fingerprint, the
template, the sampling, the seed), never the answer. What came back has a digest of its own, `content`, and children
hash their parents' `content`. So running again is resuming, and a retry cannot duplicate a row. `docs/decisions/`
and the golden ids in `tests/constitution/test_records.py` pin the recipe: change it and every store is void.

Probabilities are integers in units of 1e-9 and weights are integers in units of 1e-3, because the order of a float
sum changes its last bit, and a data set that is hashed would be trained again for nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, TypeVar

RECIPE = 1  # raised only when the way ids are made changes
PROBABILITY = 1_000_000_000  # the integer that stands for probability 1
WEIGHT = 1_000  # the integer that stands for weight 1

Id: TypeAlias = bytes  # 16 bytes
Role: TypeAlias = Literal["system", "user", "assistant"]
Split: TypeAlias = Literal["train", "dev", "heldout"]


def canonical(value: Any) -> str:
    """The one JSON text of a value: ASCII, sorted keys, no spaces. Raises ValueError on NaN or infinity."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Message):
        return {"role": value.role, "content": value.content}
    raise TypeError(f"{type(value).__name__} has no canonical form")


def make_id(kind: str, **parts: Any) -> Id:
    """Hash of a kind, the recipe number and what determined a record: 16 bytes of BLAKE2b."""
    text = canonical({"kind": kind, "recipe": RECIPE, **parts})
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).digest()


def text_digest(text: str) -> Id:
    """Digest of a text that came back from a model or a person. Lone surrogates and NUL are legal."""
    return make_id("text", text=text)


def seed_of(*parts: Any) -> int:
    """A 63-bit seed from a hash, so that an item samples alike whatever its batch holds."""
    return int.from_bytes(make_id("seed", parts=list(parts))[:8], "big") >> 1


class Digested:
    """A record that keeps its digest once it was computed: records do not change."""

    __slots__ = ("_digest",)
    _digest: Id

    def _once(self, compute: Callable[[], Id]) -> Id:
        try:
            return self._digest
        except AttributeError:
            known(self, compute())
            return self._digest


D = TypeVar("D", bound=Digested)


def known(record: D, digest: Id) -> D:
    """A record whose digest is known, as that of one that was stored under it is."""
    object.__setattr__(record, "_digest", digest)
    return record


# --- dialogues and prompts ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


Messages: TypeAlias = tuple[Message, ...]


def messages_of(rows: Sequence[Mapping[str, str]]) -> Messages:
    return tuple(Message(role=row["role"], content=row["content"]) for row in rows)  # type: ignore[arg-type]


def dialogue_id(messages: Messages) -> Id:
    return make_id("dialogue", messages=list(messages))


def split_group(messages: Messages) -> str:
    """What decides a prompt's split: its first user turn, folded to lower-case words (records that differ only in
    later turns, case, spacing or punctuation share a split)."""
    first = next((m.content for m in messages if m.role == "user"), messages[0].content if messages else "")
    folded = unicodedata.normalize("NFKC", first).casefold()
    return " ".join(re.findall(r"\w+", folded)) or folded


def split_of(messages: Messages, heldout: float = 0.2, dev: float = 0.1) -> Split:
    """The split a prompt is given once, at import, from a hash of its `split_group`. Fractions in [0, 1]."""
    point = int.from_bytes(make_id("split", group=split_group(messages))[:8], "big") / 2**64
    if point < heldout:
        return "heldout"
    return "dev" if point < heldout + dev else "train"


@dataclass(frozen=True, slots=True)
class Prompt(Digested):
    """A dialogue that ends in a user's turn. `id` is the dialogue's. `principles`: the ids of those of which alone the
    critic's are drawn; empty for all."""

    messages: Messages
    split: Split
    source: str = ""
    tags: tuple[str, ...] = ()
    principles: tuple[str, ...] = ()

    @property
    def id(self) -> Id:
        return self._once(lambda: dialogue_id(self.messages))


# --- what a model wrote ------------------------------------------------------------------------------------------

GenerationKind: TypeAlias = Literal["response", "critique", "revision"]
FinishReason: TypeAlias = Literal["stop", "length", "other"]


@dataclass(frozen=True, slots=True)
class Generation(Digested):
    """One text a model wrote: a Response, a Critique or a Revision (`kind`).

    `id` hashes the request; `content` digests `text`. `prompt` is the dialogue answered; `parent` the generation this
    one criticises or revises. `principle` is the principle's id (a name; provenance, not identity).
    """

    id: Id
    kind: GenerationKind
    prompt: Id
    text: str
    finish_reason: FinishReason
    engine: str  # fingerprint
    parent: Id | None = None
    principle: str | None = None
    round: int = 0
    sample: int = 0
    prompt_tokens: int = 0
    tokens: int = 0

    @property
    def content(self) -> Id:
        return self._once(lambda: text_digest(self.text))


def request_id(
    kind: GenerationKind,
    *,
    messages: Messages,
    engine: str,
    sampling: Mapping[str, Any],
    seed: int,
    attempt: int = 0,
    answer_prefix: str = "",
    template_args: Mapping[str, Any] | None = None,
) -> Id:
    """Id of a generation: everything that determined it is in the messages sent (so parents count by content).

    Settings at their defaults are left out, so that a new one does not void a store.
    """
    parts: dict[str, Any] = {"messages": list(messages), "engine": engine, "sampling": dict(sampling), "seed": seed}
    if attempt:
        parts["attempt"] = attempt
    if answer_prefix:
        parts["answer_prefix"] = answer_prefix
    if template_args:
        parts["template_args"] = dict(template_args)
    return make_id(kind, **parts)


# --- comparisons, verdicts, labels -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Comparison(Digested):
    """Two answers to one dialogue, the one with the lower content digest first. Depends on texts, not on who wrote
    them; `sides` of equal digest are refused (an answer is never compared with itself)."""

    prompt: Id
    first: Id  # content digest of the lower answer
    second: Id

    def __post_init__(self) -> None:
        if not self.first < self.second:
            raise ValueError("a comparison holds two different answers, the lower digest first; use Comparison.of")

    @classmethod
    def of(cls, prompt: Id, one: Id, other: Id) -> Comparison:
        return cls(prompt, *sorted((one, other)))

    @property
    def id(self) -> Id:
        return self._once(lambda: make_id("comparison", prompt=self.prompt, answers=[self.first, self.second]))


def question_id(judge: str, readout: Mapping[str, Any], template: str) -> Id:
    """Id of a question: the judge's fingerprint, how its answer is read out, and the question template: the request
    with the principle's words in it, and the slots for the dialogue and the answers left open. The id hashes it under
    `skeleton`, the word of before: another word would be another id."""
    return make_id("question", judge=judge, readout=dict(readout), skeleton=template)


@dataclass(frozen=True, slots=True)
class Question(Digested):
    """What a judge is asked about every comparison. `principle` is a principle's id (provenance, not identity)."""

    judge: str  # fingerprint
    readout: Mapping[str, Any]
    template: str  # the question template, see `question_id`
    principle: str = ""

    @property
    def id(self) -> Id:
        return self._once(lambda: question_id(self.judge, self.readout, self.template))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one judge answered to one question about one comparison, in both orders: evidence, no policy.

    `p1`: probability, in units of 1e-9, that the comparison's `first` answer is the better, when it was shown as A.
    `p2`: the same probability for the same answer, when it was shown as B. `mass1`, `mass2`: the probability that the
    options held together, before normalising over them. `tie1`, `tie2`: the tie option's, where one was offered.
    """

    question: Id
    comparison: Id
    p1: int
    p2: int
    mass1: int
    mass2: int
    tie1: int | None = None
    tie2: int | None = None

    @property
    def even(self) -> bool:
        """Exactly one half in both orders: it abstains under every rule, and no count of orders that agree has it."""
        return 2 * self.p1 == PROBABILITY == 2 * self.p2


@dataclass(frozen=True, slots=True)
class Reason:
    """What a reasoned judge wrote before it answered, as it wrote it: hostile text. `shown` 1: the comparison's first
    answer was A; 2: it was B."""

    question: Id
    comparison: Id
    shown: Literal[1, 2]
    text: str


@dataclass(frozen=True, slots=True)
class LabelRule:
    """How verdicts become a label: policy, applied by query, changed without asking a model anything.

    - An order whose options held less than `min_mass` of the probability is unreadable, and its verdict with it.
    - A verdict votes (in code and JSON it *bears*) when both orders name the same answer and |p1 + p2 - 1| is at least
      `min_margin`; a readable one that does not abstains. `min_margin` 0 with `consistent` False is the paper's mean.
    - A verdict of exactly one half in both orders abstains under every rule: its principle does not apply, or the two
      answers keep it alike.
    - A label needs readable verdicts that hold at least `min_readable` of the weight; else it is unreadable.
    - p(label) = 1/2 + sum(w * s) / (2 * sum(w)) over verdicts that vote, s = p1 + p2 - 1. All abstain: tied.
    - |2p - 1| under `tie_margin` is tied, and stays out of hard-label data sets.
    """

    min_mass: float = 0.5
    consistent: bool = True
    min_margin: float = 0.5
    min_readable: float = 0.5
    tie_margin: float = 0.1


@dataclass(frozen=True, slots=True)
class Voice:
    """How much the answers to one question count in a label, and how. `constitution.tally` makes labels of voices.

    - `tier`: the highest tier whose votes come to a decided label makes the label; one that is tied, or in which all
      abstain, passes on to the next below. Whether a label is unreadable is told from the weight of all tiers.
    - `hard`: a veto. A verdict that would decide a label by itself decides before every tier; two that name different
      answers tie the label, as a conflict. One that would not decide by itself says nothing. One that was asked and
      cannot be read leaves the label unreadable: it may have been a veto.
    - `clamp`: |p1 + p2 - 1| counts as this at most (x 1e9): a judge that reasons first is too sure of itself, so its
      probabilities are kept to 0.40 to 0.60 (Constitutional AI, arXiv 2212.08073, section 4.3). Whether the verdict
      votes is told from the probabilities as they are.
    - `rule`: what lets this question's verdicts be read and vote (`min_mass`, `consistent`, `min_margin`), where it is
      not the run's; `min_readable` and `tie_margin` are the label's, and always the run's.
    """

    weight: int  # x 1e3
    tier: int = 0
    hard: bool = False
    clamp: int | None = None
    rule: LabelRule | None = None


def together(voices: Sequence[Voice]) -> Voice:
    """The voice of a question that several principles ask in the same words: weights add, the highest tier is that of
    all, and it is hard where one of them is. How it is read (`clamp`, `rule`) is the question's, so the first one's."""
    first = voices[0]
    return replace(
        first,
        weight=sum(v.weight for v in voices),
        tier=max(v.tier for v in voices),
        hard=any(v.hard for v in voices),
    )


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a judge's trial decided about the labels of a run: the principles that have no voice, the label rule (None:
    the settings'), other rules by the method of the judge that a principle names, and why, in words."""

    left_out: tuple[str, ...] = ()
    rule: LabelRule | None = None
    rules: Mapping[str, LabelRule] = field(default_factory=dict)
    why: str = ""


LabelState: TypeAlias = Literal["decided", "tied", "unreadable"]


@dataclass(frozen=True, slots=True)
class Label:
    """The label of a comparison under voices and a rule. `p`: probability x 1e9 that `first` is the better.
    `conflict`: it is tied because two hard constraints name different answers."""

    comparison: Id
    state: LabelState
    p: int
    conflict: bool = False

    @property
    def preferred_first(self) -> bool | None:
        return None if self.state != "decided" or 2 * self.p == PROBABILITY else 2 * self.p > PROBABILITY


# --- training, evaluation, people, runs --------------------------------------------------------------------------


def job_id(*, parent: str, dataset: str, method: str, arguments: Mapping[str, Any], seed: int) -> Id:
    """Id of a training job: parent weights digest, data set digest, method, resolved arguments, seed."""
    return make_id("job", parent=parent, dataset=dataset, method=method, arguments=dict(arguments), seed=seed)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained model on disk. `digest` is that of the manifest's files: what the weights really are."""

    id: Id  # the job's
    kind: Literal["policy", "reward_model"]
    method: str
    path: str
    digest: str
    parent: str  # digest of the weights it started from
    dataset: str  # digest of the data set it was trained on
    constitution: str | None = None  # version hash its labels were computed under
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened once: a promotion, a ratification, a spot check, an undo. Ids are UUIDv7.

    `key` makes a submission idempotent: the same key twice is one event.
    """

    id: str
    kind: str
    at: str  # ISO 8601, UTC
    who: str
    key: str
    payload: Mapping[str, Any]


SpotAnswer: TypeAlias = Literal["first", "second", "tie", "skip", "neither"]


@dataclass(frozen=True, slots=True)
class SpotCheck:
    """What a person answered about a comparison, blind. `answer` names the comparison's side, not the screen's;
    `neither`: no answer is acceptable, which prefers none and is no tie. `principle`: the one that decided. `rewrite`:
    what the person would have answered. `asked`: the one principle that was asked about, none where it was the whole
    constitution. `probability`: with which the pair was drawn, where that is known."""

    event: str  # id of the event that recorded it
    at: str  # ISO 8601, UTC
    reviewer: str
    comparison: Id
    answer: SpotAnswer
    reason: str
    sampled_by: str  # how the pair was drawn: "random", "uncertain", "flips"
    principle: str = ""
    rewrite: str = ""
    asked: str = ""
    probability: float | None = None

    @property
    def share(self) -> float | None:
        """1 where the first answer was preferred, 0 the second, 0.5 a tie; None for `skip` and `neither`."""
        return {"first": 1.0, "second": 0.0, "tie": 0.5}.get(self.answer)


def probability(p: float) -> int:
    """A float probability as the store keeps it. Raises ValueError outside [0, 1] or when not finite."""
    if not math.isfinite(p) or not -1e-6 <= p <= 1 + 1e-6:
        raise ValueError(f"{p!r} is not a probability")
    return round(min(1.0, max(0.0, p)) * PROBABILITY)
