"""Real transformers folders, tiny and of random weights: a byte-level BPE tokenizer trained here, a chat template. And
servers of the two dialects of the openai engine, with engines that ask them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.openai import OpenAIEngine, build
from tests.pipeline.engines.protocol_server import Connect, ProtocolServer, quick, running

CORPUS = [
    "Which answer is better, A or B? The better answer is (A) or (B).",
    "the quick brown fox jumps over the lazy dog, and a whale is not a fish",
    "user assistant system answer question principle harmless honest helpful",
]
TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'system' and refuse_system %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% if think %}<think>\n{% endif %}{% endif %}"
)
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
WINDOW = 16  # short, so that every prompt is longer
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "qwen3": ("Qwen3", {}),
    "mistral": ("Mistral", {"sliding_window": WINDOW}),
    "gemma2": ("Gemma2", {"sliding_window": WINDOW, "query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0}),
    "gemma3": (
        "Gemma3",
        {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"] * 2},
    ),
}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny_model("gemma2", sliding_window=8)`: the folder of such a model. Its weights are large, so that attention
    decides the answers and a wrong mask shows."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    torch.set_num_threads(1)  # matrices this small are slower on two threads, far slower when the machine is busy
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|text_end|>", "<|start|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(CORPUS, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<|pad|>", eos_token="<|text_end|>", clean_up_tokenization_spaces=False
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|start|>", "<|end|>"]})
    tokenizer.chat_template = TEMPLATE
    made: dict[tuple[Any, ...], Path] = {}

    def make(family: str = "llama", **overrides: Any) -> Path:
        key = (family, repr(sorted(overrides.items())))
        if key not in made:
            name, extra = FAMILIES[family]
            arguments = {**SIZES, "vocab_size": len(tokenizer), "initializer_range": 0.4, **extra, **overrides}
            for token in ("bos_token_id", "pad_token_id"):
                arguments.setdefault(token, 0)
            config_class = getattr(transformers, f"{name}ForCausalLM").config_class
            config = config_class(eos_token_id=tokenizer.eos_token_id, **arguments)
            torch.manual_seed(1)
            folder = tmp_path_factory.mktemp(family)
            getattr(transformers, f"{name}ForCausalLM")(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[key] = folder
        return made[key]

    return make


@pytest.fixture
def vllm() -> Iterator[ProtocolServer]:
    with running(dialect="vllm") as server:
        yield server


@pytest.fixture
def plain() -> Iterator[ProtocolServer]:
    with running(dialect="chat") as server:
        yield server


@pytest.fixture
def connect() -> Iterator[Connect]:
    """`connect(server, attempts=1)`: an engine that asks the server, closed when the test ends."""
    engines: list[OpenAIEngine] = []

    def make(server: ProtocolServer, **settings: Any) -> OpenAIEngine:
        engines.append(build(quick(server, **settings)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()
