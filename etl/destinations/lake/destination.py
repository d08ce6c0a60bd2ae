"""The lake behind `Destination`: files first, the watermark last. The order is the argument.

A window's rows are staged as sorted runs, a folder of them for each partition. Then each partition
is merged, its published file first, into a new file that takes the place of the old one at once.
Only when every partition of the window is durable are the receipt and the watermark committed to
the state database. A process that dies before that leaves whole files with more audits in them
than the receipts prove, which the next run finds there by their keys.

A lake has one writer: whoever loads holds its lease, and confirms it before each file.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from operator import attrgetter
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from etl import lateness
from etl.ahead import Ahead
from etl.database import transact
from etl.destinations import Fence, Held
from etl.destinations.grouping import grouped
from etl.destinations.inserting import Inserter
from etl.destinations.lake.columns import COLUMNS, KEY, conformed, require_known, table_of
from etl.destinations.lake.layout import FOLDERS, organization_of, path_of, span_of
from etl.destinations.lake.merging import merged
from etl.destinations.lake.staging import Staging, clear
from etl.destinations.lake.storage import Storage, translated
from etl.destinations.rejecting import insert_rejects
from etl.lateness import Past
from etl.ledger import Ledger, record
from etl.progress import Draft, Late, Receipt, Stream
from etl.records import Audit, Batch
from etl.window import Window

#: Raw JSON of the audits that are sorted in memory at once.
GROUP_BYTES = 4 * 1024 * 1024
#: Arrow bytes and rows of a row group: what is in memory while a file is written.
ROW_GROUP_BYTES: Final = 16 * 1024 * 1024
ROW_GROUP_ROWS: Final = 50_000
#: Rows of the published file that are merged at once.
READ_ROWS: Final = 2_000
#: The columns of which new audits are told.
SERVICE: Final = "service_name"
NEW: Final = "new"
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


class ParquetDestination:
    """A tree of Parquet files, and its ledger in the state database. See `Destination`.

    Args:
        storage: the files.
        engine: the state database, its tables made.
        partition: `hour`, `day` or `month`.
        now: the clock.
    """

    def __init__(
        self, storage: Storage, engine: sa.Engine, partition: str, now: Callable[[], datetime]
    ) -> None:
        self.ledger = Ledger(engine)
        self.one_writer = True
        self._storage = storage
        self._engine = engine
        self._inserter = Inserter(engine.dialect)
        self._folder = FOLDERS[partition]
        self._now = now

    def load(self, draft: Draft, batches: Iterable[Batch], fence: Fence) -> Receipt:
        """See `Destination.load`."""
        clear(self._storage.staging)
        past = Past(draft.stream, self.ledger.loaded(draft.stream, draft.window), draft.started_at)
        new_events, late = 0, Late()
        with Staging(self._storage.staging) as staging:
            events, rejects = self._stage(staging, draft, batches)
            with translated(self._storage):
                for partition in staging.partitions:
                    new = self._publish(staging, partition, past, fence)
                    new_events, late = new_events + new.count, late + new.late

        def finish(connection: sa.Connection) -> Receipt:
            fence(connection)
            receipt = draft.receipt(
                events=events, new_events=new_events, rejects=rejects, loaded_at=self._now()
            )
            record(connection, receipt)
            lateness.add(connection, past.stream, late, receipt.loaded_at)
            return receipt

        receipt = transact(self._engine, finish)
        if late and draft.late:
            draft.late(late)
        return receipt

    def held(self, organization: str, window: Window, service: str | None) -> Iterator[Held]:
        """See `Destination.held`."""
        with translated(self._storage):
            for path in self._storage.files():
                if organization_of(path) == organization and span_of(path).overlaps(window):
                    for table in self._published(path, list(Held._fields), window.start):
                        found = (Held(**row) for row in table.to_pylist())
                        yield from (
                            held
                            for held in found
                            if held.event_date in window and service in {None, held.service_name}
                        )

    def audits_a_day(self, stream: Stream, span: Window) -> Mapping[date, int]:
        """See `Destination.audits_a_day`."""
        days: Counter[date] = Counter()
        with translated(self._storage):
            for path in self._storage.files():
                held = span_of(path)
                if organization_of(path) == stream.organization and (
                    held.start < span.end and span.start < held.end
                ):
                    for table in self._published(path, ["event_date", "service_name"]):
                        days.update(_days_of(table, stream, span))
        return days

    def close(self) -> None:
        """See `Destination.close`."""
        self._engine.dispose()

    def _stage(self, staging: Staging, draft: Draft, batches: Iterable[Batch]) -> tuple[int, int]:
        """Sort the window's rows into runs; give how many audits and rejects there were."""
        events = rejects = 0
        for rows, _ in grouped(batches, GROUP_BYTES):
            events, rejects = events + len(rows.audits), rejects + len(rows.rejects)
            self._keep_aside(draft.stream.organization, rows)
            with translated(self._storage):
                self._spill(staging, rows)
            del rows  # the next group is not to be gathered beside it
        return events, rejects

    def _spill(self, staging: Staging, rows: Batch) -> None:
        audits = sorted(rows.audits, key=attrgetter(*KEY))
        for partition, those in _by_partition(audits, self._folder):
            staging.spill(partition, table_of(those, self._now()))

    def _keep_aside(self, organization: str, group: Batch) -> None:
        if group.rejects:
            transact(
                self._engine,
                lambda connection: insert_rejects(
                    connection, self._inserter, organization, group, self._now()
                ),
            )

    def _publish(self, staging: Staging, partition: str, past: Past, fence: Fence) -> "_New":
        """Merge a partition's runs into its file; tell which audits were new."""
        path = path_of(past.stream.organization, partition)
        new = self._new(staging, partition, path, past)
        if new.count:
            staged = staging.file("audits.parquet")
            sources = [self._published(path), *staging.runs(partition)]
            groups = _row_groups(merged(sources))
            with closing(Ahead(groups, attrgetter("nbytes"), 1, f"merge of {partition}")) as ready:
                _write(staged, ready)
            self._storage.publish(staged, path, lambda: transact(self._engine, fence))
        return new

    def _new(self, staging: Staging, partition: str, path: str, past: Past) -> "_New":
        """What of the runs the published file lacks; only keys and services are read."""
        first = min(_first(run) for run in staging.runs(partition, KEY))
        published = self._published(path, list(KEY), first)
        runs = staging.runs(partition, (*KEY, SERVICE))
        sources = [_marked(published, new=False), *(_marked(run, new=True) for run in runs)]
        count, late = 0, Late()
        for table in merged(sources):
            new = table.filter(table[NEW])
            count += new.num_rows
            if past.loaded:
                services = new[SERVICE].to_pylist()
                late += past.late(zip(new[KEY[0]].to_pylist(), services, strict=True))
        return _New(count, late)

    def _published(
        self, path: str, columns: list[str] | None = None, since: datetime | None = None
    ) -> Iterator[pa.Table]:
        """The file at `path` a piece at a time; nothing if there is none.

        Args:
            path: below the top of the lake.
            columns: all of them, made today's, unless some are named.
            since: row groups that end before this event time are passed over.
        """
        file = self._storage.open(path)
        if file is None:
            return
        with file:
            require_known(file.schema_arrow, path)
            groups = [n for n in range(file.num_row_groups) if _reaches(file, n, since)]
            for batch in file.iter_batches(READ_ROWS, row_groups=groups, columns=columns):
                table = pa.Table.from_batches([batch])
                yield table if columns else conformed(table)


@dataclass(frozen=True, slots=True)
class _New:
    """Audits of a partition that were not there: how many, and how late."""

    count: int
    late: Late


def _by_partition(audits: Sequence[Audit], folder: str) -> Iterator[tuple[str, Sequence[Audit]]]:
    """The audits of each partition, and its folders; they must be sorted by time."""
    start = 0
    while start < len(audits):
        partition = audits[start].event_date.strftime(folder)
        end = bisect_left(audits, span_of(partition).end, lo=start, key=attrgetter("event_date"))
        yield partition, audits[start:end]
        start = end


def _marked(tables: Iterator[pa.Table], *, new: bool) -> Iterator[pa.Table]:
    """Tables of keys with the service, null if it was not read, and whether they are new."""
    for table in tables:
        if SERVICE not in table.column_names:
            table = table.append_column(COLUMNS.field(SERVICE), pa.nulls(len(table), pa.string()))
        yield table.append_column(NEW, pa.repeat(new, len(table)))


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


def _first(run: Iterator[pa.Table]) -> datetime:
    table = next(run)
    first: datetime = table[KEY[0]][0].as_py()
    return first


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


def _write(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables as one file for its owner only, a row group each."""
    path.touch(mode=0o600)
    with pq.ParquetWriter(
        path, COLUMNS, compression="zstd", compression_level=1, use_dictionary=REPEATING
    ) as writer:
        for rows in tables:
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
