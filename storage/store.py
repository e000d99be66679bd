"""The store: everything precept remembers, behind one class. What it can do is written down by noun:

| module        | nouns |
|---------------|-------|
| `database.py` | opening, transactions, waiting, errors |
| `runs.py`     | runs, and the slots of their stages |
| `claims.py`   | leases that keep two workers off one item |
| `texts.py`    | prompts, generations, comparisons |
| `verdicts.py` | questions, verdicts, reasons |
| `labels.py`   | labels and what each verdict adds to them, by query |
| `events.py`   | spot checks, and other things people did |
| `registry.py` | constitutions, checkpoints, promotion, documents, canaries |
| `garbage.py`  | throwing away what nothing needs |

Files (checkpoint folders, exports) are `artifacts.py`'s. Records go in and come out as `constitution.records`; ids
are 16 bytes. A computed record is stored once and never changed: the first writer wins.
"""

from __future__ import annotations

from storage.garbage import Garbage
from storage.labels import Labels
from storage.registry import Registry
from storage.texts import Texts
from storage.verdicts import Verdicts


class Store(Texts, Verdicts, Labels, Registry, Garbage):
    """`with Store.open("runs.db") as store: ...`. Safe to use from several threads, and processes may share one."""
