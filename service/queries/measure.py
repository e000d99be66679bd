"""Figures that say how good the work was: against people's spot checks, and, where it is known, against truth.

Every look at the truth is in this file, and nothing that a run decides reads what it returns: turned upside down, the
truth changes these figures and nothing else (`tests/flows/test_truth_is_only_measured.py`). All are None without an
oracle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from constitution.records import PROBABILITY, Generation, Id, Message, Prompt
from constitution.streams import AT_ONCE, batched
from pipeline import label, suites
from pipeline.judges.judge import Judge
from pipeline.metrics import truth as truths
from pipeline.metrics.agreement import agreement as agree
from pipeline.metrics.agreement import one_a_pair
from pipeline.suites import Evidence
from pipeline.trainers import progress
from service.queries.run_records import RunRecords


def answers(work: RunRecords, prompts: Mapping[Id, Prompt], found: Sequence[Generation]) -> dict[str, Any]:
    """Rates of good, harmful, needlessly refusing and malformed answers, and of each theme."""
    return truths.rates(work.wiring.oracle(), prompts, found)


def moved(
    work: RunRecords, prompts: Mapping[Id, Prompt], pairs: Sequence[tuple[Generation, Generation]]
) -> dict[str, dict[str, Any]]:
    """By flag and theme of the truth, how much more often an answer after has it than the one before: the mean over all
    held-out prompts of 1, 0 or -1, paired, with a 95% interval; and on how many it `speaks` of both answers
    (on the others it counts as 0). Empty without an oracle."""
    return truths.moved(work.wiring.oracle(), prompts, pairs)


def suites_of(
    work: RunRecords, names: Sequence[str], seen: Evidence, own: Mapping[str, Evidence]
) -> list[suites.Measured]:
    """What suites find in the answers; the oracle is handed to those that read it, and to no other."""
    oracle = work.wiring.oracle()
    return suites.measure(
        names, replace(seen, oracle=oracle), {name: replace(of, oracle=oracle) for name, of in own.items()}
    )


def labels(work: RunRecords, judge: Judge, comparisons: Sequence[Id]) -> dict[str, Any]:
    """Share of decided labels that name the truly better answer, where one is better."""
    oracle = work.wiring.oracle()
    if oracle is None:
        return {"gold_accuracy": None, "gold_known": None}
    right = known = 0
    for some in batched(work.labelled(judge, comparisons), AT_ONCE):
        cases = work.cases([said.comparison for said in some])
        for said in some:
            case = cases[said.comparison]
            truth = oracle.prefers(case.messages, case.first, case.second)
            if truth and said.preferred_first is not None:
                known += 1
                right += said.preferred_first == (truth > 0)
    return {"gold_accuracy": right / known if known else None, "gold_known": known}


def judge(work: RunRecords, judge: Judge, comparisons: Sequence[Id]) -> dict[str, Any]:
    """Share of (principle, pair) on which the judge, both orders averaged, names the answer that truly follows the
    principle better; and how often the label rule lets a principle vote where it does, and does not, truly
    apply (the key `votes_where_it_bears` has the word of before)."""
    oracle = work.wiring.oracle()
    if oracle is None:
        return {"gold_accuracy": None, "gold_by_principle": None, "votes_where_it_bears": None, "votes_where_not": None}
    cases = work.cases(comparisons)
    principles = {judge.question(p).id: p for p in work.constitution.principles}
    everybody = replace(work.ruling(), left_out=())
    voices, common = label.voices(work.constitution, judge, everybody), work.rule()
    right: dict[str, list[bool]] = {p.id: [] for p in work.constitution.principles}
    votes: dict[bool, list[bool]] = {True: [], False: []}
    for v in work.store.verdicts(list(comparisons), list(principles)):
        case, principle = cases[v.comparison], principles[v.question]
        truth = oracle.prefers_by(principle, case.messages, case.first, case.second)
        rule = voices[v.question].rule or common
        margin = v.p1 + v.p2 - PROBABILITY
        same = (2 * v.p1 > PROBABILITY) == (2 * v.p2 > PROBABILITY)
        voted = (same or not rule.consistent) and abs(margin) >= rule.min_margin * PROBABILITY and not v.even
        votes[truth != 0].append(voted)
        if truth and not v.even:
            right[principle.id].append((margin > 0) == (truth > 0))
    return {
        "gold_accuracy": _mean([r for found in right.values() for r in found]),
        "gold_by_principle": {name: {"accuracy": _mean(found), "pairs": len(found)} for name, found in right.items()},
        "votes_where_it_bears": _mean(votes[True]),
        "votes_where_not": _mean(votes[False]),
    }


def reward(work: RunRecords, judge: Judge, reward: Mapping[str, Any]) -> float | None:
    """Share of held-out pairs on which the reward model scores the truly better answer higher."""
    oracle = work.wiring.oracle()
    path = Path(reward["path"]) / "heldout.jsonl" if reward else None
    if oracle is None or path is None or not path.is_file():
        return None
    scored = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    asked = [reward["heldout"][row["line"] - 1] for row in scored]
    cases, labels = work.cases(asked), work.labels(judge, asked)
    right = []
    for ident, row in zip(asked, scored, strict=True):
        truth = oracle.prefers(cases[ident].messages, cases[ident].first, cases[ident].second)
        if truth:  # a positive margin says that the answer the label chose scores higher
            right.append((row["margin"] > 0) == (labels[ident].preferred_first == (truth > 0)))
    return _mean(right)


def evaluation_steps(work: RunRecords, model: str) -> list[dict[str, Any]]:
    """What the evaluation callback measured of a policy that was trained online, and beside each evaluation step the
    truth of its answers: good and malformed, in [0, 1]; None without an oracle. Empty where there was no callback."""
    folder, oracle = Path(model), work.wiring.oracle()
    steps = progress.read(folder / "watch.jsonl")
    said: dict[int, list[Mapping[str, bool]]] = {}
    if oracle is not None:
        lines = progress.read(folder / "samples.jsonl")
        asked = {line["index"]: line["prompt"] for line in lines if "prompt" in line}
        for line in lines:
            messages = tuple(Message(m["role"], m["content"]) for m in asked[line["index"]])
            said.setdefault(line["step"], []).append(oracle.classify(messages, line["text"]))
    return [
        one | {f"gold_{name}": _mean([f[name] for f in said.get(one["step"], [])]) for name in ("good", "malformed")}
        for one in steps
    ]


def agreement(work: RunRecords) -> dict[str, Any] | None:
    """How far people agree with this run's judge, over pairs that were drawn at random: one answer a pair."""
    checks = one_a_pair(c for c in work.store.spot_checks() if c.sampled_by == "random" and c.share is not None)
    if not checks:
        return None
    judge = work.wiring.judge(work.settings.judge)
    labels = work.labels(judge, [c.comparison for c in checks])
    return agree([(c.answer, labels[c.comparison]) for c in checks if c.comparison in labels])


def _mean(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None
