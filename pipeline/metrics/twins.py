"""Whether a judge reads the wording of a question: on pairs with a known answer it is asked the question and its twin,
whose right answer is the other reply (`wording.twin`).

A judge that reads both is right on both. One that names the same reply whichever way it is asked does not read which of
the two is asked, however often that reply is the right one. One that is wrong on the question is inverted by it; where
it is right on the twin, it answers as if the twin were asked both times. Exact sign tests, one-sided
97.5% over all principles together (Bonferroni); a prompt counts once, as in a trial (`trust.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.metrics import words
from pipeline.metrics.finding import Finding
from pipeline.metrics.intervals import Share
from pipeline.metrics.trust import LEVEL, TRUSTED, Score, more, score, word
from pipeline.metrics.wording import negative

Said = Literal["read", "not read", "inverted", "too few to say"]
EVEN = 5e-10  # a margin that rounding left of nothing


@dataclass(frozen=True, slots=True)
class Asked:
    """One example under the question and under its twin. `question`, `twin`: the mean over both orders of the
    probability that `better` is the reply that is asked for, from 0 to 1; None where it could not be read."""

    prompt: str
    question: float | None
    twin: float | None


@dataclass(frozen=True)
class TwinFigures:
    """`question`, `twin`: how often each was answered right (of the twin: with `worse`). `same`: of the examples on
    which both name a reply, how often it is the same. `left_out`: examples that could not be read. `own`: whether the
    file says the twin itself."""

    principle: str
    wording: str
    twin_wording: str
    own: bool
    question: Score
    twin: Score
    same: Share
    left_out: int
    level: float = LEVEL

    @property
    def said(self) -> Said:
        if word(_turned(self.question), self.level) == TRUSTED:
            return "inverted"
        if word(_as_score(self.same), self.level) == TRUSTED:
            return "not read"
        both = word(self.question, self.level) == word(self.twin, self.level) == TRUSTED
        return "read" if both else "too few to say"

    def as_dict(self) -> dict[str, Any]:
        return {
            "principle": self.principle, "question": self.wording, "twin": self.twin_wording, "own_twin": self.own,
            "examples": self.question.prompts, "left_out": self.left_out, "said": self.said,
            "question_right": _figures(self.question), "twin_right": _figures(self.twin), "same": self.same.as_dict(),
        }  # fmt: skip


def figures(
    principle: str, wording: str, twin_wording: str, asked: Sequence[Asked], *, own: bool = False, of: int = 1
) -> TwinFigures:
    """`of`: how many principles are looked at together."""
    read = [one for one in asked if one.question is not None and one.twin is not None]
    question = score(_by_prompt([(one.prompt, _side(one.question)) for one in read]))
    twin = score(_by_prompt([(one.prompt, 1 - _side(one.twin)) for one in read]))
    sides = [(_side(one.question), _side(one.twin)) for one in read]
    decided = [(q, t) for q, t in sides if q != 0.5 and t != 0.5]
    same = Share(sum(q == t for q, t in decided), len(decided))
    return TwinFigures(
        principle, wording, twin_wording, own, question, twin, same, len(asked) - len(read), LEVEL / max(1, of)
    )


def findings(
    found: Sequence[TwinFigures],
    no_twin: Mapping[str, str],
    no_example: Sequence[str],
    no_question: Mapping[str, str] | None = None,
) -> list[Finding]:
    """`no_twin`: questions, by principle, of which no rewrite makes a twin. `no_example`: principles without one.
    `no_question`: the judge, by principle, of those under which no question is put to anybody."""
    told = [*_not_read(found), *(_inverted(one) for one in found if one.said == "inverted"), *_too_few(found)]
    if no_twin:
        sentence = f"no rewrite turns the question round: {', '.join(f'`{id}`' for id in no_twin)}"
        advice = "write a `twin` in the file, the question whose better reply is the other one, and ask again"
        told.append(Finding("no twin", tuple(no_twin), "unknown", sentence, advice, no_twin))
    if no_example:
        sentence = f"without an example, so that nothing can be asked: {', '.join(f'`{id}`' for id in no_example)}"
        advice = f"write `examples`, pairs whose better reply you know: {more(score([]))} tell 80% from chance"
        told.append(Finding("not enough examples", tuple(no_example), "unknown", sentence, advice, {"examples": 0}))
    if no_question:
        listed = ", ".join(f"`{id}` ({judge})" for id, judge in no_question.items())
        sentence = (
            f"no question is put under {listed}: there is no wording that a judge reads, and none was asked about"
        )
        advice = "`precept constitution test` tries them on their examples"
        told.append(Finding("no question", tuple(no_question), "notice", sentence, advice, no_question))
    return told


def _not_read(found: Sequence[TwinFigures]) -> list[Finding]:
    """One finding for all wordings that are not read, and one for those of them that are answered right anyway."""
    told = []
    unread = [one for one in found if one.said == "not read"]
    for right in (False, True):
        some = [one for one in unread if (word(one.question) == TRUSTED) is right]
        if not some:
            continue
        counts = ", ".join(f"`{one.principle}` on {one.same.count} of {one.same.of}" for one in some)
        sentence = f"this judge names the same reply to a question and to its twin, of the examples of {counts}: "
        sentence += "it does not read which of them is asked"
        if right:
            advice = "what it goes by is right on these examples: try some on which that and the question part"
        elif any(negative(one.wording) for one in some):
            advice = "say what the better reply does, positively; where that does not help, name another `judge`"
        else:
            advice = "other words will hardly help a judge that reads neither: name another `judge`, or a larger model"
        evidence = {one.principle: one.as_dict() for one in some}
        ids = tuple(one.principle for one in some)
        told.append(Finding("wording not read", ids, "notice" if right else "warning", sentence, advice, evidence))
    return told


def _inverted(one: TwinFigures) -> Finding:
    sentence = (
        f"this judge answers the question of `{one.principle}` the wrong way round: the question right on "
        f"{shown(one.question)}, its twin on {shown(one.twin)}"
    )
    if word(one.twin) == TRUSTED:
        sentence += f'; it answers as if "{one.twin_wording}" were asked both times'
    advice = "say what the better reply does, positively and in plain words; or name another `judge` for it"
    return Finding("inverted by this judge", (one.principle,), "warning", sentence, advice, one.as_dict())


def _too_few(found: Sequence[TwinFigures]) -> list[Finding]:
    some = [one for one in found if one.said == "too few to say"]
    if not some:
        return []
    counts = ", ".join(f"`{one.principle}` ({one.question.prompts})" for one in some)
    sentence = f"not enough examples to tell whether this judge reads the wording of {counts}"
    wanted = max(max(more(one.question), more(one.twin)) for one in some)
    advice = f"write some {wanted} more for each, or look at `precept judge trial`, which has other pairs, too"
    evidence = {one.principle: one.as_dict() for one in some}
    ids = tuple(one.principle for one in some)
    return [Finding("not enough examples", ids, "unknown", sentence, advice, evidence)]


def shown(found: Score) -> str:
    """A score in words: `7 of 9 (.40 to .97)`."""
    low, high = found.interval
    halves = found.prompts - found.right - found.wrong
    ties = f", {halves} tied" if halves else ""
    return f"{found.right} of {found.prompts}{ties} ({words.percent(low, 0)} to {words.percent(high, 0)})"


def _side(p: float | None) -> float:
    """1 where `better` is named, 0 where `worse` is, a half where neither."""
    assert p is not None
    return 0.5 if abs(p - 0.5) < EVEN else float(p > 0.5)


def _by_prompt(values: Sequence[tuple[str, float]]) -> list[float]:
    found: dict[str, list[float]] = {}
    for prompt, value in values:
        found.setdefault(prompt, []).append(value)
    return [sum(some) / len(some) for some in found.values()]


def _turned(found: Score) -> Score:
    return Score(found.wrong, found.right, found.prompts, 1 - found.mean)


def _as_score(share: Share) -> Score:
    return Score(share.count, share.of - share.count, share.of, share.value if share.value is not None else 0.5)


def _figures(found: Score) -> dict[str, float | int]:
    low, high = found.interval
    return {
        "right": found.right,
        "wrong": found.wrong,
        "of": found.prompts,
        "mean": found.mean,
        "low": low,
        "high": high,
    }
