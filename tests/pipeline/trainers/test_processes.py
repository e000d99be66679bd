"""What processes tell each other: real ones, over gloo."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.trainers import __main__ as program
from pipeline.trainers.progress import Interruption
from pipeline.trainers.trainer import Job

ROOT = Path(__file__).parents[3]
EACH = """
import os
import torch
from constitution.errors import UserError
from pipeline.trainers import processes

rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
together = processes.join(rank, count, "cpu")
assert together == processes.current() == processes.Processes(rank, count)

# 0.1 and 0.2 have no exact sum: all have the same bits of it, and so in place
assert together.sum(0.1 * (rank + 1)) == 0.1 + 0.2
assert together.any(rank == 1) and not together.any(False)
drawn = [torch.randn(1000, generator=torch.Generator().manual_seed(n)) for n in range(count)]
mine, other = drawn[rank].clone(), torch.ones(2)
together.add([mine, other])
assert torch.equal(mine, drawn[0] + drawn[1]) and other.tolist() == [2.0, 2.0]

assert together.gather([rank]) == [[0], [1]]  # a list is one value
assert together.gather({"rank": rank, "texts": ["\\ud800"]}) == [{"rank": n, "texts": ["\\ud800"]} for n in range(2)]
assert together.pool(lambda: [rank, rank]) == [0, 0, 1, 1]
assert together.once(lambda: {"rank": rank}) == {"rank": 0}

def fail(who):
    if rank == who:
        raise UserError(f"of {rank}")
    return []

for who, do in ((1, together.pool), (0, together.once)):
    try:
        do(lambda: fail(who))
    except UserError as error:
        assert str(error) == f"of {who}"
    else:
        raise AssertionError("nobody told the others")
def say(text):  # in one piece: both write to one pipe
    os.write(1, f"{text} {rank}\\n".encode())

together.in_turn(lambda: say("turn"))
together.wait()
say("fine")
torch.distributed.destroy_process_group()
"""


@pytest.mark.timeout(200)
def test_they_hear_the_same_and_a_mistake_of_one_is_told_to_all(tmp_path: Path) -> None:
    (tmp_path / "each.py").write_text(EACH)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, str(tmp_path / "each.py")], capture_output=True, text=True, env=env, timeout=180)
    assert done.returncode == 0, done.stderr[-4000:]
    said = done.stdout.splitlines()
    assert said[:2] == ["turn 1", "turn 0"] and sorted(said[2:]) == ["fine 0", "fine 1"]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_mistake_of_all_is_told_before_the_launcher_ends_the_one_that_tells(
    rank: int, make_job: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job("dpo", loss_type=["ipo"]).write(tmp_path / "job.json")
    waited: list[float] = []
    monkeypatch.setattr(program.time, "sleep", waited.append)
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = io.StringIO()
    code = program._train_all([str(tmp_path / "job.json")], told, Interruption(), keep_going=False)
    assert code == program.EXIT_CODES["user_error"]
    assert (bool(told.getvalue()), waited) == ((True, []) if rank == 0 else (False, [program.GRACE]))
