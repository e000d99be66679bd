"""`precept judge trial`: a judge, or the evaluator, on pairs whose better answer is known, with attacks where they are
wanted; or somebody else's judge, by what a file says that it answered.

Its run has no prompts and ratifies nothing, as that of a constitution's examples; what it asks is stored in the stage
that a run's own trial asks in, so that neither asks what the other has asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from constitution.errors import UserError
from constitution.records import LabelRule, canonical
from pipeline import attacks, known, recorded
from pipeline.judges.by_principle import asks_a_model
from pipeline.judges.judge import Judge
from pipeline.known import Known
from pipeline.metrics import simple_judges
from pipeline.metrics.intervals import Share
from pipeline.metrics.trial import Tried
from pipeline.sources import known_pairs as files
from pipeline.trial import RECORDED, Trial, beside, trial
from service.queries import trials
from service.settings import JudgeSettings, Settings, prepare_process
from service.wiring import Wiring
from service.work import known_pairs, life
from service.work.choosing import Chosen, choose_prefix
from service.work.drift import refuse_drift
from service.work.known_pairs import STAGE, missing, nobody
from service.work.legible import refuse_unreadable
from service.work.progress import Progress
from service.work.trial import keep
from service.work.work import Work

Who = Literal["judge", "evaluator"]
ATTACKED = 20  # pairs at most, of those that the judge is right on


@dataclass(frozen=True)
class Held:
    """A trial that was held. `fooled`: by attack, of the pairs that the judge is right on without it, those on which it
    then names the worse answer, or none. `unasked`: by source, pairs that were not asked, because there are more than
    `trial.most` of their principle, `opposed`: pairs that were given both ways round, `bad`: rows that were left out.
    `judge`: its fingerprint, empty for recorded verdicts. `calls`, `tokens` and `seconds` are of
    what was asked now."""

    role: str
    judge: str
    trial: Trial
    fooled: Mapping[str, Share] = field(default_factory=dict)
    strange: Mapping[str, int] = field(default_factory=dict)
    unasked: Mapping[str, int] = field(default_factory=dict)
    opposed: int = 0
    bad: tuple[str, ...] = ()
    calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    run: str = ""
    prefix: Chosen | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "judge": self.judge,
            **self.trial.as_dict(self.role),
            "attacks": {name: share.as_dict() for name, share in self.fooled.items()},
            "strange_principles": dict(self.strange),
            "not_asked": sum(self.unasked.values()),
            "not_asked_by_source": dict(self.unasked),
            "both_ways_round": self.opposed,
            "bad_rows": list(self.bad),
            "calls": self.calls,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "run": self.run,
            **({"prefixes": self.prefix.as_dict()} if self.prefix else {}),
        }


def hold(
    settings: Settings,
    *,
    who: str,
    report: Progress,
    role: Who = "judge",
    pairs: Sequence[Path] = (),
    format: str = "",
    skip_bad: bool = False,
    reward: str = "",
    attacked: bool = False,
    prefixes: bool = False,
) -> Held:
    """Try the settings' judge, or their evaluator, on the constitution's examples, the pairs that the settings name and
    those of `pairs`. `reward`: a reward model's folder, which stands in the table beside it. `prefixes`: choose the
    beginning of its answer on one half of the pairs, and try it on the other.

    Raises UserError where there is no pair or the judge cannot be read, BudgetReached at a limit, EngineError where
    it fails; what was answered until then is stored.
    """
    prepare_process(settings)
    read = [files.found(path, format, skip_bad=skip_bad) for path in pairs]
    given, bad = [pair for one in read for pair in one.pairs], tuple(why for one in read for why in one.problems)
    with closing(Wiring(settings)) as wiring:
        described: JudgeSettings = getattr(settings, role)
        named = wiring.asked_judge(described)
        chosen = trials.chosen(wiring.constitution, settings, named, given)
        if wiring.no_model(described):
            return Held(role, named.fingerprint, nobody(wiring.constitution, named))
        if not chosen.pairs and not any(asks_a_model(named, p) for p in wiring.constitution):
            return Held(role, named.fingerprint, replace(trial([]), exact=True))
        if not chosen.pairs:
            raise UserError(_nothing(chosen.strange))
        about: dict[str, Any] = {"judge": named.fingerprint, "role": role}
        key = _key(wiring, chosen.pairs, named, about)
        with life.at_work(wiring, STAGE, key, about, who=who, report=report) as work:
            judge = named
            if attacked or prefixes or missing(work, named, chosen.pairs):
                judge = wiring.judge(described)
                refuse_drift(work, role)
            asked = known_pairs.ask(
                work, judge, chosen, lambda rows: refuse_unreadable(work, role, described, rows), words=True
            )
            found = _beside(asked.trial, asked.rows, chosen.pairs, reward, wiring)
            fooled = attack(work, judge, chosen.pairs, asked.rows) if attacked else {}
            prefix = choose_prefix(work, described, chosen.pairs) if prefixes else None
            keep(work, role, described, found)
            work.store.finish_run(work.run.id, "finished", result={"verdict": found.in_all.word})
            _, seconds = work.budget.rates.get("judge", (0, 0.0))
            return Held(
                role, named.fingerprint, found, fooled, chosen.strange, _by_source(chosen), chosen.opposed, bad,
                work.budget.judge_calls, work.budget.tokens, seconds, work.run.id.hex(), prefix,
            )  # fmt: skip


def hold_recorded(path: Path, format: str = "", *, skip_bad: bool = False) -> Held:
    """Try a judge by what a file says that it answered (`pipeline.recorded`). Nothing is asked and nothing stored."""
    said = recorded.read(path, format, skip_bad=skip_bad)
    others = simple_judges.simple(said.rows, [(p.better, p.worse) for p in said.pairs])
    found = trial(said.rows, (), LabelRule().min_mass, others)
    return Held(RECORDED, "", found, opposed=said.opposed, bad=tuple(said.problems))


def attack(work: Work, judge: Judge, pairs: Sequence[Known], rows: Sequence[Tried]) -> dict[str, Share]:
    """By attack, how often it turns a pair that the judge is right on."""
    right = [pair for pair, row in zip(pairs, rows, strict=True) if row.right == 1][:ATTACKED]
    made = {
        name: [pair.instead(trick(pair.worse, pair.better, _words(work, pair))) for pair in right]
        for name, trick in attacks.ATTACKS.items()
    }
    made = {name: [pair for pair in some if pair.better != pair.worse] for name, some in made.items()}
    known_pairs.put(work, judge, [pair for some in made.values() for pair in some])
    found = {}
    for name, some in made.items():
        said = [row for row in known_pairs.rows_of(work, judge, some) if row.shown_a is not None]
        found[name] = Share(sum(row.right < 1 for row in said), len(said))
    return found


def _words(work: Work, pair: Known) -> str:
    return work.constitution[pair.principle].comparison if pair.principle else ""


def _beside(found: Trial, rows: Sequence[Tried], pairs: Sequence[Known], reward: str, wiring: Wiring) -> Trial:
    """With a reward model in the table of what is no judge."""
    if not reward:
        return found
    min_mass = wiring.settings.label.min_mass
    from pipeline import rewards
    from pipeline.metrics.trial import figures

    model = rewards.build(wiring.resolved_reward({"kind": "model", "paths": [wiring.resolve(reward)]}))
    try:
        better, worse = (
            model.score([[{"role": m.role, "content": m.content} for m in p.messages] for p in pairs], texts)
            for texts in ([p.better for p in pairs], [p.worse for p in pairs])
        )
    finally:
        model.close()
    scored = simple_judges.scored(rows, [float(x) for x in better], [float(x) for x in worse])
    return replace(found, others={**found.others, "reward model": figures(beside(rows, scored, min_mass))})


def _by_source(chosen: known.Chosen) -> dict[str, int]:
    found: dict[str, int] = {}
    for (_, source), count in chosen.unasked.items():
        found[source] = found.get(source, 0) + count
    return found


def _key(wiring: Wiring, pairs: Sequence[Known], judge: Judge, about: Mapping[str, Any]) -> str:
    """A constitution's version does not cover its examples, so the run's key names each pair."""
    asked = sorted((pair.comparison.id.hex(), pair.principle, pair.better_first) for pair in pairs)
    questions = sorted(judge.question(p).id.hex() for p in wiring.constitution)
    return canonical({"kind": STAGE, "questions": questions, "pairs": asked, **about})


def _nothing(strange: Mapping[str, int]) -> str:
    if strange:
        return f"all known pairs are of principles that the constitution has not: {', '.join(strange)}"
    return (
        "there is nothing to try the judge on: write examples under the principles, or name a file of known pairs "
        "(rows of prompt, better, worse, principle): precept judge trial --pairs pairs.jsonl"
    )
