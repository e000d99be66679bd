"""What every query and action of the service takes in a store of a million verdicts: seconds, memory, rows.

    python -m benchmarks.big_store URL                   fill an empty store
    python -m benchmarks.queries URL                     a table of all queries
    python -m benchmarks.queries URL --only agreement    those whose name has this in it
    python -m benchmarks.queries URL --review 10000      twenty people give so many answers, in four processes

Each query has a process of its own. `first` is its first call there, `median` that of five more; `MB` is what one more
call allocates at its most, as tracemalloc tells. Two runs are added to the store, once: `all`, whose judge was asked
about every pair that the judge of any run was asked about, and `ten thousand`, of which all is exported. Queries that
name no other run are about `all`. What people do here (an answer, an undo) is stored.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.big_store import JUDGES, SHIPPED
from constitution import loading
from constitution.principles import Constitution, Principle
from constitution.records import Question
from service.actions import data_files, exports, review
from service.queries import (
    agreement,
    attribution,
    constitution_compare,
    disagreements,
    history,
    judged,
    labels,
    lint,
    models,
    pairs,
    runs,
)
from service.queries import preview as previews
from service.queries.lineage import trace
from service.settings import JudgeSettings, Settings, load
from service.wiring import Wiring
from storage.store import Store

TIMES = 5
ALL, TEN = "benchmark: all", "benchmark: ten thousand"
A_DAY = 86_400.0
Query = Callable[[], object]


class Known:
    """The big store's judge, as far as its questions go."""

    def __init__(self, store: Store) -> None:
        ids = {id for version in store.constitutions() for some in store.clauses(version).values() for id in some}
        self.questions = [q for q in store.questions(sorted(ids)) if q.judge == JUDGES["judge"]]

    def question(self, principle: Principle) -> Question:
        said = f"\n{principle.comparison}\n"
        asked = (q for q in self.questions if q.principle == principle.id and said in q.template)
        return next(asked, Question(JUDGES["judge"], {}, principle.comparison, principle.id))


class Looking(Wiring):
    """The wiring of commands that ask no model."""

    def asked_judge(self, settings: JudgeSettings) -> Any:
        return Known(self.store)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url", help="a store that benchmarks.big_store filled")
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    parser.add_argument("--review", type=int, default=0, metavar="ANSWERS")
    arguments = parser.parse_args()
    with Store.open(arguments.url) as store:
        _prepare(store, _settings(arguments.url))
    if arguments.review:
        _review(arguments.url, arguments.review)
    elif arguments.one:
        print(json.dumps(_measure(arguments.url, arguments.one)))
    else:
        _table(arguments.url, arguments.only)


def _table(url: str, only: str) -> None:
    print(f"{'query':44} {'first s':>9} {'median s':>9} {'MB':>7} {'rows':>7}")
    for name in [name for name, _ in _queries(Looking(_settings(url))) if only in name]:
        command = [sys.executable, "-m", "benchmarks.queries", url, "--one", name]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{name:44} failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        found = json.loads(done.stdout)
        seconds = f"{found['first']:9.3f} {found['median']:9.3f}"
        print(f"{name:44} {seconds} {found['MB']:7.1f} {found['rows']:7}", flush=True)


def _measure(url: str, name: str) -> dict[str, Any]:
    wiring = Looking(_settings(url))
    wiring.store.runs(most=1)
    query = dict(_queries(wiring))[name]
    taken, rows = [], 0
    for _ in range(TIMES + 1):
        began = time.perf_counter()
        found = query()
        taken.append(time.perf_counter() - began)
        rows = _rows(found)
    tracemalloc.start()
    query()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    return {"first": taken[0], "median": statistics.median(taken[1:]), "MB": peak, "rows": rows}


def _rows(found: object) -> int:
    for name in ("items", "rows", "nodes", "flips", "figures"):
        if isinstance(some := getattr(found, name, None), Sequence):
            return len(some)
    return len(found) if isinstance(found, list | dict) else 1


def _settings(url: str) -> Settings:
    return load(None, {"store": url, "constitution": str(SHIPPED), "label.min_margin": 0.5})[0]


# --- the queries ---------------------------------------------------------------------------------------------------


def _queries(wiring: Looking) -> Iterator[tuple[str, Query]]:
    store, who = wiring.store, f"reviewer {time.time_ns()}"
    shipped = loading.load(SHIPPED)
    names = [p.id for p in shipped]
    run = store.run_of_key(ALL)
    every = run.id.hex() if run else ""
    pair = store.stage_members(run.id, "feedback", most=1)[0].hex() if run else ""
    made = store.checkpoints()[20]

    def changed(old: str, new: str) -> Constitution:
        return loading.parse(shipped.source.replace(old, new, 1))

    def draft(kept: Sequence[Principle]) -> Constitution:
        return loading.parse(_without(shipped, kept))

    yield "review: next, random", lambda: review.next_item(store, every, who)
    yield "review: next, uncertain", lambda: review.next_item(store, every, who, "uncertain")
    yield "review: next, flips", lambda: review.next_item(store, every, who, "flips")
    yield "review: next and answer", lambda: _answer(store, every, who)
    yield "review: next, answer and undo", lambda: _undo(store, every, who)
    yield "review: next and answer, the run kept", _kept(store, every, who)
    yield "review: own answers", lambda: review.answers(store, every, "ada")
    yield "review: how many are left", lambda: review.left(store, every, "ada")
    yield "newest judged run", lambda: judged.newest(store, "")
    yield "agreement", lambda: agreement.agreement(store, every)
    yield "disagreements, 50", lambda: disagreements.disagreements(store, every)
    yield "disagreements of a principle, 50", lambda: disagreements.disagreements(store, every, principle=names[0])
    yield "labels, 100", lambda: labels.labels(store, every)
    yield "labels, 100, tied", lambda: labels.labels(store, every, state="tied")
    yield "labels, 100, unreadable (hardly any)", lambda: labels.labels(store, every, state="unreadable")
    yield "labels, 100, of a principle", lambda: labels.labels(store, every, principle=names[0])
    yield "labels, counted: computes all", lambda: labels.counts(store, every)
    yield "pairs, 20", lambda: pairs.pairs(store, every)
    yield "pair", lambda: pairs.pair(store, pair, every)
    yield "runs, 20 of the store", lambda: store.runs(most=20)
    yield "runs, all", lambda: runs.runs(store)
    yield "run by its digits", lambda: runs.show(store, every[:12])
    yield "models, all", lambda: models.models(store)
    yield "model by its digits", lambda: models.model(store, made.id.hex()[:12])
    yield "promotions", lambda: models.promotions(store)
    yield "is ratified", lambda: store.is_ratified(shipped.version)
    yield "history of amendments", lambda: history.log(store)
    yield "blame", lambda: history.blame(store)
    yield "lineage of the promoted model", lambda: trace(store, "promoted")
    yield "lineage of a pair", lambda: trace(store, f"comparison:{pair}")
    reweighted, fewer = changed("weight: ", "weight: 1"), draft(shipped.principles[1:])
    yield "preview of a weight: reads all", lambda: previews.preview(wiring, reweighted, who, run=every)
    yield "preview of a removal: reads all", lambda: previews.preview(wiring, fewer, who, run=every)
    yield "lint: reads all", lambda: lint.lint(wiring, run=every)
    yield "attribution: reads all", lambda: attribution.labels(wiring, shipped, every)
    yield "attribution of one pair", lambda: attribution.explain(wiring, shipped, pair, every)
    yield "two constitutions: reads all", lambda: _compared(wiring, every)
    yield "garbage, dry run: looks at all", lambda: store.collect(A_DAY, dry_run=True)
    yield "export of 10,000 pairs", lambda: _export(store)


def _without(shipped: Constitution, kept: Sequence[Principle]) -> str:
    """The shipped file with some of its principles."""
    head, *parts = shipped.source.split("\n  - id: ")
    names = {p.id for p in kept}
    return "\n  - id: ".join([head, *(part for part in parts if part.split()[0] in names)])


def _answer(store: Store, run: str | judged.Judged, who: str) -> review.Answered:
    item = review.next_item(store, run, who)
    assert item is not None
    return review.answer(store, who, item.token, item.comparison, "a")


def _undo(store: Store, run: str, who: str) -> object:
    return review.undo(store, run, who, _answer(store, run, who).event)


def _kept(store: Store, run: str, who: str) -> Query:
    about: list[judged.Judged] = []

    def work() -> object:
        about.extend([judged.newest(store, run)] if not about else [])
        return _answer(store, about[0], who)

    return work


def _compared(wiring: Wiring, run: str) -> object:
    return constitution_compare.compare(wiring, "30", "ratified", run)


def _export(store: Store) -> object:
    run = store.run_of_key(TEN)
    assert run is not None
    return exports.collect(store, run.id.hex(), data_files.Format.preference, data_files.Split.all)


# --- the two runs --------------------------------------------------------------------------------------------------


def _prepare(store: Store, settings: Settings) -> None:
    if store.run_of_key(ALL) is not None:
        return
    loops = store.runs(kinds=["improve"])
    newest = loops[0]
    for key, most in ((TEN, 10_000), (ALL, 10**9)):
        run = store.start_run(key, "judge", {"settings": settings.identity(), "policy": "start"}, newest.constitution)
        left = most
        for stage in ("feedback", "held-out feedback"):
            asked = store.stage_members(newest.id, f"{stage}.questions")
            store.add_members(run.id, f"{stage}.questions", asked)
            ids = [id for one in loops for id in store.stage_members(one.id, stage)][:left]
            store.add_members(run.id, stage, ids)
            left -= len(ids)
        store.finish_run(run.id, "finished", {})


# --- many people at once -------------------------------------------------------------------------------------------


def _review(url: str, count: int) -> None:
    """Twenty people, five in each of four processes, at a queue of ten thousand pairs; each second answer is sent twice
    at once. A process ends where somebody is shown what another holds."""
    people = [f"reviewer {time.time_ns()} {n}".replace(" ", "-") for n in range(20)]
    with Store.open(url) as store:
        queue = store.run_of_key(TEN)
        assert queue is not None
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as held:
        shares = [" ".join(people[n::4]) for n in range(4)]
        command = [sys.executable, "-m", "tests.service.at_once", url]
        running = [
            subprocess.Popen(
                [*command, share, held, str(count // 20), "random", queue.id.hex()], stdout=subprocess.PIPE, text=True
            )
            for share in shares
        ]
        told = [answer for process in running for answer in json.loads(process.communicate()[0])]
    seconds = time.perf_counter() - began
    with Store.open(url) as store:
        sent = sum(event.who in people for event in store.events("spot_check"))
        kept = {(c.reviewer, c.comparison.hex(), c.event) for name in people for c in store.spot_checks(reviewer=name)}
    lost = {(who, pair, event) for who, pair, _, event in told} ^ kept
    rate = f"{len(told)} answers of 20 people in {seconds:.0f} s, {len(told) / seconds:.1f} a second"
    print(f"{rate}; {len(lost)} lost, {sent - len(told)} kept twice")


if __name__ == "__main__":
    main()
