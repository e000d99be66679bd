"""`precept doctor` and `precept sandbox`: looking at what is there."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path

import pytest

from constitution.records import messages_of
from pipeline.sources.rows import read_prompts
from sandbox import themes
from service.queries import doctor


def findings(outcome) -> dict[str, dict]:
    return {f["what"]: f for f in outcome.json["findings"]}


def test_doctor_is_content_with_what_the_settings_need(project, precept) -> None:
    outcome = precept("doctor", "--json")
    found = findings(outcome)
    assert outcome.code == 0 and outcome.json["ok"]
    assert found["constitution"]["found"] == "principles.yaml, 2 principles"
    assert all(f["mend"] for f in found.values() if not f["ok"])
    assert not Path("runs").exists()  # looking makes nothing
    assert "all that these settings need is here" in precept("doctor").out


@pytest.mark.parametrize(
    ("flag", "what", "mend"),
    [
        ("policy.kind=transformers", "policy: script.yaml", "--set policy.model=FOLDER"),
        ("store=postgresql://ada:hunter2@127.0.0.1:1/none", "store", "name another store"),
        ("prompts=none.jsonl", "prompts", "--set prompts=FILE.jsonl"),
        ("constitution=none.yaml", "constitution", "precept constitution"),
        ("nonsense=1", "settings", "precept init"),
    ],
)
def test_doctor_names_what_is_missing_and_what_mends_it(project, precept, flag, what, mend) -> None:
    outcome = precept("doctor", "--json", "--set", flag)
    assert outcome.code == 1
    broken = [f for f in outcome.json["findings"] if f["needed"] and not f["ok"]]
    assert [f["what"] for f in broken] == [what]
    assert mend in broken[0]["mend"]
    assert "hunter2" not in outcome.out


def test_doctor_only_minds_a_library_that_is_needed(project, precept, monkeypatch) -> None:
    real = doctor.importlib.metadata.version

    def without(name: str) -> str:
        if name in ("psycopg", "pyarrow"):
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", without)
    outcome = precept("doctor", "--json")
    assert outcome.code == 0 and not findings(outcome)["psycopg"]["ok"]
    Path("prompts.parquet").write_bytes(b"")
    needing = precept("doctor", "--json", "--set", "prompts=prompts.parquet")
    assert needing.code == 1 and findings(needing)["pyarrow"]["mend"].startswith("pip install")


def test_doctor_asks_a_server_what_it_serves(project, precept, monkeypatch) -> None:
    seen: list[str | None] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            right = self.headers["Authorization"] == "Bearer k"
            self.send_response(200 if right else 401)
            self.end_headers()
            self.wfile.write(json.dumps({"data": [{"id": "served"}]}).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    flags = ["--set", "judge.kind=openai", "--set", f"judge.base_url={url}", "--set", "judge.model=served"]
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    refused = findings(precept("doctor", "--json", *flags))["judge: served"]
    assert not refused["ok"] and "OPENAI_API_KEY" in refused["mend"]
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert findings(precept("doctor", "--json", *flags))["judge: served"]["ok"]
    flags[-1] = "judge.model=other"
    assert "serves served" in findings(precept("doctor", "--json", *flags))["judge: other"]["found"]
    server.shutdown()
    server.server_close()
    gone = findings(precept("doctor", "--json", *flags))["judge: other"]
    assert not gone["ok"] and gone["mend"] == "start the server, for example: vllm serve other"
    assert seen == [None, "Bearer k", "Bearer k"]


def test_words_are_those_of_the_world(precept) -> None:
    assert set(precept("sandbox", "words", "--json").json) == set(themes.THEMES)
    found = precept("sandbox", "words", "sourced", "--json").json
    assert "Which reply names a source for what it claims?" in found["comparison"]
    assert "Rewrite the reply so that it names its source." in found["revision"]
    assert any("names no source" in words for words in found["critique"])
    assert "names its source" in precept("sandbox", "words", "sourced").out


def test_the_prompts_can_be_read_in_again(precept, tmp_path) -> None:
    from sandbox.prompts import prompts

    lines = precept("sandbox", "prompts", "--json").out
    file = tmp_path / "prompts.jsonl"
    file.write_text(lines)
    again = read_prompts(file, heldout=0.1, dev=0.1)
    assert again == list({p.id: p for p in prompts()}.values())
    assert messages_of(json.loads(lines.split("\n")[0])["prompt"]) == again[0].messages
