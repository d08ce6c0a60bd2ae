"""The quickest plain insert of each database. SQLAlchemy stays out of the way of the rows.

COPY on PostgreSQL, statements of many rows elsewhere. Rows are made while the database stores those
before them: a server does so elsewhere, SQLite in the thread that waits for it, which lets other
threads run meanwhile.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache, partial
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

#: Characters in one statement of MySQL's and MariaDB's, unless one row has more: some hundred
#: audits, and a sixteenth of what a server takes by default.
MYSQL_CHARACTERS: Final = 1_000_000

#: Longer texts are not written in hexadecimal digits.
HEXADECIMAL_CHARACTERS: Final = 256 * 1024

#: A statement, and what the driver is to be given besides.
Step = tuple[str, tuple[Sequence[object], ...]]


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
        if self._dialect.name == "postgresql":
            for table, rows in tables:
                there = iter(rows)
                for first in there:
                    _copy(connection, table, chain([first], there))
            return
        statements = _sqlite_steps if self._dialect.name == "sqlite" else _mysql_steps
        with _driver(connection, "INSERT") as driver, closing(driver.cursor()) as cursor:
            steps = chain.from_iterable(statements(driver, *of_table) for of_table in tables)
            with closing(Ahead(steps, lambda _: 1, 1, "rows to insert")) as ready:
                for statement, values in ready:
                    _execute(cursor, statement, values)


def _execute(cursor: Any, statement: str, values: tuple[Sequence[object], ...]) -> None:  # noqa: ANN401
    cursor.execute(statement, *values)


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


def _mysql_steps(driver: Any, table: sa.Table, rows: Iterable[Row]) -> Iterator[Step]:  # noqa: ANN401
    """Statements that insert `rows`, whose values are in their text."""
    names = ", ".join(f"`{column.name}`" for column in table.c)
    begin = f"INSERT INTO {table.name} ({names}) VALUES "  # noqa: S608 - our names
    literal = partial(_mysql_literal, driver.cursor().mogrify)
    held: list[str] = []
    size = 0
    for row in rows:
        text = f"({','.join(map(literal, row))})"
        if held and size + len(text) > MYSQL_CHARACTERS:
            yield begin + ",".join(held), ()
            held, size = [], 0
        held.append(text)
        size += len(text)
    if held:
        yield begin + ",".join(held), ()


def _mysql_literal(quoted: Callable[[str, Row], str], value: object) -> str:
    """`value` in SQL, whatever the server's mode and whoever wrote it: digits end no literal.

    To have the driver quote every text would take most of the load's time. It does so for large
    ones with such characters: digits need twice the room, and a statement has to fit a packet.
    """
    if value is None:
        return "NULL"
    if not isinstance(value, str):
        return f"{value:d}"
    if "'" not in value and "\\" not in value:
        return f"'{value}'"
    if len(value) > HEXADECIMAL_CHARACTERS:
        return quoted("%s", (value,))
    return f"_utf8mb4 X'{value.encode().hex()}'"


def _sqlite_steps(driver: Any, table: sa.Table, rows: Iterable[Row]) -> Iterator[Step]:  # noqa: ANN401
    """Statements that insert `rows`, and their values.

    The numbers of rows in them are powers of two: SQLite keeps a statement of each and need not
    read it again.
    """
    values_max = min(driver.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER), SQLITE_VALUES)
    there = iter(rows)
    number = 1 << ((values_max // len(table.c)).bit_length() - 1)
    while held := list(islice(there, number)):
        start = 0
        while start < len(held):
            while number > len(held) - start:
                number //= 2
            values = list(chain.from_iterable(held[start : start + number]))
            yield _of_many_rows(table, number), (values,)
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
    """The driver's connection; its errors get SQLAlchemy's classes, as those of any statement.

    Nor is a connection that is lost asked to undo anything: it would only say that it is lost.
    """
    errors = connection.dialect.loaded_dbapi.Error
    driver: Any = connection.connection.driver_connection
    try:
        yield driver
    except errors as error:
        if connection.dialect.is_disconnect(error, driver, None):
            connection.invalidate(error)
        raise sa.exc.DBAPIError.instance(
            statement, None, error, errors, dialect=connection.dialect
        ) from error
