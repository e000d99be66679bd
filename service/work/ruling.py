"""What a trial decides about a run's labels: who has no voice, and by which rule verdicts vote.

The rule is chosen on known pairs that were asked under every principle (`pipeline.metrics.rules`): what those say that
do not apply is what sets rules apart. Where there are enough it is chosen on one half and measured on the other. A rule
that the settings name stays, and so does the settings' where the pairs do not tell rules apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from constitution.records import PROBABILITY, Id, LabelRule, Ruling, Verdict, Voice
from pipeline import known, label
from pipeline.judges.judge import Judge
from pipeline.known import Known
from pipeline.metrics import rules
from pipeline.trial import sentences
from service.queries import rulings
from service.queries.rulings import Whose
from service.work.known_pairs import Asked, answers
from service.work.work import Work

SET = ("consistent", "min_margin")  # who sets one of these has chosen


def decide(work: Work, role: Whose, found: Asked) -> Ruling:
    """Write down what the trial of a judge decides about the labels of this run. What a run began with stays, whatever
    is tried again when it goes on."""
    silent = found.trial.without_a_voice
    why = f"by its trial ({sentences(found.trial, role)[0]})" + (f"; left out: {', '.join(silent)}" if silent else "")
    rule, said = _rule(work, found.judge, found.pairs, Ruling(left_out=silent))
    made = Ruling(left_out=silent, rule=rule, why=f"{why}; label rule: {said}")
    kept = rulings.put(work.store, work.run, role, made)
    if kept.left_out != silent:
        work.log(f"the {role}'s labels stay as this run began: left out are {', '.join(kept.left_out) or 'none'}")
    if kept.rule is not None:
        work.log(f"the {role}'s label rule is chosen on known pairs: {said}")
    return kept


def _rule(work: Work, judge: Judge, pairs: Sequence[Known], ruling: Ruling) -> tuple[LabelRule | None, str]:
    """The rule that suits the judge, or None for the settings', and why."""
    settings = work.settings.rule()
    if work.settings.label.choose == "fixed":
        return None, "as the settings say (label.choose)"
    if named := [name for name in SET if name in work.settings.label.model_fields_set]:
        return None, f"as the settings say ({', '.join(f'label.{name}' for name in named)})"
    whole = [pair for pair in pairs if not pair.principle]
    first, second = known.halves(whole)
    apart = min(len(first), len(second)) >= rules.ENOUGH
    voices = _voices(work, judge, ruling)
    chosen = rules.choose(_said(work, judge, first if apart else whole, voices), settings, voices)
    if not chosen.told or chosen.rule == settings:
        return None, chosen.why
    if not apart:
        return chosen.rule, f"{chosen.why} (measured on the pairs that it was chosen on)"
    other = rules.choose(_said(work, judge, second, voices), settings, voices).auroc
    mine, theirs = (other[rules.name_of(rule)] for rule in (chosen.rule, settings))
    return chosen.rule, (
        f"{chosen.why}; on {len(second)} other pairs its AUROC is {mine:.3f}, that of the settings' {theirs:.3f}"
    )


def _voices(work: Work, judge: Judge, ruling: Ruling) -> dict[str, Voice]:
    voices = label.voices(work.constitution, judge, ruling)
    return {p.id: voices[q] for p in work.constitution if (q := judge.question(p).id) in voices}


def _said(work: Work, judge: Judge, pairs: Sequence[Known], voices: dict[str, Voice]) -> list[rules.Known]:
    """What the judge said of pairs under each principle that has a voice."""
    by_question = {judge.question(p).id: p.id for p in work.constitution if p.id in voices}
    by_pair = {pair.comparison.id: pair for pair in pairs}
    return [
        _known(by_pair[v.comparison], v, by_question) for v in answers(work, judge, pairs) if v.question in by_question
    ]


def _known(pair: Known, v: Verdict, by_question: dict[Id, str]) -> rules.Known:
    p1, p2, mass1, mass2 = (x / PROBABILITY for x in (v.p1, v.p2, v.mass1, v.mass2))
    return rules.Known(pair.comparison.id.hex(), by_question[v.question], p1, p2, mass1, mass2, pair.better_first)
