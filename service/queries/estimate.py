"""What a run of `improve` will ask, counted before anything is asked: calls, tokens, seconds.

Counts are upper bounds: answers of equal text are never compared, dropped revisions are never judged, and what the
store holds already is not asked again (a finished run asks nothing). Tokens are those that an earlier run of the same
store used for such a request, or else guessed from the length of the texts. Seconds come from an earlier run, or from a
few requests that are timed now (`timing`): without either they are None, because a guess would be worse than nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from statistics import fmean
from typing import Any, Literal

from constitution.principles import Constitution
from constitution.records import Message, Prompt
from constitution.templates import answer_request, comparison_request, critique_request, revision_request
from pipeline import promote, suites, trainers
from pipeline.judges.by_principle import by_models
from pipeline.sources.source import sample
from service.identity import run_key
from service.placement import Placement, placed
from service.queries import trials
from service.queries.drawn import SAMPLED
from service.queries.runs import as_it_is
from service.queries.timing import Timed, timed
from service.settings import Settings
from service.wiring import Wiring
from storage.runs import Run
from storage.store import Store

CHARACTERS_A_TOKEN = 4  # of English, in the vocabularies of today's models
PROBES = 40  # pairs a principle: see `stages`
HELDOUT_FEEDBACK = 150  # prompts, and two answers to each: see `improve`
ORDERS = 2
CHOICE = 40  # tokens of a question of a suite with one of its choices


@dataclass(frozen=True)
class Stage:
    """`calls`: requests to a model, a verdict being two of them. `tokens`: read and written, or None: not known."""

    name: str
    kind: Literal["generate", "choose"]
    calls: int
    tokens: int


@dataclass(frozen=True)
class Estimate:
    run: Run | None  # the run of these settings, where it was begun before
    stages: tuple[Stage, ...]
    seconds: float | None
    cost_per_1k_tokens: float
    measured_by: str = ""  # the run that the averages and the rates come from
    sample: Timed | None = None  # or the few requests that were timed for it; training is not in them
    prompts: Mapping[str, int] = field(default_factory=dict)
    trials: Mapping[str, str] = field(default_factory=dict)  # by role, what the last trial of it found
    placement: Placement | None = None  # what runs where
    refused: tuple[str, ...] = ()  # why the gate would refuse whatever came out

    @property
    def finished(self) -> bool:
        return self.run is not None and self.run.status == "finished"

    def calls(self, kind: str | None = None) -> int:
        return 0 if self.finished else sum(s.calls for s in self.stages if kind in (None, s.kind))

    @property
    def tokens(self) -> int:
        return 0 if self.finished else sum(s.tokens for s in self.stages)

    def as_dict(self) -> dict[str, Any]:
        return {
            "run": self.run.id.hex() if self.run else None,
            "status": self.run.status if self.run else "new",
            "prompts": dict(self.prompts),
            "stages": [{"name": s.name, "kind": s.kind, "calls": s.calls, "tokens": s.tokens} for s in self.stages],
            "calls": {"generated": self.calls("generate"), "chosen": self.calls("choose"), "total": self.calls()},
            "tokens": self.tokens,
            "cost": self.tokens / 1000 * self.cost_per_1k_tokens if self.cost_per_1k_tokens else None,
            "seconds": 0.0 if self.finished else self.seconds,
            "measured_by": self.measured_by or None,
            "trials": dict(self.trials),
            "refused": list(self.refused),
            "placement": self.placement.as_dict() if self.placement else None,
            "sample": asdict(self.sample) if self.sample else None,
        }


def estimate(wiring: Wiring, sample: bool = False) -> Estimate:
    """The estimate of `improve` under a wiring's settings. Opens the store and reads the prompts; loads no model, but
    with `sample`, where no run was measured and the models are at hand: then each role is asked a few questions."""
    prompts = wiring.prompts()
    earlier = measured(wiring.store)
    lengths = Lengths(wiring.settings, wiring.constitution, prompts, wiring.store, earlier)
    by_code = wiring.constitution.weights().keys() - {p.id for p in by_models(wiring.constitution)}
    known = [
        pair for pair in trials.chosen(wiring.constitution, wiring.settings).pairs if pair.principle not in by_code
    ]
    asks = len(by_models(wiring.constitution))
    tried = sum(1 if pair.principle else asks for pair in known)
    about = len({p.when.ask for p in wiring.constitution if p.when is not None and p.when.ask})
    stages = tuple(count(wiring.settings, asks, _by_split(prompts), lengths, tried, about, wiring.code_measures))
    run = find("improve", wiring, prompts)
    wanted = sample and earlier is None and not (run and run.status == "finished")
    found = timed(wiring, prompts) if wanted else None
    seconds = _seconds(earlier, sum(s.calls for s in stages))
    return Estimate(
        run=run,
        stages=stages,
        seconds=found.loading + sum(s.calls * found.by_role[_asks(s)] for s in stages) if found else seconds,
        sample=found,
        cost_per_1k_tokens=wiring.settings.limits.cost_per_1k_tokens,
        measured_by=earlier.id.hex() if earlier else "",
        prompts=_by_split(prompts),
        placement=placed(wiring, prompts),
        refused=tuple(promote.foreseen(wiring.settings.conditions(), _harmless(wiring.settings, prompts))),
        trials={
            role: trials.said(
                trials.last(wiring.store, wiring.settings, role, wiring.constitution.version),
                role,
                wiring.settings.trial.required,
                by_code=wiring.code_decides,
                no_model=role == "evaluator" and wiring.code_measures,
                checked=bool(by_code),
            )
            for role in trials.ROLES
        },
    )


def _harmless(settings: Settings, prompts: Sequence[Prompt]) -> list[bool]:
    heldout = [p for p in prompts if p.split == "heldout"]
    return ["harmless" in p.tags for p in sample(heldout, settings.evaluate.prompts)]


def find(kind: str, wiring: Wiring, prompts: Sequence[Prompt] | None = None) -> Run | None:
    """The run that a flow would begin or go on with under these settings, where the store has it."""
    if prompts is None:
        prompts = wiring.prompts() if wiring.settings.prompts or kind != "judge" else []
    run = wiring.store.run_of_key(run_key(kind, wiring, prompts))
    return None if run is None else as_it_is(wiring.store, run)


def count(
    settings: Settings,
    principles: int,
    prompts: Mapping[str, int],
    lengths: Lengths,
    tried: int = 0,
    about: int = 0,
    code_measures: bool = False,
) -> list[Stage]:
    """The stages of `improve`, in its order, with at most so many calls each. `principles`: those that a model judges.
    `prompts`: how many, by split; `tried`: verdicts on known pairs that each of the two judges is asked for; `about`:
    questions whether principles apply, that each is asked of each prompt; `code_measures`: the evaluator has no
    model."""
    code_measures = code_measures or settings.code_measures
    train, heldout = prompts.get("train", 0), prompts.get("heldout", 0)
    rounds, compare = settings.revise.rounds, settings.compare
    revised = train * (rounds if settings.sft.use == "all" else min(rounds, 1))
    feedback = min(heldout, HELDOUT_FEEDBACK)
    measured = min(heldout, settings.evaluate.prompts)
    probes = PROBES * principles * ORDERS
    pairs = min(compare.pairs, compare.samples * (compare.samples - 1) // 2)

    def generate(name: str, calls: int) -> Stage:
        return Stage(name, "generate", calls, round(calls * lengths.generation(name)))

    def judge(name: str, comparisons: int) -> Stage:
        labels = compare.principles == SAMPLED and name != "verdicts on evaluation"
        calls = comparisons * (min(1, principles) if labels else principles) * ORDERS
        return Stage(name, "choose", calls, round(calls * lengths.verdict))

    # A further round answers, judges, and is measured against the last model and the first; no round is a revision.
    again, dev = settings.rounds - 1, min(prompts.get("dev", 0), settings.evaluate.prompts)
    further = [
        generate("further rounds", again * (train * compare.samples + feedback * 2 + dev * 2)),
        judge("verdicts of further rounds", again * (train * pairs + feedback + dev * 2)),
    ] if again else []  # fmt: skip
    online = getattr(trainers.load(settings.optimise.method), "ONLINE", False)
    measured_online = min(prompts.get("dev", 0), settings.watch.prompts) * settings.rounds if online else 0
    of_suites = suites.prompts(suites.chosen(settings.evaluate.suites))
    questions = chain.from_iterable(suites.items(suites.chosen(settings.evaluate.suites)).values())
    choices = 2 * sum(len(item.choices) for item in questions)
    own = sum(map(len, of_suites.values()))
    read = ORDERS * 2 * sum(len(found) * len(suites.questions(name)) for name, found in of_suites.items())
    read = read if settings.evaluate.reading else 0

    whom = about * ORDERS * (train + feedback + measured)

    def on_trial(role: str) -> Stage:
        return Stage(f"trial of the {role}", "choose", tried * ORDERS, round(tried * ORDERS * lengths.verdict))

    return [
        *([on_trial("judge")] if tried else []),
        *([on_trial("evaluator")] if tried and not code_measures else []),
        generate("answers", train),
        generate("critiques", train * rounds if settings.revise.critique else 0),
        generate("revisions", train * rounds),
        judge("verdicts on revisions", revised),
        Stage("probes of the judge", "choose", probes, round(probes * lengths.verdict)),
        generate("samples", train * compare.samples + feedback * 2),
        judge("verdicts on samples", train * (pairs + min(rounds, 1)) + feedback),
        *further,
        *([generate("answers for the evaluation callback", measured_online)] if measured_online else []),
        *([Stage("whom principles are for", "choose", whom, round(whom * lengths.verdict))] if about else []),
        generate("evaluation", measured * 3),
        judge("verdicts on evaluation", 0 if code_measures else measured),
        *([generate("answers to suites", own * 2)] if own else []),
        *([Stage("choices of suites", "choose", choices, choices * CHOICE)] if choices else []),
        *([Stage("answers to suites, read", "choose", read, round(read * lengths.verdict))] if read else []),
    ]


STORED_AS = {"answers": "answers", "critiques": "revisions.0.critique", "revisions": "revisions.0"}


class Lengths:
    """Mean tokens of a request with its answer: of an earlier run's, or else from the texts' lengths."""

    def __init__(
        self,
        settings: Settings,
        constitution: Constitution,
        prompts: Sequence[Prompt],
        store: Store | None = None,
        earlier: Run | None = None,
    ) -> None:
        self._critic = settings.critic or settings.policy
        self._answer = float(settings.policy.max_tokens)
        dialogue = (Message("user", "x" * round(_mean([_characters(p.messages) for p in prompts]))),)
        reply = "x" * round(self._answer * CHARACTERS_A_TOKEN)
        self._found: dict[str, float] = {}
        for name, stage in STORED_AS.items():
            answered = store.generations_of(earlier.id, stage) if store and earlier else []
            if answered:
                self._found[name] = _mean([g.prompt_tokens + g.tokens for g in answered])
                if name == "answers":
                    reply = "x" * round(_mean([len(g.text) for g in answered]))
        written = reply[: round(self._critic.max_tokens * CHARACTERS_A_TOKEN)]
        texts = list(constitution.principles)
        again = settings.revise.way == "answer"
        self._read = {
            "answers": _tokens([dialogue]),
            "critiques": _tokens([critique_request(dialogue, reply, p) for p in texts]),
            "revisions": _tokens(
                [answer_request(dialogue, p) if again else revision_request(dialogue, reply, written, p) for p in texts]
            ),
        }
        self.verdict = _tokens([comparison_request(dialogue, reply, reply, p) for p in texts]) + 1

    def generation(self, stage: str) -> float:
        """Tokens read and written by one request of a stage. Samples and evaluation answer as `answers` does."""
        name = stage if stage in STORED_AS else "answers"
        if name in self._found:
            return self._found[name]
        return self._read[name] + (self._answer if name == "answers" else self._critic.max_tokens)


def measured(store: Store) -> Run | None:
    """The newest finished run of the loop that asked a model something: what its seconds and lengths can tell."""
    for run in store.runs():
        if run.kind == "improve" and run.status == "finished" and _asked(run):
            return run
    return None


def _asked(run: Run) -> int:
    calls = run.result["calls"]
    return int(calls["generated"] + calls["chosen"])


def _seconds(earlier: Run | None, calls: int) -> float | None:
    """Seconds at the earlier run's rate; starting, loading and training take what they took then."""
    if earlier is None:
        return None
    spent = earlier.result["seconds"]
    fixed = spent["startup"] + spent["models"] + spent["training"]
    return float(fixed + spent["asking"] / _asked(earlier) * calls)


def _asks(stage: Stage) -> str:
    """The role that a stage asks."""
    if stage.kind == "choose":
        return "evaluator" if stage.name in ("verdicts on evaluation", "trial of the evaluator") else "judge"
    return "critic" if stage.name in ("critiques", "revisions") else "policy"


def _by_split(prompts: Sequence[Prompt]) -> dict[str, int]:
    found = {"train": 0, "dev": 0, "heldout": 0}
    for prompt in prompts:
        found[prompt.split] += 1
    return found


def _tokens(requests: Sequence[Sequence[Message]]) -> float:
    return _mean([_characters(r) for r in requests]) / CHARACTERS_A_TOKEN


def _characters(messages: Sequence[Message]) -> int:
    return sum(len(m.content) for m in messages)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
