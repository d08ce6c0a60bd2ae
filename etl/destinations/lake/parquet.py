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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import sqlalchemy as sa

from etl.database.transactions import transact
from etl.destinations import Fence, Held
from etl.destinations.lake.arrivals import New, Tally, distinct, new_rows
from etl.destinations.lake.background import Early
from etl.destinations.lake.binding import Binding
from etl.destinations.lake.columns import KEY, conformed, table_of
from etl.destinations.lake.contents import Contents
from etl.destinations.lake.layout import FOLDERS, path_of
from etl.destinations.lake.merging import Source, merged
from etl.destinations.lake.staging import Part, Run, Staging
from etl.destinations.lake.storage import Storage, published, translated
from etl.destinations.lake.writing import read, write
from etl.destinations.place import Clock
from etl.destinations.sql.fitting import fitting
from etl.destinations.sql.inserter import Inserter
from etl.destinations.sql.rejects import insert_rejects
from etl.errors import AuditTooLarge
from etl.ledger import lateness
from etl.ledger.lateness import NOTHING, Arrived, LoadHistory, warn_of_loss
from etl.ledger.receipts import Ledger, record
from etl.model import PendingReceipt, Receipt
from etl.records import Audit, Batch, Reject
from etl.sizes import Sizes
from etl.window import Window

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


@dataclass(slots=True)
class _Published:
    """What a load has published.

    Attributes:
        given: how many different audits it was given.
        generation: of the lake, once something new was published; empty before.
    """

    new_events: int = 0
    given: int = 0
    arrived: Arrived = NOTHING
    generation: str = ""


class ParquetDestination(Contents):
    """A tree of Parquet files, and its ledger in the ledger database. See `Destination`.

    Args:
        engine: the ledger database, its tables made.
        partition: `hour`, `day` or `month`.
    """

    def __init__(
        self, storage: Storage, engine: sa.Engine, partition: str, now: Clock, sizes: Sizes
    ) -> None:
        super().__init__(storage, FOLDERS[partition], sizes)
        self.ledger = Ledger(engine)
        self._engine = engine
        self._sizes = sizes
        self._inserter = Inserter(engine.dialect, sizes)
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
        too_large: list[AuditTooLarge] = []
        with (
            Staging(self._storage.staging, self._sizes) as staging,
            Early(partial(self._merging, staging, history)) as merges,
        ):
            self._binding.bind(staging, fence)
            events, rejects = self._stage(staging, merges, pending, batches, too_large)
            done = self._publish_all(staging, merges, pending, fence)
        if too_large:
            raise too_large[0]

        def finish(connection: sa.Connection) -> Receipt:
            fence(connection)
            receipt = pending.receipt(
                events=events,
                new_events=done.new_events,
                rejects=rejects,
                repeated=events - done.given,
            )
            record(connection, receipt)
            if done.generation:
                self._binding.settle(connection, done.generation)
            lateness.add(connection, history.stream, done.arrived.late, history.asked_at)
            return receipt

        receipt = transact(self._engine, finish)
        if done.arrived.late and pending.late:
            pending.late(done.arrived.late)
        warn_of_loss(pending.stream, pending.window, done.arrived.restored)
        return receipt

    def look_up(self, organization: str, window: Window, ids: Iterable[str]) -> Iterator[Held]:  # noqa: ARG002 - all of the window are as quick
        """See `Destination.look_up`."""
        yield from self.held(organization, window, None)

    def close(self) -> None:
        """See `Destination.close`."""
        self._engine.dispose()

    def _tell_new(self, pending: PendingReceipt, runs: list[Run], partition: str) -> None:
        """Tell whoever asks which audits of a partition are new, before it is published."""
        if pending.new is None:
            return
        with published(self._storage, path_of(pending.stream.organization, partition)) as there:
            for rows in new_rows(runs, there):
                pending.new(rows[KEY[-1]].to_pylist())

    def _stage(
        self,
        staging: Staging,
        merges: "Early[New]",
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
    ) -> "Callable[[], New]":
        path = path_of(history.stream.organization, partition)
        file = staging.file(f"{partition.replace('/', ' ')}.parquet")
        return partial(self._merge, staging.runs(partition), path, history, file)

    def _merge(self, runs: list[Run], path: str, history: LoadHistory, file: Path) -> "New":
        """A file of what is published at `path` and what it lacks of the runs: `file`, or the run.

        Nothing is written if it lacks nothing, or if the only run is all there is.
        """
        tally = Tally(distinct(runs), history, partial(self.count, history.stream))
        with published(self._storage, path) as there:
            if there is None:
                whole = self._whole(runs, file)
                tally.add_file(whole, self._sizes)
                return tally.new(whole)
            for rows in new_rows(runs, there):
                tally.add(rows)
            if tally.count:
                held = Source(map(conformed, read(there, *self._piece)))
                write(file, merged([held, *(run.source() for run in runs)]), self._sizes)
        return tally.new(file)

    def _whole(self, runs: list[Run], file: Path) -> Path:
        if len(runs) == 1:
            return runs[0].path
        write(file, merged([run.source() for run in runs]), self._sizes)
        return file

    def _publish_all(
        self, staging: Staging, merges: "Early[New]", pending: PendingReceipt, fence: Fence
    ) -> "_Published":
        """Publish each partition's file, if something in it is new."""
        done = _Published()
        with translated(self._storage):
            for partition in staging.partitions:
                merges.begin(partition)
            for partition in staging.partitions:
                new = merges.result(partition)
                self._tell_new(pending, staging.runs(partition), partition)
                if new.count:
                    done.generation = done.generation or self._binding.advance(staging, fence)
                    path = path_of(pending.stream.organization, partition)
                    self._storage.publish(new.file, path, lambda: self._binding.confirm(fence))
                    new.file.unlink(missing_ok=True)
                done.new_events += new.count
                done.given += new.given
                done.arrived |= new.arrived
        return done


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
