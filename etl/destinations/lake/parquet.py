"""The lake behind `Destination`: files first, the watermark last. The order is the argument.

A window's rows are staged as sorted runs, a folder of them for each load. Each partition's runs are
merged with its published file into a new one, by a thread of their own as soon as the window has
gone past it; where nothing is published, its only run is that file. None of these takes the place
of the old one before the window's last cursor. Only when every partition is durable are the receipt
and the watermark committed to the ledger database. A process that dies before that leaves whole
files with more audits in them than the receipts prove, which the next run finds there by their
keys.

A lake has one writer: whoever loads holds its lease, and confirms it before each file.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from etl.database.transactions import transact
from etl.destinations import Fence, Held
from etl.destinations.lake.background import Early
from etl.destinations.lake.binding import Binding
from etl.destinations.lake.columns import COLUMNS, KEY, conformed, table_of
from etl.destinations.lake.layout import FOLDERS, organization_of, partitions, path_of, span_of
from etl.destinations.lake.merging import Source, merged
from etl.destinations.lake.staging import Part, Run, Staging
from etl.destinations.lake.storage import Storage, of_one_version, published, translated
from etl.destinations.lake.writing import opened, read, write
from etl.destinations.sql.fitting import fitting
from etl.destinations.sql.inserter import Inserter
from etl.destinations.sql.rejects import insert_rejects
from etl.errors import AuditTooLarge
from etl.ledger import lateness
from etl.ledger.lateness import NOTHING, Arrived, LoadHistory, warn_of_loss
from etl.ledger.receipts import Ledger, record
from etl.model import PendingReceipt, Receipt, Stream
from etl.records import Audit, Batch, Reject
from etl.window import Window

#: The columns of which new audits are told.
SERVICE: Final = "service_name"
NEW: Final = "new"
#: The columns that tell which audits are there.
HELD: Final = [field for field in Held._fields if field in COLUMNS.names]
_KEY_OF: Final = attrgetter(*KEY)
_ID_OF: Final = attrgetter(KEY[-1])


class Columns(NamedTuple):
    """A batch as a lake takes it.

    Attributes:
        parts: its audits by partition, in the order of time.
        events: how many audits it holds, those that it holds twice included.
    """

    parts: tuple[Part, ...]
    events: int
    rejects: tuple[Reject, ...]


class ParquetDestination:
    """A tree of Parquet files, and its ledger in the ledger database. See `Destination`.

    Args:
        storage: the files.
        engine: the ledger database, its tables made.
        partition: `hour`, `day` or `month`.
        now: the clock.
    """

    def __init__(
        self, storage: Storage, engine: sa.Engine, partition: str, now: Callable[[], datetime]
    ) -> None:
        self.ledger = Ledger(engine)
        self._storage = storage
        self._engine = engine
        self._inserter = Inserter(engine.dialect)
        self._folder = FOLDERS[partition]
        self._now = now
        self._binding = Binding(storage, engine, now)

    def prepared(self, batch: Batch) -> Columns:
        """See `Destination.prepared`: columns cost half as much while the audits were just made."""
        audits = sorted(batch.audits, key=_KEY_OF)
        if len(set(map(_ID_OF, audits))) < len(audits):  # rarely, and grouping takes longer
            audits = [next(same) for _, same in groupby(audits, _KEY_OF)]
        rows = table_of(audits, self._now())
        parts = tuple(_by_partition(audits, rows, self._folder))
        return Columns(parts, len(batch.audits), batch.rejects)

    def load(self, pending: PendingReceipt, batches: Iterable[Columns], fence: Fence) -> Receipt:
        """See `Destination.load`."""
        history = LoadHistory(
            pending.stream, self.ledger.loads(pending.stream, pending.window), pending.started_at
        )
        new_events, distinct, arrived = 0, 0, NOTHING
        generation = ""
        with (
            Staging(self._storage.staging) as staging,
            Early(partial(self._merging, staging, history)) as merges,
        ):
            self._binding.bind(staging, fence)
            too_large: list[AuditTooLarge] = []
            events, rejects = self._stage(staging, merges, pending, batches, too_large)
            with translated(self._storage):
                for partition in staging.partitions:
                    merges.begin(partition)
                for partition in staging.partitions:
                    new = merges.result(partition)
                    self._tell_new(pending, staging.runs(partition), partition)
                    if new.count and not generation:
                        generation = self._binding.advance(staging, fence)
                    self._publish(new, path_of(pending.stream.organization, partition), fence)
                    new_events, distinct = new_events + new.count, distinct + new.given
                    arrived |= new.arrived

        if too_large:
            raise too_large[0]

        def finish(connection: sa.Connection) -> Receipt:
            fence(connection)
            receipt = pending.receipt(
                events=events,
                new_events=new_events,
                rejects=rejects,
                repeated=events - distinct,
            )
            record(connection, receipt)
            if generation:
                self._binding.settle(connection, generation)
            lateness.add(connection, history.stream, arrived.late, history.asked_at)
            return receipt

        receipt = transact(self._engine, finish)
        if arrived.late and pending.late:
            pending.late(arrived.late)
        warn_of_loss(pending.stream, pending.window, arrived.restored)
        return receipt

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

    def look_up(self, organization: str, window: Window, ids: Iterable[str]) -> Iterator[Held]:  # noqa: ARG002 - all of the window are as quick
        """See `Destination.look_up`."""
        yield from self.held(organization, window, None)

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

    def _tell_new(self, pending: PendingReceipt, runs: list[Run], partition: str) -> None:
        """Tell whoever asks which audits of a partition are new, before it is published."""
        if pending.new is None:
            return
        with published(self._storage, path_of(pending.stream.organization, partition)) as there:
            for rows in _new_rows(runs, there):
                pending.new(rows[KEY[-1]].to_pylist())

    def _stage(
        self,
        staging: Staging,
        merges: "Early[_New]",
        pending: PendingReceipt,
        batches: Iterable[Columns],
        too_large: list[AuditTooLarge],
    ) -> tuple[int, int]:
        """Keep the window's rows in runs; give how many audits and rejects there were.

        A reject that the ledger's database takes no statement of is added to `too_large`.

        Results come in the order of time, though nobody promises it: what is earlier than a whole
        batch is complete, most likely.
        """
        events = rejects = 0
        for parts, given, rejected in batches:
            events, rejects = events + given, rejects + len(rejected)
            self._keep_aside(pending.stream.organization, rejected, too_large)
            with translated(self._storage):
                for part in parts:
                    merges.take_back(part.partition)
                    staging.add(part)
                reached = parts[0].partition if parts else ""
                for partition in staging.partitions:
                    if partition < reached:
                        merges.begin(partition)
        return events, rejects

    def _keep_aside(
        self, organization: str, rejects: tuple[Reject, ...], too_large: list[AuditTooLarge]
    ) -> None:
        def insert(group: Batch) -> None:
            def work(connection: sa.Connection) -> None:
                now = self._now()
                insert_rejects(connection, self._inserter, organization, group.rejects, now)

            if group.rejects:
                transact(self._engine, work)

        fitting(insert, Batch((), rejects), too_large)

    def _merging(
        self, staging: Staging, history: LoadHistory, partition: str
    ) -> "Callable[[], _New]":
        path = path_of(history.stream.organization, partition)
        file = staging.file(f"{partition.replace('/', ' ')}.parquet")
        return partial(self._merge, staging.runs(partition), path, history, file)

    def _merge(self, runs: list[Run], path: str, history: LoadHistory, file: Path) -> "_New":
        """A file of what is published at `path` and what it lacks of the runs: `file`, or the run.

        Nothing is written if it lacks nothing, or if the only run is all there is.
        """
        tally = _Tally(_distinct(runs), history, partial(self.count, history.stream))
        with published(self._storage, path) as there:
            if there is None:
                whole = self._whole(runs, file)
                tally.add_file(whole)
                return tally.new(whole)
            _count(tally, runs, there)
            if tally.count:
                held = Source(map(conformed, read(there)))
                write(file, merged([held, *(run.source() for run in runs)]))
        return tally.new(file)

    def _whole(self, runs: list[Run], file: Path) -> Path:
        if len(runs) == 1:
            return runs[0].path
        write(file, merged([run.source() for run in runs]))
        return file

    def _publish(self, new: "_New", path: str, fence: Fence) -> None:
        if new.count:
            self._storage.publish(new.file, path, lambda: self._binding.confirm(fence))
            new.file.unlink(missing_ok=True)

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
                    yield from read(file, columns, since)

        return of_one_version(tables)


@dataclass(frozen=True, slots=True)
class _New:
    """Audits of a partition that were not there, and the file with them.

    Attributes:
        given: how many different audits of the partition the load was given.
    """

    given: int
    count: int
    arrived: Arrived
    file: Path


class _Tally:
    """Adds up new audits."""

    def __init__(self, given: int, history: LoadHistory, held: Callable[[Window], int]) -> None:
        self.count = 0
        self._given = given
        self._arrived = NOTHING
        self._history = history
        self._held = held

    def add_file(self, path: Path) -> None:
        """Add the rows of a file, all of them new."""
        with opened(path) as file:
            if not self._history.loads:
                self.count += file.metadata.num_rows
                return
            for rows in read(file, [KEY[0], SERVICE]):
                self.add(rows)

    def add(self, rows: pa.Table) -> None:
        """Add rows, all of them new."""
        self.count += rows.num_rows
        if self._history.loads:
            times, services = rows[KEY[0]].to_pylist(), rows[SERVICE].to_pylist()
            new = zip(times, services, strict=True)
            self._arrived |= self._history.arrived(new, self._held)

    def new(self, file: Path) -> _New:
        """What there is by now."""
        return _New(self._given, self.count, self._arrived, file)


def _count(tally: _Tally, runs: list[Run], published: pq.ParquetFile) -> None:
    for rows in _new_rows(runs, published):
        tally.add(rows)


def _distinct(runs: list[Run]) -> int:
    """How many different audits there are in runs."""
    if len(runs) > 1:
        return sum(rows.num_rows for rows in merged([run.source(KEY) for run in runs]))
    with pq.ParquetFile(runs[0].path) as file:
        return int(file.metadata.num_rows)


def _new_rows(runs: list[Run], published: pq.ParquetFile | None) -> Iterator[pa.Table]:
    """Keys and services of what of the runs a file lacks; only its keys are read."""
    first, _ = min(run.first for run in runs)
    there = () if published is None else read(published, list(KEY), first)
    added = [
        Source(_marked(run.source((*KEY, SERVICE)).tables, new=True), run.first) for run in runs
    ]
    for rows in merged([Source(_marked(there, new=False)), *added]):
        yield rows.filter(rows[NEW])


def _by_partition(audits: Sequence[Audit], rows: pa.Table, folder: str) -> Iterator[Part]:
    """The rows of `audits` by partition; both must be sorted by key.

    The audits are asked, not the rows: a time out of a column takes ten times as long.
    """

    def partition_of(audit: Audit) -> str:
        return audit.event_date.strftime(folder)

    start = 0
    while start < len(audits):
        partition = partition_of(audits[start])
        end = bisect_right(audits, partition, lo=start, key=partition_of)
        first, last = _KEY_OF(audits[start]), _KEY_OF(audits[end - 1])
        yield Part(partition, rows.slice(start, end - start), first, last)
        start = end


def _marked(tables: Iterable[pa.Table], *, new: bool) -> Iterator[pa.Table]:
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
