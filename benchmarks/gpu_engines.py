"""`python -m benchmarks.gpu engines`: what the transformers engine makes of a GPU when it answers and when it judges.

Decoding: `generate`, so many answers at a time, all of the same length: tokens a second, and the share of the device's
bandwidth, of which every step reads all weights and the keys and values so far once.

Judging: `choose` on comparisons x 4 principles x 2 orders, the principle last, some 400 tokens a question of which
some 340 are shared by the four; with the shared part computed once, and with a pass of its own for each question.
Verdicts a second are the engine's own, rendering and tokenising included; seconds without them are beside it. The
share of the device's FLOPs counts the tokens that go through the model once each. Then the same questions in float32:
how far the margins (log-odds of A over B) are apart.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.gpu import Parts, Place, Size, share, words
from constitution.records import Message
from pipeline.engines import transformers as engines
from pipeline.engines import tree
from pipeline.engines.engine import Chat, Choice, Choose, EngineSettings, Generate, Sampling

PRINCIPLES = 4
LABELS = ("A", "B")
TOGETHER = 512  # questions in a pass at most
WAYS = ("shared", "one pass a question", "shared, in float32")
SHARES = {"decoding": 0.5} | {f"judging: {way}": 0.15 for way in WAYS}


def measure(parts: Parts, size: Size, place: Place) -> None:
    parts.do("decoding", lambda: decode(parts, size, place))
    margins: dict[str, list[float]] = {}
    for way in WAYS:
        parts.do(f"judging: {way}", lambda way=way: judge(way, size, place, margins))  # type: ignore[misc]


def decode(parts: Parts, size: Size, place: Place) -> dict[str, Any]:
    """Each batch size twice, the first time to warm up; those for which there is no time are left out."""
    found = []
    engine = engines.build(
        EngineSettings(
            model=str(place.folder / "model"), device=place.device, dtype=place.dtype, batch_size=max(size.together)
        )
    )
    drawn = random.Random(0)
    number = 4 if place.dtype == "float32" else 2
    head = size.config["hidden_size"] // size.config["num_attention_heads"]
    cache = 2 * size.config["num_hidden_layers"] * size.config["num_key_value_heads"] * head * number  # a token
    for batch in size.together:
        if parts.over:
            break
        asked = [
            Generate(Chat((Message("user", words(drawn, size.prompt)),)), Sampling(1.0, 1.0, size.answer), seed)
            for seed in range(batch)
        ]
        engine.generate([Generate(each.chat, Sampling(1.0, 1.0, 4), each.seed) for each in asked])
        began = time.monotonic()
        tokens = sum(completion.tokens for completion in engine.generate(asked))  # type: ignore[union-attr]
        seconds = time.monotonic() - began
        read = size.answer * place.weights * number + cache * tokens * (size.prompt + size.answer / 2)
        found.append(
            {
                "together": batch,
                "tokens_a_second": tokens / seconds,
                "seconds_a_token": seconds / size.answer,
                "of_bandwidth": place.of_bandwidth(read / seconds),
            }
        )
    engine.close()
    return {"batches": found}


def questions(size: Size) -> list[Choose]:
    """Of each comparison and order a group: instructions, dialogue, two answers, and each principle last."""
    drawn = random.Random(0)
    short = size.comparisons < 10

    def text(low: int, high: int) -> str:
        return words(drawn, drawn.randint(low, high) // (4 if short else 1))

    instructions, close = text(30, 30), text(8, 8)
    principles = [text(40, 64) for _ in range(PRINCIPLES)]
    groups = []
    for _ in range(size.comparisons):
        dialogue, one, other = text(60, 160), text(50, 150), text(50, 150)
        for first, second in ((one, other), (other, one)):
            chats = tuple(
                Chat((Message("user", " ".join([instructions, dialogue, "A", first, "B", second, principle, close])),))
                for principle in principles
            )
            groups.append(Choose(chats, LABELS))
    return groups


def judge(way: str, size: Size, place: Place, margins: dict[str, list[float]]) -> dict[str, Any]:
    """One way of asking, and how far its margins are from those of the first. The first run is to warm up."""
    dtype = "float32" if "float32" in way else place.dtype
    settings = EngineSettings(model=str(place.folder / "model"), device=place.device, dtype=dtype, batch_size=TOGETHER)
    engine, groups = engines.build(settings), questions(size)
    exact = tree.is_exact
    if way == "one pass a question":
        tree.is_exact = lambda model: (False, "not wanted")
    engines._exact.clear()
    try:
        engine.choose(groups[: max(2, len(groups) // 8)])
        began = time.monotonic()
        answers = engine.choose(groups)
        seconds = time.monotonic() - began
    finally:
        tree.is_exact = exact
        engines._exact.clear()
    shared = way != "one pass a question"
    began = time.monotonic()
    ids = [[engine.render(chat) for chat in group.chats] for group in groups]
    rendering = time.monotonic() - began
    passed = passes(engine._model, ids, shared)
    asked = sum(len(group.chats) for group in groups)
    tokens = sum(len(tree.pack(group).tokens) if shared else sum(map(len, group)) for group in ids)
    flops = 2 * tokens * (place.weights - size.head) + 2 * asked * size.head
    margins[way] = [_margin(choice) for group in answers for choice in group]
    first = margins.get(WAYS[0], [])
    apart = [abs(one - other) for one, other in zip(margins[way], first, strict=False)]
    engine.close()
    gc.collect()
    return {
        "dtype": dtype,
        "questions": asked,
        "tokens_a_question": sum(len(each) for group in ids for each in group) / asked,
        "tokens_computed": tokens,
        "verdicts_a_second": asked / seconds,
        "seconds_whole": seconds,
        "seconds_one_by_one_rendering": rendering,
        "seconds_passes": passed,
        "of_peak_flops": place.of_flops(flops / seconds),
        "of_peak_flops_passes": place.of_flops(flops / passed),
        "max_margin_difference": max(apart, default=None),
        "flips": sum((one > 0) != (other > 0) for one, other in zip(margins[way], first, strict=False)),
    }


def _margin(choice: Any) -> float:
    assert isinstance(choice, Choice)
    return math.log(choice.probabilities[0] / choice.probabilities[1])


@torch.inference_mode()
def passes(model: Any, ids: Sequence[Sequence[Sequence[int]]], shared: bool) -> float:
    """Seconds of the forward passes alone, in batches of like length of the size that the engine would take."""
    rows = ids if shared else [[each] for group in ids for each in group]
    rows = sorted(rows, key=lambda row: -sum(map(len, row)))
    together = max(1, TOGETHER // (PRINCIPLES if shared else 1))

    def once() -> float:
        began = time.monotonic()
        for start in range(0, len(rows), together):
            batch = rows[start : start + together]
            if shared:
                logits = tree.tree_logits(model, [tree.pack(row) for row in batch])
            else:
                logits = tree.plain_logits(model, [row[0] for row in batch])
        float(logits.sum())  # which waits for the device
        return time.monotonic() - began

    once()
    return once()


def lines(found: Mapping[str, Any]) -> list[str]:
    shown = []
    for figures in found.get("decoding", {}).get("batches", ()):
        shown.append(
            f"decoding {figures['together']:4d} at a time: {figures['tokens_a_second']:10,.0f} tokens/s, "
            f"{1000 * figures['seconds_a_token']:.1f} ms a step, {share(figures['of_bandwidth'])} of the bandwidth"
        )
    for way in WAYS:
        figures = found.get(f"judging: {way}") or {"error": "not begun"}
        if "error" in figures:
            shown.append(f"judging, {way}: {figures['error']}")
            continue
        shown.append(
            f"judging, {way}: {figures['verdicts_a_second']:,.0f} verdicts/s ({figures['questions']} questions of "
            f"{figures['tokens_a_question']:.0f} tokens), {share(figures['of_peak_flops'])} of peak FLOPs, of the "
            f"passes alone {share(figures['of_peak_flops_passes'])} ({figures['seconds_passes']:.2f} of "
            f"{figures['seconds_whole']:.2f} s)"
        )
        if way != WAYS[0] and figures["max_margin_difference"] is not None:
            shown.append(
                f"  margins are {figures['max_margin_difference']:.1e} at most from those of {WAYS[0]} in "
                f"{found[f'judging: {WAYS[0]}'].get('dtype')}, {figures['flips']} flips"
            )
    return shown
