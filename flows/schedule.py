"""Putting a flow on a cron schedule: a Prefect deployment that a worker on this machine carries out.

The deployment names the flow by module, the folder it is to be run in (paths in the settings are relative to it) and
what it is called with. A slot of the schedule is part of a run's identity, so one that fires twice is one run. Slots
that were missed while no worker ran are carried out late, one after the other, when one comes back: Prefect's own rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from flows import discovery

POOL = "precept"
WORKER = f"prefect worker start --pool {POOL}"


@dataclass(frozen=True)
class Scheduled:
    deployment: str  # flow/name, as Prefect writes it
    id: str
    server: str


def register(
    flow: str,
    cron: str,
    *,
    timezone: str = "UTC",
    name: str = "scheduled",
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> Scheduled:
    """Register a deployment with a schedule; the same flow and name again replaces it.

    `folder`: where the flow is run, the current one. Raises UserError for an unknown flow, a cron line or a timezone
    that is none, and where no Prefect server is set, or it does not answer.
    """
    import httpx
    from prefect import Flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.settings import get_current_settings

    found = discovery.load(flow)
    assert isinstance(found, Flow)
    server = get_current_settings().api.url
    if not server:
        raise UserError(
            "a schedule needs a Prefect server that stays up: start one with `prefect server start`, then "
            "`prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
    schedule = DeploymentScheduleCreate(schedule=_cron(cron, timezone), active=True)
    where = (folder or Path.cwd()).resolve()
    try:
        with get_client(sync_client=True) as client:
            _make_pool(client)
            ident = client.create_deployment(
                flow_id=client.create_flow(found),
                name=name,
                schedules=[schedule],
                concurrency_limit=1,  # a run that lasts longer than a slot is not overtaken by the next
                parameters={"file": str(file.resolve()) if file else None, "flags": dict(flags or {})},
                work_pool_name=POOL,
                entrypoint=discovery.entrypoint(flow),
                job_variables={"working_dir": str(where)},
                enforce_parameter_schema=False,
            )
    except httpx.TransportError as error:
        problem = f"the Prefect server {server} does not answer ({error})"
        raise UserError(f"{problem}; start it, or set PREFECT_API_URL") from None
    return Scheduled(f"{found.name}/{name}", str(ident), server)


def _cron(cron: str, timezone: str) -> Any:
    from prefect.client.schemas.schedules import CronSchedule

    try:
        return CronSchedule(cron=cron, timezone=timezone)
    except ValueError as error:
        problem = str(error).split("\n")[2:3]
        raise UserError(
            f"no schedule can be made of {cron!r} in {timezone!r}:{''.join(problem)}; "
            'write for example --cron "0 2 * * *" --timezone Europe/Berlin'
        ) from None


def _make_pool(client: Any) -> None:
    """The work pool of processes on the worker's own machine, where it is not there yet."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
