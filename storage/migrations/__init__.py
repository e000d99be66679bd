"""The schema's history, run by Alembic when a store is opened.

To change the schema: edit `storage/tables.py`, add `versions/vNNNN_what.py`, raise `HEAD`. Old versions are never
edited, and import nothing of ours. A migration is one transaction on both databases: interrupted, it never was.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

from constitution.errors import UserError

HEAD = "0006"
VERSION_TABLE = "precept_version"  # not Alembic's own name: a database may be shared with another application


def version(connection: Connection) -> str | None:
    """The schema version of a database; None where there is none yet."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()


def is_current(connection: Connection, where: str) -> bool:
    """Whether the schema is this code's. Raises UserError where it is newer: this code would misread it."""
    found = version(connection)
    if found is not None and found > HEAD:
        raise UserError(
            f"the store {where} has schema version {found}, and this precept knows versions up to {HEAD}; "
            "upgrade precept, or open another store"
        )
    return found == HEAD


def upgrade(connection: Connection, where: str) -> None:
    """Bring the schema to `HEAD` inside the caller's transaction, which no other process shares."""
    if is_current(connection, where):
        return  # another process was faster
    from alembic import command  # slow to import, and seldom needed
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except (ValueError, KeyError, TypeError) as error:  # a row that is no JSON, or of another shape
        raise UserError(
            f"the store {where} could not be brought to version {HEAD}, and was left as it was: a row of it cannot be "
            f"read ({type(error).__name__}: {error}). Was it edited by hand? Restore it from a backup, or begin another"
        ) from error
