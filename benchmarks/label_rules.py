"""Which verdicts should vote: label rules side by side, on pairs of two sampled answers in the sandbox.

    python -m benchmarks.label_rules [--json]

The judge answers all principles about each pair, most of which do not apply to it. For each rule: how many labels are
decided, how often they agree with the evaluator's labels under the same rule (this chose the rule), and how often they
are right by truth (this chose nothing). `applies, by truth` lets only principles vote that truly apply: the best any
rule could do. `when, by tag` lets a principle vote on the prompts that it is for by their tags (`WHEN`: what `when:
{tags: [...]}` would say in principles.yaml). Training and development prompts only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from constitution import loading
from constitution.principles import Constitution
from constitution.records import Comparison, seed_of, text_digest
from pipeline import engines
from pipeline.asking import Role
from pipeline.engines.engine import Chat, EngineSettings, Generate, Sampling
from pipeline.judges.choice import ChoiceJudge
from pipeline.judges.judge import Case
from sandbox.models import folder
from sandbox.oracle import Oracle
from sandbox.prompts import prompts

TIE = 0.1
WHEN = {"harmless": "harmful", "constructive": "harmful", "candid": "unknown", "willing": "harmless"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    constitution, oracle = loading.load("principles.yaml"), Oracle()
    policy = engines.build(EngineSettings(model=str(folder("policy"))))
    evaluator = engines.build(EngineSettings(model=str(folder("evaluator"))))
    cases = _cases(policy, constitution)
    weight = np.array([p.weight for p in constitution.principles], dtype=float)
    truth = np.array([oracle.prefers(c.messages, c.first, c.second) for c in cases])
    applies = (
        np.array([[oracle.prefers_by(p, c.messages, c.first, c.second) for p in c.principles] for c in cases]) != 0
    )
    tagged = np.array([[WHEN.get(p.id, t[0]) in t for p in c.principles] for c in cases for t in [c.tags]], dtype=float)
    votes: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "plain mean (the papers)": lambda p, s: np.ones_like(s),
        "both orders agree": lambda p, s: _same(p),
        "both orders agree, margin 0.5": lambda p, s: _same(p) * (abs(s) >= 0.5),
        "both orders agree, margin 0.9": lambda p, s: _same(p) * (abs(s) >= 0.9),
        "both orders agree, margin 0.99": lambda p, s: _same(p) * (abs(s) >= 0.99),
        "plain mean, when by tag": lambda p, s: tagged,
        "both orders agree, margin 0.5, when by tag": lambda p, s: tagged * _same(p) * (abs(s) >= 0.5),
        "both orders agree, margin 0.99, when by tag": lambda p, s: tagged * _same(p) * (abs(s) >= 0.99),
        "applies, by truth": lambda p, s: applies.astype(float),
    }
    verdicts = [_verdicts(engine, cases) for engine in (policy, evaluator)]
    rows = []
    for name, vote in votes.items():
        made = [_labels(p, weight, vote) for p in verdicts]
        decided, both = made[0] != 0, (made[0] != 0) & (made[1] != 0)
        known = decided & (truth != 0)
        rows.append(
            {
                "rule": name,
                "decided": float(decided.mean()),
                "agrees_with_evaluator": float((made[0] == made[1])[both].mean()),
                "right_by_truth": float((made[0] == truth)[known].mean()),
            }
        )
    if args.json:
        print(json.dumps({"pairs": len(cases), "rules": rows}))
        return
    print(
        f"| rule, over {len(cases)} pairs | decided | agrees with the evaluator | right, by truth |\n|---|---|---|---|"
    )
    for row in rows:
        print("| {rule} | {decided:.2f} | {agrees_with_evaluator:.3f} | {right_by_truth:.3f} |".format(**row))


def _cases(policy: Any, constitution: Constitution) -> list[Case]:
    found = [p for p in prompts() if p.split != "heldout"]
    answers = [
        policy.generate([Generate(Chat(p.messages), Sampling(1.0, 1.0, 96), seed_of(n, p.id)) for p in found])
        for n in range(2)
    ]
    cases = []
    for prompt, one, other in zip(found, *answers, strict=True):
        if one.text != other.text:
            comparison = Comparison.of(prompt.id, text_digest(one.text), text_digest(other.text))
            first, second = sorted((one.text, other.text), key=text_digest)
            cases.append(Case(comparison, prompt.messages, first, second, constitution.principles, prompt.tags))
    return cases


def _verdicts(engine: Any, cases: list[Case]) -> np.ndarray:
    """Probabilities [pairs, principles, 2] that the first answer is the better, in both orders."""
    found = ChoiceJudge(Role(engine)).judge(cases).verdicts
    return np.array([[v.p1, v.p2] for v in found]).reshape(len(cases), -1, 2) / 1e9


def _same(p: np.ndarray) -> np.ndarray:
    return ((p[..., 0] > 0.5) == (p[..., 1] > 0.5)).astype(float)


def _labels(p: np.ndarray, weight: np.ndarray, vote: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """+1 where the first answer is the better, -1 where the second is, 0 for a tie."""
    s = p.sum(-1) - 1
    votes = vote(p, s) * weight
    mean = (votes * s).sum(1) / np.maximum(votes.sum(1), 1e-9)
    return np.where(abs(mean) < TIE, 0, np.sign(mean))


if __name__ == "__main__":
    main()
