"""Indexes for pages and reviewers, events that are found by what they are of, and paths relative to the home.

- `event.target`: the version that was ratified, the digest that was promoted, the event that was taken back.
- `event.about` of what was taken back: the comparison, as of the spot check itself.
- Paths of what precept made in its home lose what is before the home: `checkpoints/<method>-<16 hex>` in checkpoints,
  decisions, and the models of runs; `<12 hex>/report.html` in the results of runs. Where the home was is not known
  here; those shapes are precept's own. Promotions keep the path that was said then: an event is never changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from alembic import op
from sqlalchemy import Column, Connection, Integer, LargeBinary, MetaData, Table, Text, bindparam, select, update

revision = "0002"
down_revision = "0001"

SOME = 200  # rows in memory at once: the result of a run may be large
CHECKPOINT = re.compile(r"/.*/(checkpoints/[a-z0-9_]+-[0-9a-f]{16})/?")
REPORT = re.compile(r"/.*/([0-9a-f]{12}/report\.html)")

metadata = MetaData()
EVENT = Table(
    "event",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text),
    Column("kind", Text),
    Column("payload", Text),
    Column("about", LargeBinary(16)),
    Column("target", Text),
)
RUN = Table(
    "run",
    metadata,
    Column("id", LargeBinary(16), primary_key=True),
    Column("settings", Text),
    Column("result", Text),
)
CHECKPOINTS = Table(
    "checkpoint",
    metadata,
    Column("id", LargeBinary(16), primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("path", Text),
)
DOCUMENT = Table(
    "document",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("payload", Text),
)


def upgrade() -> None:
    op.add_column("event", Column("target", Text))
    connection = op.get_bind()
    _name_targets(connection)
    _rewrite(connection, CHECKPOINTS, {"path": _checkpoint})
    _rewrite(connection, RUN, {"settings": _settings, "result": _result})
    _rewrite(connection, DOCUMENT, {"payload": _decision}, DOCUMENT.c.kind == "decision")
    op.create_index("ix_event_target", "event", ["target", "kind"])
    op.create_index("ix_event_who", "event", ["who", "kind"])
    op.create_index("ix_run_created", "run", ["created", "id"])
    op.create_index("ix_checkpoint_run", "checkpoint", ["run"])
    op.create_index("ix_checkpoint_digest", "checkpoint", ["digest"])
    op.create_index("ix_checkpoint_path", "checkpoint", ["path"])
    op.drop_index("ix_member_id", "member")
    op.create_index("ix_member_id", "member", ["id", "run", "stage"])


def _name_targets(connection: Connection) -> None:
    names = {"ratification": "version", "promotion": "digest", "roll_back": "to", "spot_check_undone": "event"}
    change = update(EVENT).where(EVENT.c.seq == bindparam("at"))
    for rows in _in_parts(connection, EVENT, EVENT.c.kind.in_(names)):
        targets = {row.seq: json.loads(row.payload)[names[row.kind]] for row in rows}
        connection.execute(change, [{"at": seq, "target": target} for seq, target in targets.items()])
    checks = EVENT.alias("checks")
    of = select(checks.c.about).where(checks.c.id == EVENT.c.target).scalar_subquery()
    connection.execute(update(EVENT).where(EVENT.c.kind == "spot_check_undone").values(about=of))


def _rewrite(connection: Connection, table: Table, columns: dict[str, Callable[[Any], Any]], where: Any = None) -> None:
    keys = list(table.primary_key)
    change = update(table).where(*(key == bindparam(f"at_{key.name}") for key in keys))
    for rows in _in_parts(connection, table, where):
        for row in rows:
            old = {name: row._mapping[name] for name in columns}
            new = {name: _text(rewrite(_value(old[name]))) for name, rewrite in columns.items()}
            if new != {name: _text(_value(text)) for name, text in old.items()}:
                connection.execute(change, {f"at_{key.name}": row._mapping[key.name] for key in keys} | new)


def _in_parts(connection: Connection, table: Table, where: Any) -> Iterator[Sequence[Any]]:
    keys = list(table.primary_key)
    found = connection.execute(select(*keys) if where is None else select(*keys).where(where)).all()
    for start in range(0, len(found), SOME):
        some = found[start : start + SOME]
        yield [
            connection.execute(select(table).where(*(k == v for k, v in zip(keys, key, strict=True)))).one()
            for key in some
        ]


# --- one value ---


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _text(value: Any) -> str | None:
    """As the store writes JSON."""
    if value is None:
        return None
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _checkpoint(path: Any) -> Any:
    found = CHECKPOINT.fullmatch(path) if isinstance(path, str) else None
    return found[1] if found else path


def _settings(settings: Any) -> Any:
    if isinstance(settings, dict) and "policy" in settings:
        return settings | {"policy": _checkpoint(settings["policy"])}
    return settings


def _decision(decision: Any) -> Any:
    if isinstance(decision, dict) and "model" in decision:
        return decision | {"model": _checkpoint(decision["model"])}
    return decision


def _result(result: Any) -> Any:
    result = _decision(result)
    report = result.get("report") if isinstance(result, dict) else None
    if isinstance(report, str) and (found := REPORT.fullmatch(report)):
        return result | {"report": found[1]}
    return result
