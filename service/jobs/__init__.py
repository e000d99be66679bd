"""What pages have done by a worker process, because it needs a model: one file a kind, found by name.

A kind is a module with `work(wiring, payload, who, report) -> dict`, whose result is JSON, and
`check(payload) -> dict`, which returns the payload as it is stored or raises UserError. An installed package adds one
by an entry point `precept.jobs`. The queue is the table `job`; who works is in `worker.py`, who starts the worker and
watches it in `watching.py`. A page enqueues and shows; it loads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from pipeline import plugins
from storage.jobs import StoredJob
from storage.store import Store

MOST = 5  # jobs of one person that wait or run


def load(kind: str) -> ModuleType:
    """Raises UserError for a kind that is none."""
    return plugins.load("service.jobs", "work", kind, "kind of job")


def enqueue(store: Store, kind: str, payload: Mapping[str, Any], who: str, key: str) -> StoredJob:
    """Ask a worker for it. The same key of the same person is the same job. Raises UserError for a payload that is
    none, and where that person has MOST that are not over."""
    checked: dict[str, Any] = load(kind).check(payload)
    return store.put_job(kind, checked, who, key, MOST)
