"""Going on with a run: its settings and its constitution are those it began with, whatever the files say by now.

Limits, devices, batch sizes, and where things are kept, come from the settings of now. Running it is the flow's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitution.errors import UserError
from service.identity import PATIENCE

if TYPE_CHECKING:
    from service.settings import RoleSettings, Settings
    from storage.runs import Run


@dataclass(frozen=True)
class Resumption:
    """The run, and the flags that its flow is to be called with, beside the settings' file of now."""

    run: Run
    flags: Mapping[str, Any]


def resume(name: str, file: Path | None, own: Mapping[str, Any]) -> Resumption:
    """What is needed to go on with a run. `file` and `own` are the settings of now, as `service.settings.load` takes
    them; `own` stands over what the run began with.

    Raises UserError where there is no such run, it is no flow's, or a file that it names is not what it was.
    """
    from service.settings import load
    from service.wiring import Wiring

    now, _ = load(file, own)
    with closing(Wiring(now)) as wiring:
        run = wiring.store.run(name)
        text = wiring.store.constitution(run.constitution or "")
    flags = as_it_began(run, now, text) | dict(own)
    check_same(run, load(file, flags)[0])
    return Resumption(run, flags)


def as_it_began(run: Run, now: Settings, constitution: str | None) -> dict[str, Any]:
    """The flags that make today's settings those of the run. Its constitution is written out beside its other files,
    because the file it was read from may say something else by now."""
    from service.settings import RoleSettings

    try:
        flags: dict[str, Any] = json.loads(json.dumps(run.settings["settings"]))
        flags["slot"] = json.loads(run.key)["slot"]
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"run {run.id.hex()[:12]} ({run.kind}) is not a flow's: there is nothing to go on with"
        ) from None
    if run.settings.get("prompts"):  # where they lie; which they are is in the key
        flags["prompts"] = run.settings["prompts"]
    for name, role in flags.items():
        today = getattr(now, name, None)
        if isinstance(role, dict) and isinstance(today, RoleSettings):  # what of a role is not part of the run
            role |= {key: getattr(today, key) for key in ("device", "batch_size", "api_key_env")}
            _where_it_is_now(role, today)
    if constitution is not None:
        from storage.artifacts import write_text

        path = Path(now.home) / run.id.hex()[:12] / "principles.yaml"
        write_text(path, constitution)
        flags["constitution"] = str(path)
    return flags


def _where_it_is_now(role: dict[str, Any], today: RoleSettings) -> None:
    """A server may have moved since, and be asked more patiently: its address and patience are today's, where today's
    settings name a server at all."""
    if not (role.get("base_url") and today.base_url):
        return
    patience = {name: value for name, value in today.options.items() if name in PATIENCE}
    kept = {name: value for name, value in role.get("options", {}).items() if name not in PATIENCE}
    role |= {"base_url": today.base_url, "options": kept | patience}


def check_same(run: Run, settings: Settings) -> None:
    """Raises UserError where these settings would begin another run: a file they name is not what it was."""
    from service.queries.base_run import wire
    from service.queries.estimate import find

    with closing(wire(run.kind, settings)) as wiring:
        found = find(run.kind, wiring)
    if found is None or found.id != run.id:
        raise UserError(
            f"run {run.id.hex()[:12]} cannot be gone on with: its prompts ({settings.prompts}) or its models are not "
            f"what they were when it began; put them back, or begin anew with: precept {_begins(run.kind)}"
        )


def _begins(kind: str) -> str:
    """The command that begins a run of a kind."""
    named = {"improve": "improve", "retrain": "retrain", "sweep": "sweep", "judge": "judge pairs FILE"}
    return named.get(kind, f"flow {kind}")
