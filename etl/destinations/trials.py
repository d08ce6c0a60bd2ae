"""Trials of the places that a run writes to: written to as a run does, and left as they were."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import sqlalchemy as sa

from etl.database import schema
from etl.database.errors import name_of
from etl.database.times import UtcTime
from etl.database.transactions import reading, transact
from etl.destinations.sql.inserter import Inserter
from etl.destinations.sql.rows import OF_AUDITS, rows_of
from etl.errors import DestinationUnavailable
from etl.records import read_records
from etl.window import iso_utc

#: No organisation has such a name.
_NOBODY: Final = "audit-etl check"
_CHANGE: Final = '{"property":"p","entityType":"t","oldValues":["a"],"newValues":["b"]}'
_SAMPLE: Final = (
    '{"id":"check","eventDate":"%s","context":{"a":"b"},'
    f'"propertyChanges":[{_CHANGE}],"entityChanges":[{_CHANGE}]}}'
)

#: Of a temporary file: more than what a file system keeps beside a file's name.
_TRIAL_BYTES: Final = 1024 * 1024
#: With less room than this on a disk a check warns: days of a busy organisation, at 3 kB an audit.
ROOM_BYTES: Final = 1024 * 1024 * 1024


class _Undone(Exception):
    """Ends a transaction that shall leave nothing."""


def try_tables(engine: sa.Engine, now: datetime, *, audits: bool) -> None:
    """Insert, update and delete a row of each table in a transaction, and undo all of it.

    Args:
        audits: whether audits go to its tables too, not only progress.

    Raises:
        DestinationUnavailable: the database refuses something that a run does.
    """
    others = [
        table
        for table in schema.metadata.sorted_tables
        if table not in OF_AUDITS and (audits or table is not schema.early_audits)
    ]

    def work(connection: sa.Connection) -> None:
        if audits:
            _try_audits(connection, now)
        for table in others:
            _try_table(connection, table, now)
        raise _Undone

    with suppress(_Undone):
        transact(engine, work)


def _try_audits(connection: sa.Connection, now: datetime) -> None:
    inserter = Inserter(connection.dialect)
    [audit] = read_records([(_SAMPLE % iso_utc(now)).encode()]).audits
    inserter.insert(connection, *rows_of(_NOBODY, [audit], now, inserter.bound))
    for table in reversed(OF_AUDITS):
        then = table.c.event_date == audit.event_date
        connection.execute(sa.delete(table).where(then, table.c.organization == _NOBODY))


def _try_table(connection: sa.Connection, table: sa.Table, now: datetime) -> None:
    row = {
        column.name: _value(column, now)
        for column in table.c
        if not column.nullable and column is not table.autoincrement_column
    }
    connection.execute(sa.insert(table), row)
    mine = sa.and_(*(table.c[name] == value for name, value in row.items()))
    connection.execute(sa.update(table).where(mine).values({name: row[name] for name in row}))
    connection.execute(sa.delete(table).where(mine))


def _value(column: sa.Column[Any], now: datetime) -> object:
    kind = column.type
    if isinstance(kind, UtcTime):
        return now
    if isinstance(kind, sa.Boolean):
        return False
    if isinstance(kind, sa.Integer):
        return 0
    return _NOBODY[: getattr(kind, "length", None)]


def try_file(engine: sa.Engine) -> None:
    """Make a table in an SQLite file that has none yet, and undo it."""

    def work(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"CREATE TABLE trial_{uuid4().hex} (n INTEGER)")
        raise _Undone

    with suppress(_Undone):
        transact(engine, work)


def try_new_file(path: Path) -> None:
    """Make an SQLite file in the folder where `path` is to be made, and remove it.

    Raises:
        DestinationUnavailable: the folder does not exist, or no such file can be made in it.
    """
    folder = path.parent
    if not folder.is_dir():
        raise DestinationUnavailable(
            f"the SQLite file {path} cannot be made: its folder {folder.absolute()} does not "
            "exist; make it, or correct the destination"
        )
    trial = folder / f".{path.name[:100]}.{uuid4().hex}"
    try:
        os.close(os.open(trial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(trial)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE trial (n INTEGER)")
            connection.commit()
    except (OSError, sqlite3.Error) as error:
        raise DestinationUnavailable(
            f"the SQLite file {path} cannot be made: {getattr(error, 'strerror', None) or error}; "
            "check that its folder is writable and its disk has room"
        ) from None
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):  # a disk that is read-only says so of what is not there, too
                trial.with_name(trial.name + suffix).unlink()


def temporary_folder() -> Path:
    """The folder for temporary files.

    Raises:
        DestinationUnavailable: none can be written.
    """
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise _no_temporary_file(error) from None


def try_temporary_folder() -> Path:
    """Write a temporary file, which has no name; give its folder.

    Raises:
        DestinationUnavailable: that cannot be done.
    """
    folder = temporary_folder()
    try:
        with tempfile.TemporaryFile(prefix="audit-etl-check-") as file:
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _no_temporary_file(error) from None
    return folder


def _no_temporary_file(error: OSError) -> DestinationUnavailable:
    return DestinationUnavailable(
        f"no temporary file can be written ({error.strerror}): set TMPDIR to a folder that is "
        "writable and has room"
    )


def short_of_room(folders: Iterable[Path]) -> str | None:
    """What to say of the disk with the least room; None if each has enough."""
    room = [(shutil.disk_usage(folder).free, folder) for folder in folders]
    if not room or min(room)[0] >= ROOM_BYTES:
        return None
    free, folder = min(room)
    return f"the disk of {folder} has {free // 1024 // 1024} MiB left: make room before it is full"


def connections_free(engine: sa.Engine) -> int | None:
    """How many connections the server would still take from this user; None for no server."""
    if engine.dialect.name == "sqlite":
        return None
    count = _free_on_postgresql if engine.dialect.name == "postgresql" else _free_on_mysql
    with reading(engine) as connection:
        return count(connection)


#: The least of what the server, the database and the role leave; 2^31 stands for no limit.
_POSTGRESQL_FREE: Final = """
SELECT LEAST(
    current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - COALESCE(current_setting('reserved_connections', true), '0')::int
        - (SELECT count(datid) FROM pg_stat_activity),
    (SELECT CASE WHEN datconnlimit < 0 THEN 2147483647 ELSE datconnlimit
        - (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) END
        FROM pg_database WHERE datname = current_database()),
    (SELECT CASE WHEN rolconnlimit < 0 THEN 2147483647 ELSE rolconnlimit
        - (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user) END
        FROM pg_roles WHERE rolname = current_user))
"""


def _free_on_postgresql(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql(_POSTGRESQL_FREE).scalar_one())


def _free_on_mysql(connection: sa.Connection) -> int:
    most, mine = connection.exec_driver_sql(
        "SELECT @@global.max_connections, @@session.max_user_connections"
    ).one()
    row = connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'Threads_connected'").one()
    free = int(most) - int(row[1])
    return min(free, int(mine) - 1) if mine else free


def require_connections(engine: sa.Engine, needed: int) -> str | None:
    """What to say if the server has too few connections left for a daemon; None if it has enough.

    Raises:
        DestinationUnavailable: it has none besides ours, and a run needs two.
    """
    free = connections_free(engine)
    if free is None or free + 1 >= needed:
        return None
    said = f"{name_of(engine)} takes {max(free, 0)} more connections from this user"
    if free < 1:
        raise DestinationUnavailable(f"{said}, a run needs one more: let it take more")
    fitting = max(1, (free + 1 - 4) // 2)
    return f"{said}, a daemon may open {needed}: set concurrency to {fitting}, or let it take more"
