"""Audits in SQL tables: SQLite, PostgreSQL, MySQL and MariaDB.

Rows are inserted where absent. Each group of audits goes in one short transaction: look up which
ids are there, insert the others with their children, commit. Should one of them be there all the
same, as another process may have inserted it meanwhile, the primary key refuses, and the group is
tried again: so children never stand without their parent, nor beside another version's. In time
that was never loaded before nothing is looked up until that happens. If the key refuses what was
looked up, children without a parent may be in the way, because somebody deleted the parents alone:
these are replaced. No transaction spans a request to the source. The last group's transaction also
writes the receipt and moves the watermark.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from itertools import islice
from typing import NamedTuple

import sqlalchemy as sa

from etl.database import schema
from etl.database.transactions import checkpointed, reading, transact
from etl.destinations import Fence, Held
from etl.destinations.sql import statistics
from etl.destinations.sql.fitting import fitting
from etl.destinations.sql.groups import grouped
from etl.destinations.sql.inserter import Inserter
from etl.destinations.sql.keys import (
    Scope,
    absent_of,
    delete_early,
    delete_orphans,
    rows_of_keys,
    timed,
)
from etl.destinations.sql.malloc_trim import give_back
from etl.destinations.sql.rejects import insert_rejects
from etl.destinations.sql.rows import rows_of
from etl.destinations.sql.written import NONE, Total, Written
from etl.errors import AuditTooLarge
from etl.ledger import lateness
from etl.ledger.lateness import LoadHistory, warn_of_loss
from etl.ledger.receipts import Ledger, record
from etl.model import ALL_SERVICES, PendingReceipt, Receipt, Stream
from etl.records import Audit, Batch
from etl.sizes import Sizes
from etl.window import Window


@dataclass(slots=True)
class _Checks:
    """What a load does before it inserts: more each time that a key refuses.

    Attributes:
        look_up: whether to look up which audits are there, at their time.
        anywhere: whether to look them up at whatever time.
        replace_orphans: whether to delete what is there of audits that are not.
    """

    look_up: bool
    anywhere: bool = False
    replace_orphans: bool = False

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Do more from now on if a key refuses what the block inserts."""
        try:
            yield
        except sa.exc.IntegrityError:
            self.replace_orphans = self.anywhere
            self.anywhere = self.look_up
            self.look_up = True
            raise


class _LoadState(NamedTuple):
    """One window on its way into the tables."""

    history: LoadHistory
    checks: _Checks


class SqlDestination:
    """The tables of `schema` in one database, which also holds the ledger. See `Destination`."""

    def __init__(
        self, engine: sa.Engine, now: Callable[[], datetime], sizes: Sizes = Sizes()
    ) -> None:
        self.ledger = Ledger(engine)
        self._engine = engine
        self._now = now
        self._sizes = sizes
        self._inserter = Inserter(engine.dialect, sizes)

    def prepared(self, batch: Batch) -> Batch:
        """See `Destination.prepared`: rows are made of absent audits only."""
        return batch

    def load(self, pending: PendingReceipt, batches: Iterable[Batch], fence: Fence) -> Receipt:
        """See `Destination.load`."""
        total = Total()
        loads = self.ledger.loads(pending.stream, pending.window)
        history = LoadHistory(pending.stream, loads, pending.started_at)
        state = _LoadState(history, _Checks(look_up=bool(history.loads)))
        left_out: list[AuditTooLarge] = []
        groups = grouped(batches, self._sizes.group_bytes)
        with checkpointed(self._engine):
            group, is_last = next(groups)
        while not is_last:
            total.add(pending, fitting(partial(self._write, state, fence), group, left_out))
            with checkpointed(self._engine):
                del group  # the next group is not to be gathered beside it
                give_back()
                group, is_last = next(groups)

        def finish(last: Batch) -> tuple[Receipt | None, Written]:
            def work(connection: sa.Connection) -> tuple[Receipt | None, Written]:
                written = self._insert(connection, state, last)
                statistics.gather(connection, total.new_events + len(written.new))
                fence(connection)
                if left_out:
                    return None, written
                receipt = total.receipt(pending, written)
                record(connection, receipt)
                return receipt, written

            return transact(self._engine, work)

        receipt, written = fitting(finish, group, left_out)
        total.add(pending, written)
        if receipt is None:
            raise left_out[0]
        warn_of_loss(pending.stream, pending.window, total.restored)
        return receipt

    def held(self, organization: str, window: Window, service: str | None) -> Iterator[Held]:
        """See `Destination.held`."""
        events, early = schema.audit_events, schema.early_audits
        columns = events.c.id, events.c.event_date, events.c.service_name, early.c.id.is_not(None)
        query = (
            sa.select(*columns)
            .select_from(events.outerjoin(early, _same_audit(events, early)))
            .where(*_of(Stream(organization, service or ALL_SERVICES), window))
            .execution_options(yield_per=self._sizes.held_rows)
        )
        with reading(self._engine) as connection:
            for row in connection.execute(query):
                yield Held(*row)

    def count(self, stream: Stream, span: Window) -> int:
        """See `Destination.count`."""
        with reading(self._engine) as connection:
            return _count(connection, stream, span)

    def look_up(self, organization: str, window: Window, ids: Iterable[str]) -> Iterator[Held]:  # noqa: ARG002 - the Protocol's
        """See `Destination.look_up`."""
        table, left = schema.audit_events.c, iter(ids)
        columns = (table.id, table.event_date, table.service_name)
        while some := list(islice(left, self._sizes.held_rows)):
            with reading(self._engine) as connection:
                found = list(rows_of_keys(self._scope(connection, organization), columns, some))
            yield from (Held(*row) for row in found)

    def load_early(self, organization: str, audits: Iterable[Audit]) -> int:
        """Insert audits that no window has brought yet; give how many were absent.

        Afterwards they are there once, with their changes, and marked in `early_audits`. There is
        no receipt and the watermark stays: a window that shows one of them puts its own record in
        the place of this one, which another query may have shown with less in it. An audit that
        is too large for the database is left out; that window fails with its error.
        """
        by_id = {audit.id: audit for audit in audits}
        checks = _Checks(look_up=True)

        def work(connection: sa.Connection) -> int:
            with checks.learning():
                scope = self._scope(connection, organization)
                absent = _absent(scope, by_id, checks)
                self._insert_absent(scope, absent, checks)
                now = self._inserter.bound.time(self._now())
                marks = ((organization, audit.id, now) for audit in absent)
                self._inserter.insert(connection, (schema.early_audits, marks))
            return len(absent)

        while True:
            try:
                return transact(self._engine, work)
            except AuditTooLarge as error:
                del by_id[error.key]

    def audits_a_day(self, stream: Stream, span: Window) -> Mapping[date, int]:
        """See `Destination.audits_a_day`."""
        event_date = schema.audit_events.c.event_date
        day = sa.func.substr(sa.cast(event_date, sa.CHAR(10)), 1, 10)
        query = sa.select(day, sa.func.count()).where(*_of(stream, span)).group_by(day)
        with reading(self._engine) as connection:
            return {
                date.fromisoformat(str(text)): int(count)
                for text, count in connection.execute(query)
            }

    def close(self) -> None:
        """See `Destination.close`."""
        self._engine.dispose()

    def _write(self, state: _LoadState, fence: Fence, group: Batch) -> Written:
        """Insert and commit what is absent of `group`."""
        if not group.audits and not group.rejects:
            return NONE

        def work(connection: sa.Connection) -> Written:
            written = self._insert(connection, state, group)
            fence(connection)
            return written

        return transact(self._engine, work)

    def _insert(self, connection: sa.Connection, state: _LoadState, group: Batch) -> Written:
        """Insert what is absent of `group`."""
        history, now = state.history, self._now()
        organization = history.stream.organization
        by_id = {audit.id: audit for audit in reversed(group.audits)}
        scope = self._scope(connection, organization)
        delete_early(scope, by_id)
        absent = _absent(scope, by_id, state.checks)
        times = ((audit.event_date, audit.service_name) for audit in absent)
        arrived = history.arrived(times, partial(_count, connection, history.stream))
        with state.checks.learning():
            self._insert_absent(scope, absent, state.checks)
        insert_rejects(connection, self._inserter, organization, group.rejects, now)
        lateness.add(connection, history.stream, arrived.late, history.asked_at)
        given, new = len(group.audits), [audit.id for audit in absent]
        return Written(given, given - len(by_id), new, arrived, len(group.rejects))

    def _scope(self, connection: sa.Connection, organization: str) -> Scope:
        return Scope(connection, organization, self._sizes.listed_keys)

    def _insert_absent(self, scope: Scope, absent: Sequence[Audit], checks: _Checks) -> None:
        """Insert audits that are not there, with their changes.

        Raises:
            sqlalchemy.exc.IntegrityError: without a look-up one is there, another process has
                inserted one meanwhile, or children of one are there; the transaction must be
                undone.
        """
        if checks.replace_orphans:
            delete_orphans(scope, [(audit.event_date, audit.id) for audit in absent])
        rows = rows_of(scope.organization, absent, self._now(), self._inserter.bound)
        self._inserter.insert(scope.connection, *rows)


def _absent(scope: Scope, by_id: Mapping[str, Audit], checks: _Checks) -> list[Audit]:
    """Those that are not there, by id; all of them unless they are to be looked up."""
    if not checks.look_up:
        return [by_id[audit_id] for audit_id in sorted(by_id)]
    times = () if checks.anywhere else [audit.event_date for audit in by_id.values()]
    absent = absent_of(scope, schema.audit_events.c.id, by_id, *timed(times))
    return [by_id[audit_id] for audit_id in absent]


def _count(connection: sa.Connection, stream: Stream, span: Window) -> int:
    """See `Destination.count`."""
    events, early = schema.audit_events, schema.early_audits
    every = sa.select(sa.func.count()).where(*_of(stream, span))
    unconfirmed = every.select_from(early.join(events, _same_audit(events, early)))
    count = connection.execute(every.select_from(events)).scalar_one()
    return int(count) - int(connection.execute(unconfirmed).scalar_one())


def _same_audit(one: sa.Table, other: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(one.c.organization == other.c.organization, one.c.id == other.c.id)


def _of(stream: Stream, span: Window) -> Iterator[sa.ColumnElement[bool]]:
    """What chooses the audits of a stream and a span."""
    table = schema.audit_events.c
    yield table.organization == stream.organization
    yield table.event_date >= span.start
    yield table.event_date < span.end
    if stream.service is not None:
        yield table.service_name == stream.service
