"""A run whose Prefect server is not there, hangs, or dies before, in or after its function: the function runs once, its
result or its own error is what comes back, and the server is told of once."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    get_current_settings,
    temporary_settings,
)

from flows import server
from flows.session import at_work
from storage.store import Store

GONE = httpx.ConnectError("nobody is there")


class Engine:
    """Stands for a flow or a task: Prefect calls its `fn`, and may fail before or after."""

    def __init__(self, fn: Callable[..., Any], before: Exception | None = None, after: Exception | None = None) -> None:
        self.fn, self.before, self.after, self.calls = fn, before, after, 0

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        if self.before:
            raise self.before
        result = self.fn(*arguments)
        if self.after:
            raise self.after
        return result


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """A run with a server at hand; what was said of the server so far."""
    monkeypatch.setattr(server, "_named", lambda: "")
    monkeypatch.setattr(server, "_temporary", lambda: "")
    with server.watched(), caplog.at_level(logging.WARNING):
        yield lambda: [r.getMessage() for r in caplog.records if "does not answer" in r.getMessage()]


def test_only_a_server_that_stays_up_is_sent_heartbeats(run: Callable[[], list[str]]) -> None:
    """Prefect waits for the thread that sends them, up to a second a flow."""
    assert get_current_settings().flows.heartbeat_frequency is None
    named = {PREFECT_API_URL: "http://127.0.0.1:4200/api", PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 60}
    with temporary_settings(named), server.watched():
        assert get_current_settings().flows.heartbeat_frequency == 60


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_that_fails_around_a_function_is_one_warning(run: Callable[[], list[str]], when: str) -> None:
    done: list[int] = []
    engine = Engine(lambda n: done.append(n) or n, **{when: GONE})
    assert server.through(engine, 3) == 3 and done == [3]
    assert server.through(engine, 4) == 4 and done == [3, 4]
    assert len(run()) == 1 and "nobody is there" in run()[0] and server.is_lost()


def test_a_function_s_own_error_is_not_the_server_s(run: Callable[[], list[str]]) -> None:
    def fails(_: int) -> None:
        raise ConnectionRefusedError("the model's server, not Prefect's")

    with pytest.raises(ConnectionRefusedError, match="the model's server"):
        server.through(Engine(fails), 1)

    def stops(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.through(Engine(stops), 1)
    with pytest.raises(ValueError, match="a mistake of Prefect's caller"):
        server.through(Engine(stops, before=ValueError("a mistake of Prefect's caller")), 1)
    assert run() == [] and not server.is_lost()


def test_after_that_a_run_asks_prefect_nothing_more(run: Callable[[], list[str]]) -> None:
    server.lost("it was stopped")
    engine = Engine(lambda n: n)
    assert server.through(engine, 1) == 1 and engine.calls == 0
    server.lost("and again")
    assert len(run()) == 1


def test_a_server_that_takes_connections_and_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{silent.getsockname()[1]}/api"}):
            assert "timed out" in server._named()


def test_what_prefect_raises_for_sigterm_stops_a_run_and_is_no_failure(project: Path) -> None:
    from prefect.exceptions import TerminationSignal

    with pytest.raises(TerminationSignal), at_work("respond", None, {}):
        raise TerminationSignal(15)
    with Store.open("sqlite:///runs/precept.db") as store:
        (found,) = store.runs()
    assert (found.status, found.error) == ("stopped", "interrupted")
