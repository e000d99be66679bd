"""What the gate of the suite `capability` refuses, on drawn answers: models that lost nothing, and models that did.

    python -m benchmarks.capability [--draws 1000]

No model is asked. Of n questions with four choices the model before is right on six in ten. After it, as many become
right as become wrong by chance (`change` of the questions in all, which is what training moves without taking an
ability), and `loss` of them become wrong besides. The gate is the suite's own, at the 5 points that it allows. "not
ruled out" is how often a model that passes is said with a loss of more than those points within its interval.
"""

from __future__ import annotations

import argparse

import numpy as np

from pipeline.suites import capability
from pipeline.suites.suite import Condition, Evidence, Item

SIZES = (100, 120, 250, 500, 1000)
CHANGES = (0.05, 0.1, 0.2)
LOSSES = (0.0, 0.03, 0.05, 0.08, 0.10, 0.15, 0.20)
RIGHT = 0.6


def drawn(chance: np.random.Generator, n: int, change: float, loss: float, right: float = RIGHT) -> Condition:
    """What the gate says of one pair of models."""
    before = chance.random(n) < right
    moved = chance.random(n)
    # Of those that were right, half of the change and the loss go; of the others as many come back as half the change.
    gone = before & (moved < (change / 2 + loss) / right)
    came = ~before & (moved < (change / 2) / (1 - right))
    after = (before & ~gone) | came
    items = [Item("", ("a", "b", "c", "d"), 0)] * n
    sides = [[(0.0, -1.0, -1.0, -1.0) if r else (-1.0, 0.0, -1.0, -1.0) for r in side] for side in (before, after)]
    figures = capability.measure(Evidence({}, (), (), items=items, choices=(sides[0], sides[1])))
    [said] = capability.conditions({figure.name: figure for figure in figures}, capability.LIMITS)
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    print(f"refused, of {draws} draws each; in brackets: passed, and a loss of more than 5 points not ruled out\n")
    print("| questions | change | " + " | ".join(f"lost {100 * loss:g} points" for loss in LOSSES) + " |")
    print("|---" * (len(LOSSES) + 2) + "|")
    for n in SIZES:
        for change in CHANGES:
            cells = []
            for loss in LOSSES:
                said = [drawn(np.random.default_rng([7, n, seed]), n, change, loss) for seed in range(draws)]
                refused = sum(not one.held for one in said) / draws
                open_ = sum(one.held and "not ruled out" in one.text for one in said) / draws
                cells.append(f"{refused:.1%} ({open_:.0%})")
            print(f"| {n} | {change:.0%} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
