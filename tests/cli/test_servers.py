"""A run whose model is behind a server: what the terminal says when it goes away, and what the store keeps."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import SETTINGS, Outcome
from tests.pipeline.engines.protocol_server import Handler, ProtocolServer, kind_of, running

COMPLETIONS = "/v1/completions"
KEY = "sk-0123456789abcdef"


def on(server: ProtocolServer) -> None:
    """The policy of this folder's settings is behind the server, and asked one prompt at a time."""
    policy = (
        f'[policy]\nkind = "openai"\nmodel = "toy"\nrevision = "first"\nbase_url = "{server.url}"\nbatch_size = 1\n'
        'api_key_env = "TOY_KEY"\noptions = {backoff = 0.05, max_backoff = 0.1}\n'
    )
    Path("precept.toml").write_text(SETTINGS.replace('[policy]\nkind = "scripted"\nmodel = "script.yaml"\n', policy))


def kept() -> list[str]:
    with sqlite3.connect("runs/precept.db") as store:
        texts = store.execute("select answer.text from generation join answer using (content)")
        return [json.loads(text) for (text,) in texts]


def after(number: int, then: Callable[[ProtocolServer], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something to the server once it has answered so many requests."""
    answered, real = [0], Handler._complete

    def complete(self: Handler, body: dict[str, Any]) -> dict[str, Any]:
        answer = real(self, body)
        answered[0] += kind_of(self.path, body) == self.path
        if answered[0] == number:
            answered[0] += 1000
            then(self.server)
        return answer

    monkeypatch.setattr(Handler, "_complete", complete)


def test_of_a_server_that_comes_back_as_another_nothing_is_kept(
    project: Path, precept: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap(server: ProtocolServer) -> None:
        server.weights = b"others"
        server.fail(COMPLETIONS, "drop")

    after(3, swap, monkeypatch)
    with running() as server:
        on(server)
        outcome = precept("flow", "respond")
        assert outcome.code == 2
        assert "came back as another: its answers to fixed questions moved by" in outcome.err + outcome.out
        assert "has not answered (the answer broke off" in outcome.err + outcome.out  # at once
        assert "Traceback" not in outcome.err + outcome.out
        held = kept()  # what was in flight when it went is not kept, either
        assert len(held) <= 3
        again = precept("flow", "respond")  # and the same command is refused before anything is asked
        assert again.code == 2 and "declare another policy.revision" in " ".join(
            (again.err + again.out).lower().split()
        )
        assert kept() == held
        server.weights = b""
        assert precept("flow", "respond").code == 0
        assert len(kept()) == 5


def test_no_key_is_in_the_store_the_terminal_or_a_log_whatever_the_server_repeats(
    project: Path, precept: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_KEY", KEY)
    with running(key=KEY) as server:
        on(server)
        server.reply = f"Your key is {KEY}."
        done = precept("flow", "respond")
        assert done.code == 0 and set(kept()) == {"Your key is ***."}
        monkeypatch.setenv("TOY_KEY", KEY.upper())
        refused = precept("flow", "respond", "--set", "seed=2")
        assert refused.code == 2 and "TOY_KEY" in refused.err + refused.out
    for text in (done.out, done.err, refused.out, refused.err):
        assert "0123456789" not in text
    for file in (path for path in project.rglob("*") if path.is_file()):
        assert b"0123456789" not in file.read_bytes(), file


def test_one_prompt_that_a_server_cannot_read_is_left_out_named_and_counted(
    project: Path, precept: Callable[..., Outcome]
) -> None:
    with Path("prompts.jsonl").open("a") as rows:
        rows.write(json.dumps({"prompt": "long " * 500, "split": "train"}) + "\n")
    with running(context=600) as server:
        on(server)
        done = precept("flow", "respond")
        assert done.code == 0, done.err
        assert len(kept()) == 5
        assert '"left_out": {\n    "count": 1' in done.out
        assert "1 is left out, and the rest goes on (a text has 2503 tokens" in done.err
