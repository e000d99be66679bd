"""How often each interval holds what is true, and how wide it is; nothing is asked of a model.

    python -m benchmarks.coverage [--draws 4000]

Shares and win rates are counted exactly, over every sample that n prompts can give; the rest is drawn. `mean` and
`least` coverage are over the true rates: of shares a uniform grid of 199, of win rates 400 draws of (better, no
difference, worse) from a flat Dirichlet, and 25 corners of it where nearly all is no difference.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from scipy import special, stats

from pipeline.metrics import agreement, intervals, win_rate

SIZES = (5, 10, 20, 50, 100, 250, 500)
Bounds = Sequence[tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4000)
    args = parser.parse_args()
    print("| share, uniform rate | n | mean | least | width | of the exact interval |\n|---|---|---|---|---|---|")
    for n in SIZES:
        for name, bounds in shares(n).items():
            mean, least, width, of_exact = share_row(bounds)
            print(f"| {name} | {n} | {mean:.1%} | {least:.1%} | {width:.3f} | {of_exact:.0%} |")
    print("\n| win rate with ties | n | mean | least | width | near all ties: mean | least | width |")
    print("|---|---|---|---|---|---|---|---|")
    for n in SIZES[:4]:
        for name, row in wins(n).items():
            print(f"| {name} | {n} | " + " | ".join(row) + " |")
    print("\n| agreement of 28 tables | n | AC1: mean | least | kappa: mean | least |\n|---|---|---|---|---|---|")
    for n in SIZES[:5]:
        for name, found in agreements(n, args.draws // 4).items():
            print(f"| {name} | {n} | " + " | ".join(f"{x:.1%}" for x in found) + " |")
    print("\n| drawn | n | held | width |\n|---|---|---|---|")
    for n in SIZES[1:6]:
        for name, (held, width) in drawn(n, args.draws // 8).items():
            print(f"| {name} | {n} | {held:.1%} | {width:.3f} |")
    print("\n| of equal length truly | ties | characters longer | n | held | above one half | not told |")
    print("|---|---|---|---|---|---|---|")
    for n in (100, 250):
        for true, ties, longer, held, above, untold in of_equal_length(n, args.draws // 8):
            print(f"| {true:.2f} | {ties:.0%} | {longer:.0f} | {n} | {held:.1%} | {above:.1%} | {untold:.0%} |")


# --- shares, exactly -----------------------------------------------------------------------------------------------


def shares(n: int) -> dict[str, Bounds]:
    """By method, its interval of each count."""
    counts = range(n + 1)
    exact = [stats.binomtest(count, n).proportion_ci(method="exact") for count in counts]
    normal = [(c / n - 1.96 * (c * (n - c) / n**3) ** 0.5, c / n + 1.96 * (c * (n - c) / n**3) ** 0.5) for c in counts]
    return {
        "normal, and about a percentile bootstrap": normal,
        "Wilson": [tuple(stats.binomtest(c, n).proportion_ci(method="wilson")) for c in counts],
        "exact (Clopper and Pearson)": [(float(e.low), float(e.high)) for e in exact],
        "mid-P, used here": [intervals.binomial(count, n) for count in counts],
    }


def share_row(bounds: Bounds) -> tuple[float, float, float, float]:
    """Mean and least coverage, mean width, and the greatest width beside the exact interval of the same count."""
    n, (low, high) = len(bounds) - 1, np.array(bounds).T
    covered, width = [], []
    for rate in np.linspace(0.005, 0.995, 199):
        chance = stats.binom.pmf(np.arange(n + 1), n, rate)
        covered.append(chance[(low <= rate + 1e-12) & (rate <= high + 1e-12)].sum())
        width.append((chance * (high - low)).sum())
    exact = np.array([stats.binomtest(c, n).proportion_ci(method="exact") for c in range(n + 1)])
    widest = float(((high - low) / (exact[:, 1] - exact[:, 0])).max())
    return float(np.mean(covered)), min(covered), float(np.mean(width)), widest


# --- win rates, exactly ---------------------------------------------------------------------------------------------


def wins(n: int) -> dict[str, list[str]]:
    """By method, mean, least and width over a Dirichlet, and the same where nearly all is no difference."""
    tables = np.array([(w, n - w - loss, loss) for w in range(n + 1) for loss in range(n + 1 - w)])
    size = special.gammaln(n + 1) - special.gammaln(tables + 1).sum(1)
    flat = np.random.default_rng(0).dirichlet([1, 1, 1], 400)
    few = (0, 0.01, 0.02, 0.05, 0.1)
    corners = np.array([(a, 1 - a - b, b) for a in few for b in few])
    methods: dict[str, Callable[[np.ndarray], tuple[float, float]]] = {
        "normal, and about a percentile bootstrap": _normal,
        "mid-P, as if ties were halves of a coin": lambda t: intervals.binomial(t[0] + t[1] / 2, n),
        "Bonett and Price": _bonett_price,
        "mid-P on the effective number, used here": _used,
    }
    found = {}
    for name, method in methods.items():
        bounds = np.array([method(table) for table in tables])
        row = []
        for truths in (flat, corners):
            covered, width = [], []
            for truth in truths:
                chance = np.exp(size + special.xlogy(tables, truth).sum(1))
                rate = truth[0] + truth[1] / 2
                held = (bounds[:, 0] <= rate + 1e-12) & (rate <= bounds[:, 1] + 1e-12)
                covered.append(chance[held].sum())
                width.append((chance * (bounds[:, 1] - bounds[:, 0])).sum())
            row += [f"{np.mean(covered):.1%}", f"{min(covered):.1%}", f"{np.mean(width):.3f}"]
        found[name] = row
    return found


def _values(table: np.ndarray) -> list[float]:
    return [1.0] * int(table[0]) + [0.5] * int(table[1]) + [0.0] * int(table[2])


def _normal(table: np.ndarray) -> tuple[float, float]:
    values = np.array(_values(table))
    half = 1.96 * values.std() / len(values) ** 0.5
    return values.mean() - half, values.mean() + half


def _bonett_price(table: np.ndarray) -> tuple[float, float]:
    n = table.sum() + 2
    won, lost = (table[0] + 1) / n, (table[2] + 1) / n
    half = 1.96 * ((won + lost - (won - lost) ** 2) / n) ** 0.5
    return (1 + won - lost - half) / 2, (1 + won - lost + half) / 2


def _used(table: np.ndarray) -> tuple[float, float]:
    found = intervals.interval_of(_values(table))
    return found.low, found.high


# --- agreement ------------------------------------------------------------------------------------------------------


def agreements(n: int, draws: int) -> dict[str, list[float]]:
    """Mean and least coverage of AC1 and of kappa: by a percentile bootstrap of 300, and as they are here."""
    rng, held = np.random.default_rng(n), {"percentile bootstrap": [[], []], "used here": [[], []]}  # type: ignore[var-annotated]
    for agree in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98):
        for share in ([0.45, 0.45, 0.1], [0.8, 0.1, 0.1], [0.34, 0.33, 0.33], [0.95, 0.04, 0.01]):
            apart = np.outer(share, share) * (1 - np.eye(3))
            table = (np.diag(share) * agree + apart / apart.sum() * (1 - agree)).ravel()
            samples = rng.multinomial(n, table, max(50, draws // 10))
            for place, (way, statistic) in enumerate(
                ((agreement.ac1, agreement.gwet_ac1), (agreement.kappa, agreement.cohen_kappa))
            ):
                true = float(statistic(table))
                found = [found for found in map(way, samples) if found.mean == found.mean]  # kappa may be not known
                held["used here"][place].append(np.mean([i.low <= true <= i.high for i in found]))
                drawn = statistic(rng.multinomial(n, samples[:, None, :] / n, (len(samples), 300)))
                drawn = np.where(np.isnan(drawn), true, drawn)  # kappa of one category: as if it were right
                low, high = np.percentile(drawn, [2.5, 97.5], axis=1)
                held["percentile bootstrap"][place].append(np.mean((low <= true) & (true <= high)))
    return {name: [f(c) for c in both for f in (np.mean, min)] for name, both in held.items()}


# --- the rest, drawn ------------------------------------------------------------------------------------------------


def drawn(n: int, draws: int) -> dict[str, tuple[float, float]]:
    """How often the truth is held, and the mean width."""
    rng = np.random.default_rng(n)
    found: dict[str, list[tuple[bool, float]]] = {}

    def note(name: str, interval: intervals.Interval | None, true: float) -> None:
        if interval is not None and interval.low == interval.low:
            held = interval.low <= true <= interval.high
            found.setdefault(name, []).append((held, interval.high - interval.low))

    for _ in range(draws):
        values = np.where(rng.random(n) < 0.9, 0.0, rng.choice([-1.0, 1.0], n, p=[0.3, 0.7]))
        note("paired change, nine in ten the same", intervals.interval_of(values.tolist(), least=-1), 0.04)
        tokens = rng.lognormal(3, 0.5, n)
        note("mean tokens", intervals.mean_of(tokens.tolist()), float(np.exp(3.125)))
        after = tokens * rng.lognormal(0.2, 0.3, n)
        note("ratio of tokens", intervals.ratio_of(after.tolist(), tokens.tolist()), float(np.exp(0.245)))
        rates = rng.beta(0.9, 0.1, n)
        same = {
            bytes([k % 256, k // 256, m]): bool(rng.random() < rates[k]) for k in range(n) for m in range(1 + k % 4)
        }
        note("share of labels, four of a prompt alike", intervals.share_by_prompt(same, {i: i[:2] for i in same}), 0.9)
        for mean in (0.0, 25.0):
            lengths = rng.normal(mean, 30, n)
            won = rng.random(n) < special.expit(0.5 + 2 * np.tanh(lengths / 30))
            told = win_rate.controlled(won.astype(float).tolist(), lengths.tolist())
            name = f"length-controlled, {mean:.0f} characters longer"
            note(name, told.interval, float(special.expit(0.5)))
    return {name: (np.mean([h for h, _ in seen]), np.mean([w for _, w in seen])) for name, seen in found.items()}  # type: ignore[misc]


def of_equal_length(n: int, draws: int) -> list[tuple[float, float, float, float, float, float]]:
    """The win rate at equal length, the share of ties, how much longer answers are (deviation 30); how often the
    length-controlled win rate's interval holds it and lies above one half, where it can be told. A longer answer is
    liked: its odds are e^2 at a difference without bound."""
    rows = []
    for at in (0.0, 0.5, 1.5):
        for ties in (0.0, 0.3):
            for longer in (0.0, 25.0):
                rng, seen, true = np.random.default_rng(n), [], ties / 2 + (1 - ties) * float(special.expit(at))
                for _ in range(draws):
                    lengths = rng.normal(longer, 30, n)
                    won = (rng.random(n) < special.expit(at + 2 * np.tanh(lengths / 30))).astype(float)
                    won[rng.random(n) < ties] = 0.5
                    found = win_rate.controlled(won.tolist(), lengths.tolist()).interval
                    seen.append(None if found is None else (found.low <= true <= found.high, found.low > 0.5))
                told = [pair for pair in seen if pair is not None]
                held, above = (float(np.mean([pair[which] for pair in told])) for which in (0, 1))
                rows.append((true, ties, longer, held, above, 1 - len(told) / draws))
    return rows


if __name__ == "__main__":
    main()
