"""What a report shows beyond a run's figures: examples, chains, counts of what was dropped, lineage.

All of it is read from the store and from checkpoint folders; no model is loaded and nothing is asked, so a report can
be written again at any time. How it looks is `service/pictures/templates/report.html`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitution import loading
from constitution.records import PROBABILITY, Checkpoint, Generation, Id, Label, LabelRule, Messages, Prompt, Voice
from pipeline import compare, label, revise
from pipeline.judges.by_principle import asked_most
from pipeline.trainers import progress
from service.queries import chains as chaining
from service.queries.rulings import Whose
from service.queries.run_records import RunRecords
from storage.labels import Contribution

BETTER, WORSE = 8, 4  # examples of each outcome
CHAINS = 3


@dataclass(frozen=True)
class Example:
    """Two answers to one held-out prompt. `p`: probability, by the evaluator's label, that `after` is the better."""

    messages: Messages
    before: str
    after: str
    p: float
    decided_by: tuple[str, ...]  # ids of the principles that carried the label, the strongest first
    against: tuple[str, ...]  # ids of those that voted the other way


@dataclass(frozen=True)
class Comparisons:
    """How the held-out prompts ended, and examples: `better` the clearest, `worse` the worst first."""

    counts: Mapping[str, int]
    better: Sequence[Example]
    worse: Sequence[Example]


@dataclass(frozen=True)
class Step:
    """A round of a chain. `revision`: None where there was none to be had. `dropped`: why it did not replace the
    answer, in words, or None."""

    round: int
    principle: str
    critique: str | None
    revision: str | None
    dropped: str | None


@dataclass(frozen=True)
class ChainShown:
    messages: Messages
    original: str
    steps: Sequence[Step]
    outcome: str


@dataclass(frozen=True)
class Panel:
    """A judge's questions in a stage: who it is, the label rule, and voice and principles of each question."""

    judge: str
    voices: Mapping[Id, Voice]
    principles: Mapping[Id, tuple[str, ...]]
    rule: LabelRule

    @classmethod
    def of(cls, work: RunRecords, stage: str, whose: Whose = "judge") -> Panel | None:
        ids = work.members(f"{stage}.questions")
        if not ids:
            return None
        known, questions = work.store.clauses(work.constitution.version), work.store.questions(ids)
        ruling = work.ruling(whose)
        asked = [(p, q) for q in questions for p in work.constitution if q.id in known.get(p.id, ())]
        heard = [(p, q) for p, q in asked if p.id not in ruling.left_out]
        return cls(
            asked_most(questions),
            label.combined(asked, ruling),
            {q.id: tuple(p.id for p, of in heard if of.id == q.id) for _, q in heard},
            work.rule(whose),
        )

    def labels(self, work: RunRecords, comparisons: Iterable[Id]) -> dict[Id, Label]:
        found = work.store.labels(sorted(set(comparisons)), self.voices, self.rule, whole=True)
        return {x.comparison: x for x in found}


# --- before and after ----------------------------------------------------------------------------------------------


def comparisons(work: RunRecords, stage: str = "evaluation") -> Comparisons:
    """The evaluator's labels of (before, after) on the held-out prompts, and examples picked by a rule, not by hand."""
    before = {g.prompt: g for g in work.generations(f"{stage}.before")}
    pairs = [(before[g.prompt], g) for g in work.generations(f"{stage}.after") if g.prompt in before]
    found = [compare.pair(*pair) for pair in pairs]
    panel = Panel.of(work, f"{stage}.pairs", "evaluator")
    labels = panel.labels(work, [c.id for c in found if c]) if panel else {}
    counts: Counter[str] = Counter(prompts=len(pairs))
    ranked: list[tuple[float, Id, tuple[Generation, Generation]]] = []
    for pair, comparison in zip(pairs, found, strict=True):
        label = labels.get(comparison.id) if comparison else None
        if comparison is None or label is None:
            counts["identical"] += comparison is None
            continue
        after_first = comparison.first == pair[1].content
        if label.preferred_first is None:
            counts[label.state] += 1
            continue
        counts["better" if label.preferred_first == after_first else "worse"] += 1
        p = label.p / PROBABILITY
        ranked.append((p if after_first else 1 - p, comparison.id, pair))
    if panel is None:
        return Comparisons(counts, [], [])
    ranked.sort(key=lambda row: (-row[0], row[1]))
    better = [row for row in ranked if row[0] > 0.5]
    worse = [row for row in reversed(ranked) if row[0] < 0.5][:WORSE]
    votes = _votes(work, panel, [row[1] for row in (*better[:200], *worse)])
    shown = _in_turn(better[:200], lambda row: frozenset(_side(panel, votes.get(row[1], ()), row)[0]))[:BETTER]
    prompts = {p.id: p for p in work.store.prompts(ids=[pair[0].prompt for _, _, pair in (*shown, *worse)])}
    return Comparisons(
        counts,
        [_example(panel, votes, prompts, row) for row in shown],
        [_example(panel, votes, prompts, row) for row in worse],
    )


def _votes(work: RunRecords, panel: Panel, ids: Sequence[Id]) -> dict[Id, list[Contribution]]:
    votes: dict[Id, list[Contribution]] = {}
    for c in work.store.contributions(ids, panel.voices, panel.rule):
        if c.chooses:
            votes.setdefault(c.comparison, []).append(c)
    return votes


def _side(
    panel: Panel, votes: Sequence[Contribution], row: tuple[float, Id, tuple[Generation, Generation]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Principles for and against the label's winner, the heaviest pull first."""
    p, _, (before, after) = row
    winner_first = (p > 0.5) == (after.content < before.content)
    strongest = sorted(votes, key=lambda c: (not c.hard, -c.tier, -abs(c.weight * c.s), c.question))
    sides: dict[bool, list[str]] = {True: [], False: []}
    for c in strongest:
        sides[(c.s > 0) == winner_first] += panel.principles[c.question]
    return tuple(sides[True]), tuple(sides[False])


def _in_turn(rows: Sequence[Any], key: Any) -> list[Any]:
    """The rows taken one of each kind in turn, each kind in its own order: one principle cannot fill the page."""
    kinds: dict[Any, list[Any]] = {}
    for row in rows:
        kinds.setdefault(key(row), []).append(row)
    longest = max((len(found) for found in kinds.values()), default=0)
    return [found[i] for i in range(longest) for found in kinds.values() if i < len(found)]


def _example(
    panel: Panel,
    votes: Mapping[Id, Sequence[Contribution]],
    prompts: Mapping[Id, Prompt],
    row: tuple[float, Id, tuple[Generation, Generation]],
) -> Example:
    p, ident, (before, after) = row
    decided_by, against = _side(panel, votes.get(ident, ()), row)
    return Example(prompts[before.prompt].messages, before.text, after.text, p, decided_by, against)


# --- critique and revision -----------------------------------------------------------------------------------------


def revisions(work: RunRecords) -> tuple[dict[str, int], list[ChainShown]]:
    """What became of the answers that were criticised and revised, in counts, and a few chains in full."""
    answers = work.generations("answers")
    ended = chaining.ended(work, "revisions", "answers") if answers else []
    panel = Panel.of(work, "revisions.judged")
    last = {c.original.id: compare.pair(c.original, c.kept[-1]) for c in ended if c.kept}
    labels = panel.labels(work, work.members("revisions.judged")) if panel else {}
    counts: Counter[str] = Counter({"answers": len(answers), "not revisable": len(answers) - len(ended)})
    outcomes: dict[Id, str] = {}
    for chain in ended:
        counts["revisions"] += sum(step.kind == "revision" for step in chain.steps)
        counts.update({f"dropped: {revise.REASONS[reason]}": n for reason, n in chain.dropped.items()})
        comparison = last.get(chain.original.id)
        label = labels.get(comparison.id) if comparison else None
        outcomes[chain.original.id] = outcome = _outcome(chain, label)
        counts[outcome] += 1
    # Two that the judge found better and one that it did not, most kept revisions first: not only the good news.
    ranked = sorted(ended, key=lambda c: (-len({g.content for g in c.kept}), c.prompt.id))
    good = [c for c in ranked if outcomes[c.original.id] == "better"]
    other = [c for c in ranked if outcomes[c.original.id] not in ("better", "unchanged")]
    picked = (good[: CHAINS - 1] + other[:1] + good[CHAINS - 1 :] + other[1:])[:CHAINS]
    return dict(counts), [_shown(c, outcomes[c.original.id]) for c in picked]


def _outcome(chain: revise.Chain, label: Label | None) -> str:
    """The last kept revision against the answer that the chain began with, by the judge."""
    if not chain.kept or chain.kept[-1].content == chain.original.content:
        return "unchanged"
    if label is None:
        return "not judged"
    if label.preferred_first is None:
        return label.state
    return "better" if label.preferred_first == (chain.kept[-1].content < chain.original.content) else "worse"


def _shown(chain: revise.Chain, outcome: str) -> ChainShown:
    critiques, revisions = ({g.round: g for g in chain.steps if g.kind == kind} for kind in ("critique", "revision"))
    steps = [
        Step(
            number + 1,
            (revisions.get(number) or critiques[number]).principle or "",
            critiques[number].text if number in critiques else None,
            revisions[number].text if number in revisions else None,
            revise.REASONS[chain.reasons[number]] if number in chain.reasons else None,
        )
        for number in sorted(critiques.keys() | revisions.keys())
    ]
    return ChainShown(chain.prompt.messages, chain.original.text, steps, outcome)


# --- training and lineage ------------------------------------------------------------------------------------------


def checkpoints(work: RunRecords, result: Mapping[str, Any], reward: Mapping[str, Any]) -> list[Checkpoint]:
    """What this run trained, parents first: the line that leads to its policy, and the reward model beside it."""
    known = work.store.checkpoints()
    by_path, by_digest = {c.path: c for c in known}, {c.digest: c for c in known}
    start = by_path.get(work.start)  # the run may have begun with another run's checkpoint
    line: list[Checkpoint] = []
    at = by_path.get(result["model"])
    while at is not None and at not in line and at != start:
        line.append(at)
        at = by_digest.get(at.parent)
    scored = by_path.get(reward.get("path", ""))
    beside = [scored] if scored is not None else []
    return [*line[:0:-1], *beside, *line[:1]]


def curve(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Lines of a checkpoint's training curve; none where its folder is gone."""
    return progress.read(Path(checkpoint.path) / progress.NAME)


def titles(work: RunRecords) -> dict[str, str]:
    """Titles by principle, those of principles that an amendment took away among them."""
    found: dict[str, str] = {}
    base = work.settings.retrain.base
    if base:
        before = work.store.constitution(work.store.run(base).constitution or "") or ""
        found = {p.id: p.title for p in loading.parse(before)}
    return found | {p.id: p.title for p in work.constitution}


def fingerprints(work: RunRecords) -> dict[str, tuple[str, str]]:
    """By role: the model's name in the settings or its folder, and the digest that its records were made under."""
    settings, start = work.settings, work.start
    found = {
        "policy, before": (start, _engine(work, "evaluation.before", "answers")),
        "critic": (settings.critic.model if settings.critic else start, _engine(work, "revisions.0")),
        # The stage `halfway` is that of the SFT model, by the word of before.
        "policy, after SFT": ("the SFT checkpoint", _engine(work, "evaluation.halfway", "samples")),
        "policy, after": ("the policy checkpoint", _engine(work, "evaluation.after")),
    }
    for role, stage, model in (
        ("judge (made the labels)", "feedback", settings.judge.model),
        ("evaluator (made none of them)", "evaluation.pairs", settings.evaluator.model),
    ):
        panel = Panel.of(work, stage)
        found[role] = (model, panel.judge if panel else "")
    return {role: both for role, both in found.items() if both[1]}


def _engine(work: RunRecords, *stages: str) -> str:
    for stage in stages:
        for id in work.members(stage)[:1]:
            return work.store.generations([id])[0].engine
    return ""


def stages(work: RunRecords) -> list[tuple[str, int, int]]:
    """Each stage's records, and how many of them were stored before this run came to them."""
    reused = work.store.reused(work.run.id)
    return [(name, len(work.members(name)), count) for name, count in reused.items() if not name.endswith(".questions")]


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Settings by their dotted names."""
    rows: list[tuple[str, Any]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows
