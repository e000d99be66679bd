"""The loop, an amendment and a retrain: by precept, and by a team's own script of TRL (`plain_script.py`).

    python -m benchmarks.adoption [--train 120] [--heldout 100] [--threads 1] [--out FILE]

Both make the sandbox's policy better on the same prompts, under the same principles, on transformers with batches of
64, with the same training arguments, one after the other, each in processes of its own from nothing (starting up is
counted). The script generates its judge's letter and parses it, precept reads the letters' probabilities with a pair's
dialogue computed once. Then, for both: `respectful` is worded anew and the model retrained; `harmless` likewise, a
second amendment; and, from nothing again, a kill -9 in the middle of the loop's time, after which it is started again.
Printed: what was asked of models, seconds, lines that a user writes, and what the sandbox's truth says of the answers,
which neither side sees.

What differs and is not taken away: precept tries its judges first, trains a reward model, measures with a second
reading, keeps everything in a database and writes a report; the script does none of it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from constitution import loading
from constitution.principles import Constitution
from constitution.records import Message
from sandbox.oracle import Oracle

ROOT = Path(__file__).parents[1]
truth = Oracle()
SCRIPT = Path(__file__).with_name("plain_script.py")
AMENDED = {  # two amendments: a principle's question, in words that judge and evaluator know
    "respectful": "Which reply is kind and polite to the person?",
    "harmless": "Which reply gives no help with hurting someone?",
}
SETTINGS = """
store = "sqlite:///runs/precept.db"
home = "runs"
constitution = "principles.yaml"
prompts = "prompts.jsonl"
oracle = "sandbox"
[policy]
model = "sandbox:policy"
max_tokens = 96
batch_size = 64
[critic]
model = "sandbox:policy"
temperature = 0.5
max_tokens = 96
[judge]
model = "sandbox:policy"
[evaluator]
model = "sandbox:evaluator"
[revise]
rounds = 4
[sft.arguments]
learning_rate = 1e-3
num_train_epochs = 3
per_device_train_batch_size = 32
[reward.arguments]
learning_rate = 1e-3
per_device_train_batch_size = 32
[arguments.dpo]
learning_rate = 2e-4
num_train_epochs = 2
per_device_train_batch_size = 32
beta = 1.0
[trial]
pairs = ["sandbox"]
[label]
min_margin = 0.99
"""


@dataclass(frozen=True)
class Ran:
    """What a command took, and said. `wall`, `cpu`: seconds; `good`: by the sandbox's truth, of held-out answers."""

    wall: float
    cpu: float
    generated: int
    judged: int
    good: float
    win_rate: float

    @property
    def line(self) -> str:
        return (
            f"{self.generated:6d} | {self.judged:6d} | {self.cpu:5.0f} | {self.wall:5.0f} | {self.good:.3f} | "
            f"{self.win_rate:.3f}"
        )


class Plain:
    """The script in a folder of its own."""

    name = "own script"

    def __init__(self, home: Path, rows: Sequence[Mapping[str, Any]], threads: int, seed: int) -> None:
        from sandbox.models import folder

        home.mkdir()
        self.home, self.threads = home, threads
        write_rows(home / "prompts.jsonl", rows)
        common = {"per_device_train_batch_size": 32}
        config = {
            "policy": str(folder("policy")), "evaluator": str(folder("evaluator")), "batch": 64, "threads": threads,
            "seed": seed,
            "judge_tokens": 1, "max_tokens": 96, "rounds": 4, "samples": 4, "pairs": 3,
            "sft": {"learning_rate": 1e-3, "num_train_epochs": 3, **common},
            "dpo": {"learning_rate": 2e-4, "num_train_epochs": 2, "beta": 1.0, **common},
        }  # fmt: skip
        (home / "config.json").write_text(json.dumps(config))

    def constitution(self, constitution: Constitution) -> None:
        fields = ("id", "comparison", "critique", "revision", "weight")
        told = [{name: getattr(p, name) for name in fields} for p in constitution]
        (self.home / "principles.json").write_text(json.dumps(told))

    def loop(self, kill: float = 0.0) -> Ran | None:
        took = run([sys.executable, SCRIPT, self.home], self.home, self.threads, kill)
        if took is None:
            return None
        result = json.loads((self.home / "result.json").read_text())
        told = [truth.classify((Message("user", row["prompt"]),), row["after"])["good"] for row in result["answers"]]
        return Ran(*took, result["generated"], result["judge calls"], sum(told) / len(told), result["win rate"])

    def amend(self, constitution: Constitution) -> Ran | None:
        self.constitution(constitution)
        return self.loop()

    def lines(self) -> int:
        return _lines(SCRIPT.read_text())


class Precept:
    """A project of precept's in a folder of its own, by its command line."""

    name = "precept"

    def __init__(self, home: Path, rows: Sequence[Mapping[str, Any]], threads: int, seed: int) -> None:
        home.mkdir()
        self.home, self.threads = home, threads
        write_rows(home / "prompts.jsonl", rows)
        (home / "precept.toml").write_text(f"seed = {seed}\n{SETTINGS}")

    def constitution(self, constitution: Constitution) -> None:
        (self.home / "principles.yaml").write_text(constitution.source)

    def loop(self, kill: float = 0.0) -> Ran | None:
        return self._command(["improve", "--json"], kill)

    def amend(self, constitution: Constitution) -> Ran | None:
        self.constitution(constitution)
        ratify = precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "said it in other words")
        ratified = run(ratify, self.home, self.threads)
        done = self._command(["retrain", "--json"])
        assert ratified is not None and done is not None
        return replace(done, wall=done.wall + ratified[0], cpu=done.cpu + ratified[1])

    def lines(self) -> int:
        return _lines(SETTINGS)

    def _command(self, arguments: Sequence[str], kill: float = 0.0) -> Ran | None:
        out = self.home / "result.json"
        took = run(precept(*arguments), self.home, self.threads, kill, out)
        if took is None:
            return None
        result = json.loads(out.read_text())
        calls = result["calls"]
        good, win_rate = result["after"]["gold_good"], result["win_rate"]["mean"]
        return Ran(*took, calls["generated"], calls["chosen"], good, win_rate)


def precept(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", *arguments]


def run(
    command: Sequence[Any], home: Path, threads: int, kill: float = 0.0, out: Path | None = None
) -> tuple[float, float] | None:
    """The wall and CPU seconds that a command took; None where it was killed after `kill` seconds."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with (out or home / "out").open("w") as stdout, (home / "err").open("a") as stderr:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=home, env=environment, stdout=stdout, stderr=stderr,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(kill or None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
    if code:
        sys.exit(f"{command} ended with {code}:\n{(home / 'err').read_text()[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, spent


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _lines(text: str) -> int:
    """Lines that somebody has to write: not empty and no comments."""
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in text.splitlines())


def amended(constitution: Constitution, name: str) -> Constitution:
    """The constitution with one principle's question in other words."""
    was = constitution[name].comparison
    return loading.parse(constitution.source.replace(was, AMENDED[name]), "principles.yaml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=120, help="training prompts, about")
    parser.add_argument("--heldout", type=int, default=100, help="held-out prompts, about")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3, help="loops; the first one is amended and killed")
    given = parser.parse_args()
    from sandbox import prompts as world

    constitution = loading.load(ROOT / "principles.yaml")
    rows = [
        {"prompt": p.messages[-1].content, "split": p.split, "tags": list(p.tags)}
        for p in world.prompts(train=given.train, heldout=given.heldout)
    ]
    home = Path(tempfile.mkdtemp(prefix="precept-adoption-"))
    sides = (Plain, Precept)
    print("|  | who | generated | judge calls | CPU s | wall s | good by truth | win rate, own |")
    print("|---|---|---|---|---|---|---|---|")

    def tell(what: str, who: str, ran: Ran | None) -> Ran:
        assert ran is not None
        print(f"| {what} | {who} | {ran.line} |", flush=True)
        return ran

    try:
        for side in sides:
            made = side(home / side.__name__, rows, given.threads, 0)
            made.constitution(constitution)
            whole = tell("loop, seed 0", side.name, made.loop())
            changed = constitution
            for name in AMENDED:
                changed = amended(changed, name)
                tell(f"amend {name}", side.name, made.amend(changed))
            made = side(home / f"killed-{side.__name__}", rows, given.threads, 0)
            made.constitution(constitution)
            if made.loop(kill=whole.wall / 2) is None:
                tell("the rest, killed half way", side.name, made.loop())
            for seed in range(1, given.seeds):
                made = side(home / f"{side.__name__}-{seed}", rows, given.threads, seed)
                made.constitution(constitution)
                tell(f"loop, seed {seed}", side.name, made.loop())
        print()
        for side in sides:
            lines = side(home / f"lines-{side.__name__}", rows, 1, 0).lines()
            print(f"{side.name}: {lines} lines beside the principles")
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
