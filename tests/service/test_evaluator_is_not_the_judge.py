"""Who made the labels does not measure what they are worth: the same weights are refused, whatever surrounds them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from constitution.errors import UserError
from sandbox.models import folder
from service import settings as settings_module
from service.wiring import Wiring

JUDGE = {"policy.model": "sandbox:policy", "judge.model": "sandbox:policy"}


def check(**flags: Any) -> None:
    Wiring(settings_module.load(None, {**JUDGE, **flags})[0]).refuse_one_model_twice()


def copy_of(tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder("policy"), tmp_path / "copy"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


REFUSED = r"the evaluator is the judge: .* has the weights of sandbox:policy"


@pytest.mark.parametrize(
    "around",
    [
        {},
        {"evaluator.answer_prefix": "The better reply is ("},
        {"evaluator.dtype": "bfloat16"},
        {"evaluator.template_args": {"enable_thinking": False}},
        {"evaluator.temperature": 0.1},
    ],
)
def test_the_same_model_asked_otherwise(around: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=REFUSED) as refused:
        check(**{"evaluator.model": "sandbox:policy", **around})
    assert "\n" not in str(refused.value)


def test_a_copy_with_another_template_tokenizer_and_configuration(tmp_path: Path) -> None:
    copy = copy_of(tmp_path)
    (copy / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}\n{% endfor %}")
    config = copy / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_max_length": 77}))
    with pytest.raises(UserError, match=REFUSED):
        check(**{"evaluator.model": str(copy)})


def test_a_copy_in_shards_or_in_another_number_format(tmp_path: Path) -> None:
    copy = copy_of(tmp_path)
    tensors = load_file(copy / "model.safetensors")
    names = sorted(tensors)
    for number, part in enumerate((names[:3], names[3:]), 1):
        half = {name: tensors[name].to(torch.bfloat16) for name in part}
        save_file(half, copy / f"model-0000{number}-of-00002.safetensors")
    (copy / "model.safetensors").unlink()
    weight_map = {name: f"model-0000{1 if name in names[:3] else 2}-of-00002.safetensors" for name in names}
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match=REFUSED):
        check(**{"evaluator.model": str(copy)})


def test_one_changed_weight_makes_another_model(tmp_path: Path) -> None:
    copy = copy_of(tmp_path)
    tensors = load_file(copy / "model.safetensors")
    tensors[max(tensors)].view(-1)[0] += 1
    save_file(tensors, copy / "model.safetensors")
    check(**{"evaluator.model": str(copy)})
    check(**{"evaluator.model": "sandbox:evaluator"})


def test_an_adapter_is_another_model_than_its_base_and_no_other_than_itself(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder("policy"))
    adapted: Any = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    adapted.peft_config["default"].base_model_name_or_path = str(folder("policy"))
    adapted.save_pretrained(tmp_path / "adapter")
    check(**{"evaluator.model": str(tmp_path / "adapter")})
    shutil.copytree(tmp_path / "adapter", tmp_path / "again")
    with pytest.raises(UserError, match="the evaluator is the judge"):
        check(**{"judge.model": str(tmp_path / "adapter"), "evaluator.model": str(tmp_path / "again")})


SERVER = {"judge.kind": "openai", "judge.model": "big", "evaluator.kind": "openai", "evaluator.model": "big"}


@pytest.mark.parametrize(
    ("judge", "evaluator"),
    [
        ("http://localhost:8000/v1", "http://127.0.0.1:8000/v1/"),
        ("http://Judge.example/v1", "http://judge.example:80/v2"),
        ("https://judge.example/v1", "https://judge.example:443/v1"),
    ],
)
def test_one_name_on_one_server(judge: str, evaluator: str) -> None:
    urls = {"judge.base_url": judge, "evaluator.base_url": evaluator}
    with pytest.raises(UserError, match="the evaluator is the judge"):
        check(**SERVER, **urls, **{"evaluator.answer_prefix": "(", "evaluator.revision": "other"})
    check(**{**SERVER, **urls, "evaluator.model": "other"})


def test_another_server_or_a_folder_is_not_the_judge() -> None:
    urls = {"judge.base_url": "http://localhost:8000/v1", "evaluator.base_url": "http://localhost:8001/v1"}
    check(**SERVER, **urls)
    check(**{**SERVER, **urls, "evaluator.kind": "transformers", "evaluator.base_url": "", "evaluator.model": "x"})


def test_a_model_that_the_judge_asks_besides(tmp_path: Path) -> None:
    given = {"judge.model": "sandbox:evaluator", "judge.method": "choice"}
    further = {"judge.judge_options": {"second": {"model": "sandbox:policy"}}}
    with pytest.raises(UserError, match=REFUSED):
        check(**given, **further, **{"evaluator.model": str(copy_of(tmp_path))})


def test_a_model_that_a_principles_judge_has_of_its_own(tmp_path: Path) -> None:
    """It labels, so it may not measure, whatever the roles of the settings are."""
    (tmp_path / "principles.yaml").write_text(
        "constitution: one\nversion: 1\nprinciples:\n  - id: kind\n    title: Be kind\n    critique: Rude?\n"
        "    revision: Be kind.\n    comparison: Which reply is kinder?\n"
        "    judge: {method: choice, another: {model: 'sandbox:evaluator'}}\n"
    )
    with pytest.raises(UserError, match=r"the evaluator is the judge: .* has the weights of sandbox:evaluator"):
        check(**{"evaluator.model": "sandbox:evaluator"})


@pytest.mark.parametrize(
    "options",
    [
        {"large": {"model": "sandbox:evaluator", "method": "rating"}},
        {"large": {"model": "m", "kind": "scripted", "judge_options": {"large": {"model": "sandbox:evaluator"}}}},
        {"reference": {"model": "sandbox:evaluator"}},
        {"reward": {"kind": "model", "paths": ["sandbox:evaluator"]}},
        {"reward": {"kind": "model", "paths": "sandbox:evaluator"}},
    ],
)
def test_whatever_model_a_judge_asks_however_deep_it_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"the evaluator is the judge: .* has the weights of sandbox:evaluator"):
        check(**{"evaluator.model": "sandbox:evaluator", "judge.judge_options": options})
    check(**{"evaluator.model": "sandbox:evaluator"})


def test_what_a_judge_names_is_found_in_a_process_without_settings(tmp_path: Path) -> None:
    options = {
        "large": {
            "model": "sandbox:evaluator",
            "judge_options": {"reward": {"kind": "model", "paths": ["sandbox:policy"]}},
        }
    }
    wiring = Wiring(settings_module.load(None, {**JUDGE, "judge.judge_options": options})[0])
    found = wiring.judge_spec(wiring.settings.judge, tmp_path / "c.yaml", "against")["judge_options"]["large"]
    assert found["model"] == str(folder("evaluator"))
    assert found["judge_options"]["reward"]["paths"] == [str(folder("policy"))]
