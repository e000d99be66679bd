"""How often the readings of refusals are right, by class, on models that they were not fitted to.

    python -m benchmarks.detectors                    the two models' answers of XSTest that ../shared/data has
    python -m benchmarks.detectors FOLDER             a folder with a file a model: the model_completions of XSTest
    python -m benchmarks.detectors --judge MODEL      what a model says when it is asked (`evaluate.reading`)

Of each model's answers people said whether they refuse in full, in part or not at all. Printed is the share of each
class that a reading calls a refusal, with 95% intervals: its recall for the first two, its false alarms for
the last. `phrases`: the list of `pipeline.metrics.style`. `ours`: the classifier that ships, fitted on sentences that
were written for it. `other`: the same, fitted on the other model's answers of this file and on nothing else. NOT
covered: answers in other languages, and answers longer than the 60 words that the classifier reads.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from pipeline import engines
from pipeline.asking import Role
from pipeline.engines.engine import EngineSettings
from pipeline.judges.applies import PREFIX
from pipeline.metrics.intervals import Share
from pipeline.metrics.refusals import Reader, ours
from pipeline.metrics.style import refuses
from pipeline.sources import files, shapes
from pipeline.suites import asking
from pipeline.suites.refused import REFUSES

CLASSES = {"2_full_refusal": "full refusal", "3_partial_refusal": "partial refusal", "1_full_compliance": "compliance"}
KINDS = {"2_full_refusal": "refusal", "3_partial_refusal": "partial", "1_full_compliance": "help"}
Answers = tuple[list[str], list[str]]  # texts, classes


def asked(file: Path, model: Role, sample: int) -> list[str]:
    """Lines of Markdown: of the first answers of each class, how many the model's word is known of, and the share of
    those that it calls a refusal."""
    rows = [row.value for row in files.rows(file) if isinstance(row.value, dict)]
    lines = []
    for name, words in CLASSES.items():
        of = [row for row in rows if row.get("label", row.get("final_label")) == name and row.get("completion")][
            :sample
        ]
        pairs = [(shapes.prompt({"prompt": row["prompt"]}), row["completion"]) for row in of]
        values, _ = asking.said(model, REFUSES, pairs)
        known = [value == 1 for value in values if value is not None]
        lines.append(f"| {_model(file)} | {words} | {len(of)} | {len(known)} | {_cell(known)} |")
    return lines


def answers(file: Path) -> Answers:
    """The published files have the class in `final_label`."""
    rows = [row.value for row in files.rows(file) if isinstance(row.value, dict)]
    said = [(row["completion"], row.get("label", row.get("final_label"))) for row in rows if row.get("completion")]
    return [text for text, label in said if label in CLASSES], [label for _, label in said if label in CLASSES]


def table(found: dict[str, Answers]) -> list[str]:
    """Lines of Markdown: a row a model and class."""
    lines = ["| answers of | class | n | phrases | ours | other |", "|---|---|---|---|---|---|"]
    for model, (texts, classes) in found.items():
        others = [data for name, data in found.items() if name != model]
        readings: list[Sequence[bool | None]] = [[refuses(text) for text in texts], ours().refuses(texts)]
        if others:
            fitted = Reader(
                [text for other, _ in others for text in other], [KINDS[one] for _, said in others for one in said]
            )
            readings.append(fitted.refuses(texts))
        for name, words in CLASSES.items():
            at = [place for place, one in enumerate(classes) if one == name]
            cells = [_cell([reading[place] for place in at]) for reading in readings]
            lines.append(f"| {model} | {words} | {len(at)} | {' | '.join(cells)} |")
    return lines


def _cell(said: Sequence[bool | None]) -> str:
    known = [one for one in said if one is not None]
    if not known:
        return "not known"
    share = Share(sum(known), len(known))
    low, high = share.interval
    return f"{share.count / share.of:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).parents[1].parent / "shared" / "data" / "xstest"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    parser.add_argument("--judge", type=Path, help="a model's folder, which is asked")
    parser.add_argument("--sample", type=int, default=40, help="answers of each class that it is asked about")
    given = parser.parse_args()
    completions = sorted(given.folder.glob("*completions[-_]*"))
    if not completions:
        parser.error(f"{given.folder} has no file of completions")
    if given.judge is None:
        print("\n".join(table({_model(file): answers(file) for file in completions})))
        return
    engine = engines.build(EngineSettings(model=str(given.judge), batch_size=8))
    print("| answers of | class | asked | known | called a refusal |\n|---|---|---|---|---|")
    for file in completions:
        print("\n".join(asked(file, Role(engine, answer_prefix=PREFIX), given.sample)), flush=True)


def _model(file: Path) -> str:
    return re.split("completions[-_]", file.stem)[1]


if __name__ == "__main__":
    main()
