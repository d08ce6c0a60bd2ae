"""A partition's file: written in row groups, read a piece at a time."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from etl.destinations.lake.columns import COLUMNS, KEY

#: Arrow bytes and rows of a row group: what is in memory while a file is written.
ROW_GROUP_BYTES: Final = 16 * 1024 * 1024
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


def write(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables as one file for its owner only."""
    path.touch(mode=0o600)
    with pq.ParquetWriter(
        path, COLUMNS, compression="zstd", compression_level=1, use_dictionary=REPEATING
    ) as writer:
        for rows in _row_groups(tables):
            writer.write_table(rows)


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of `tables` in tables that are each worth a row group."""
    held: list[pa.Table] = []
    size = rows = 0
    for table in tables:
        held.append(table)
        size, rows = size + table.nbytes, rows + table.num_rows
        if size >= ROW_GROUP_BYTES or rows >= ROW_GROUP_ROWS:
            yield pa.concat_tables(held)
            held, size, rows = [], 0, 0
    if held:
        yield pa.concat_tables(held)


def read(
    file: pq.ParquetFile, columns: list[str] | None = None, since: datetime | None = None
) -> Iterator[pa.Table]:
    """Its rows a piece at a time.

    Args:
        file: open.
        columns: all of them unless some are named.
        since: row groups that end before this event time are passed over.
    """
    groups = [n for n in range(file.num_row_groups) if _reaches(file, n, since)]
    for batch in file.iter_batches(READ_ROWS, row_groups=groups, columns=columns):
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
