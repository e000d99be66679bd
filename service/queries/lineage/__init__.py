"""Where something came from, and what came of it: from a model back to the people who wrote its principles, and from a
principle forward to all that was trained on it. Read from the store alone: nothing is asked and no model is loaded.

| module        | what |
|---------------|------|
| `names.py`    | what a name stands for |
| `records.py`  | the store as lineage reads it |
| `nodes.py`    | what is said of each record |
| `growing.py`  | a graph while it is being found |
| `back.py`     | what something was made of |
| `forward.py`  | what was made of it |
| `graph.py`    | what was found |
| `text.py`     | that as text |
| `layout.py`, `picture.py` | that as a drawing |

Of what is many (the texts and comparisons of a run, the verdicts on them) one node counts it. A link that the store
does not show is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from constitution.records import Id
from service.queries.lineage.back import Back
from service.queries.lineage.forward import Forward
from service.queries.lineage.graph import Graph
from service.queries.lineage.growing import Growing
from service.queries.lineage.names import Found, find
from service.queries.lineage.records import Records
from storage.store import Store

__all__ = ["Graph", "trace"]


def trace(store: Store, what: str, *, back: bool = True, forward: bool = True) -> Graph:
    """The lineage of anything that has a name: what it was made of (`back`) and what was made of it (`forward`).

    Raises UserError for a name that nothing has, or several things.
    """
    found = find(store, what)
    growing = Growing(Records(store))
    ways = ([Back(growing)] if back else []) + ([Forward(growing)] if forward else [])
    focus = dict.fromkeys(id for way in ways for id in _go(way, found))
    return growing.graph(found.name, tuple(focus))


def _go(way: Back | Forward, found: Found) -> Iterator[str]:
    """Add what was found, and all that lies that way. Gives its node: several for a principle that was reworded."""
    known, key = way.known, found.key
    if found.noun == "dataset":
        yield way.data_set(key)
    elif found.noun == "principle":
        yield from (way.principle(version, key) for version in known.versions() if key in version.writers)
    elif found.noun == "amendment":
        if key.isdecimal() and len(key) < 4:
            yield way.amendment(known.amendments[int(key) - 1])
        else:
            yield way.constitution(known.drafts[key])
    else:
        yield _go_by_id(way, found.noun, bytes.fromhex(key))


def _go_by_id(way: Back | Forward, noun: str, id: Id) -> str:
    known = way.known
    if noun == "checkpoint":
        return way.checkpoint(known.checkpoints[id])
    if noun == "run":
        return way.run(known.runs[id])
    if noun == "generation":
        return way.generation(way.store.generations([id])[0])
    return way.prompt(id) if noun == "prompt" else way.comparison(id)
