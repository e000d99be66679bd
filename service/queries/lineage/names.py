"""What a name stands for: anything in the store that has one. `3f2a` may be a checkpoint, a run, a comparison..."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import get_args

from constitution import loading
from constitution.errors import UserError
from storage.amendments import NAMES
from storage.lineage import DIGITS, Noun
from storage.store import Store

SHORT = 12  # hex digits that are shown of an id
LEAST = 4  # hex digits that a name has at least
_MOST = 5  # that are named when several fit


@dataclass(frozen=True, slots=True)
class Found:
    """`key` is whole: an id or a digest in hex, an amendment's number, a version that no amendment has, a principle's
    id."""

    noun: str
    key: str

    @property
    def name(self) -> str:
        """What can be written for it and stands for nothing else."""
        return f"{self.noun}:{self.key}"

    def __str__(self) -> str:
        return self.name if self.noun == "principle" else f"{self.noun}:{self.key[:SHORT]}"


def find(store: Store, what: str) -> Found:
    """The one thing that a name fits. `NOUN:NAME` looks among the things of one noun only. Raises UserError where there
    is none, or several."""
    before, colon, after = what.partition(":")
    before = _SYNONYMS.get(before, before)
    nouns, name = ([before], after) if colon and before in _FINDERS else (list(_FINDERS), what)
    found = [Found(noun, key) for noun in nouns for key in dict.fromkeys(_FINDERS[noun](store, name))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(_unknown(what, nouns))
    several = ", ".join(map(str, found[:_MOST])) + (", ..." if len(found) > _MOST else "")
    if len({one.noun for one in found}) == len(found):  # one of each noun: the noun is enough
        raise UserError(f"{what!r} can be several things; write one of {', '.join(f'{f.noun}:{name}' for f in found)}")
    raise UserError(f"{what!r} can be several things ({several}); write more of it, and what it is, as shown here")


def _unknown(what: str, nouns: list[str]) -> str:
    if len(nouns) == 1:
        return f"there is no {nouns[0]} {what.partition(':')[2]!r} in the store; {_ADVICE[nouns[0]]}"
    return (
        f"nothing in the store is called {what!r}; write a checkpoint (its folder, `promoted`), an amendment "
        "(`ratified`, its number, its version), a principle's id, or the first digits (at least "
        f"{LEAST}) of the id of a run, checkpoint, data set, comparison, generation or prompt. "
        "`precept run list` and `precept constitution log` name some"
    )


_SYNONYMS = {"constitution": "amendment", "data set": "dataset", "answer": "generation"}
_ADVICE = {
    "checkpoint": f"write its folder, at least {LEAST} digits of its id or of its weights' digest, or `promoted`",
    "run": f"write at least {LEAST} digits of its id: `precept run list` shows them",
    "dataset": f"write at least {LEAST} digits: `precept model lineage` of a checkpoint names what it was trained on",
    "amendment": "`precept constitution log` shows them; write a number, a version, or `ratified`",
    "principle": "write the id of a principle of any amendment; `precept constitution show` has those of the last",
    **dict.fromkeys(get_args(Noun), f"write the first digits of its id, at least {LEAST}"),
}


# --- names by noun: each gives the keys of all that fit ---------------------------------------------------------------


def _checkpoints(store: Store, name: str) -> Iterator[str]:
    if name == "promoted":
        promoted = store.promoted()
        if promoted is None:
            raise UserError("nothing is promoted yet; `precept model promote CHECKPOINT` does it")
        yield promoted.id.hex()
        return
    paths = {name, str(Path(name).resolve())} if name and "\0" not in name else set()
    for checkpoint in store.checkpoints():
        by_path = checkpoint.path in paths or name == PurePath(checkpoint.path).name
        if by_path or _begins(name, checkpoint.id.hex(), checkpoint.digest):
            yield checkpoint.id.hex()


def _runs(store: Store, name: str) -> Iterable[str]:
    return (run.id.hex() for run in store.runs() if _begins(name, run.id.hex()))


def _data_sets(store: Store, name: str) -> Iterable[str]:
    return (c.dataset for c in store.checkpoints() if _begins(name, c.dataset))


def _constitutions(store: Store, name: str) -> Iterator[str]:
    past = store.amendments()
    if past and name in NAMES:
        yield str(past[-1].number)
    elif re.fullmatch("[0-9]{1,3}", name):
        if 1 <= int(name) <= len(past):
            yield str(int(name))
    else:
        numbers = {amendment.version: str(amendment.number) for amendment in past}  # the last of each version
        versions = numbers | {v: v for v in store.constitutions() if v not in numbers}  # tried, never ratified
        yield from (key for version, key in versions.items() if _begins(name, version))


def _principles(store: Store, name: str) -> Iterator[str]:
    if re.fullmatch("[a-z][a-z0-9_-]{0,63}", name):
        texts = dict.fromkeys([*(a.text for a in store.amendments()), *store.constitutions().values()])
        if any(name in text and name in loading.parse(text).weights() for text in texts):
            yield name


def _records(noun: Noun) -> Callable[[Store, str], Iterable[str]]:
    def find(store: Store, name: str) -> Iterable[str]:
        usable = LEAST <= len(name) <= DIGITS and re.fullmatch("[0-9a-fA-F]+", name)
        return [id.hex() for id in store.ids_like(noun, name, _MOST + 1)] if usable else []

    return find


_FINDERS: dict[str, Callable[[Store, str], Iterable[str]]] = {
    "checkpoint": _checkpoints,
    "run": _runs,
    "dataset": _data_sets,
    "amendment": _constitutions,
    "principle": _principles,
    **{noun: _records(noun) for noun in get_args(Noun)},
}


def _begins(name: str, *ids: str) -> bool:
    return len(name) >= LEAST and any(id.startswith(name.lower()) for id in ids)
