"""Accounts of the console, and what stands for them: sessions, API tokens, one-time links. Secrets are kept as digests.

What is done to accounts is written down as events of the kind `AUDIT`, in the same transaction; events are appended and
never changed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from sqlalchemy import Row, delete, func, select, update

from constitution.errors import UserError
from constitution.records import Event
from storage import tables
from storage.database import patient
from storage.events import Events, event_of, uuid7

AUDIT = "audit"
Role: TypeAlias = Literal["reviewer", "editor", "approver", "admin"]
Kind: TypeAlias = Literal["session", "token", "link"]
DAY = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    role: Role
    password: str | None  # argon2id; None: the one-time link was not used yet
    disabled: bool
    created: int  # Unix seconds


@dataclass(frozen=True, slots=True)
class Credential:
    """A session, an API token or a one-time link. `digest`: of the secret, SHA-256 in hex. Times are Unix seconds."""

    digest: str
    kind: Kind
    account: str
    label: str
    role: Role | None
    created: int
    seen: int
    expires: int


class Accounts(Events):
    @patient
    def accounts(self) -> list[Account]:
        """All, by name."""
        with self._read() as connection:
            found = [_account(row) for row in connection.execute(select(tables.account))]
        return sorted(found, key=lambda account: account.name)

    @patient
    def account(self, name: str) -> Account | None:
        with self._read() as connection:
            row = connection.execute(select(tables.account).where(tables.account.c.name == name)).first()
            return None if row is None else _account(row)

    @patient
    def add_account(self, name: str, role: Role, by: str, password: str | None = None) -> Account:
        """Raises UserError where there is one of this name."""
        if role not in get_args(Role):
            raise ValueError(role)
        row = {"name": name, "role": role, "password": password, "disabled": 0, "created": int(time.time())}
        with self._write(durable=True) as connection:
            if connection.execute(select(tables.account.c.name).where(tables.account.c.name == name)).first():
                raise UserError(f"there is an account {name!r} already")
            connection.execute(tables.account.insert(), row)
            self._note(connection, by, "account added", {"account": name, "role": role})
        return Account(name, role, password, False, row["created"])  # type: ignore[arg-type]

    @patient
    def change_account(
        self,
        name: str,
        by: str,
        *,
        role: Role | None = None,
        password: str | None = None,
        disabled: bool | None = None,
    ) -> None:
        """Change what is given. A new password or a disabling ends all sessions, and a disabling all tokens; the last
        enabled admin stays one. Raises UserError for an unknown account and for that."""
        given: dict[str, Any] = {}
        if role is not None:
            given["role"] = role
        if password is not None:
            given["password"] = password
        if disabled is not None:
            given["disabled"] = int(disabled)
        table = tables.account
        with self._write(durable=True, alone=True) as connection:
            found = connection.execute(select(table).where(table.c.name == name)).first()
            if found is None:
                raise UserError(f"there is no account {name!r}")
            loses = found.role == "admin" and (disabled or role not in (None, "admin"))
            if loses and not found.disabled:
                others = select(func.count()).where(
                    table.c.role == "admin", table.c.disabled == 0, table.c.name != name
                )
                if not connection.execute(others).scalar_one():
                    raise UserError(f"{name} is the only admin; make somebody else one first")
            connection.execute(update(table).where(table.c.name == name).values(given))
            ended = ["session", "link"] * (password is not None) + ["session", "link", "token"] * bool(disabled)
            if ended:
                of = tables.credential.c
                connection.execute(delete(tables.credential).where(of.account == name, of.kind.in_(ended)))
            told = {k: ("changed" if k == "password" else v) for k, v in given.items()}
            self._note(connection, by, "account changed", {"account": name, **told})

    # --- sessions, tokens, links ---

    @patient
    def put_credential(self, credential: Credential, by: str, what: str) -> None:
        """Keep a session, token or link. `what`: how the audit calls the act."""
        row = {name: getattr(credential, name) for name in Credential.__slots__}
        with self._write(durable=True) as connection:
            connection.execute(tables.credential.insert(), row)
            said = {"account": credential.account, "label": credential.label, "role": credential.role}
            self._note(connection, by, what, said)

    @patient
    def credential(self, digest: str, kind: Kind) -> tuple[Credential, Account] | None:
        """By the digest of its secret, with its account; None where it is unknown or past its time."""
        of = tables.credential.c
        with self._read() as connection:
            row = connection.execute(select(tables.credential).where(of.digest == digest, of.kind == kind)).first()
            if row is None or row.expires <= time.time():
                return None
            owner = connection.execute(select(tables.account).where(tables.account.c.name == row.account)).first()
            return None if owner is None else (_credential(row), _account(owner))

    @patient
    def credentials(self, account: str, kind: Kind) -> list[Credential]:
        """Of an account, those of one kind that still hold, the newest first."""
        of = tables.credential.c
        query = select(tables.credential).where(of.account == account, of.kind == kind, of.expires > int(time.time()))
        with self._read() as connection:
            return [_credential(row) for row in connection.execute(query.order_by(of.created.desc(), of.digest))]

    @patient
    def touch_credential(self, digest: str, seen: int, expires: int) -> None:
        """Note that it was used. Not durable: a power cut may forget it."""
        with self._write() as connection:
            changed = update(tables.credential).where(tables.credential.c.digest == digest)
            connection.execute(changed.values(seen=seen, expires=expires))

    @patient
    def end_credentials(self, account: str, by: str, what: str, *, kind: Kind, digest: str | None = None) -> int:
        """Delete one, or all of a kind, of an account. Returns how many there were."""
        of = tables.credential.c
        query = delete(tables.credential).where(of.account == account, of.kind == kind)
        if digest is not None:
            query = query.where(of.digest == digest.replace("\0", ""))
        with self._write(durable=True) as connection:
            ended: int = connection.execute(query).rowcount
            if ended:
                self._note(connection, by, what, {"account": account, "ended": ended})
            return ended

    # --- attempts and the audit ---

    @patient
    def note_attempt(self, *subjects: str) -> list[int]:
        """A sign-in that is tried, by what it is counted: the account, the address. Returns the rows' ids."""
        at = int(time.time())
        with self._write() as connection:
            connection.execute(delete(tables.attempt).where(tables.attempt.c.at < at - DAY))
            rows = [tables.attempt.insert().values(subject=subject, at=at) for subject in subjects]
            made = [connection.execute(row).inserted_primary_key for row in rows]
            return [int(key[0]) for key in made if key is not None]

    @patient
    def attempts(self, subject: str, seconds: int) -> int:
        """How many sign-ins failed by this subject within the last seconds."""
        of = tables.attempt.c
        query = select(func.count()).where(of.subject == subject, of.at > int(time.time()) - seconds)
        with self._read() as connection:
            return int(connection.execute(query).scalar_one())

    @patient
    def forget_attempts(self, subject: str, rows: Sequence[int] = ()) -> None:
        """Those of a subject, and some rows: it was the right password."""
        of = tables.attempt.c
        with self._write() as connection:
            connection.execute(delete(tables.attempt).where((of.subject == subject) | of.id.in_(rows)))

    @patient
    def audit(self, who: str, what: str, said: Mapping[str, Any]) -> None:
        """Write down an act; it is on disk when this returns."""
        with self._write(durable=True) as connection:
            self._note(connection, who, what, said)

    @patient
    def audited(self, most: int = 100, before: str | None = None) -> list[Event]:
        """Acts, the last one first, those before an event's id where one is given."""
        of = tables.event.c
        query = select(tables.event).where(of.kind == AUDIT).order_by(of.id.desc()).limit(most)
        if before is not None:
            query = query.where(of.id < before.replace("\0", ""))
        with self._read() as connection:
            return [event_of(row) for row in connection.execute(query)]

    def _note(self, connection: Any, who: str, what: str, said: Mapping[str, Any]) -> None:
        self._append(connection, AUDIT, who, f"audit:{uuid7()}", {"what": what, **said})


def _account(row: Row[Any]) -> Account:
    return Account(row.name, row.role, row.password, bool(row.disabled), row.created)


def _credential(row: Row[Any]) -> Credential:
    return Credential(
        row.digest, row.kind, row.account, row.label, row.role, row.created, row.seen, row.expires
    )  # fmt: skip
