"""A pool of short answers in a store, judged by a hash: cheap, repeatable, the same whoever asks, in whatever order.

What the code under test has in SQL is here in plain Python, written from `LabelRule`'s docstring.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from constitution import loading
from constitution.principles import Constitution, Principle
from constitution.records import (
    PROBABILITY,
    Comparison,
    Generation,
    Id,
    LabelRule,
    Message,
    Prompt,
    Question,
    Verdict,
    make_id,
)
from constitution.templates import question_template
from pipeline import label
from pipeline.judges.judge import Case, Judged, Used
from service.settings import CompareSettings, JudgeSettings, ReviseSettings, RoleSettings, Settings
from service.wiring import Wiring
from service.work.progress import Silent
from service.work.work import Work
from storage.runs import Run
from storage.store import Store

SAMPLES = 5  # answers a prompt: ten pairs
SEED, ROUNDS = 7, 2
RULE = LabelRule()


class HashJudge:
    """Says what a hash of (question, comparison) says. Of ten verdicts six vote, two are even, one depends on the
    order, one is unreadable."""

    fingerprint = "hash judge"

    def __init__(self) -> None:
        self.asked: list[tuple[Id, Id]] = []  # (question, comparison), both orders each

    def question(self, principle: Principle) -> Question:
        return Question(self.fingerprint, {"method": "hash"}, question_template(principle), principle.id)

    def judge(self, cases: Sequence[Case]) -> Judged:
        asked = [(self.question(p).id, case.comparison.id) for case in cases for p in case.principles]
        self.asked += asked
        return Judged([verdict(*pair) for pair in asked], used=Used(requests=2 * len(asked)))


def verdict(question: Id, comparison: Id) -> Verdict:
    digest = hashlib.sha256(question + comparison).digest()
    kind, high = digest[0] % 10, 750_000_000 + digest[1] * 900_000
    p1, p2 = (high, high) if kind < 6 else (500_000_000, 510_000_000) if kind < 8 else (high, PROBABILITY - high)
    mass = 100_000_000 if kind == 9 else PROBABILITY
    if digest[2] % 2:
        p1, p2 = PROBABILITY - p1, PROBABILITY - p2
    return Verdict(question, comparison, p1, p2, mass, mass)


class HashWiring(Wiring):
    """Everything as in a real wiring, but for the judge."""

    def __init__(self, url: str, home: Path) -> None:
        role: dict[str, Any] = {"kind": "scripted", "model": "nobody"}
        super().__init__(
            Settings(
                store=SecretStr(url), home=home, seed=SEED, policy=RoleSettings(**role), judge=JudgeSettings(**role),
                evaluator=JudgeSettings(**role), revise=ReviseSettings(rounds=ROUNDS),
                compare=CompareSettings(questions_per_batch=2_500),
            )
        )  # fmt: skip
        self.hash_judge = HashJudge()

    def judge(self, settings: JudgeSettings) -> HashJudge:
        return self.hash_judge

    asked_judge = judge

    @contextmanager
    def at_work(self, run: Run, constitution: Constitution) -> Iterator[Work]:
        self.constitution = constitution
        work = Work(self, run, who="ada", report=Silent())
        try:
            yield work
        finally:
            work.close()

    def label(self, run: Run, constitution: Constitution, comparisons: Sequence[Id], stage: str = "feedback") -> int:
        """Ask what is missing, as a flow does. Returns how many verdicts that was."""
        before = len(self.hash_judge.asked)
        with self.at_work(run, constitution) as work:
            work.ask_judge(stage, self.hash_judge, comparisons)
        return len(self.hash_judge.asked) - before

    def labels(self, constitution: Constitution, comparisons: Sequence[Id]) -> dict[Id, tuple[str, int]]:
        """State and p of each label, by the store's query."""
        weights = label.voices(constitution, self.hash_judge)
        found = self.store.labels(comparisons, weights, self.settings.rule())
        return {x.comparison: (x.state, x.p) for x in found}


def fill(store: Store, prompts: int) -> tuple[list[Prompt], list[Id]]:
    """Prompts, of which one in ten is held out, with five answers each, and every pair of those: ten a prompt."""
    asked = [
        Prompt((Message("user", f"prompt {n}"),), "heldout" if n % 10 == 9 else "train", "made") for n in range(prompts)
    ]
    store.add_prompts(asked)
    made: list[Comparison] = []
    origins: list[list[Id]] = []
    answers: list[Generation] = []
    for number, prompt in enumerate(asked):
        here = [_answer(prompt, sample, f"answer {number}.{sample}") for sample in range(SAMPLES)]
        answers += here
        for one, other in combinations(here, 2):
            made.append(Comparison.of(prompt.id, one.content, other.content))
            origins.append([one.id, other.id])
    store.add_generations(answers)
    store.add_comparisons(made, origins=origins)
    return asked, [c.id for c in made]


def _answer(prompt: Prompt, sample: int, text: str) -> Generation:
    ident = make_id("test", prompt=prompt.id, sample=sample)
    return Generation(ident, "response", prompt.id, text, "stop", "e", sample=sample, prompt_tokens=4, tokens=6)


RESULT = {  # of the run that rates come from: 0.02 s a text, 0.001 s a request to choose
    "calls": {"generated": 500, "chosen": 20_000, "reused": 0},
    "seconds": {"startup": 1.0, "models": 1.0, "training": 3.0, "asking": 30.0, "generating": 10.0, "judging": 20.0},
    "model": "/models/somewhere",
}


def base_run(wiring: HashWiring, constitution: Constitution, prompts: Sequence[Prompt], ids: Sequence[Id]) -> Run:
    """A finished run of the loop whose judge answered every question of a constitution about the pool."""
    store, settings = wiring.store, wiring.settings.identity()
    store.put_constitution(constitution.version, constitution.source)
    run = store.start_run("base", "improve", {"settings": settings, "policy": "p"}, constitution.version)
    store.add_members(run.id, "prompts", [p.id for p in prompts])
    held = {p.id for p in prompts if p.split == "heldout"}
    of = {c.id: c.prompt in held for c in store.comparisons(ids)}
    for stage, wanted in (("feedback", False), ("held-out feedback", True)):
        here = [i for i in ids if of[i] is wanted]
        store.add_members(run.id, stage, here)
        wiring.label(run, constitution, here, stage)
    store.finish_run(run.id, "finished", result=RESULT)
    return store.run(run.id)


# --- constitutions -------------------------------------------------------------------------------------------------


def principle(id: str, weight: float = 1, **words: str) -> dict[str, Any]:
    said = {"title": f"T {id}", "critique": f"Bad at {id}?", "revision": f"Be {id}.", "comparison": f"Which is {id}?"}
    return {"id": id, **said, "weight": weight, **words}


def write(principles: Iterable[Mapping[str, Any]], comment: str = "") -> Constitution:
    """A constitution as people lay it out: an entry a principle, a line a field."""
    entries = ["  - " + "\n    ".join(f"{name}: {value}" for name, value in entry.items()) for entry in principles]
    text = f"{comment}constitution: pool\nversion: 1\nprinciples:\n" + "\n\n".join(entries) + "\n"
    return loading.parse(text)


# --- labels, in plain Python ---------------------------------------------------------------------------------------


@cache
def vote(question: Id, comparison: Id) -> tuple[bool, int | None]:
    """Of a verdict: whether it is readable, and s = p1 + p2 - 1 in units of 1e-9 where it votes."""
    v, half = verdict(question, comparison), PROBABILITY // 2
    readable = min(v.mass1, v.mass2) >= RULE.min_mass * PROBABILITY
    s = v.p1 + v.p2 - PROBABILITY
    bears = readable and (v.p1 - half) * (v.p2 - half) > 0 and abs(s) >= RULE.min_margin * PROBABILITY
    return readable, s if bears else None


def outcome(constitution: Constitution, comparison: Id) -> tuple[str, int]:
    """What the hash judge's verdicts make of a comparison: state, and p in units of 1e-9."""
    votes = [(weight, *vote(question, comparison)) for question, weight in _asked(constitution)]
    if sum(w for w, readable, _ in votes if readable) < RULE.min_readable * sum(w for w, *_ in votes):
        return "unreadable", PROBABILITY // 2
    voting = [(w, s) for w, _, s in votes if s is not None]
    if not voting:
        return "tied", PROBABILITY // 2
    # p = 1/2 + sum(w * s) / (2 * sum(w)), rounded down
    total = sum(w for w, _ in voting)
    p = (total * PROBABILITY + sum(w * s for w, s in voting)) // (2 * total)
    return ("tied" if abs(2 * p - PROBABILITY) < RULE.tie_margin * PROBABILITY else "decided"), p


def _asked(constitution: Constitution) -> list[tuple[Id, int]]:
    judge = HashJudge()
    key = (constitution.version, constitution.source)
    if key not in _QUESTIONS:
        _QUESTIONS[key] = [(judge.question(p).id, p.weight) for p in constitution]
    return _QUESTIONS[key]


_QUESTIONS: dict[tuple[str, str], list[tuple[Id, int]]] = {}


def side(state: str, p: int) -> str:
    """What training reads of a label."""
    return state if state != "decided" else "first" if 2 * p > PROBABILITY else "second"


def flips(old: Constitution, new: Constitution, comparisons: Iterable[Id]) -> set[Id]:
    """Comparisons whose label says something else under the new constitution, every question answered."""
    return {i for i in comparisons if side(*outcome(old, i)) != side(*outcome(new, i))}
