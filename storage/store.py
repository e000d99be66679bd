"""The store: everything precept remembers, behind one class. What it can do is written down by noun:

| module        | nouns |
|---------------|-------|
| `database.py` | opening, transactions, waiting, errors |
| `runs.py`     | runs |
| `stages.py`   | what belongs to which stage of a run |
| `claims.py`   | leases that keep two workers off one item |
| `texts.py`    | prompts, generations, comparisons |
| `verdicts.py` | questions, verdicts, reasons |
| `labels.py`   | labels and what each verdict adds to them, by query |
| `outlook.py`  | what an amendment would do to labels |
| `evidence.py` | verdicts in bulk: counts and arrays |
| `events.py`   | things that people did |
| `spot_checks.py` | what people answered about comparisons |
| `amendments.py` | constitutions, and which is in force |
| `proposals.py` | amendments that somebody proposes |
| `drafts.py`   | amendments that somebody is writing |
| `paths.py`    | where files lie, in the home folder |
| `checkpoints.py` | checkpoints, by what people call them |
| `registry.py` | promotion, documents, canaries |
| `lineage.py`  | what was made of what, in counts |
| `jobs.py`     | what a worker of the console is asked to do |
| `garbage.py`  | archiving runs, and throwing away what nothing needs |

Files (checkpoint folders, exports) are `artifacts.py`'s. Records go in and come out as `constitution.records`; ids
are 16 bytes. A computed record is stored once and never changed: the first writer wins.
"""

from __future__ import annotations

from storage.accounts import Accounts
from storage.drafts import Drafts
from storage.garbage import Garbage
from storage.jobs import Jobs
from storage.lineage import Lineage
from storage.outlook import Outlooks
from storage.registry import Registry
from storage.spot_checks import SpotChecks
from storage.texts import Texts
from storage.verdicts import Verdicts


class Store(Texts, Verdicts, Outlooks, SpotChecks, Registry, Drafts, Lineage, Garbage, Accounts, Jobs):
    """`with Store.open("runs.db") as store: ...`. Safe to use from several threads, and processes may share one."""
