"""A partition's file: written in row groups, read a piece at a time.

Both are bounded in bytes and in rows, because an audit may take a hundred bytes or megabytes. One
that is larger than a bound is a piece by itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from etl.destinations.lake.columns import COLUMNS, KEY
from etl.sizes import Sizes

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

    def __init__(self, path: Path, sizes: Sizes) -> None:
        self._most = sizes.row_group_rows
        self._size = sizes.row_group_bytes
        path.touch(mode=0o600)
        self._file = pq.ParquetWriter(
            path, COLUMNS, compression="zstd", compression_level=1, use_dictionary=REPEATING
        )
        #: What will be the next row group, and its bytes and rows.
        self._held: list[pa.Table] = []
        self._held_bytes = self._held_rows = 0

    def write(self, rows: pa.Table) -> None:
        """Add rows, `COLUMNS`, after those before."""
        for piece in cut(rows, self._most, self._size):
            size = piece.nbytes
            if (
                self._held_bytes + size > self._size
                or self._held_rows + piece.num_rows > self._most
            ):
                self._flush()
            self._held.append(piece)
            self._held_bytes += size
            self._held_rows += piece.num_rows

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        self._file.close()

    def abandon(self) -> None:
        """Give the file back unfinished, however that goes: nobody will read it."""
        with suppress(OSError, pa.ArrowException):
            self._file.close()

    def _flush(self) -> None:
        if self._held:
            self._file.write_table(pa.concat_tables(self._held))
        self._held = []
        self._held_bytes = self._held_rows = 0


def write(path: Path, tables: Iterable[pa.Table], sizes: Sizes) -> None:
    """Write tables as one file for its owner only."""
    writer = Writer(path, sizes)
    try:
        for rows in tables:
            writer.write(rows)
        writer.close()
    except BaseException:
        writer.abandon()
        raise


def cut(rows: pa.Table, most: int, size: int) -> Iterator[pa.Table]:
    """The same rows in order, in tables of at most `most` rows and `size` bytes; none is empty."""
    if rows.num_rows <= 1 or (rows.num_rows <= most and rows.nbytes <= size):
        if rows.num_rows:
            yield rows
        return
    half = rows.num_rows // 2
    yield from cut(rows.slice(0, half), most, size)
    yield from cut(rows.slice(half), most, size)


def opened(path: Path) -> pq.ParquetFile:
    """A local file; with `pre_buffer` Arrow would hold every byte that it has read of it."""
    return pq.ParquetFile(path, pre_buffer=False)


def read(
    file: pq.ParquetFile,
    most: int,
    size: int,
    columns: Sequence[str] | None = None,
    since: datetime | None = None,
) -> Iterator[pa.Table]:
    """Its rows a piece at a time. What is in memory is of one row group.

    Args:
        file: open.
        most: rows of a piece.
        size: bytes of a piece.
        columns: all of them unless some are named.
        since: row groups that end before this event time are passed over.
    """
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        if _reaches(group, since):
            rows = max(1, min(most, group.num_rows * size // max(1, _size(group, columns))))
            if rows >= group.num_rows:
                yield from cut(file.read_row_group(number, columns, use_threads=False), most, size)
                continue
            for batch in file.iter_batches(
                rows, row_groups=[number], columns=columns, use_threads=False
            ):
                yield from cut(pa.Table.from_batches([batch]), most, size)


def _chunks(group: pq.RowGroupMetaData) -> Iterator[pq.ColumnChunkMetaData]:
    return map(group.column, range(group.num_columns))


def _size(group: pq.RowGroupMetaData, columns: Sequence[str] | None) -> int:
    """The bytes of columns in a row group, all of them unless some are named."""
    return sum(
        chunk.total_uncompressed_size
        for chunk in _chunks(group)
        if columns is None or chunk.path_in_schema.partition(".")[0] in columns
    )


def _reaches(group: pq.RowGroupMetaData, since: datetime | None) -> bool:
    """Whether a row group may hold audits of `since` or later."""
    if since is None:
        return True
    known = next(c.statistics for c in _chunks(group) if c.path_in_schema == KEY[0])
    return known is None or not known.has_min_max or bool(known.max >= since)
