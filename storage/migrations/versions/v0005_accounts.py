"""Accounts of the console: who may sign in, their sessions, tokens and one-time links, and attempts to sign in."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, Text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "account",
        Column("name", Text, primary_key=True),
        Column("role", Text, nullable=False),
        Column("password", Text),
        Column("disabled", Integer, nullable=False),
        Column("created", Integer, nullable=False),
    )
    op.create_table(
        "credential",
        Column("digest", Text, primary_key=True),
        Column("kind", Text, nullable=False),
        Column("account", Text, nullable=False, index=True),
        Column("label", Text, nullable=False),
        Column("role", Text),
        Column("created", Integer, nullable=False),
        Column("seen", Integer, nullable=False),
        Column("expires", Integer, nullable=False),
    )
    op.create_table(
        "attempt",
        Column("id", Integer, primary_key=True),
        Column("subject", Text, nullable=False, index=True),
        Column("at", Integer, nullable=False),
    )
