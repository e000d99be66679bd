"""The database under the store: opening it, transactions, waiting for it, and what to say when it fails.

Leaves out what is stored: that is in `tables.py` and in the modules named after it. Every write of the store may be
run twice with the effect of once (ids are hashes, events have keys), so a transaction whose connection broke is
simply run again.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import StaticPool
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from constitution.errors import UserError
from storage import migrations, tables

CONNECT_SECONDS = 5  # that a Postgres server may take to answer; the URL may say another connect_timeout
DIGITS = 32  # hex digits of an id
CHUNK = 1_000  # ids in one query: well under every driver's limit of parameters
STORE_LOCK = 0x70726563  # Postgres advisory lock: writers share it, `alone` has it whole

T = TypeVar("T")
P = ParamSpec("P")
D = TypeVar("D", bound="Database")
Row = Mapping[str, Any]


class Unavailable(Exception):
    """The database could not be used just now; the message is for a person."""


class Busy(Unavailable):
    """Another process holds it."""


class Lost(Unavailable):
    """The connection broke, or the server is not there."""


def chunks(items: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def id_range(digits: str) -> tuple[bytes, bytes] | None:
    """The lowest and the highest id that begin with these hex digits; None where no id does."""
    if not re.fullmatch(f"[0-9a-fA-F]{{1,{DIGITS}}}", digits):
        return None
    low, high = (bytes.fromhex(digits.ljust(DIGITS, filler)) for filler in "0f")
    return low, high


def patient(method: Callable[Concatenate[D, P], T]) -> Callable[Concatenate[D, P], T]:
    """Run a method again while the database is away, for at most `patience` seconds; then raise UserError."""

    @functools.wraps(method)
    def again(self: D, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return _retry(self.patience, Unavailable, lambda: method(self, *args, **kwargs))

    return again


def _retry(patience: float, on: type[Unavailable], work: Callable[[], T]) -> T:
    again = Retrying(
        stop=stop_after_delay(patience),
        wait=wait_random_exponential(multiplier=0.05, max=1),
        retry=retry_if_exception_type(on),
        reraise=True,
    )
    try:
        return again(work)
    except Unavailable as error:
        raise UserError(str(error)) from error


class Database:
    """An open database whose schema is the code's. Close it, or use it as a context manager."""

    def __init__(self, engine: Engine, patience: float, home: Path | None = None) -> None:
        self._engine = engine
        self._absent: Engine | None = None  # an empty store in memory, to be read while there is no file yet
        self._making = threading.RLock()
        self._maker: int | None = None  # the thread that makes the file just now
        self.patience = patience
        self._place = self._file.absolute()  # wherever the process goes meanwhile
        self._opened: tuple[int, int] | None = None  # device and inode of SQLite's file when it was first written to
        self._inserts: dict[Any, Any] = {}
        self.home = None if home is None else home.expanduser().resolve()
        self._written = (home or Path()).expanduser().absolute()  # the home without following links

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        create: bool = True,
        late: bool = False,
        patience: float = 30.0,
        home: str | Path | None = None,
    ) -> Self:
        """Open the store at a path (`runs.db`), `sqlite:///...` or `postgresql://...`, and upgrade its schema.

        `create` False refuses a SQLite file that is not there; `late` has it made by the first write, so that what only
        reads makes nothing. `patience`: seconds to wait for a database that is locked or restarting. `home`: the folder
        of checkpoints and reports; what lies in it is remembered by where in it (`storage/paths.py`). Raises UserError
        where the store cannot be opened, or is newer than this code.
        """
        store = cls(_engine(_parse(url), create, patience), patience, None if home is None else Path(home))
        try:
            if store._is_sqlite and not store._file.exists():
                store._absent = _empty()
                if not late:
                    store._make()
            else:
                _retry(patience, Busy, store._upgrade)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        self._engine.dispose()
        if self._absent is not None:
            self._absent.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it is, without the passwords."""
        return _shown(self._engine.url)

    @property
    def _file(self) -> Path:
        return Path(self._engine.url.database or "")

    def _make(self) -> None:
        """Make the file that was not there, or take the one that another process has made meanwhile."""
        with self._making:
            if self._absent is None or self._maker is not None:
                return
            try:
                make_private(self._file.parent)
                if self.home is not None:
                    make_private(self.home)
            except OSError as error:
                raise UserError(f"cannot make the folder of the store {self._file}: {error.strerror}") from error
            with suppress(OSError):  # it is there already; what else is wrong, SQLite says
                os.close(os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._maker = threading.get_ident()
            try:
                _retry(self.patience, Busy, self._upgrade)
            finally:
                self._maker = None
            self._absent.dispose()
            self._absent = None

    def _upgrade(self) -> None:
        with self._read() as connection:
            current = migrations.is_current(connection, self.url)
        if not current:
            with self._write(durable=True, alone=True) as connection:
                migrations.upgrade(connection, self.url)

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        if self._absent is not None and self._file.exists():
            self._make()
        absent = None if self._maker == threading.get_ident() else self._absent
        with self._explained(), (absent or self._engine).connect() as connection:
            yield connection

    @contextmanager
    def _write(self, *, durable: bool = False, alone: bool = False) -> Iterator[Connection]:
        """One transaction: all of it, or nothing.

        `durable`: on disk before it returns even if the power fails (people's answers). `alone`: no other writer
        meanwhile. SQLite has one writer anyway; `BEGIN IMMEDIATE` makes it wait at the start, because a transaction
        that read first cannot be upgraded once another has written.
        """
        if self._absent is not None:
            self._make()
        self._refuse_another_file()
        engine = self._engine.execution_options(write=True, durable=durable)
        with self._explained(), engine.begin() as connection:
            if not self._is_sqlite:
                lock = func.pg_advisory_xact_lock if alone else func.pg_advisory_xact_lock_shared
                connection.execute(select(lock(STORE_LOCK)))
            yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            explained = _explain(error, self.url, self.patience)
            if explained is None:
                raise
            raise explained from error

    def _refuse_another_file(self) -> None:
        """Raise UserError where SQLite's file was deleted, moved or replaced since: what is written to an open file
        without a name is gone when the process ends, and nothing would say so."""
        if not self._is_sqlite or self._engine.url.database in (None, "", ":memory:"):
            return
        try:
            found = self._place.stat()
            now = (found.st_dev, found.st_ino)
        except OSError:
            now = None
        if self._opened is None:
            self._opened = now
        elif now != self._opened:
            raise UserError(
                f"the store's file {self._file} was deleted, moved or replaced while it was open, and nothing was "
                "stored; put it back, or start again on the one that is there"
            )

    @property
    def _is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def _insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that knows ON CONFLICT, which the two databases spell alike and SQLAlchemy keeps apart."""
        return sqlite.insert(table) if self._is_sqlite else postgresql.insert(table)

    def _insert_first_wins(self, connection: Connection, table: Table, rows: Sequence[Row]) -> int:
        """Insert the rows whose key is not there yet; returns how many. The caller reads back what is stored.

        Sorted by key, because two writers that insert the same keys in different orders deadlock on Postgres.
        """
        if not rows:
            return 0
        keys = [column.name for column in table.primary_key if column.name in rows[0]]
        ordered = sorted(rows, key=lambda row: tuple(row[key] for key in keys))
        return connection.execute(self._compiled(table, list(rows[0]), len(rows) > 1), ordered).rowcount

    def _compiled(self, table: Table, columns: list[str], many: bool) -> Any:
        """That insert, compiled once: SQLAlchemy keeps none that knows ON CONFLICT, and would compile it each time."""
        key = (table.name, *columns, many)
        if key not in self._inserts:
            insert = self._insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
            self._inserts[key] = insert.compile(self._engine, column_keys=columns, for_executemany=many)
        return self._inserts[key]


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are not there, for its owner alone: answers of people and models lie in
    it. One that is there already stays as it is."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


# --- opening -------------------------------------------------------------------------------------------------------


def _parse(url: str | Path) -> URL:
    text = str(url)
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).expanduser()))
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError):
        raise UserError(
            "the store's URL cannot be read; write a file name, sqlite:///PATH or postgresql://USER@HOST/DATABASE"
        ) from None
    backend = parsed.drivername.partition("+")[0]
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise UserError(f"a store cannot be kept in {_shown(parsed)}; write a file name or postgresql://...")


def _shown(url: URL) -> str:
    """A URL without its passwords: the one before the host, and those after the question mark (sslpassword)."""
    secret = [name for name in url.query if re.search("pass(word|wd|phrase)|token|secret|api_?key", name.lower())]
    return url.difference_update_query(secret).render_as_string(hide_password=True)


def _engine(url: URL, create: bool, patience: float) -> Engine:
    if url.drivername == "sqlite":
        path = Path(url.database or "")
        if not create and not path.exists():
            raise UserError(f"there is no store at {path}; check the name, or start one with `precept init`")
        engine = create_engine(url, connect_args={"timeout": patience})
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
        return engine
    waits = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_SECONDS}
    try:
        return create_engine(url, connect_args=waits)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise UserError(
            "the store is on Postgres and its driver is not installed; run: pip install 'psycopg[binary]>=3.2'"
        ) from error


def _empty() -> Engine:
    """A store in memory in which nothing is."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    tables.metadata.create_all(engine)
    return engine


def _sqlite_connect(raw: sqlite3.Connection, _: object) -> None:
    raw.isolation_level = None  # Python begins no transaction of its own: `_sqlite_begin` does
    if raw.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("PRAGMA foreign_keys=ON")
    raw.execute("PRAGMA cache_size=-32768")  # 32 MB: verdicts arrive in random order of their key


def _sqlite_begin(connection: Connection) -> None:
    # NORMAL may lose the last commits when the power fails, FULL is many times slower a commit. It is set every
    # time, because the connection comes from a pool and the pragma must come before BEGIN.
    options = connection.get_execution_options()
    connection.exec_driver_sql("PRAGMA synchronous=FULL" if options.get("durable") else "PRAGMA synchronous=NORMAL")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("write") else "BEGIN")


# --- failing -------------------------------------------------------------------------------------------------------

_LOST_STATES = ("08", "57P")  # connection exceptions; the server shuts down, crashed or starts up
_RETRY_STATES = ("40001", "40P01")  # serialization failure, deadlock: the other one went first


def _explain(error: DBAPIError, where: str, patience: float) -> Exception | None:
    """What a person should read, or None where it is our bug."""
    reason = str(error.orig).strip().partition("\n")[0]
    if isinstance(error.orig, sqlite3.Error):
        return _explain_sqlite(getattr(error.orig, "sqlite_errorcode", 0) & 0xFF, reason, where, patience)
    state = getattr(error.orig, "sqlstate", None)
    if state == "53100":
        return UserError(
            f"the disk of the database {where} is full: nothing of this batch was kept; make room, run again"
        )
    if state in _RETRY_STATES:
        return Busy(f"the database {where} refused a transaction for {patience:g} s: {reason}")
    if error.connection_invalidated or (state or "").startswith(_LOST_STATES) or _never_connected(error):
        return Lost(f"cannot reach the database {where}: {reason}; check that it runs and that the URL is right")
    return None


def _never_connected(error: DBAPIError) -> bool:
    """psycopg gives no SQLSTATE when it could not connect (no server, no such database, a wrong password)."""
    return type(error.orig).__name__ in ("OperationalError", "ConnectionTimeout") and error.statement is None


def _explain_sqlite(code: int, reason: str, where: str, patience: float) -> Exception | None:
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy(
            f"the store {where} has been locked by another process for {patience:g} s; "
            "let it finish or stop it (`fuser` names it), and run again: nothing was lost"
        )
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return UserError(
            f"cannot write the store {where}: {reason}; nothing of this batch was kept, all before it is there. "
            "Make room on the disk and run again"
        )
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return UserError(f"cannot use {where} as a store: {reason}; check the path and who may write there")
    return None
