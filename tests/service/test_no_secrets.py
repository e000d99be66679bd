"""No key is in settings, however it is put there: they are stored with a run and shown in its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitution.errors import UserError
from service.settings import load


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
        'optimise.reward = {kind = "http", url = "http://reward.example/score?v=2", api_key_env = "REWARD_KEY"}\n'
    )
    settings, _ = load(file)
    assert settings.judge.api_key_env == "MY_KEY"
