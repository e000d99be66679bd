"""The contract of a prompt source: a module `pipeline/sources/x.py`, or an entry point of group `precept.sources`.

    def prompts(options: Mapping[str, Any], splits: Splits) -> Sequence[Prompt]

`options` are what the settings say besides the name: `prompts = {source = "x", path = "..."}`. A source refuses, with a
UserError that says what to do, an option that it does not know. It gives the same prompts in the same order each time,
because a prompt's id is its dialogue's and a run that goes on looks for what it had. Each prompt ends in a user's turn
and has its split, given once: where the source does not say, by `splits.of`. A source of more prompts than memory
should hold gives a `constitution.streams.Stream`, in which none comes twice.

A source that has a model make its prompts takes a third argument:

    def prompts(options: Mapping[str, Any], splits: Splits, generate: Generate) -> list[Prompt]

What `generate` answered is kept, so that the same again asks nothing; without a model such a source is refused.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from constitution.records import Id, Messages, Prompt, Split, make_id, split_of


@dataclass(frozen=True)
class Splits:
    """The shares of prompts that are held out and that development has, in [0, 1]; the rest is for training."""

    heldout: float = 0.2
    dev: float = 0.1

    def of(self, messages: Messages) -> Split:
        """The split of a prompt, by a hash of its first user turn."""
        return split_of(messages, self.heldout, self.dev)


class Generate(Protocol):
    """Has the model of a role (`critic`, or `policy`) answer requests, by a seed. None for what was refused or cut."""

    def __call__(self, requests: Sequence[Messages], role: str, seed: int) -> list[str | None]: ...


class Source(Protocol):
    """What the module has."""

    def prompts(self, options: Mapping[str, Any], splits: Splits) -> list[Prompt]: ...


def sample(prompts: Sequence[Prompt], most: int) -> list[Prompt]:
    """At most so many of the prompts, in their order: see `sampled`."""
    chosen = set(sampled([p.id for p in prompts], most))
    return [p for p in prompts if p.id in chosen]


def sampled(ids: Sequence[Id], most: int) -> Sequence[Id]:
    """At most so many ids of prompts, in their order. Where there are more, those that hash lowest: a file is often
    sorted by what its prompts are about, so that its first hundred are no picture of it. A larger sample holds a
    smaller one."""
    if len(ids) <= most:
        return ids
    lowest = set(heapq.nsmallest(most, ids, key=lambda id: make_id("sample", prompt=id)))
    return [id for id in ids if id in lowest]
