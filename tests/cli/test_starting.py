"""`precept init` and `precept settings`."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import init
from cli.init import Start, text_of
from constitution.principles import Constitution
from service import settings


@pytest.mark.parametrize("start", list(Start))
def test_what_init_writes_is_read_by_the_settings(start, tmp_path, precept, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert precept("init", "new", "--from", start.value).code == 0
    monkeypatch.chdir(tmp_path / "new")
    loaded, origins = settings.load()
    assert loaded.prompts == ("sandbox" if start is Start.sandbox else "prompts.jsonl")
    assert origins["policy.model"] == "precept.toml"
    assert len(Constitution.load(loaded.constitution)) >= 3
    assert loaded.judge.kind == ("openai" if start is Start.server else "transformers")


def test_the_sandbox_file_is_the_one_that_ships() -> None:
    """Somebody who writes it has begun nothing new: it is the run of `make improve`."""
    root = Path(init.__file__).parents[1]
    assert text_of(Start.sandbox) == (root / "precept.toml").read_text()


def test_commented_settings_are_settings(tmp_path) -> None:
    """A line that is commented out is an offer: with the mark taken away it has to be read, too."""
    for start in (Start.local, Start.server):
        lines = [_offered(line) for line in text_of(start).split("\n")]
        path = tmp_path / f"{start}.toml"
        path.write_text("\n".join(lines))
        assert settings.load(path)[0].limits.max_calls == 100000


def _offered(line: str) -> str:
    return line[2:] if line.startswith("# ") and " = " in line and "`" not in line else line


def test_nothing_is_written_over(tmp_path, precept, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("principles.yaml").write_text("mine")
    assert precept("init").code == 0
    Path("precept.toml").write_text("seed = 7")
    outcome = precept("init")
    assert outcome.code == 2
    assert "precept.toml exists already" in outcome.err
    assert Path("precept.toml").read_text() == "seed = 7"
    assert Path("principles.yaml").read_text() == "mine"


def test_settings_tell_every_value_and_its_origin(project, precept, monkeypatch) -> None:
    monkeypatch.setenv("PRECEPT_JUDGE__TEMPERATURE", "0.5")
    found = {f["name"]: f for f in precept("settings", "--json", "--set", "optimise.arguments.beta=0.2").json}
    assert found["judge.temperature"] == {"name": "judge.temperature", "value": 0.5, "origin": "environment"}
    assert found["policy.kind"]["origin"] == "precept.toml"
    assert found["optimise.arguments.beta"] == {"name": "optimise.arguments.beta", "value": 0.2, "origin": "flag"}
    assert found["revise.rounds"]["origin"] == "default"


def test_a_key_in_the_settings_is_refused_and_not_shown(project, precept) -> None:
    """Whatever is in the settings is stored with the run."""
    refused = precept("improve", "--set", "judge.options.api_key=hunter3")
    assert refused.code == 2 and "hunter3" not in refused.out + refused.err
    assert "judge.options: a key does not belong in settings: put it where api_key_env says" in refused.err
    assert not (project / "runs").exists()


def test_settings_never_show_a_password_or_a_key(project, precept) -> None:
    store = "store=postgresql://ada:hunter2@host/db"
    outcome = precept("settings", "--set", store, "--set", "judge.options.token=hunter3")
    shown = precept("settings", "--json", "--set", store, "--set", "judge.options.token=hunter3")
    for text in (outcome.out, shown.out):
        assert "hunter" not in text
        assert "postgresql://ada:***@host/db" in text
        assert "OPENAI_API_KEY" in text  # the name of the variable is no secret
