"""No key is in settings, however it is put there: they are stored with a run and shown in its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitution.errors import UserError
from service.queries.settings import in_force
from service.settings import load
from storage.store import Store


@pytest.mark.parametrize(
    "line",
    [
        'judge.options.api_key = "hunter2-x"',
        'judge.options.headers.Authorization = "Bearer hunter2-x"',
        'judge.judge_options.other = {model = "m", options = {api_key = "hunter2-x"}}',
        'judge.judge_options.others = [{model = "m", options = {"x-api-key" = "hunter2-x"}}]',
        'judge.base_url = "http://me:hunter2-x@model.example/v1"',
        'judge.base_url = "http://hunter2-x@model.example/v1"',
        'judge.base_url = "http://model.example/v1?api_key=hunter2-x"',
        'judge.judge_options.other.base_url = "https://model.example/v1?access_token=hunter2-x"',
        'optimise.reward = {kind = "http", url = "http://me:hunter2-x@reward.example"}',
        'optimise.reward = {kind = "http", url = "http://reward.example", api_key = "hunter2-x"}',
        'prompts = {source = "hub", token = "hunter2-x"}',
        'arguments.dpo.hub_token = "hunter2-x"',
        *(
            f'judge.options.{name} = "hunter2-x"'
            for name in ("api_token bearer_token passwd pwd credentials private_key openai_key auth pass").split()
        ),
        'judge.options.api_key = ["hunter2-x"]',
        "judge.options.password = 12345",
    ],
)
def test_a_key_in_settings_is_refused_and_not_told(tmp_path: Path, line: str) -> None:
    file = tmp_path / "precept.toml"
    file.write_text(line)
    with pytest.raises(UserError, match=r"does not belong in settings.*api_key_env") as caught:
        load(file)
    assert "hunter2" not in str(caught.value)


def test_what_is_no_key_is_a_setting(tmp_path: Path) -> None:
    file = tmp_path / "precept.toml"
    file.write_text(
        'store = "postgresql://me:password@host/db"\njudge.api_key_env = "MY_KEY"\n'
        'judge.base_url = "http://localhost:8000/v1"\narguments.dpo.pad_token = "<pad>"\njudge.options.api_key = ""\n'
        'critic.options = {max_tokens = 3, tokenizer = "x", token_ids = [1], author = "me", passes = 2}\n'
        'optimise.reward = {kind = "http", url = "http://reward.example/score?v=2", api_key_env = "REWARD_KEY"}\n'
    )
    settings, _ = load(file)
    assert settings.judge.api_key_env == "MY_KEY"


def test_what_is_shown_of_settings_holds_no_password(tmp_path: Path) -> None:
    """A header's value is hidden whatever the header is called, and a store's passwords wherever they stand."""
    file = tmp_path / "precept.toml"
    url = "postgresql://me:hunter2@127.0.0.1:1/db?sslpassword=hunter2&sslmode=require"
    file.write_text(f'store = "{url}"\npolicy.options.headers = {{X-Gate = "hunter2"}}\n')
    settings, origins = load(file)
    values = {setting.name: setting.value for setting in in_force(settings, origins)}
    assert "hunter2" not in str(values)
    assert values["policy.options.headers.X-Gate"] == "***" and "sslmode=require" in values["store"]
    with pytest.raises(UserError, match="cannot reach the database") as caught:
        Store.open(url, home=tmp_path)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be kept in") as caught:
        Store.open("mysql://me@host/db?sslpassword=hunter2", home=tmp_path)
    assert "hunter2" not in str(caught.value)
