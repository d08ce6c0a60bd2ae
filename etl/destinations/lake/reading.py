"""A lake as three relations that SQL can be asked over, with the columns of the SQL tables.

DuckDB answers, over Arrow's reader of the files: the same for a folder and for a bucket. What a
folder's name tells, organisation and time, is given to the reader as a fact about each file, so a
question about one day opens that day's file and no other.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.dataset as ds
import sqlalchemy as sa

from etl import schema
from etl.destinations.lake.columns import (
    COLUMNS,
    ENTITY_CHANGES,
    PROPERTY_CHANGES,
    lacking,
    require_known,
)
from etl.destinations.lake.layout import organization_of, span_of
from etl.destinations.lake.storage import Storage, translated
from etl.errors import ConfigurationError, DestinationUnavailable, UsageError

if TYPE_CHECKING:
    import duckdb

_SCHEMA: Final = pa.schema([pa.field("organization", pa.string()), *COLUMNS])
#: What DuckDB's errors have in them when it was our dataset that failed.
_READING: Final = "'lake' failed: "
_CHANGES: Final = {
    schema.audit_property_changes: PROPERTY_CHANGES,
    schema.audit_entity_changes: ENTITY_CHANGES,
}


def connect(storage: Storage) -> "duckdb.DuckDBPyConnection":
    """A DuckDB connection with the relations of a lake; it reads them and can do nothing else.

    Raises:
        ConfigurationError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ModuleNotFoundError:
        raise ConfigurationError(
            "questions to a lake need DuckDB: pip install 'audit-etl[duckdb]'"
        ) from None
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("lake", dataset(storage))
    events = f"SELECT {_event_columns()} FROM lake"  # noqa: S608 - our own names
    connection.execute(f"CREATE TEMP VIEW audit_events AS {events}")
    for table, column in _CHANGES.items():
        connection.execute(
            f"CREATE TEMP VIEW {table.name} AS SELECT {_change_columns(table, column)} "  # noqa: S608 - our own names
            f"FROM (SELECT *, unnest(range(1, len({column}) + 1)) AS number FROM lake)"
        )
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


@contextmanager
def ask(connection: "duckdb.DuckDBPyConnection", question: str) -> Iterator[pa.RecordBatchReader]:
    """The answer to one SELECT, read inside the block as it is computed.

    Raises:
        UsageError: DuckDB refuses the SQL, or its values; the message is its own.
        DestinationUnavailable: a file of the lake cannot be read.
    """
    import duckdb

    try:
        yield connection.sql(question).to_arrow_reader()
    except (duckdb.Error, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        if _READING in reason:
            raise DestinationUnavailable(
                f"the lake cannot be read: {reason.partition(_READING)[2]}"
            ) from error
        raise UsageError(f"the lake cannot answer that: {reason}") from error


def dataset(storage: Storage) -> ds.Dataset:
    """The published files, each with what its folders tell of its rows."""
    parquet = ds.ParquetFileFormat()
    fragments = [
        parquet.make_fragment(
            storage.absolute(path), storage.filesystem, partition_expression=_facts(path)
        )
        for path in storage.files()
    ]
    return ds.FileSystemDataset(fragments, _SCHEMA, parquet)


def files_by_lack(storage: Storage) -> Counter[tuple[str, ...]]:
    """How many files there are without which of today's columns; their footers are read.

    Raises:
        SchemaBehind: a newer program wrote one of them.
        DestinationUnavailable: the lake cannot be read.
    """
    found: Counter[tuple[str, ...]] = Counter()
    with translated(storage):
        for path in storage.files():
            file = storage.open(path)
            if file is not None:
                with file:
                    require_known(file.schema_arrow, path)
                    found[tuple(lacking(file.schema_arrow))] += 1
    return found


def _facts(path: str) -> ds.Expression:
    span = span_of(path)
    time = ds.field("event_date")
    kind = pa.timestamp("ms", tz="UTC")
    organization = ds.field("organization") == organization_of(path)
    return organization & (time >= pa.scalar(span.start, kind)) & (time < pa.scalar(span.end, kind))


def _event_columns() -> str:
    return ", ".join(
        f"to_json({c.name}) AS {c.name}" if schema.SHAPE in c.info else c.name
        for c in schema.audit_events.c
    )


def _change_columns(table: sa.Table, column: str) -> str:
    names = [c for c in table.c if c.name not in {"organization", "event_id", "position"}]
    members = [
        f"to_json({column}[number].{c.name}) AS {c.name}"
        if schema.SHAPE in c.info
        else f"{column}[number].{c.name} AS {c.name}"
        for c in names
    ]
    return ", ".join(["organization", "id AS event_id", "number - 1 AS position", *members])
