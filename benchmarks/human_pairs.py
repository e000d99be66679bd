"""A reward model on what people preferred: 1,800 human comparisons of dialogues (hh-rlhf, harmless-base test).

    python -m benchmarks.human_pairs [--json]

The reward model is precept's own trainer on the sandbox's policy: 0.85 million weights that have only ever read a small
made-up world, on one thread. So this asks whether the method learns from real, noisy, multi-turn preferences at all,
not how good a reward model can be. Beside it, on the same held-out pairs: the longer answer, and a Bradley-Terry model
on the answers' word counts (logistic regression on the difference; its strength is chosen on the development split).

Pairs inherit the split of their dialogue's first turn, so no opening is on both sides. Long texts are cut to fit
CONTEXT tokens: the dialogue from the left, and an answer of more than ANSWER tokens from the right.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from transformers import AutoTokenizer

from constitution.records import Message
from pipeline import trainers
from pipeline.assemble import messages, said
from pipeline.metrics.intervals import interval_of
from pipeline.sources.rows import Imported, read
from pipeline.trainers.trainer import Job
from sandbox.models import folder

DATA = Path(__file__).parents[2] / "shared" / "data" / "hh-harmless" / "pairs.jsonl"
HELDOUT, DEV = 0.2, 0.1
CONTEXT, ANSWER = 256, 160  # tokens, of a vocabulary made for another world: 2.2 of them a word
ROOM = 16  # for the template's own tokens, beside one for each turn
STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)  # scikit-learn's C
ARGUMENTS = {  # set once, tried on nothing
    "learning_rate": 3e-4,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 16,
    "max_length": CONTEXT,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    if not DATA.is_file():
        sys.exit(f"there are no comparisons at {DATA}: put hh-rlhf's there, as prompt, chosen, rejected")
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the training process
    found = measure(read(DATA, "preferences", heldout=HELDOUT, dev=DEV).rows)
    print(json.dumps(found, indent=2) if as_json else report(found))


def measure(pairs: Sequence[Imported]) -> dict[str, Any]:
    """Held-out accuracy of each way to tell the preferred answer, 1/2 for a pair that it cannot tell."""
    split = {name: [p for p in pairs if p.prompt.split == name] for name in ("train", "dev", "heldout")}
    began = time.monotonic()
    margins, training = reward_margins(split["train"], split["heldout"])
    seconds = time.monotonic() - began
    words, strength = word_margins(split["train"], split["dev"], split["heldout"])
    lengths = [len(p.answers[0]) - len(p.answers[1]) for p in split["heldout"]]
    ways: dict[str, Sequence[float]] = {"reward_model": margins, "bag_of_words": words, "longer_answer": lengths}
    return {
        "pairs": {name: len(found) for name, found in split.items()},
        "accuracy": {name: interval_of(right(way)).as_dict() for name, way in ways.items()},
        "reward_minus_words": interval_of(np.subtract(right(margins), right(words)).tolist(), least=-1.0).as_dict(),
        "training": {key: training[key] for key in ("rows", "steps", "loss", "rewards/accuracies", "eval_loss")},
        "words_strength": strength,
        "seconds": seconds,
    }


def right(margins: Sequence[float]) -> list[float]:
    """1 where the preferred answer is ahead, 0 where it is behind."""
    return [float(np.sign(margin) + 1) / 2 for margin in margins]


def reward_margins(train: Sequence[Imported], heldout: Sequence[Imported]) -> tuple[list[float], dict[str, Any]]:
    """The reward of the preferred answer above the other's, of each held-out pair; and what training reported."""
    tokenizer = AutoTokenizer.from_pretrained(folder("policy"), model_max_length=10**9)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        files = {"train": train, "heldout": heldout}
        for file, pairs in files.items():
            rows = [json.dumps(row(pair, tokenizer)) + "\n" for pair in pairs]
            (home / f"{file}.jsonl").write_text("".join(rows), encoding="utf-8")
        job = Job(
            id="human-pairs",
            method="reward",
            model=str(folder("policy")),
            out=str(home / "reward"),
            dataset=str(home / "train.jsonl"),
            eval_dataset=str(home / "heldout.jsonl"),
            arguments=ARGUMENTS,
            device="cpu",
        )
        (manifest,) = trainers.launch([job])
        scored = [json.loads(line) for line in (home / "reward/heldout.jsonl").read_text().splitlines()]
    by_line = {s["line"]: float(s["margin"]) for s in scored}
    return [by_line[line] for line in range(1, len(heldout) + 1)], dict(manifest.metrics)  # KeyError: one was left out


def row(pair: Imported, tokenizer: Any) -> dict[str, Any]:
    """A trainer's row of at most CONTEXT tokens. A person's choice is a choice: p is 1."""
    answers = [tokenizer.decode(ids[:ANSWER]) for ids in tokenizer(list(pair.answers))["input_ids"]]
    room = CONTEXT - ROOM - max(map(len, tokenizer(answers)["input_ids"]))
    kept: list[Message] = []
    for turn in reversed(pair.prompt.messages):
        ids = tokenizer(turn.content)["input_ids"]
        room -= 2  # who speaks, and the end of the turn
        if room <= 0:
            break
        kept.insert(0, turn if len(ids) <= room else Message(turn.role, tokenizer.decode(ids[-room:])))
        room -= len(ids)
    return {"prompt": messages(tuple(kept)), "chosen": said(answers[0]), "rejected": said(answers[1]), "p": 1.0}


def word_margins(
    train: Sequence[Imported], dev: Sequence[Imported], heldout: Sequence[Imported]
) -> tuple[list[float], float]:
    """The same by a Bradley-Terry model on word counts, and the strength that was best on the development split."""
    vectors = CountVectorizer(min_df=2).fit([text for pair in train for text in pair.answers])

    def differences(pairs: Sequence[Imported]) -> Any:
        one, other = (vectors.transform([pair.answers[side] for pair in pairs]) for side in (0, 1))
        return one - other

    ahead = differences(train)
    signs = np.where(np.arange(len(train)) % 2, 1, -1)  # both classes, each pair once
    best = (-1.0, 0.0, LogisticRegression())
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, fit_intercept=False, max_iter=1000)
        model.fit(ahead.multiply(signs[:, None]).tocsr(), signs)
        accuracy = float(np.mean(right(model.decision_function(differences(dev)))))
        if accuracy > best[0]:
            best = (accuracy, strength, model)
    return best[2].decision_function(differences(heldout)).tolist(), best[1]


def report(found: dict[str, Any]) -> str:
    def interval(figures: dict[str, float]) -> str:
        return f"{figures['mean']:.3f}  (95% interval {figures['low']:.3f} to {figures['high']:.3f})"

    pairs, training = found["pairs"], found["training"]
    return "\n".join(
        [
            f"Human comparisons: {pairs['train']} to train on, {pairs['dev']} development, {pairs['heldout']} held out",
            *(f"{name.replace('_', ' '):<14} {interval(each)}" for name, each in found["accuracy"].items()),
            f"reward model minus bag of words: {interval(found['reward_minus_words'])}",
            f"reward model trained {training['steps']} steps in {found['seconds']:.0f} s, starting included; accuracy "
            f"on training pairs at the end {training['rewards/accuracies']:.2f}; held-out cross-entropy "
            f"{training['eval_loss']:.3f} (0.693 knows nothing)",
        ]
    )


if __name__ == "__main__":
    main()
