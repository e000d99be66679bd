"""A table of jobs: what a worker of the console is asked to do."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, LargeBinary, Text

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "job",
        Column("id", LargeBinary(16), primary_key=True),
        Column("kind", Text, nullable=False),
        Column("payload", Text, nullable=False),
        Column("who", Text, nullable=False),
        Column("state", Text, nullable=False, index=True),
        Column("tries", Integer, nullable=False),
        Column("worker", Text),
        Column("said", Text),
        Column("result", Text),
        Column("error", Text),
        Column("created", Integer, nullable=False),
        Column("begun", Integer),
        Column("ended", Integer),
    )
