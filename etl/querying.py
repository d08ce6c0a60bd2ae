"""Questions to a destination: one SELECT, answered as a stream of Arrow batches. Read-only."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Final

import msgspec
import pyarrow as pa
import sqlalchemy as sa

from etl.app import App
from etl.database import describe, read_only, translated
from etl.errors import UsageError

#: Rows of an answer that are held in memory at once.
BATCH_ROWS: Final = 5_000

#: A statement that can only read, after comments. What follows is the database's to refuse; other
#: first words, such as ATTACH or COPY, could make files without changing the database.
_QUESTION: Final = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:(?:SELECT|WITH|VALUES)\b|\()", re.I | re.S
)


@contextmanager
def answer(app: App, question: str) -> Iterator[pa.RecordBatchReader]:
    """The answer to `question`, to be read inside the block.

    The server answers on an SQL destination, DuckDB on a lake, over `audit_events`,
    `audit_property_changes` and `audit_entity_changes` with the same columns everywhere.

    Raises:
        UsageError: the SQL is refused, or would change something.
        DestinationUnavailable: the destination was lost before the last row.
    """
    if _QUESTION.match(question) is None:
        raise UsageError("that is not a question: write one SELECT")
    if app.is_lake():
        from etl.destinations.lake import reading

        with reading.connect(app.storage()) as duck, reading.ask(duck, question) as reader:
            yield reader
        return
    app.prepare()
    with translated(app.engine), read_only(app.engine) as connection:
        yield _reader(_ask(connection, app.engine, question))


def _ask(
    connection: sa.Connection, engine: sa.Engine, question: str
) -> sa.CursorResult[tuple[object, ...]]:
    if engine.dialect.paramstyle in {"format", "pyformat"}:
        question = question.replace("%", "%%")  # else the driver takes it for a parameter
    try:
        result = connection.execution_options(stream_results=True).exec_driver_sql(question)
    except sa.exc.DBAPIError as error:
        lines = str(error.orig).splitlines() or [type(error.orig).__name__]
        raise UsageError(f"{describe(engine)} cannot answer that: {lines[0]}") from error
    return result


def _reader(result: sa.CursorResult[tuple[object, ...]]) -> pa.RecordBatchReader:
    names = list(result.keys())
    first = result.fetchmany(BATCH_ROWS)
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
            rows = result.fetchmany(BATCH_ROWS)

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
