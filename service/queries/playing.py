"""What the playground shows of stored data without a model: answers to one prompt with what is known of each, pairs
with their log-ratios or rewards, training runs that were watched, and sweeps. Read only; what a visitor chooses there
is play, and is stored nowhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from constitution.errors import UserError
from constitution.records import PROBABILITY, Checkpoint, Id, Message, Messages, text_digest
from pipeline.metrics import best_of
from pipeline.trainers import progress
from service.queries import judged, labels
from storage.runs import Run
from storage.store import Store

STAGES = ("samples", "held-out samples")
ANSWERS, PAIRS, LINES = 2_000, 4_000, 500  # looked at, at most
JUDGE = "judge"
OF_PRINCIPLE = "by "  # how the signal of a principle begins


@dataclass(frozen=True)
class Candidate:
    """A stored answer. `signals`: by name; None is not known. `judge` and the principles: the mean over its stored
    comparisons of the probability, or the vote from -1 to 1."""

    text: str
    signals: Mapping[str, float | None]


@dataclass(frozen=True)
class Choices:
    """The answers to one prompt."""

    prompt: Id
    messages: Messages
    answers: tuple[Candidate, ...]


@dataclass(frozen=True)
class Winners:
    """What selecting by one signal, or by the mix, does over all prompts. Means over the winners; `kl`: the mean of the
    bound, in nats."""

    name: str
    prompts: int
    kl: float
    changed: int  # prompts on which it is not the first answer that wins
    means: Mapping[str, float | None]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def choices(store: Store, run: str = "") -> tuple[Run, list[Choices], tuple[str, ...]]:
    """The run, its prompts with two answers or more, and the names of the signals. Raises UserError where there is no
    such run, or none with answers to choose from."""
    found = store.run(run) if run else next((r for r in store.runs()[::-1] if _sampled(store, r)), None)
    if found is None:
        raise UserError("no run has several answers to one prompt yet: `precept improve` makes some")
    by_prompt: dict[Id, list[str]] = {}
    for stage in _sampled(store, found):
        ids = store.stage_members(found.id, stage, most=ANSWERS)
        for made in store.generations(ids):
            if made.text not in by_prompt.setdefault(made.prompt, []):
                by_prompt[made.prompt].append(made.text)
    several = {prompt: texts for prompt, texts in by_prompt.items() if len(texts) > 1}
    if not several:
        raise UserError(f"run {found.id.hex()[:12]} has no prompt with two different answers: name another run")
    said, principles = _judged(store, found, several)
    names = (*best_of.COUNTED, JUDGE, *(OF_PRINCIPLE + p for p in principles))
    dialogues = {p.id: p.messages for p in store.prompts(ids=list(several))}
    shown = []
    for prompt, texts in several.items():
        counted = best_of.counted(texts)
        answers = tuple(
            Candidate(text, dict.fromkeys(names) | said.get((prompt, text_digest(text)), {}) | signals)
            for text, signals in zip(texts, counted, strict=True)
        )  # fmt: skip
        if prompt in dialogues:
            shown.append(Choices(prompt, dialogues[prompt], answers))
    return found, shown, names


def select(found: Sequence[Choices], weights: Mapping[str, float], name: str) -> tuple[Winners, list[list[float]]]:
    """The best answer to each prompt under the weights, and the scores. Of equal ones the first wins."""
    scores = best_of.scores([[a.signals for a in one.answers] for one in found], weights)
    best = [max(range(len(some)), key=lambda n: some[n]) for some in scores]
    winners = [one.answers[n] for one, n in zip(found, best, strict=True)]
    means = {}
    for signal in (*best_of.COUNTED, JUDGE):
        known = [v for w in winners if (v := w.signals[signal]) is not None]
        means[signal] = fmean(known) if known else None
    kl = fmean(best_of.kl_bound(len(one.answers)) for one in found)
    return Winners(name, len(found), kl, sum(n > 0 for n in best), means), scores


def _sampled(store: Store, run: Run) -> list[str]:
    return [stage for stage in store.stages(run.id) if stage in STAGES]


def _judged(
    store: Store, run: Run, texts: Mapping[Id, Sequence[str]]
) -> tuple[dict[tuple[Id, Id], dict[str, float]], tuple[str, ...]]:
    """By prompt and text, what the run's judge said of it in stored comparisons with other answers to the prompt."""
    try:
        about = judged.of(store, run)
    except UserError:  # nothing was judged
        return {}, ()
    there = {(prompt, text_digest(text)) for prompt, some in texts.items() for text in some}
    asked = {c.id: c for c in store.comparisons(about.comparisons[:PAIRS])}
    ids = [
        id for id, c in asked.items() if (c.prompt, c.first) in there and (c.prompt, c.second) in there
    ]  # fmt: skip
    values: dict[tuple[Id, Id], dict[str, list[float]]] = {}
    said, voted = about.labels(ids), labels.votes_on(about, ids)
    for id in ids:
        c, label = asked[id], said[id]
        for text, sign in ((c.first, 1), (c.second, -1)):
            of = values.setdefault((c.prompt, text), {})
            if label.state != "unreadable":
                p = label.p / PROBABILITY
                of.setdefault(JUDGE, []).append(p if sign > 0 else 1 - p)
            for vote in voted[id]:
                toward = 1 if vote.side == "first" else -1
                of.setdefault(OF_PRINCIPLE + vote.principle, []).append(sign * toward * vote.strength)
    means = {place: {name: fmean(some) for name, some in of.items()} for place, of in values.items()}
    return means, tuple(p.id for p in about.constitution)


# --- pairs with their losses ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paired:
    """A held-out pair as a trained model left it. `chosen`, `rejected`: log pi - log ref in nats where `beta` is known
    (DPO), and rewards where it is None (a reward model)."""

    line: int
    p: float
    chosen: float
    rejected: float
    beta: float | None


def with_pairs(store: Store) -> list[Checkpoint]:
    """Checkpoints that kept what they make of their held-out pairs."""
    return [c for c in store.checkpoints() if c.method != "orpo" and (Path(c.path) / "heldout.jsonl").is_file()][::-1]


def pairs(checkpoint: Checkpoint) -> list[Paired]:
    """Its first held-out pairs. Raises UserError where the file cannot be read."""
    folder = Path(checkpoint.path)
    beta = None
    try:
        if checkpoint.kind == "policy":
            told = json.loads((folder / "training.json").read_text(encoding="utf-8"))
            beta = float(told["arguments"]["beta"])
        with (folder / "heldout.jsonl").open(encoding="utf-8") as file:
            rows = [json.loads(line) for line, _ in zip(file, range(LINES), strict=False)]
        return [
            Paired(
                int(row["line"]), float(row["p"]), float(row["chosen"]) / (beta or 1.0),
                float(row["rejected"]) / (beta or 1.0), beta,
            )
            for row in rows
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"the held-out pairs of {folder} cannot be read: {error}") from None


@dataclass(frozen=True)
class Texts:
    prompt: Messages
    chosen: str
    rejected: str


def texts(checkpoint: Checkpoint, home: Path, lines: Sequence[int]) -> dict[int, Texts]:
    """The texts of some of its held-out pairs, by line. The checkpoint does not name the file: it is the data set whose
    probabilities are the stored ones, row by row. Empty where there is none, or more than one."""
    kept = {one.line: one.p for one in pairs(checkpoint)}
    found = [rows for path in sorted((home / "datasets").glob("*.jsonl")) if (rows := _fitting(path, kept)) is not None]
    if len(found) != 1:
        return {}
    return {line: found[0][line] for line in lines if line in found[0]}


def _fitting(path: Path, kept: Mapping[int, float]) -> dict[int, Texts] | None:
    read: dict[int, Texts] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if number not in kept:
                    continue
                row = json.loads(line)
                if abs(row["p"] - kept[number]) > 1e-9:
                    return None
                messages = tuple(Message(m["role"], m["content"]) for m in row["prompt"])
                read[number] = Texts(messages, *(str(row[key][-1]["content"]) for key in ("chosen", "rejected")))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    return read if len(read) == len(kept) else None


def parted(found: Sequence[Paired], most: int = 8) -> list[Paired]:
    """Pairs on which a reward model prefers what the label rejects, those it is surest of first."""
    wrong = [one for one in found if one.beta is None and one.p > 0.5 and one.chosen < one.rejected]
    return sorted(wrong, key=lambda one: one.chosen - one.rejected)[:most]


# --- training runs that were watched, and sweeps -------------------------------------------------------------------


def watched(store: Store) -> list[Checkpoint]:
    """Checkpoints of online training with evaluation steps, the newest first."""
    return [c for c in store.checkpoints() if (Path(c.path) / "watch.jsonl").is_file()][::-1]


def evaluations(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    return list(progress.read(Path(checkpoint.path) / "watch.jsonl"))


def sweeps(store: Store) -> list[Run]:
    """Finished sweeps, the newest first."""
    return [
        r for r in store.runs()[::-1] if r.kind == "sweep" and isinstance(r.result, dict) and r.result.get("points")
    ]


def best_point(points: Sequence[Mapping[str, Any]], reward: float, judge: float, kl: float) -> list[float]:
    """Of each drawn point its worth: weights times reward and win rate over their spread, less `kl` times the root of
    the KL over its."""
    signals = [
        {"reward": p["reward"], "judge": p["judge"], "kl": max(0.0, p["kl"]) ** 0.5} for p in points
    ]  # fmt: skip
    return best_of.scores([signals], {"reward": reward, "judge": judge, "kl": -kl})[0]
