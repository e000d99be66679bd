"""The preview of an amendment: what a draft changes, which labels flip, what each way of retraining would take.

Labels are a query over stored verdicts, so removing and reweighting are answered at once, exactly, by no model. What an
added or reworded principle will say is not known: labels that it cannot flip are counted as such, and a sample of the
rest can be asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from constitution.difference import Diff, diff
from constitution.errors import UserError
from constitution.lines import changed, split
from constitution.merge import ThreeWay, three_way
from constitution.principles import Constitution
from constitution.records import Id, canonical, make_id, text_digest
from flows import pool, pricing
from flows.budget import BudgetReached
from flows.examples import refuse_drift
from flows.history import ratified
from flows.pricing import Stale, Way
from flows.progress import Reporter
from flows.settings import prepare_process, user
from flows.wiring import Wiring
from flows.work import Work
from pipeline import label
from pipeline.judges.judge import Judge
from storage.amendments import FRESH, Amendment, Superseded, amendment_key
from storage.labels import Weights
from storage.outlook import Outcome, Outlook, Prospects
from storage.store import Store

KIND = "preview"  # of the run that a sample is asked in
SHOWN = 5  # examples of flips
REPORTER = Reporter()  # the command line replaces it when asked to be quiet


@dataclass(frozen=True)
class Flip:
    """A label that turns, with its texts. `principles`: those whose coming, going or weight did it."""

    comparison: Id
    prompt: str
    first: str
    second: str
    before: Outcome
    after: Outcome
    p_before: float
    p_after: float
    principles: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """What becomes of the stored labels. `flips`: how many surely turn; `open`: how many may. `expected`: flips in all,
    with a 95% interval, where nothing is open or `sampled` of those that might have turned were asked (Wilson's)."""

    total: int
    flips: int
    open: int
    sampled: int = 0
    expected: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Preview:
    draft: Constitution
    digest: str  # of the draft's text
    inforce: Amendment
    base: Amendment  # the amendment that the draft was made from
    difference: Diff
    pool: pool.Pool
    missing: Mapping[str, int]  # verdicts that the pool lacks, by principle
    labels: Labels
    examples: Sequence[Flip]
    stale: Stale
    ways: Sequence[Way]
    overtaken: ThreeWay | None  # where another amendment has come since the one the draft was made from

    def as_dict(self) -> dict[str, Any]:
        d, default = self.difference, self.ways[0]
        return {
            "draft": {"version": self.draft.version, "digest": self.digest},
            "ratified": {"number": self.inforce.number, "version": self.inforce.version},
            "made_from": self.base.number,
            "overtaken": self.overtaken is not None,
            "run": self.pool.run.id.hex() if self.pool.run else None,
            "principles": {
                "added": [c.id for c in d.added],
                "changed": [c.id for c in d.reworded],
                "removed": [c.id for c in d.removed],
                "reweighted": [c.id for c in d.reweighted],
                "renamed": {c.old.id: c.id for c in d.renamed if c.old},
                "retitled": [c.id for c in d.retitled],
            },
            "flips": self.labels.flips,
            "labels": {
                "total": self.labels.total, "flips": self.labels.flips, "open": self.labels.open,
                "sampled": self.labels.sampled, "expected": self.labels.expected,
                "low": self.labels.low, "high": self.labels.high,
            },
            "examples": [
                {
                    "comparison": f.comparison.hex(), "prompt": f.prompt, "first": f.first, "second": f.second,
                    "before": f.before, "after": f.after, "p_before": f.p_before, "p_after": f.p_after,
                    "principles": list(f.principles),
                }
                for f in self.examples
            ],
            "cost": {"verdicts": default.verdicts, "tokens": default.tokens, "seconds": default.seconds},
            "missing": dict(self.missing),
            "ways": {w.name: w.as_dict() for w in self.ways},
            "stale": {
                "chains": self.stale.chains, "of": self.stale.of, "steps": self.stale.steps,
                "checkpoints": list(self.stale.checkpoints),
            },
        }  # fmt: skip


def made_from(store: Store, text: str, revision: str = "", who: str = "") -> Amendment:
    """The amendment that a draft was made from: the one named, or the one whose text is nearest to it.

    Where a draft changes lines that the last amendment changed, the text before is as near. Then it is the newest only
    where `who` (none: the user) wrote that one: nobody overwrites what somebody else wrote without being shown it.
    """
    if revision:
        return store.amendment(revision)
    past, me = store.amendments(), who or user()
    lines = split(text)
    distances = [changed(split(a.text), lines) for a in past]
    near = [a for a, distance in zip(past, distances, strict=True) if distance == min(distances)]
    while len(near) > 1 and near[-1].who != me:
        near.pop()
    return next(a for a in reversed(past) if split(a.text) == split(near[-1].text))  # it may have been restored since


def digest(draft: Constitution) -> str:
    """Of a draft's text: what a reviewer can name it by."""
    return text_digest(draft.source).hex()[:12]


def _pool(store: Store, run: str) -> pool.Pool:
    """That of the run named, or of the one that a retrain would start from, or of the newest."""
    promoted = store.promoted()
    if not run and promoted is not None:
        finished = pool.finished(store.runs())
        run = next((r.id.hex() for r in finished if r.result["model"] == promoted.path), "")
    return pool.find(store, run)


def preview(wiring: Wiring, draft: Constitution, base: str = "", run: str = "", sample: int = 0) -> Preview:
    """Compare a draft with the constitution in force. Asks no model, unless a `sample` of open labels is wanted.

    Raises UserError in a store where nothing is ratified, and for an unknown base or run.
    """
    store, judge = wiring.store, wiring.asked_judge(wiring.settings.judge)
    inforce, old = store.amendment("ratified"), ratified(store)
    origin = made_from(store, draft.source, base)
    overtaken = three_way(origin.text, inforce.text, draft.source) if origin.event != inforce.event else None
    difference, found = diff(old, draft), _pool(store, run)
    before, after = label.weights(old, judge), label.weights(draft, judge)
    prospects = _prospects(wiring, found, before, after)
    labels = _counted(prospects)
    if sample and prospects.open:
        # Drawn as if none of the new questions had been answered: the same again is the same sample, and asks nothing.
        blind = {q if q in before else make_id("unanswered", question=q): weight for q, weight in after.items()}
        may = _prospects(wiring, found, before, blind).open
        drawn = sorted((o.comparison for o in may), key=lambda c: make_id("preview", comparison=c))[:sample]
        _ask(wiring, draft, judge, drawn)
        prospects = _prospects(wiring, found, before, after)
        labels = _expected(_counted(prospects), drawn, prospects)
    questions = pool.questions(judge, draft)
    stored = store.count_verdicts(found.comparisons, list(set(questions.values()))) if found.comparisons else {}
    lacking = {q: len(found.comparisons) - stored.get(q, 0) for q in set(questions.values())}
    stale = pricing.stale(store, found.run, difference)
    new = sum(change.asks_judge for change in difference.changes)
    prompts = store.prompts(ids=store.stage_members(found.run.id, "prompts")) if found.run else []
    silent = new * sum(p.split == "train" for p in prompts)
    ways = pricing.ways(
        wiring.settings, store, found.run, draft, sum(lacking.values()), silent, len(difference.removed), stale
    )
    if difference.same_version:  # no model reads anything else, so there is nothing to retrain
        ways = [replace(ways[0], evaluation=0, generated=0, tokens=0, seconds=0.0)]
    return Preview(
        draft=draft,
        digest=digest(draft),
        inforce=inforce,
        base=origin,
        difference=difference,
        pool=found,
        missing={name: lacking[q] for name, q in questions.items() if lacking[q]},
        labels=labels,
        examples=_examples(wiring, judge, difference, before, after, prospects.flips),
        stale=stale,
        ways=ways,
        overtaken=overtaken,
    )


def ratify(store: Store, draft: Constitution, base: Amendment | None, who: str, message: str) -> Amendment:
    """Put a draft in force, after the amendment it was made from. One transaction; no model is asked.

    Raises Superseded where another amendment has come since, UserError where the draft is what is in force, or the
    reason is empty.
    """
    if not message.strip():
        raise UserError('an amendment has a reason that later readers will look for: -m "why"')
    inforce = store.ratified()
    if inforce is not None and inforce.text == draft.source:
        raise UserError(f"this is what amendment {inforce.number} says already: there is nothing to ratify")
    if inforce is not None and base is not None and base.event != inforce.event:
        raise Superseded(inforce)
    after = inforce.event if inforce else FRESH
    key = amendment_key(after, draft.source, message)
    event = store.ratify(draft.version, who, message, key, text=draft.source, after=after)
    return next(a for a in store.amendments() if a.event == event.id)


# --- labels --------------------------------------------------------------------------------------------------------


def _prospects(wiring: Wiring, found: pool.Pool, before: Weights, after: Weights) -> Prospects:
    return wiring.store.outlook(found.comparisons, before, after, wiring.settings.rule())


def _counted(prospects: Prospects) -> Labels:
    flips, opened = len(prospects.flips), len(prospects.open)
    total = prospects.same + flips + opened
    exact = float(flips) if not opened else None
    return Labels(total, flips, opened, 0, exact, exact, exact)


def _expected(labels: Labels, drawn: Sequence[Id], known: Prospects) -> Labels:
    """Sure flips, those of the sample among them, and its share of what is still open, by Wilson's interval."""
    from scipy.stats import binomtest

    flipped = len({o.comparison for o in known.flips} & set(drawn))
    share = binomtest(flipped, len(drawn)).proportion_ci(method="wilson")
    expected, low, high = (labels.flips + labels.open * x for x in (flipped / len(drawn), share.low, share.high))
    return Labels(labels.total, labels.flips, labels.open, len(drawn), expected, low, high)


def _ask(wiring: Wiring, draft: Constitution, judge: Judge, comparisons: Sequence[Id]) -> None:
    """Ask the judge the draft's questions about some comparisons, where it has not been; the verdicts stay. Raises
    BudgetReached at a limit of the settings."""
    prepare_process(wiring.settings)
    store, wiring.constitution = wiring.store, draft
    store.add_questions([judge.question(p) for p in draft])
    missing = {q for _, q in store.missing_verdicts(comparisons, list(set(pool.questions(judge, draft).values())))}
    if not missing:
        return
    store.put_constitution(draft.version, draft.source)
    key = canonical({"kind": KIND, "constitution": draft.version, "judge": judge.fingerprint})
    run = store.start_run(key, KIND, {"judge": judge.fingerprint}, draft.version)
    work = Work(wiring, run, REPORTER)
    try:
        refuse_drift(work)
        work.ask_judge(KIND, wiring.judge(wiring.settings.judge), comparisons, dict.fromkeys(comparisons, missing))
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | BudgetReached)
        store.finish_run(run.id, "stopped" if stopped else "failed", error=str(error) or type(error).__name__)
        raise
    finally:
        work.close()
    store.finish_run(run.id, "finished", result={})


def _examples(
    wiring: Wiring, judge: Judge, difference: Diff, before: Weights, after: Weights, flips: Sequence[Outlook]
) -> list[Flip]:
    """The clearest flips: between the two answers before those to or from a tie, the largest moves first."""
    sides = ("first", "second")
    ranked = sorted(
        (f for f in flips if f.after is not None),
        key=lambda f: (not (f.before in sides and f.after in sides), -abs(f.p_after - f.p_before), f.comparison),
    )[:SHOWN]
    if not ranked:
        return []
    store, rule = wiring.store, wiring.settings.rule()
    names = {judge.question(p).id: p.id for p in (*difference.old, *difference.new)}
    touched = {q: after.get(q, 0) - before.get(q, 0) for q in names if after.get(q, 0) != before.get(q, 0)}
    votes: dict[Id, list[tuple[float, str]]] = {}
    for c in store.contributions([f.comparison for f in ranked], dict.fromkeys(touched, 1), rule):
        if c.bears:
            votes.setdefault(c.comparison, []).append((-abs(c.s * touched[c.question]), names[c.question]))
    texts = {p.comparison.id: p for p in store.pairs([f.comparison for f in ranked])}
    return [
        Flip(
            f.comparison,
            "\n".join(m.content for m in texts[f.comparison].messages if m.role == "user"),
            texts[f.comparison].first,
            texts[f.comparison].second,
            f.before,
            f.after or f.before,
            f.p_before / 1e9,
            f.p_after / 1e9,
            tuple(name for _, name in sorted(votes.get(f.comparison, []))),
        )
        for f in ranked
    ]
