"""What a judge said, before anybody believes it.

A verdict for each question it was asked and no other, but for those that it says it had to omit, numbers that are
probabilities, reasons of its own verdicts. A plug-in that answers otherwise would be asked for ever, or be stored as
another judge's word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from constitution.errors import UserError
from constitution.records import PROBABILITY
from pipeline.judges.judge import Case, Judge, Judged

NUMBERS = ("p1", "p2", "mass1", "mass2")


def checked(judge: Judge, cases: Sequence[Case], said: Judged) -> Judged:
    """`said`, as it is. Raises UserError, naming the judge, where it breaks the contract; nothing is stored then."""
    own = getattr(judge, "own", judge)  # of `by_principle`, which says nothing itself
    who = f"the judge {type(own).__module__}.{type(own).__qualname__}"
    mend = "see pipeline/judges/judge.py for what a judge returns; nothing of this batch was stored"
    if not isinstance(said, Judged):
        raise UserError(f"{who} returned a {type(said).__name__}, and not what it judged (Judged); {mend}")
    asked = Counter((judge.question(p).id, case.comparison.id) for case in cases for p in case.principles)
    verdicts = Counter((v.question, v.comparison) for v in said.verdicts)
    given = verdicts + Counter((o.question, o.comparison) for o in said.omitted)
    if given != asked:
        raise UserError(
            f"{who} was asked {asked.total()} questions and answered {(asked & given).total()} of them, and "
            f"{(given - asked).total()} that it was not asked; {mend}"
        )
    for verdict in said.verdicts:
        for name in NUMBERS:
            _probability(who, name, getattr(verdict, name), mend)
        for name in ("tie1", "tie2"):
            if getattr(verdict, name) is not None:
                _probability(who, name, getattr(verdict, name), mend)
    for reason in said.reasons:
        known = (reason.question, reason.comparison) in verdicts and reason.shown in (1, 2)
        if not known or not isinstance(reason.text, str):
            raise UserError(f"{who} gave a reason that is of none of its verdicts, or no text; {mend}")
    used = said.used
    if min(used.requests, used.prompt_tokens, used.tokens) < 0:
        raise UserError(f"{who} says that it used less than nothing; {mend}")
    return said


def _probability(who: str, name: str, value: object, mend: str) -> None:
    if type(value) is not int or not 0 <= value <= PROBABILITY:
        raise UserError(f"{who} gave {name} = {value!r}: a whole number from 0 to {PROBABILITY:,} (x 1e-9); {mend}")
