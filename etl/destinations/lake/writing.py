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

from etl.destinations.lake.columns import COLUMNS, KEY, PROPERTY_CHANGES
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
#: zstd levels of the columns that level 3 makes smaller. The others have Arrow's default, 1.
LEVELS: Final = {
    "raw": 3,
    f"{PROPERTY_CHANGES}.list.element.old_values.list.element": 3,
    f"{PROPERTY_CHANGES}.list.element.new_values.list.element": 3,
}
#: Columns with a bloom filter in each row group.
FILTERED: Final = ("id", "entity_id", "user_id")
#: Makes filters of 4 KiB at most. Arrow keeps all of a file in memory until it is closed.
FILTER: Final = {"ndv": 4096, "fpp": 0.05}
#: A piece that does not fit into a row group is cut into parts of this share of one, to fill it.
PARTS: Final = 4


class Writer:
    """Writes one file, for its owner only; it is whole once `close` has returned."""

    def __init__(self, path: Path, sizes: Sizes) -> None:
        self._most = sizes.row_group_rows
        self._size = sizes.row_group_bytes
        path.touch(mode=0o600)
        self._file = pq.ParquetWriter(
            path,
            COLUMNS,
            compression="zstd",
            compression_level=LEVELS,
            use_dictionary=REPEATING,
            data_page_size=self._size,
            bloom_filter_options=dict.fromkeys(FILTERED, FILTER),
        )
        #: What will be the next row group, and its bytes and rows.
        self._held: list[pa.Table] = []
        self._held_bytes = self._held_rows = 0

    def write(self, rows: pa.Table) -> None:
        """Add rows, `COLUMNS`, after those before."""
        for piece in cut(rows, self._most, self._size):
            fits = self._has_room(piece)
            for part in [piece] if fits else cut(piece, self._most, self._size // PARTS):
                if not self._has_room(part):
                    self._flush()
                self._held.append(part)
                self._held_bytes += part.nbytes
                self._held_rows += part.num_rows

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        self._file.close()

    def abandon(self) -> None:
        """Give the file back unfinished, however that goes: nobody will read it."""
        with suppress(OSError, pa.ArrowException):
            self._file.close()

    def _has_room(self, rows: pa.Table) -> bool:
        """Whether the next row group can take these rows, too."""
        most, size = self._held_rows + rows.num_rows, self._held_bytes + rows.nbytes
        return bool(most <= self._most and size <= self._size)

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
