"""How fast a destination takes the same rows into the same tables if nothing else is done.

The rows are those that the product put into an SQLite file (BENCH_PREPARED), in its order. They are
read and prepared while no clock runs: only loading is timed, one commit for each window.
"""

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from etl import migration, schema
from etl.database import open_engine
from tests.benchmarks.meter import Meter, windows

#: Audits that are prepared together; about what the product puts into one transaction.
PIECE: Final = 5_000
#: What one write into a COPY holds.
CHUNK: Final = 1024 * 1024
CHILDREN: Final = (schema.audit_property_changes, schema.audit_entity_changes)
TABLES: Final = (schema.audit_events, *CHILDREN)
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})

Rows = list[tuple[Any, ...]]


def pieces(window: str) -> Iterator[list[Rows]]:
    """The window's rows, a few thousand audits at a time: those of each of `TABLES`."""
    # As SQLite has times: text that sorts.
    bounds = [
        schema.bound_time(datetime.fromisoformat(text), "sqlite") for text in window.split("/")
    ]
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
    """Bare COPY of prepared text into PostgreSQL."""
    engine, rows = _empty(), 0
    with closing(engine.raw_connection()) as connection:
        driver: Any = connection.driver_connection
        for number, _ in enumerate(windows()):
            with meter.on(), driver.cursor() as cursor:
                for table in TABLES:
                    with (
                        _text_of(number, table).open("rb") as file,
                        cursor.copy(f"COPY {table.name} ({_columns(table)}) FROM STDIN") as copy,
                    ):
                        while chunk := file.read(CHUNK):
                            copy.write(chunk)
                    rows += cursor.rowcount if table is TABLES[0] else 0
                driver.commit()
    return rows, 0


def write_texts() -> None:
    """Write what COPY is to be given, a file for each window and table, into BENCH_TEXTS."""
    for number, window in enumerate(windows()):
        files = [
            _text_of(number, table).open("w", encoding="utf-8", newline="") for table in TABLES
        ]
        for piece in pieces(window):
            for table, file, of_table in zip(TABLES, files, piece, strict=True):
                times = {n for n, c in enumerate(table.c) if isinstance(c.type, schema.UtcTime)}
                file.writelines(_line(row, times) for row in of_table)
        for file in files:
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
        f"SELECT {_columns(child, 'c.')} FROM json_each(?) AS j CROSS JOIN {child.name} AS c "
        "ON c.organization = 'default' AND c.event_id = j.value ORDER BY j.key, c.position",
        [ids],
    ).fetchall()


def _columns(table: sa.Table, prefix: str = "") -> str:
    """Their names; none of them needs quotes."""
    return ", ".join(f"{prefix}{column.name}" for column in table.c)


def _text_of(number: int, table: sa.Table) -> Path:
    return Path(os.environ["BENCH_TEXTS"]) / f"{table.name}-{number}.txt"


def _line(row: tuple[Any, ...], times: set[int]) -> str:
    values = (f"{v}+00" if n in times and v is not None else v for n, v in enumerate(row))
    return "\t".join("\\N" if v is None else str(v).translate(_ESCAPES) for v in values) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["write"]:
        write_texts()
