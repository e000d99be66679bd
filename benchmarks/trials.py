"""The trial of a judge, tried itself: what it says of simulated judges whose worth is known.

    python -m benchmarks.trials [--trials 2000] [--drift | --json]

Each simulated judge answers pairs of four principles in both orders. Printed: in how many trials of a hundred it is
trusted in all, said to be at chance or inverted, or too few pairs are there to say; how often any principle that is at
chance is trusted, and any good one left out. The number of pairs that the trial asks for (`needed`) is one of the rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from constitution.records import PROBABILITY, Verdict
from pipeline.metrics import trust
from pipeline.metrics.moved import least_sure, moved
from pipeline.metrics.trial import Tried, figures, group

PRINCIPLES = ("harmless", "honest", "short", "kind")
Generator: TypeAlias = np.random.Generator


@dataclass(frozen=True)
class Simulated:
    """A judge by what it is worth. `accuracy`: by principle, the chance that its margin names the better answer.
    `bias`: how far position moves its probabilities. `per_prompt`: pairs on one prompt, answered alike."""

    name: str
    accuracy: Callable[[int, float], float]  # of the principle's number, and how far the trial has gone (0 to 1)
    bias: float = 0.0
    per_prompt: int = 1

    def rows(self, pairs: int, principles: int, rng: Generator) -> list[Tried]:
        """`pairs` of each of some principles."""
        made = []
        for number in range(principles):
            right = False
            for pair in range(pairs):
                if pair % self.per_prompt == 0:  # pairs of one prompt are right or wrong together
                    right = bool(rng.random() < self.accuracy(number, pair / pairs))
                sure = float(rng.uniform(0.02, 0.4))
                signal = sure if right else -sure
                a, b = (min(1.0, max(0.0, 0.5 + signal * 0.5 + shift)) for shift in (self.bias, -self.bias))
                where = f"{number}.{pair // self.per_prompt}"
                made.append(Tried(f"{number}.{pair}", where, a, b, PRINCIPLES[number % 4] + str(number // 4)))
        return made


JUDGES = (
    Simulated("always right", lambda principle, time: 1.0),
    Simulated("accuracy .8", lambda principle, time: 0.8),
    Simulated("accuracy .8, by position", lambda principle, time: 0.8, bias=0.28),
    Simulated("accuracy .65", lambda principle, time: 0.65),
    Simulated("chance", lambda principle, time: 0.5),
    Simulated("chance, by position", lambda principle, time: 0.5, bias=0.28),
    Simulated("chance, 3 pairs a prompt", lambda principle, time: 0.5, per_prompt=3),
    Simulated("inverted", lambda principle, time: 0.25),
    Simulated("good at one principle", lambda principle, time: 0.95 if principle == 0 else 0.5),
    Simulated("drifting, .95 to .5", lambda principle, time: 0.95 if time < 0.5 else 0.5),
)


def tried(judge: Simulated, pairs: int, principles: int, trials: int, seed: int = 0) -> dict[str, float]:
    """Shares of the trials. `false`: a principle at chance (accuracy at most 1/2) was trusted, or the whole of such a
    judge; `lost`: the share of principles at .8 and over that were said to be at chance or inverted."""
    rng = np.random.default_rng(seed)
    said: dict[str, int] = dict.fromkeys((trust.TRUSTED, trust.AT_CHANCE, trust.TOO_FEW, "false", "believed"), 0)
    lost = good = inconsistent = read = 0
    for _ in range(trials):
        rows = judge.rows(pairs, principles, rng)
        names = {row.principle: number for number, row in enumerate(rows[::pairs])}
        found = {name: group(r for r in rows if r.principle == name).score for name in names}
        word, by_principle = trust.words(group(rows).score, found)
        said[word] += 1
        worth = {name: np.mean([judge.accuracy(number, t) for t in (0.0, 0.75)]) for name, number in names.items()}
        wrongly = [w for name, w in by_principle.items() if worth[name] <= 0.5 and w == trust.TRUSTED]
        said["false"] += bool(wrongly) or (word == trust.TRUSTED and max(worth.values()) <= 0.5)
        said["believed"] += word == trust.TRUSTED or trust.TRUSTED in by_principle.values()
        for name, w in by_principle.items():
            if worth[name] >= trust.GOOD:
                good += 1
                lost += w == trust.AT_CHANCE
        consistent = figures(rows).consistent
        inconsistent, read = inconsistent + consistent.of - consistent.count, read + consistent.of
    shares = {name: count / trials for name, count in said.items()}
    return {**shares, "lost": lost / good if good else 0.0, "flips": inconsistent / read if read else 0.0}


def refused(noise: float, shift: float, seed: int) -> bool:
    """Whether a judge of 40 pairs is refused when the four that it was least sure of are asked again. Log-odds have
    deviation 2; `noise` is added to them, and, of a judge that drifted, normal shifts of deviation `shift`."""
    rng = np.random.default_rng(seed)
    before = rng.normal(0, 2, (40, 2))
    now = before + rng.normal(0, noise, before.shape) + rng.normal(0, shift, before.shape)
    chosen = least_sure(_answered(before), 4)
    said = {v.comparison: v for v in _answered(now)}
    return moved(chosen, [said[v.comparison] for v in chosen]).drifted


def _answered(log_odds: np.ndarray) -> list[Verdict]:
    """Verdicts of pairs by the log-odds of both orders [N, 2]."""
    p = np.round(PROBABILITY / (1 + np.exp(-log_odds))).astype(int)
    full = PROBABILITY
    return [Verdict(b"q" * 16, n.to_bytes(16, "big"), int(a), int(b), full, full) for n, (a, b) in enumerate(p)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--drift", action="store_true", help="only how often a judge that drifted is refused")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.drift:
        for shift in (0.0, 0.25, 0.5, 1.0, 2.0):
            share = sum(refused(0.05, shift, seed) for seed in range(args.trials)) / args.trials
            print(f"log-odds moved by {shift:4.2f} (deviation), noise 0.05: refused in {100 * share:5.1f} of 100")
        return
    n = trust.needed()
    found: list[dict[str, Any]] = [
        {"judge": judge.name, "principles": principles, "pairs": pairs, **tried(judge, pairs, principles, args.trials)}
        for principles, pairs in ((1, n), (4, 3), (4, 10), (4, n), (10, 10))
        for judge in JUDGES
    ]
    if args.json:
        print(json.dumps({"needed": {a: trust.needed(a) for a in (0.6, 0.65, 0.7, 0.8, 0.9)}, "rows": found}))
        return
    wanted = ", ".join(f"{trust.needed(a)} at {a}" for a in (0.6, 0.65, 0.7, 0.8, 0.9))
    print(f"pairs needed to be trusted in 95 of 100 trials: {wanted}; {args.trials} trials a row, in per cent\n")
    print(f"{'judge':26}{'principles':>11}{'pairs each':>11}{'trusted':>9}{'at chance':>10}{'too few':>9}", end="")
    print(f"{'believed in anything':>22}{'chance trusted':>16}{'good left out':>15}{'flips':>8}")
    for row in found:
        shares = [row[w] for w in (trust.TRUSTED, trust.AT_CHANCE, trust.TOO_FEW)]
        print(f"{row['judge']:26}{row['principles']:11}{row['pairs']:11}", end="")
        print("".join(f"{100 * s:{w}.1f}" for s, w in zip(shares, (9, 10, 9), strict=True)), end="")
        rest = ((row["believed"], 22), (row["false"], 16), (row["lost"], 15), (row["flips"], 8))
        print("".join(f"{100 * s:{w}.1f}" for s, w in rest))


if __name__ == "__main__":
    main()
