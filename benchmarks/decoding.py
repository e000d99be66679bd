"""Decoding with room in the cache and a nucleus found among a few, against copying the cache and sorting all.

    python -m benchmarks.decoding FOLDER [--rows 64] [--tokens 300] [--rounds 2]

Both decode the same prompts of random tokens with the same seeds in one process, by turns, and have to give the same
tokens; nothing stops early. Seconds of the CPU, since the machine may have other work.
"""

from __future__ import annotations

import argparse
import time
from unittest import mock

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from pipeline.engines import decoding
from pipeline.engines.engine import Sampling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.float32).eval()
    chance = torch.Generator().manual_seed(0)
    prompts = torch.randint(5, 5000, (args.rows, 40), generator=chance).tolist()
    samplings = [Sampling(temperature=0.7, top_p=0.9, max_tokens=args.tokens)] * args.rows
    took = {"plain": 0.0, "now": 0.0}
    for _ in range(args.rounds):
        told = []
        for name in took:
            began = time.process_time()
            if name == "now":
                told.append(decoding.decode(model, prompts, samplings, range(args.rows), ()))
            else:
                with mock.patch.multiple(decoding, with_room=lambda cache: cache, nucleus=sorted_whole):
                    told.append(decoding.decode(model, prompts, samplings, range(args.rows), ()))
            took[name] += time.process_time() - began
        assert told[0] == told[1], "they wrote different tokens"
    tokens = args.rounds * args.rows * args.tokens
    for name, seconds in took.items():
        print(f"{name:<6} {tokens / seconds:8.1f} tokens a CPU second")
    print(f"{took['plain'] / took['now']:.2f} x")


def sorted_whole(probabilities: Tensor, top_p: Tensor) -> Tensor:
    ordered, order = probabilities.sort(stable=True, dim=-1, descending=True)
    beyond = ordered.cumsum(-1) - ordered >= top_p[:, None]
    beyond[:, 0] = False
    return probabilities.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), 0.0)


if __name__ == "__main__":
    main()
