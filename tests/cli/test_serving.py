"""`precept model serve` as a process: a line when it answers, and an end within seconds of Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from cli import main
from sandbox.models import folder
from tests.cli.terminal import environment


@pytest.mark.timeout(120)
def test_it_answers_until_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli.main", "model", "serve", str(folder("policy")), "--port", "0", "--json"]
    run = subprocess.Popen(command, env=environment(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None
    try:
        told = json.loads(b"".join(iter(run.stdout.readline, b"}\n")) + b"}")
        assert told["model"] == "policy" and told["url"].startswith("http://127.0.0.1:")
        asked = {"model": "policy", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
        answer = httpx.post(f"{told['url']}/chat/completions", json=asked, timeout=60)
        assert answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] <= 3
        begun = time.monotonic()
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=10)
    finally:
        run.kill()
    assert time.monotonic() - begun < 10
    assert run.returncode == 130 and said.decode() == "interrupted\n"
    assert list(tmp_path.iterdir()) == []  # a folder needs no project, and nothing is written


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "0.0.0.0"), "PRECEPT_SERVE_KEY holds no key"),
        (("--host", "192.0.2.1", "--api-key-env", "SERVE_TEST_KEY"), "cannot listen at 192.0.2.1"),
        (("nothing-here",), "no settings here"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVE_TEST_KEY", "a-key-of-some-length")
    model = () if words[0] == "nothing-here" else (str(folder("policy")),)
    assert main.run(("model", "serve", *model, *words)) == 2
    assert said in capsys.readouterr().err
