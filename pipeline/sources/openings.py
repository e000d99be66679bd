"""Which split dialogues that open alike have: the most held out of those that any of them was given.

An opening (`records.split_group`) is kept as 8 bytes of its hash: there may be millions.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable

import numpy as np

from constitution.records import Messages, Prompt, Split, split_group

HELD_OUT: tuple[Split, ...] = ("heldout", "dev", "train")  # the most held out first


class Openings:
    """Say what is known first, then look it up."""

    def __init__(self, prompts: Iterable[Prompt] = ()) -> None:
        self._said, self._splits = array("q"), bytearray()
        self._settled = 0  # how many were said when it was looked up last
        for prompt in prompts:
            self.say(prompt.messages, prompt.split)

    def say(self, messages: Messages, split: Split) -> None:
        self._said.append(_hash(messages))
        self._splits.append(HELD_OUT.index(split))

    def __bool__(self) -> bool:
        return bool(self._said)

    def split(self, messages: Messages, otherwise: Split) -> Split:
        """The split of what opens like this dialogue; `otherwise` where nothing was said of it."""
        if self._settled < len(self._said):
            self._settle()
        key = _hash(messages)
        at = int(np.searchsorted(self._keys, key)) if self._said else 0
        return HELD_OUT[self._codes[at]] if at < len(self._keys) and self._keys[at] == key else otherwise

    _keys: np.ndarray[tuple[int], np.dtype[np.int64]] = np.zeros(0, np.int64)
    _codes: np.ndarray[tuple[int], np.dtype[np.uint8]] = np.zeros(0, np.uint8)

    def _settle(self) -> None:
        said, splits = np.array(self._said, np.int64), np.frombuffer(bytes(self._splits), np.uint8)
        order = np.lexsort((splits, said))  # of each opening the most held out comes first
        said, splits = said[order], splits[order]
        first = np.ones(len(said), np.bool_)
        first[1:] = said[1:] != said[:-1]
        self._keys, self._codes, self._settled = said[first], splits[first], len(said)


def _hash(messages: Messages) -> int:
    opening = split_group(messages).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(opening, digest_size=8).digest(), "big", signed=True)
