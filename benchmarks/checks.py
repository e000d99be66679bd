"""What the checks say of texts that people and models wrote, and what they cost.

    python -m benchmarks.checks [--data ../shared/data]

The replies of hh-harmless, all of them English: how often they are told to be, by their length, and how often another
language is named. And seconds for a thousand replies of each check.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.checks import Checks, language, shape
from pipeline.sources.known_pairs import read

BUCKETS = ((1, 5), (6, 10), (11, 20), (21, 50), (51, 10_000))
CHECKS: tuple[dict[str, Any], ...] = (
    {"max_words": 80}, {"max_sentences": 5}, {"headings": "none"}, {"lists": "asked"}, {"ends_sentence": True},
    {"lacks": ["as an ai", "great question", "i hope this helps"]}, {"no_pattern": r"(?i)\b(sorry|cannot)\b"},
    {"json": True}, {"language": "en"},
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    folder = parser.parse_args().data / "hh-harmless"
    files = sorted(folder.glob("*.jsonl"))
    pairs = [pair for path in files for pair in read(path, "hh")]
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.better, pair.worse) if text.strip()))
    print(f"| words | of {len(texts):,} English replies | told English | not known | another |\n|---|---|---|---|---|")
    for low, high in BUCKETS:
        some = [text for text in texts if low <= shape.words(text) <= high]
        said = Counter(language.of(text) for text in some)
        n = max(1, len(some))
        other = sum(count for code, count in said.items() if code not in ("en", None))
        print(f"| {low} to {high:,} | {len(some):,} | {said['en'] / n:.3f} | {said[None] / n:.3f} | {other / n:.4f} |")
    print("\n| check | kept by | seconds for 1,000 |\n|---|---|---|")
    for options in CHECKS:
        checks, began = Checks.read(options), time.perf_counter()
        held = [checks.holds(pair.messages, pair.better) for pair in pairs]
        seconds = (time.perf_counter() - began) / max(1, len(pairs)) * 1_000
        print(f"| {checks.words} | {sum(h is True for h in held) / max(1, len(held)):.3f} | {seconds:.3f} |")


if __name__ == "__main__":
    main()
