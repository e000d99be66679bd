"""Does the label rule that is chosen on known pairs suit the judge: simulated judges, each rule's AUROC on fresh pairs.

    python -m benchmarks.rule_choice [--pairs N] [--draws N] [--tuned] [--json]

A pair has an answer that is better by every principle that applies to it; most of a constitution's do not. What a judge
says in one order is the logistic of the sum of what it sees (`sees` times the answers' difference where it can read the
principle, plus `noise`), of its liking for the first answer (`first`), and of what differs by order (`unsteady`), all
times `sure`. Where a principle does not apply it sees `elsewhere` times a number drawn anew (alike in both orders) less
`wrong` times the difference, and `flips` differs by order besides. `reads`: the share of the principles that it can
read.

The chooser's parameters (`pipeline.metrics.rules`) were settled on the judges of `TUNED` alone; `JUDGES` are others.
The AUROC is that of the label's p against the truth. `loss`: of the chosen rule against the best of all rules on the
fresh pairs, the mean over draws of known pairs, and the 90th percentile of the draws. The position-corrected mean (the
mean of both orders' logits, which takes any liking for a place out exactly) is no label rule, because it would need
logarithms that are alike on every database; it stands beside to show what it would be worth. `with ties`: the chosen
rule's AUROC where a tied label is a tie; `decided`: the share that is none.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constitution.records import LabelRule, make_id
from pipeline.metrics import rules
from pipeline.metrics.rules import Known

PRINCIPLES, APPLIES = 16, 0.15  # of a constitution, and how probably each applies; one does, at least
FRESH = 8_000


@dataclass(frozen=True)
class Simulated:
    """A judge: see above."""

    sees: float
    noise: float = 0.5
    first: float = 0.0
    unsteady: float = 0.3
    elsewhere: float = 0.5
    wrong: float = 0.0
    flips: float = 0.0
    reads: float = 1.0
    sure: float = 1.0


JUDGES = {
    "never flips where one applies": Simulated(2.0, 0.4, 0.0, 0.1, 0.0, flips=2.5, sure=2.0),
    "position-biased, good": Simulated(2.5, 0.5, 3.5, 0.5, 0.4),
    "position-biased, weak": Simulated(0.8, 0.8, 2.5, 0.7, 0.5),
    "at chance": Simulated(0.0, 1.0, 0.5, 0.8, 1.0),
    "always the first": Simulated(0.1, 0.1, 8.0, 0.1, 0.1),
    "inverted": Simulated(-2.5, 0.5, 0.5, 0.5, 0.5),
    "good at some, random elsewhere": Simulated(4.0, 0.5, 0.5, 0.4, 2.0, reads=0.5),
    "good at some, wrong elsewhere": Simulated(4.0, 0.5, 0.5, 0.4, 0.8, wrong=0.7, reads=0.5),
    "overconfident": Simulated(1.2, 1.0, 0.7, 0.5, 0.8, sure=6.0),
    "timid": Simulated(1.2, 0.4, 0.6, 0.3, 0.3, sure=0.12),
}
TUNED = {
    "steady": Simulated(4.0, 0.5, 0.3, 0.3, 0.3),
    "leaning": Simulated(1.5, 0.6, 2.0, 0.5, 0.4),
    "leaning, sure": Simulated(2.0, 0.6, 3.0, 0.5, 0.6, sure=2.0),
    "half blind": Simulated(3.0, 0.5, 0.8, 0.5, 1.2, reads=0.6),
    "half blind, wrong": Simulated(3.0, 0.5, 0.8, 0.5, 0.5, wrong=0.4, reads=0.7),
    "faint": Simulated(0.5, 0.5, 0.3, 0.3, 0.3, sure=0.4),
}


@dataclass(frozen=True)
class Said:
    """What a judge says of n pairs under k principles, in both orders, of the first answer."""

    p1: NDArray[np.float64]
    p2: NDArray[np.float64]
    first_better: NDArray[np.bool_]
    applies: NDArray[np.bool_]

    def known(self) -> list[Known]:
        return [
            Known(str(i), str(j), float(self.p1[i, j]), float(self.p2[i, j]), 1.0, 1.0, bool(self.first_better[i]),
                  bool(self.applies[i, j]))
            for i in range(len(self.p1)) for j in range(self.p1.shape[1])
        ]  # fmt: skip

    def arrays(self) -> tuple[Any, NDArray[np.bool_]]:
        """The same as `rules` reads it, without a record for each."""
        p1, p2 = (np.clip((p * 1e9).round(), 0, 1e9).astype(np.int32) for p in (self.p1, self.p2))
        s, (n, k) = p1.astype(np.int64) + p2 - 10**9, p1.shape
        ids, columns = tuple(make_id("pair", pair=i) for i in range(n)), tuple(str(j).encode() for j in range(k))
        whole = np.full((n, k), 10**9, np.int32)
        return rules.voting.Answered(ids, columns, s, p1, p2, whole, whole > 0), self.first_better

    def corrected(self) -> float:
        """AUROC of the position-corrected mean over all principles."""
        both = (_logit(self.p1) + _logit(self.p2)) / 2
        s = (2 / (1 + np.exp(-both)) - 1).mean(axis=1)
        return float(rules.above(np.where(self.first_better, s, -s)).mean())


def say(judge: Simulated, n: int, draw: np.random.Generator) -> Said:
    shape = (n, PRINCIPLES)
    applies = draw.random(shape) < APPLIES
    applies[np.arange(n), draw.integers(0, PRINCIPLES, n)] = True
    first_better = draw.random(n) < 0.5
    difference = draw.lognormal(-0.3, 0.6, shape) * np.where(first_better, 1.0, -1.0)[:, None]
    reads = np.arange(PRINCIPLES) < judge.reads * PRINCIPLES
    here = judge.sees * difference * reads + judge.noise * draw.normal(size=shape)
    there = judge.elsewhere * draw.normal(size=shape) - judge.wrong * difference
    seen = np.where(applies, here, there)
    unsteady = np.where(applies, judge.unsteady, judge.unsteady + judge.flips)
    orders = [seen + sign * judge.first + unsteady * draw.normal(size=shape) for sign in (1, -1)]
    p1, p2 = (1 / (1 + np.exp(-np.clip(judge.sure * order, -30, 30))) for order in orders)
    return Said(p1, p2, first_better, applies)


def _logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(p, 1e-9, 1 - 1e-9)
    found: NDArray[np.float64] = np.log(inside) - np.log1p(-inside)
    return found


@dataclass(frozen=True)
class Row:
    judge: str
    auroc: dict[str, float]  # on fresh pairs, by rule
    corrected: float
    settings: float
    chosen: float  # the mean over draws
    loss: float
    worst: float  # the 90th percentile of the loss
    often: str  # the rule chosen most often
    told: float
    tied: tuple[float, float]  # the chosen rule's AUROC where a tie is a tie, and the share of labels that is decided

    @property
    def best(self) -> tuple[str, float]:
        return max(self.auroc.items(), key=lambda item: item[1])


def measure(name: str, judge: Simulated, pairs: int, draws: int, settings: LabelRule, seed: int = 0) -> Row:
    draw = np.random.default_rng([seed, *name.encode()])
    fresh = say(judge, FRESH, draw)
    truth = {one.rule: one.auroc for one in rules.tried(*fresh.arrays(), settings)}
    made = [rules.choose(say(judge, pairs, draw).known(), settings) for _ in range(draws)]
    votes = [replace(one.rule, tie_margin=settings.tie_margin) for one in made]  # p does not know of ties
    best = max(truth.values())
    losses = np.array([best - truth[rule] for rule in votes])
    names = [rules.name_of(one.rule) for one in made]
    tied = {rule: rules.with_ties(*fresh.arrays(), rule) for rule in {*(one.rule for one in made), settings}}
    return Row(
        name,
        {rules.name_of(rule): value for rule, value in truth.items()},
        fresh.corrected(),
        truth[settings],
        float(np.mean([truth[rule] for rule in votes])),
        float(losses.mean()),
        float(np.quantile(losses, 0.9)),
        max(set(names), key=names.count),
        float(np.mean([one.told for one in made])),
        (float(np.mean([tied[one.rule][0] for one in made])), float(np.mean([tied[one.rule][1] for one in made]))),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200, help="known pairs that the rule is chosen on")
    parser.add_argument("--draws", type=int, default=20, help="of known pairs, a judge")
    parser.add_argument("--tuned", action="store_true", help="the judges that the parameters were settled on")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    settings = LabelRule()
    judges = TUNED if args.tuned else JUDGES
    rows = [measure(name, judge, args.pairs, args.draws, settings) for name, judge in judges.items()]
    if args.json:
        print(json.dumps([_as_dict(row) for row in rows]))
        return
    print(
        f"{PRINCIPLES} principles, each applies at {APPLIES:g}; {FRESH} fresh pairs; chosen on {args.pairs} "
        f"pairs, {args.draws} draws\nenough {rules.ENOUGH}, sure {rules.SURE:g} standard errors, a margin is worth "
        f"{rules.MARGIN_WORTH:g}, margins {', '.join(f'{m:g}' for m in rules.MARGINS)}"
    )
    for name, judge in judges.items():
        print(f"  {name}: {judge}")
    heads = "judge, mean, agree, settings, corrected, best, chosen, loss, 90%, with ties, decided, most often".split(
        ", "
    )
    print("\n| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for row in rows:
        mean, agree = row.auroc["the mean of both orders"], row.auroc["both orders agree"]
        print(
            f"| {row.judge} | {mean:.3f} | {agree:.3f} | {row.settings:.3f} | {row.corrected:.3f} | {row.best[1]:.3f} "
            f"({row.best[0]}) | {row.chosen:.3f} | {row.loss:.4f} | {row.worst:.4f} | "
            f"{row.tied[0]:.3f} | {row.tied[1]:.2f} | {row.often} |"
        )


def _as_dict(row: Row) -> dict[str, Any]:
    return {"judge": row.judge, "auroc": row.auroc, "corrected": row.corrected, "settings": row.settings,
            "chosen": row.chosen, "loss": row.loss, "loss_90": row.worst, "often": row.often}  # fmt: skip


if __name__ == "__main__":
    main()
