"""What the first steps of training in bfloat16 do to weights that are bfloat16 numbers already, as published ones are.

    python -m benchmarks.rounding [--steps N] [--learning-rate RATE] [--json]

In mixed precision weights and their updates are float32, and a pass rounds the weights to bfloat16. A number that is
exactly representable is rounded back to where it was until its updates add up to half the distance to the next one: for
0.02 that is 6e-5, six first steps of AdamW at a rate of 1e-5, or sixty at 1e-6. The loss then falls later than in
float32. Random float32 weights lie anywhere between two such numbers, so that of many some are rounded over at once,
and the two agree. A Qwen2 of 6 million random weights on a CPU, the same batches for all four.
"""

from __future__ import annotations

import argparse
import json

import torch


def losses(*, representable: bool, half: bool, steps: int, rate: float) -> list[float]:
    """The loss of each step. `representable`: the weights are bfloat16 numbers; `half`: passes in bfloat16."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=20_000,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM(config)
    if representable:
        model = model.to(torch.bfloat16).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0)
    drawn, found = torch.Generator().manual_seed(1), []
    for _ in range(steps):
        ids = torch.randint(0, 20, (4, 64), generator=drawn)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        found.append(loss.item())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Mixed precision from weights that are bfloat16 numbers.")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    found = {}
    for weights in ("bfloat16", "float32"):
        for passes in ("float32", "bfloat16"):
            found[f"{weights} numbers, passes in {passes}"] = losses(
                representable=weights == "bfloat16",
                half=passes == "bfloat16",
                steps=given.steps,
                rate=given.learning_rate,
            )
    if given.json:
        print(json.dumps(found, indent=2))
        return
    for name, curve in found.items():
        print(f"weights are {name:38} {' '.join(f'{loss:.4f}' for loss in curve)}")


if __name__ == "__main__":
    main()
