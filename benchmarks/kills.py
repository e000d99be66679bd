"""Kill -9 at random moments, run again, and compare with a run that was never killed.

    python -m benchmarks.kills [--kills 50] [--seed 0]

Each trial answers, criticises, revises and judges under the `scripted` engine in a process of its own, which is killed
at a random moment and started again until it ends. Then the store must hold the same slots as the clean run's, none
twice and byte-equal, and the models must have been asked at most what was in flight more. `tests/flows/test_killed.py`
does a few of these; this does many.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text

SCRIPT = """
rules:
  - {contains: "Write only the new reply.", sleep: 0.004, texts: [Better so., "Mended, short.", As it is., Better.]}
  - {match: "^(Find|Say)", sleep: 0.004, texts: [It is rude., It is fine.]}
  - {contains: "Answer with A or B.", sleep: 0.0005, choose: hash}
  - {sleep: 0.004, texts: [Here is how., "No.", "A long answer, with much in it.", Ask me later.]}
"""
SETTINGS = """
store = "{store}"
home = "{home}"
prompts = "{home}/prompts.jsonl"
oracle = ""
[policy]
kind = "scripted"
model = "{home}/script.yaml"
batch_size = 8
options = {{log = "{log}"}}
[critic]
kind = "scripted"
model = "{home}/script.yaml"
batch_size = 8
options = {{log = "{log}"}}
[judge]
kind = "scripted"
model = "{home}/script.yaml"
options = {{log = "{log}"}}
[evaluator]
kind = "scripted"
model = "{home}/script.yaml"
[revise]
rounds = 2
[compare]
questions_per_batch = 64
[limits]
stop_at_chance = false  # the script's judge says what a hash says
"""
DRIVE = """
import sys
from service.work import deciding, stages
from flows.session import at_work
with at_work("revise", sys.argv[1], {}) as work:
    policy = stages.start_model(work)
    stages.respond(work, "answers", policy, split="train")
    stages.revise(work, "revisions", of="answers")
    better = stages.judge_revisions(work, "revisions")
    deciding.finish(work, better=len(better["better"]))
"""
TABLES = {
    "generation": "select id, kind, prompt, content, parent, principle, round, sample, finish_reason from generation",
    "verdict": "select question, comparison, p1, p2, mass1, mass2 from verdict",
    "member": "select stage, ordinal, id from member",
    "comparison": "select id, prompt, first, second from comparison",
}


@dataclass(frozen=True)
class Outcome:
    kills: int
    asked: int  # requests that reached the engine
    needed: int  # requests of the clean run
    twice: int  # requests that were asked more than once
    contents: dict[str, list[tuple[object, ...]]]
    orphans: int  # generations whose parent or text is missing


def prepare(home: Path, prompts: int = 40, store: str | None = None) -> Path:
    """A folder with settings, script and prompts; returns the settings file."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "script.yaml").write_text(SCRIPT)
    rows = [{"prompt": f"How do I do the thing number {n}?", "split": "train"} for n in range(prompts)]
    (home / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = home / "precept.toml"
    url = store or f"sqlite:///{home}/precept.db"
    file.write_text(SETTINGS.format(home=home, store=url, log=home / "asked.log"))
    return file


def run(home: Path, kills: list[float]) -> Outcome:
    """Run to the end, killed after each of the given seconds (counted from the first request of each start)."""
    settings, log = home / "precept.toml", home / "asked.log"
    done = 0
    for after in [*kills, None]:
        before = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", DRIVE, str(settings)], stderr=subprocess.DEVNULL)
        if after is not None:
            # Starting takes longer than the work: the clock begins with the first request, or when it ends.
            while process.poll() is None and (log.stat().st_size if log.exists() else 0) == before:
                time.sleep(0.002)
            time.sleep(after)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                done += 1
        code = process.wait()
        if after is None and code:
            raise RuntimeError(f"the last run failed with code {code}")
    asked = Counter((row["kind"], row["request"]) for row in map(json.loads, log.read_text().splitlines()))
    url = next(line.split('"')[1] for line in settings.read_text().splitlines() if line.startswith("store"))
    engine = create_engine(url)
    with engine.connect() as connection:
        contents = {name: sorted(map(tuple, connection.execute(text(query)))) for name, query in TABLES.items()}
        orphans = connection.execute(
            text(
                "select count(*) from generation g where (g.parent is not null and not exists "
                "(select 1 from generation p where p.id = g.parent)) or not exists "
                "(select 1 from answer a where a.content = g.content)"
            )
        ).scalar_one()
    engine.dispose()
    total = sum(asked.values())
    return Outcome(done, total, len(asked), total - len(asked), contents, orphans)


def trial(folder: Path, kills: list[float], clean: Outcome) -> list[str]:
    """What is wrong after a run with kills, compared with a clean one; nothing when all is well."""
    prepare(folder)
    found = run(folder, kills)
    wrong = []
    for name in TABLES:
        if len(set(found.contents[name])) != len(found.contents[name]):
            wrong.append(f"{name} has a row twice")
        # Records' ids hash contents, not places: they are the same in every folder.
        if found.contents[name] != clean.contents[name]:
            wrong.append(f"{name} differs from the clean run's")
    if found.orphans:
        wrong.append(f"{found.orphans} generations lack a parent or a text")
    in_flight = found.kills * 64 * 2  # a batch of judging: 64 verdicts, two requests each
    if found.twice > in_flight:
        wrong.append(f"{found.twice} requests were asked twice, more than the {in_flight} that can have been in flight")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        prepare(root / "clean")
        clean = run(root / "clean", [])
        done, trials, failures = 0, 0, []
        while done < args.kills:
            times = [rng.uniform(0.0, 1.5) for _ in range(4)]
            failures += trial(root / f"trial{trials}", times, clean)
            done, trials = done + len(times), trials + 1
            print(f"{done} kills in {trials} runs, {len(failures)} wrong", file=sys.stderr, flush=True)
    print(json.dumps({"kills": done, "runs": trials, "requests": clean.needed, "wrong": failures}))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
