"""`precept init` and `precept settings`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli import init
from cli.init import Start, text_of
from constitution import loading
from service import settings


@pytest.mark.parametrize("start", list(Start))
def test_what_init_writes_is_read_by_the_settings(start, tmp_path, precept, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert precept("init", "new", "--from", start.value).code == 0
    monkeypatch.chdir(tmp_path / "new")
    loaded, origins = settings.load()
    assert loaded.prompts == ("sandbox" if start is Start.sandbox else "prompts.jsonl")
    assert origins["policy.model"] == "precept.toml"
    assert len(loading.load(loaded.constitution)) >= 3
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
    """A sentence that quotes a setting is no offer: an offer begins with the setting's name."""
    return line[2:] if re.match(r"# [a-z_]+ = ", line) else line


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


def test_only_what_was_changed_is_shown(project, precept, monkeypatch) -> None:
    monkeypatch.delenv("PRECEPT_TRIAL__REQUIRED", raising=False)  # as tests/conftest.py has it
    monkeypatch.setenv("PRECEPT_SEED", "0")  # set, to its default
    found = {f["name"]: f["value"] for f in precept("settings", "--changed", "--json", "--set", "rounds=2").json}
    assert found["rounds"] == 2 and found["policy.kind"] == "scripted" and found["judge.kind"] == "scripted"
    assert "seed" not in found and "revise.rounds" not in found
    Path("precept.toml").write_text('[policy]\nmodel = "m"\n')  # which the judge then is, too: nobody set the judge's
    assert [f["name"] for f in precept("settings", "--changed", "--json").json] == ["policy.model"]


def test_a_setting_is_explained_in_two_lines(project, precept) -> None:
    lines = precept("settings", "explain", "gate.min_win_rate", "--set", "gate.min_win_rate=0.6").out.splitlines()
    assert lines == [
        "gate.min_win_rate: The lower end of the win rate's 95% interval has to be above this.",
        "number, default 0.5; now 0.6, from flag",
    ]
    found = precept("settings", "explain", "policy.kind", "--json").json
    assert found["origin"] == "precept.toml" and found["default"] == "transformers" and found["type"] == "text"
    assert "true or false, default true; now true, from default" in precept("settings", "explain", "watch.stop").out
    named = precept("settings", "explain", "optimise.arguments.beta", "--set", "optimise.arguments.beta=0.1").out
    assert "(in the table optimise.arguments), default none; now 0.1, from flag" in named
    assert "now {}" in precept("settings", "explain", "sft.arguments").out
    assert "now none" in precept("settings", "explain", "trained.model").out  # a section that nobody wrote


def test_a_setting_that_there_is_not_is_told_with_those_near_it(project, precept) -> None:
    assert "near it: gate.min_win_rate" in precept("settings", "explain", "gate.min_winrate").err
    assert "gate is a section; it has gate.min_win_rate" in precept("settings", "explain", "gate").err
    assert precept("settings", "explain", "zzz").code == 2


def test_a_secret_is_not_explained_away(project, precept) -> None:
    store = "store=postgresql://ada:hunter2@host/db"
    said = precept("settings", "explain", "store", "--set", store, "--json")
    assert said.json["value"] == "postgresql://ada:***@host/db" and "hunter2" not in said.out


def test_a_key_in_the_settings_is_refused_and_not_shown(project, precept) -> None:
    """Whatever is in the settings is stored with the run."""
    refused = precept("improve", "--set", "judge.options.api_key=hunter3")
    assert refused.code == 2 and "hunter3" not in refused.out + refused.err
    assert "judge.options: a key does not belong in settings: put it where api_key_env says" in refused.err
    assert not (project / "runs").exists()


def test_settings_never_show_a_password_or_a_key(project, precept) -> None:
    store = "store=postgresql://ada:hunter2@host/db"
    refused = precept("settings", "--set", "judge.options.token=hunter3")
    assert refused.code == 2 and "api_key_env" in refused.err and "hunter" not in refused.out + refused.err
    outcome = precept("settings", "--set", store)
    shown = precept("settings", "--json", "--set", store)
    for text in (outcome.out, shown.out):
        assert "hunter" not in text
        assert "postgresql://ada:***@host/db" in text
        assert "OPENAI_API_KEY" in text  # the name of the variable is no secret


def test_outside_a_project_nothing_is_written(tmp_path: Path, precept, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = precept("improve")
    assert outcome.code == 2 and "there are no settings here" in outcome.err and "precept init" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_section_in_which_nothing_is_set_is_the_origin_of_nothing(tmp_path: Path, monkeypatch) -> None:
    """As `init` writes them, with every line commented out."""
    monkeypatch.delenv("PRECEPT_TRIAL__REQUIRED", raising=False)
    path = tmp_path / "precept.toml"
    path.write_text("[limits]\n# max_calls = 3\n[optimise]\nlora = {}\n")
    assert settings.load(path)[1].keys() == {"optimise.lora"}
