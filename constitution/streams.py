"""Sequences that are not held: what is asked, answered or compared may be millions, of which a process keeps the ids.

`Ids` are ids in 16 bytes each. A `Stream` is a sequence of records that are made when they are looked at, some at a
time, by whoever can find or compute them from their keys: looked at twice it makes them twice, and holds none.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from constitution.records import Id

AT_ONCE = 1_000  # records that are made together
WIDTH = 16  # bytes of an id

K = TypeVar("K")
T = TypeVar("T")


class Ids(Sequence["Id"]):
    """Ids in an order; 16 bytes each, where a list of them takes 57. Grows at its end."""

    __slots__ = ("_raw",)

    def __init__(self, ids: Iterable[Id] = ()) -> None:
        self._raw = bytearray(b"".join(ids))

    def append(self, id: Id) -> None:
        self._raw += id

    def extend(self, ids: Iterable[Id]) -> None:
        self._raw += b"".join(ids)

    def __len__(self) -> int:
        return len(self._raw) // WIDTH

    @overload
    def __getitem__(self, place: int) -> Id: ...
    @overload
    def __getitem__(self, place: slice) -> list[Id]: ...
    def __getitem__(self, place: int | slice) -> Id | list[Id]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        begin = range(len(self))[place] * WIDTH
        return bytes(self._raw[begin : begin + WIDTH])

    def __iter__(self) -> Iterator[Id]:
        for begin in range(0, len(self._raw), WIDTH):
            yield bytes(self._raw[begin : begin + WIDTH])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_same, self, other))

    __hash__ = None  # type: ignore[assignment]

    def first_places(self) -> Any:
        """Of each different id, in the order of ids, the first place where it stands: an array of int64."""
        import numpy as np

        return np.unique(self._array(), return_index=True)[1]

    def in_order(self) -> Ids:
        """Each id once, sorted."""
        import numpy as np

        made = Ids()
        made._raw = bytearray(np.unique(self._array()).tobytes())
        return made

    def _array(self) -> Any:
        import numpy as np

        # Bytes of a fixed width compare as ids do: numpy takes no notice of zeros at the end, and all are as wide.
        return np.frombuffer(bytes(self._raw), f"S{WIDTH}")


def _same(one: object, other: object) -> bool:
    return one == other


class Stream(Sequence[T], Generic[T]):
    """What `make` makes of keys, one record a key and in their order; it is called with some keys at a time."""

    __slots__ = ("_keys", "_make")

    def __init__(self, keys: Sequence[K], make: Callable[[Sequence[K]], Sequence[T]]) -> None:
        self._keys: Sequence[Any] = keys
        self._make: Callable[[Sequence[Any]], Sequence[T]] = make

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return self.some(range(*place.indices(len(self))))
        return self._make([self._keys[place]])[0]

    def __iter__(self) -> Iterator[T]:
        for start in range(0, len(self._keys), AT_ONCE):
            yield from self._make(self._keys[start : start + AT_ONCE])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_same, self, other))

    __hash__ = None  # type: ignore[assignment]

    def some(self, places: Sequence[int]) -> list[T]:
        """Those at some places, in the order of these."""
        found: list[T] = []
        for start in range(0, len(places), AT_ONCE):
            found += self._make([self._keys[place] for place in places[start : start + AT_ONCE]])
        return found


def some(records: Sequence[T], places: Sequence[int]) -> Sequence[T]:
    """Those of a sequence at some places: of one that is held, and of one that is not."""
    return records.some(places) if isinstance(records, Stream) else [records[place] for place in places]


def picked(records: Sequence[T], places: Sequence[int]) -> Stream[T]:
    """Those at some places, made when they are looked at."""
    return Stream(places, lambda mine: some(records, mine))


def parts(records: Sequence[T], size: int = 0) -> Iterator[Sequence[T]]:
    """A sequence in slices of at most `size`; 0: of as many as are made together."""
    size = size or AT_ONCE
    return (records[start : start + size] for start in range(0, len(records), size))


def batched(records: Iterable[T], size: int) -> Iterator[list[T]]:
    """What comes of an iterable, at most `size` together."""
    left = iter(records)
    while some := list(itertools.islice(left, size)):
        yield some
