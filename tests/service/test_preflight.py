"""What is looked at before a flow begins, where the command line's table of mistakes does not reach: servers, finished
runs, schedules, disks."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from service import preflight
from service.settings import load
from service.wiring import Wiring
from tests.cli.test_told_at_once import FILES


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)


def check(kind: str, flags: dict[str, Any], **options: Any) -> None:
    wiring = Wiring(load(None, flags)[0])
    try:
        preflight.check(kind, wiring, **options)
    finally:
        wiring.close()


@pytest.fixture
def serve() -> Iterator[Callable[[int, Any], str]]:
    """`serve(status, body)`: the address of a server that says this to everything."""
    started: list[HTTPServer] = []

    def start(status: int, body: Any) -> str:
        class Says(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None: ...

        server = HTTPServer(("127.0.0.1", 0), Says)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/v1"

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def of_server(address: str) -> dict[str, Any]:
    return {"judge": {"kind": "openai", "model": "mine", "base_url": address, "revision": "1"}}


def test_a_server_that_has_another_model_is_told_of_before_the_run(serve: Callable[[int, Any], str]) -> None:
    models = {"data": [{"id": "another", "owned_by": "vllm"}]}
    with pytest.raises(UserError, match=r"^judge: the server at .* knows no model 'mine'; it has another"):
        check("judge", of_server(serve(200, models)))


def test_a_server_that_refuses_the_key_is_told_of_before_the_run(serve: Callable[[int, Any], str]) -> None:
    with pytest.raises(UserError, match=r"^judge: "):
        check("judge", of_server(serve(401, {"error": {"message": "no such key"}})))


def test_a_server_that_has_the_model_or_does_not_answer_yet_is_no_mistake(serve: Callable[[int, Any], str]) -> None:
    check("judge", of_server(serve(200, {"data": [{"id": "mine", "owned_by": "vllm"}]})))
    check("judge", of_server("http://127.0.0.1:1/v1"))


def test_a_further_role_of_a_judge_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline import judges

    class Second:
        @staticmethod
        def build(role: Any, options: Any, another: Any) -> Any:
            return another(options["second"])

    monkeypatch.setattr(judges, "load", lambda method: Second)
    options = {"second": {"kind": "scripted", "model": "gone.yaml"}}
    with pytest.raises(UserError, match=r"^judge: .*gone\.yaml"):
        check("judge", {"judge.judge_options": options})


def test_each_flow_is_checked_for_what_it_uses_and_for_no_more() -> None:
    broken = {"evaluator.model": "gone.yaml", "optimise.method": "luck"}
    for kind in ("respond", "revise", "judge"):
        check(kind, broken)
    for kind in ("improve", "sweep", "evaluate"):
        with pytest.raises(UserError):
            check(kind, broken)
    check("a flow of somebody else", {"policy.model": "gone.yaml"})


def test_a_retrain_may_be_scheduled_before_there_is_a_run_to_start_from() -> None:
    check("retrain", {"prompts": ""}, pool=False)
    with pytest.raises(UserError, match=r"optimise\.arguments: beta is 'x'"):
        check("retrain", {"optimise.arguments": {"beta": "x"}}, pool=False)


def test_only_looking_makes_no_store(tmp_path: Path) -> None:
    check("improve", {})
    assert [path.name for path in (tmp_path / "runs").iterdir()] == []  # the folder can be made, and nothing is in it


def test_a_home_that_is_there_and_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(UserError, match=r"^home: .*file is a file"):
            check("respond", {"home": str(home)})
