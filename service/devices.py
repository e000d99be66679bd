"""Which devices there are and which a setting names, without torch: whoever only places models need not import it.

A device is named as torch names it, `cpu` or `cuda:1`, counted among those that CUDA_VISIBLE_DEVICES leaves; `cuda` is
the first. Several that hold one model, or that train it together, are `cuda:0,1`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from service.settings import RoleSettings

PATTERN = re.compile(r"auto|cpu|cuda(:\d+(,\d+)*)?")
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Device:
    """`memory`: bytes, None where nobody tells. `number`: what CUDA_VISIBLE_DEVICES calls it; "" of the CPU."""

    name: str
    memory: float | None
    number: str = ""


def there() -> tuple[Device, ...]:
    """The GPUs that this process may use, in the order in which it counts them: by nvidia-smi,
    and by CUDA_VISIBLE_DEVICES; none without either."""
    given = os.environ.get(VISIBLE)
    found = _asked()
    if given is None:
        return tuple(Device(f"cuda:{place}", memory, number) for place, (number, _, memory) in enumerate(found))
    numbers = list(takewhile(lambda number: number not in ("", "-1"), map(str.strip, given.split(","))))
    memory = [next((m for n, uuid, m in found if number in (n, uuid)), None) for number in numbers]
    return tuple(Device(f"cuda:{place}", memory[place], number) for place, number in enumerate(numbers))


def _asked() -> tuple[tuple[str, str, float | None], ...]:
    program = shutil.which("nvidia-smi")
    return _listed(program) if program else ()


@cache
def _listed(program: str) -> tuple[tuple[str, str, float | None], ...]:
    """Of each GPU: its number, its UUID, and its bytes."""
    command = [program, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[part.strip() for part in line.split(",")] for line in said.splitlines() if line.count(",") == 2]
    return tuple((index, uuid, float(mib) * 2**20 if mib.isdecimal() else None) for index, uuid, mib in rows)


def named(setting: str, where: str = "device") -> tuple[str, ...]:
    """The names of the devices that a setting means: "auto" is a GPU where there is one. Raises UserError for what is
    no device."""
    if not PATTERN.fullmatch(setting):
        raise UserError(f"{where} is {setting!r}; it must be auto, cpu, cuda, or as cuda:1, or as cuda:0,1")
    if setting == "auto":
        return ("cuda:0",) if there() else ("cpu",)
    if setting == "cpu":
        return ("cpu",)
    numbers = dict.fromkeys(int(n) for n in (setting.partition(":")[2] or "0").split(","))
    return tuple(f"cuda:{number}" for number in numbers)


def of_role(role: RoleSettings, where: str = "device") -> tuple[str, ...]:
    """Where a role's engine is. Of a server that is what its settings say, or else nowhere here."""
    return () if role.base_url and role.device == "auto" else named(role.device, where)


def of(names: Sequence[str], where: str = "device") -> list[Device]:
    """Those devices. Raises UserError for a GPU that is not here."""
    known = {device.name: device for device in there()}
    found = []
    for name in names:
        if name == "cpu":
            found.append(Device("cpu", _machine()))
            continue
        if name not in known:
            here = ", ".join(known) or "none"
            raise UserError(f"{where} names {name}; the GPUs that can be used here are: {here}")
        found.append(known[name])
    return found


def _machine() -> float | None:
    try:
        found = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    return float(found[1]) * 1024 if found else None


def seen_by(names: Sequence[str]) -> dict[str, str]:
    """The environment of a process that is to see these devices and no more. One that is not known here goes by its
    place, and the process will say that it is not there."""
    known = {device.name: device.number for device in there()}
    if not known and VISIBLE in os.environ:
        return {VISIBLE: os.environ[VISIBLE]}  # all are hidden
    numbers = [known.get(name, name.partition(":")[2]) for name in names if name != "cpu"]
    return {VISIBLE: ",".join(numbers)}


def inside(spec: Any) -> Any:
    """What describes a reward or a judge, for a process that sees its own devices alone: a GPU is the first of them."""
    if isinstance(spec, Mapping):
        gpu = str(spec.get("device", "")).startswith("cuda") and not spec.get("base_url")
        return {key: "cuda" if gpu and key == "device" else inside(value) for key, value in spec.items()}
    return spec


def addresses(spec: Any) -> set[str]:
    """The servers that a reward or a judge asks."""
    if not isinstance(spec, Mapping):
        return set()
    given = spec.get("base_url") or ()
    own = {given} if isinstance(given, str) else set(map(str, given))
    return own.union(*map(addresses, spec.values()))
