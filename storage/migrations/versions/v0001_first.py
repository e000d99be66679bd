"""The first schema, frozen: a copy of what `storage/tables.py` said at the time, where the reasons stand."""

from alembic import op
from sqlalchemy import Column, ForeignKey, Integer, LargeBinary, MetaData, Table, Text, UniqueConstraint

revision = "0001"
down_revision = None

ID = LargeBinary(16)
metadata = MetaData()


def _refers(target: str) -> ForeignKey:
    return ForeignKey(target, deferrable=True, initially="DEFERRED")


def _created() -> Column[int]:
    return Column("created", Integer, nullable=False)


def upgrade() -> None:
    metadata.create_all(op.get_bind(), checkfirst=False)


Table(
    "dialogue",
    metadata,
    Column("id", ID, primary_key=True),
    Column("messages", Text, nullable=False),
)

Table(
    "prompt",
    metadata,
    Column("id", ID, _refers("dialogue.id"), primary_key=True),
    Column("split", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("tags", Text, nullable=False),
)

Table(
    "answer",
    metadata,
    Column("content", ID, primary_key=True),
    Column("text", Text, nullable=False),
    _created(),
)

Table(
    "generation",
    metadata,
    Column("id", ID, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("prompt", ID, _refers("dialogue.id"), nullable=False, index=True),
    Column("content", ID, _refers("answer.content"), nullable=False, index=True),
    Column("parent", ID, _refers("generation.id"), index=True),
    Column("principle", Text),
    Column("round", Integer, nullable=False),
    Column("sample", Integer, nullable=False),
    Column("finish_reason", Text, nullable=False),
    Column("engine", Text, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),
    _created(),
)

Table(
    "comparison",
    metadata,
    Column("id", ID, primary_key=True),
    Column("prompt", ID, _refers("dialogue.id"), nullable=False, index=True),
    Column("first", ID, _refers("answer.content"), nullable=False, index=True),
    Column("second", ID, _refers("answer.content"), nullable=False, index=True),
    _created(),
)

Table(
    "origin",
    metadata,
    Column("comparison", ID, _refers("comparison.id"), primary_key=True),
    Column("generation", ID, _refers("generation.id"), primary_key=True, index=True),
)

Table(
    "question",
    metadata,
    Column("id", ID, primary_key=True),
    Column("judge", Text, nullable=False),
    Column("readout", Text, nullable=False),
    Column("skeleton", Text, nullable=False),
    Column("principle", Text, nullable=False),
    _created(),
)

Table(
    "clause",
    metadata,
    Column("constitution", Text, primary_key=True),
    Column("principle", Text, primary_key=True),
    Column("question", ID, _refers("question.id"), primary_key=True, index=True),
)

Table(
    "batch",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", ID),
    Column("stage", Text, nullable=False),
    _created(),
)

Table(
    "verdict",
    metadata,
    Column("question", ID, primary_key=True),
    Column("comparison", ID, primary_key=True),
    Column("p1", Integer, nullable=False),
    Column("p2", Integer, nullable=False),
    Column("mass1", Integer, nullable=False),
    Column("mass2", Integer, nullable=False),
    Column("tie1", Integer),
    Column("tie2", Integer),
    Column("batch", Integer, nullable=False),
    sqlite_with_rowid=False,
)

Table(
    "reason",
    metadata,
    Column("question", ID, primary_key=True),
    Column("comparison", ID, primary_key=True),
    Column("shown", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    sqlite_with_rowid=False,
)

Table(
    "run",
    metadata,
    Column("id", ID, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("constitution", Text),
    Column("status", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("finished", Text),
    Column("result", Text),
    Column("error", Text),
    Column("archived", Text),
)

Table(
    "member",
    metadata,
    Column("run", ID, _refers("run.id"), primary_key=True),
    Column("stage", Text, primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("id", ID, nullable=False, index=True),
    Column("reused", Integer, nullable=False),
)

Table(
    "claim",
    metadata,
    Column("stage", Text, primary_key=True),
    Column("id", ID, primary_key=True),
    Column("worker", Text, nullable=False),
    Column("fence", LargeBinary(8), nullable=False),
    Column("expires", Integer, nullable=False),
)

Table(
    "constitution",
    metadata,
    Column("version", Text, primary_key=True),
    Column("text", Text, nullable=False),
    Column("created", Text, nullable=False),
)

Table(
    "checkpoint",
    metadata,
    Column("id", ID, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("parent", Text, nullable=False),
    Column("dataset", Text, nullable=False),
    Column("constitution", Text),
    Column("metrics", Text, nullable=False),
    Column("run", ID, _refers("run.id")),
    Column("created", Text, nullable=False),
)

Table(
    "event",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False, index=True),
    Column("at", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("about", ID, index=True),
    UniqueConstraint("key"),
)

Table(
    "pointer",
    metadata,
    Column("name", Text, primary_key=True),
    Column("target", Text, nullable=False),
    Column("event", Text, nullable=False),
)

Table(
    "canary",
    metadata,
    Column("engine", Text, primary_key=True),
    Column("prompt", ID, primary_key=True),
    Column("logprobs", Text, nullable=False),
)

Table(
    "document",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("payload", Text, nullable=False),
    Column("created", Text, nullable=False),
)
