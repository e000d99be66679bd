"""Templates and tokenizers of the kinds that people have, described and built here: tiny, trained in milliseconds.

Each is one kind's habits in our words: what opens and ends a turn, which tokens are special, what the normaliser does.
SmolLM2 and Gemma come from their packages (`tests/conftest.py`); Gemma has no template, and gets `GEMMA`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CORPUS = [
    "The better answer is (A) or (B), says the fox, and the dog sleeps.",
    "user assistant system model analysis final pear apple lock door window please thanks think tool call end start",
    "a whale is not a fish; is honesty the best policy? 0 1 2 3 4 5 6 7 8 9",
]
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role here') }}"
    "{% endif %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|head|>{{ m.role }}<|/head|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)
BRACKETS = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns must alternate') }}{% endif %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}"
    "<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n"
    "{% if enable_thinking is defined and not enable_thinking %}\n</think>\n\n{% endif %}{% endif %}"
)
ROLES = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
WIDE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}"
    "<\uff5cUser\uff5c>{{ m.content }}{% else %}<\uff5cAssistant\uff5c>{{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<\uff5cAssistant\uff5c><think>\n{% endif %}"
)
CHANNELS = (
    "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>"
    "{{ m.content }}{% if m.role == 'assistant' and loop.last %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
CLASSIC = (
    "[CLS] {% for m in messages %}{{ m.role }} : {{ m.content }} [SEP] {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


@dataclass(frozen=True)
class Family:
    """`tokens`: added ones, marked special or not; `named`: which the tokenizer knows by a name; `end`: what ends an
    answer; `opens`: the prompt opens a block of thinking; `system`: whether there may be a system message."""

    template: str
    tokens: tuple[str, ...]
    named: Mapping[str, str | None]
    end: str
    plain: tuple[str, ...] = ()  # added, and not marked special
    kind: str = "bytes"
    opens: bool = False
    system: bool = True
    flags: Mapping[str, Any] = field(default_factory=dict)  # of the added tokens


FAMILIES: dict[str, Family] = {
    "headers": Family(  # the end of a turn is not the end of text, nothing to pad with, contents trimmed
        HEADERS, ("<|begin|>", "<|text_end|>", "<|head|>", "<|/head|>", "<|eot|>"),
        {"bos_token": "<|begin|>", "eos_token": "<|text_end|>"}, "<|eot|>",
    ),
    "brackets": Family(  # pieces with spaces inside, no system role, eos ends a turn
        BRACKETS, ("<s>", "</s>", "[INST]", "[/INST]"), {"bos_token": "<s>", "eos_token": "</s>"}, "</s>",
        kind="pieces", system=False,
    ),
    "thinking": Family(  # added tokens that are not marked special, a prompt that opens a block
        THINKING, ("<|text_end|>", "<|im_start|>", "<|im_end|>"),
        {"eos_token": "<|im_end|>", "pad_token": "<|text_end|>"}, "<|im_end|>",
        plain=("<think>", "</think>", "<tool_call>", "</tool_call>"), opens=True,
    ),
    "roles": Family(  # tokens that take the spaces behind them, padding is the end of text
        ROLES, ("<|text_end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
        {"eos_token": "<|text_end|>", "pad_token": "<|text_end|>"}, "<|end|>", flags={"rstrip": True},
    ),
    "wide": Family(  # full-width marks under a normaliser that folds them, eos is the end of turn
        WIDE, ("<\uff5cbegin\uff5c>", "<\uff5cend\uff5c>", "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"),
        {"bos_token": "<\uff5cbegin\uff5c>", "eos_token": "<\uff5cend\uff5c>", "pad_token": "<\uff5cend\uff5c>"},
        "<\uff5cend\uff5c>", plain=("<think>", "</think>"), kind="folded", opens=True, flags={"normalized": True},
    ),
    "channels": Family(
        CHANNELS, ("<|text_end|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"),
        {"eos_token": "<|return|>", "pad_token": "<|text_end|>"}, "<|return|>",
    ),
    "classic": Family(  # lower case, whole words, and a normaliser that drops what is invisible
        CLASSIC, ("[PAD]", "[UNK]", "[CLS]", "[SEP]"),
        {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "eos_token": "[SEP]"}, "[SEP]",
        kind="words", flags={"normalized": True},
    ),
    "characters": Family(  # marks of one character
        "{% for m in messages %}\u25b6{{ m.role }}\n{{ m.content }}\u25c0{% endfor %}"
        "{% if add_generation_prompt %}\u25b6assistant\n{% endif %}",
        ("\u25a0", "\u25b6", "\u25c0"), {"eos_token": "\u25c0", "pad_token": "\u25a0"}, "\u25c0",
        flags={"lstrip": True},
    ),
}  # fmt: skip


def tokenizer_of(family: Family) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = list(family.tokens)
    raw = Tokenizer(models.BPE())
    if family.kind == "words":
        raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        raw.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
        raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        raw.decoder = decoders.WordPiece()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    elif family.kind == "pieces":
        raw = Tokenizer(models.BPE(unk_token="<s>", byte_fallback=True))
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
        alphabet = [chr(code) for code in range(33, 127)]
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        if family.kind == "folded":
            raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\u200b", "")])
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    raw.train_from_iterator(CORPUS, trainer)
    if family.kind == "pieces":  # what the vocabulary lacks is written in bytes
        whole = json.loads(raw.to_str())
        vocabulary = whole["model"]["vocab"]
        vocabulary |= {f"<0x{code:02X}>": len(vocabulary) + code for code in range(256)}
        raw = Tokenizer.from_str(json.dumps(whole))
    made = [AddedToken(token, special=True, **{"normalized": False, **family.flags}) for token in special]
    raw.add_special_tokens(made)
    raw.add_tokens(
        [AddedToken(token, special=False, **{"normalized": False, **family.flags}) for token in family.plain]
    )
    named = {name: token for name, token in family.named.items() if token}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=raw, clean_up_tokenization_spaces=False, **named)
    wrapped.chat_template = family.template
    return wrapped


def model_of(tokenizer: Any, folder: Path, **overrides: Any) -> Path:
    """A tiny Llama with this tokenizer, in `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **overrides,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
