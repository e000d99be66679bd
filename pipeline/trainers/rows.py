"""Rows as they are trained on, and the order in which they are trained on. Whether a row is well formed is `checks`'s.

This module imports torch and datasets: import it inside `train`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import datasets
import torch
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase

from constitution.errors import UserError
from constitution.records import Message, Role
from pipeline.engines.chats import ChatTokenizer
from pipeline.engines.engine import Chat
from pipeline.trainers.trainer import Job
from pipeline.training_rows import read_rows

log = logging.getLogger(__name__)

IGNORED = -100


NAMED = 20  # rows left out that are named one by one
LOOKED_AT = 64  # rows whose prompts are held against the engine's before the first step


@dataclass(frozen=True)
class Rows:
    """A data set as it is trained on (`table`), how many of its rows were left out, and the first of those by line."""

    table: datasets.Dataset
    left_out: int
    named: tuple[str, ...] = ()

    @property
    def counted(self) -> dict[str, Any]:
        """For the metrics: how many rows there are, how many were left out, and which."""
        figures: dict[str, Any] = {"rows": len(self.table), "left_out": self.left_out}
        return figures | ({"left_out_rows": list(self.named)} if self.named else {})


class _LeftOut(Exception):
    """Why a row cannot be trained on, though nothing is wrong with its form."""


def load_rows(path: Path, columns: Sequence[str], tokenizer: PreTrainedTokenizerBase, job: Job, limit: int) -> Rows:
    """Rows of at most `limit` tokens, tokenised as the engine renders them (`pipeline.engines.chats`), each with its
    `length` in tokens, its `line` in the file, and

        prompt only    prompt_ids
        completion     prompt_ids, completion_ids, input_ids, labels (-100 where nothing is learnt)
        pairs          prompt_ids, chosen_ids, rejected_ids

    The prompt's ids are those that the engine samples after, the answer's end with what ends a turn. Of a completion
    of several turns each of the assistant's is learnt; where the template writes an answer otherwise once another
    turn follows, each is a row of its own. Turns with which both answers of a pair begin belong to the prompt.
    Thinking at the beginning of an answer is not trained on.

    Left out and counted are rows that are too long (half an answer would teach to stop nowhere), that the template
    refuses, and whose two answers it renders alike. Raises UserError where no row is left, and for rows whose form is
    wrong.
    """
    template = dict(job.arguments["chat_template_kwargs"])
    chats = ChatTokenizer(tokenizer)
    kept: list[dict[str, Any]] = []
    named: list[str] = []
    left_out = 0
    for row in read_rows(path, columns):
        row = {key: _messages(value) if isinstance(value, list) else value for key, value in row.items()}
        try:
            kept += _tokenised(row, chats, template, limit, path)
        except (_LeftOut, UserError) as error:
            if isinstance(error, _WrongForm):
                raise
            left_out += 1
            if len(named) < NAMED:
                named.append(f"{path.name}, line {row['line']}: {error}")
    if not kept:
        raise UserError(f"no row is left to train on; {named[0]}")
    if left_out:
        log.warning("%d rows are left out, the first: %s", left_out, named[0])
    return Rows(datasets.Dataset.from_list(kept), left_out, tuple(named))


class _WrongForm(UserError):
    pass


def _tokenised(
    row: dict[str, Any], chats: ChatTokenizer, template: dict[str, Any], limit: int, path: Path
) -> list[dict[str, Any]]:
    if "chosen" in row:
        made = [_pair(row, chats, template, path)]
    elif "completion" in row:
        several = len(row["completion"]) > 1
        if several and "label" in row:
            raise _WrongForm(
                f"{path}, line {row['line']}: completion: {len(row['completion'])} messages under one label; give the "
                "turns before the last answer in the prompt"
            )
        made = _completion(row, chats, template)
    else:
        made = [{**row, "prompt_ids": chats.prompt(_chat(row["prompt"], template))[1]}]
    for each in made:
        prompt = len(each["prompt_ids"])
        if prompt >= limit:
            raise _LeftOut(
                f"the prompt is {prompt} tokens and leaves no room for an answer in {limit}; raise max_length"
            )
        answers = [len(each[f"{name}_ids"]) for name in ("completion", "chosen", "rejected") if f"{name}_ids" in each]
        each["length"] = prompt + max(answers, default=0)
        if each["length"] > limit:
            raise _LeftOut(f"it is {each['length']} tokens and max_length is {limit}; raise max_length")
    return made


def _completion(row: dict[str, Any], chats: ChatTokenizer, template: dict[str, Any]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    turns = list(row["prompt"])
    for message in row["completion"]:
        if message["role"] == "assistant":
            message = _answer(message, chats)
            prompt, answer = chats.answered(_chat(turns, template), message["content"])
            last = made[-1] if made else None
            known = [*last["prompt_ids"], *last["completion_ids"]] if last else []
            if last and prompt[: len(known)] == known:
                between = prompt[len(known) :]
                last["completion_ids"] += between + answer
                last["labels"] += [IGNORED] * len(between) + answer
            else:
                labels = [IGNORED] * len(prompt) + answer
                made.append(
                    {
                        **row,
                        "prompt": list(turns),
                        "prompt_ids": prompt,
                        "completion_ids": list(answer),
                        "labels": labels,
                    }
                )
        turns.append(message)
    for each in made:
        each["input_ids"] = each["prompt_ids"] + each["completion_ids"]
    return made


def _pair(row: dict[str, Any], chats: ChatTokenizer, template: dict[str, Any], path: Path) -> dict[str, Any]:
    shared = 0
    sides = (row["chosen"], row["rejected"])
    while min(map(len, sides)) > shared + 1 and sides[0][shared] == sides[1][shared]:
        shared += 1
    turns = [*row["prompt"], *row["chosen"][:shared]]
    answers = [side[shared:] for side in sides]
    if any([turn["role"] for turn in answer] != ["assistant"] for answer in answers) or (
        turns[-1]["role"] == "assistant"
    ):
        raise _WrongForm(
            f"{path}, line {row['line']}: chosen and rejected must be one answer each after the same turns; their "
            f"{len(sides[0])} and {len(sides[1])} messages differ before the last: make them rows of their own"
        )
    found = [chats.answered(_chat(turns, template), _answer(answer, chats)["content"]) for [answer] in answers]
    if found[0][1] == found[1][1]:
        raise _LeftOut("the chat template writes both answers alike, so neither can be preferred")
    return {**row, "prompt": turns, "prompt_ids": found[0][0], "chosen_ids": found[0][1], "rejected_ids": found[1][1]}


def _answer(message: dict[str, str], chats: ChatTokenizer) -> dict[str, str]:
    """The message without thinking before its answer."""
    said = chats.without_thinking(message["content"])
    if message["content"].strip() and not said.strip():
        raise _LeftOut("an answer is thinking alone, which is never trained on")
    return {**message, "content": said}


def _chat(messages: Sequence[Mapping[str, str]], template: Mapping[str, Any]) -> Chat:
    return Chat(tuple(Message(cast(Role, m["role"]), m["content"]) for m in messages), "", template)


def check_prompts(
    job: Job,
    rows: Any,
    *,
    render: Callable[[Chat], Sequence[int]] | None = None,
    as_trained: Callable[[dict[str, Any]], tuple[list[int], list[list[int]]]] | None = None,
) -> None:
    """Hold rows, as a trainer has them, against what the engine will do with the model: their prompts' ids are those
    that it samples after, and each answer has a token that it stops at.

    The engine's tokenizer is loaded anew from the folder, and its own rendering is held against transformers' on the
    same dialogue with harmless messages. `render`: the very engine, where the training samples by one. Raises
    UserError for the first row that differs.
    """
    from transformers import AutoTokenizer

    template = dict(job.arguments["chat_template_kwargs"])
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    engine = ChatTokenizer(tokenizer)
    seen: set[tuple[str, ...]] = set()
    stops = set(engine.stop_ids)
    for place in range(0, len(rows), -(-len(rows) // LOOKED_AT)):
        row = rows[place]
        chat = _chat(row["prompt"], template)
        sampled_after = list(render(chat)) if render else engine.prompt(chat)[1]
        harmless = [{"role": m["role"], "content": "hello"} for m in row["prompt"]]
        roles = tuple(m["role"] for m in row["prompt"])
        if roles not in seen:
            seen.add(roles)
            ours = engine.prompt(_chat(harmless, template))[1]  # first, for it says in words what a template refuses
            theirs = tokenizer.apply_chat_template(
                harmless, tokenize=True, return_dict=False, add_generation_prompt=True, **engine.arguments(template)
            )
            if theirs != ours:
                raise UserError(
                    f"{job.model}: its tokenizer renders a dialogue of the roles {', '.join(roles)} in two ways, so "
                    "what is trained on is not what would be sampled after; save the tokenizer with its chat template "
                    "into the folder again"
                )
            _check_sampled(job, engine, _chat(harmless, template))
        trained, answers = (as_trained or globals()["as_trained"])(row)
        if trained != sampled_after:
            raise UserError(
                f"{job.dataset}, line {row.get('line', place + 1)}: the prompt is {len(trained)} tokens as it is "
                f"trained on and {len(sampled_after)} as it is sampled after, and they differ; nothing was trained. "
                "The model's tokenizer and chat template may have changed while they were read: start it again"
            )
        if any(stops.isdisjoint(answer) for answer in answers):
            raise UserError(
                f"{job.dataset}, line {row.get('line', place + 1)}: an answer as it is trained on ends with no token "
                "that the engine stops at, so that no end would be learnt; nothing was trained. Look at the chat "
                "template of the model"
            )


def _check_sampled(job: Job, engine: ChatTokenizer, chat: Chat) -> None:
    """Raises UserError where an answer, sampled as it is trained on, would be trained on as other tokens."""
    prompt, (_, answer) = engine.prompt(chat)[0], engine.answered(chat, "hello")
    end = next((at for at, token in enumerate(answer) if token in engine.stop_ids), None)
    if end is None:
        return  # what no token ends is told of by its row
    sampled = engine.answer(prompt, answer[:end], chat).answer
    if engine.answered(chat, sampled)[1] != answer:
        raise UserError(
            f"{job.model}: its chat template writes around an answer what the model would sample, too, so that the "
            f"answer {sampled!r} is trained on as other tokens than those sampled; nothing was trained. Let the "
            "template write nothing but tokens around an answer"
        )


def as_trained(row: Mapping[str, Any]) -> tuple[list[int], list[list[int]]]:
    """The ids before the first answer, and each answer's, out of what a trainer's own data set holds."""
    if "labels" in row:
        begin = next((at for at, label in enumerate(row["labels"]) if label != IGNORED), len(row["labels"]))
        return list(row["input_ids"][:begin]), [[label for label in row["labels"] if label != IGNORED]]
    answers = [list(row[f"{name}_ids"]) for name in ("completion", "chosen", "rejected") if f"{name}_ids" in row]
    return list(row["prompt_ids"]), answers


def like_lengths(table: datasets.Dataset, size: int) -> list[list[int]]:
    """The places of a table's rows, at most `size` together, rows of like length together: less padding."""
    order = sorted(range(len(table)), key=table["length"].__getitem__)
    return [order[start : start + size] for start in range(0, len(order), size)]


def _messages(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Role and content only, without lone surrogates: neither Arrow nor a tokenizer can hold those."""
    return [
        {"role": m["role"], "content": m["content"].encode("utf-16", "surrogatepass").decode("utf-16", "replace")}
        for m in messages
    ]


class LengthGrouped(Sampler[int]):
    """Rows of like length share a batch; the batches' order is drawn from (seed, epoch) alone. Rows of length 0 fill
    up the last batch (see `fitting.TrainerMixin`): they change no other, and come last.

    Transformers' own sampler draws from the global random state, which a resumed run does not have.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        rows = [index for index, length in enumerate(self.lengths) if length]
        order = [rows[position] for position in torch.randperm(len(rows), generator=generator).tolist()]
        pool = 32 * self.batch_size  # sorted within pools, so that batches differ from epoch to epoch
        batches = []
        for start in range(0, len(order), pool):
            chunk = sorted(order[start : start + pool], key=lambda index: self.lengths[index])
            batches += [chunk[i : i + self.batch_size] for i in range(0, len(chunk), self.batch_size)]
        # A batch that is not full goes last, as in any epoch.
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [index for batch in batches if len(batch) < self.batch_size for index in batch]
        for position in torch.randperm(len(full), generator=generator).tolist():
            yield from full[position]
        yield from rest
        yield from (index for index, length in enumerate(self.lengths) if not length)
