"""Engines for the databases that hold audits and progress, and their errors in our words.

SQLite is opened in WAL mode, for its owner only, and every writing transaction begins IMMEDIATE:
two processes wait for each other instead of failing half-way. MySQL and MariaDB read committed
rows, as PostgreSQL does, so that a transaction sees what the one it waited for has written.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc

from etl import schema
from etl.errors import ConfigurationError, DestinationUnavailable, SchemaBehind

#: How long a lock of another session is waited for, and for a server to accept a connection.
LOCK_SECONDS: Final = 30
CONNECT_SECONDS: Final = 10

#: Of an SQLite file in memory, at most: ids come in no order, and with SQLite's own 2 MiB each
#: transaction reads the pages of its indexes anew (a fifth fewer rows a second at 50,000 audits).
SQLITE_CACHE_KIB: Final = 32 * 1024

#: Of a new SQLite file: SQLite's own 4 KiB hold one audit of the usual 2.5 KiB each, and no two.
#: These take a third less time to insert, and an eighth less of the disk. Twice as large ones gain
#: 4 % up to a million audits; but ids come in no order, so that in a file of many millions there is
#: a page to write for nearly each index entry, and the larger it is the more is written.
SQLITE_PAGE_BYTES: Final = 16 * 1024

#: Of the journal, in pages of 16 KiB, before it is written into the file: some transactions' worth,
#: for each writes much of the indexes anew. It stays that large on the disk.
SQLITE_WAL_PAGES: Final = 6_000

#: What a PostgreSQL session begins with. A process that hangs, or whose machine is gone, in the
#: middle of a transaction must not hold up whoever takes over from it: its locks are given back
#: after about a minute, and nobody waits for one without end.
_POSTGRESQL: Final = (
    "-c timezone=UTC -c lock_timeout={lock_seconds}s -c idle_in_transaction_session_timeout=60s "
    "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
)

#: The same on MySQL and MariaDB, which end any session that is idle for so long; the pool copes.
#: Locks of rows and of whole tables have a limit each there.
_MYSQL: Final = (
    "SET SESSION wait_timeout = 120, innodb_lock_wait_timeout = {lock_seconds}, "
    "lock_wait_timeout = {lock_seconds}"
)

#: How often a transaction is tried that others keep getting in the way of.
ATTEMPTS: Final = 10

_EXTRAS: Final = {"psycopg": "postgresql", "pymysql": "mysql"}


Result = TypeVar("Result")


class Contended(DestinationUnavailable):
    """The database undid a transaction in favour of another one's."""


def open_engine(url: str, lock_seconds: int = LOCK_SECONDS) -> sa.Engine:
    """An engine for `url`; nothing is connected yet, but an SQLite file exists afterwards.

    Args:
        url: of SQLAlchemy's kind.
        lock_seconds: for how long a statement waits for another session's lock before it fails.

    Raises:
        ConfigurationError: the URL cannot be read, or its driver is not installed.
        DestinationUnavailable: the folder of an SQLite file cannot be written.
    """
    try:
        parsed = sa.make_url(url)
        engine = sa.create_engine(parsed, **_options(parsed, lock_seconds))
    except exc.ArgumentError as error:
        raise ConfigurationError(f"the database URL cannot be read: {error}") from None
    except exc.NoSuchModuleError as error:
        raise ConfigurationError(f"the database URL names an unknown driver: {error}") from None
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(str(error.name), "all")
        raise ConfigurationError(
            f"the driver {error.name} is not installed: pip install 'audit-etl[{extra}]'"
        ) from None
    if engine.dialect.name == "sqlite":
        _adopt_plain_values()
        _create_for_owner(parsed)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _options(url: sa.URL, lock_seconds: int) -> dict[str, Any]:
    backend = url.get_backend_name()
    # As many connections as there are threads: none waits for another's to be given back. The last
    # one given back is the next one taken: each of SQLite's fills a cache of its own by and by.
    unbounded = {"max_overflow": -1, "pool_use_lifo": True}
    if backend == "sqlite":
        return unbounded | {"connect_args": {"timeout": lock_seconds}}
    if backend == "postgresql":
        return unbounded | {
            "connect_args": {
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "audit-etl",
                "client_encoding": "utf8",  # else the environment's, or the database's
                "options": _POSTGRESQL.format(lock_seconds=lock_seconds),
            },
            "pool_pre_ping": True,
        }
    return unbounded | {
        "connect_args": {
            "connect_timeout": CONNECT_SECONDS,
            "charset": "utf8mb4",
            "init_command": _MYSQL.format(lock_seconds=lock_seconds),
        },
        "isolation_level": "READ COMMITTED",
        "pool_pre_ping": True,
        "pool_recycle": 3600,
    }


def _adopt_plain_values() -> None:
    """Let `sqlite3` take these as they are: by itself it tries other forms of each value anew."""
    nothing: dict[None, None] = {}
    sqlite3.register_adapter(type(None), nothing.get)
    sqlite3.register_adapter(bool, int)
    sqlite3.register_adapter(bytes, bytes.__bytes__)


def _create_for_owner(url: sa.URL) -> None:
    """Create an SQLite file that only its owner can read: audits hold personal data."""
    if not url.database or url.database == ":memory:":
        return
    path = Path(url.database)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise DestinationUnavailable(
            f"the SQLite file {path} cannot be opened: {error.strerror}; "
            "check that its folder exists and is writable"
        ) from None


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - any driver
    connection.isolation_level = None  # transactions are begun by _begin_sqlite alone
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA page_size={SQLITE_PAGE_BYTES}")  # of a new file; another keeps its own
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute(f"PRAGMA cache_size=-{SQLITE_CACHE_KIB}")
    cursor.execute(f"PRAGMA wal_autocheckpoint={SQLITE_WAL_PAGES}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("in_transaction", True):
        return
    reading = options.get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def transact(engine: sa.Engine, work: Callable[[sa.Connection], Result]) -> Result:
    """Run `work` in one transaction, committed when it returns; nothing is kept if it raises.

    Two processes may load the same audits at once: when a key that `work` found absent has been
    inserted meanwhile, or the database undid the transaction in favour of another one's, `work`
    runs again on what is there now. It must be repeatable.

    Raises:
        DestinationUnavailable: the database cannot be reached, is full or read-only, lost the
            connection, refused for the sake of others too often, or another session held a lock
            for too long.
        IntegrityError: the rows break a rule of the tables again and again, which is a bug.
    """
    attempt = 1
    while True:
        try:
            with translated(engine), engine.begin() as connection:
                return work(connection)
        except exc.IntegrityError:
            if attempt == ATTEMPTS:
                raise
        except Contended:
            if attempt == ATTEMPTS:
                raise
        attempt += 1


@contextmanager
def checkpointed(engine: sa.Engine) -> Iterator[None]:
    """Let a thread write what SQLite's journal holds into its file while the block runs.

    Afterwards the next transaction may begin the journal anew, instead of whichever transaction
    fills it having to wait for the disk. Nothing happens on other databases, nor to what others
    are reading.

    Raises:
        DestinationUnavailable: the file cannot be written; what is in the journal stays there.
    """
    if engine.dialect.name != "sqlite":
        yield
        return
    with ThreadPoolExecutor(1, "checkpoint") as pool:
        written = pool.submit(_checkpoint, engine)
        yield
        written.result()


def _checkpoint(engine: sa.Engine) -> None:
    with translated(engine), engine.connect() as connection:
        outside = connection.execution_options(in_transaction=False)
        outside.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").all()


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection to read from, which holds up no writer; see `transact` for its errors."""
    with translated(engine), engine.connect() as connection:
        yield connection.execution_options(reading=True)


@contextmanager
def read_only(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection on which the database itself refuses every change."""
    with engine.connect().execution_options(reading=True) as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA query_only = ON")
        elif engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET default_transaction_read_only = on")
            connection.exec_driver_sql("SET idle_in_transaction_session_timeout = 0")  # see a pager
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        else:
            connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
            connection.rollback()  # it holds from the next transaction on
        try:
            yield connection
        finally:
            connection.invalidate()  # not to be handed to a writer


@contextmanager
def translated(engine: sa.Engine) -> Iterator[None]:
    """Give the driver's errors inside the block as `DestinationUnavailable`."""
    try:
        yield
    except exc.IntegrityError:
        raise
    except exc.DBAPIError as error:
        codes = _codes(error)
        kind = DestinationUnavailable if codes.isdisjoint(_CONFLICTS) else Contended
        raise kind(
            f"{describe(engine)} failed: {_first_line(error)}; nothing that was in work counts as "
            f"done, run the same command again when {_mended(codes)}"
        ) from error


def describe(engine: sa.Engine) -> str:
    """The database as a user knows it, without a password."""
    return f"the database {engine.url.set(query={}).render_as_string(hide_password=True)}"


def _first_line(error: exc.DBAPIError) -> str:
    """What the driver says, in one line: its text without SQLAlchemy's SQL and parameters."""
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    return lines[0] if lines else type(error.orig).__name__


#: Codes of a transaction that lost against another: try it again.
_CONFLICTS: Final = frozenset({"40001", "40P01", 1213})

#: Codes of what a user can mend, and the state in which the command may be run again.
_MENDED: Final = (
    ({"55P03", 1205, sqlite3.SQLITE_BUSY}, "the other session, which holds a lock, has ended"),
    (
        {"25006", "42501", 1044, 1142, 1290, 1792, 1836, sqlite3.SQLITE_READONLY},
        "this user may write to it",
    ),
    (
        {"53100", 1021, 1114, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE},
        "there is room on its disk",
    ),
)


def _codes(error: exc.DBAPIError) -> set[object]:
    """What the driver calls the error: an SQLSTATE, MySQL's number, or SQLite's codes for it."""
    own = error.orig
    code = getattr(own, "sqlite_errorcode", 0)
    codes = {getattr(own, "sqlstate", None), code, code & 0xFF}
    return codes | set(own.args[:1] if own else ())


def _mended(codes: set[object]) -> str:
    """When the command may be run again."""
    return next((when for known, when in _MENDED if known & codes), "it is mended")


def schema_version(engine: sa.Engine) -> str | None:
    """The migration that the database is at; None if it holds no tables of ours."""
    with reading(engine) as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        row = connection.execute(sa.text("SELECT version_num FROM alembic_version")).first()
        return None if row is None else str(row[0])


def require_schema(engine: sa.Engine) -> None:
    """Return if the tables are of the version that this program writes.

    Raises:
        SchemaBehind: they are not; the message says what to do.
    """
    version = schema_version(engine)
    if version == schema.HEAD:
        return
    if version is None:
        raise SchemaBehind(f"{describe(engine)} has no tables yet: run `audit-etl migrate` once")
    if version < schema.HEAD:
        raise SchemaBehind(
            f"{describe(engine)} is at schema {version}, this program writes {schema.HEAD}: "
            "run `audit-etl migrate`"
        )
    raise SchemaBehind(
        f"{describe(engine)} is at schema {version}, newer than {schema.HEAD} of this program: "
        "install the newer audit-etl"
    )
