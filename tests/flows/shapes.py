"""Model folders shaped like those people have: Qwen3, Llama, Gemma 3 and Mistral, two layers wide 48, random weights.

Each has its family's own parts (tied or separate embeddings, query and key norms, sliding windows, a vocabulary longer
than the tokenizer's, no padding token) and a chat template of its family's kind, in our words. The sandbox's tokenizer
does the reading; the family's special tokens are added to it.

A model of random weights never stops by itself, and an answer that is cut is not trained on. So one dimension of the
hidden states is set by every token's embedding, no layer writes to it, and the end of a turn alone is read off there,
at a height that makes it about one token in five. That is the only thing these models know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.models import folder as sandbox_folder

STOPS = 0.2  # the probability of ending the answer, at every token
CONTEXT = 1024

QWEN = """\
{%- for m in messages -%}
<|im_start|>{{ m.role }}
{% if m.role == 'assistant' and loop.last and not add_generation_prompt %}<think>

</think>

{% endif %}{{ m.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""
LLAMA = """\
{{- bos_token -}}
{%- for m in messages -%}
<|start_header_id|>{{ m.role }}<|end_header_id|>

{{ m.content | trim }}<|eot_id|>
{%- endfor -%}
{%- if add_generation_prompt -%}
<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""
GEMMA = """\
{{- bos_token -}}
{%- for m in messages -%}
{%- if m.role == 'system' -%}{{ raise_exception('there is no system role here') }}{%- endif -%}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('turns must alternate') }}{%- endif -%}
<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}
{{ m.content | trim }}<end_of_turn>
{% endfor -%}
{%- if add_generation_prompt -%}
<start_of_turn>model
{% endif %}"""
MISTRAL = """\
{{- bos_token -}}
{%- for m in messages -%}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('turns must alternate') }}{%- endif -%}
{%- if m.role == 'user' -%}[INST] {{ m.content }} [/INST]{%- else -%}{{ ' ' + m.content + eos_token }}{%- endif -%}
{%- endfor -%}"""


@dataclass(frozen=True)
class Family:
    """A kind of model: transformers' name of it, its chat template, its special tokens and what else it has."""

    name: str
    template: str
    end: str  # closes an assistant's turn
    added: tuple[str, ...]
    named: Mapping[str, str | None]  # which of them the tokenizer names, and how
    config: Mapping[str, Any] = field(default_factory=dict)


FAMILIES = {
    "qwen3": Family(
        "Qwen3", QWEN, "<|im_end|>", ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None},
        {"tie_word_embeddings": True},
    ),
    "llama": Family(  # the end of a turn is not the end of text, and nothing is there to pad with
        "Llama", LLAMA, "<|eot_id|>",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": None},
        {"tie_word_embeddings": False},
    ),
    "gemma3": Family(
        "Gemma3", GEMMA, "<end_of_turn>", ("<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
        {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"], "tie_word_embeddings": True},
    ),
    "mistral": Family(
        "Mistral", MISTRAL, "</s>", ("<s>", "</s>", "[INST]", "[/INST]"),
        {"bos_token": "<s>", "eos_token": "</s>", "pad_token": None},
        {"sliding_window": 32, "tie_word_embeddings": False},
    ),
}  # fmt: skip


def build(family: str, folder: Path, seed: int = 0) -> Path:
    """Write such a model's folder, and return it."""
    import torch
    import transformers

    torch.set_num_threads(1)  # matrices this small are slower on two threads, far slower when the machine is busy
    shape = FAMILIES[family]
    tokenizer = _tokenizer(shape)
    end = tokenizer.convert_tokens_to_ids(shape.end)
    architecture = getattr(transformers, f"{shape.name}ForCausalLM")
    config = architecture.config_class(
        vocab_size=-(-len(tokenizer) // 64) * 64,  # rounded up, as those of real models
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,  # not hidden_size / heads
        max_position_embeddings=CONTEXT,
        initializer_range=0.1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **shape.config,
    )
    torch.manual_seed(seed)
    model = architecture(config).eval()
    chat = [{"role": "user", "content": "Tell me what a baker does all day, and why."}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    _let_it_stop(model, tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"], end)
    if shape.end != shape.named["eos_token"]:
        model.generation_config.eos_token_id = [tokenizer.eos_token_id, end]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(shape: Family) -> Any:
    import transformers

    source = sandbox_folder("policy") / "tokenizer.json"
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(source),
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
        **{name: token for name, token in shape.named.items() if token is not None},
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(shape.added)})
    tokenizer.chat_template = shape.template
    return tokenizer


def _let_it_stop(model: Any, ids: Any, end: int) -> None:
    """Make `end` as likely as STOPS after the tokens `ids` [1, tokens]; the module's first lines say how."""
    import torch

    read, said = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    with torch.no_grad():
        read[:, 0] = 1.0
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight[0] = 0.0
        said[end] = 0.0
        if said is not read:
            said[:, 0] = 0.0
        output = model(ids, output_hidden_states=True)
        held = output.hidden_states[-1][0, :, 0].mean()
        others = output.logits[0].logsumexp(-1).mean()
        said[end, 0] = (others + math.log(STOPS / (1 - STOPS))) / held
