"""Telling a Prefect server that an amendment was ratified, so that an automation there can retrain, or that a model
waits for a person, so that one can be called.

Without a server there is nobody to tell; `retrain.on_ratify`, or `precept constitution amend --retrain`, retrains here
instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

from constitution.records import Event, text_digest
from flows.environment import prefect_server
from service.settings import redact
from storage.amendments import Amendment

EVENT = "precept.constitution.ratified"
PROPOSED = "precept.model.proposed"
ON_RATIFICATION = " on ratification"  # how the name of a deployment's automation ends
PATIENCE = 5.0  # seconds for the server to answer; a quarter of it for a connection, which is tried four times
WHERE = ("host", "port", "dbname", "options")  # of a database URL's query: what says which store it is
_log = logging.getLogger(__name__)


def resource(store_url: str) -> str:
    """The id of a store's constitution among a server's resources: two stores may share one server.

    It hashes where the store is, not how it is opened: user and password have no part in it. A file counts by its
    whole path, so that the same setting in two folders is two stores.
    """
    scheme, slashes, rest = store_url.partition("://")
    if not slashes or scheme.partition("+")[0] == "sqlite":
        file = Path(rest.removeprefix("/").partition("?")[0]) if slashes else Path(store_url).expanduser()
        place = str(file.resolve())
    else:
        url = urlsplit(store_url)
        query = sorted((name, value) for name, value in parse_qsl(url.query) if name in WHERE)
        place = f"{url.netloc.rpartition('@')[2]}{url.path}?{urlencode(query)}"
    return f"precept.constitution.{text_digest(place).hex()[:8]}"


def ratified(amendment: Amendment, store_url: str) -> bool:
    """Emit the event; whether the server has taken it. The amendment is in force whatever becomes of the event."""
    what = f"amendment {amendment.number}, which is in force", "nothing starts by itself"
    return bool(prefect_server()) and _posted(lambda: _event(amendment, store_url), *what)


def proposed(proposal: Event, store_url: str) -> bool:
    """The same of a model that a retrain proposes, so that an automation there can call a person."""
    what = f"the proposal of model {str(proposal.payload['id'])[:12]}, which is stored", "`precept doctor` says it"
    return bool(prefect_server()) and _posted(lambda: _proposal(proposal, store_url), *what)


def _posted(event: Callable[[], dict[str, Any]], what: str, instead: str) -> bool:
    """It is posted, and not left to Prefect's own worker of events: that one streams from a thread, tries a server that
    is down for a long time, and may lose what it has when the process ends."""
    try:
        import httpx  # with Prefect seconds to import: only where there is a server
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings

        if not get_current_settings().api.url:  # a profile names one, another is in use: Prefect would start a server
            return False
        patience = httpx.Timeout(PATIENCE, connect=PATIENCE / 4)
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": patience}) as client,
        ):
            client.request("POST", "/events", json=[event()])
    except Exception as error:
        _log.warning(
            "the Prefect server could not be told of %s (%s): %s",
            what, redact(str(error).partition("\n")[0]) or type(error).__name__, instead,
        )  # fmt: skip
        return False
    return True


def awaiting(store_url: str) -> tuple[str, ...]:
    """The deployments that a ratification in a store starts by itself, as the server says; none where it does not."""
    if not prefect_server():
        return ()
    try:
        import httpx
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        patience = httpx.Timeout(PATIENCE, connect=PATIENCE / 4)
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": patience}) as client,
        ):
            found = client.request("POST", "/automations/filter", json={}).json()
    except Exception as error:
        _log.debug("the server does not say what waits for a ratification: %s", error)
        return ()
    watched = {"prefect.resource.id": resource(store_url)}
    mine = [a for a in found if a.get("enabled") and a.get("trigger", {}).get("match") == watched]
    return tuple(sorted(a["name"].removesuffix(ON_RATIFICATION) for a in mine))


def _event(amendment: Amendment, store_url: str) -> dict[str, Any]:
    """Named by the amendment's own event, so that one that is sent twice is one."""
    from prefect.events.schemas.events import Event, Resource

    said = {
        "version": amendment.version,
        "amendment": amendment.number,
        "who": amendment.who,
        "why": amendment.message,
    }
    about = Resource({"prefect.resource.id": resource(store_url), "prefect.resource.name": "constitution"})
    return Event(event=EVENT, resource=about, payload=said, id=UUID(amendment.event)).model_dump(mode="json")


def _proposal(proposal: Event, store_url: str) -> dict[str, Any]:
    from prefect.events.schemas.events import Event as Emitted
    from prefect.events.schemas.events import Resource

    said = proposal.payload
    payload = {"model": said["id"], "why": said["why"], "reasons": said["evidence"].get("reasons", [])}
    about = Resource({"prefect.resource.id": resource(store_url), "prefect.resource.name": "constitution"})
    emitted = Emitted(event=PROPOSED, resource=about, payload=payload, id=UUID(proposal.id))
    return emitted.model_dump(mode="json")
