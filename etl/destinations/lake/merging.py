"""Merging sorted tables, a piece at a time, whatever their size.

Every source gives tables that are sorted by `columns.KEY` within and among each other. The first
source is the file that is there: of two rows with one key, its own stays.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from etl.destinations.lake.columns import KEY

#: Event time and id of a row.
Key = tuple[datetime, str]

_TIME, _ID = KEY
_ORDER = [(_TIME, "ascending"), (_ID, "ascending")]


def merged(sources: Iterable[Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """Tables with each key once, sorted; no more than one table of each source is held."""
    heads = [_Head(source) for source in sources]
    while True:
        heads = [head for head in heads if head.filled()]
        if not heads:
            return
        bound = min(head.last for head in heads)
        taken = [head.take(bound) for head in heads]
        yield _distinct(_ordered([rows for rows in taken if rows.num_rows]))


class _Head:
    """The part of one source that was read and not yet merged."""

    def __init__(self, source: Iterator[pa.Table]) -> None:
        self._source = source
        self._rows: pa.Table | None = None

    def filled(self) -> bool:
        """Whether the source has another row; it has been read as far as that takes."""
        while self._rows is None or self._rows.num_rows == 0:
            self._rows = next(self._source, None)
            if self._rows is None:
                return False
        return True

    @property
    def last(self) -> Key:
        """The greatest key that was read."""
        rows = self._table
        return _key(rows, rows.num_rows - 1)

    def take(self, bound: Key) -> pa.Table:
        """Give up every row that was read and is not greater than `bound`."""
        rows = self._table
        if self.last <= bound:
            self._rows = None
            return rows
        low, high = 0, rows.num_rows
        while low < high:
            middle = (low + high) // 2
            if _key(rows, middle) <= bound:
                low = middle + 1
            else:
                high = middle
        self._rows = rows.slice(low)
        return rows.slice(0, low)

    @property
    def _table(self) -> pa.Table:
        if self._rows is None:
            raise ValueError("nothing was read yet")
        return self._rows


def _key(rows: pa.Table, number: int) -> Key:
    return rows[_TIME][number].as_py(), rows[_ID][number].as_py()


def _ordered(tables: list[pa.Table]) -> pa.Table:
    """Sorted tables as one; rows of one key stay in the order of their tables."""
    if len(tables) == 1:
        return tables[0]
    rows = pa.concat_tables(tables)
    return rows.take(pc.sort_indices(rows.select(KEY), sort_keys=_ORDER)).combine_chunks()


def _distinct(rows: pa.Table) -> pa.Table:
    """The first row of each key; `rows` must be in order."""
    times, ids = rows[_TIME], rows[_ID]
    again = pc.and_(pc.equal(times[1:], times[:-1]), pc.equal(ids[1:], ids[:-1]))
    if not pc.any(again).as_py():
        return rows
    first = pa.chunked_array([pa.array([True]), *pc.invert(again).chunks])
    return rows.filter(first)
