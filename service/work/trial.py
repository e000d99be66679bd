"""A judge is put on trial before it labels: it is asked about pairs whose better answer is known, both orders.

At the start of every flow that labels, before anything is generated. A judge that cannot be read is told of after a few
questions, with the beginning of its answer that would help; one that is right no more often than a coin, or was tried
on too few pairs to know, makes no labels (`trial.required`). Principles that it is at chance or inverted on are left
out of the run's labels (`service.queries.rulings`), and the evaluator is tried alike: the gate reads what was found.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from constitution.errors import UserError
from constitution.records import PROBABILITY, canonical, text_digest
from pipeline import known
from pipeline.judges.by_principle import asks_a_model
from pipeline.judges.judge import Judge
from pipeline.known import Known
from pipeline.metrics import words
from pipeline.metrics.consistency import Probe, above_half
from pipeline.metrics.moved import TOLERANCE
from pipeline.metrics.trial import Tried
from pipeline.metrics.trust import TRUSTED
from pipeline.trial import Trial, next_step, sentences
from service.queries import trials
from service.queries.rulings import Whose
from service.settings import JudgeSettings
from service.work.known_pairs import Asked, again, ask, missing, nobody, pairs_of, plain, rows_of
from service.work.legible import agree, refuse_unreadable
from service.work.ruling import decide
from service.work.work import Work
from storage.runs import QUESTIONS

CHECKS = "checks"  # trial.required: where nobody is trusted, the principles that code checks decide alone
FEWEST_PROBES = 4  # pairs that were revised under a principle, before its orders are said to be at chance
ENOUGH = 8  # readable verdicts before a judge is said to be at chance by its own run


def try_judges(work: Work) -> None:
    """Both who labels and who measures. Raises UserError where the judge may make no labels; what the evaluator was
    found to be is said, and stands in the gate. The evaluator's model is put away again."""
    try_judge(work, "judge", work.settings.judge)
    try_judge(work, "evaluator", work.settings.evaluator)


def try_judge(work: Work, role: Whose, settings: JudgeSettings) -> Trial:
    """Try the judge that `settings` describe, as `role`. Raises UserError where it cannot be read, and where it labels
    and is not believed, with what was measured and what to do."""
    began = time.monotonic()
    refuse_moved(work, role, settings)
    named = work.wiring.asked_judge(settings)
    chosen = pairs_of(work, named)
    checks = work.settings.trial.required == CHECKS
    if checks and work.wiring.no_model(settings):
        chosen = replace(chosen, pairs=())
        found, asked = Asked(named, [], [], nobody(work.constitution, named)), False
    else:
        asked = bool(missing(work, named, [*chosen.pairs, *plain(work, named, chosen.pairs)]))
        judge = work.wiring.judge(settings) if asked else named
        legible = None if checks else lambda rows: refuse_unreadable(work, role, settings, rows)
        found = ask(work, judge, chosen, legible)
        if checks and found.trial.by_code and not found.trial.believed:
            found = replace(found, trial=replace(found.trial, code_alone=True))
    if chosen.opposed:
        work.log(f"known pairs that are given both ways round are left out: {chosen.opposed}")
    for line in sentences(found.trial, role):
        work.log(line)
    if role == "judge" and work.settings.trial.required and not found.trial.believed:
        keep_stopped(work, role, settings, found.trial)
        raise UserError(_refusal(work, found.trial, chosen))
    if role == "evaluator" and work.settings.trial.required and not found.trial.believed:
        work.log("warning: no model is promoted on the word of an evaluator that is not trusted (trial.required)")
    keep(work, role, settings, found.trial)
    decide(work, role, found)
    if asked:
        work.timed("models", began)
        if role == "evaluator":
            _put_away(work, settings)
    return found.trial


def try_if_another(work: Work) -> None:
    """Try the judge of a relabelling, unless it is the one whose labels the base has: then what that run's trial
    decided holds (`service.queries.rulings`). It is the same where one of its questions to a model is."""
    base = work.store.run(work.settings.retrain.base)
    named = work.wiring.asked_judge(work.settings.judge)
    mine = {named.question(p).id for p in work.constitution if asks_a_model(named, p)}
    stages = [stage for stage in work.store.stages(base.id) if stage.endswith(QUESTIONS)]
    theirs = {id for stage in stages for id in work.store.stage_members(base.id, stage)}
    if mine and theirs and not mine & theirs:
        try_judge(work, "judge", work.settings.judge)


def keep(work: Work, role: str, settings: JudgeSettings, found: Trial) -> None:
    """Store what a trial found, by run and role: what it began with stays."""
    work.store.put_document(trials.DOCUMENT, f"{work.run.id.hex()}:{role}", _told(work, role, settings, found))


def keep_stopped(work: Work, role: str, settings: JudgeSettings, found: Trial) -> None:
    """Store what a trial found that its run did not begin with, as the role's last one (`trials.last`): the run tries
    anew when it goes on."""
    told = _told(work, role, settings, found)
    work.store.put_document(trials.DOCUMENT, f"{work.run.id.hex()}:{text_digest(canonical(told)).hex()}:{role}", told)


def _told(work: Work, role: str, settings: JudgeSettings, found: Trial) -> dict[str, Any]:
    return {**found.as_dict(role), "about": trials.about(settings, work.constitution.version)}


def stored(work: Work, role: str) -> dict[str, Any] | None:
    """What the trial of a role found in this run, or None where it was not tried."""
    return trials.of_run(work.store, work.run, role)


def refuse_moved(work: Work, role: str, settings: JudgeSettings) -> None:
    """Ask a judge whose weights nobody can see some known pairs again. Raises UserError where its answers moved: it is
    another judge under the same name, and what is stored of it says nothing of this one."""
    count = work.settings.trial.canaries
    if not count or settings.kind == "transformers" or work.wiring.no_model(settings):
        return
    named = work.wiring.asked_judge(settings)
    pairs = [p for p, row in _answered(work, named) if row.shown_a is not None]
    if not pairs:
        return  # it was never asked
    found = again(work, work.wiring.judge(settings), pairs, count)
    if found.drifted:
        raise UserError(
            f"the {role} does not answer as it did: of {found.pairs} known pairs that it was asked again its "
            f"probabilities moved by {found.by:.2f} on average (at most {TOLERANCE:g}), and {found.turned} now go the "
            f"other way. It is another model under the same name, or its server answers differently: declare another "
            f"{role}.revision, and it is tried anew (trial.canaries = 0 does not ask)"
        )


def _answered(work: Work, judge: Judge) -> list[tuple[Known, Tried]]:
    """The known pairs with what is stored of the judge's word on each."""
    pairs = pairs_of(work, judge).pairs
    return list(zip(pairs, rows_of(work, judge, pairs), strict=True))


# --- what is refused -----------------------------------------------------------------------------------------------


def _refusal(work: Work, found: Trial, chosen: known.Chosen) -> str:
    """Why this judge makes no labels, what was measured, and what to do about it."""
    told = ". ".join(sentences(found)[:4])
    mend = next_step(found)
    if chosen.strange:
        mend += f". Pairs of principles that the constitution has not were left out: {', '.join(chosen.strange)}"
    return (
        f"nothing was generated, because the judge is not trusted to label. {told}. {mend}. "
        "trial.required = false goes on nevertheless"
    )


def conditions(work: Work) -> list[tuple[bool, str]]:
    """The gate's condition on the evaluator: who is not trusted to be right promotes nothing. What is not known fails.
    None where a trial is not required."""
    if not work.settings.trial.required:
        return []
    found = stored(work, "evaluator")
    if found is None:
        return [(False, "the evaluator was not tried on pairs with known answers: not known whether it is right")]
    agree = found["order_consistency"]["share"]
    orders = "" if agree is None else f", its two orders agree on {words.percent(agree, 0)} of the pairs"
    return [(bool(found["believed"]), f"trial of the evaluator: {found['says'][0]}{orders}")]


SHORT = ("verdict", "believed", "accuracy", "low", "high", "prompts", "left_out", "says")


def of_run(work: Work) -> dict[str, Any]:
    """What the trials of a run found, by role, as its result has it: those that there were, without their tables."""
    roles: tuple[Whose, ...] = ("judge", "evaluator")
    return {
        role: {
            **{name: told[name] for name in SHORT},
            "order_consistency": told["order_consistency"]["share"],
            "ruling": work.ruling(role).why,
            "principles": {name: tally["verdict"] for name, tally in told["principles"].items()},
        }
        for role in roles
        if (told := stored(work, role)) is not None
    }


def refuse_chance(work: Work, probes: Iterable[Probe]) -> None:
    """Raise UserError where nothing shows that a judge which was not trusted, and labels nevertheless
    (`trial.required`), reads what it is asked: over the known pairs and `probes` (answers against their revisions) its
    two orders agree no more often than a coin's would, and where they agree it does not name the better one, or the
    revision, more often than the other (one-sided 97.5% bound). What is left of such labels are ties and chance. A rule
    that takes verdicts of any order (label.consistent) is not held up.
    """
    if not (work.settings.limits.stop_at_chance and work.settings.label.consistent):
        return
    if (told := stored(work, "judge")) and told["verdict"] == TRUSTED:
        return  # that is known better by now: orders that differ are a bias, and no ignorance
    if work.settings.trial.required == CHECKS:
        return  # nothing rests on its word: it was left out where it was not believed
    judge = work.wiring.asked_judge(work.settings.judge)
    chosen = pairs_of(work, judge).pairs
    floor = round(work.settings.label.min_mass * PROBABILITY) / PROBABILITY
    rows = [r for r in rows_of(work, judge, [*chosen, *plain(work, judge, chosen)]) if r.shown_a is not None]
    rows = [r for r in rows if r.mass >= floor and not r.abstains]
    readable, consistent = len(rows), agree(rows)
    right = agree([row for row in rows if row.right == 1])
    for found in probes:
        agreeing = round(found.consistent * found.readable)
        readable += found.readable
        consistent += agreeing
        right += round(found.revision * agreeing)
    if readable < ENOUGH or 2 * consistent > readable or above_half(right / max(1, consistent), consistent):
        return
    raise UserError(
        f"the judge is at chance: of {readable} questions its two orders agree on {consistent} "
        f"({consistent / readable:.0%}; guessing: 50%), and of those it names the better reply, or the revision, in "
        f"{right}. Its labels would be ties and chance, and nothing is trained on them. Name a better judge "
        "(judge.model; what was generated is kept), or reword the principles: `precept judge trial` shows which of "
        "the known pairs it gets right. limits.stop_at_chance = false goes on nevertheless"
    )


def _put_away(work: Work, settings: JudgeSettings) -> None:
    """Free what the evaluator holds: it is asked again at the end, and training wants the room."""
    roles: list[Any] = [work.settings.policy, work.settings.critic, work.settings.judge]
    model = work.wiring.resolve(settings.model)
    if all(role is None or work.wiring.resolve(role.model) != model for role in roles):
        work.wiring.release(model)
