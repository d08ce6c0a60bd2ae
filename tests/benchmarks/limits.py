"""How fast a destination takes the same rows into the same tables if nothing else is done.

The rows are those that the product put into an SQLite file (BENCH_PREPARED), in its order. They are
read and prepared while no clock runs: only loading is timed, one commit for each window.
"""

import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from struct import Struct
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from etl.database import migration, schema
from etl.database.engine import open_engine
from etl.database.times import UtcTime, bound_time, read_time
from etl.destinations.sql.rows import bound_for
from tests.benchmarks.meter import Meter, windows

#: Audits that are prepared together; about what the product puts into one transaction.
PIECE: Final = 5_000
#: What one write into a COPY holds.
CHUNK: Final = 1024 * 1024
CHILDREN: Final = (schema.audit_property_changes, schema.audit_entity_changes)
TABLES: Final = (schema.audit_events, *CHILDREN)
#: Of a binary COPY: its beginning and end, and what precedes a row and a value.
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_COUNT: Final = Struct("!h").pack
_LENGTH: Final = Struct("!i").pack
_NULL: Final = _LENGTH(-1)

Rows = list[tuple[Any, ...]]


def pieces(window: str) -> Iterator[list[Rows]]:
    """The window's rows, a few thousand audits at a time: those of each of `TABLES`."""
    # As SQLite has times: text that sorts.
    bounds = [bound_time(datetime.fromisoformat(text), "sqlite") for text in window.split("/")]
    events = (
        f"SELECT {_columns(TABLES[0])} FROM audit_events "
        "WHERE +event_date >= ? AND +event_date < ? ORDER BY rowid"
    )
    with closing(sqlite3.connect(os.environ["BENCH_PREPARED"])) as prepared:
        cursor = prepared.execute(events, bounds)
        while piece := cursor.fetchmany(PIECE):
            yield [piece, *(_of(prepared, child, piece) for child in CHILDREN)]


def inserted(meter: Meter) -> tuple[int, int]:
    """Bare `executemany` of prepared tuples, into SQLite or MariaDB."""
    engine = _empty()
    mark = "?" if engine.dialect.name == "sqlite" else "%s"
    statements = [
        f"INSERT INTO {table.name} ({_columns(table)}) VALUES ({', '.join([mark] * len(table.c))})"
        for table in TABLES
    ]
    rows = 0
    with closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        for window in windows():
            with meter.on():
                cursor.execute("BEGIN")
            for piece in pieces(window):
                with meter.on():
                    for statement, of_table in zip(statements, piece, strict=True):
                        if of_table:
                            cursor.executemany(statement, of_table)
                rows += len(piece[0])
            with meter.on():
                connection.commit()
    return rows, 0


def copied(meter: Meter) -> tuple[int, int]:
    """Bare COPY of prepared rows, in PostgreSQL's binary form, into PostgreSQL."""
    engine, rows = _empty(), 0
    with closing(engine.raw_connection()) as connection:
        driver: Any = connection.driver_connection
        for number, _ in enumerate(windows()):
            with meter.on(), driver.cursor() as cursor:
                for table in TABLES:
                    with (
                        _copy_of(number, table).open("rb") as file,
                        cursor.copy(
                            f"COPY {table.name} ({_columns(table)}) FROM STDIN (FORMAT BINARY)"
                        ) as copy,
                    ):
                        while chunk := file.read(CHUNK):
                            copy.write(chunk)
                    rows += cursor.rowcount if table is TABLES[0] else 0
                driver.commit()
    return rows, 0


def write_copies() -> None:
    """Write what COPY is to be given, a file for each window and table, into BENCH_COPIES."""
    for number, window in enumerate(windows()):
        files = [_copy_of(number, table).open("wb") for table in TABLES]
        for file in files:
            file.write(_HEADER)
        for piece in pieces(window):
            for table, file, of_table in zip(TABLES, files, piece, strict=True):
                forms = [_form_of(column) for column in table.c]
                file.writelines(_record(row, forms) for row in of_table)
        for file in files:
            file.write(_TRAILER)
            file.close()


def _empty() -> sa.Engine:
    """The destination with the product's own tables, keys, indexes and settings."""
    engine = open_engine(os.environ["AUDIT_ETL_DESTINATION"])
    migration.upgrade(engine)
    return engine


def _of(prepared: sqlite3.Connection, child: sa.Table, events: Rows) -> Rows:
    key = [column.name for column in TABLES[0].c].index("id")
    ids = json.dumps([event[key] for event in events])
    return prepared.execute(
        f"SELECT {_columns(child, 'c.')} FROM json_each(?) AS j CROSS JOIN audit_events AS e "
        f"ON e.organization = 'default' AND e.id = j.value CROSS JOIN {child.name} AS c "
        "ON c.organization = e.organization AND c.event_date = e.event_date "
        "AND c.event_id = e.id ORDER BY c.event_date, c.event_id, c.position",
        [ids],
    ).fetchall()


def _columns(table: sa.Table, prefix: str = "") -> str:
    """Their names; none of them needs quotes."""
    return ", ".join(f"{prefix}{column.name}" for column in table.c)


def _copy_of(number: int, table: sa.Table) -> Path:
    return Path(os.environ["BENCH_COPIES"]) / f"{table.name}-{number}.copy"


def _form_of(column: sa.Column[Any]) -> Callable[[Any], Any]:
    """What makes PostgreSQL's binary form of the column's values, as SQLite gave them."""
    bound = bound_for("postgresql")
    if isinstance(column.type, UtcTime):
        return lambda text: bound.time(read_time(text))
    if schema.SHAPE in column.info:
        return lambda text: bound.json(msgspec.Raw(text.encode()))
    if isinstance(column.type, sa.Boolean):
        return Struct("!?").pack
    return Struct("!i").pack if isinstance(column.type, sa.Integer) else str.encode


def _record(row: tuple[Any, ...], forms: Sequence[Callable[[Any], Any]]) -> bytes:
    values = [None if v is None else form(v) for form, v in zip(forms, row, strict=True)]
    fields = (_NULL if v is None else _LENGTH(len(v)) + v for v in values)
    return _COUNT(len(row)) + b"".join(fields)


if __name__ == "__main__":
    if sys.argv[1:] == ["write"]:
        write_copies()
