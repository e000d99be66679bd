"""A run of many pairs that two questions were asked about, for those who review, page and count."""

from __future__ import annotations

import random
from dataclasses import dataclass

from constitution import loading
from constitution.records import Comparison, Id, Message, Prompt, Question, Verdict
from storage.runs import Run
from storage.store import Store

TEXT = """\
constitution: two
version: 1
principles:
  - {id: kind, title: Be kind, critique: Rude?, revision: Be kind., comparison: Which is kinder?, weight: 3}
  - {id: short, title: Be short, critique: Long?, revision: Be short., comparison: Which is shorter?, weight: 1}
"""
SETTINGS = {"settings": {"label": {"min_mass": 0.5, "min_margin": 0.5, "max_unreadable": 0.5}}}
UNREADABLE = None
Said = float | tuple[float, float] | None  # p of the first answer, in both orders or in each; None is unreadable


@dataclass
class Reviewed:
    run: Run
    pairs: list[Id]  # in the run's order
    questions: dict[str, Question]


def build(store: Store, kind: list[Said], short: list[Said] | None = None, key: str = "run") -> Reviewed:
    """`kind`, `short`: what each question says of each pair; `short` votes on none where it is left out. The last fifth
    of the pairs are held out."""
    constitution = loading.parse(TEXT)
    store.put_constitution(constitution.version, constitution.source)
    run = store.start_run(key, "improve", SETTINGS, constitution.version)
    questions = {p.id: Question("judge", {}, p.comparison, p.id) for p in constitution}
    prompts = [Prompt((Message("user", f"Ask {number} {key}"),), "train") for number in range(len(kind))]
    store.add_prompts(prompts)
    contents = store.add_answers([f"{side} answer {n}" for n in range(len(kind)) for side in ("one", "other")])
    made = [Comparison.of(p.id, *contents[2 * n : 2 * n + 2]) for n, p in enumerate(prompts)]
    cut = len(made) - len(made) // 5
    for stage, some in (("feedback", made[:cut]), ("held-out feedback", made[cut:])):
        asked = list(questions.values())
        store.add_questions(asked, constitution=constitution.version, run=run.id, stage=f"{stage}.questions")
        store.add_comparisons(some, run=run.id, stage=stage)
    pairs = [comparison.id for comparison in made]
    even: list[Said] = [0.5] * len(pairs)
    for name, said in (("kind", kind), ("short", short or even)):
        rows = [_verdict(questions[name].id, pair, p) for pair, p in zip(pairs, said, strict=True)]
        store.add_verdicts(rows, run=run.id, stage="feedback")
    return Reviewed(run, pairs, questions)


def at_random(count: int, seed: int = 0) -> list[Said]:
    draw = random.Random(seed)
    return [draw.random() for _ in range(count)]


def _verdict(question: Id, pair: Id, said: Said) -> Verdict:
    p1, p2 = said if isinstance(said, tuple) else (said, said)
    mass = 0 if said is UNREADABLE else 10**9
    return Verdict(question, pair, round((p1 or 0) * 10**9), round((p2 or 0) * 10**9), mass, mass)
