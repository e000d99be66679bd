"""The engine that runs a model in this process with Hugging Face transformers, on CPU or CUDA.

It cuts calls into batches by length, halved when memory runs out. A request that the model cannot read (longer than
its context, or refused by its template) is `Refused`, and the others of the call are answered. Around it, `chats.py`
renders chats, `tree.py` computes shared prefixes once, `decoding.py` samples, `folder.py` checks and loads a model
folder and `fingerprint.py` names it. No quantisation, and no model spread over devices: serve such a model and use the
`openai` engine.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import math
import re
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import accumulate, pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from constitution.errors import UserError
from pipeline.engines.chats import ChatTokenizer
from pipeline.engines.engine import (
    Capabilities,
    Chat,
    Choice,
    Choose,
    Completion,
    EngineSettings,
    Generate,
    Refused,
    Score,
    Scored,
)

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.engines.folder import ModelFolder
    from pipeline.engines.unloaded import Unloaded

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")
DTYPES = ("float32", "bfloat16")
CPU_TOKENS = 2048  # in one pass; more fall out of the caches (measured: 31 ms a question below, 39 ms at 5,000)
SCORE_LOGITS = 1 << 22  # this many logits of a scored text weigh as much in a batch as one request
_exact: dict[str, bool] = {}  # whether the tree pass equals the plain pass, by architecture, for this process


def build(settings: EngineSettings) -> TransformersEngine:
    """Check and load the model folder (or hub name) in `settings.model`. Raises UserError before anything of an
    unsafe, incomplete or unreadable folder runs."""
    import torch

    from pipeline.engines.folder import load

    found, device = checked(settings)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tokenizer = load(found, settings.dtype, device)
    again = partial(_model_of, found, settings.dtype, device)
    return TransformersEngine(model, ChatTokenizer(tokenizer), found.folders, settings.batch_size, again=again)


def named(settings: EngineSettings) -> Unloaded:
    """What the folder would be called as an engine, read from its files: no torch, no weights in memory."""
    from pipeline.engines.fingerprint import fingerprint
    from pipeline.engines.folder import find_model
    from pipeline.engines.unloaded import Unloaded

    found = find_model(settings.model, settings.revision)
    return Unloaded(fingerprint(found.folders, settings.dtype), TransformersEngine.capabilities)


def check(settings: EngineSettings) -> None:
    """Raise the UserError that `build` would for a folder that is not there, not whole, or not safe."""
    checked(settings)


def checked(settings: EngineSettings) -> tuple[ModelFolder, str]:
    """The model's folder and the device it is for ("auto" still). torch is imported where a GPU is asked for, no
    sooner: it takes seconds."""
    from pipeline.engines.folder import find_model

    if settings.options:
        raise UserError(f"The transformers engine has no option {', '.join(map(repr, sorted(settings.options)))}.")
    if settings.dtype not in DTYPES:
        raise UserError(f"dtype {settings.dtype!r} is not one of {', '.join(DTYPES)}.")
    if settings.batch_size < 1:
        raise UserError(f"batch_size {settings.batch_size} must be at least 1.")
    device = settings.device
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UserError(f"device {device!r} is not one of auto, cpu, cuda.")
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise UserError(f"device is {device!r}, and torch sees no GPU here. Set it to 'auto' or 'cpu'.")
        if int(device.partition(":")[2] or 0) >= (count := torch.cuda.device_count()):
            raise UserError(f"device is {device!r}, and torch sees {count} GPUs here, counted from 0.")
    return find_model(settings.model, settings.revision), device


def _model_of(found: ModelFolder, dtype: str, device: str) -> Any:
    from pipeline.engines.folder import load

    return load(found, dtype, device)[0]


class TransformersEngine:
    """An `Engine` over a loaded model. Calls from several threads wait for each other."""

    capabilities = Capabilities()

    def __init__(
        self,
        model: Any,
        tokenizer: ChatTokenizer,
        folders: Sequence[Path],
        batch_size: int,
        *,
        training: bool = False,
        again: Callable[[], Any] | None = None,
    ) -> None:
        """`model` is transformers' own, in evaluation mode; `folders` are what the fingerprint is made from.
        `training`: it is being trained, and whether its numbers are finite is looked at there. `again` loads the model
        once more after `release`; without it, a model is never released."""
        self._training = training
        self._held, self._again = model, again
        self.before_loading: Callable[[], None] | None = None  # what makes room for a model that was released
        self._tokenizer, self._folders, self._batch_size = tokenizer, folders, batch_size
        self._dtype = str(model.dtype).removeprefix("torch.")
        self._lock = threading.RLock()
        config = model.config.get_text_config(decoder=True)
        self._vocabulary: int = config.vocab_size
        self._pass_tokens = CPU_TOKENS if model.device.type == "cpu" else sys.maxsize
        self._context: float = getattr(config, "max_position_embeddings", None) or math.inf

    @cached_property
    def fingerprint(self) -> str:
        from pipeline.engines.fingerprint import fingerprint

        return fingerprint(self._folders, self._dtype)

    @property
    def _model(self) -> Any:
        """The model, loaded again where it was released."""
        with self._lock:
            if self._held is None:
                if self._again is None:
                    raise RuntimeError("this engine is closed")
                self._refuse_another()
                if self.before_loading is not None:
                    self.before_loading()
                self._held = self._again()
            return self._held

    def _refuse_another(self) -> None:
        from pipeline.engines.fingerprint import fingerprint

        if "fingerprint" in self.__dict__ and fingerprint(self._folders, self._dtype) != self.fingerprint:
            raise UserError(
                f"{self._folders[0]} was changed while it was in use; put back the files that this run began with"
            )

    def release(self) -> None:
        """Give the model's memory back; the next request loads it again."""
        with self._lock:
            if self._again is not None and self._held is not None:
                self._held = None
                _free_memory()

    def render(self, chat: Chat) -> list[int]:
        return self._tokenizer.prompt(chat)[1]

    def refusal(self, chat: Chat) -> str:
        """Why no answer to `chat` can be sampled; empty where one can."""
        refused = self._prompts([chat], room=1)[1]
        return refused[0].said if refused else ""

    def generate(self, requests: Sequence[Generate]) -> list[Completion | Refused]:
        """Sample an answer to each chat. One that reaches the end of the model's context is cut there ("length")."""
        from pipeline.engines.decoding import decode

        read, refused = self._prompts([request.chat for request in requests], room=1)
        places = list(read)
        texts, prompts = [read[i][0] for i in places], [read[i][1] for i in places]
        samplings = [
            replace(
                requests[i].sampling,
                max_tokens=int(min(requests[i].sampling.max_tokens, self._context - len(prompt))),
            )
            for i, prompt in zip(places, prompts, strict=True)
        ]

        def run(batch: list[int]) -> list[list[int]]:
            seeds = [requests[places[i]].seed for i in batch]
            asked = [prompts[i] for i in batch], [samplings[i] for i in batch]
            return decode(self._model, *asked, seeds, self._stop, careless=self._training)

        written = self._in_batches([len(prompt) for prompt in prompts], [1] * len(prompts), run)
        made = [
            ids if isinstance(ids, Refused) else self._completion(requests[i].chat, text, prompt, ids)
            for i, text, prompt, ids in zip(places, texts, prompts, written, strict=True)
        ]
        return _in_place(places, made, refused)

    def _completion(self, chat: Chat, text: str, prompt: list[int], written: list[int]) -> Completion:
        stopped = bool(written) and written[-1] in self._stop
        answer, reasoning = self._tokenizer.answer(text, written[:-1] if stopped else written, chat)
        return Completion(answer, "stop" if stopped else "length", len(prompt), len(written), reasoning, tuple(written))

    @cached_property
    def _stop(self) -> frozenset[int]:
        stop: set[int | None] = {*self._tokenizer.stop_ids}
        for settings in (self._model.generation_config, self._model.config.get_text_config(decoder=True)):
            ids = getattr(settings, "eos_token_id", None)
            stop.update(ids if isinstance(ids, list) else [ids])
        return frozenset(token for token in stop if token is not None)

    def choose(self, groups: Sequence[Choose]) -> list[list[Choice | Refused]]:
        """What the model would answer next, over each group's labels. Whatever beginnings the chats of a group share
        are computed once, at every depth. Probabilities are over the whole vocabulary, in float32."""
        import torch

        from pipeline.engines.tree import pack, plain_logits, tree_logits

        read, refused = self._prompts([chat for group in groups for chat in group.chats])
        places = list(read)
        texts, sequences = [read[i][0] for i in places], [read[i][1] for i in places]
        options = [labels for group in groups for labels in [group.labels] * len(group.chats)]
        labels = [
            self._tokenizer.label_ids(text, sequence, options[i])
            for i, text, sequence in zip(places, texts, sequences, strict=True)
        ]
        ends = list(accumulate((len(group.chats) for group in groups), initial=0))
        # Of each group, the span of its chats among those that can be read.
        bounds = list(pairwise(bisect_left(places, end) for end in ends))
        # A row of a batch is a group, packed; where the tree pass is not exact, a single question.
        shared = bool(sequences) and self._shares_prefixes()
        rows = [range(*span) for span in bounds] if shared else [range(i, i + 1) for i in range(len(sequences))]
        rows = [row for row in rows if row]
        trees = [pack([sequences[i] for i in row]) for row in rows] if shared else []
        lengths = [len(tree.tokens) for tree in trees] or [len(sequence) for sequence in sequences]

        @torch.inference_mode()
        def run(batch: list[int]) -> list[list[Choice]]:
            if shared:
                logits = tree_logits(self._model, [trees[i] for i in batch])
            else:
                logits = plain_logits(self._model, [sequences[i] for i in batch])
            questions = [question for i in batch for question in rows[i]]
            said = dict(zip(questions, _read([labels[i] for i in questions], logits), strict=True))
            return [[Choice(*said[i], len(sequences[i])) for i in rows[row]] for row in batch]

        choices: list[Choice | Refused] = []
        of_rows = self._in_batches(lengths, [len(row) for row in rows], run, self._pass_tokens)
        for row, found in zip(rows, of_rows, strict=True):
            choices += [found] * len(row) if isinstance(found, Refused) else found
        whole = _in_place(places, choices, refused)
        return [whole[start:end] for start, end in pairwise(ends)]

    def _shares_prefixes(self) -> bool:
        """Whether the tree pass equals the plain pass here: checked once a process for each architecture."""
        from pipeline.engines.tree import is_exact

        model = self._model
        parts = (model.config.to_json_string(use_diff=False), str(model.dtype), model.device.type)
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        with self._lock:
            if key not in _exact:
                _exact[key], found = is_exact(model)
                if not _exact[key]:
                    log.warning(
                        "%s: shared prefixes are not computed once, each question has a pass of its own (slower, the "
                        "same answers): %s.",
                        type(model).__name__,
                        found,
                    )
            return _exact[key]

    def score(self, requests: Sequence[Score]) -> list[Scored | Refused]:
        """Log-probability of each completion after its chat, by one pass over both."""
        import torch

        from pipeline.engines.decoding import NOT_A_NUMBER
        from pipeline.engines.tree import plain_logits

        read, refused = self._prompts([request.chat for request in requests])
        end = self._tokenizer.end_of_turn
        places, tails, whole = [], [], []
        for i, (text, prompt) in read.items():
            request = requests[i]
            tail = self._tokenizer.completion_ids(text, prompt, request.completion)
            tail = tail + ([end] if request.end and end is not None else [])
            if len(prompt) + len(tail) > self._context:
                refused[i] = self._too_long(len(prompt) + len(tail))
                continue
            places.append(i)
            tails.append(tail)
            whole.append(prompt + tail)

        @torch.inference_mode()
        def run(batch: list[int]) -> list[Scored]:
            counts = [len(tails[i]) for i in batch]
            if not any(counts):
                return [Scored(0.0, 0)] * len(batch)
            logits = plain_logits(self._model, [whole[i][:-1] for i in batch], counts)
            targets = torch.tensor([token for i in batch for token in tails[i]], device=logits.device)
            found = logits.gather(-1, targets[:, None])[:, 0] - logits.logsumexp(-1)
            if found.isnan().any():
                raise UserError(NOT_A_NUMBER)
            parts = zip(torch.split(found, counts), batch, strict=True)
            return [Scored(part.double().sum().item(), len(part), len(whole[i])) for part, i in parts]

        # Logits are of every token of a completion: long ones over a large vocabulary make smaller batches.
        weights = [max(1, len(tail) * self._vocabulary // SCORE_LOGITS) for tail in tails]
        scored = self._in_batches([len(sequence) for sequence in whole], weights, run, self._pass_tokens)
        return _in_place(places, scored, refused)

    def close(self) -> None:
        with self._lock:
            self._held = self._again = None
            _free_memory()

    def _prompts(
        self, chats: Sequence[Chat], room: int = 0
    ) -> tuple[dict[int, tuple[str, list[int]]], dict[int, Refused]]:
        """By index, the chats as text and as ids; and those that cannot be read, where the context must have `room`
        for more tokens behind them."""
        refused: dict[int, Refused] = {}
        read: dict[int, tuple[str, list[int]]] = {}
        for i, found in enumerate(self._tokenizer.prompts(chats)):
            if isinstance(found, UserError):
                refused[i] = Refused("template", str(found))
                continue
            text, ids = found
            if not ids:
                refused[i] = Refused("empty", "A prompt has no tokens at all. Check the model's chat template.")
            elif len(ids) + room > self._context:
                refused[i] = self._too_long(len(ids), " and writes an answer behind" if room else "")
            else:
                read[i] = text, ids
        return read, refused

    def _too_long(self, tokens: int, besides: str = "") -> Refused:
        return Refused(
            "too_long",
            f"A text has {tokens} tokens, and the model reads at most {self._context}{besides}. "
            "Leave out longer ones, or use a model with a longer context.",
        )

    def _in_batches(
        self,
        lengths: Sequence[int],
        weights: Sequence[int],
        run: Callable[[list[int]], list[T]],
        max_tokens: int = sys.maxsize,
    ) -> list[T | Refused]:
        """`run` over indices in batches of like length, the longest first, of at most `batch_size` weights and
        `max_tokens` padded tokens together (or a single index); results in the order of the indices.

        When memory runs out the batch is halved, for good, and asked again; a single text that memory does not hold is
        refused, and the batches of the others are as large as they were before it.

        accelerate's `find_executable_batch_size` does the like, but engines run where accelerate is not installed.
        """
        results: dict[int, T | Refused] = {}
        before = self._batch_size  # what held until the text in front
        waiting = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
        with self._lock:
            while waiting:
                sums = accumulate(weights[i] for i in waiting[: max_tokens // max(1, lengths[waiting[0]])])
                count = max(1, sum(1 for _ in takewhile(lambda total: total <= self._batch_size, sums)))
                batch = waiting[:count]
                try:
                    results.update(zip(batch, run(batch), strict=True))
                except RuntimeError as error:
                    if not _out_of_memory(error):
                        raise
                    if count == 1:
                        results[batch[0]] = refused = Refused(
                            "too_long",
                            f"Memory ran out on a single text of {lengths[batch[0]]} tokens. Use a smaller model, "
                            "bfloat16, shorter texts or a larger device.",
                        )
                        waiting, self._batch_size = waiting[1:], before
                        log.warning("%s", refused.said)
                        continue
                    self._batch_size = max(1, min(self._batch_size, sum(weights[i] for i in batch)) // 2)
                    log.warning(
                        "Memory ran out on a batch of %d: going on with batches of %d.", count, self._batch_size
                    )
                else:
                    waiting, before = waiting[count:], self._batch_size
                    continue
                _free_memory()  # here, where the failed batch's tensors are no longer held by the exception
        return [results[i] for i in range(len(lengths))]


def _in_place(places: Sequence[int], found: Sequence[R | Refused], refused: dict[int, Refused]) -> list[R | Refused]:
    """What was found at `places`, and what was refused at the others, as one list."""
    whole: dict[int, R | Refused] = {**dict(zip(places, found, strict=True)), **refused}
    return [whole[i] for i in range(len(whole))]


def _read(labels: Sequence[Sequence[int]], logits: Tensor) -> list[tuple[tuple[float, ...], float]]:
    """Of each row of `logits` [N, vocabulary]: the labels' probabilities over themselves, and their mass.

    Logits that are not finite hold nothing that can be read: mass 0.
    """
    totals = logits.logsumexp(-1).tolist()
    read = []
    for row, ids, total in zip(logits, labels, totals, strict=True):
        logprobs = [value - total for value in row[list(ids)].tolist()]
        top = max(logprobs)
        mass = math.fsum(math.exp(value) for value in logprobs) if math.isfinite(total) else 0.0
        if not mass > 0:  # also when it is not a number
            read.append(((1 / len(ids),) * len(ids), 0.0))
            continue
        parts = [math.exp(value - top) for value in logprobs]
        read.append((tuple(part / math.fsum(parts) for part in parts), min(1.0, mass)))
    return read


def _out_of_memory(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)


def _free_memory() -> None:
    import torch

    gc.collect()
    torch.cuda.empty_cache()  # does nothing where no GPU was used
