"""Labels the slow and plain way, one verdict after the other in exact fractions: what `LabelRule` and `Voice` say, word
by word, for tests to hold the fast ways to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from constitution.records import PROBABILITY, Id, Label, LabelRule, Verdict, Voice

ONE, HALF = PROBABILITY, PROBABILITY // 2


def units(value: float) -> int:
    return round(value * ONE)


def votes(v: Verdict, rule: LabelRule) -> bool:
    if v.even or min(v.mass1, v.mass2) < units(rule.min_mass) or abs(v.p1 + v.p2 - ONE) < units(rule.min_margin):
        return False
    return not rule.consistent or (v.p1 > HALF and v.p2 > HALF) or (v.p1 < HALF and v.p2 < HALF)


def mean(spoken: Sequence[tuple[int, int]]) -> int:
    """p of (weight, s), rounded down."""
    weight = sum(w for w, _ in spoken)
    return (Fraction(ONE, 2) + Fraction(sum(w * s for w, s in spoken), 2 * weight)).__floor__()


def decided(p: int, rule: LabelRule) -> bool:
    return abs(2 * p - ONE) >= units(rule.tie_margin)


def label(comparison: Id, verdicts: Sequence[Verdict], voices: Mapping[Id, Voice], rule: LabelRule) -> Label:
    """`verdicts`: on this comparison, one a question at most; those on questions without a voice are left out."""
    readable, said, dark = 0, [], False
    for v in verdicts:
        if v.question not in voices:
            continue
        voice = voices[v.question]
        own = voice.rule or rule
        if min(v.mass1, v.mass2) >= units(own.min_mass):
            readable += voice.weight
        elif voice.hard and voice.weight:
            dark = True
        if votes(v, own) and voice.weight:
            most = ONE if voice.clamp is None else voice.clamp
            said.append((voice, max(-most, min(most, v.p1 + v.p2 - ONE))))
    if dark or readable * ONE < units(rule.min_readable) * sum(voice.weight for voice in voices.values()):
        return Label(comparison, "unreadable", HALF)

    hard = [(v.weight, s) for v, s in said if v.hard and decided(mean([(1, s)]), rule) and mean([(1, s)]) != HALF]
    if any(s > 0 for _, s in hard) and any(s < 0 for _, s in hard):
        return Label(comparison, "tied", HALF, conflict=True)
    if hard:
        return Label(comparison, "decided", mean(hard))

    fallback = None
    for tier in sorted({v.tier for v in voices.values() if not v.hard}, reverse=True):
        mine = [(v.weight, s) for v, s in said if v.tier == tier and not v.hard]
        if mine:
            p = mean(mine)
            found = Label(comparison, "decided" if decided(p, rule) else "tied", p)
            if found.preferred_first is not None:
                return found
            fallback = fallback or found
    return fallback or Label(comparison, "tied", HALF)
