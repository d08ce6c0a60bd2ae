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
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from etl.database.mysql import PACKET_BYTES
from etl.destinations.sql.rows import Row, bound_for, is_utf8
from etl.errors import AuditTooLarge, DestinationUnavailable
from etl.prefetch import Prefetched
from etl.sizes import Sizes

if TYPE_CHECKING:
    from psycopg.abc import Dumper


class Step(NamedTuple):
    """A statement.

    Attributes:
        values: what the driver is to be given besides.
        rows: how many rows it inserts.
    """

    table: sa.Table
    statement: str
    values: tuple[Sequence[object], ...]
    rows: int


class Inserter:
    """Inserts rows of one database's tables, in the tables' order of columns.

    Attributes:
        bound: makes values what the driver takes; rows are to be given with such.
        sizes: of the pieces that work is cut into.
    """

    def __init__(self, dialect: Dialect, sizes: Sizes = Sizes()) -> None:
        self._dialect = dialect
        self.bound = bound_for(dialect.name)
        self.sizes = sizes

    def insert(self, connection: sa.Connection, *tables: tuple[sa.Table, Iterable[Row]]) -> None:
        """Insert rows, none of which may be there, table by table.

        Raises:
            sqlalchemy.exc.IntegrityError: one is there; the transaction must be undone.
            DestinationUnavailable: the database left out rows without an error; the transaction
                must be undone.
            AuditTooLarge: the database takes no statement of one row's length; the transaction
                must be undone.
        """
        if self._dialect.name == "postgresql":
            for table, rows in tables:
                there = iter(rows)
                for first in there:
                    _copy(connection, table, chain([first], there))
            return
        if self._dialect.name == "sqlite":
            statements = partial(_sqlite_steps, self.sizes.sqlite_values)
        else:
            statements = partial(_mysql_steps, self.sizes, connection.info[PACKET_BYTES])
        with _driver(connection, "INSERT") as driver, closing(driver.cursor()) as cursor:
            steps = chain.from_iterable(statements(driver, *of_table) for of_table in tables)
            with closing(Prefetched(steps, lambda _: 1, 1, "rows to insert")) as ready:
                for step in ready:
                    with _driver(connection, f"INSERT INTO {step.table.name}"):
                        _execute(cursor, step)


def _execute(cursor: Any, step: Step) -> None:  # noqa: ANN401
    cursor.execute(step.statement, *step.values)
    _require_all(step.table, cursor.rowcount, step.rows)


def _require_all(table: sa.Table, inserted: int, given: int) -> None:
    if inserted != given:
        raise DestinationUnavailable(
            f"the database took {inserted} of {given} rows of {table.name} without an error: "
            f"remove the trigger or rule of {table.name} that leaves out rows, then run the same "
            "command again; nothing that was in work counts as done"
        )


def _copy(connection: sa.Connection, table: sa.Table, rows: Iterator[Row]) -> None:
    columns = ", ".join(column.name for column in table.c)
    statement = f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)"
    with _driver(connection, statement) as driver, driver.cursor() as cursor:
        for kind, dumper in _binary_dumpers():
            cursor.adapters.register_dumper(kind, dumper)
        given = 0
        with cursor.copy(statement) as copy:
            for given, row in enumerate(rows, 1):  # noqa: B007 - the last number is used
                copy.write_row(row)
        _require_all(table, cursor.rowcount, given)


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


def _mysql_steps(
    sizes: Sizes,
    packet: int,
    driver: Any,  # noqa: ANN401
    table: sa.Table,
    rows: Iterable[Row],
) -> Iterator[Step]:
    """Statements that insert `rows`, whose values are in their text, each in a packet."""
    names = ", ".join(f"`{column.name}`" for column in table.c)
    begin = f"INSERT INTO {table.name} ({names}) VALUES "  # noqa: S608 - our names
    quoted = driver.cursor().mogrify
    literal = partial(_mysql_literal, quoted, sizes.hexadecimal_characters)
    room = packet - len(begin) - 1  # the server takes less than it says
    size_max = min(sizes.mysql_bytes, room)
    held: list[str] = []
    size = 0
    for row in rows:
        text = f"({','.join(map(literal, row))})"
        length = _utf8_length(text) + 1  # and a comma, or the byte that names the command
        if length > room:
            text = quoted(f"({','.join(['%s'] * len(row))})", row)
            length = _utf8_length(text) + 1
            if length > room:
                raise _too_large(packet, len(begin) + length + 1, table, row)
        if held and size + length > size_max:
            yield Step(table, begin + ",".join(held), (), len(held))
            held, size = [], 0
        held.append(text)
        size += length
    if held:
        yield Step(table, begin + ",".join(held), (), len(held))


def _utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _too_large(packet: int, needed: int, table: sa.Table, row: Row) -> AuditTooLarge:
    _, key, *_ = row  # behind the organisation's name in each of these tables
    return AuditTooLarge(
        f"an audit takes a statement of {needed} bytes for its row of {table.name}, the server "
        f"takes {packet} (max_allowed_packet): set max_allowed_packet to {needed} or more in the "
        "server's configuration, then run the same command again",
        str(key),
    )


def _mysql_literal(quoted: Callable[[str, Row], str], hexadecimal: int, value: object) -> str:
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
    if len(value) > hexadecimal:
        return quoted("%s", (value,))
    return f"_utf8mb4 X'{value.encode().hex()}'"


def _sqlite_steps(most: int, driver: Any, table: sa.Table, rows: Iterable[Row]) -> Iterator[Step]:  # noqa: ANN401
    """Statements that insert `rows`, and their values.

    The numbers of rows in them are powers of two: SQLite keeps a statement of each and need not
    read it again.
    """
    values_max = min(driver.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER), most)
    there = iter(rows)
    number = 1 << ((values_max // len(table.c)).bit_length() - 1)
    while held := list(islice(there, number)):
        start = 0
        while start < len(held):
            while number > len(held) - start:
                number //= 2
            values = list(chain.from_iterable(held[start : start + number]))
            yield Step(table, _of_many_rows(table, number), (values,), number)
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
