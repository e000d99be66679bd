"""The processes of one job: this one alone, or those that `accelerate launch` (or torchrun) started for it.

    accelerate launch --config_file docs/accelerate/ddp.yaml -m pipeline.trainers JOB.json

All of them run the same code on their share of every batch. The first alone checks the job, holds its lock and writes
its progress, manifest and checkpoint; what it found, a mistake as well, the others are told. A job's batch is that of
the whole job, so its id, its batches and its losses do not depend on how many processes there are.

What they tell each other goes by accelerate's operations where one does what is wanted; what it lacks is a mistake that
all are told of, and a sum in place. Imports torch and accelerate where there are several, and not before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
PATIENCE = 3 * 3600.0  # seconds that they wait for the first, which measures a model alone


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
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def any(self, flag: bool) -> bool:
        """Whether any of them says so."""
        return flag if self.count == 1 else bool(self.sum(float(flag)))

    def sum(self, value: float) -> float:
        """The sum of all their values."""
        if self.count == 1:
            return value
        import torch
        from accelerate import PartialState
        from accelerate.utils import reduce

        here = torch.tensor(value, dtype=torch.float64, device=PartialState().device)
        return float(reduce(here, "sum").item())

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Each tensor becomes, in place, the sum of what all of them have there: the same bits in each."""
        if self.count == 1:
            return
        import torch.distributed  # accelerate's `reduce` sums a copy: here that would be one of all the gradients

        for tensor in tensors:
            torch.distributed.all_reduce(tensor)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This one's part of what they do together. In their order, the parts are the whole."""
        return items[len(items) * self.index // self.count : len(items) * (self.index + 1) // self.count]

    def gather(self, value: Any) -> list[Any]:
        """What each of them gave, in their order."""
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        values: list[Any] = gather_object([value])
        return values

    def pool(self, work: Callable[[], Sequence[T]]) -> list[T]:
        """What `work` returned in each, in their order, as one list. Where it raised in one of them it raises in all:
        nobody waits for one that is gone. (`gather_object` alone leaves the others waiting for the one that raised.)"""
        if self.count == 1:
            return list(work())
        part: Sequence[T] = ()
        error: Exception | None = None
        try:
            part = work()
        except Exception as caught:
            error = caught
        parts = self.gather((part, error))
        for _, each in parts:
            if each is not None:
                raise each
        return [item for part, _ in parts for item in part]

    def in_turn(self, work: Callable[[], None]) -> None:
        """The first process last: it may write what the others read. (accelerate's `main_process_first` is the other
        way round.)"""
        if self.first:
            self.wait()
        work()
        if not self.first:
            self.wait()

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
        from accelerate.utils import broadcast_object_list

        [(result, error)] = broadcast_object_list([(result, error)])
        if error is not None:
            raise error
        return cast(T, result)


def join(index: int, count: int, device: str) -> Processes:
    """Meet the other processes (gloo on a CPU, NCCL on GPUs); with one process there is nothing to do. `device` is
    the job's."""
    if count > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=device == "cpu" or not torch.cuda.is_available(), timeout=timedelta(seconds=PATIENCE))
    return Processes(index, count)


def current() -> Processes:
    """Those that have met in `join`."""
    if "torch.distributed" not in sys.modules:
        return Processes()
    import torch.distributed

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return Processes()
    return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size())


def sharded() -> bool:
    """Whether they were launched to hold parts of the model (FSDP), not each the whole."""
    from accelerate.utils import parse_flag_from_env

    return bool(parse_flag_from_env("ACCELERATE_USE_FSDP"))


def allow_fsdp() -> None:
    """accelerate 1.15 turns FSDP on for accelerators alone; torch's own runs on gloo, too. Call it after transformers
    has set up its devices, and before a trainer is made."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    state = PartialState()
    if state.distributed_type == DistributedType.MULTI_CPU and sharded():
        state.distributed_type = DistributedType.MULTI_GPU
