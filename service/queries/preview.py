"""The preview of an amendment: what a draft changes, which labels flip, what each way of retraining would take.

Labels are a query over stored verdicts, so removing and reweighting are answered at once, exactly, by no model. What an
added or reworded principle will say is not known: labels that it cannot flip are counted as such, and a sample of the
rest can be asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from constitution.difference import Diff, diff
from constitution.lines import changed, split
from constitution.merge import ThreeWay, three_way
from constitution.principles import Constitution
from constitution.records import Id, LabelRule, Ruling, Voice, make_id, text_digest
from pipeline import label
from pipeline.judges.by_principle import is_free
from pipeline.judges.judge import Judge
from pipeline.metrics.intervals import Share
from service import keyed
from service.queries import drawn, pool, pricing, rulings
from service.queries.pricing import Stale, Way
from service.queries.revisions import ratified
from service.wiring import Wiring
from storage.amendments import Amendment
from storage.labels import Voices
from storage.outlook import Outcome, Outlook, Prospects
from storage.runs import Run
from storage.store import Store

SHOWN = 5  # examples of flips


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
    sampled: bool  # one principle is drawn for each label, of each tier, and the counts are of those
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
            "sampled_principles": self.sampled,
            "ways": {w.name: w.as_dict() for w in self.ways},
            "stale": {
                "chains": self.stale.chains, "of": self.stale.of, "steps": self.stale.steps,
                "checkpoints": list(self.stale.checkpoints),
            },
        }  # fmt: skip


def made_from(store: Store, text: str, who: str, revision: str = "") -> Amendment:
    """The amendment that a draft was made from: the one named, or the one whose text is nearest to it.

    Where a draft changes lines that the last amendment changed, the text before is as near. Then it is the newest only
    where `who` wrote that one: nobody overwrites what somebody else wrote without being shown it.
    """
    if revision:
        return store.amendment(revision)
    past = store.amendments()
    lines = split(text)
    distances = [changed(split(a.text), lines) for a in past]
    near = [a for a, distance in zip(past, distances, strict=True) if distance == min(distances)]
    while len(near) > 1 and near[-1].who != who:
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


def preview(
    wiring: Wiring,
    draft: Constitution,
    who: str,
    base: str | Amendment = "",
    run: str = "",
    asked: Sequence[Id] = (),
) -> Preview:
    """Compare a draft of `who` with the constitution in force. Asks no model. `base`: what it was made from, or a
    revision that names it. `asked`: labels of a random sample of those that may turn (`draw`), which were asked about
    by now (`service.work.sample`).

    Raises UserError in a store where nothing is ratified, and for an unknown base or run.
    """
    store, judge = wiring.store, wiring.asked_judge(wiring.settings.judge)
    inforce, old = store.amendment("ratified"), ratified(store)
    origin = base if isinstance(base, Amendment) else made_from(store, draft.source, who, base)
    overtaken = three_way(origin.text, inforce.text, draft.source) if origin.event != inforce.event else None
    difference, found = diff(old, draft), _pool(store, run)
    turn = _turn(wiring, judge, found, old, draft)
    before, after, rule = turn.before, turn.after, turn.rule
    prospects = turn.outlook(store)
    labels = _counted(prospects)
    if asked:
        labels = _expected(labels, asked, prospects)
    questions = pool.questions(judge, draft)
    lacking = _lacking(store, found, set(questions.values()), turn.now)
    asks = {questions[p.id] for p in draft if not is_free(p)}
    stale = pricing.stale(store, found.run, difference)
    new = len(difference.judged_anew)
    prompts = store.prompts(ids=store.stage_members(found.run.id, "prompts")) if found.run else []
    silent = new * sum(p.split == "train" for p in prompts)
    ways = pricing.ways(
        wiring.settings, store, found.run, draft, sum(lacking[q] for q in asks), silent, len(difference.removed), stale
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
        sampled=turn.now is not None,
        examples=_examples(wiring, judge, difference, before, after, rule, prospects.flips),
        stale=stale,
        ways=ways,
        overtaken=overtaken,
    )


def draw(wiring: Wiring, draft: Constitution, run: str, sample: int) -> list[Id]:
    """A random sample of the labels that a draft may turn, empty where none may; the same again for the same draft."""
    judge, old = wiring.asked_judge(wiring.settings.judge), ratified(wiring.store)
    turn = _turn(wiring, judge, _pool(wiring.store, run), old, draft)
    if not turn.outlook(wiring.store).open:
        return []
    # Drawn as if none of the new questions had been answered: the same again is the same sample, and asks nothing.
    may = turn.blind().outlook(wiring.store).open
    return sorted((o.comparison for o in may), key=lambda c: make_id("preview", comparison=c))[:sample]


# --- labels --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Turn:
    """The labels of a pool as they are and as they would be. `was`, `now`: by comparison the questions that label it,
    where principles are drawn for each (`compare.principles`); None where all of them do."""

    comparisons: Sequence[Id]
    rule: LabelRule
    before: Mapping[Id, Voice]
    after: Mapping[Id, Voice]
    was: Mapping[Id, set[Id]] | None = None
    now: Mapping[Id, set[Id]] | None = None

    def outlook(self, store: Store) -> Prospects:
        if self.was is None or self.now is None:
            return store.outlook(self.comparisons, self.before, self.after, self.rule)
        return drawn.outlook(store, self.before, self.after, self.rule, self.was, self.now)

    def blind(self) -> _Turn:
        """The same, as if no new question had an answer."""
        names = {q: q if q in self.before else make_id("unanswered", question=q) for q in self.after}
        now = None if self.now is None else {c: {names[q] for q in asked} for c, asked in self.now.items()}
        return replace(self, after={names[q]: voice for q, voice in self.after.items()}, now=now)


def _turn(wiring: Wiring, judge: Judge, found: pool.Pool, old: Constitution, draft: Constitution) -> _Turn:
    """By what the judge's trial in the pool's run decided."""
    both = [rulings.under(wiring.store, found.run, judge, each) for each in (old, draft)]
    before, after = (label.voices(each, judge, ruling) for each, ruling in zip((old, draft), both, strict=True))
    was, now = (
        _labelling(wiring, judge, each, ruling, found.run, found.comparisons)
        for each, ruling in zip((old, draft), both, strict=True)
    )
    return _Turn(found.comparisons, both[0].rule or wiring.settings.rule(), before, after, was, now)


def drawn_for(wiring: Wiring, draft: Constitution, run: str, comparisons: Sequence[Id]) -> dict[Id, set[Id]] | None:
    """By comparison, the draft's questions that would label it; None where all of them would."""
    judge = wiring.asked_judge(wiring.settings.judge)
    base = _pool(wiring.store, run).run
    return _labelling(wiring, judge, draft, rulings.under(wiring.store, base, judge, draft), base, comparisons)


def _labelling(
    wiring: Wiring,
    judge: Judge,
    constitution: Constitution,
    ruling: Ruling,
    base: Run | None,
    comparisons: Sequence[Id],
) -> dict[Id, set[Id]] | None:
    """By comparison, the questions that label it where the settings have principles drawn; None where all do."""
    if wiring.settings.compare.principles != drawn.SAMPLED:
        return None
    heard = [p for p in constitution if p.id not in ruling.left_out]
    named = keyed.by_comparison(wiring.store, base.id if base else None, comparisons)
    return dict(drawn.questions(heard, pool.questions(judge, heard), list(dict.fromkeys(comparisons)), named))


def _lacking(store: Store, found: pool.Pool, questions: set[Id], now: Mapping[Id, set[Id]] | None) -> dict[Id, int]:
    """By question, the verdicts that the pool's labels want and do not have."""
    if now is not None:
        known = {(v.comparison, v.question) for v in store.verdicts(found.comparisons, sorted(questions))}
        absent = Counter(q for c, asked in now.items() for q in asked if (c, q) not in known)
        return {q: absent[q] for q in questions}
    stored = store.count_verdicts(found.comparisons, sorted(questions)) if found.comparisons else {}
    return {q: len(found.comparisons) - stored.get(q, 0) for q in questions}


def _counted(prospects: Prospects) -> Labels:
    flips, opened = len(prospects.flips), len(prospects.open)
    total = prospects.same + flips + opened
    exact = float(flips) if not opened else None
    return Labels(total, flips, opened, 0, exact, exact, exact)


def _expected(labels: Labels, asked: Sequence[Id], known: Prospects) -> Labels:
    """Sure flips, those of the sample among them, and its share of what is still open, by Wilson's interval."""
    flipped = len({o.comparison for o in known.flips} & set(asked))
    share = Share(flipped, len(asked))
    expected, low, high = (labels.flips + labels.open * x for x in (flipped / len(asked), share.low, share.high))
    return Labels(labels.total, labels.flips, labels.open, len(asked), expected, low, high)


def _examples(
    wiring: Wiring,
    judge: Judge,
    difference: Diff,
    before: Voices,
    after: Voices,
    rule: LabelRule,
    flips: Sequence[Outlook],
) -> list[Flip]:
    """The clearest flips: between the two answers before those to or from a tie, the largest moves first."""
    sides = ("first", "second")
    ranked = sorted(
        (f for f in flips if f.after is not None),
        key=lambda f: (not (f.before in sides and f.after in sides), -abs(f.p_after - f.p_before), f.comparison),
    )[:SHOWN]
    if not ranked:
        return []
    store = wiring.store
    names = {judge.question(p).id: p.id for p in (*difference.old, *difference.new)}
    touched = {q: after.get(q) or before[q] for q in names if after.get(q) != before.get(q)}
    votes: dict[Id, list[tuple[float, str]]] = {}
    for c in store.contributions([f.comparison for f in ranked], touched, rule):
        if c.bears:
            was, now = (side[c.question].weight if c.question in side else 0 for side in (before, after))
            more = now - was or now  # its tier changed, and not its weight
            votes.setdefault(c.comparison, []).append((-abs(c.s * more), names[c.question]))
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
