"""A lake as three relations that SQL can be asked over, with the columns of the SQL tables.

DuckDB answers, over Arrow's reader of the files: the same for a folder and for a bucket. What a
folder's name tells, organisation and time, is given to the reader as a fact about each file, so a
question about one day opens that day's file and no other.
"""

import itertools
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.dataset as ds
import sqlalchemy as sa

from etl.database import schema
from etl.destinations.lake.columns import (
    COLUMNS,
    ENTITY_CHANGES,
    OF_PARENT,
    PROPERTY_CHANGES,
    lacking,
)
from etl.destinations.lake.layout import organization_of, span_of
from etl.destinations.lake.storage import Storage, of_one_version, published, translated
from etl.errors import ConfigurationError, DestinationUnavailable, UsageError
from etl.resources import how_to_install
from etl.sizes import Sizes

if TYPE_CHECKING:
    import duckdb

_SCHEMA: Final = pa.schema([pa.field("organization", pa.string()), *COLUMNS])
_PARQUET: Final = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=False)
)
#: What DuckDB may hold in memory before it spills.
MEMORY: Final = "96MiB"
#: One thread, for each has buffers of its own; little of an answer waits to be read.
_SETTINGS: Final = {
    "TimeZone": "UTC",
    "threads": "1",
    "memory_limit": MEMORY,
    "streaming_buffer_size": "1MiB",
}
#: What DuckDB's errors have in them when it was our dataset that failed.
_READING: Final = "'lake' failed: "
#: What Arrow adds to the words of a bucket's error: our own stack, and no name of the file.
_TRACE: Final = ". Detail: Python exception"
_NAMELESS: Final = "Could not open Parquet input source '<Buffer>': "
_CHANGES: Final = {
    schema.audit_property_changes: PROPERTY_CHANGES,
    schema.audit_entity_changes: ENTITY_CHANGES,
}


@contextmanager
def connect(storage: Storage, sizes: Sizes) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A DuckDB connection with the relations of a lake; it reads them and can do nothing else.

    What does not fit into `MEMORY` is spilled into a folder for this user alone, which is gone
    after the block.

    Raises:
        ConfigurationError: DuckDB is not installed.
        DestinationUnavailable: it cannot be started, or the lake cannot be listed.
    """
    try:
        import duckdb  # noqa: F401 - whether it is there
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"questions to a lake need DuckDB: run {how_to_install('duckdb')}"
        ) from None
    with tempfile.TemporaryDirectory(prefix="audit-etl-query-") as spill, _opened() as connection:
        _prepare(connection, dataset(storage, sizes), spill)
        yield connection


def _opened() -> "duckdb.DuckDBPyConnection":
    import duckdb

    try:
        return duckdb.connect()
    except duckdb.Error as error:
        raise DestinationUnavailable(
            f"DuckDB, which answers questions to a lake, cannot be started: {error}; see that this "
            "user has memory and a writable TMPDIR, then run the same command again"
        ) from None


def _prepare(connection: "duckdb.DuckDBPyConnection", lake: ds.Dataset, spill: str) -> None:
    for setting, value in _SETTINGS.items():
        connection.execute(f"SET {setting} = '{value}'")
    connection.execute("SET temp_directory = ?", [spill])
    connection.register("lake", lake)
    _make_views(connection)
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _make_views(connection: "duckdb.DuckDBPyConnection") -> None:
    columns = ", ".join(_shown(column, column.name) for column in schema.audit_events.c)
    events = f"SELECT {columns} FROM lake"  # noqa: S608 - our own names
    connection.execute(f"CREATE TEMP VIEW audit_events AS {events}")
    for table, column in _CHANGES.items():
        connection.execute(
            f"CREATE TEMP VIEW {table.name} AS SELECT {_change_columns(table, column)} "  # noqa: S608 - our own names
            f"FROM (SELECT *, unnest(range(1, len({column}) + 1)) AS number FROM lake)"
        )


@contextmanager
def ask(
    connection: "duckdb.DuckDBPyConnection", question: str, sizes: Sizes
) -> Iterator[pa.RecordBatchReader]:
    """The answer to one SELECT, read inside the block as it is computed.

    Raises:
        UsageError: DuckDB refuses the SQL, or its values; the message is its own.
        DestinationUnavailable: a file of the lake cannot be read.
    """
    import duckdb

    try:
        yield connection.sql(question).to_arrow_reader(sizes.answer_rows)
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        if _READING in reason:
            told = reason.partition(_READING)[2].partition(_TRACE)[0].replace(_NAMELESS, "")
            raise DestinationUnavailable(f"the lake cannot be read: {told}") from error
        if isinstance(error, OSError):
            raise  # it comes from the reader of the answer
        raise UsageError(f"the lake cannot answer that: {reason}") from error


class _Frugal(ds.FileSystemDataset):  # type: ignore[misc]
    """The files of a lake, read one after the other, a row group at a time.

    Arrow's own reader reads far ahead. It also opens the file again for each part, and by then the
    file may have been replaced.
    """

    storage: Storage
    paths: Sequence[str]
    sizes: Sizes

    def scanner(
        self,
        columns: list[str] | None = None,
        filter: ds.Expression | None = None,
    ) -> "_Scanner":
        """What DuckDB reads of the files: some columns, of the rows that may match a filter."""
        names = self.schema.names if columns is None else columns
        schema = pa.schema([self.schema.field(name) for name in names])

        def batches(path: str) -> Iterator[pa.RecordBatch]:
            fragment = _PARQUET.make_fragment(
                self.storage.source(path), partition_expression=_facts(path)
            )
            alone = ds.FileSystemDataset([fragment], self.schema, _PARQUET)
            for wanted in alone.get_fragments(filter):
                for group in wanted.split_by_row_group(filter, self.schema):
                    yield from group.scanner(
                        schema=self.schema,
                        columns=columns,
                        filter=filter,
                        batch_size=self.sizes.read_rows,
                        batch_readahead=0,
                        fragment_readahead=0,
                        use_threads=False,
                    ).to_batches()

        every = (of_one_version(partial(batches, path)) for path in self.paths)
        return _Scanner(
            pa.RecordBatchReader.from_batches(schema, itertools.chain.from_iterable(every))
        )


@dataclass(frozen=True, slots=True)
class _Scanner:
    """What `_Frugal.scanner` gives, as far as DuckDB asks of it."""

    reader: pa.RecordBatchReader

    def to_reader(self) -> pa.RecordBatchReader:
        """The rows, to be read once."""
        return self.reader


def dataset(storage: Storage, sizes: Sizes) -> ds.Dataset:
    """The published files. The organisation and time span of each come from its folders.

    Raises:
        DestinationUnavailable: they cannot be listed.
    """
    files = _Frugal([], _SCHEMA, _PARQUET)
    with translated(storage):
        files.storage, files.paths, files.sizes = storage, storage.files(), sizes
    return files


def files_by_lack(storage: Storage) -> Counter[tuple[str, ...]]:
    """How many files there are without which of today's columns; their footers are read.

    Raises:
        SchemaBehind: a newer program wrote one of them.
        DestinationUnavailable: the lake cannot be read.
    """
    found: Counter[tuple[str, ...]] = Counter()
    with translated(storage):
        for path in storage.files():
            with published(storage, path) as file:
                if file is not None:
                    found[tuple(lacking(file.schema_arrow))] += 1
    return found


def _facts(path: str) -> ds.Expression:
    span = span_of(path)
    time = ds.field("event_date")
    kind = pa.timestamp("ms", tz="UTC")
    organization = ds.field("organization") == organization_of(path)
    return organization & (time >= pa.scalar(span.start, kind)) & (time < pa.scalar(span.end, kind))


def _change_columns(table: sa.Table, changes: str) -> str:
    own = [column for column in table.c if column.name not in OF_PARENT]
    members = [_shown(column, f"{changes}[number].{column.name}") for column in own]
    of_parent = ["organization", "id AS event_id", "number - 1 AS position"]
    return ", ".join([*of_parent, *members, "event_date"])


def _shown(column: sa.Column[object], value: str) -> str:
    """The column of a relation, from its value in a lake: a list or a map is shown as JSON."""
    shown = f"to_json({value})" if schema.SHAPE in column.info else value
    return f"{shown} AS {column.name}"
