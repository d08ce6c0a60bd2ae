"""Audits in SQL tables: SQLite, PostgreSQL, MySQL and MariaDB.

Rows are inserted where absent. Each group of audits goes in one short transaction: look up which
ids are there, insert the others with their children, commit. Should one of them be there all the
same, as another process may have inserted it meanwhile, the primary key refuses, and the group is
tried again: so children never stand without their parent, nor beside another version's. In time
that was never loaded before nothing is looked up until that happens. No transaction spans a request
to the source. The last group's transaction also writes the receipt and moves the watermark.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Final, NamedTuple, TypeVar

import sqlalchemy as sa

from etl import lateness, schema
from etl.database import checkpointed, reading, transact
from etl.destinations import Fence, Held
from etl.destinations.grouping import grouped
from etl.destinations.inserting import Inserter
from etl.destinations.presence import absent_of, delete_early
from etl.destinations.rejecting import insert_rejects
from etl.destinations.rows import rows_of
from etl.heap import give_back
from etl.lateness import Past
from etl.ledger import Ledger, record
from etl.progress import Draft, Late, Receipt, Stream
from etl.records import Audit, Batch, Keyed, Records, Unreadable, normalise, whole
from etl.window import Window

#: Raw JSON of one transaction's audits: about 10,000 of the vendor's usual size. Half as
#: much takes SQLite a fifth to a third longer for a third of a million audits, and 30 MiB less.
GROUP_BYTES = 16 * 1024 * 1024
#: Rows that are fetched together when ids are compared.
HELD_ROWS: Final = 5_000

T = TypeVar("T")


@dataclass(slots=True)
class _Course:
    """One window on its way into the tables.

    Attributes:
        look_up: whether to look up which audits are there before they are inserted.
    """

    past: Past
    look_up: bool


class _Written(NamedTuple):
    """What a transaction has done: audits that it was given, those of them new, and rejects."""

    events: int
    new_events: int
    rejects: int


class SqlDestination:
    """The tables of `schema` in one database, which also holds the ledger. See `Destination`."""

    def __init__(self, engine: sa.Engine, now: Callable[[], datetime]) -> None:
        self.ledger = Ledger(engine)
        self.one_writer = False
        self.takes_keys = True
        self._engine = engine
        self._now = now
        self._inserter = Inserter(engine.dialect)

    def prepared(self, batch: Records) -> Records:
        """See `Destination.prepared`: rows are made of absent audits only, when these are known."""
        return batch

    def load(self, draft: Draft, batches: Iterable[Records], fence: Fence) -> Receipt:
        """See `Destination.load`."""
        events = new_events = rejects = 0
        past = Past(draft.stream, self.ledger.loaded(draft.stream, draft.window), draft.started_at)
        course = _Course(past, look_up=bool(past.loaded))
        groups = grouped(batches, GROUP_BYTES)
        with checkpointed(self._engine):
            group, is_last = next(groups)
        while not is_last:
            written = _readable(partial(self._write, draft, course, fence), group)
            events, new_events = events + written.events, new_events + written.new_events
            rejects += written.rejects
            with checkpointed(self._engine):
                del group  # the next group is not to be gathered beside it
                give_back()
                group, is_last = next(groups)

        def finish(last: Records) -> tuple[Receipt, Late]:
            def work(connection: sa.Connection) -> tuple[Receipt, Late]:
                new, late = self._insert(connection, course, last)
                fence(connection)
                receipt = draft.receipt(
                    events=events + len(last.audits),
                    new_events=new_events + new,
                    rejects=rejects + len(last.rejects),
                    loaded_at=self._now(),
                )
                record(connection, receipt)
                return receipt, late

            return transact(self._engine, work)

        receipt, late = _readable(finish, group)
        _tell(draft, late)
        return receipt

    def held(self, organization: str, window: Window, service: str | None) -> Iterator[Held]:
        """See `Destination.held`."""
        table = schema.audit_events.c
        query = sa.select(table.id, table.event_date, table.service_name).where(
            table.organization == organization,
            table.event_date >= window.start,
            table.event_date < window.end,
        )
        if service is not None:
            query = query.where(table.service_name == service)
        with reading(self._engine) as connection:
            for row in connection.execute(query.execution_options(yield_per=HELD_ROWS)):
                yield Held(*row)

    def load_early(self, organization: str, audits: Iterable[Audit]) -> int:
        """Insert audits that no window has brought yet; give how many were absent.

        Afterwards they are there once, with their changes, and marked in `early_audits`. There is
        no receipt and the watermark stays: a window that shows one of them puts its own record in
        the place of this one, which another query may have shown with less in it.
        """
        by_id = {audit.id: audit for audit in audits}

        def work(connection: sa.Connection) -> int:
            inserted = self._insert_absent(connection, organization, by_id)
            now = self._inserter.bound.time(self._now())
            marks = ((organization, audit.id, now) for audit in inserted)
            self._inserter.insert(connection, (schema.early_audits, marks))
            return len(inserted)

        return transact(self._engine, work)

    def audits_a_day(self, stream: Stream, span: Window) -> Mapping[date, int]:
        """See `Destination.audits_a_day`."""
        events = schema.audit_events.c
        day = sa.func.substr(sa.cast(events.event_date, sa.CHAR(10)), 1, 10)
        query = (
            sa.select(day, sa.func.count())
            .where(
                events.organization == stream.organization,
                events.event_date >= span.start,
                events.event_date < span.end,
            )
            .group_by(day)
        )
        if stream.service is not None:
            query = query.where(events.service_name == stream.service)
        with reading(self._engine) as connection:
            return {
                date.fromisoformat(str(text)): int(count)
                for text, count in connection.execute(query)
            }

    def close(self) -> None:
        """See `Destination.close`."""
        self._engine.dispose()

    def _write(self, draft: Draft, course: _Course, fence: Fence, group: Records) -> _Written:
        """Insert and commit what is absent of `group`."""
        if not group.audits and not group.rejects:
            return _Written(0, 0, 0)

        def work(connection: sa.Connection) -> tuple[int, Late]:
            inserted = self._insert(connection, course, group)
            fence(connection)
            return inserted

        new, late = transact(self._engine, work)
        _tell(draft, late)
        return _Written(len(group.audits), new, len(group.rejects))

    def _insert(
        self, connection: sa.Connection, course: _Course, group: Records
    ) -> tuple[int, Late]:
        """Insert what is absent of `group`; give how many audits were new, and how late.

        Raises:
            Unreadable: a record is no row; the transaction must be undone.
        """
        past, now = course.past, self._now()
        organization = past.stream.organization
        by_id = {audit.id: audit for audit in reversed(group.audits)}
        delete_early(connection, organization, by_id)
        try:
            inserted = self._insert_absent(connection, organization, by_id, look_up=course.look_up)
        except sa.exc.IntegrityError:
            course.look_up = True
            raise
        insert_rejects(connection, self._inserter, organization, group.rejects, now)
        late = past.late((audit.event_date, audit.service_name) for audit in inserted)
        lateness.add(connection, past.stream, late, now)
        return len(inserted), late

    def _insert_absent(
        self,
        connection: sa.Connection,
        organization: str,
        by_id: Mapping[str, Keyed],
        *,
        look_up: bool = True,
    ) -> list[Audit]:
        """Insert those that are not there, with their changes; give them.

        Raises:
            sqlalchemy.exc.IntegrityError: without a look-up one is there, or another process
                has inserted one meanwhile; the transaction must be undone.
            Unreadable: a record is no row; the transaction must be undone.
        """
        key = schema.audit_events.c.id
        absent = absent_of(connection, key, organization, by_id) if look_up else sorted(by_id)
        audits = [whole(by_id[audit_id]) for audit_id in absent]
        rows = rows_of(organization, audits, self._now(), self._inserter.bound)
        self._inserter.insert(connection, *rows)
        return audits


def _readable(load: Callable[[Records], T], group: Records) -> T:
    """Load a group; once more, all of it read first, if it holds what cannot be a row."""
    try:
        return load(group)
    except Unreadable:
        return load(_read_whole(group))


def _read_whole(group: Records) -> Records:
    read = [_row_of(record) for record in group.audits]
    audits = (audit for batch in read for audit in batch.audits)
    rejects = (reject for batch in read for reject in batch.rejects)
    return Records(tuple(audits), (*group.rejects, *rejects))


def _row_of(record: Keyed) -> Batch:
    try:
        return Batch((whole(record),))
    except Unreadable:
        return normalise([record.raw])


def _tell(draft: Draft, late: Late) -> None:
    if late and draft.late:
        draft.late(late)
