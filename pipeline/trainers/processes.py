"""The processes of one job: this one alone, or those that `accelerate launch` (or torchrun) started for it.

    accelerate launch --config_file docs/accelerate/ddp.yaml -m pipeline.trainers JOB.json

All of them run the same code on their share of every batch. The first alone checks the job, holds its lock and writes
its progress, manifest and checkpoint; what it found, a mistake as well, the others are told. A job's batch is that of
the whole job, so its id, its batches and its losses do not depend on how many processes there are.

Imports torch and accelerate where there are several, and not before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Which of how many this is. Every method is called by all of them, in the same order."""

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.index == 0

    def wait(self) -> None:
        """Return when all have come here."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.barrier()

    def any(self, flag: bool) -> bool:
        """Whether any of them says so."""
        return flag if self.count == 1 else bool(self.sum(float(flag)))

    def sum(self, value: float) -> float:
        """The sum of all their values."""
        if self.count == 1:
            return value
        import torch.distributed
        from accelerate import PartialState

        total = torch.tensor(value, dtype=torch.float64, device=PartialState().device)
        torch.distributed.all_reduce(total)
        return total.item()

    def gather(self, value: Any) -> list[Any]:
        """What each of them gave, in their order."""
        if self.count == 1:
            return [value]
        import torch.distributed

        values = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return values

    def once(self, work: Callable[[], T]) -> T:
        """What `work` returned, or raised, in the first process: the others only hear of it."""
        if self.count == 1:
            return work()
        result: Any = None
        error: Exception | None = None
        if self.first:
            try:
                result = work()
            except Exception as caught:
                error = caught
        import torch.distributed

        box = [(result, error)]
        torch.distributed.broadcast_object_list(box, src=0)
        result, error = box[0]
        if error is not None:
            raise error
        return cast(T, result)


def join(index: int, count: int, device: str) -> Processes:
    """Meet the other processes (gloo on a CPU, NCCL on GPUs); with one process there is nothing to do. `device` is
    the job's."""
    if count > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    return Processes(index, count)


def current() -> Processes:
    """Those that have met in `join`."""
    if "torch.distributed" not in sys.modules:
        return Processes()
    import torch.distributed

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return Processes()
    return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size())


def allow_fsdp() -> None:
    """accelerate 1.15 turns FSDP on for accelerators alone; torch's own runs on gloo, too. Call it after transformers
    has set up its devices, and before a trainer is made."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType, parse_flag_from_env

    state = PartialState()
    if state.distributed_type == DistributedType.MULTI_CPU and parse_flag_from_env("ACCELERATE_USE_FSDP"):
        state.distributed_type = DistributedType.MULTI_GPU
