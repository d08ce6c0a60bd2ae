"""A partition's file: written in row groups, read a piece at a time."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from etl.destinations.lake.columns import COLUMNS, KEY

#: Arrow bytes and rows of a row group: what is in memory while a file is written.
ROW_GROUP_BYTES: Final = 8 * 1024 * 1024
ROW_GROUP_ROWS: Final = 50_000
#: Rows of a file that are read at once.
READ_ROWS: Final = 2_000
#: Columns whose values repeat; a dictionary of the others would only cost time.
REPEATING: Final = [
    "service_name",
    "action",
    "entity_type",
    "level",
    "status",
    "application",
    "user_id",
    "user_name",
    "user_home_org_id",
    "client_id",
]


class Writer:
    """Writes one file, for its owner only; it is whole once `close` has returned."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self._file = pq.ParquetWriter(
            path, COLUMNS, compression="zstd", compression_level=1, use_dictionary=REPEATING
        )
        #: What will be the next row group, and its bytes and rows.
        self._held: list[pa.Table] = []
        self._held_bytes = self._held_rows = 0

    def write(self, rows: pa.Table) -> None:
        """Add rows, `COLUMNS`, after those before."""
        self._held.append(rows)
        self._held_bytes += rows.nbytes
        self._held_rows += rows.num_rows
        if self._held_bytes >= ROW_GROUP_BYTES or self._held_rows >= ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        if self._held:
            self._flush()
        self._file.close()

    def abandon(self) -> None:
        """Give the file back unfinished, however that goes: nobody will read it."""
        with suppress(OSError, pa.ArrowException):
            self._file.close()

    def _flush(self) -> None:
        self._file.write_table(pa.concat_tables(self._held))
        self._held = []
        self._held_bytes = self._held_rows = 0


def write(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables as one file for its owner only."""
    writer = Writer(path)
    try:
        for rows in tables:
            writer.write(rows)
        writer.close()
    except BaseException:
        writer.abandon()
        raise


def read(
    file: pq.ParquetFile,
    columns: list[str] | None = None,
    since: datetime | None = None,
    rows: int = READ_ROWS,
) -> Iterator[pa.Table]:
    """Its rows a piece at a time.

    Args:
        file: open.
        columns: all of them unless some are named.
        since: row groups that end before this event time are passed over.
        rows: of a piece, at most.
    """
    groups = [n for n in range(file.num_row_groups) if _reaches(file, n, since)]
    for batch in file.iter_batches(rows, row_groups=groups, columns=columns, use_threads=False):
        yield pa.Table.from_batches([batch])


def _reaches(file: pq.ParquetFile, group: int, since: datetime | None) -> bool:
    """Whether a row group may hold audits of `since` or later."""
    if since is None:
        return True
    columns = file.metadata.row_group(group)
    for number in range(columns.num_columns):
        column = columns.column(number)
        if column.path_in_schema == KEY[0]:
            known = column.statistics
            return known is None or not known.has_min_max or bool(known.max >= since)
    return True
