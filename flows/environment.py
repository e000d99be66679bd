"""What Prefect reads from the environment, set before it is imported; and whether a server of it is named."""

from __future__ import annotations

import logging
import os
from pathlib import Path


def before_prefect() -> None:
    """What Prefect reads when it is first imported: no telemetry (with it the embedded server printed "database is
    locked"), and time for the embedded server to start on a busy machine. `flows` calls it on import."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")


def quiet_prefect() -> None:
    """Keep Prefect off the terminal, before it is imported: warnings alone, no statistics. A flow's log still goes to
    Prefect's API; a failed flow is told of by whoever called it, so its traceback is not printed by Prefect, too."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL", "INFO")
    os.environ.setdefault("PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL", "INFO")
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).propagate = False


def prefect_server() -> bool:
    """Whether a Prefect server is named, in the environment or in a profile: told without importing Prefect."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    profiles = home / "profiles.toml"
    return profiles.is_file() and "PREFECT_API_URL" in profiles.read_text(encoding="utf-8", errors="replace")
