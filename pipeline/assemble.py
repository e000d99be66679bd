"""Labels in, training rows out, in TRL's own columns (conversational `prompt`, `chosen`, `rejected`, `completion`).

A preference row carries `p`, the probability that `chosen` is the better: trainers use it as a soft target. Tied and
unreadable comparisons never become a row. An unpaired row carries a `label`, true for a good answer. Rows of a held-out
prompt never become a training row, and that is checked here, at the last door.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from constitution.errors import UserError
from constitution.records import PROBABILITY, Id, Label, Messages, Prompt, canonical, seed_of
from pipeline.judges.judge import Case

Row = dict[str, Any]


def messages(turns: Messages) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in turns]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def preferences(labels: Iterable[Label], cases: Mapping[Id, Case], splits: Mapping[Id, str], split: str) -> list[Row]:
    """A row for each decided label whose prompt is in `split`, in the order of the comparisons' ids."""
    rows = []
    for label in sorted(labels, key=lambda x: x.comparison):
        first_better = label.preferred_first
        case = cases[label.comparison]
        if first_better is None or splits[case.comparison.prompt] != split:
            continue
        chosen, rejected = (case.first, case.second) if first_better else (case.second, case.first)
        rows.append(
            {
                "prompt": messages(case.messages),
                "chosen": said(chosen),
                "rejected": said(rejected),
                "p": (label.p if first_better else PROBABILITY - label.p) / PROBABILITY,
                "comparison": label.comparison.hex(),
            }
        )
    return rows


@dataclass(frozen=True)
class Blend:
    """Training rows of two sources. `missing`: human rows that the share asked for and that there were not."""

    rows: list[Row]
    missing: int


def blend(ai_rows: Sequence[Row], human_rows: Sequence[Row], share: float, seed: int) -> Blend:
    """Human helpfulness pairs mixed into AI harmlessness pairs, for one preference model of both (arXiv 2212.08073,
    section 4.1). `share`: of the human rows in the result, from 0 to under 1.

    Every AI row is kept, and human rows, which the caller has taken from the training split, are drawn to the share by
    the lowest hash of (seed, row): rows added to the file later displace few. A human row without p is certain: 1.
    Raises UserError for a share that cannot be had at all.
    """
    drawn = drawn_beside(len(ai_rows), human_rows, share, seed)
    return Blend([*ai_rows, *drawn.rows], drawn.missing)


def drawn_beside(count: int, human_rows: Sequence[Row], share: float, seed: int) -> Blend:
    """Of such a blend with `count` AI rows, the human ones."""
    if not 0 <= share < 1:
        raise UserError(f"the share of human pairs is {share}; it must be at least 0 and under 1")
    if share and not human_rows:
        raise UserError(f"a share of {share:g} human pairs is asked for, and there are none; name a file of them")
    wanted = round(count * share / (1 - share))
    places = sorted(range(len(human_rows)), key=lambda place: (seed_of("blend", seed, human_rows[place]), place))
    drawn = [{"p": 1.0, **human_rows[place]} for place in sorted(places[:wanted])]
    return Blend(drawn, max(0, wanted - len(drawn)))


def unpaired(rows: Iterable[Row], min_p: float) -> list[Row]:
    """Preference rows as rows of KTO: of each pair with p of at least `min_p`, `chosen` is good and `rejected` is not.

    Each answer to a prompt comes once, in the order of its first pair. One that is good in some pairs and bad in others
    is what it is in most of them, and left out where they are as many. Raises UserError for a `min_p` under 1/2.
    """
    if not 0.5 <= min_p <= 1:
        raise UserError(f"min_p is {min_p}; it is a probability that the chosen answer is the better, from 0.5 to 1")
    votes: dict[str, int] = {}
    found: dict[str, Row] = {}
    for row in rows:
        if row["p"] < min_p:
            continue
        for side, vote in (("chosen", 1), ("rejected", -1)):
            answer = {"prompt": row["prompt"], "completion": row[side]}
            key = canonical(answer)
            found.setdefault(key, answer)
            votes[key] = votes.get(key, 0) + vote
    return [{**answer, "label": votes[key] > 0} for key, answer in found.items() if votes[key]]


def prompts(asked: Sequence[Prompt]) -> list[Row]:
    """Rows for a method that writes the answers itself. Raises ValueError on a prompt not in the training split."""
    _refuse_other_splits(asked)
    return [{"prompt": messages(p.messages)} for p in asked]


def completions(answers: Sequence[tuple[Prompt, str]]) -> list[Row]:
    """SFT rows of (prompt, answer). Raises ValueError on a prompt that is not in the training split."""
    _refuse_other_splits(prompt for prompt, _ in answers)
    return [{"prompt": messages(p.messages), "completion": said(text)} for p, text in answers]


def _refuse_other_splits(asked: Iterable[Prompt]) -> None:
    for prompt in asked:
        if prompt.split != "train":
            raise ValueError(f"a {prompt.split} prompt may not reach a training file")


def dataset_digest(rows: Sequence[Row]) -> str:
    """Digest of a data set's rows, in order."""
    sha = hashlib.sha256()
    for row in rows:
        sha.update(canonical(row).encode() + b"\n")
    return sha.hexdigest()


def write(rows: Sequence[Row]) -> str:
    """The JSONL text of a data set."""
    return "".join(canonical(row) + "\n" for row in rows)
