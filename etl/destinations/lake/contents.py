"""What a lake holds by now, read from its published files."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from etl.destinations import Held
from etl.destinations.lake.arrivals import SERVICE
from etl.destinations.lake.columns import COLUMNS, KEY
from etl.destinations.lake.layout import organization_of, partitions, path_of, span_of
from etl.destinations.lake.storage import Storage, of_one_version, published, translated
from etl.destinations.lake.writing import read
from etl.model import Stream
from etl.sizes import Sizes
from etl.window import Window

#: The columns that tell which audits are there.
HELD: Final = [field for field in Held._fields if field in COLUMNS.names]


class Contents:
    """The audits in a lake's files.

    Args:
        folder: see `FOLDERS`.
    """

    def __init__(self, storage: Storage, folder: str, sizes: Sizes) -> None:
        self._storage = storage
        self._folder = folder
        self._piece = sizes.read_rows, sizes.read_bytes

    def held(self, organization: str, window: Window, service: str | None) -> Iterator[Held]:
        """See `Destination.held`."""
        with translated(self._storage):
            for path in self._storage.files():
                if organization_of(path) == organization and span_of(path).overlaps(window):
                    for table in self._published(path, HELD, window.start):
                        found = (Held(**row) for row in table.to_pylist())
                        yield from (
                            held
                            for held in found
                            if held.event_date in window and service in {None, held.service_name}
                        )

    def count(self, stream: Stream, span: Window) -> int:
        """See `Destination.count`; nothing is loaded early into a lake.

        A partition that lies in `span` is counted by its file's footer.
        """
        with translated(self._storage):
            return sum(
                self._count(path_of(stream.organization, partition), stream, span)
                for partition in partitions(span, self._folder)
            )

    def audits_a_day(self, stream: Stream, span: Window) -> Mapping[date, int]:
        """See `Destination.audits_a_day`."""
        days: Counter[date] = Counter()
        with translated(self._storage):
            for path in self._storage.files():
                if organization_of(path) == stream.organization and span_of(path).overlaps(span):
                    for table in self._published(path, ["event_date", "service_name"]):
                        days.update(_days_of(table, stream, span))
        return days

    def _count(self, path: str, stream: Stream, span: Window) -> int:
        if stream.service is None and span_of(path) in span:
            with published(self._storage, path) as file:
                return int(file.metadata.num_rows) if file else 0
        tables = self._published(path, [KEY[0], SERVICE], span.start)
        return sum(sum(_days_of(table, stream, span).values()) for table in tables)

    def _published(
        self, path: str, columns: list[str], since: datetime | None = None
    ) -> Iterator[pa.Table]:
        """Columns of the file at `path` a piece at a time; nothing if there is none."""

        def tables() -> Iterator[pa.Table]:
            with published(self._storage, path) as file:
                if file is not None:
                    yield from read(file, *self._piece, columns, since)

        return of_one_version(tables)


def _days_of(table: pa.Table, stream: Stream, span: Window) -> dict[date, int]:
    """How many rows of the table are of the stream, by day of `span`."""
    chosen = pc.and_(
        pc.greater_equal(table["event_date"], pa.scalar(span.start)),
        pc.less(table["event_date"], pa.scalar(span.end)),
    )
    if stream.service is not None:
        chosen = pc.and_(chosen, pc.equal(table["service_name"], stream.service))
    counts = pc.value_counts(table["event_date"].filter(chosen).cast(pa.date32()))
    return {count["values"].as_py(): count["counts"].as_py() for count in counts}
