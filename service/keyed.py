"""Prompts that name principles: which of a run's prompts do, kept with the run.

A prompt itself is its dialogue, whoever names what about it; so the names are no part of it, and no column of its
table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from constitution.records import Id, Prompt
from storage.store import Store

DOCUMENT = "keyed prompts"


def named(prompts: Iterable[Prompt]) -> dict[str, list[str]]:
    """By prompt, the principles that it names; of those that name none, nothing."""
    return {prompt.id.hex(): list(prompt.principles) for prompt in prompts if prompt.principles}


def keep(store: Store, run: Id, prompts: Iterable[Prompt]) -> None:
    if keyed := named(prompts):
        store.put_document(DOCUMENT, run.hex(), keyed)


class Named:
    """The principles that prompts name in a run, read once."""

    def __init__(self, store: Store, run: Id) -> None:
        self._keyed: Mapping[str, Sequence[str]] = store.document(DOCUMENT, run.hex()) or {}

    def of(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Prompts of the run, each with the principles that it names there."""
        if not self._keyed:
            return list(prompts)
        named = self._keyed
        return [replace(p, principles=tuple(named[p.id.hex()])) if p.id.hex() in named else p for p in prompts]


def with_principles(store: Store, run: Id, prompts: Sequence[Prompt]) -> list[Prompt]:
    """A run's prompts, each with the principles that it names there."""
    return Named(store, run).of(prompts)


def by_comparison(store: Store, run: Id | None, comparisons: Iterable[Id]) -> dict[Id, Sequence[str]]:
    """Of comparisons whose prompt names principles in a run, those; the others are left out."""
    keyed: Mapping[str, Sequence[str]] = (store.document(DOCUMENT, run.hex()) or {}) if run is not None else {}
    if not keyed:
        return {}
    found = store.comparisons(list(comparisons))
    return {c.id: keyed[c.prompt.hex()] for c in found if c.prompt.hex() in keyed}
