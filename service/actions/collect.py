"""Forgetting what nothing needs any more: archiving runs that are old, and deleting what only they needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from constitution.errors import UserError

if TYPE_CHECKING:
    from storage.runs import Run
    from storage.store import Store

DAY = 24 * 60 * 60  # seconds
LONGEST = 36_500  # days


@dataclass(frozen=True)
class Collected:
    """Runs that were archived, and rows deleted by table; with `dry_run` those that would be. A dry run cannot tell
    what the archived runs alone need: they are not archived yet."""

    archived: tuple[Run, ...]
    deleted: Mapping[str, int]
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "archived": [run.id.hex() for run in self.archived], "deleted": dict(self.deleted), "dry_run": self.dry_run
        }  # fmt: skip


def collect(store: Store, days: float, *, archive: bool = False, dry_run: bool = False) -> Collected:
    """Delete what nothing needs and is older than some days. `archive`: first archive the runs that ended before then,
    but for those whose checkpoints are or were promoted."""
    if not 0 <= days <= LONGEST:
        raise UserError(f"days are from 0 to {LONGEST:,}, not {days:g}")
    before = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="microseconds")
    runs = tuple(store.archivable(before)) if archive else ()
    if not dry_run:
        for run in runs:
            store.archive_run(run.id)
    return Collected(runs, store.collect(days * DAY, dry_run=dry_run), dry_run)
