"""Which audits of a load are new to a partition, and how many."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from etl.destinations.lake.columns import COLUMNS, KEY
from etl.destinations.lake.merging import Source, merged
from etl.destinations.lake.staging import Run
from etl.destinations.lake.writing import opened, read
from etl.ledger.lateness import NOTHING, Arrived, LoadHistory
from etl.sizes import Sizes
from etl.window import Window

#: The columns of which new audits are told.
SERVICE: Final = "service_name"
NEW: Final = "new"


@dataclass(frozen=True, slots=True)
class New:
    """Audits of a partition that were not there, and the file with them.

    Attributes:
        given: how many different audits of the partition the load was given.
    """

    given: int
    count: int
    arrived: Arrived
    file: Path


class Tally:
    """Adds up new audits."""

    def __init__(self, given: int, history: LoadHistory, held: Callable[[Window], int]) -> None:
        self.count = 0
        self._given = given
        self._arrived = NOTHING
        self._history = history
        self._held = held

    def add_file(self, path: Path, sizes: Sizes) -> None:
        """Add the rows of a file, all of them new."""
        with opened(path) as file:
            if not self._history.loads:
                self.count += file.metadata.num_rows
                return
            for rows in read(file, sizes.read_rows, sizes.read_bytes, [KEY[0], SERVICE]):
                self.add(rows)

    def add(self, rows: pa.Table) -> None:
        """Add rows, all of them new."""
        self.count += rows.num_rows
        if self._history.loads:
            times, services = rows[KEY[0]].to_pylist(), rows[SERVICE].to_pylist()
            new = zip(times, services, strict=True)
            self._arrived |= self._history.arrived(new, self._held)

    def new(self, file: Path) -> New:
        """What there is by now."""
        return New(self._given, self.count, self._arrived, file)


def distinct(runs: list[Run]) -> int:
    """How many different audits there are in runs."""
    if len(runs) > 1:
        return sum(rows.num_rows for rows in merged([run.source(KEY) for run in runs]))
    with pq.ParquetFile(runs[0].path) as file:
        return int(file.metadata.num_rows)


def new_rows(runs: list[Run], published: pq.ParquetFile | None) -> Iterator[pa.Table]:
    """Keys and services of what of the runs a file lacks; only its keys are read."""
    first, _ = min(run.first for run in runs)
    most, size = runs[0].sizes.read_rows, runs[0].sizes.read_bytes
    there = () if published is None else read(published, most, size, list(KEY), first)
    added = [
        Source(_marked(run.source((*KEY, SERVICE)).tables, new=True), run.first) for run in runs
    ]
    for rows in merged([Source(_marked(there, new=False)), *added]):
        yield rows.filter(rows[NEW])


def _marked(tables: Iterable[pa.Table], *, new: bool) -> Iterator[pa.Table]:
    """Tables of keys with the service, null if it was not read, and whether they are new."""
    for table in tables:
        if SERVICE not in table.column_names:
            table = table.append_column(COLUMNS.field(SERVICE), pa.nulls(len(table), pa.string()))
        yield table.append_column(NEW, pa.repeat(new, len(table)))
