"""The trial of a judge as people read it: three verdicts in words, by principle and in all, and what follows from them.

Pure: from rows of pairs whose better answer is known (`pipeline.known.rows`, or a file of somebody else's verdicts).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.metrics import trust, words
from pipeline.metrics.trial import Figures, Group, Tried, figures, group
from pipeline.metrics.trust import AT_CHANCE, LEVEL, ONE_ORDER, TOO_FEW, TRUSTED, Word

RECORDED = "recorded judge"  # the role of one that is tried by what a file says
BY_POSITION = 0.9  # of its orders name what is shown first, or last: then that is said
LEAST_MASS = 0.5  # readable share of the pairs below which nothing is said of a judge but that


@dataclass(frozen=True)
class Tally:
    """A verdict with what it rests on. `more`: how many prompts more would settle it, where they are too few."""

    word: Word
    figures: Figures
    more: int = 0

    @property
    def inverted(self) -> bool:
        """Whether the worse answer is preferred by more than chance."""
        score = self.figures.accuracy.score
        return self.word == AT_CHANCE and score.prompts > 0 and score.interval[1] < 0.5

    def as_dict(self) -> dict[str, Any]:
        return {"verdict": self.word, "more": self.more, **self.figures.as_dict()}


@dataclass(frozen=True)
class Trial:
    """`in_all` over all pairs, `by_principle` over those that name one. `others`: by name, what simple judges are right
    on (`pipeline.metrics.simple_judges`); `by_source`: by the set that a pair is from. `exact`: code decides every
    principle, so that no model is on trial; `by_code`: the principles that code decides, which have a voice
    whatever the model is; `unasked`: by principle (empty: pairs without one), how many known pairs were not asked.
    `code_alone`: what the model says counts for nothing, because it is not trusted or because there is none, and those
    that code decides speak alone (`trial.required = "checks"`)."""

    in_all: Tally
    by_principle: Mapping[str, Tally]
    others: Mapping[str, Figures] = field(default_factory=dict)
    by_source: Mapping[str, Group] = field(default_factory=dict)
    exact: bool = False
    by_code: tuple[str, ...] = ()
    unasked: Mapping[str, int] = field(default_factory=dict)
    code_alone: bool = False

    @property
    def readable(self) -> bool:
        """Whether enough of the pairs could be read at all."""
        found = self.in_all.figures
        return found.asked > 0 and found.unreadable <= (1 - LEAST_MASS) * found.asked

    @property
    def believed(self) -> bool:
        """Whether labels may be made: trusted in all, or under one principle at least, and some principle is left."""
        if self.exact or self.code_alone:
            return True
        names = set(self.by_principle)
        trusted = self.in_all.word == TRUSTED or any(t.word == TRUSTED for t in self.by_principle.values())
        return self.readable and trusted and (not names or bool(names - set(self.left_out)) or bool(self.by_code))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Principles whose verdicts are no labels: those at chance or inverted; of a judge that is not trusted in all
        but under some principles, all others too."""
        said = self.by_principle
        if self.code_alone:
            return tuple(said)
        some = any(t.word == TRUSTED for t in said.values())
        only = some and self.in_all.word != TRUSTED
        return tuple(name for name, t in said.items() if t.word == AT_CHANCE or (only and t.word != TRUSTED))

    @property
    def without_a_voice(self) -> tuple[str, ...]:
        """The principles that a run's labels leave out: as `left_out`, but for a judge that was told to label though
        nobody trusts it, where nobody would be left to speak."""
        return self.left_out if self.by_code or set(self.by_principle) - set(self.left_out) else ()

    @property
    def wanted(self) -> int:
        """How many prompts more would settle it in all; 0 where it is settled."""
        return self.in_all.more

    def as_dict(self, role: str = "judge") -> dict[str, Any]:
        return {
            **self.in_all.as_dict(),
            "believed": self.believed,
            "left_out": list(self.without_a_voice),
            "principles": {name: found.as_dict() for name, found in self.by_principle.items()},
            "others": {name: found.as_dict() for name, found in self.others.items()},
            "sources": {name: found.as_dict() for name, found in self.by_source.items()},
            "says": sentences(self, role),
            **({} if self.believed else {"next": next_step(self, role)}),
        }


def trial(
    rows: Sequence[Tried],
    principles: Sequence[str] = (),
    min_mass: float = 0.0,
    others: Mapping[str, Sequence[Tried]] | None = None,
) -> Trial:
    """The trial of some rows. `principles`: their order, and those that no pair names; `others`: the same rows as
    simple judges would have answered them. They are measured on the pairs that the judge answered."""
    names = list(dict.fromkeys([*principles, *(row.principle for row in rows if row.principle)]))
    found = {name: figures([row for row in rows if row.principle == name], min_mass) for name in names}
    whole = figures(rows, min_mass)
    said, by_principle = _words(rows, names, whole, found, min_mass)
    return Trial(
        Tally(said, whole, trust.more(whole.accuracy.score) if said == TOO_FEW else 0),
        {
            name: Tally(by_principle[name], f, trust.more(f.accuracy.score) if by_principle[name] == TOO_FEW else 0)
            for name, f in found.items()
        },
        {name: figures(beside(rows, given, min_mass)) for name, given in (others or {}).items()},
        {
            name: group(r for r in rows if r.source == name and r.orders and r.mass >= min_mass)
            for name in dict.fromkeys(row.source for row in rows)
        },
    )


def beside(rows: Sequence[Tried], others: Sequence[Tried], min_mass: float) -> list[Tried]:
    """Of the same rows as another would have answered them, those that the judge answered."""
    return [
        other
        for row, other in zip(rows, others, strict=True)
        if row.orders and row.mass >= min_mass and not row.abstains
    ]


def _words(
    rows: Sequence[Tried], names: Sequence[str], whole: Figures, found: Mapping[str, Figures], min_mass: float
) -> tuple[Word, dict[str, Word]]:
    """The verdicts. Where some rows have one order only, nobody is trusted but by those that have both."""
    said, by_principle = trust.words(whole.accuracy.score, {name: f.accuracy.score for name, f in found.items()})
    if not whole.one_order.pairs:
        return said, by_principle
    both = [row for row in rows if row.orders == 2 and row.mass >= min_mass and not row.abstains]
    seen, by_seen = trust.words(
        group(both).score, {name: group(row for row in both if row.principle == name).score for name in names}
    )
    return trust.in_one_order(said, seen), {
        name: trust.in_one_order(word, by_seen[name]) for name, word in by_principle.items()
    }


# --- in words ------------------------------------------------------------------------------------------------------


def measured(found: Figures) -> str:
    """What was seen, in a few words."""
    score = found.accuracy.score
    if not score.prompts:
        return "no pair was answered" if found.asked else "no pair"
    low, high = score.interval
    return (
        f"right on {words.percent(score.mean, 0)} of {score.prompts} prompt{'s' * (score.prompts != 1)} "
        f"(95% interval {words.percent(low, 0)} to {words.percent(high, 0)})"
    )


def sentences(found: Trial, role: str = "judge") -> list[str]:
    """What was found and what follows, a sentence each: in all, then by principle where there is something to do."""
    told = [_in_all(found, role)]
    left_out, silent = set(found.left_out), set(found.without_a_voice)
    few = {name: tally for name, tally in found.by_principle.items() if tally.word == TOO_FEW and name not in left_out}
    for name, tally in found.by_principle.items() if found.in_all.figures.asked else ():
        seen = measured(tally.figures)
        fate = "is left out" if name in silent else "would be left out, if another principle had a voice"
        if tally.inverted:
            told.append(
                f"`{name}` {fate}: the worse answer is preferred, {seen}. A question that asks for less of "
                "something is often read the wrong way round: word it positively"
            )
        elif tally.word == AT_CHANCE:
            told.append(f"`{name}` {fate}: no better than chance, {seen}; try `judge: reasoned`, or a positive wording")
        elif name in left_out:
            told.append(f"`{name}` {fate}: {_not_shown(tally)}, {seen}")
    told += _one_order(found.in_all)
    if few:
        names = ", ".join(f"`{name}` ({_more(tally.more, found.unasked.get(name, 0))})" for name, tally in few.items())
        told.append(f"too few examples or known pairs to say anything of these alone: {names}")
    return told


def next_step(found: Trial, role: str = "judge") -> str:
    """What to do about one that is not believed."""
    if role == RECORDED:
        if not found.readable and found.in_all.figures.asked:
            return "record verdicts whose options hold more of the probability: half of it, at least (mass)"
        if found.in_all.word == ONE_ORDER:
            return "record verdicts of both orders"
        if found.wanted:
            return "record its verdicts on more pairs"
        return "take another judge, or ask this one in other words: more pairs would not make it right"
    there = sum(found.unasked.values())
    if found.wanted and there:
        wanted = "all of them" if there <= found.wanted else f"{found.wanted} of them"
        return (
            f"Ask about more of the known pairs that are there, {wanted} ({there} were not asked: raise trial.most, or "
            "--most of `precept judge trial`)"
        )
    if found.wanted:
        return (
            f"Write {found.wanted} more examples under the principles, or name a file of known pairs: "
            'trial.pairs = ["pairs.jsonl"] (rows of prompt, better, worse, principle)'
        )
    return (
        f"Name a better judge ({role}.model), another way of judging ({role}.method), or reword the principles: "
        "`precept judge trial` shows what it gets wrong"
    )


def _in_all(found: Trial, role: str) -> str:
    if found.exact:
        return f"code decides every principle: there is nothing to try the {role} on"
    figures = found.in_all.figures
    seen = measured(figures)
    alone = f"code alone decides, by {', '.join(f'`{name}`' for name in found.by_code)}"
    if found.code_alone and not figures.asked:
        return f"no model is the {role}: {alone}"
    if not found.readable and figures.asked:
        told = f"the {role} cannot be read: {figures.unreadable} of {figures.asked} pairs have no answer that counts"
        return f"{told}; {alone}" if found.code_alone else told
    told = f"the {role} is {found.in_all.word}: {seen}" + _position(figures)
    if found.in_all.word == TOO_FEW:
        more = "rows of both orders" if role == RECORDED else "examples or known pairs"
        there = f" ({there} are there and were not asked)" if (there := sum(found.unasked.values())) else ""
        told = f"too few pairs to say whether the {role} is right: {seen}; "
        told += f"{found.wanted} more {more}{there} would settle it"
        told += _position(figures)
    if found.code_alone:
        told += f"; {alone}"
    elif found.in_all.word != TRUSTED and found.believed:
        names = ", ".join(f"`{n}`" for n, t in found.by_principle.items() if t.word == TRUSTED)
        told += f". It is trusted under {names} alone"
    return told


def _not_shown(tally: Tally) -> str:
    return tally.word if tally.word == ONE_ORDER else "not shown to be better than chance"


def _one_order(tally: Tally) -> list[str]:
    """What verdicts of one order can show, and what they cannot."""
    one = tally.figures.one_order
    if not one.pairs:
        return []
    pairs = tally.figures.accuracy.pairs
    many = "all of the pairs" if one.pairs == pairs else f"{one.pairs} of {pairs} pairs"
    first, last, chance = one.first.score, one.last.score, one.by_place
    if chance is None:
        stood = "first" if one.first.pairs else "last" if one.last.pairs else ""
        where = f"the better answer was always shown {stood}" if stood else "nobody knows where the better answer stood"
        why = f"{where}, so a judge that names a place is not told from one that reads"
    else:
        seen = (
            f"right on {first.right} of {first.prompts} prompts where the better answer was shown first and on "
            f"{last.right} of {last.prompts} where it was shown last"
        )
        more = "is more than" if chance <= LEVEL else "may be no more than"
        why = f"{seen}, which {more} a preference for a place explains (exact test, p = {chance:.2g})"
    return [
        f"{many} {'is' if one.pairs == 1 < pairs else 'are'} recorded in one order only: {why}. How often its orders "
        "agree is not known; record "
        "both (shown_a and shown_b, or choice_a and choice_b)"
    ]


def _position(figures: Figures) -> str:
    """A judge that reads by position."""
    first = figures.first.value
    if first is None or figures.first.of < 8 or 1 - BY_POSITION < first < BY_POSITION:
        return ""
    where, share = ("first", first) if first >= BY_POSITION else ("last", 1 - first)
    return f"; it names what is shown {where} in {words.percent(share, 0)} of its answers"


def _more(wanted: int, there: int) -> str:
    if not there:
        return f"write {wanted} more"
    return f"{wanted} more; {there} {'is' if there == 1 else 'are'} there and not asked: trial.most"
