"""Telling a Prefect server that an amendment was ratified, so that an automation there can retrain.

Without a server there is nobody to tell; `retrain.on_ratify`, or `precept amend --retrain`, retrains here instead.
"""

from __future__ import annotations

import logging

from flows.settings import prefect_server
from storage.amendments import Amendment

EVENT = "precept.constitution.ratified"
_log = logging.getLogger(__name__)


def ratified(amendment: Amendment) -> bool:
    """Emit the event; whether there was a server to tell. The amendment is in force whatever becomes of the event."""
    if not prefect_server():
        return False
    try:
        from prefect.events import emit_event  # seconds to import: only where there is a server

        emit_event(
            event=EVENT,
            resource={"prefect.resource.id": "precept.constitution"},
            payload={"version": amendment.version, "amendment": amendment.number, "who": amendment.who},
        )
    except Exception as error:
        _log.warning("the Prefect server could not be told of the amendment: %s", error)
        return False
    return True
