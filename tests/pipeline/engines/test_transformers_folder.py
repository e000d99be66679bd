"""Model folders: what is refused before anything runs, what a fingerprint covers, adapters."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from constitution.errors import UserError
from constitution.records import Message
from pipeline.engines.engine import Chat, EngineSettings, Score
from pipeline.engines.folder import find_model
from pipeline.engines.transformers import TransformersEngine, build

Tiny = Callable[..., Path]


@pytest.fixture
def folder(tiny_model: Tiny, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model("llama"), tmp_path / "model"))


def engine_of(folder: Path, **settings: Any) -> TransformersEngine:
    return build(EngineSettings(model=str(folder), device="cpu", **settings))


def edit(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


class Trap:
    """A pickle that writes a file when it is opened."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> Any:
        return Path.touch, (self.sprung,)


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "model.pkl"])
def test_a_pickle_is_refused_and_not_opened(folder: Path, name: str, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(UserError, match=f"{name} is a pickle"):
        engine_of(folder)
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_beside_the_weights_is_not_opened(folder: Path, tmp_path: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    engine_of(folder).close()
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused_and_not_run(folder: Path, name: str, tmp_path: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    edit(folder / name, auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})
    with pytest.raises(UserError, match=f"{name} asks for code of its own"):
        engine_of(folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"no {name}"):
        engine_of(folder)


def test_all_missing_files_are_named_at_once(folder: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (folder / name).unlink()
    with pytest.raises(UserError, match=r"no config\.json, no tokenizer\.json"):
        engine_of(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    weights = folder / "model.safetensors"
    names = list(load_file(weights))
    weights.rename(folder / "model-00001-of-00002.safetensors")
    shards = {name: f"model-0000{1 + (name == names[-1])}-of-00002.safetensors" for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(UserError, match=r"no model-00002-of-00002\.safetensors"):
        engine_of(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../../elsewhere"}}))
    with pytest.raises(UserError, match="of its own folder"):
        engine_of(folder)


def test_a_damaged_file_is_told(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(UserError, match="could not be loaded"):
        engine_of(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is not JSON"):
        engine_of(folder)


def test_weights_that_are_not_a_language_model_s_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights.*up_proj"):
        engine_of(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": ""}, "No model is named"),
        ({"model": "/no/such/folder"}, "no such model folder"),
        ({"dtype": "float8"}, "dtype 'float8' is not one of"),
        ({"device": "abacus"}, "device 'abacus' is not one of"),
        ({"batch_size": 0}, "must be at least 1"),
        ({"options": {"warp": 9}}, "no option 'warp'"),
    ],
)
def test_settings_that_cannot_be(tiny_model: Tiny, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(EngineSettings(**{"model": str(tiny_model("llama")), **settings}))


def test_a_model_s_name_is_fetched_without_pickles_or_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[Any] = []

    def fetch(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert not any(Path(bad).match(pattern) for bad in ("m.bin", "m.pt", "m.py") for pattern in allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert find_model("someone/something", "v2").weights == folder
    assert asked == [("someone/something", "v2")]


# --- fingerprints ------------------------------------------------------------------------------------------------


def test_a_copy_has_the_same_fingerprint(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    edit(copy / "config.json", transformers_version="9.9", _name_or_path="elsewhere")
    (copy / "README.md").write_text("a model card")
    assert engine_of(copy, batch_size=3).fingerprint == engine_of(folder).fingerprint


def test_whatever_decides_answers_changes_the_fingerprint(folder: Path) -> None:
    seen = {engine_of(folder).fingerprint, engine_of(folder, dtype="bfloat16").fingerprint}
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    seen.add(engine_of(folder).fingerprint)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    seen.add(engine_of(folder).fingerprint)
    edit(folder / "config.json", rms_norm_eps=1e-4)
    seen.add(engine_of(folder).fingerprint)
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    seen.add(engine_of(folder).fingerprint)
    assert len(seen) == 6


# --- adapters ----------------------------------------------------------------------------------------------------


@pytest.fixture
def adapter(folder: Path, tmp_path: Path) -> Path:
    import peft
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    adapted: Any = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    torch.manual_seed(2)
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.5)
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_is_loaded_over_its_base(folder: Path, adapter: Path, tmp_path: Path) -> None:
    import peft
    import transformers

    merged: Any = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(folder), adapter)
    shutil.copytree(folder, tmp_path / "merged")
    merged.merge_and_unload().save_pretrained(tmp_path / "merged")
    request = [Score(Chat((Message("user", "fox"),)), "dog")]
    found, base = engine_of(adapter), engine_of(folder)
    [expected] = engine_of(tmp_path / "merged").score(request)
    assert found.score(request)[0].logprob == pytest.approx(expected.logprob, abs=1e-4)
    assert abs(base.score(request)[0].logprob - expected.logprob) > 0.1
    assert found.fingerprint != base.fingerprint


def test_an_adapter_without_its_base_is_told(folder: Path, adapter: Path) -> None:
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"is an adapter, and its base model cannot be used.*no such model folder"):
        engine_of(adapter)


def test_an_adapter_that_is_a_pickle_is_refused(adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(UserError, match=r"adapter_model\.bin is a pickle"):
        engine_of(adapter)
    assert not (tmp_path / "sprung").exists()
