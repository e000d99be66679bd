"""What runs where, and whether it fits: for each device the models that are asked on it and the training that it has,
in bytes, by arithmetic on the models' files. Nothing is loaded.

While models are asked, those of all roles are in memory, of the policies one alone (`Wiring.policy`); where they do not
fit together they take turns, each alone in memory while it is asked (`Wiring.turns`). While one is trained, the others
have given their memory back (`Wiring.make_room`), and so the two sums do not add up. What has to fit is the least that
works: one text and one row at a time, because a batch that does not fit is halved.

A server's memory is its own: it is shown, and counted as nothing. So is a model that is not in a folder here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from constitution.records import Prompt
from pipeline import trainers
from pipeline.trainers import memory
from pipeline.trainers.trainer import Job
from service import devices
from service.settings import RoleSettings, Settings
from service.wiring import Wiring

ROLES = ("policy", "critic", "judge", "evaluator")
STEPS = ("sft", "reward", "optimise")


@dataclass(frozen=True)
class OnDevice:
    """Bytes, by what they are for. `asked`: of each role; `training` of the step that takes most, in its own process,
    and `at_batch` what it takes at its whole batch."""

    device: devices.Device
    asked: Mapping[str, float] = field(default_factory=dict)
    servers: tuple[str, ...] = ()
    step: str = ""
    training: Mapping[str, float] = field(default_factory=dict)
    at_batch: float = 0.0

    @property
    def turns(self) -> bool:
        """Whether the models that are asked do not fit together."""
        return self.device.memory is not None and sum(self.asked.values()) > self.device.memory

    @property
    def at_once(self) -> Mapping[str, float]:
        """What is in memory at once while models are asked: all of it, or the largest model."""
        if not self.turns:
            return self.asked
        roles = {part.partition("'")[0] for part in self.asked}
        each = [{p: b for p, b in self.asked.items() if p.partition("'")[0] == role} for role in roles]
        return max(each, key=lambda parts: sum(parts.values()))

    @property
    def most(self) -> float:
        return max(sum(self.at_once.values()), sum(self.training.values()))

    @property
    def fits(self) -> bool:
        return self.device.memory is None or self.most <= self.device.memory

    def as_dict(self) -> dict[str, Any]:
        return {
            "device": self.device.name, "memory": self.device.memory, "fits": self.fits,
            "asked": dict(self.asked), "turns": self.turns, "servers": list(self.servers),
            "step": self.step, "training": dict(self.training), "training_at_batch": self.at_batch,
        }  # fmt: skip

    def lines(self) -> list[str]:
        of = f" of {memory.size(self.device.memory)}" if self.device.memory else ""
        found = []
        if self.asked:
            more = f", by turns, {memory.size(sum(self.at_once.values()))} at once" if self.turns else ""
            found.append(f"asking {memory.size(sum(self.asked.values()))}{of}{more}: {_sum(self.asked)}")
        if self.training:
            more = f", {memory.size(self.at_batch)} with whole batches" if self.at_batch else ""
            found.append(f"training {memory.size(sum(self.training.values()))}{of} ({self.step}{more})")
            found[-1] += f": {_sum(self.training)}"
        if self.servers:
            found.append(f"servers {', '.join(self.servers)}, which keep a memory of their own")
        return [f"{self.device.name} {line}" for line in found]


@dataclass(frozen=True)
class Placement:
    each: tuple[OnDevice, ...]
    processes: int

    def as_dict(self) -> dict[str, Any]:
        return {"devices": [each.as_dict() for each in self.each], "processes": self.processes}

    def lines(self) -> list[str]:
        together = [f"{self.processes} processes train together"] if self.processes > 1 else []
        return [line for each in self.each for line in each.lines()] + together

    @property
    def refused(self) -> list[str]:
        """Why it cannot be: a line for each device that what is on it does not fit."""
        found = []
        for each in self.each:
            for what, parts in (("what is asked", each.at_once), (f"the training ({each.step})", each.training)):
                total = sum(parts.values())
                if each.device.memory is not None and total > each.device.memory:
                    found.append(
                        f"{each.device.name} has {memory.size(each.device.memory)}, and {what} needs at least "
                        f"{memory.size(total)}: {_sum(parts)}"
                    )
        return found


def training_devices(settings: Settings) -> tuple[str, ...]:
    """Where the training runs; one device, unless the placement names several."""
    if settings.placement.training:
        return devices.named(settings.placement.training, "placement.training")
    return devices.named(settings.policy.device, "policy.device")[:1]


def family(settings: Settings) -> str:
    """What a training job calls its device: of those that it sees, it has the first."""
    return (settings.placement.training or settings.policy.device).partition(":")[0]


def processes(settings: Settings) -> int:
    """How many train together."""
    names = training_devices(settings)
    return settings.placement.processes or (len(names) if names[0] != "cpu" else 1)


def local(settings: Settings, roles: Sequence[str], trains: bool) -> tuple[str, ...]:
    """The devices of this machine that a flow which asks these roles works on."""
    asked = [(f"{name}.device", getattr(settings, name)) for name in roles]
    names = [name for where, role in asked if role is not None for name in devices.of_role(role, where)]
    return tuple(sorted({*names, *(training_devices(settings) if trains else ())}))


def check_settings(settings: Settings) -> None:
    """Raises UserError for a placement that contradicts itself or the training."""
    names, count = training_devices(settings), processes(settings)
    gpus = [name for name in names if name != "cpu"]
    if gpus and count > len(gpus):
        raise UserError(f"placement.processes is {count}, and placement.training names {len(gpus)}: each needs one")
    if gpus and count < len(gpus):
        raise UserError(
            f"placement.training names {len(gpus)} devices, and placement.processes is {count}: one process has one; "
            "leave placement.processes out"
        )
    if settings.placement.accelerate and not Path(settings.placement.accelerate).is_file():
        raise UserError(f"placement.accelerate names {settings.placement.accelerate}, which is not a file")
    if count > 1 and settings.optimise.method == "best_of_n":
        raise UserError("best_of_n trains in one process: set placement.processes = 1, with one device")


def placed(wiring: Wiring, prompts: Sequence[Prompt], trains: bool = True, roles: Sequence[str] = ROLES) -> Placement:
    """The placement of a flow under a wiring's settings. Raises UserError for a device that is not here."""
    settings = wiring.settings
    asked: dict[str, dict[str, float]] = {}
    servers: dict[str, list[str]] = {}
    where: dict[str, str] = {}  # the first setting that names a device
    seen: dict[tuple[str, str, str], str] = {}  # a model that two roles share is one
    length = max((sum(len(m.content) for m in p.messages) for p in prompts), default=0) / memory.CHARACTERS
    for name in roles:
        role: RoleSettings | None = getattr(settings, name)
        if role is None:
            continue
        for device in devices.of_role(role):
            where.setdefault(device, f"{name}.device")
            if role.base_url:
                servers.setdefault(device, []).append(f"{name} ({', '.join(role.addresses)})")
                continue
            folder = _folder(wiring, role)
            if folder is None or (str(folder), role.dtype, device) in seen:
                continue
            seen[str(folder), role.dtype, device] = name
            tokens = length + role.max_tokens + memory.TEMPLATE
            for part, size in memory.to_answer(folder, role.dtype, tokens).items():
                asked.setdefault(device, {})[f"{name}'s {part}"] = size
    training: dict[str, tuple[str, memory.Memory, memory.Memory]] = {}
    if trains and (found := max(_steps(wiring, length), key=lambda step: step[1].total, default=None)):
        training = dict.fromkeys(training_devices(settings), found)
        for device in training:
            where.setdefault(device, "placement.training" if settings.placement.training else "policy.device")
        if training_devices(settings) == ("cpu",):
            count = processes(settings)
            least = memory.Memory({part: size * count for part, size in found[1].parts.items()})
            training = {"cpu": (found[0], least, memory.Memory({"": found[2].total * count}))}
    names = sorted({*asked, *servers, *training})
    each = []
    for one in (device for name in names for device in devices.of([name], where[name])):
        on = OnDevice(one, asked.get(one.name, {}), tuple(servers.get(one.name, ())))
        if one.name in training:
            step, least, whole = training[one.name]
            on = replace(on, step=step, training=least.parts, at_batch=whole.total)
        each.append(on)
    return Placement(tuple(each), processes(settings) if trains else 1)


def _steps(wiring: Wiring, length: float) -> Iterator[tuple[str, memory.Memory, memory.Memory]]:
    """Each training step: its name, and what one of its processes takes, with one row at a time and with whole
    batches. A step whose method tells no columns that are known here counts as others do."""
    settings, count = wiring.settings, processes(wiring.settings)
    folder = _folder(wiring, settings.policy)
    if folder is None:
        return
    for name in STEPS:
        step = getattr(settings, name)
        shared = settings.arguments.get(step.method, {}) if name == "optimise" else {}
        job = Job(
            id="", method=step.method, model=str(folder), out="", dataset="",
            arguments={**shared, **step.arguments}, lora=step.lora, dtype=settings.policy.dtype,
            device=training_devices(settings)[0].partition(":")[0],
            reward={"paths": [str(folder)] * settings.reward.models} if _rewarded(settings, name) else None,
        )  # fmt: skip
        arguments = trainers.resolve(step.method, job.arguments)
        answer = float(arguments.get("max_completion_length") or settings.policy.max_tokens)
        longest = length + answer + memory.TEMPLATE
        if limit := arguments.get("max_length"):
            longest = min(longest, float(limit))
        parted = count if settings.placement.accelerate else 1
        found = [memory.at(job, longest, min(answer, longest), count, least=least) for least in (True, False)]
        yield f"{name} by {step.method}", *(_parted(each, parted) for each in found)  # type: ignore[misc]


def _parted(needed: memory.Memory, processes: int) -> memory.Memory:
    """Where processes hold parts of a model: what is theirs of weights, gradients and the optimiser."""
    shared = ("weights", "gradients", "AdamW", "critic", "reference")
    return memory.Memory({part: size / processes if part in shared else size for part, size in needed.parts.items()})


def _rewarded(settings: Settings, step: str) -> bool:
    online = getattr(trainers.load(settings.optimise.method), "ONLINE", False)
    return step == "optimise" and online and settings.optimise.reward.get("kind", "model") == "model"


def _folder(wiring: Wiring, role: RoleSettings) -> Path | None:
    """Where a role's model lies, if that is a folder here with weights that can be read."""
    try:
        folder = Path(wiring.resolve(role.model))
        if role.kind != "transformers" or not folder.is_dir():
            return None
        memory.to_answer(folder, role.dtype, 0)
    except (UserError, OSError, ValueError, KeyError):
        return None
    return folder


def _sum(parts: Mapping[str, float]) -> str:
    return " + ".join(f"{name} {memory.size(size)}" for name, size in parts.items() if size)
