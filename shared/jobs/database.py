"""The engine, its transactions, and the database's clock, the only one that decisions rest on."""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event, literal_column
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import StaticPool

from shared.errors import Conflict, InvalidRequest, TransientError

T = TypeVar("T")

# julianday, because SQLite before 3.42 has no 'subsec' for unixepoch; it counts whole milliseconds.
NOW_SQL = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "extract(epoch from clock_timestamp())",
}
_TIMEOUTS_MS = {
    "statement_timeout": 30_000,
    "lock_timeout": 10_000,
    "idle_in_transaction_session_timeout": 60_000,
}
_POOLER_OPTION = "pooler"
# PostgreSQL is a standby, or was made read-only for a while; a transaction waited for too long
_TRANSIENT_SQLSTATES = ("25006", "25P03")
LOCK_TIMEOUT_S = 30  # how long SQLite waits for another's lock
_LOCK_ERRORS = ("database is locked", "deadlock detected", "could not serialize")


class Database:
    """An engine with two kinds of transaction. Make one per process: connections do not survive a
    fork."""

    def __init__(self, url: str) -> None:
        """`sqlite:///FILE` (its folder is made), `sqlite://` (in memory), or
        `postgresql+psycopg://`, with `?pooler=transaction` if a pooler stands before it that may
        give each transaction another connection.

        The values of a statement that fails are in no error, hence in no log: they may be
        secrets.

        Raises:
            InvalidRequest: the URL names another kind of pooler.
        """
        given = make_url(url)
        pooler = given.query.get(_POOLER_OPTION)
        if pooler not in (None, "transaction"):
            raise InvalidRequest(
                "the option pooler of the database's URL may only be transaction: leave it out "
                "for a server, or a pooler that keeps connections apart",
                "database_url",
            )
        self.is_pooled = pooler is not None
        self.url = given.difference_update_query([_POOLER_OPTION])
        self.dialect = self.url.get_backend_name()
        # An in-memory database has one connection, so one transaction at a time.
        self._in_memory_lock: AbstractContextManager[Any] = (
            threading.Lock() if self._in_memory else nullcontext()
        )
        if self.dialect == "sqlite":
            self.engine = _create_sqlite_engine(self.url.database, url)
        else:
            self.engine = create_engine(
                self.url,
                hide_parameters=True,
                pool_pre_ping=True,
                pool_size=5,
                max_overflow=70,
                connect_args=self._build_connect_args(),
            )
            # before SQLAlchemy asks for the version, whose text it could not read
            event.listen(self.engine, "connect", _require_unicode, insert=True)
        self.now: Any = literal_column(NOW_SQL[self.dialect])

    def _build_connect_args(self) -> dict[str, Any]:
        """What PostgreSQL's driver is told besides the URL."""
        if self.is_pooled:
            # What belongs to a connection would stay with one that another process gets next:
            # statements are not prepared, and the pooler sets the timeouts (docs/scaling.md).
            return {"connect_timeout": 5, "prepare_threshold": None}
        options = " ".join(f"-c {name}={ms}" for name, ms in _TIMEOUTS_MS.items())
        return {"connect_timeout": 5, "options": options}

    @property
    def file(self) -> Path | None:
        """Where a SQLite database lives; None for one in memory, and for a server."""
        return (
            Path(str(self.url.database))
            if self.dialect == "sqlite" and not self._in_memory
            else None
        )

    def copy_to(self, copy: Path) -> None:
        """Copy a SQLite database as it is at one moment, also while others write; readable by its
        owner only.

        Raises:
            Conflict: it is no file of SQLite's.
        """
        if self.file is None:
            raise Conflict(
                "only a SQLite file can be copied; back up a database server with its own tools"
            )
        draft = copy.with_name(f"{copy.name}.new")
        draft.unlink(missing_ok=True)
        draft.touch(0o600)
        with (
            closing(sqlite3.connect(self.file)) as source,
            closing(sqlite3.connect(draft)) as target,
        ):
            source.backup(target)  # with what only the write-ahead log holds
        draft.replace(copy)

    @property
    def _in_memory(self) -> bool:
        return self.dialect == "sqlite" and self.url.database in (None, "", ":memory:")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: one consistent view on SQLite, read committed on
        PostgreSQL."""
        with self._begin(write=False) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes. SQLite takes its only write lock at once (BEGIN IMMEDIATE)."""
        with self._begin(write=True) as connection:
            yield connection

    @contextmanager
    def change_schema(self) -> Iterator[Connection]:
        """A transaction that may rebuild tables. When SQLite drops a table it deletes its rows, and
        with them, by cascade, all rows that refer to them: references are not enforced while it lasts, and
        are checked before it commits.

        Raises:
            Conflict: rows would be left that refer to nothing; nothing was changed.
        """
        with self._connect(write=True) as connection:
            if self.dialect != "sqlite":
                with connection.begin():
                    yield connection
                return
            # SQLite takes the switch outside a transaction only
            raw: Any = connection.connection.driver_connection
            raw.execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    yield connection
                    _check_foreign_keys(connection)
            finally:
                raw.execute("PRAGMA foreign_keys=ON")

    @property
    def driver_error(self) -> type[Exception]:
        """What the driver raises where the database refuses or does not answer."""
        error: type[Exception] = self.engine.dialect.loaded_dbapi.OperationalError
        return error

    @contextmanager
    def connect_outside_transaction(self) -> Iterator[Any]:
        """The driver's own connection, for maintenance that no transaction may contain. Each
        statement commits by itself; the driver's errors are not translated.

        Raises:
            Conflict: a pooler stands before the server, so the next statement may be another
                connection's.
        """
        if self.is_pooled:
            raise Conflict(
                "this needs a connection of its own: use the URL of the database server rather "
                "than that of its pooler"
            )
        with self._connect(write=True) as connection:
            raw: Any = connection.connection.driver_connection
            if self.dialect == "sqlite":
                yield raw
                return
            raw.autocommit = True
            try:
                yield raw
            finally:
                # settings of the session end with it
                connection.invalidate()

    @contextmanager
    def _begin(self, write: bool) -> Iterator[Connection]:
        with self._connect(write) as connection, connection.begin():
            yield connection

    @contextmanager
    def _connect(self, write: bool) -> Iterator[Connection]:
        try:
            with (
                self._in_memory_lock,
                self.engine.connect().execution_options(palimpsest_write=write) as connection,
            ):
                yield connection
        except OperationalError as error:
            raise TransientError(
                f"the job store did not answer: {str(error.orig).strip()}"
            ) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise TransientError(
                    f"the job store closed the connection: {str(error.orig).strip()}"
                ) from error
            if getattr(error.orig, "sqlstate", None) in _TRANSIENT_SQLSTATES:
                raise TransientError(
                    "the job store is temporarily read-only, or ended an idle transaction: "
                    f"{str(error.orig).strip()}"
                ) from error
            raise

    def run_transaction(self, transaction: Callable[[Connection], T], tries: int = 5) -> T:
        """Run `transaction` in a write transaction, and again after a lock conflict.

        Raises:
            TransientError: every try met a conflict, or the database is unavailable.
        """
        for tries_left in reversed(range(tries)):
            try:
                with self.write() as connection:
                    return transaction(connection)
            except TransientError as error:
                if not tries_left or not any(word in str(error) for word in _LOCK_ERRORS):
                    raise
                time.sleep(0.02 * (tries - tries_left))
        raise AssertionError("unreachable")

    def analyze(self, *tables: Table) -> None:
        """Refresh PostgreSQL's statistics after a bulk insert. If autovacuum runs before the insert
        commits, it sees empty tables, and for a minute or more the planner chooses nested loops.
        Failures are ignored."""
        if self.dialect == "postgresql":
            with suppress(TransientError, DBAPIError), self.write() as connection:
                connection.exec_driver_sql(f"ANALYZE {', '.join(table.name for table in tables)}")

    def insert(self, table: Table) -> Any:
        """An INSERT of this dialect, which can say what to do on a conflict."""
        return sqlite_insert(table) if self.dialect == "sqlite" else postgresql_insert(table)

    def close(self) -> None:
        self.engine.dispose()


def _require_unicode(connection: Any, _record: Any) -> None:
    """PostgreSQL tells its encoding with every new connection.

    Raises:
        Conflict: the database cannot store every text, or stores any bytes as text.
    """
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in ("UTF8", None):  # a pooler in between may not pass it on
        raise Conflict(
            f"the database {connection.info.dbname} has the encoding {encoding}, but names, labels "
            "and messages may contain any character: create a database with ENCODING 'UTF8' "
            "TEMPLATE template0, and name it in PALIMPSEST_DATABASE_URL"
        )


def _check_foreign_keys(connection: Connection) -> None:
    dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if dangling:
        tables = ", ".join(sorted({str(row[0]) for row in dangling}))
        raise Conflict(f"rows of {tables} would violate foreign keys: the schema was not changed")


def _create_sqlite_engine(path: str | None, url: str) -> Engine:
    if path in (None, "", ":memory:"):
        engine = create_engine(
            "sqlite://",
            hide_parameters=True,
            poolclass=StaticPool,
            connect_args={"check_same_thread": False},
        )
    else:
        file = Path(str(path)).absolute()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_size=5,
            max_overflow=70,
            connect_args={"timeout": LOCK_TIMEOUT_S},
        )

        @event.listens_for(engine, "do_connect")
        def _make_private(*_: Any) -> None:
            _restrict_permissions(file)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # this module says BEGIN, not the driver
        # SQLite's own knows only ASCII
        connection.create_function("lower", 1, _lower_text, deterministic=True)
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={LOCK_TIMEOUT_S * 1000}")
        _enable_wal(cursor)
        # FULL: a commit that was answered survives a power cut, in WAL mode too. Secure delete: what
        # is deleted is overwritten, so that no free page gives it back (`shared.jobs.scrubbing`).
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("palimpsest_write", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _lower_text(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _restrict_permissions(file: Path) -> None:
    """Make the database 0600, and the log and index files of an earlier process. SQLite creates
    those with the mode of the file. It is made here by link, not opened: to close a file gives up all
    locks that SQLite holds on it."""
    with suppress(OSError):  # SQLite says better what is wrong
        if not file.exists():
            draft = file.with_name(f".{file.name}.{secrets.token_hex(6)}")
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            try:
                os.link(draft, file)
            finally:
                draft.unlink()
    for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
        with suppress(OSError):
            file_stat = (path := file.with_name(name)).stat()
            if (
                file_stat.st_mode & 0o077
                and file_stat.st_uid == os.geteuid()
                and stat.S_ISREG(file_stat.st_mode)
            ):
                path.chmod(0o600)


def _enable_wal(cursor: sqlite3.Cursor) -> None:
    """Switch to the write-ahead log. SQLite's busy timeout does not cover the switch: the second of
    two that open a new file at the same moment gets an error at once: the database is locked."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
