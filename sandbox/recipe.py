"""How the two shipped models are made: `python -m sandbox.recipe --role policy` (or evaluator) makes one again.

A Llama of four layers and width 128 on a byte-level BPE, from random weights, on the rows of `sandbox.corpus`, in one
annealed schedule. Rows are packed as trees: a prefix once, then branches that do not see each other, positions
restarted. The folder it writes is a plain Hugging Face folder with `recipe.json`: the settings, their hash, the loss
curve and what the model reached on combinations of words it never saw.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two spinning threads on a busy machine are ten times slower
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sandbox.corpus import CHAT_TEMPLATE, SPECIAL, Corpus, Row


@dataclass(frozen=True)
class Phase:
    """One annealed schedule. `claims`: how many times as often as usual a request is a claim, true or false (whether a
    fact is right is learnt last of all); `mix`: rows by kind, where it is not the role's own."""

    tokens: float  # read, a shared prefix counted once
    peak: float = 1.0  # of the learning rates
    easy: float = 0.0  # the share of the tokens over which pairs grow from easy to hard
    claims: float = 1.0
    mix: dict[str, float] | None = None


PHASES = {
    "policy": (
        Phase(14e6, easy=0.3),
        Phase(5e6, peak=0.4, claims=3.0, mix={"respond": 0.40, "chain": 0.25, "judge": 0.35}),
    ),
    "evaluator": (
        Phase(9e6, easy=0.3),
        Phase(8e6, peak=0.6, claims=3.0),
    ),
}


@dataclass(frozen=True)
class Recipe:
    role: str = "policy"
    seed: int = 1
    vocabulary: int = 1536
    width: int = 128
    layers: int = 4
    heads: int = 4
    ffn: int = 256
    batch: int = 3072  # tokens a step
    lr: float = 3e-3  # of AdamW: embeddings and norms
    muon_lr: float = 0.02  # of Muon (Jordan et al. 2024): the matrices
    warmup: int = 100
    weight_decay: float = 0.05
    clip: float = 1.0

    @property
    def phases(self) -> tuple[Phase, ...]:
        return PHASES[self.role]

    @property
    def hash(self) -> str:
        """Hash of these settings and of a sample of the text they teach."""
        corpus = Corpus(self.role, self.seed)
        sample = [row.chats for row in corpus.rows(500)]
        phases = [asdict(phase) for phase in self.phases]
        return hashlib.sha256(json.dumps([asdict(self), phases, sample], sort_keys=True).encode()).hexdigest()[:16]


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the world's text. Both models share it, so it sees every wording."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    texts = (
        text for role in ("policy", "evaluator") for held in (False, True)
        for row in Corpus(role, 0, held).rows(6000) for chat in row.chats for text, _ in chat
    )  # fmt: skip
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|pad|>", eos_token="<|end|>", clean_up_tokenization_spaces=False,
        additional_special_tokens=["<|user|>", "<|assistant|>", "<|system|>"], model_max_length=1024,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@dataclass
class Tree:
    """A row as token ids: `segment` 0 is the prefix; `weight` is that of predicting the token."""

    ids: np.ndarray
    segment: np.ndarray
    position: np.ndarray
    weight: np.ndarray


def encode(rows: list[Row], tokenizer: PreTrainedTokenizerFast) -> list[Tree]:
    pieces = [text for row in rows for chat in row.chats for text, _ in chat]
    encoded = iter(tokenizer(pieces, add_special_tokens=False)["input_ids"])
    trees = []
    for row in rows:
        chats: list[tuple[list[int], list[float]]] = []
        for chat in row.chats:
            ids: list[int] = []
            weights: list[float] = []
            for _, weight in chat:
                piece = next(encoded)
                ids += piece
                weights += [weight] * len(piece)
            chats.append((ids, weights))
        shared = _shared([ids for ids, _ in chats]) if len(chats) > 1 else 0
        ids, weights = chats[0][0][:shared], chats[0][1][:shared]
        segment, position = [0] * shared, list(range(shared))
        for k, (chat_ids, chat_weights) in enumerate(chats, start=1):
            rest = len(chat_ids) - shared
            ids = ids + chat_ids[shared:]
            weights = weights + chat_weights[shared:]
            segment += [k] * rest
            position += range(shared, shared + rest)
        trees.append(Tree(np.array(ids), np.array(segment), np.array(position), np.array(weights, dtype=np.float32)))
    return trees


def _shared(chats: list[list[int]]) -> int:
    """How many tokens all chats begin with."""
    columns = enumerate(zip(*chats, strict=False))
    return next((i for i, column in columns if len(set(column)) > 1), min(map(len, chats)))


def batches(corpus: Corpus, tokenizer: PreTrainedTokenizerFast, size: int, pool: int = 1500) -> Iterator[list[Tree]]:
    """Endless batches of about `size` padded tokens, rows of like length together, in random order."""
    while True:
        trees = sorted(encode(corpus.rows(pool), tokenizer), key=lambda t: len(t.ids))
        cut: list[list[Tree]] = [[]]
        for tree in trees:
            if cut[-1] and len(tree.ids) * (len(cut[-1]) + 1) > size:
                cut.append([])
            cut[-1].append(tree)
        corpus.rng.shuffle(cut)
        yield from cut


def collate(trees: list[Tree]) -> dict[str, torch.Tensor]:
    """Padded ids and positions [B, T], additive mask [B, 1, T, T], and for each token that is learnt: the flat index
    of the token it is predicted from, its id and its weight."""
    rows, width = len(trees), max(len(t.ids) for t in trees)
    ids, position = np.zeros((rows, width), np.int64), np.zeros((rows, width), np.int64)
    segment = np.full((rows, width), -1)
    source, target, weight = [], [], []
    for b, tree in enumerate(trees):
        n = len(tree.ids)
        ids[b, :n], position[b, :n], segment[b, :n] = tree.ids, tree.position, tree.segment
        learnt = np.flatnonzero(tree.weight)
        # A branch's first token is never learnt (it belongs to a user's turn), so its source is the token before it.
        source.append(b * width + learnt - 1)
        target.append(tree.ids[learnt])
        weight.append(tree.weight[learnt])
    causal = np.tril(np.ones((width, width), bool))
    sees = causal & ((segment[:, None, :] == segment[:, :, None]) | (segment[:, None, :] == 0))
    sees |= np.eye(width, dtype=bool)  # padding sees itself, or its softmax would be over nothing
    mask = np.where(sees, 0.0, np.finfo(np.float32).min).astype(np.float32)[:, None]
    return {
        "ids": torch.from_numpy(ids), "position": torch.from_numpy(position), "mask": torch.from_numpy(mask),
        "source": torch.from_numpy(np.concatenate(source)), "target": torch.from_numpy(np.concatenate(target)),
        "weight": torch.from_numpy(np.concatenate(weight)),
    }  # fmt: skip


def logits_at(model: LlamaForCausalLM, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits [N, vocabulary] of the N tokens that are learnt."""
    hidden = model.model(
        input_ids=batch["ids"], attention_mask=batch["mask"], position_ids=batch["position"], use_cache=False
    ).last_hidden_state
    logits: torch.Tensor = model.lm_head(hidden.flatten(0, 1)[batch["source"]])
    return logits


@torch.no_grad()
def measure(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    role: str,
    rows: int = 300,
    kinds: Sequence[str] = ("judge", "shipped_judge", "chain", "shipped_chain", "respond"),
) -> dict[str, float]:
    """On words it knows in combinations it never saw: letters right, critiques and revisions right by the token. And
    the same (`shipped_`...) in the words of `principles.yaml`, which it never read."""
    model.eval()
    result = {}
    for name in kinds:
        kind = name.removeprefix("shipped_")
        corpus = Corpus(role, 99, held_out=True, shipped=kind != name)
        right: list[bool] = []
        losses: list[float] = []
        for chunk in _chunks(encode(corpus.rows(rows, kind), tokenizer), 32):
            batch = collate(chunk)
            logits = logits_at(model, batch)
            hit = (logits.argmax(-1) == batch["target"]).numpy()
            losses.append(torch.nn.functional.cross_entropy(logits, batch["target"]).item())
            right += hit.tolist()
        result[f"{name}_token_accuracy"] = round(float(np.mean(right)), 4)
        result[f"{name}_loss"] = round(float(np.mean(losses)), 4)
    model.train()
    return result


def _chunks(items: list[Tree], n: int) -> Iterator[list[Tree]]:
    for start in range(0, len(items), n):
        yield items[start : start + n]


def train(recipe: Recipe, out: Path, threads: int = 1, begin: Path | None = None) -> dict[str, Any]:
    """All phases of a recipe, or its last alone from `begin`, the folder that the one before it left."""
    torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    tokenizer = make_tokenizer(recipe.vocabulary)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=recipe.width, intermediate_size=recipe.ffn,
            num_hidden_layers=recipe.layers, num_attention_heads=recipe.heads, num_key_value_heads=recipe.heads,
            max_position_embeddings=1024, tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None, eos_token_id=tokenizer.eos_token_id, attn_implementation="sdpa",
        )
    )  # fmt: skip
    curve: list[dict[str, Any]] = []
    seconds = 0.0
    for number in range(len(recipe.phases)):
        if begin is not None and number < len(recipe.phases) - 1:
            continue
        if begin is not None:
            model = LlamaForCausalLM.from_pretrained(begin, dtype=torch.float32)
            tokenizer = PreTrainedTokenizerFast.from_pretrained(begin)
            before = json.loads((begin / "recipe.json").read_text())
            curve, seconds = before["curve"], before["seconds"]
        started = time.time()
        run_phase(recipe, number, model, tokenizer, curve)
        seconds += time.time() - started
        save(model, tokenizer, out)
        model.float()  # the next phase begins from what is on disk: half precision, a fresh optimiser
    report = {
        "recipe": asdict(recipe), "phases": [asdict(phase) for phase in recipe.phases], "hash": recipe.hash,
        "parameters": sum(p.numel() for p in model.parameters()), "seconds": round(seconds),
        "held_out": measure(model, tokenizer, recipe.role), "curve": curve,
    }  # fmt: skip
    (out / "recipe.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def run_phase(
    recipe: Recipe,
    number: int,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    curve: list[dict[str, Any]],
) -> None:
    phase = recipe.phases[number]
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or ".layers." not in name]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=recipe.weight_decay, momentum=0.95),
        torch.optim.AdamW(others, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    groups = [(group, group["lr"] * phase.peak) for optimizer in optimizers for group in optimizer.param_groups]
    corpus = Corpus(recipe.role, recipe.seed + 1000 * number)
    corpus.mix = phase.mix or corpus.mix
    corpus.shares = {k: s * (phase.claims if k in ("true", "false") else 1) for k, s in corpus.shares.items()}
    stream = batches(corpus, tokenizer, recipe.batch)
    seen, step, started, running = 0, 0, time.time(), 0.0
    while seen < phase.tokens:
        done = seen / phase.tokens
        corpus.easy = max(0.0, 1 - done / phase.easy) if phase.easy else 0.0
        batch = collate(next(stream))
        scale = min(1.0, (step + 1) / recipe.warmup) * (0.5 + 0.5 * math.cos(math.pi * done)) + 0.002
        for group, rate in groups:
            group["lr"] = rate * scale
        nll = torch.nn.functional.cross_entropy(logits_at(model, batch), batch["target"], reduction="none")
        loss = (nll * batch["weight"]).sum() / batch["weight"].sum()
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for optimizer in optimizers:
            optimizer.step()
        seen += batch["ids"].numel()
        step += 1
        running = loss.item() if step == 1 else 0.98 * running + 0.02 * loss.item()
        if step % 250 == 0:
            judged = measure(model, tokenizer, recipe.role, 60, ("judge",))["judge_token_accuracy"]
            seconds = round(time.time() - started)
            point = {"phase": number, "tokens": seen, "seconds": seconds, "loss": round(running, 4), "judge": judged}
            curve.append(point)
            print(json.dumps(point), flush=True)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """A plain folder in half precision: ten bits of mantissa are enough, and half the size."""
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--role", choices=("policy", "evaluator"), default="policy")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--begin", type=Path, help="a folder the last phase begins from; else all phases run")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else {"policy": 1, "evaluator": 2}[args.role]
    out = args.out or Path(__file__).parent / "models" / args.role
    report = train(Recipe(role=args.role, seed=seed), out, args.threads, args.begin)
    print(json.dumps({key: report[key] for key in ("hash", "parameters", "seconds", "held_out")}, indent=1))


if __name__ == "__main__":
    main()
