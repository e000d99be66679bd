"""A reward model out of a language model, on what people preferred: hh-rlhf's 1,800 comparisons, every pair held out
once.

    python -m benchmarks.human_models --model FOLDER [--cache FOLDER] [--finetune] [--limit N] [--json]

The head is that of method `reward_head`: the mean of the frozen states of an answer's tokens at one layer, the layer
and the ridge chosen by cross-validation inside what is trained on. Everything is cross-fitted: five parts of the
openings, each told by what was fitted to the other four, so that all pairs count and no opening is on both sides.
Beside it, on the same parts: a bag of words, chosen alike, and the longer answer. A second time the parts are whole
topics (k-means on the TF-IDF of the openings), so that neither topics nor wordings were seen.

Labels are hard: people chose. Soft ones are made, and said so: `smoothed` moves each by a tenth; `distilled` is half
the choice and half what a head that was not fitted to the pair says, at its calibrated temperature.

`--finetune` goes on from the head with the last four layers below it, from activations that are kept: AdamW, one rate,
set before. Both answers of a pair are read behind one prompt, in bfloat16; prompts are cut from the left so that a pair
has at most 640 tokens, answers at 256. `--cache` keeps what the model said, which is nearly all of the time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.human_pairs import DATA, STRENGTHS
from constitution.records import split_group
from pipeline.metrics.effects import sign_test
from pipeline.metrics.intervals import interval_of
from pipeline.sources.rows import Imported, read
from pipeline.trainers import frozen
from pipeline.trainers.calibration import calibrate, fit_temperature
from pipeline.trainers.frozen import States

Floats = NDArray[np.float64]
FOLDS, INNER, TOPICS = 5, 5, 15
RIDGES = (0.1, 0.3, 1.0, 3.0)
PAIR, ANSWER = 640, 256  # tokens
SMOOTHING = 0.1
LAYERS, RATE, EPOCHS, BATCH, LONGEST = 4, 5e-5, 2, 16, 256  # of the fine-tuning; LONGEST: tokens of a pair trained on


@dataclass
class Read:
    """What the model said of the pairs: `states` [pairs, 2 sides, layers, 2, width], of the last token and the mean of
    the answer, each normalised as the last layer's; and for the fine-tuning the activations after the layer `below`,
    with where prompt and answers end."""

    states: torch.Tensor
    layers: tuple[int, ...]
    activations: list[dict[str, Any]]
    below: int


# --- reading ---------------------------------------------------------------------------------------------------------


def read_model(folder: Path, pairs: Sequence[Imported]) -> Read:
    """One pass over every pair."""
    from transformers import AutoModel, AutoTokenizer

    from pipeline.engines import tree
    from pipeline.engines.chats import ChatTokenizer
    from pipeline.engines.engine import Chat

    chats = ChatTokenizer(AutoTokenizer.from_pretrained(folder))
    model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
    blocks, norm = frozen.blocks_of(model), frozen.last_norm(model)
    below = round(len(blocks) * 2 / 3)
    layers = (below, below + LAYERS // 2, below + LAYERS, len(blocks))
    found: list[torch.Tensor] = []
    kept: list[dict[str, Any]] = []
    after: dict[int, torch.Tensor] = {}

    def keep(layer: int) -> Any:
        return lambda _, __, out: after.__setitem__(layer, out[0] if isinstance(out, tuple) else out)

    for layer in layers:
        blocks[layer - 1].register_forward_hook(keep(layer))
    with torch.inference_mode():
        for pair in pairs:
            chat = Chat(tuple(pair.prompt.messages), "", {})
            before, one = chats.answered(chat, pair.answers[0])
            other = chats.answered(chat, pair.answers[1])[1]
            one, other = ([*ids[: ANSWER - 2], *ids[-2:]] if len(ids) > ANSWER else ids for ids in (one, other))
            before = before[-(PAIR - len(one) - len(other)) :]
            at = {"P": len(before), "A": len(one), "B": len(other)}
            positions, ends = places(at)
            mask = tree.attention_mask(positions, ends, torch.bfloat16)
            ids = torch.tensor([[*before, *one, *other]])
            model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
            hidden = torch.stack([norm(after[layer])[0] if norm else after[layer][0] for layer in layers]).float()
            cut = (at["P"], at["P"] + at["A"], ids.shape[1])
            of = [torch.stack([hidden[:, e - 1], hidden[:, s:e].mean(1)], 1) for s, e in (cut[:2], cut[1:])]
            found.append(torch.stack(of))
            kept.append({"h": after[below][0].clone(), **at})
    return Read(torch.stack(found), layers, kept, below)


def places(at: dict[str, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and ends [1, tokens] of a prompt with two answers behind it (`pipeline.engines.tree`)."""
    prompt, one, other = at["P"], at["A"], at["B"]
    positions = torch.cat([torch.arange(prompt + one), torch.arange(prompt, prompt + other)])
    whole = prompt + one + other
    ends = torch.tensor([whole] * prompt + [prompt + one] * one + [whole] * other)
    return positions[None], ends[None]


def states_of(read: Read, pairs: Sequence[Imported], which: slice) -> States:
    """As `frozen` has them: of the last token, of the mean of the answer, or both behind each other."""
    flat = read.states[:, :, :, which].flatten(3).numpy()
    lengths = np.array([[len(text) for text in pair.answers] for pair in pairs])
    openings = tuple(split_group(pair.prompt.messages) for pair in pairs)
    lines = tuple(range(len(pairs)))
    return States(read.layers, flat[:, 0], flat[:, 1], np.ones(len(pairs)), lines, openings, lengths)


# --- ways to tell ----------------------------------------------------------------------------------------------------


def part(states: States, of: NDArray[np.bool_], p: Floats | None = None) -> States:
    openings = tuple(o for o, inside in zip(states.openings, of, strict=True) if inside)
    lines = tuple(line for line, inside in zip(states.lines, of, strict=True) if inside)
    targets = states.p if p is None else p
    return States(
        states.layers, states.chosen[of], states.rejected[of], targets[of], lines, openings, states.lengths[of]
    )


Way = Callable[[NDArray[np.bool_]], Floats]  # margins of all pairs, by what was fitted to those of a mask


def cross_fitted(way: Way, parts: NDArray[np.int64]) -> Floats:
    margins = np.zeros(len(parts))
    for fold in sorted(set(parts.tolist())):
        margins[parts == fold] = way(parts != fold)[parts == fold]
    return margins


def head(states: States, p: Floats | None = None) -> Way:
    def way(inside: NDArray[np.bool_]) -> Floats:
        found = frozen.choose(part(states, inside, p), RIDGES, INNER, seed=1)
        print(f"  layer {found.layer}, ridge {found.metrics['ridge']:g}", file=sys.stderr, flush=True)
        chosen, rejected = found.rewards(states)
        return chosen - rejected

    return way


def distilled(states: States) -> Way:
    """Half the choice, half what heads of the same layer and ridge that were not fitted to the pair say of it."""

    def way(inside: NDArray[np.bool_]) -> Floats:
        own = part(states, inside)
        found = frozen.choose(own, RIDGES, INNER, seed=1)
        x, parts = np.subtract(*own.of(found.layer)), frozen.fold_of(own.openings, INNER, 2)

        def taught(known: NDArray[np.bool_]) -> Floats:
            (weight,) = frozen.fit(x[known], own.p[known], [found.metrics["ridge"]])
            return np.asarray(x @ weight)

        said = cross_fitted(taught, parts)
        sure = 1 / (1 + np.exp(-said / fit_temperature(said.tolist(), own.p.tolist())))
        p = np.ones(len(inside))
        p[inside] = (1 + sure) / 2
        return head(states, p)(inside)

    return way


def words(pairs: Sequence[Imported]) -> Way:
    """Bradley-Terry on the counts of the answers' words, as in `benchmarks.human_pairs`; its strength is chosen by
    cross-validation inside what is trained on."""
    openings = [split_group(pair.prompt.messages) for pair in pairs]

    def way(inside: NDArray[np.bool_]) -> Floats:
        texts = [text for pair, own in zip(pairs, inside, strict=True) if own for text in pair.answers]
        vectors = CountVectorizer(min_df=2).fit(texts)
        one, other = (vectors.transform([pair.answers[side] for pair in pairs]) for side in (0, 1))
        ahead = (one - other).tocsr()
        parts = np.where(inside, frozen.fold_of(openings, INNER, 1), -1)

        def fitted(known: NDArray[np.bool_], strength: float) -> Floats:
            signs = np.where(np.arange(int(known.sum())) % 2, 1, -1)  # both classes, each pair once
            model = LogisticRegression(C=strength, fit_intercept=False, max_iter=1000)
            model.fit(ahead[known].multiply(signs[:, None]).tocsr(), signs)
            return np.asarray(model.decision_function(ahead))

        def accuracy(strength: float) -> float:
            told = np.zeros(len(pairs))
            for fold in range(INNER):
                told[parts == fold] = fitted((parts >= 0) & (parts != fold), strength)[parts == fold]
            return float(right(told[inside]).mean())

        return fitted(inside, max(STRENGTHS, key=accuracy))

    return way


def finetuned(folder: Path, read: Read, states: States) -> Way:
    """The head, then the layers between the kept activations and it, trained on with the head."""

    def way(inside: NDArray[np.bool_]) -> Floats:
        layer = read.below + LAYERS
        (weight,) = frozen.fit(np.subtract(*part(states, inside).of(layer)), np.ones(int(inside.sum())), [0.3])
        tuned = Upper(folder, read.below, layer, weight)
        lengths = np.array([a["P"] + a["A"] + a["B"] for a in read.activations])
        own = np.flatnonzero(inside & (lengths <= LONGEST))
        tuned.train([read.activations[i] for i in own])
        margins = np.zeros(len(inside))
        for index in np.flatnonzero(~inside):
            margins[index] = tuned.margin(read.activations[index])
        return margins

    return way


class Upper:
    """The layers above the kept activations, a norm and a head: in float32, their passes in bfloat16."""

    def __init__(self, folder: Path, below: int, layer: int, weight: Floats) -> None:
        from transformers import AutoModelForCausalLM

        torch.manual_seed(0)
        trunk = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).base_model
        self.blocks, self.norm, self.rotary = trunk.layers[below:layer], trunk.norm, trunk.rotary_emb
        self.head = torch.nn.Parameter(torch.from_numpy(weight).float())

    def margin(self, at: dict[str, Any]) -> Any:
        with torch.no_grad():
            return float(self._margin(at))

    def _margin(self, at: dict[str, Any]) -> torch.Tensor:
        from pipeline.engines import tree

        positions, ends = places(at)
        hidden = at["h"][None].float()
        mask = tree.attention_mask(positions, ends, torch.bfloat16)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            angles = self.rotary(hidden, positions)
            for block in self.blocks:
                out = block(hidden, attention_mask=mask, position_ids=positions, position_embeddings=angles)
                hidden = out[0] if isinstance(out, tuple) else out
        rewards: torch.Tensor = self.norm(hidden[0].float()) @ self.head  # of every token
        return rewards[at["P"] : at["P"] + at["A"]].mean() - rewards[at["P"] + at["A"] :].mean()

    def train(self, pairs: Sequence[dict[str, Any]]) -> None:
        weights = [*self.blocks.parameters(), *self.norm.parameters()]
        groups: list[dict[str, Any]] = [{"params": weights}, {"params": [self.head], "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=RATE, weight_decay=0.01)
        steps = EPOCHS * -(-len(pairs) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
        draw = np.random.default_rng(0)
        for _ in range(EPOCHS):
            order = draw.permutation(len(pairs))
            for start in range(0, len(order), BATCH):
                some = order[start : start + BATCH]
                for index in some:
                    loss = torch.nn.functional.softplus(-self._margin(pairs[index])) / len(some)
                    loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_([*weights, self.head], 1.0)
                optimiser.step()
                optimiser.zero_grad()
                schedule.step()


# --- what is found ---------------------------------------------------------------------------------------------------


def topics(pairs: Sequence[Imported]) -> NDArray[np.int64]:
    """Of each pair the topic of its opening: k-means on TF-IDF, so that no topic is on both sides."""
    openings = [split_group(pair.prompt.messages) for pair in pairs]
    known = sorted(set(openings))
    vectors = TfidfVectorizer(min_df=2, stop_words="english").fit_transform(known)
    found = KMeans(TOPICS, n_init=5, random_state=0).fit_predict(vectors)
    of = dict(zip(known, found.tolist(), strict=True))
    labels = np.array([of[opening] for opening in openings])
    sizes = np.bincount(labels, minlength=TOPICS)
    fold, filled = np.zeros(TOPICS, dtype=np.int64), np.zeros(FOLDS)
    for topic in np.argsort(-sizes):  # the largest first, each into the part that has least
        fold[topic] = int(filled.argmin())
        filled[fold[topic]] += sizes[topic]
    return np.asarray(fold[labels])


def right(margins: Floats) -> Floats:
    return (np.sign(margins) + 1) / 2


def described(margins: Floats, words_margins: Floats, others: Floats, lengths: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy, against the bag of words and another pair by pair, by length, and how honest the margins are."""
    hit = right(margins)
    longest = np.digitize(lengths, np.quantile(lengths, [1 / 3, 2 / 3]))
    figures = calibrate(margins.tolist(), [1.0] * len(margins))
    calm = margins / fit_temperature(margins.tolist(), [1.0] * len(margins))
    return {
        "accuracy": interval_of(hit.tolist()).as_dict(),
        "minus_words": against(hit, right(words_margins)),
        "minus_other": against(hit, right(others)),
        "by_length": [float(hit[longest == third].mean()) for third in range(3)],
        "cross_entropy": figures.cross_entropy,
        "ece": figures.ece,
        "ece_calibrated": calibrate(calm.tolist(), [1.0] * len(margins)).ece,
    }


def against(one: Floats, other: Floats) -> dict[str, Any]:
    """Paired: the difference with its interval, and the exact two-sided sign test of the pairs on which they differ."""
    better, worse = int((one > other).sum()), int((one < other).sum())
    p = min(1.0, 2 * min(sign_test(better, worse), sign_test(worse, better)))
    return {**interval_of((one - other).tolist(), least=-1.0).as_dict(), "better": better, "worse": worse, "p": p}


def measure(folder: Path, cache: Path | None, finetune: bool, limit: int) -> dict[str, Any]:
    """Everything, or, where it was interrupted, what was found by then: what was fitted to four parts is in the cache,
    too."""
    pairs = read(DATA, "preferences", heldout=0.2, dev=0.1).rows[: limit or None]
    said = kept(folder, pairs, cache)
    last, mean, both = (states_of(said, pairs, which) for which in (slice(0, 1), slice(1, 2), slice(0, 2)))
    lengths = np.array([max(map(len, pair.answers)) for pair in pairs])
    longer = np.array([float(len(pair.answers[0]) - len(pair.answers[1])) for pair in pairs])
    ways: dict[str, Way] = {
        WORDS: words(pairs),
        "longer answer": lambda _: longer,
        HEAD: head(mean),
        "head on the last token alone": head(last),
        "head on both": head(both),
        "head, labels smoothed": head(mean, np.full(len(pairs), 1 - SMOOTHING)),
        "head, labels distilled": distilled(mean),
        **({TUNED: finetuned(folder, said, mean)} if finetune else {}),
    }
    parts = {"openings": frozen.fold_of(mean.openings, FOLDS, 0), "topics": topics(pairs)}
    tasks = [(by, name, fold) for by in parts for name in ways if name != TUNED for fold in range(FOLDS)]
    tasks += [("openings", TUNED, fold) for fold in range(FOLDS) if finetune]
    tasks.sort(key=lambda task: ORDER.index((task[0], task[1])) if (task[0], task[1]) in ORDER else len(ORDER))
    margins: dict[tuple[str, str], Floats] = {}
    try:
        for by, name, fold in tasks:
            here, file = parts[by] == fold, cache / f"{by}-{name}-{fold}.npy" if cache and not limit else None
            began = time.monotonic()
            found = np.load(file) if file and file.is_file() else ways[name](~here)[here]
            if file and not file.is_file():
                np.save(file, found)
                print(f"{by}: {name}, part {fold}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            margins.setdefault((by, name), np.full(len(pairs), np.nan))[here] = found
    except KeyboardInterrupt:
        print("interrupted: what follows is of what was done", file=sys.stderr)
    told = {by: _told({n: m for (b, n), m in margins.items() if b == by}, lengths) for by in parts}
    return {
        "pairs": len(pairs),
        "layers": said.layers,
        "parts": {by: np.bincount(p).tolist() for by, p in parts.items()},
        "found": told,
    }


WORDS, HEAD, TUNED = "bag of words", "head", "fine-tuned"
ORDER = [("openings", WORDS), ("openings", HEAD), ("topics", WORDS), ("topics", HEAD), ("openings", TUNED)]


def _told(margins: dict[str, Floats], lengths: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Of all pairs what was told by everything that is done; then, where fewer were fine-tuned on, of those alone."""
    rows: list[dict[str, Any]] = []
    for wanted in ({n: m for n, m in margins.items() if n != TUNED}, margins if TUNED in margins else {}):
        whole = {n: m for n, m in wanted.items() if n == TUNED or not np.isnan(m).any()}
        if WORDS not in whole:
            continue
        here = ~np.isnan(np.sum(list(whole.values()), axis=0))  # what was told by all of them
        some = {n: m[here] for n, m in whole.items()}
        scaled = {n: m / (m.std() or 1) for n, m in some.items()}
        if HEAD in some:
            some["head and words"] = scaled[HEAD] + scaled[WORDS]
        if TUNED in some and HEAD in some:
            some["fine-tuned and head"] = scaled[TUNED] + scaled[HEAD]
            some["fine-tuned, head and words"] = some["fine-tuned and head"] + scaled[WORDS]
        against = HEAD if TUNED in some and HEAD in some else WORDS
        ways = {n: described(m, some[WORDS], some[against], lengths[here]) for n, m in some.items()}
        rows.append({"pairs": int(here.sum()), "against": against, "ways": ways})
    return rows


def kept(folder: Path, pairs: Sequence[Imported], cache: Path | None) -> Read:
    """From the cache where it is there."""
    file = cache / "read.pt" if cache else None
    if file and file.is_file():
        found = torch.load(file, weights_only=True)
        some = slice(len(pairs))
        return Read(found["states"][some], tuple(found["layers"]), found["activations"][some], found["below"])
    made = read_model(folder, pairs)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(vars(made) | {"layers": list(made.layers)}, file)
    return made


def report(found: dict[str, Any]) -> str:
    lines = [f"{found['pairs']} pairs; layers tried: {', '.join(map(str, found['layers']))}"]
    for by, tables in found["found"].items():
        for table in tables:
            others = {"bag of words": "minus_words"} | ({HEAD: "minus_other"} if table["against"] == HEAD else {})
            names = ["accuracy", *(part for other in others for part in (f"minus {other}", "p"))]
            names += ["short, middling, long", "cross-entropy", "ECE, calibrated"]
            lines += ["", f"by {by}, {table['pairs']} pairs told by what was not fitted to them", ""]
            lines += [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
            for name, way in table["ways"].items():
                cells = ["{mean:.3f} ({low:.3f} to {high:.3f})".format(**way["accuracy"])]
                for of in others.values():
                    cells += ["{mean:+.3f} ({low:+.3f} to {high:+.3f})".format(**way[of]), f"{way[of]['p']:.2g}"]
                cells += [", ".join(f"{x:.3f}" for x in way["by_length"]), f"{way['cross_entropy']:.3f}"]
                cells += [f"{way['ece']:.3f}, {way['ece_calibrated']:.3f}"]
                lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder of a causal language model")
    parser.add_argument("--cache", type=Path, help="a folder that keeps what the model said of the pairs")
    parser.add_argument("--finetune", action="store_true", help="also train the upper layers")
    parser.add_argument("--limit", type=int, default=0, help="the first so many pairs; none: all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if not DATA.is_file():
        sys.exit(f"there are no comparisons at {DATA}: put hh-rlhf's there, as prompt, chosen, rejected")
    torch.set_num_threads(1)
    found = measure(given.model, given.cache, given.finetune, given.limit)
    print(json.dumps(found, indent=2) if given.json else report(found))


if __name__ == "__main__":
    main()
