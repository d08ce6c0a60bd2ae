"""The quickest plain insert of each database. SQLAlchemy stays out of the way of the rows.

COPY on PostgreSQL, executemany on MySQL and MariaDB, statements of many rows on SQLite. Rows are
made as they are taken, while the database stores those before them: PostgreSQL does so in its
server, SQLite in the thread that waits for it, which lets other threads run meanwhile.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from etl.ahead import Ahead
from etl.destinations.rows import Row, bound_for, is_utf8

if TYPE_CHECKING:
    from psycopg.abc import Dumper

#: Values in one statement of SQLite's: some hundred audits. Far fewer would have it interrupt the
#: threads that make rows too often, far more fall out of the processor's cache.
SQLITE_VALUES: Final = 6_144


class Inserter:
    """Inserts rows of one database's tables, in the tables' order of columns.

    Attributes:
        bound: makes values what the driver takes; rows are to be given with such.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.bound = bound_for(dialect.name)

    def insert(self, connection: sa.Connection, *tables: tuple[sa.Table, Iterable[Row]]) -> None:
        """Insert rows, none of which may be there, table by table.

        Raises:
            sqlalchemy.exc.IntegrityError: one is there; the transaction must be undone.
        """
        if self._dialect.name == "sqlite":
            _insert_in_steps(connection, tables)
            return
        for table, rows in tables:
            there = iter(rows)
            for first in there:
                _insert_table(connection, table, chain([first], there))


def _insert_table(connection: sa.Connection, table: sa.Table, rows: Iterator[Row]) -> None:
    if connection.dialect.name == "postgresql":
        _copy(connection, table, rows)
    else:
        connection.exec_driver_sql(_of_one_row(connection.dialect, table), list(rows))


def _of_one_row(dialect: Dialect, table: sa.Table) -> str:
    columns = ", ".join(dialect.identifier_preparer.quote(column.name) for column in table.c)
    values = ", ".join(["%s"] * len(table.c))
    return f"INSERT INTO {table.name} ({columns}) VALUES ({values})"  # noqa: S608 - our names


def _copy(connection: sa.Connection, table: sa.Table, rows: Iterator[Row]) -> None:
    columns = ", ".join(column.name for column in table.c)
    statement = f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)"
    with _driver(connection, statement) as driver, driver.cursor() as cursor:
        for kind, dumper in _binary_dumpers():
            cursor.adapters.register_dumper(kind, dumper)
        with cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)


@cache
def _binary_dumpers() -> "Sequence[tuple[type, type[Dumper]]]":
    """How psycopg is to write what rows hold besides texts and flags."""
    from psycopg.adapt import Dumper
    from psycopg.pq import Format
    from psycopg.types.numeric import Int4BinaryDumper

    class AsItIs(Dumper):
        """Gives bytes as they are, for `Bound` has made them; psycopg takes bytes for `bytea`."""

        format = Format.BINARY

        def dump(self, obj: bytes) -> bytes:
            return obj

    return (bytes, AsItIs), (int, Int4BinaryDumper)


def _insert_in_steps(
    connection: sa.Connection, tables: Iterable[tuple[sa.Table, Iterable[Row]]]
) -> None:
    """Insert with SQLite, which lets other threads run for as long as a statement takes.

    So a statement has many rows, and a thread makes those of the next one meanwhile.
    """
    with _driver(connection, "INSERT") as driver:
        limit = driver.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        steps = chain.from_iterable(
            _steps(table, rows, min(limit, SQLITE_VALUES)) for table, rows in tables
        )
        with closing(Ahead(steps, lambda _: 1, 1, "rows to insert")) as ready:
            for statement, values in ready:
                driver.execute(statement, values)


def _steps(
    table: sa.Table, rows: Iterable[Row], values_max: int
) -> Iterator[tuple[str, list[object]]]:
    """Statements that insert `rows`, and their values.

    The numbers of rows in them are powers of two: SQLite keeps a statement of each and need not
    read it again.
    """
    there = iter(rows)
    number = 1 << ((values_max // len(table.c)).bit_length() - 1)
    while held := list(islice(there, number)):
        start = 0
        while start < len(held):
            while number > len(held) - start:
                number //= 2
            values = list(chain.from_iterable(held[start : start + number]))
            yield _of_many_rows(table, number), values
            start += number


@cache
def _of_many_rows(table: sa.Table, number: int) -> str:
    """An insert that leaves half of its rows there if it fails, for the transaction to undo.

    SQLite would else keep each page as it was beside the journal, for the statement alone.
    """
    columns = ", ".join(column.name for column in table.c)
    values = ", ".join("CAST(? AS TEXT)" if is_utf8(column) else "?" for column in table.c)
    many = ", ".join([f"({values})"] * number)
    return f"INSERT OR FAIL INTO {table.name} ({columns}) VALUES {many}"  # noqa: S608 - our names


@contextmanager
def _driver(connection: sa.Connection, statement: str) -> Iterator[Any]:
    """The driver's connection; its errors get SQLAlchemy's classes, as those of any statement."""
    errors = connection.dialect.loaded_dbapi.Error
    try:
        yield connection.connection.driver_connection
    except errors as error:
        raise sa.exc.DBAPIError.instance(
            statement, None, error, errors, dialect=connection.dialect
        ) from error
