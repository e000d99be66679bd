"""The Prefect server of a run that is started here: the one that is named, or a temporary one; and a run without one.

A run needs no server: all that it makes is in the store. So where none answers, or where one dies in the middle, the
run says so once and goes on without. The temporary server is Prefect's own, started in a session of its own, so that
Ctrl-C in a terminal reaches this process alone; it ends when this process ends, however that ends (`temporary.py`).
"""

from __future__ import annotations

import atexit
import copy
import functools
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import httpx
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
    temporary_settings,
)

from flows.environment import of_a_temporary_server
from service.settings import redact

if TYPE_CHECKING:
    from prefect.server.api.server import SubprocessASGIServer

PATIENCE = 10.0  # seconds for a named server to say that it is well
OF_THE_SERVER = (
    httpx.HTTPError,
    OSError,
    PrefectException,
)  # what Prefect raises where its server does not do its part
_log = logging.getLogger(__name__)
_gone: ContextVar[list[str] | None] = ContextVar("gone", default=None)  # of the run under way: why it has no server


@contextmanager
def watched() -> Iterator[None]:
    """A run started here, with a server at hand where one can be had; without, the run is told to do without.

    A temporary server is sent no heartbeats: nobody looks for crashed flows there, and at a flow's end Prefect waits
    for the thread that sends them, for up to a second."""
    token = _gone.set([])
    try:
        named = bool(get_current_settings().api.url)
        problem = _named() if named else _temporary()
        if problem:
            lost(problem)
        with nullcontext() if named else temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield
    finally:
        _gone.reset(token)


def lost(problem: str) -> None:
    """The server does not answer: said once in a run, which goes on without it."""
    gone = _gone.get()
    if gone:
        return
    if gone is not None:
        gone.append(problem)
    _log.warning(
        "the Prefect server does not answer (%s): the run goes on without it, and nothing of it is lost", problem
    )


def is_lost() -> bool:
    """Whether the run under way does without a server."""
    return bool(_gone.get())


def through(prefect: Any, *arguments: Any, **named: Any) -> Any:
    """Call a flow or a task through Prefect, and give its function's own result or error back whatever becomes of the
    server: where that fails before the function began, the function is called alone."""
    function: Callable[..., Any] = prefect.fn
    if is_lost() or (_gone.get() is None and FlowRunContext.get() is None):
        return function(*arguments, **named)
    ended: list[tuple[Any, BaseException | None]] = []

    @functools.wraps(function)
    def kept(*arguments: Any, **named: Any) -> Any:
        try:
            result = function(*arguments, **named)
        except BaseException as error:
            ended.append((None, error))
            raise
        ended.append((result, None))
        return result

    seen = copy.copy(prefect)
    seen.fn = kept
    try:
        return seen(*arguments, **named)
    except OF_THE_SERVER as error:
        result, own = ended[-1] if ended else (None, None)
        if own is not None:
            raise own from None
        lost(first_line(error))
        return result if ended else function(*arguments, **named)


def first_line(error: BaseException) -> str:
    return redact(str(error).strip().partition("\n")[0]) or type(error).__name__


# --- is there a server -------------------------------------------------------------------------------------------


def _named() -> str:
    """What is wrong with the server that is named; empty where it is well."""
    url = str(get_current_settings().api.url)
    try:
        answer = httpx.get(f"{url}/health", timeout=PATIENCE, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{redact(url)}: {first_line(error)}"
    return "" if answer.status_code < 500 else f"{redact(url)}: status {answer.status_code}"


def _temporary() -> str:
    """Start the temporary server, where it does not run yet; what is wrong with it, or empty."""
    from prefect.server.api.server import SubprocessASGIServer

    server = SubprocessASGIServer()
    if server.running and server.server_process is not None and server.server_process.poll() is None:
        return ""
    try:
        server.port = server.find_available_port()
        server.server_process = _process(server.port)
    except (OSError, RuntimeError) as error:
        return f"it cannot be started: {first_line(error)}"
    server.running = True  # Prefect asks this before it starts one itself
    atexit.register(server.stop)
    problem = _wait(server)
    if problem:
        server.stop()
    return problem


def _process(port: int) -> subprocess.Popen[bytes]:
    """Prefect's server in a process that ends when this one does: it reads a pipe that nobody writes to."""
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    return subprocess.Popen(
        [sys.executable, "-m", "flows.temporary", str(port)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=of_a_temporary_server(settings), start_new_session=True,
    )  # fmt: skip


def _wait(server: SubprocessASGIServer) -> str:
    """Until the server answers; what keeps it from that, or empty."""
    patience = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    ends = time.monotonic() + patience
    assert server.server_process is not None
    with httpx.Client(timeout=PATIENCE, trust_env=False) as client:
        while time.monotonic() < ends:
            if (code := server.server_process.poll()) is not None:
                return f"the temporary one ended with code {code} while it started"
            try:
                if client.get(f"{server.api_url}/health").status_code == 200:
                    return ""
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    return f"the temporary one did not start within {patience} s"
