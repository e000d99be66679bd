"""Which of n answers to a prompt wins under weighted signals: best-of-n selection, without a model.

What can be counted of a text itself is counted here; what a judge said of it is given. Signals are made comparable by
their mean and standard deviation over all answers looked at, so that a weight of 1 is one standard deviation.

The KL from the sampling policy of taking the best of n is at most log n - (n - 1)/n nats a prompt (Beirami et al.,
arXiv 2401.01879, theorem 1): an upper bound, far above the truth where answers repeat.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

from pipeline.metrics.style import FLATTERY

COUNTED = ("length", "flattery", "coherence", "diversity")
_WORD = re.compile(r"\w+")


def kl_bound(n: int) -> float:
    """In nats."""
    return math.log(n) - (n - 1) / n


def counted(texts: Sequence[str]) -> list[dict[str, float]]:
    """Of the answers to one prompt: `length` in words; `flattery`, flattering phrases; `coherence`, the share of its
    runs of three words that are not said twice; `diversity`, the mean share of its words that another answer has not.
    """
    words = [[w.lower() for w in _WORD.findall(text)] for text in texts]
    own = [set(some) for some in words]
    found = []
    for place, some in enumerate(words):
        runs = list(zip(some, some[1:], some[2:], strict=False))
        others = [1 - len(own[place] & o) / max(1, len(own[place] | o)) for n, o in enumerate(own) if n != place]
        found.append(
            {
                "length": float(len(some)),
                "flattery": float(len(FLATTERY.findall(texts[place]))),
                "coherence": len(set(runs)) / len(runs) if runs else float(bool(some)),
                "diversity": fmean(others) if others else 0.0,
            }
        )
    return found


def scores(prompts: Sequence[Sequence[Mapping[str, float | None]]], weights: Mapping[str, float]) -> list[list[float]]:
    """By prompt the score of each answer; what is not known of an answer adds nothing."""
    scale: dict[str, tuple[float, float]] = {}
    for name, weight in weights.items():
        known = [v for some in prompts for signals in some if (v := signals.get(name)) is not None]
        if weight and known:
            scale[name] = (fmean(known), pstdev(known) or 1.0)
    return [
        [
            sum(
                weights[name] * (value - mean) / spread
                for name, (mean, spread) in scale.items()
                if (value := signals.get(name)) is not None
            )
            for signals in some
        ]
        for some in prompts
    ]  # fmt: skip
