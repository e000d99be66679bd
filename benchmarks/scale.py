"""Whether a loop takes time in proportion to its prompts, and no more memory for more: seconds and peak memory of this
process by stage.

    python -m benchmarks.scale [--prompts 1000 10000 100000] [--url postgresql://...] [--folder DIR] [--profile STAGE]

The stages of `improve` up to its data sets, on an engine that answers in microseconds: each prompt is answered,
criticised and revised once, answered twice more, and its pairs are judged under four principles, which makes 8 verdicts
a prompt. Training is replaced by nothing; its data sets are written. Then all of it again, as a run that goes on: it
asks nothing. Each count of prompts has a process of its own, and on SQLite a store; `--url` is an empty database.
`peak`: the most resident memory while a stage ran, of which `began` was there before the first.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

from pipeline.engines.engine import Capabilities, Chat, Choice, Choose, Completion, Engine, Generate, Score, Scored
from pipeline.trainers.trainer import Job
from service import settings as settings_module
from service.settings import RoleSettings
from service.wiring import Wiring
from service.work import learning, life, stages
from service.work.progress import Silent
from service.work.work import Work

HELDOUT = 20
PRINCIPLES = "constitution: scale\nversion: 1\nprinciples:\n" + "".join(
    f"  - {{id: p{n}, title: P{n}, critique: Find fault {n}., revision: Mend it {n}., comparison: Which has {n}?}}\n"
    for n in range(4)
)
SETTINGS = """\
prompts = "{home}/prompts.jsonl"
home = "{home}"
constitution = "{home}/principles.yaml"
oracle = ""
revise.rounds = 1
compare.samples = 2
compare.pairs = 1
limits.stop_at_chance = false
label.min_margin = 0.1
[policy]
kind = "scripted"
model = "{home}/policy.yaml"
[judge]
kind = "scripted"
model = "{home}/judge.yaml"
[evaluator]
kind = "scripted"
model = "{home}/judge.yaml"
"""
WORDS = "boots letter doctor baker garden ladder river kettle candle winter".split()


class Quick:
    """Answers by a checksum of the request: a few words, or any probability."""

    capabilities = Capabilities()

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def render(self, chat: Chat) -> list[int]:
        return [0] * 8

    def generate(self, requests: Sequence[Generate]) -> list[Completion]:
        return [
            Completion(f"{WORDS[r.seed % 10]} {WORDS[r.seed // 10 % 10]} {r.seed % 1_000_003}", "stop", 8, 4)
            for r in requests
        ]

    def choose(self, groups: Sequence[Choose]) -> list[list[Choice]]:
        return [[self._choice(chat) for chat in group.chats] for group in groups]

    def _choice(self, chat: Chat) -> Choice:
        p = zlib.crc32(chat.messages[-1].content.encode()) / 2**32
        return Choice((p, 1 - p), 1.0, 8)

    def score(self, requests: Sequence[Score]) -> list[Scored]:
        return [Scored(-1.0, 4, 8) for _ in requests]

    def close(self) -> None:
        pass


class QuickWiring(Wiring):
    def _engine(self, role: RoleSettings, model: str) -> Engine:
        if model not in self._engines:
            self._engines[model] = cast(Engine, Quick(Path(model).stem))
        return self._engines[model]

    def asked_judge(self, settings: Any) -> Any:
        return self.judge(settings)


class Untrained:
    """In the place of the training process: each job is done, and its model is the parent."""

    def start(self) -> None:
        pass

    def run(self, job: Job, **_: Any) -> _Result:
        kind = "reward_model" if job.method == "reward" else "policy"
        return _Result(kind, "0" * 64, {})

    def close(self) -> None:
        pass


class _Result:
    def __init__(self, kind: str, digest: str, metrics: dict[str, Any]) -> None:
        self.kind, self.digest, self.metrics = kind, digest, metrics


def write_files(home: Path, prompts: int) -> None:
    with (home / "prompts.jsonl").open("w") as file:
        for number in range(prompts + HELDOUT):
            split = "heldout" if number < HELDOUT else "train"
            said = f"How do I look after the {WORDS[number % 10]} of house {number}?"
            file.write(json.dumps({"prompt": said, "split": split, "source": "scale"}) + "\n")
    (home / "principles.yaml").write_text(PRINCIPLES)
    for name in ("policy", "judge"):
        (home / f"{name}.yaml").write_text("rules: []\n")


@contextmanager
def working(home: Path, url: str, flags: Mapping[str, Any] | None = None) -> Iterator[Work]:
    """A run at work on what `write_files` has written."""
    (home / "precept.toml").write_text(SETTINGS.format(home=home))
    settings, _ = settings_module.load(home / "precept.toml", {"store": url, **(flags or {})})
    with (
        closing(QuickWiring(settings)) as wiring,
        life.of_prompts(wiring, "improve", who="ada", report=Silent()) as work,
    ):
        work._trainers = cast(Any, Untrained())
        work.digest_of = lambda model: "0" * 64  # type: ignore[method-assign]
        yield work


def the_stages(work: Work) -> Iterator[tuple[str, Callable[[], Any]]]:
    policy, found = stages.start_model(work), dict[str, Any]()

    def keep(name: str, stage: Callable[[], Any]) -> Callable[[], None]:
        return lambda: found.__setitem__(name, stage())

    yield "respond", lambda: stages.respond(work, "answers", policy, split="train")
    yield "revise", lambda: stages.revise(work, "revisions", of="answers")
    yield "judge revisions", keep("better", lambda: stages.judge_revisions(work, "revisions"))
    yield "SFT data", lambda: learning.train_on_revisions(work, "sft", parent=policy, better=found["better"])
    yield "respond twice", lambda: stages.respond(work, "samples", policy, split="train", samples=2)
    yield (
        "held-out",
        lambda: stages.respond(work, "held-out samples", policy, split="heldout", samples=2, most=150),
    )
    yield "compare", lambda: stages.compare(work, "feedback", samples="samples", revisions="revisions")
    yield "compare held-out", lambda: stages.compare(work, "held-out feedback", samples="held-out samples")
    yield "label", keep("labels", lambda: stages.label(work, "feedback", heldout="held-out feedback"))
    yield (
        "preference data",
        lambda: learning.optimise(work, "policy", parent=policy, labels=found["labels"], reward={}),
    )


def one(home: Path, url: str, prompts: int, profile: str = "") -> dict[str, Any]:
    """The loop on so many prompts, in this process."""
    write_files(home, prompts)
    figures: dict[str, list[float]] = {"began": [0.0, _peak()]}

    def timed(name: str, stage: Callable[[], Any]) -> None:
        _reset_peak()
        began = time.perf_counter()
        if name == profile:
            with cProfile.Profile() as seen:
                stage()
            pstats.Stats(seen, stream=sys.stderr).sort_stats("tottime").print_stats(35)
        else:
            stage()
        figures[name] = [round(time.perf_counter() - began, 2), _peak()]

    for again in ("", "again: "):  # the second time all is stored: what a resumed run costs
        opened = working(home, url)
        entered: list[Work] = []
        timed(f"{again}begin", lambda opened=opened, entered=entered: entered.append(opened.__enter__()))  # type: ignore[misc]
        try:
            for name, stage in the_stages(entered[0]):
                timed(again + name, stage)
        finally:
            opened.__exit__(None, None, None)
        calls = entered[0].budget
        if again and (calls.generated or calls.judge_calls):
            raise AssertionError(f"asked again: {calls.generated} texts, {calls.judge_calls} verdicts")
        if not again:
            counted = {"generated": calls.generated, "verdicts": calls.judge_calls // 2}
    return {"prompts": prompts, **counted, "stages": figures}


def _peak() -> float:
    """MB of resident memory at most since `_reset_peak`."""
    status = Path("/proc/self/status").read_text()
    return round(int(cast(Any, re.search(r"VmHWM:\s+(\d+)", status))[1]) / 1024)


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def show(found: Sequence[dict[str, Any]]) -> None:
    names = list(found[0]["stages"])
    head = "".join(f"{each['prompts']:>12,} prompts   " for each in found)
    print(f"{'':24}{head}")
    print(f"{'':24}" + "".join(f"{'s':>9}{'us each':>9}{'peak MB':>8} " for _ in found))
    for name in names:
        cells = ""
        for each in found:
            seconds, peak = each["stages"][name]
            cells += f"{seconds:>9.2f}{1e6 * seconds / each['prompts']:>9.0f}{peak:>8.0f} "
        print(f"{name:24}{cells}")
    for each in found:
        total = sum(seconds for name, (seconds, _) in each["stages"].items())
        peak = max(peak for _, peak in each["stages"].values())
        print(
            f"{each['prompts']:,} prompts, {each['generated']:,} texts, {each['verdicts']:,} verdicts: "
            f"{total:.1f} s, {1e6 * total / each['prompts']:.0f} us a prompt, peak {peak:.0f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--url", help="an empty Postgres database; SQLite in a temporary folder without it")
    parser.add_argument("--folder", help="where the temporary folder is made")
    parser.add_argument("--profile", default="", help="the name of a stage; its profile goes to standard error")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        home = Path(arguments.one)
        url = arguments.url or f"sqlite:///{home}/scale.db"
        print(json.dumps(one(home, url, arguments.prompts[0], arguments.profile)))
        return
    found = []
    for prompts in arguments.prompts:  # each in a process of its own, whose peak is its own
        with tempfile.TemporaryDirectory(dir=arguments.folder) as home:
            command = [sys.executable, "-m", "benchmarks.scale", "--one", home, "--prompts", str(prompts)]
            command += ["--url", arguments.url] if arguments.url else []
            command += ["--profile", arguments.profile] if arguments.profile else []
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found.append(json.loads(done.stdout))
        show(found[-1:])
    if len(found) > 1:
        show(found)


if __name__ == "__main__":
    main()
