"""A store as it is after a year of use, to look at pages and queries with: a million verdicts by default.

    python -m benchmarks.big_store URL [--verdicts N]     fill an empty store, and say what is in it
    python -m benchmarks.big_store URL --measure          what the queries of pages and reviewers take there

Eight times an `improve`, a `retrain` of its pool, a `judge`, a `preview` and a `respond`, then the promotions, and last
twenty runs that judged nothing. Every comparison has the verdicts of one judge's 16 questions: those of the ten shipped
principles, and of an older wording of six. Fifty amendments change wordings and end with the shipped file. Three people
have answered 2,000 spot checks and taken some back. The rows are written table by table; what people did is written as
they do it. `--measure` is in `benchmarks/big_queries.py`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert

from constitution import loading
from constitution.records import Checkpoint, Comparison, Id, LabelRule, Message, Prompt, Question, make_id, text_digest
from storage import tables
from storage.store import Store

SHIPPED = Path(__file__).parent.parent / "principles.yaml"
QUESTIONS = 16
REWORDED = 6  # principles that have an older wording
LOOPS, IDLE = 8, 20
AMENDMENTS, PROMOTIONS, CHECKS = 50, 30, 2_000
PEOPLE = ("ada", "ben", "chi")
SPLIT = (("feedback", 0.6), ("held-out feedback", 0.15), ("evaluation.pairs", 0.25))
CHUNK = 20_000
JUDGES = {"judge": "transformers:judge@1", "evaluator": "transformers:evaluator@1"}
NOUNS = "boots letter doctor baker garden ladder river kettle candle winter".split()


class Filler:
    """Writes the store. Everything it draws comes from one seed, so that two stores hold the same."""

    def __init__(self, store: Store, verdicts: int) -> None:
        self.store, self.draw, self.counts = store, random.Random(0), dict[str, int]()
        self.comparisons = max(LOOPS * 8, verdicts // QUESTIONS)
        self.when = int(time.time()) - 90 * 86_400
        self.texts = list(_amended_texts(SHIPPED.read_text("utf-8")))
        self.versions = [loading.parse(text) for text in self.texts]
        self.questions = {role: self._questions(name) for role, name in JUDGES.items()}
        self.checkpoints: list[tuple[Checkpoint, Id]] = []
        self.asked: dict[str, list[Id]] = {role: [] for role in JUDGES}  # comparisons by who judged them
        self.feedback: list[Id] = []

    def fill(self) -> dict[str, int]:
        with self.store._write() as connection:
            self.connection = connection
            self._constitutions()
            pools = [self._texts(number, self.comparisons // LOOPS) for number in range(LOOPS)]
            for number, pool in enumerate(pools):
                self._loop(number, pool)
            for number in range(IDLE):
                pool = pools[number % LOOPS]
                self._run(f"idle {number}", "respond", {"prompts": pool["prompts"], "samples": pool["samples"]})
            self._verdicts()
        self._people()
        return self.counts

    def _put(self, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
        iterator = iter(rows)
        while some := list(itertools.islice(iterator, CHUNK)):
            self.connection.execute(insert(table), some)
            self.counts[table.name] = self.counts.get(table.name, 0) + len(some)

    # --- what was asked, and of what ---

    def _questions(self, judge: str) -> dict[tuple[str, str], Question]:
        """By principle and wording."""
        words = {(p.id, p.comparison): None for version in self.versions for p in version.principles}
        form = "Consider this dialogue:\n{dialogue}\n\nA: {first}\n\nB: {second}\n\n%s\nAnswer with A or B."
        return {(name, said): Question(judge, {"labels": ["A", "B"]}, form % said, name) for name, said in words}

    def _constitutions(self) -> None:
        asked = [q for by_wording in self.questions.values() for q in by_wording.values()]
        rows = ({**_fields(q), "skeleton": q.template, "id": q.id, "created": self.when} for q in asked)
        self._put(tables.question, ({k: v for k, v in row.items() if k != "template"} for row in rows))
        self._put(
            tables.clause,
            (
                {"constitution": version.version, "principle": p.id, "question": by_wording[p.id, p.comparison].id}
                for version in {v.version: v for v in self.versions}.values()
                for by_wording in self.questions.values()
                for p in version.principles
            ),
        )

    def _texts(self, loop: int, comparisons: int) -> dict[str, list[Id]]:
        """Prompts, four answers to each and their pairs: the stages of one run of the loop."""
        prompts, answers, generations, pairs, origins = [], [], [], [], []
        samples: list[Id] = []
        while len(pairs) < comparisons:
            number = len(prompts)
            what = f"How do I look after the {self.draw.choice(NOUNS)} of house {loop}-{number}?"
            prompt = Prompt((Message("user", what),), "heldout" if number % 4 == 0 else "train", "big store")
            prompts.append(prompt)
            made = {}
            for sample in range(4):
                text = f"{what} " + " ".join(self.draw.choices(NOUNS, k=40)) + f" ({sample})"
                ident, content = make_id("response", loop=loop, number=number, sample=sample), text_digest(text)
                made[content] = ident
                answers.append({"content": content, "text": text, "created": self.when})
                generations.append(_generation(ident, prompt.id, content, sample, self.when))
                samples.append(ident)
            for one, other in itertools.combinations(made, 2):
                if len(pairs) < comparisons:
                    pair = Comparison.of(prompt.id, one, other)
                    pairs.append(pair)
                    origins += [{"comparison": pair.id, "generation": made[content]} for content in (one, other)]
        self._put(tables.dialogue, ({"id": p.id, "messages": list(p.messages)} for p in prompts))
        self._put(tables.prompt, ({"id": p.id, "split": p.split, "source": p.source, "tags": ()} for p in prompts))
        self._put(tables.answer, answers)
        self._put(tables.generation, generations)
        self._put(tables.comparison, ({"id": p.id, "created": self.when, **_fields(p)} for p in pairs))
        self._put(tables.origin, origins)
        found: dict[str, list[Id]] = {"prompts": [p.id for p in prompts], "samples": samples}
        start = 0
        for stage, share in SPLIT:
            some = [pair.id for pair in pairs[start : start + round(share * comparisons)]]
            found[stage], start = some, start + len(some)
            self.asked["evaluator" if stage == "evaluation.pairs" else "judge"] += some
        found |= {"evaluation.before": samples[::4], "evaluation.after": samples[1::4]}
        self.feedback += found["feedback"]
        return found

    # --- runs ---

    def _loop(self, number: int, pool: Mapping[str, list[Id]]) -> None:
        version = self.versions[min(len(self.versions) - 1, number * 7)]
        by_role = {role: [q[p.id, p.comparison].id for p in version.principles] for role, q in self.questions.items()}
        asked = {
            f"{stage}.questions": by_role["evaluator" if stage == "evaluation.pairs" else "judge"] for stage, _ in SPLIT
        }
        for kind in ("improve", "retrain"):
            self._trained(f"{kind} {number}", kind, {**pool, **asked}, version.version)
        judged = {name: ids for name, ids in {**pool, **asked}.items() if name.startswith("feedback")}
        self._run(f"judge {number}", "judge", {"prompts": pool["prompts"], **judged}, version.version)
        preview = {"feedback": pool["feedback"][:200], "feedback.questions": by_role["judge"][:1]}
        self._run(f"preview {number}", "preview", preview, version.version)
        self._run(f"respond {number}", "respond", {"prompts": pool["prompts"], "samples": pool["samples"]})

    def _trained(self, key: str, kind: str, stages: Mapping[str, list[Id]], version: str) -> None:
        """A run of the loop, its checkpoints, its evaluation and its decision."""
        run, parent, model = make_id("run", key=key), "start", ""
        rows = []
        for method in ("sft", "reward", "dpo", "dpo_again"):
            job = make_id("job", key=key, method=method)
            name, digest = method.removesuffix("_again"), (text_digest(key + method) * 2).hex()
            model = f"checkpoints/{name}-{job.hex()[:16]}"
            made = "reward_model" if method == "reward" else "policy"
            metrics = {"eval_accuracy": 0.9, "eval_reliability": [[i / 50, i / 50, 20] for i in range(50)]}
            checkpoint = Checkpoint(job, made, name, model, digest, parent, text_digest(key).hex(), version, metrics)
            self.checkpoints.append((checkpoint, run))
            rows.append({**_fields(checkpoint), "run": run, "created": _iso(self.when)})
            parent = digest if made == "policy" else parent
        evaluation = {"win_rate": {"mean": 0.8, "low": 0.7, "high": 0.9}, "notes": ["figure"] * 500}
        decision = {"promoted": True, "reasons": ["held: the constitution is ratified"], "model": model}
        report = f"{run.hex()[:12]}/report.html"
        figures = {
            "before": {"mean_tokens": 20.4},
            "after": {"mean_tokens": 18.1},
            "labels": {"count": 1444, "tied": 9},
        }
        spent = {
            "calls": {"generated": 8215, "chosen": 41048, "reused": 0},
            "seconds": {"total": 130.0, "asking": 97.0},
        }
        result = {**figures, **spent, **decision, "report": report, "win_rate": evaluation["win_rate"]}
        self._run(key, kind, stages, version, result)
        self._put(tables.checkpoint, rows)
        documents = {"evaluation": evaluation, "decision": decision}
        about = {"id": run.hex(), "created": _iso(self.when)}
        self._put(tables.document, ({"kind": noun, "payload": said, **about} for noun, said in documents.items()))

    def _run(
        self, key: str, kind: str, stages: Mapping[str, list[Id]], version: str | None = None, result: Any = None
    ) -> None:
        self.when += 86_400
        run, created = make_id("run", key=key), _iso(self.when)
        settings = {"settings": {"label": asdict(LabelRule()), "policy": {"model": "start"}}, "policy": "start"}
        columns = {"key": key, "kind": kind, "settings": settings, "constitution": version, "result": result}
        ended = {"status": "finished", "created": created, "finished": created, "error": None, "archived": None}
        self._put(tables.run, [{"id": run, **columns, **ended}])
        self._put(
            tables.member,
            (
                {"run": run, "stage": stage, "ordinal": ordinal, "id": id, "reused": int(kind != "improve")}
                for stage, ids in stages.items()
                for ordinal, id in enumerate(ids)
            ),
        )

    def _verdicts(self) -> None:
        """In the order of their key, which is the fastest; a batch for each thousand."""
        for role, by_wording in self.questions.items():
            about = sorted(self.asked[role])
            for question in sorted(q.id for q in by_wording.values()):
                first = self.counts.get("batch", 0)
                count = -(-len(about) // 1_000)
                self._put(tables.batch, ({"stage": role, "created": self.when} for _ in range(count)))
                self._put(tables.verdict, self._said(question, about, first))

    def _said(self, question: Id, about: Sequence[Id], batch: int) -> Iterator[dict[str, Any]]:
        drawn = self.draw.random
        for place, comparison in enumerate(about):
            truth = drawn()
            p1, p2 = (min(1.0, max(0.0, truth + drawn() * 0.3 - 0.15)) for _ in range(2))
            yield {
                "question": question, "comparison": comparison, "p1": int(p1 * 1e9), "p2": int(p2 * 1e9),
                "mass1": 999_000_000, "mass2": 10**9 if drawn() < 0.98 else 0, "tie1": None, "tie2": None,
                "batch": batch + place // 1_000 + 1,
            }  # fmt: skip

    # --- what people did ---

    def _people(self) -> None:
        store = self.store
        for number, (version, text) in enumerate(zip(self.versions, self.texts, strict=True)):
            store.ratify(version.version, PEOPLE[number % 3], f"amendment {number}", f"amendment {number}", text=text)
        policies = [checkpoint for checkpoint, _ in self.checkpoints if checkpoint.kind == "policy"]
        for number, checkpoint in enumerate((policies * 2)[:PROMOTIONS]):
            store.promote(checkpoint, PEOPLE[number % 3], "passed its gate", f"promotion {number}", {"reasons": []})
        undone = 0
        for number in range(CHECKS):
            who, about = PEOPLE[number % 3], self.feedback[self.draw.randrange(len(self.feedback))]
            answer = self.draw.choice(("first", "second", "tie", "skip"))
            drawn = self.draw.choice(("random", "random", "uncertain", "flips"))
            check = store.add_spot_check(who, about, answer, sampled_by=drawn, key=f"check {number}")
            if number % 20 == 0:
                store.undo_spot_check(who, check.event, f"undo {number}")
                undone += 1
        self.counts |= {"amendments": AMENDMENTS, "promotions": PROMOTIONS, "spot checks": CHECKS, "undone": undone}


def _amended_texts(shipped: str) -> Iterator[str]:
    """The file after each amendment: one wording more or less each time, and the shipped file at the end."""
    questions = re.findall(r"^    comparison: (.+)$", shipped, re.MULTILINE)[:REWORDED]
    for number in range(AMENDMENTS - 1, -1, -1):
        text, older = shipped, number ^ number >> 1  # a Gray code: neighbours differ in one place
        for place, question in enumerate(questions):
            if older >> place & 1:
                text = text.replace(f"comparison: {question}\n", f"comparison: On the whole, {_lower(question)}\n")
        yield text


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _generation(ident: Id, prompt: Id, content: Id, sample: int, when: int) -> dict[str, Any]:
    return {
        "id": ident, "kind": "response", "prompt": prompt, "content": content, "parent": None, "principle": None,
        "round": 0, "sample": sample, "finish_reason": "stop", "engine": "transformers:policy@1", "prompt_tokens": 20,
        "tokens": 45, "created": when,
    }  # fmt: skip


def _iso(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000+00:00", time.gmtime(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url", help="an empty store: a file name or postgresql://...")
    parser.add_argument("--verdicts", type=int, default=1_000_000)
    parser.add_argument("--measure", action="store_true", help="measure a store that was filled before")
    arguments = parser.parse_args()
    with Store.open(arguments.url) as store:
        if arguments.measure:
            from benchmarks import big_queries

            big_queries.measure(store)
            return
        began = time.perf_counter()
        counts = Filler(store, arguments.verdicts).fill()
        print(json.dumps({**counts, "seconds": round(time.perf_counter() - began, 1)}))


if __name__ == "__main__":
    main()
