"""How fast the store is: verdict rows a second at 32 a commit, and labels of 100,000 comparisons and their outlook.

    python -m benchmarks.storage [--comparisons N] [--url postgresql://...] [--filled URL]

One line of JSON a database: SQLite in a temporary folder, and the empty database of `--url` where one is given. The
goals: 15,000 rows a second; for 100,000 comparisons x 16 questions the labels, the outlook of a new weighting and that
of an added question within 4 s cold and 300 MB each. `_s` and `_cpu_s` are those of the first time and of the second;
`cpu` is the process's own time (Postgres works in another), which tells a slow machine from a busy one.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from constitution.records import Comparison, Id, Message, Prompt, Question, Verdict
from storage.store import Store

QUESTIONS = [Question("judge", {}, f"template {number}", f"principle-{number}") for number in range(16)]
BATCH = 32
WEIGHTS = {question.id: 1_000 for question in QUESTIONS}
REWEIGHTED = {question.id: 100 * number for number, question in enumerate(QUESTIONS, start=5)}
ADDED = WEIGHTS | {Question("judge", {}, "template of a new one", "principle-new").id: 1_000}

# Each measure is taken in a process of its own that has read nothing yet: cold, and with a peak that is the measure's.
# This process, which starts them, stays small, because Linux counts a parent's size into the peak of its children.
FILL = """
import json, sys
from benchmarks.storage import fill, judge
from storage.store import Store
with Store.open(sys.argv[1]) as store:
    print(json.dumps(judge(store, fill(store, int(sys.argv[2])))))
"""
MEASURE = """
import json, resource, sys, time
from benchmarks.storage import ADDED, REWEIGHTED, WEIGHTS, run_of
from constitution.records import LabelRule
from storage.store import Store
rule, name = LabelRule(), sys.argv[2]
measures = {
    "labels": lambda store, ids: {"labels": len(store.labels(ids, WEIGHTS, rule))},
    "reweighted": lambda store, ids: {"flips": len(store.outlook(ids, WEIGHTS, REWEIGHTED, rule).flips)},
    "added": lambda store, ids: {"open": len(store.outlook(ids, WEIGHTS, ADDED, rule).open)},
}
with Store.open(sys.argv[1]) as store:
    times = []
    for _ in range(2):
        wall, cpu = time.perf_counter(), time.process_time()
        found = measures[name](store, store.stage_members(run_of(store), "compare"))
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found | {f"{name}_s": [round(wall, 2) for wall, _ in times],
        f"{name}_cpu_s": [round(cpu, 2) for _, cpu in times], f"{name}_peak_mb": round(peak)}))
"""


def run_of(store: Store) -> Id:
    return store.start_run("benchmark", "benchmark", {}).id


def fill(store: Store, comparisons: int) -> list[Id]:
    """Comparisons over few texts: the labels never read those."""
    prompt = Prompt((Message("user", "benchmark"),), "train")
    store.add_prompts([prompt])
    answers = store.add_answers(f"answer {number}" for number in range(int((2 * comparisons) ** 0.5) + 2))
    pairs = [Comparison.of(prompt.id, one, other) for i, one in enumerate(answers) for other in answers[:i]]
    store.add_comparisons(pairs[:comparisons], run=run_of(store), stage="compare")
    store.add_questions(QUESTIONS)
    return [pair.id for pair in pairs[:comparisons]]


def judge(store: Store, comparisons: Sequence[Id]) -> dict[str, float]:
    """Store every verdict, 32 a commit as a judge gives them: a comparison with all its questions."""
    draw = random.Random(0)
    verdicts = [
        Verdict(question, comparison, draw.randrange(10**9), draw.randrange(10**9), 10**9, 10**9)
        for comparison in comparisons
        for question in WEIGHTS
    ]
    run = run_of(store)
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(verdicts), BATCH):
        store.add_verdicts(verdicts[start : start + BATCH], run=run, stage="judge")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    count = len(verdicts)
    return {"verdicts": count, "rows_per_s": round(count / wall), "rows_per_cpu_s": round(count / cpu)}


def measure(url: str, comparisons: int = 0) -> dict[str, object]:
    """`comparisons` 0: of a store that this benchmark filled before."""
    printed: dict[str, object] = {"comparisons": comparisons} if comparisons else {}
    steps = [(FILL, str(comparisons))] if comparisons else []
    steps += [(MEASURE, name) for name in ("labels", "reweighted", "added")]
    for code, argument in steps:
        done = subprocess.run(
            [sys.executable, "-c", code, url, argument], check=True, stdout=subprocess.PIPE, text=True
        )
        printed |= json.loads(done.stdout)
    return printed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--comparisons", type=int, default=100_000)
    parser.add_argument("--url", help="an empty Postgres database")
    parser.add_argument("--filled", metavar="URL", help="only the queries, on a store that was filled before")
    arguments = parser.parse_args()
    if arguments.filled:
        print(json.dumps(measure(arguments.filled)), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "benchmark.db")
        print(json.dumps({"database": "sqlite", **measure(path, arguments.comparisons)}), flush=True)
    if arguments.url:
        print(json.dumps({"database": "postgres", **measure(arguments.url, arguments.comparisons)}), flush=True)


if __name__ == "__main__":
    main()
