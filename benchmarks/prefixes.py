"""Which way of asking `auto` finds for a model, and whether more mass is more truth.

    python -m benchmarks.prefixes FOLDER [--most 40] [--dtype bfloat16]

First every beginning of an answer with every pair of letters that `answer_prefix = "auto"` and `letters = "auto"` try,
by the median mass of the letters over three pairs in both orders. Then the way that was found, and letters with nothing
before them, on examples of the constitution `assistant` whose better answer is known: how often the mean of both orders
is right, how often the first reply is named, and how often the two orders agree.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from constitution import loading
from constitution.principles import Constitution
from constitution.records import PROBABILITY, Comparison, Verdict, dialogue_id, text_digest
from constitution.starting_points import starting_point
from pipeline import engines
from pipeline.asking import Role
from pipeline.engines.engine import EngineSettings
from pipeline.judges import reading
from pipeline.judges.applies import every_tag
from pipeline.judges.choice import AUTO, ChoiceJudge, ChoiceOptions
from pipeline.judges.judge import Case
from pipeline.metrics.intervals import Share

HALF = PROBABILITY // 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--most", type=int, default=40)
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    constitution = loading.parse(starting_point("assistant"), "assistant")
    role = Role(engines.build(EngineSettings(model=args.folder, dtype=args.dtype, batch_size=8)))
    ways = reading.settle(role, constitution, ChoiceOptions(), AUTO, AUTO)
    print("| its answer begins with | letters | median mass |\n|---|---|---|")
    for way in sorted(ways, key=lambda way: -way.mass):
        taken = " (taken)" if way is ways[0] else ""
        print(f"| {way.answer_prefix!r} | {way.letters!r} | {way.mass:.3f}{taken} |")
    known = examples(constitution, args.most)
    print(f"\n| way, {len(known)} examples | right | first reply named | both orders agree |\n|---|---|---|---|")
    bare = next((way for way in ways if not way.answer_prefix and way.letters == "A"), ways[0])
    for way in dict.fromkeys((ways[0], bare)):
        judge = ChoiceJudge(replace(role, answer_prefix=way.answer_prefix), ChoiceOptions.model_validate(
            {"letters": way.letters}))  # fmt: skip
        verdicts = judge.judge([case for case, _ in known]).verdicts
        shares = figures(verdicts, [first for _, first in known])
        shown = " | ".join(f"{s.value:.2f} ({s.low:.2f} to {s.high:.2f})" for s in shares)
        print(f"| {way.answer_prefix!r}, {way.letters!r} | {shown} |", flush=True)


def examples(constitution: Constitution, most: int) -> list[tuple[Case, bool]]:
    """Examples of the principles that a model judges, by turns, each with whether its better answer is the first."""
    asked = [p for p in constitution if p.judge is None]
    rows = [
        (p, p.examples[n]) for n in range(max(len(p.examples) for p in asked)) for p in asked if n < len(p.examples)
    ]
    found = []
    for p, e in rows[:most]:
        one, other = text_digest(e.better), text_digest(e.worse)
        comparison = Comparison.of(dialogue_id(e.prompt), one, other)
        first = comparison.first == one
        texts = (e.better, e.worse) if first else (e.worse, e.better)
        found.append((Case(comparison, e.prompt, *texts, (p,), every_tag([p])), first))
    return found


def figures(verdicts: Sequence[Verdict], better_first: Sequence[bool]) -> tuple[Share, Share, Share]:
    """Right by the mean of both orders; answers that name the reply shown first; orders that name the same answer."""
    right = sum((v.p1 + v.p2 > PROBABILITY) == first for v, first in zip(verdicts, better_first, strict=True))
    named_first = sum((v.p1 > HALF) + (v.p2 < HALF) for v in verdicts)  # shown as A; shown as B, so the other is A
    agree = sum((v.p1 > HALF) == (v.p2 > HALF) for v in verdicts)
    return Share(right, len(verdicts)), Share(named_first, 2 * len(verdicts)), Share(agree, len(verdicts))


if __name__ == "__main__":
    main()
