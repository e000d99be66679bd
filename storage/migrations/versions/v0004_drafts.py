"""A table of drafts: what somebody is writing of the constitution, one each."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "draft",
        Column("who", Text, primary_key=True),
        Column("text", Text, nullable=False),
        Column("base", Text, nullable=False),
        Column("at", Text, nullable=False),
    )
