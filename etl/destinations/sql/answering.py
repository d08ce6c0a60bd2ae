"""Questions to a database: one SELECT, answered as a stream of Arrow batches. Read-only."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Final

import msgspec
import pyarrow as pa
import sqlalchemy as sa

from etl.database.errors import name_of, translated
from etl.database.transactions import read_only
from etl.destinations.questions import words
from etl.errors import UsageError

_LOG = logging.getLogger(__name__)

#: Of these words, those that name a function of PostgreSQL that may do more than read: what is not
#: declared STABLE or IMMUTABLE, what reads any table given as an argument, and what shows other
#: sessions' statements, or the server's files and settings.
_MAY_DO_MORE: Final = sa.text(
    "SELECT min(proname) FROM pg_proc WHERE lower(proname) = ANY(:words) "
    "AND (provolatile = 'v' OR proname LIKE '%to\\_xml%' OR proname LIKE 'pg\\_%' "
    "AND proname NOT IN ('pg_typeof', 'pg_size_pretty', 'pg_column_size')) "
    "AND NOT 2281 = ANY(proargtypes)"
)
#: What shows that a user may do more than anybody should who only asks.
_POWERS: Final = {
    "postgresql": "SELECT 'a superuser' FROM pg_roles WHERE rolname = current_user AND rolsuper",
} | dict.fromkeys(
    ("mysql", "mariadb"),
    "SELECT min('one with FILE or SUPER') FROM information_schema.user_privileges "
    "WHERE privilege_type IN ('FILE', 'SUPER')",
)


@contextmanager
def answer(engine: sa.Engine, question: str, rows_max: int) -> Iterator[pa.RecordBatchReader]:
    """See `Place.answer`; at most `rows_max` rows are in memory at once."""
    with translated(engine, asked=True), read_only(engine) as connection:
        _require_reading(connection, question)
        yield _reader(_ask(connection, engine, question), rows_max)


def _require_reading(connection: sa.Connection, question: str) -> None:
    """Refuse functions that may do more than read, and warn if the user may."""
    kind = connection.dialect.name
    if kind == "postgresql":
        found = connection.execute(_MAY_DO_MORE, {"words": words(question)}).scalar()
        if found is not None:
            raise UsageError(
                f"`query` takes no question with the word {found}: a function of that name may do "
                "more than read; ask the database's own client"
            )
    power = connection.exec_driver_sql(_POWERS[kind]).scalar() if kind in _POWERS else None
    if power is not None:
        _LOG.warning(
            "the database's user is %s: give `query` a reader's role, see docs/operating.md",
            power,
        )


def _ask(
    connection: sa.Connection, engine: sa.Engine, question: str
) -> sa.CursorResult[tuple[object, ...]]:
    if engine.dialect.paramstyle in {"format", "pyformat"}:
        question = question.replace("%", "%%")  # else the driver takes it for a parameter
    try:
        result = connection.execution_options(stream_results=True).exec_driver_sql(question)
    except sa.exc.DBAPIError as error:
        lines = str(error.orig).splitlines() or [type(error.orig).__name__]
        raise UsageError(
            f"{name_of(engine)} cannot answer that: {lines[0]}; docs/tables.md has the tables and "
            "their columns"
        ) from error
    return result


def _reader(result: sa.CursorResult[tuple[object, ...]], rows_max: int) -> pa.RecordBatchReader:
    names = list(result.keys())
    first = result.fetchmany(rows_max)
    columns = [_column(name, [row[n] for row in first]) for n, name in enumerate(names)]
    kinds = [pa.string() if pa.types.is_null(c.type) else c.type for c in columns]
    schema = pa.schema(list(zip(names, kinds, strict=True)))

    def batches() -> Iterator[pa.RecordBatch]:
        rows = first
        while rows:
            arrays = [
                _column(name, [row[n] for row in rows], kinds[n]) for n, name in enumerate(names)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
            rows = result.fetchmany(rows_max)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _column(name: str, values: Sequence[object], kind: pa.DataType | None = None) -> pa.Array:
    """The values as Arrow has them; a type that the driver's values tell unless one is given."""
    try:
        return pa.array([_plain(value) for value in values], kind)
    except pa.ArrowException as error:
        raise UsageError(
            f"the column {name} of the answer mixes types: CAST it to one ({error})"
        ) from None


def _plain(value: object) -> object:
    """A driver's value as Arrow takes it: JSON as its text, decimals as numbers."""
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    return value
