"""Engines for the databases that hold audits and progress.

SQLite is opened in WAL mode, for its owner only, and every writing transaction begins IMMEDIATE:
two processes wait for each other instead of failing. On a server every transaction is READ
COMMITTED, whatever its default: it sees what the one that it waited for has written.
"""

import sqlite3
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event, exc

from etl.database.connections import connect_arguments, watch
from etl.database.timeouts import TIMEOUTS, Timeouts
from etl.errors import ConfigurationError, DestinationUnavailable
from etl.private import make_private
from etl.resources import how_to_install

#: Connections of one engine at most. No thread waits for a second one while it holds one, so any
#: number is enough to go on; this many let nobody wait.
CONNECTIONS: Final = 20

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

_EXTRAS: Final = {"psycopg": "postgresql", "pymysql": "mysql"}


def open_engine(
    url: str, connections: int = CONNECTIONS, timeouts: Timeouts = TIMEOUTS
) -> sa.Engine:
    """An engine for `url`; nothing is connected yet, but an SQLite file exists afterwards.

    Args:
        url: of SQLAlchemy's kind.
        connections: how many it opens at most; whoever needs another waits for one.

    Raises:
        ConfigurationError: the URL cannot be read, or its driver is not installed.
        DestinationUnavailable: the folder of an SQLite file cannot be written.
    """
    engine = _engine(url, connections, timeouts)
    if engine.dialect.name == "sqlite":
        _adopt_plain_values()
        _create_for_owner(engine.url)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        watch(engine, timeouts)
    return engine


def _engine(url: str, connections: int, timeouts: Timeouts) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        return sa.create_engine(parsed, **_options(parsed, connections, timeouts))
    except exc.ArgumentError as error:
        raise ConfigurationError(f"the database URL cannot be read: {error}") from None
    except exc.NoSuchModuleError as error:
        raise ConfigurationError(f"the database URL names an unknown driver: {error}") from None
    except ValueError as error:
        named = [name for name, value in parsed.query.items() if repr(value) in str(error)]
        raise ConfigurationError(
            f"the parameter {' or '.join(named) or error} of the database URL has no value that "
            "its driver takes: correct it, or leave it out"
        ) from None
    except ModuleNotFoundError as error:
        driver = str(error.name).partition(".")[0]
        extra = _EXTRAS.get(driver, "all")
        raise ConfigurationError(
            f"the driver {driver} is not installed: run {how_to_install(extra)}"
        ) from None
    except ImportError as error:
        raise ConfigurationError(
            f"the database's driver cannot be loaded: {str(error).splitlines()[0]}; take "
            "PSYCOPG_IMPL out of the environment, or install what it asks for"
        ) from None


def _options(url: sa.URL, connections: int, timeouts: Timeouts) -> dict[str, Any]:
    # The last one given back is the next one taken: each of SQLite's fills a cache of its own.
    options = {
        "connect_args": connect_arguments(url, timeouts),
        "pool_size": connections,
        "max_overflow": 0,
        "pool_timeout": timeouts.pool,
        "pool_use_lifo": True,
    }
    if url.get_backend_name() == "sqlite":
        return options
    options |= {"pool_pre_ping": True, "isolation_level": "READ COMMITTED"}
    if url.get_backend_name() != "postgresql":
        options["pool_recycle"] = 3600
    return options


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
        make_private(path)
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
