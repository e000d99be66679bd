"""Putting a flow on a cron schedule, or on the ratification of an amendment: a Prefect deployment that a worker on this
machine carries out.

The deployment names the flow by module, the folder it is to be run in (paths in the settings are relative to it) and
what it is called with. An automation of the server starts it when `flows/announcing.py` says that an amendment was
ratified. A slot of the schedule is part of a run's identity, so one that fires twice is one run. Slots
that were missed while no worker ran are carried out late, one after the other, when one comes back: Prefect's own rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from constitution.errors import UserError
from flows import discovery
from flows.announcing import EVENT, ON_RATIFICATION, resource
from service.queries.settings import shown

POOL = "precept"
NAME = "scheduled"  # of a deployment that was given none
EXAMPLE = 'write for example --cron "0 2 * * *" --timezone Europe/Berlin'
WORKER = f"prefect worker start --pool {POOL}"


@dataclass(frozen=True)
class Deployed:
    """A deployment that is on the server. `cron`: its line, empty where it has none; `file` and `flags`: the settings
    it is called with, no secret shown; `folder` where."""

    deployment: str  # flow/name, as Prefect writes it
    id: str
    cron: str
    timezone: str
    on_ratify: bool
    folder: str
    file: str | None
    flags: Mapping[str, Any]
    next: tuple[str, ...] = ()  # moments

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Scheduled:
    deployment: str  # flow/name, as Prefect writes it
    id: str
    server: str
    on: str = ""  # the resource whose ratification starts it, as the server knows it; or none


def register(
    flow: str,
    cron: str = "",
    *,
    ratified_in: str = "",
    timezone: str = "UTC",
    name: str = NAME,
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> Scheduled:
    """Register a deployment with a schedule, with an automation, or both; the same flow and name again replaces them.

    `ratified_in`: the URL of a store; an amendment ratified there starts the flow. `folder`: where the flow is run, the
    current one. Raises UserError for an unknown flow, where neither schedule nor store is given, for a cron line or a
    timezone that is none, and where no Prefect server is set, or it does not answer.
    """
    from prefect import Flow
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    found = discovery.load(flow)
    assert isinstance(found, Flow)
    if not cron and not ratified_in:
        raise UserError(
            'say when it is to run: --cron "0 2 * * *", or --on-ratify (as soon as an amendment is ratified), or both'
        )
    if cron:
        upcoming(cron, timezone)
    server = _server()
    schedules = [DeploymentScheduleCreate(schedule=_cron(cron, timezone), active=True)] if cron else []
    where = (folder or Path.cwd()).resolve()
    with _asked(server) as client:
        _make_pool(client)
        ident = client.create_deployment(
            flow_id=client.create_flow(found),
            name=name,
            schedules=schedules,
            concurrency_limit=1,  # a run that lasts longer than a slot is not overtaken by the next
            parameters={"file": str(file.resolve()) if file else None, "flags": dict(flags or {})},
            work_pool_name=POOL,
            entrypoint=discovery.entrypoint(flow),
            job_variables={"working_dir": str(where)},
            enforce_parameter_schema=False,
        )
        on = _automate(client, f"{found.name}/{name}", ident, ratified_in)
    return Scheduled(f"{found.name}/{name}", str(ident), server, on)


def scheduled() -> list[Deployed]:
    """What is registered on the server, by name. Raises UserError where no server is set, or it does not answer."""
    from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName

    ours = WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
    with _asked(_server()) as client:
        found = [_deployed(client, each) for each in client.read_deployments(work_pool_filter=ours)]
    return sorted(found, key=lambda each: each.deployment)


def remove(name: str) -> Deployed:
    """Take a deployment off the server, with its schedule and its automation; runs that it made stay. `name`: as
    `scheduled` tells it, or the flow's alone. Raises UserError where precept registered none of that name."""
    from prefect.exceptions import ObjectNotFound

    full = name if "/" in name else f"{name}/{NAME}"
    with _asked(_server()) as client:
        try:
            found = client.read_deployment_by_name(full)
        except ObjectNotFound:
            found = None
        if found is None or found.work_pool_name != POOL:
            raise UserError(f"precept has scheduled nothing as {full}; `precept schedule list` shows what there is")
        told = _deployed(client, found)
        for automation in client.read_automations_by_name(_on_ratification(full)):
            client.delete_automation(automation.id)
        client.delete_deployment(found.id)
    return told


def _deployed(client: Any, found: Any) -> Deployed:
    full = f"{client.read_flow(found.flow_id).name}/{found.name}"
    crons = [each.schedule for each in found.schedules if each.active and hasattr(each.schedule, "cron")]
    given = found.parameters
    return Deployed(
        deployment=full,
        id=str(found.id),
        cron=crons[0].cron if crons else "",
        timezone=(crons[0].timezone or "UTC") if crons else "",
        on_ratify=bool(client.read_automations_by_name(_on_ratification(full))),
        folder=str((found.job_variables or {}).get("working_dir", "")),
        file=given.get("file"),
        flags={name: shown(name, value) for name, value in (given.get("flags") or {}).items()},
        next=tuple(upcoming(crons[0].cron, crons[0].timezone or "UTC")) if crons else (),
    )


def _server() -> str:
    from prefect.settings import get_current_settings

    server = get_current_settings().api.url
    if not server:
        raise UserError(
            "a schedule needs a Prefect server that stays up: start one with `prefect server start`, then "
            "`prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
    return str(server)


@contextmanager
def _asked(server: str) -> Iterator[Any]:
    """A client of the server; one that does not answer is a mistake that can be mended."""
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.TransportError as error:
        problem = f"the Prefect server {server} does not answer ({error})"
        raise UserError(f"{problem}; start it, or set PREFECT_API_URL") from None


def _on_ratification(deployment: str) -> str:
    """The name of a deployment's automation."""
    return f"{deployment}{ON_RATIFICATION}"


def _automate(client: Any, deployment: str, ident: UUID, ratified_in: str) -> str:
    """Have a ratification in a store start the deployment; without a store, no longer. Returns the store's resource.

    The new automation is there before an old one goes, so that no ratification falls between them: two runs of which
    one finds nothing to do are better than none.
    """
    from prefect.events.actions import RunDeployment
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    name = _on_ratification(deployment)
    earlier = client.read_automations_by_name(name)
    watched = resource(ratified_in) if ratified_in else ""
    if watched:
        trigger = EventTrigger(
            expect={EVENT}, match={"prefect.resource.id": watched}, posture=Posture.Reactive, threshold=1
        )
        client.create_automation(
            AutomationCore(
                name=name,
                description="An amendment of the constitution was ratified (`precept constitution amend`).",
                trigger=trigger,
                actions=[RunDeployment(deployment_id=ident)],
                owner_resource=f"prefect.deployment.{ident}",  # it goes with its deployment
            )
        )
    for automation in earlier:
        client.delete_automation(automation.id)
    return watched


def _cron(cron: str, timezone: str) -> Any:
    from prefect.client.schemas.schedules import CronSchedule

    try:
        return CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"no schedule can be made of {cron!r} in {timezone!r}: {problem}; {EXAMPLE}") from None


def upcoming(cron: str, timezone: str = "UTC", most: int = 3) -> list[str]:
    """The next moments of a cron line, as the server counts them: where both a day of the month and a weekday are
    given, either will do. Raises UserError for a line that is none, and for a day that never comes."""
    import asyncio

    from prefect.server.schemas.schedules import CronSchedule

    _cron(cron, timezone)
    try:
        found = asyncio.run(CronSchedule(cron=cron, timezone=timezone).get_dates(most))
    except ValueError as error:
        raise UserError(f"no moment is at {cron!r} in {timezone!r}: {error}; {EXAMPLE}") from None
    return [moment.isoformat(sep=" ", timespec="minutes") for moment in found]


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
