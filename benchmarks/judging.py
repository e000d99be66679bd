"""How fast a judge answers, against the two ways it is usually done, and whether it answers the same.

    python -m benchmarks.judging [--json]

The workload is a judge's: comparisons x 4 principles x 2 orders, the principle last, about 400 tokens a question of
which about 340 are shared by the four. The model is a Llama of 6 million random weights: time does not depend on what
weights say. Time is CPU time of this process on one thread, since other work may be going on. Both sides of a ratio
are measured in this run, turn by turn, rendering and tokenising included, each in batches of the size at which it was
fastest; the best turn of each counts.

1. A and B read off with shared prefixes computed once, against generating 32 tokens a question and parsing them
   (batched, with transformers' own `generate`): at least 4 times as fast.
2. The same against one forward pass a question, batched: at least 2.2 times, and at least 80% of the limit that the
   number of tokens sets.
3. Margins (log-odds of A over B) equal to the plain pass's to 1e-5, and no preference flips.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from constitution.records import Message
from pipeline.engines.engine import Chat, Choose, EngineSettings
from pipeline.engines.transformers import TransformersEngine, build
from pipeline.engines.tree import pack

LABELS = ("A", "B")
PRINCIPLES = 4
COMPARISONS = 12
GENERATED = 4  # of them are also generated for, which is the slowest
TURNS = 3
BATCHES = {"shared": 32, "one_pass": 4, "generate": 8}  # questions
VOCABULARY = 4096
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }} {{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant {% endif %}"
)


def make_model(folder: Path) -> None:
    """A Llama of random weights with a tokenizer of whole words, so that lengths are known in tokens."""
    words = ["<|unknown|>", "<|start|>", "<|end|>", "user", "assistant", *LABELS]
    words += [f"w{n}" for n in range(VOCABULARY - len(words))]
    raw = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<|unknown|>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), behavior="removed")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|end|>", pad_token="<|unknown|>", padding_side="left"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|start|>"]})
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
        initializer_range=0.05,  # wide enough for attention to decide the answers
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=2,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


def make_questions(seed: int = 0) -> list[list[Chat]]:
    """Of each comparison the chats of both orders: instructions, dialogue, two answers, and the principle last."""
    drawn = random.Random(seed)

    def text(count: int) -> str:
        return " ".join(f"w{drawn.randrange(4000)}" for _ in range(count))

    instructions, close = text(30), text(8)
    principles = [text(drawn.randint(40, 64)) for _ in range(PRINCIPLES)]
    comparisons = []
    for _ in range(COMPARISONS):
        dialogue = text(drawn.randint(60, 160))
        answers = text(drawn.randint(50, 150)), text(drawn.randint(50, 150))
        comparisons.append(
            [
                Chat((Message("user", " ".join([instructions, dialogue, "A", one, "B", other, principle, close])),))
                for one, other in (answers, answers[::-1])
                for principle in principles
            ]
        )
    return comparisons


def shared(engine: TransformersEngine, comparisons: Sequence[Sequence[Chat]]) -> list[float]:
    """Margins of every question by the engine, a group for each order, as judges ask it: what is measured."""
    halves = [half for chats in comparisons for half in (chats[:PRINCIPLES], chats[PRINCIPLES:])]
    answers = engine.choose([Choose(tuple(half), LABELS) for half in halves])
    return [math.log(choice.probabilities[0] / choice.probabilities[1]) for group in answers for choice in group]


class Plain:
    """The usual ways, written with transformers alone."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
        self.labels = self.tokenizer.convert_tokens_to_ids(list(LABELS))

    def batches(self, chats: Sequence[Chat], size: int) -> list[tuple[list[int], Any]]:
        """Left-padded batches of questions of like length, with the questions' numbers."""
        rows = [[{"role": message.role, "content": message.content} for message in chat.messages] for chat in chats]
        texts = self.tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        return [(part, self.encode([texts[n] for n in part])) for part in parts]

    def encode(self, texts: list[str]) -> Any:
        return self.tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")

    @torch.inference_mode()
    def one_pass(self, chats: Sequence[Chat]) -> list[float]:
        """Margins of every question, each by a forward pass of its own, batched."""
        margins = [0.0] * len(chats)
        for numbers, inputs in self.batches(chats, BATCHES["one_pass"]):
            positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
            given = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
            output = self.model(**given, position_ids=positions, use_cache=False, logits_to_keep=1)
            logits = output.logits[:, -1, self.labels]
            for number, margin in zip(numbers, (logits[:, 0] - logits[:, 1]).tolist(), strict=True):
                margins[number] = margin
        return margins

    @torch.inference_mode()
    def generate(self, chats: Sequence[Chat]) -> list[str | None]:
        """The option that each of 32 generated tokens names first; None where none does."""
        named: list[str | None] = [None] * len(chats)
        for numbers, inputs in self.batches(chats, BATCHES["generate"]):
            given = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
            output = self.model.generate(**given, max_new_tokens=32, do_sample=False, pad_token_id=0)
            written = self.tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            for number, text in zip(numbers, written, strict=True):
                found = re.search(r"\b[AB]\b", text)
                named[number] = found[0] if found else None
        return named


def seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measure() -> dict[str, Any]:
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder)
        engine = build(EngineSettings(model=name, device="cpu", batch_size=BATCHES["shared"]))
        plain = Plain(folder)
    comparisons = make_questions()
    questions = [chat for chats in comparisons for chat in chats]
    few = questions[: GENERATED * 2 * PRINCIPLES]
    ids = [[engine.render(chat) for chat in chats] for chats in comparisons]
    plain_tokens = sum(len(each) for group in ids for each in group)
    packed = sum(len(pack(half).tokens) for group in ids for half in (group[:PRINCIPLES], group[PRINCIPLES:]))

    margins, expected = shared(engine, comparisons), plain.one_pass(questions)  # which also warms both up
    plain.generate(few[:2])
    times: dict[str, list[float]] = {"generate": [], "one_pass": [], "shared": []}
    for _ in range(TURNS):
        times["generate"].append(seconds(lambda: plain.generate(few)) / len(few))
        times["one_pass"].append(seconds(lambda: plain.one_pass(questions)) / len(questions))
        times["shared"].append(seconds(lambda: shared(engine, comparisons)) / len(questions))
    rate = {name: 1 / min(measured) for name, measured in times.items()}
    limit = plain_tokens / packed
    return {
        "model_parameters": sum(weight.numel() for weight in plain.model.parameters()),
        "questions": len(questions),
        "tokens_a_question": plain_tokens / len(questions),
        "shared_tokens_a_question": (plain_tokens - packed) / len(questions) * PRINCIPLES / (PRINCIPLES - 1),
        "verdicts_a_second": rate,
        "goal_1": {"ratio": rate["shared"] / rate["generate"], "goal": 4.0},
        "goal_2": {
            "ratio": rate["shared"] / rate["one_pass"],
            "goal": 2.2,
            "token_limit": limit,
            "of_limit": rate["shared"] / rate["one_pass"] / limit,
            "of_limit_goal": 0.8,
        },
        "goal_3": {
            "max_margin_difference": max(abs(one - other) for one, other in zip(margins, expected, strict=True)),
            "goal": 1e-5,
            "flips": sum((one > 0) != (other > 0) for one, other in zip(margins, expected, strict=True)),
            "mean_margin": sum(map(abs, expected)) / len(expected),
        },
    }


def report(found: dict[str, Any]) -> str:
    one, two, three = found["goal_1"], found["goal_2"], found["goal_3"]
    rates = ", ".join(f"{name.replace('_', ' ')} {rate:.1f}" for name, rate in found["verdicts_a_second"].items())

    def line(number: int, text: str, met: bool) -> str:
        return f"goal {number}  {'met   ' if met else 'MISSED'}  {text}"

    return "\n".join(
        [
            f"Judging: {found['questions']} questions of {found['tokens_a_question']:.0f} tokens, "
            f"{found['shared_tokens_a_question']:.0f} of them shared; {found['model_parameters'] / 1e6:.1f}M weights",
            f"verdicts a CPU second: {rates}",
            line(1, f"{one['ratio']:.2f} x generate and parse (goal {one['goal']} x)", one["ratio"] >= one["goal"]),
            line(
                2,
                f"{two['ratio']:.2f} x one pass a question (goal {two['goal']} x), {two['of_limit']:.0%} of the "
                f"{two['token_limit']:.2f} x that tokens allow (goal {two['of_limit_goal']:.0%})",
                two["ratio"] >= two["goal"] and two["of_limit"] >= two["of_limit_goal"],
            ),
            line(
                3,
                f"margins differ by {three['max_margin_difference']:.1e} at most (goal {three['goal']:.0e}; they are "
                f"{three['mean_margin']:.1f} in the mean), {three['flips']} flips",
                three["max_margin_difference"] <= three["goal"] and not three["flips"],
            ),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Goals 1 to 3: judging with shared prefixes.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    found = measure()
    print(json.dumps(found, indent=2) if as_json else report(found))


if __name__ == "__main__":
    main()
