"""The tables of the store. What they promise is kept in `storage/store.py`; how they came to be is in `migrations/`.

Ids are 16 raw bytes on both databases (SQLAlchemy's Uuid becomes CHAR(32) on SQLite). All that people or models wrote
is ASCII-JSON, because a lone surrogate or a NUL breaks TEXT on one database or the other. Foreign keys are deferred to
the commit, so that a batch may hold children before parents; `verdict` has none and no second index, because it is
the one table that grows to millions of rows.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect

from constitution.records import canonical

ID = LargeBinary(16)
metadata = MetaData()


class AsciiJson(TypeDecorator[Any]):
    """Any JSON value as canonical ASCII text, so that equal values are equal in SQL too. None is NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else canonical(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


def _refers(target: str) -> ForeignKey:
    return ForeignKey(target, deferrable=True, initially="DEFERRED")


def _created() -> Column[int]:
    return Column("created", Integer, nullable=False)  # Unix seconds: how `collect` knows what is old


# --- texts: prompts, what models wrote, and the pairs made of them -------------------------------------------------

dialogue = Table(
    "dialogue",
    metadata,
    Column("id", ID, primary_key=True),
    Column("messages", AsciiJson, nullable=False),
)

prompt = Table(
    "prompt",
    metadata,
    Column("id", ID, _refers("dialogue.id"), primary_key=True),
    Column("split", Text, nullable=False),
    Column("source", AsciiJson, nullable=False),
    Column("tags", AsciiJson, nullable=False),
)

answer = Table(
    "answer",
    metadata,
    Column("content", ID, primary_key=True),
    Column("text", AsciiJson, nullable=False),
    _created(),
)

generation = Table(
    "generation",
    metadata,
    Column("id", ID, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("prompt", ID, _refers("dialogue.id"), nullable=False, index=True),
    Column("content", ID, _refers("answer.content"), nullable=False, index=True),
    Column("parent", ID, _refers("generation.id"), index=True),
    Column("principle", AsciiJson),
    Column("round", Integer, nullable=False),
    Column("sample", Integer, nullable=False),
    Column("finish_reason", Text, nullable=False),
    Column("engine", AsciiJson, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),
    _created(),
)

comparison = Table(
    "comparison",
    metadata,
    Column("id", ID, primary_key=True),
    Column("prompt", ID, _refers("dialogue.id"), nullable=False, index=True),
    Column("first", ID, _refers("answer.content"), nullable=False, index=True),
    Column("second", ID, _refers("answer.content"), nullable=False, index=True),
    _created(),
)

origin = Table(  # which generations a comparison was made from
    "origin",
    metadata,
    Column("comparison", ID, _refers("comparison.id"), primary_key=True),
    Column("generation", ID, _refers("generation.id"), primary_key=True, index=True),
)

# --- what judges answered ------------------------------------------------------------------------------------------

question = Table(
    "question",
    metadata,
    Column("id", ID, primary_key=True),
    Column("judge", AsciiJson, nullable=False),
    Column("readout", AsciiJson, nullable=False),
    Column("skeleton", AsciiJson, nullable=False),  # the question template
    Column("principle", AsciiJson, nullable=False),
    _created(),
)

clause = Table(  # which principle of which version of the constitution asked a question
    "clause",
    metadata,
    Column("constitution", Text, primary_key=True),
    Column("principle", AsciiJson, primary_key=True),
    Column("question", ID, _refers("question.id"), primary_key=True, index=True),
)

batch = Table(  # who stored some verdicts, and when
    "batch",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", ID),
    Column("stage", Text, nullable=False),
    _created(),
)

verdict = Table(
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

reason = Table(  # what a reasoned judge wrote; `shown` 1: the first answer was A, 2: it was B
    "reason",
    metadata,
    Column("question", ID, primary_key=True),
    Column("comparison", ID, primary_key=True),
    Column("shown", Integer, primary_key=True, autoincrement=False),
    Column("text", AsciiJson, nullable=False),
    sqlite_with_rowid=False,
)

# --- runs ----------------------------------------------------------------------------------------------------------

run = Table(
    "run",
    metadata,
    Column("id", ID, primary_key=True),
    Column("key", AsciiJson, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("settings", AsciiJson, nullable=False),
    Column("constitution", Text),
    Column("status", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("finished", Text),
    Column("result", AsciiJson),
    Column("error", AsciiJson),
    Column("archived", Text),
    Index("ix_run_created", "created", "id"),
)

member = Table(
    "member",
    metadata,
    Column("run", ID, _refers("run.id"), primary_key=True),
    Column("stage", Text, primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("id", ID, nullable=False),
    Column("reused", Integer, nullable=False),  # 1: it was stored before this run came to it
    Index("ix_member_id", "id", "run", "stage"),  # whole, or SQLite would look for one id among all of a stage's
)

claim = Table(
    "claim",
    metadata,
    Column("stage", Text, primary_key=True),
    Column("id", ID, primary_key=True),
    Column("worker", AsciiJson, nullable=False),
    Column("fence", LargeBinary(8), nullable=False),
    Column("expires", Integer, nullable=False),  # Unix seconds
)

# --- constitutions, checkpoints, people ----------------------------------------------------------------------------

constitution = Table(
    "constitution",
    metadata,
    Column("version", Text, primary_key=True),
    Column("text", AsciiJson, nullable=False),
    Column("created", Text, nullable=False),
)

checkpoint = Table(  # a lost folder trained again is a new attempt: the same job, perhaps another digest
    "checkpoint",
    metadata,
    Column("id", ID, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("path", AsciiJson, nullable=False),  # relative where it is in the home: `paths.py`
    Column("parent", Text, nullable=False),
    Column("dataset", Text, nullable=False),
    Column("constitution", Text),
    Column("metrics", AsciiJson, nullable=False),
    Column("run", ID, _refers("run.id"), index=True),
    Column("created", Text, nullable=False),
    Index("ix_checkpoint_digest", "digest"),
    Index("ix_checkpoint_path", "path"),
)

event = Table(
    "event",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False, index=True),
    Column("at", Text, nullable=False),
    Column("who", AsciiJson, nullable=False),
    Column("key", AsciiJson, nullable=False),
    Column("payload", AsciiJson, nullable=False),
    Column("about", ID, index=True),  # the comparison a spot check is about, which keeps it from `collect`
    Column("target", Text),  # the version ratified, the digest promoted, the event taken back: to find it by
    UniqueConstraint("key"),
    Index("ix_event_target", "target", "kind"),
    Index("ix_event_who", "who", "kind"),
)

pointer = Table(  # the few things that move: what is promoted, what is ratified
    "pointer",
    metadata,
    Column("name", Text, primary_key=True),
    Column("target", Text, nullable=False),
    Column("event", Text, nullable=False),
)

canary = Table(  # what a remote model answered when it was first met; compared within a tolerance, never hashed
    "canary",
    metadata,
    Column("engine", AsciiJson, primary_key=True),
    Column("prompt", ID, primary_key=True),  # digest of its text
    Column("logprobs", AsciiJson, nullable=False),
)

document = Table(  # evaluations, decisions: records that are read whole
    "document",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("payload", AsciiJson, nullable=False),
    Column("created", Text, nullable=False),
)

draft = Table(  # what somebody is writing of the constitution: one each, changed as they type
    "draft",
    metadata,
    Column("who", AsciiJson, primary_key=True),
    Column("text", AsciiJson, nullable=False),
    Column("base", Text, nullable=False),  # the event of the amendment it was begun from
    Column("at", Text, nullable=False),
)

# --- the console's accounts ----------------------------------------------------------------------------------------

account = Table(
    "account",
    metadata,
    Column("name", AsciiJson, primary_key=True),
    Column("role", Text, nullable=False),
    Column("password", Text),  # argon2id, in its own notation; none until the one-time link was used
    Column("disabled", Integer, nullable=False),
    _created(),
)

credential = Table(  # sessions, tokens and one-time links: what is sent is a secret of which this keeps SHA-256
    "credential",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("account", AsciiJson, nullable=False, index=True),
    Column("label", AsciiJson, nullable=False),  # what a token is called, what browser a session is of
    Column("role", Text),  # of a token: no more than this, whatever its owner's role
    _created(),
    Column("seen", Integer, nullable=False),  # Unix seconds
    Column("expires", Integer, nullable=False),
)

attempt = Table(  # failed sign-ins, by account and by address; those older than a day are deleted
    "attempt",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("subject", AsciiJson, nullable=False, index=True),
    Column("at", Integer, nullable=False),
)

job = Table(  # what a worker of the console is asked to do, and what came of it
    "job",
    metadata,
    Column("id", ID, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("payload", AsciiJson, nullable=False),
    Column("who", AsciiJson, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("tries", Integer, nullable=False),
    Column("worker", AsciiJson),
    Column("said", AsciiJson),
    Column("result", AsciiJson),
    Column("error", AsciiJson),
    _created(),
    Column("begun", Integer),
    Column("ended", Integer),
)
