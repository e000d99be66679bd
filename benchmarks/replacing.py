"""Whether a retrained model takes the promoted one's place, on simulated models: false alarms, power and decisions.

    python -m benchmarks.replacing [--repeats 1000]

A model answers n held-out prompts; under each of eleven principles the evaluator prefers its answer, the old one's, or
neither (60%). Ten principles nobody amended; one was added, or one was removed, which asks for nothing. "Before" is the
rule that this one took the place of: every interval by itself, and a win rate whose interval lies above .45.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import effects
from pipeline.metrics.effects import ALLOWED, FALSE_ALARM, Effect
from pipeline.metrics.intervals import interval_of
from pipeline.promote import Gate
from pipeline.replacing import settle

NEITHER, UNTOUCHED = 0.6, 10
SIDE = {"refusals_of_harmless": 0.0, "truncated": 0.0, "boilerplate": 0.0, "mean_tokens": 40.0}


def votes(rng: np.random.Generator, count: int, effect: float) -> NDArray[np.float64]:
    towards = (1 - NEITHER + effect) / 2
    return rng.choice([1.0, -1.0, 0.0], size=count, p=[towards, 1 - NEITHER - towards, NEITHER])


def looked(rng: np.random.Generator, count: int, losses: dict[int, float], added: float) -> list[Effect]:
    """The effects of ten untouched principles, of which some lose, and of the one that was added, which comes last."""
    moves = [-losses.get(number, 0.0) for number in range(UNTOUCHED)] + [added]
    drawn = [votes(rng, count, move).tolist() for move in moves]
    tallies = [effects.votes(values) for values in drawn]
    corrected = effects.holm([effects.sign_test(of["towards"], of["away"]) for of in tallies])
    found = []
    for number, (values, of, p) in enumerate(zip(drawn, tallies, corrected, strict=True)):
        seen = interval_of(values, least=-1.0)
        small = effects.smallest(of["towards"], of["away"], of["neither"], len(moves))
        lost = p <= FALSE_ALARM and seen.low < -ALLOWED
        name, new = ("new", True) if number == UNTOUCHED else (f"old {number}", False)
        verdict = effects.verdict(seen.low, seen.high)
        change: effects.Change = "added" if new else "none"
        found.append(Effect(name, change, seen.mean, seen.low, seen.high, verdict, p, lost, small, asked=new))
    return found


def away_before(effect: Effect) -> bool:
    """By its own interval: below 0, and not within the 5 points."""
    assert effect.low is not None and effect.high is not None
    return effect.high < 0 and not (effect.low >= -ALLOWED and effect.high <= ALLOWED)


def losses(repeats: int) -> Iterator[str]:
    yield "| prompts | an equal model loses something, before | now | smallest loss told | found | twice it: found |"
    yield "|---|---|---|---|---|---|"
    for count in (25, 50, 100, 250, 500):
        rng = np.random.default_rng(count)
        equal = [looked(rng, count, {}, 0.0)[:UNTOUCHED] for _ in range(repeats)]
        before = np.mean([any(map(away_before, found)) for found in equal])
        now = np.mean([any(e.lost for e in found) for found in equal])
        small = float(np.median([found[0].smallest or 1.0 for found in equal]))
        shares = []
        for size in (small, 2 * small):
            if size > 1 - NEITHER:
                shares.append("-")
                continue
            hits = [looked(rng, count, {0: size}, 0.0)[0].lost for _ in range(repeats)]
            shares.append(f"{np.mean(hits):.2f}")
        yield f"| {count} | {before:.3f} | {now:.3f} | {100 * small:.1f} | {shares[0]} | {shares[1]} |"


def decisions(repeats: int, count: int) -> Iterator[str]:
    yield "| true win rate | the added principle moves | promoted before | promoted | proposed | refused |"
    yield "|---|---|---|---|---|---|"
    for win in (0.45, 0.48, 0.5, 0.52, 0.55, 0.6):
        for added in (None, 0.0, 0.3):
            rng = np.random.default_rng(round(1000 * win))
            words: Counter[str] = Counter()
            before = 0
            for _ in range(repeats):
                found = looked(rng, count, {}, added or 0.0)
                won = interval_of(((votes(rng, count, 2 * win - 1) + 1) / 2).tolist())
                did = added is None or found[-1].found == "towards"
                before += won.low > 0.45 and did and not any(map(away_before, found[:UNTOUCHED]))
                if added is None:
                    found[-1] = Effect("gone", "removed", None, None, None, "unclear")
                words[settle(Gate(), 0.45, evaluation(won.as_dict(), count), found, None, True).word] += 1
            shares = " | ".join(f"{words[w] / repeats:.3f}" for w in ("promoted", "proposed", "refused"))
            moves = "removed" if added is None else "by 30 points" if added else "not"
            yield f"| {win:.2f} | {moves} | {before / repeats:.3f} | {shares} |"


def evaluation(win: dict[str, float | None], count: int) -> dict[str, object]:
    still = {"mean": 0.0, "low": -0.01, "high": 0.01, "n": count}
    ratio = {"mean": 1.0, "low": 0.9, "high": 1.1}
    return {
        "before": SIDE, "after": SIDE, "unreadable": 0.0, "prompts": count, "win_rate": {**win, "prompts": count},
        "length_controlled_interval": win,
        "changes": {"refusals_of_harmless": still, "boilerplate": still, "length_ratio": ratio},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    repeats = parser.parse_args().repeats
    print("Losses of ten principles that were not amended, at once:\n")
    print("\n".join(losses(repeats)))
    for count in (100, 400):
        print(f"\nDecisions on {count} prompts:\n")
        print("\n".join(decisions(repeats, count)))


if __name__ == "__main__":
    main()
