"""The tables of `benchmarks.judges`, from what was answered. Asks nothing of a model.

Accuracy is by the mean of both orders, a tie counts as half; intervals are 95% binomial ones. A row of a cell is [p of
the better answer shown as A, the same shown as B, mass], and of a judge that rates the two expected ratings besides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.metrics.intervals import binomial, interval_of
from pipeline.sources.known_pairs import KnownPair, read

DATA = Path(__file__).parents[2] / "shared" / "data"
Cells = Mapping[str, Any]
Sets = Mapping[str, Sequence[KnownPair]]
Row = Sequence[float]
WORDINGS = ("contrast", "contrast, a token", "contrast, by revision", "contrast, by revision, a token",
            "contrast, one for all", "contrast, in the request")  # fmt: skip


def report(cells: Cells, real: Sets, sandbox: Sets, code: Mapping[str, Sequence[Row]]) -> str:
    """`code`: rows of the judge that is code, by set."""
    parts = [_accuracy(cells, real, code), _accuracy(cells, sandbox, {}, "sandbox"), _wordings(cells, real)]
    parts += [_scales(cells, real, sandbox), _weighing(cells), _cascades(cells), _attacks(cells), _costs(cells)]
    return "\n\n".join(parts)


def right(row: Row) -> float:
    margin = row[0] + row[1] - 1
    return 0.5 if abs(margin) < 5e-10 else float(margin > 0)


def share(values: Sequence[float]) -> str:
    if not values:
        return "-"
    low, high = binomial(sum(values), len(values))
    return f"{sum(values) / len(values):.2f} ({low:.2f} to {high:.2f}), {len(values)}"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [title, "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _names(cells: Cells, sets: Sets, sandbox: bool) -> list[tuple[str, str]]:
    """(model, judge) of the cells that are of these sets."""
    split = [cell.split("|") for cell in cells]
    return list(dict.fromkeys((m, j) for m, j, of in split if of in sets and m.startswith("sandbox") == sandbox))


def _rows(cells: Cells, model: str, judge: str, of: str) -> list[Row]:
    found = cells.get(f"{model}|{judge}|{of}")
    return [row for row in found["rows"] if row] if found else []


def _accuracy(cells: Cells, sets: Sets, code: Mapping[str, Sequence[Row]], of_models: str = "") -> str:
    sandbox = bool(of_models)
    rows = []
    for model, judge in _names(cells, sets, sandbox):
        mine = [_rows(cells, model, judge, of) for of in sets]
        every = [row for found in mine for row in found]
        if not every:
            continue
        first = sum((row[0] > 0.5) + (row[1] < 0.5) for row in every) / (2 * len(every))
        agree = sum((row[0] > 0.5) == (row[1] > 0.5) for row in every) / len(every)
        ordered = judge.startswith(("choice", "reasoned"))
        mass = sum(row[2] for row in every) / len(every)
        rows.append([
            model, judge, *(share([right(row) for row in found]) for found in mine),
            f"{first:.0%}" if ordered else "-", f"{agree:.0%}" if ordered else "-", f"{mass:.2f}",
        ])  # fmt: skip
    if code:
        rows.append(["code", "rule", *(share([right(row) for row in code.get(of, ())]) for of in sets), "-", "-", "-"])
    tried = {of: max((len(_rows(cells, m, j, of)) for m, j in _names(cells, sets, sandbox)), default=0) for of in sets}
    for name, way in BASELINES.items():
        margins = {of: way(sets[of][: tried[of]]) for of in sets}
        rows.append(["-", name, *(share([(1 + _sign(m)) / 2 for m in margins[of]]) for of in sets), "-", "-", "-"])
    if not sandbox:
        words = _words(sets, tried)
        rows.append(["-", "bag of words", *(share(words.get(of, [])) for of in sets), "-", "-", "-"])
    head = ["model", "judge", *sets, "chose A", "orders agree", "mass"]
    return _table(f"Accuracy (95% interval), pairs{': the sandbox' if sandbox else ''}", head, rows)


def _sign(x: float) -> int:
    return int(x > 0) - int(x < 0)


BASELINES: Mapping[str, Callable[[Sequence[KnownPair]], list[float]]] = {
    "always first": lambda pairs: [0.0 for _ in pairs],  # right in one order, wrong in the other
    "longer": lambda pairs: [float(len(p.better) - len(p.worse)) for p in pairs],
}


def _words(sets: Sets, tried: Mapping[str, int], strength: float = 0.1) -> dict[str, list[float]]:
    """A Bradley-Terry model on word counts, fitted to the human comparisons that are in no sample. `strength`:
    scikit-learn's C, chosen on nothing."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    asked = {p.messages for pairs in sets.values() for p in pairs}
    train = [p for p in read(DATA / "hh-harmless" / "pairs.jsonl", "hh") if p.messages not in asked]
    vectors = CountVectorizer(min_df=2).fit([text for p in train for text in (p.better, p.worse)])

    def ahead(pairs: Sequence[KnownPair]) -> Any:
        one, other = (vectors.transform([getattr(p, side) for p in pairs]) for side in ("better", "worse"))
        return one - other

    signs = np.where(np.arange(len(train)) % 2, 1, -1)  # both classes, each pair once
    model = LogisticRegression(C=strength, fit_intercept=False, max_iter=1000)
    model.fit(ahead(train).multiply(signs[:, None]).tocsr(), signs)
    some = {of: sets[of][: tried[of]] for of in sets if tried[of]}
    return {of: [(1 + _sign(m)) / 2 for m in model.decision_function(ahead(pairs))] for of, pairs in some.items()}


def _wordings(cells: Cells, sets: Sets) -> str:
    rows = []
    for model in dict.fromkeys(m for m, _ in _names(cells, sets, False)):
        least = {of: min(len(_rows(cells, model, judge, of)) for judge in WORDINGS) for of in sets}
        for judge in WORDINGS:
            found = {of: [right(r) for r in _rows(cells, model, judge, of)[: least[of]]] for of in sets}
            every = [each for values in found.values() for each in values]
            rows.append([model, judge, *(share(found[of]) for of in sets), share(every)])
    return _table("Contrast by its words, on the same pairs", ["model", "judge", *sets, "all"], rows)


def _scales(cells: Cells, real: Sets, sandbox: Sets) -> str:
    """How far a contrast's margin may be believed: the scale by which its probabilities cost the fewest nats."""
    rows = []
    for sets, of_sandbox in ((real, False), (sandbox, True)):
        for model, judge in _names(cells, sets, of_sandbox):
            found = [r for of in sets for r in _rows(cells, model, judge, of)]
            if not judge.startswith("contrast") or "then" in judge or not found:
                continue
            margins = [_logit(row[0]) for row in found]
            fits = {
                scale: [1 / (1 + math.exp(-m / scale)) for m in margins] for scale in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
            }
            best = min(fits, key=lambda scale: _nats(fits[scale]))
            size = sorted(map(abs, margins))[len(margins) // 2]
            rows.append([
                model, judge, str(len(found)), f"{size:.2f}", f"{_nats(fits[1.0]):.3f}", f"{best:g}",
                f"{_nats(fits[best]):.3f}",
            ])  # fmt: skip
    head = ["model", "judge", "pairs", "median margin", "nats at scale 1", "best scale", "nats there"]
    return _table("Contrast: what a margin is worth (0.693 nats know nothing)", head, rows)


def _logit(p: float) -> float:
    p = min(1 - 1e-9, max(1e-9, p))
    return math.log(p / (1 - p))


def _weighing(cells: Cells) -> str:
    """Of ratings, two ways to a probability: right alike where they agree, and how good each is in nats."""
    rows = []
    for model in dict.fromkeys(cell.split("|")[0] for cell in cells if "|rating|" in cell):
        found = [r for cell, of in cells.items() if cell.startswith(f"{model}|rating|") and "attack" not in cell
                 for r in of["rows"] if r and len(r) == 5]  # fmt: skip
        if not found:
            continue
        leads = [row[3] - row[4] for row in found]
        fits = {scale: [1 / (1 + math.exp(-lead / scale)) for lead in leads] for scale in (0.03, 0.1, 0.3, 1.0, 3.0)}
        best = min(fits, key=lambda scale: _nats(fits[scale]))
        rows.append([
            model, share([right(row) for row in found]), f"{_nats([row[0] for row in found]):.4f}",
            share([(1 + _sign(lead)) / 2 for lead in leads]), f"{_nats(fits[best]):.4f} (scale {best:g})",
        ])  # fmt: skip
    head = ["model", "P(X > Y) + P(X = Y) / 2", "nats", "difference of expectations", "nats, the best scale for it"]
    return _table("Ratings: two ways to weigh them (0.6931 nats know nothing)", head, rows)


def _nats(ps: Sequence[float]) -> float:
    return -sum(math.log(max(p, 1e-9)) for p in ps) / len(ps)


def _cascades(cells: Cells) -> str:
    """What a cascade would say, from what its two judges said of the same pairs: its small judge's word where that is
    at least so sure, and its orders agree."""
    rows = []
    for model, judge in (("sandbox:policy", "contrast"), ("sandbox:policy", "reasoned"), ("sandbox:policy", "rating")):
        small, large = (_rows(cells, *who, "world") for who in ((model, judge), ("sandbox:evaluator", "choice")))
        for margin in (0.5, 0.9, 0.99):
            sure = [s[0] + s[1] - 1 and abs(s[0] + s[1] - 1) >= margin and (s[0] > 0.5) == (s[1] > 0.5) and s[2] >= 0.5
                    for s in small]  # fmt: skip
            said = [s if is_sure else big for s, big, is_sure in zip(small, large, sure, strict=False)]
            asked = 1 - sum(map(bool, sure)) / max(1, len(sure))
            differ = [float(right(s) != right(big)) for s, big, ok in zip(small, large, sure, strict=False) if ok]
            rows.append([
                f"{judge} of the policy, choice of the evaluator", f"{margin:g}", f"{asked:.0%}",
                share([right(row) for row in said]), share(differ),
            ])  # fmt: skip
    head = [
        "small judge, large judge",
        "margin",
        "asked of the large one",
        "right",
        "of the sure ones, the large differs",
    ]
    return _table("Cascades on the sandbox's world", head, rows)


def _attacks(cells: Cells) -> str:
    """How often the worse answer of a pair that was judged rightly wins under an attack. Of all attacks together the
    interval is over pairs, each with its mean over the attacks: they are the same pairs each time."""
    of: dict[str, dict[str, list[float]]] = {}
    for cell, found in cells.items():
        model, judge, what = cell.split("|")
        if what.startswith("attack "):
            who = f"{judge} ({'sandbox' if model.startswith('sandbox') else 'real'})"
            won = [1 - right(row) if row else math.nan for row in found["rows"]]
            of.setdefault(what.removeprefix("attack "), {}).setdefault(who, []).extend(won)
    kinds = sorted({kind for by_kind in of.values() for kind in by_kind})
    rows = [[name, *(share(_told(by_kind.get(kind, []))) for kind in kinds)] for name, by_kind in of.items()]
    rows.append(["all attacks", *(_over_pairs([by_kind.get(kind, []) for by_kind in of.values()]) for kind in kinds)])
    return _table(
        "Attacks: how often the attacked worse answer wins, of pairs judged rightly", ["attack", *kinds], rows
    )


def _told(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _over_pairs(by_attack: Sequence[Sequence[float]]) -> str:
    if len(set(map(len, by_attack))) > 1:
        return "not all were tried"
    of_pairs = [told for values in zip(*by_attack, strict=True) if (told := _told(values))]
    found = interval_of([sum(told) / len(told) for told in of_pairs])
    return f"{found.mean:.2f} ({found.low:.2f} to {found.high:.2f}), {len(of_pairs)}"


def _costs(cells: Cells) -> str:
    total: dict[tuple[str, str], list[float]] = {}
    for cell, found in cells.items():
        model, judge, what = cell.split("|")
        if not what.startswith("attack ") and found["rows"]:
            of = total.setdefault((model, judge), [0.0] * 5)
            numbers = (len(found["rows"]), found["requests"], found["prompt_tokens"], found["tokens"], found["cpu"])
            total[model, judge] = [a + b for a, b in zip(of, numbers, strict=True)]
    rows = [
        [*who, f"{n:.0f}", *(f"{each / n:.0f}" for each in (requests, read, written)), f"{cpu / n:.2f}"]
        for who, (n, requests, read, written, cpu) in total.items()
    ]
    head = ["model", "judge", "pairs", "requests a pair", "tokens read", "tokens written", "CPU seconds"]
    return _table("What a pair costs (likelihoods tell no tokens of their prompts)", head, rows)
