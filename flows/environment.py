"""What Prefect reads from the environment, set before it is imported; and whether a server of it is named."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path


def before_prefect() -> None:
    """What Prefect reads when it is first imported: no telemetry (with it the embedded server printed "database is
    locked"), and time for the embedded server to start on a busy machine. `flows` calls it on import."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")


def quiet_prefect() -> None:
    """Keep Prefect off the terminal, before it is imported. A flow's log still goes to Prefect's API; a failed flow,
    and a server that dies, are told of by whoever called it, so Prefect does not print them, too: its threads that send
    logs and events would tell of the same server for minutes."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_INTERNAL_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "1")  # 2 s and not a minute a request, where a server died
    _somewhere_to_write()
    logging.raiseExceptions = False  # what cannot be logged is no reason for a traceback
    os.environ.setdefault("PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL", "INFO")
    os.environ.setdefault("PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL", "INFO")
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).propagate = False
    for name in ("EventsWorker", "APILogWorker"):  # what they still have to send, to a server that may be gone
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _somewhere_to_write() -> None:
    """Where the home folder cannot be written to (a container without one), Prefect's is a temporary folder."""
    home = Path(os.path.expanduser(os.environ.get("PREFECT_HOME", "~/.prefect")))  # noqa: PTH111 - it may be unknown
    try:
        home.mkdir(parents=True, exist_ok=True)
        usable = os.access(home, os.W_OK)
    except OSError:
        usable = False
    if not usable:
        os.environ["PREFECT_HOME"] = folder = tempfile.mkdtemp(prefix="precept-prefect-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def prefect_server() -> bool:
    """Whether a Prefect server is named, in the environment or in a profile: told without importing Prefect."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    profiles = Path(os.path.expanduser(os.environ.get("PREFECT_HOME", "~/.prefect")), "profiles.toml")  # noqa: PTH111
    return profiles.is_file() and "PREFECT_API_URL" in profiles.read_text(encoding="utf-8", errors="replace")


def of_a_temporary_server(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of the process that is Prefect's temporary server. `settings`: those of Prefect in force."""
    root = str(Path(__file__).parents[1])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        "PREFECT_UI_ENABLED": "0",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
        **settings,
    }
