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
from typing import Final

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
from etl.records import Audit, Batch
from etl.window import Window

#: Raw JSON of one transaction's audits: about 10,000 of the vendor's usual size. Half as
#: much takes SQLite a fifth to a third longer for a third of a million audits, and 30 MiB less.
GROUP_BYTES = 16 * 1024 * 1024
#: Rows that are fetched together when ids are compared.
HELD_ROWS: Final = 5_000


@dataclass(slots=True)
class _Course:
    """One window on its way into the tables.

    Attributes:
        look_up: whether to look up which audits are there before they are inserted.
    """

    past: Past
    look_up: bool


class SqlDestination:
    """The tables of `schema` in one database, which also holds the ledger. See `Destination`."""

    def __init__(self, engine: sa.Engine, now: Callable[[], datetime]) -> None:
        self.ledger = Ledger(engine)
        self.one_writer = False
        self._engine = engine
        self._now = now
        self._inserter = Inserter(engine.dialect)

    def prepared(self, batch: Batch) -> Batch:
        """See `Destination.prepared`: rows are made of absent audits only, when these are known."""
        return batch

    def load(self, draft: Draft, batches: Iterable[Batch], fence: Fence) -> Receipt:
        """See `Destination.load`."""
        events = new_events = rejects = 0
        past = Past(draft.stream, self.ledger.loaded(draft.stream, draft.window), draft.started_at)
        course = _Course(past, look_up=bool(past.loaded))
        groups = grouped(batches, GROUP_BYTES)
        with checkpointed(self._engine):
            rows, is_last = next(groups)
        while not is_last:
            events, rejects = events + len(rows.audits), rejects + len(rows.rejects)
            new_events += self._write(draft, course, rows, fence)
            with checkpointed(self._engine):
                del rows  # the next group is not to be gathered beside it
                give_back()
                rows, is_last = next(groups)

        def finish(connection: sa.Connection) -> tuple[Receipt, Late]:
            new, late = self._insert(connection, course, rows)
            fence(connection)
            receipt = draft.receipt(
                events=events + len(rows.audits),
                new_events=new_events + new,
                rejects=rejects + len(rows.rejects),
                loaded_at=self._now(),
            )
            record(connection, receipt)
            return receipt, late

        receipt, late = transact(self._engine, finish)
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

    def _write(self, draft: Draft, course: _Course, group: Batch, fence: Fence) -> int:
        """Insert and commit what is absent of `group`; give how many audits were new."""
        if not group.audits and not group.rejects:
            return 0

        def work(connection: sa.Connection) -> tuple[int, Late]:
            inserted = self._insert(connection, course, group)
            fence(connection)
            return inserted

        new, late = transact(self._engine, work)
        _tell(draft, late)
        return new

    def _insert(self, connection: sa.Connection, course: _Course, group: Batch) -> tuple[int, Late]:
        """Insert what is absent of `group`; give how many audits were new, and how late."""
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
        by_id: dict[str, Audit],
        *,
        look_up: bool = True,
    ) -> list[Audit]:
        """Insert those that are not there, with their changes; give them.

        Raises:
            sqlalchemy.exc.IntegrityError: without a look-up one is there, or another process
                has inserted one meanwhile; the transaction must be undone.
        """
        key = schema.audit_events.c.id
        absent = absent_of(connection, key, organization, by_id) if look_up else sorted(by_id)
        audits = [by_id[audit_id] for audit_id in absent]
        rows = rows_of(organization, audits, self._now(), self._inserter.bound)
        self._inserter.insert(connection, *rows)
        return audits


def _tell(draft: Draft, late: Late) -> None:
    if late and draft.late:
        draft.late(late)
