"""`python -m pipeline.trainers JOB.json [JOB2.json ...]`: train jobs in order, one process for all.

With `--serve`, job files are read from standard input, one a line, and TRL is imported while waiting for the first;
the end of the input ends the process (a training in progress saves its state first).

`--serve N [CONFIG]` trains each in N processes (`launching`), with a configuration file of accelerate's.

Standard output holds events only, one JSON object a line: `{"event": "step", ...}`, `said` (with a `message`: a server
does not answer), then one of `done` (with the manifest), `user_error`, `stopped`, `interrupted`, `failed` (each with a
`message`). All else goes to standard error.
Under `accelerate launch` several processes train the jobs that are named (see `processes`), and the first of them
tells the events; its exit code is the launcher's own, 1 for anything but 0.
`--arguments METHOD` lists the arguments that a method reads, with their defaults, and trains nothing.
Exit codes: 0, 2 for a user's mistake, 3 for a stopped training, 130 for an interruption, 1 for a bug.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

# Seconds. A launcher ends all processes as soon as one has ended: the first, which tells why, has to be that one.
GRACE = 10.0
EXIT_CODES = {"done": 0, "user_error": 2, "stopped": 3, "interrupted": 130, "failed": 1}


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--arguments"] and len(arguments) == 2:
        return _list_arguments(arguments[1])
    # Chatter of the libraries must not mix with the events, whoever prints it and from whichever language.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)

    from pipeline.trainers.progress import Interruption

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("pipeline.trainers").setLevel(logging.INFO)
    logging.getLogger("pipeline.engines.openai_transport").addHandler(_Said(events))
    interruption = Interruption()
    signal.signal(signal.SIGINT, interruption)
    try:
        if arguments[:1] == ["--serve"] and len(arguments) in (2, 3):
            from pipeline.trainers import launching

            count, config = int(arguments[1]), "".join(arguments[2:])
            lines = _lines(interruption)
            launching.serve(
                count, config, lines, lambda event, fields: _emit(events, event, dict(fields)), interruption
            )
            return 0
        if arguments == ["--serve"]:
            return _train_all(_served(interruption), events, interruption, keep_going=True)
        if not arguments or arguments[0].startswith("-"):
            print(__doc__, file=sys.stderr)
            return 2
        return _train_all(arguments, events, interruption, keep_going=False)
    except KeyboardInterrupt:
        return EXIT_CODES["interrupted"]


def _list_arguments(method: str) -> int:
    from constitution.errors import UserError
    from pipeline import trainers
    from pipeline.trainers.arguments import listed

    try:
        print("\n".join(listed(trainers.load(method.replace("-", "_")))))
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_CODES["user_error"]
    return 0


# Before torch is imported: threads that spin while they wait cost a busy machine most of its time.
QUIET = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
}


def _train_all(files: Iterable[str], events: TextIO, interruption: Any, *, keep_going: bool) -> int:
    code = 0
    for file in files:
        event, fields = _train(file, events, interruption)
        _emit(events, event, fields)
        code = EXIT_CODES[event]
        interruption.requested = False
        _make_room()
        if code and not keep_going:
            if _launched()[0] != 0:
                time.sleep(GRACE)
            break
    return code


def _train(file: str, events: TextIO, interruption: Any) -> tuple[str, dict[str, Any]]:
    from constitution.errors import UserError
    from pipeline.trainers.runner import run
    from pipeline.trainers.trainer import Job, TrainingStopped

    try:
        job = Job.read(Path(file))
        manifest = run(
            job,
            on_step=lambda line: _emit(events, "step", line),
            interruption=interruption,
            launched=_launched(),
        )
        return "done", {"manifest": dataclasses.asdict(manifest)}
    except UserError as error:
        return "user_error", {"message": str(error)}
    except TrainingStopped as stop:
        return "stopped", {"message": str(stop), "good_steps": stop.good_steps}
    except KeyboardInterrupt:
        return "interrupted", {"message": "interrupted; run it again to go on"}
    except Exception as error:
        traceback.print_exc()
        return "failed", {"message": f"{type(error).__name__}: {error}"}


def _make_room() -> None:
    """What a job held is given back: the process is kept, and others need the device meanwhile."""
    torch = sys.modules.get("torch")
    if torch is not None:
        gc.collect()
        torch.cuda.empty_cache()


class _Said(logging.Handler):
    """What an engine says while it is asked (its server does not answer) goes to whoever waits for the training."""

    def __init__(self, events: TextIO) -> None:
        super().__init__()
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        _emit(self._events, "said", {"message": record.getMessage()})


_emitting = threading.Lock()  # an engine asks in a thread of its own


def _launched() -> tuple[int, int]:
    """Which of how many processes this is, as `accelerate launch` and torchrun say it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def _emit(events: TextIO, event: str, fields: dict[str, Any]) -> None:
    if _launched()[0] != 0:
        return
    try:
        with _emitting:
            events.write(json.dumps({"event": event, **fields}) + "\n")
            events.flush()
    except BrokenPipeError:  # nobody listens any more; `_served` sees to it that the training ends
        pass


def _served(interruption: Any) -> Iterator[str]:
    lines = _lines(interruption)
    import_training_libraries()
    yield from lines


def _lines(interruption: Any) -> Iterator[str]:
    """The job files that come in, from now on."""
    lines: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line.strip())
        # The process that asked is gone: what it asked for is saved and given up, not trained on as an orphan.
        interruption.requested = True
        lines.put(None)

    threading.Thread(target=listen, daemon=True).start()
    return iter(lines.get, None)


def import_training_libraries() -> None:
    """The long imports, and then their half a million objects out of the garbage collector's way: training calls it,
    and it would look through them all (0.3 s each time)."""
    import datasets
    import trl.trainer.dpo_trainer
    import trl.trainer.reward_trainer
    import trl.trainer.sft_trainer  # noqa: F401

    datasets.disable_progress_bars()
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
