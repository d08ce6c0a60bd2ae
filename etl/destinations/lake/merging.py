"""Merging sorted tables, a piece at a time, whatever their size.

Every source gives tables that are sorted by `columns.KEY` within and among each other. Of two rows
with one key, that of the source which comes first in the list stays.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from etl.destinations.lake.columns import KEY

#: Event time and id of a row.
Key = tuple[datetime, str]

_TIME, _ID = KEY
_ORDER = [(_TIME, "ascending"), (_ID, "ascending")]


class Source(NamedTuple):
    """Sorted tables.

    Attributes:
        tables: read as they are needed.
        first: the least key in them; None if that is not known without reading.
    """

    tables: Iterator[pa.Table]
    first: Key | None = None


def merged(sources: Sequence[Source]) -> Iterator[pa.Table]:
    """Tables with each key once, sorted; of each source that has come in turn, one is held."""
    heads = [_Head(rank, s.tables) for rank, s in enumerate(sources) if s.first is None]
    later = [(s.first, rank) for rank, s in enumerate(sources) if s.first is not None]
    later.sort(reverse=True)
    while True:
        heads = [head for head in heads if head.filled()]
        bound = min((head.last for head in heads), default=None)
        if later and (bound is None or later[-1][0] <= bound):
            _, rank = later.pop()
            heads.append(_Head(rank, sources[rank].tables))
            heads.sort(key=lambda head: head.rank)
            continue
        if bound is None:
            return
        taken = [head.take(bound) for head in heads]
        yield _distinct(_ordered([rows for rows in taken if rows.num_rows]))


class _Head:
    """The part of one source that was read and not yet merged.

    Attributes:
        rank: its place among the sources.
    """

    def __init__(self, rank: int, tables: Iterator[pa.Table]) -> None:
        self.rank = rank
        self._tables = tables
        self._rows: pa.Table = None

    def filled(self) -> bool:
        """Whether the source has another row; it has been read as far as that takes."""
        while self._rows is None or self._rows.num_rows == 0:
            self._rows = next(self._tables, None)
            if self._rows is None:
                return False
        return True

    @property
    def last(self) -> Key:
        """The greatest key that was read."""
        return key_of(self._rows, self._rows.num_rows - 1)

    def take(self, bound: Key) -> pa.Table:
        """Give up every row that was read and is not greater than `bound`."""
        rows = self._rows
        if self.last <= bound:
            self._rows = None
            return rows
        number = bisect_right(range(rows.num_rows), bound, key=lambda row: key_of(rows, row))
        self._rows = rows.slice(number)
        return rows.slice(0, number)


def key_of(rows: pa.Table, number: int) -> Key:
    """The key of a row."""
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
