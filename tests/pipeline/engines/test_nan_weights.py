"""A model whose weights are NaN says nothing: no answer, no score, and no verdict comes of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from constitution.errors import UserError
from constitution.records import Message
from pipeline.engines.engine import Chat, Choose, EngineSettings, Generate, Sampling, Score
from pipeline.engines.transformers import build

CHAT = Chat((Message("user", "hi"),))


@pytest.mark.parametrize("part", ["layers.1.mlp.down_proj.weight", "embed_tokens.weight"])
def test_nothing_is_sampled_scored_or_chosen(tiny_model: Callable[..., Path], tmp_path: Path, part: str) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_model("llama"), folder)
    weights = load_file(folder / "model.safetensors")
    [name] = [name for name in weights if name.endswith(part)]
    weights[name][-1] = float("nan")  # of the embedding, which is the head, too: one token alone
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    engine = build(EngineSettings("transformers", str(folder), device="cpu"))
    for sampling in (Sampling(max_tokens=4), Sampling(0.0, max_tokens=4)):
        with pytest.raises(UserError, match=r"NaN .*another checkpoint"):
            engine.generate([Generate(CHAT, sampling, 1)])
    with pytest.raises(UserError, match="NaN"):
        engine.score([Score(CHAT, "yes")])
    [[choice]] = engine.choose([Choose((CHAT,), ("A", "B"))])
    assert getattr(choice, "mass", None) == 0.0  # unreadable
    engine.close()
