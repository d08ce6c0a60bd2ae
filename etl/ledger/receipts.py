"""Progress: watermarks, receipts and the queries under way. Rows in the state database.

A receipt proves that one window was loaded whole. The watermark of a stream is the end of the
contiguous run of its receipts; it moves only in the transaction that writes a receipt, by
compare-and-set, and never back, unless it is ahead of the organisation's time: such a claim cannot
be true, and is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from etl.database.schema import (
    audit_rejects,
    late_arrivals,
    queries,
    receipts,
    verifications,
    void_receipts,
    watermarks,
)
from etl.database.transactions import reading, transact
from etl.model import (
    BACKFILL,
    FailedWindow,
    Load,
    OpenQuery,
    Receipt,
    Stream,
    TakenBack,
    Watermark,
    least_requests,
)
from etl.window import TIME_TOLERANCE, Window, advance, gaps, joined, spanning, without

#: A query of a process that died is not taken up when it is older: its results have expired.
QUERY_AGE_MAX: Final = timedelta(hours=12)
#: How many of the last receipts tell how dense a stream's audits are.
DENSITY_RECEIPTS: Final = 20
#: Before every window; the year 1 is more than some databases take.
_EARLIEST: Final = datetime(1970, 1, 2, tzinfo=UTC)


class Ledger:
    """The progress tables of one state database; see the module for the rules.

    Every method raises `DestinationUnavailable` if the database cannot be used.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def begin(self, stream: Stream, begins_at: datetime, now: datetime) -> Watermark:
        """The stream's watermark; a stream without one starts at `begins_at`, a whole second.

        Windows that a backfill has loaded from `begins_at` on count at once.
        """

        def work(connection: sa.Connection) -> Watermark:
            watermark = _watermark(connection, stream)
            if watermark is not None:
                return watermark
            covered = _covered(connection, stream, begins_at, None)
            watermark = Watermark(begins_at, advance(begins_at, covered), now)
            connection.execute(
                sa.insert(watermarks),
                _key(stream)
                | {"begins_at": begins_at, "watermark": watermark.reached, "updated_at": now},
            )
            return watermark

        return transact(self.engine, work)

    def begin_later(self, stream: Stream, begins_at: datetime, now: datetime) -> Watermark:
        """Give up time at the stream's beginning of which nothing was loaded; it has a watermark.

        Windows that failed there are dropped.
        """

        def work(connection: sa.Connection) -> Watermark:
            reached = advance(begins_at, _covered(connection, stream, begins_at, None))
            connection.execute(
                sa.update(watermarks)
                .where(*_of(watermarks, stream))
                .values(begins_at=begins_at, watermark=reached, updated_at=now)
            )
            given_up = queries.c.window_end <= begins_at, queries.c.failed_at.is_not(None)
            connection.execute(sa.delete(queries).where(*_of(queries, stream), *given_up))
            return Watermark(begins_at, reached, now)

        return transact(self.engine, work)

    def claimed_until(self, stream: Stream) -> datetime | None:
        """The latest instant that the watermark or a receipt is about; None without either."""
        query = sa.select(sa.func.max(receipts.c.window_end)).where(*_of(receipts, stream))
        with reading(self.engine) as connection:
            watermark, last = _watermark(connection, stream), connection.execute(query).scalar_one()
        return max(
            (moment for moment in (watermark and watermark.reached, last) if moment), default=None
        )

    def take_back(
        self,
        stream: Stream,
        now: datetime,
        begins_at: datetime,
        fence: Callable[[sa.Connection], None],
    ) -> TakenBack:
        """Take back what is claimed of time after `now`: a clock was wrong that claimed it.

        Receipts that reach beyond `now`, or that were written later than that, are void: they are
        moved to `void_receipts`. The watermark goes back to the end of what the others prove. If
        they do not prove the stream's first instant, it begins again, at `begins_at` at the latest.

        Args:
            stream: whose claims.
            now: the organisation's time.
            begins_at: where the stream would begin if it were new; a whole second.
            fence: see `Destination.load`.
        """

        def work(connection: sa.Connection) -> TakenBack:
            watermark = _watermark(connection, stream, lock=True)
            void = _void(connection, stream, now)
            proved = watermark and _proved(
                connection, stream, watermark, void, Watermark(begins_at, now, now)
            )
            if proved is not None:
                connection.execute(
                    sa.update(watermarks)
                    .where(*_of(watermarks, stream))
                    .values(
                        begins_at=proved.begins_at,
                        watermark=proved.reached,
                        updated_at=proved.updated_at,
                    )
                )
            fence(connection)
            return TakenBack(len(void), watermark, proved)

        return transact(self.engine, work)

    def watermark(self, stream: Stream) -> Watermark | None:
        """How far the stream is sure; None if it has never been exported."""
        with reading(self.engine) as connection:
            return _watermark(connection, stream)

    def streams(self) -> list[Stream]:
        """Every stream that has a watermark or a receipt, or was verified, sorted."""
        tables = watermarks.c, receipts.c, verifications.c
        query = sa.union(*(sa.select(table.organization, table.stream) for table in tables))
        with reading(self.engine) as connection:
            return sorted(Stream(str(row[0]), str(row[1])) for row in connection.execute(query))

    def loaded_after(self, stream: Stream, moment: datetime) -> list[Window]:
        """The time after `moment` that has been loaded, joined."""
        with reading(self.engine) as connection:
            return joined(_covered(connection, stream, moment, None))

    def covered(self, stream: Stream, since: datetime, after: datetime) -> list[Window]:
        """Windows that end after `after` and whose query was created at `since` or later, by start.

        `after` bounds what is read: receipts are kept for years.
        """
        with reading(self.engine) as connection:
            return _asked_since(connection, stream, since, after)

    def loaded(self, stream: Stream, window: Window) -> list[Window]:
        """The time around `window` that has been loaded, joined."""
        with reading(self.engine) as connection:
            return joined(_covered(connection, stream, window.start, window.end))

    def loads(self, stream: Stream, window: Window) -> list[Load]:
        """The loads of time that overlaps `window`, in the order in which they were done."""
        table = receipts.c
        query = (
            sa.select(
                table.window_start,
                table.window_end,
                table.events - sa.func.coalesce(table.repeated, 0),
            )
            .where(
                *_of(receipts, stream),
                table.window_end > window.start,
                table.window_start < window.end,
            )
            .order_by(table.receipt_id)
        )
        with reading(self.engine) as connection:
            return [Load(Window(start, end), n) for start, end, n in connection.execute(query)]

    def new_events(self, stream: Stream, since: datetime) -> int:
        """How many audits were new in the windows that were loaded at `since` or later."""
        query = sa.select(sa.func.sum(receipts.c.new_events)).where(
            *_of(receipts, stream), receipts.c.loaded_at >= since
        )
        with reading(self.engine) as connection:
            return int(connection.execute(query).scalar_one() or 0)

    def unexported_since(self, stream: Stream, earliest: datetime) -> datetime | None:
        """The first instant that was not loaded, of those after the first loaded one.

        Never before `earliest`. The watermark, unless a backfill of older time has left a gap
        behind it, or a gap of before `earliest` holds it up. None for a stream without a watermark.
        """
        old = sa.select(receipts.c.window_start, receipts.c.window_end).where(
            *_of(receipts, stream), receipts.c.window_end >= earliest
        )
        with reading(self.engine) as connection:
            watermark = _watermark(connection, stream)
            if watermark is None:
                return None
            rows = connection.execute(old.where(receipts.c.window_start < watermark.begins_at))
            covered = [Window(*row) for row in rows]
            reached = max(watermark.reached, earliest)
            if watermark.reached < earliest:
                reached = advance(earliest, _covered(connection, stream, earliest, None))
        first = min((window.start for window in covered), default=watermark.begins_at)
        left = (
            gap.start
            for span in spanning(max(first, earliest), watermark.begins_at)
            for gap in gaps(covered, span)
        )
        return next(left, reached)

    def gap_length(self, stream: Stream, earliest: datetime) -> timedelta:
        """How much time there is between the watermark and the last receipt without a receipt.

        Loaded time that was asked for again in vain counts, too. Time before `earliest` does not.
        """
        with reading(self.engine) as connection:
            watermark = _watermark(connection, stream)
            if watermark is None:
                return timedelta(0)
            start = max(watermark.reached, earliest)
            covered = _covered(connection, stream, start, None)
            failed = _failed(connection, stream)
        last = max((window.end for window in covered), default=start)
        left = [gap for span in spanning(start, last) for gap in gaps(covered, span)]
        again = (known.window for known in failed if known.window.end <= last)
        late = (part for one in again for part in spanning(max(one.start, earliest), one.end))
        return sum((gap.length for gap in joined([*left, *late])), timedelta(0))

    def gaps(self, stream: Stream, wanted_from: datetime | None = None) -> list[Window]:
        """Time between the stream's earliest and latest loaded instant that has no receipt.

        Loaded time that was asked for again in vain is a gap, too: audits may have come late there.
        It counts from `wanted_from` if that is earlier and the stream has a watermark. Time before
        the watermark counts as loaded, even if somebody has deleted its receipts.
        """
        first, last = receipts.c.window_start, receipts.c.window_end
        query = sa.select(sa.func.min(first), sa.func.max(last)).where(*_of(receipts, stream))
        with reading(self.engine) as connection:
            row = connection.execute(query).one()
            watermark = _watermark(connection, stream)
            of_watermark = (
                (watermark.begins_at, watermark.reached, wanted_from) if watermark else ()
            )
            bounds = [moment for moment in (*row, *of_watermark) if moment]
            if len(bounds) < 2 or min(bounds) >= max(bounds):
                return []
            span = Window(min(bounds), max(bounds))
            left = gaps(_covered(connection, stream, span.start, span.end), span)
            again = (known.window for known in _failed(connection, stream) if known.window in span)
            return joined([*left, *again])

    def looked_back(self, stream: Stream, since: datetime) -> timedelta:
        """How old the oldest loaded time was that a query since then has asked for again.

        It is counted to the creation of that query; zero if no loaded time was asked for again.
        """
        table = receipts.c
        query = (
            sa.select(table.window_start, table.window_end, table.started_at, table.loaded_at)
            .where(*_of(receipts, stream))
            .order_by(table.receipt_id)
        )
        known: list[Window] = []
        reach = timedelta(0)
        with reading(self.engine) as connection:
            for start, end, started_at, loaded_at in connection.execute(query):
                window = Window(start, end)
                if loaded_at >= since:
                    again = [max(start, part.start) for part in known if part.overlaps(window)]
                    reach = max([reach, *(started_at - moment for moment in again)])
                known = joined([*known, window])
        return reach

    def windows(self, stream: Stream) -> list[Window]:
        """Every window that was loaded, by start."""
        with reading(self.engine) as connection:
            return _covered(connection, stream, _EARLIEST, None)

    def last_receipt(self, stream: Stream) -> Receipt | None:
        """The receipt written last."""
        query = (
            sa.select(receipts)
            .where(*_of(receipts, stream))
            .order_by(receipts.c.receipt_id.desc())
            .limit(1)
        )
        with reading(self.engine) as connection:
            row = connection.execute(query).mappings().first()
            return None if row is None else _receipt(row)

    def requests(self, stream: Stream, since: datetime) -> tuple[int, int]:
        """Requests that the windows loaded since then have cost, and the fewest that could have."""
        table = receipts.c
        query = sa.select(table.requests, table.events + table.rejects).where(
            *_of(receipts, stream), table.loaded_at >= since
        )
        with reading(self.engine) as connection:
            rows = connection.execute(query).all()
        least = sum(min(spent, least_requests(records)) for spent, records in rows)
        return sum(spent for spent, _ in rows), least

    def rejects(self, organization: str) -> int:
        """How many records of the organisation are kept aside."""
        query = (
            sa.select(sa.func.count())
            .select_from(audit_rejects)
            .where(audit_rejects.c.organization == organization)
        )
        with reading(self.engine) as connection:
            return int(connection.execute(query).scalar_one())

    def density(self, stream: Stream) -> float | None:
        """Audits a second that the last windows held; None if nothing was loaded yet."""
        query = (
            sa.select(receipts.c.window_start, receipts.c.window_end, receipts.c.events)
            .where(*_of(receipts, stream))
            .order_by(receipts.c.receipt_id.desc())
            .limit(DENSITY_RECEIPTS)
        )
        with reading(self.engine) as connection:
            rows = connection.execute(query).all()
        seconds = sum((end - start).total_seconds() for start, end, _ in rows)
        return sum(events for _, _, events in rows) / seconds if seconds else None

    def remember_query(self, stream: Stream, query: OpenQuery, schedule: str) -> None:
        """Keep the query's id before its first page is read, so that a restart can go on with it.

        It takes the place of an earlier query for the same window.
        """

        def work(connection: sa.Connection) -> None:
            connection.execute(_delete_query(stream, query.window))
            connection.execute(
                sa.insert(queries),
                _query_key(stream, query.window)
                | {"query_id": query.query_id, "schedule": schedule, "asked_at": query.asked_at},
            )

        transact(self.engine, work)

    def forget_query(self, stream: Stream, window: Window) -> None:
        """Drop a query that came to nothing."""
        transact(self.engine, lambda connection: connection.execute(_delete_query(stream, window)))

    def open_queries(self, stream: Stream, schedule: str, now: datetime) -> list[OpenQuery]:
        """Queries that a dead process left and that can be gone on with, by window.

        Those of a backfill are for a backfill, all others for any schedule: a stream's lease is
        held by one process, but a backfill may be at work beside it. Older ones are dropped.
        """
        backfilled = queries.c.schedule == BACKFILL
        query = (
            sa.select(queries)
            .where(
                *_of(queries, stream),
                backfilled if schedule == BACKFILL else ~backfilled,
                queries.c.failed_at.is_(None),
            )
            .order_by(queries.c.window_start, queries.c.window_end)
        )
        with reading(self.engine) as connection:
            rows = connection.execute(query).mappings().all()
        left: list[OpenQuery] = []
        for row in rows:
            window = Window(row["window_start"], row["window_end"])
            by_a_wrong_clock = window.end > row["asked_at"] or row["asked_at"] > now
            if by_a_wrong_clock or now - row["asked_at"] > QUERY_AGE_MAX:
                self.forget_query(stream, window)
            else:
                left.append(OpenQuery(window, row["query_id"], row["asked_at"]))
        return left

    def keep_failed(self, stream: Stream, failed: OpenQuery, schedule: str) -> None:
        """Keep a window whose last query has failed, at `asked_at`; an empty id: none was accepted.

        It stays until a receipt covers it, or `forget_query` drops it.
        """

        def work(connection: sa.Connection) -> None:
            connection.execute(_delete_query(stream, failed.window))
            row = {"query_id": failed.query_id, "schedule": schedule}
            times = {"asked_at": failed.asked_at, "failed_at": failed.asked_at}
            connection.execute(sa.insert(queries), _query_key(stream, failed.window) | row | times)

        transact(self.engine, work)

    def failed(self, stream: Stream) -> list[FailedWindow]:
        """Windows that were asked for in vain, by start."""
        with reading(self.engine) as connection:
            return _failed(connection, stream)


def _failed(connection: sa.Connection, stream: Stream) -> list[FailedWindow]:
    table = queries.c
    query = (
        sa.select(table.window_start, table.window_end, table.query_id, table.failed_at)
        .where(*_of(queries, stream), table.failed_at.is_not(None))
        .order_by(table.window_start, table.window_end)
    )
    return [
        FailedWindow(Window(start, end), not query_id, failed_at=failed_at)
        for start, end, query_id, failed_at in connection.execute(query)
    ]


def _forget_loaded(connection: sa.Connection, stream: Stream, window: Window) -> None:
    """Drop windows that failed, reach into `window`, and were loaded piece by piece since."""
    for failed in _failed(connection, stream):
        if failed.failed_at is not None and failed.window.overlaps(window):
            since = _asked_since(connection, stream, failed.failed_at, failed.window.start)
            if not any(without([failed.window], since)):
                connection.execute(_delete_query(stream, failed.window))


def record(connection: sa.Connection, receipt: Receipt) -> None:
    """Write a receipt, drop the queries of its time, and move the watermark over all it reaches.

    To be called in the transaction of the window's last rows, or after they are durable: when
    that transaction commits, the window is done, and before it does, nothing is.
    """
    stream, window = receipt.stream, receipt.window
    connection.execute(
        sa.insert(receipts),
        _key(stream)
        | {
            "window_start": window.start,
            "window_end": window.end,
            "query_id": receipt.query_id,
            "events": receipt.events,
            "new_events": receipt.new_events,
            "rejects": receipt.rejects,
            "requests": receipt.requests,
            "schedule": receipt.schedule,
            "started_at": receipt.started_at,
            "loaded_at": receipt.loaded_at,
            "repeated": receipt.repeated,
        },
    )
    connection.execute(
        sa.delete(queries).where(
            *_of(queries, stream),
            queries.c.window_start >= window.start,
            queries.c.window_end <= window.end,
        )
    )
    _forget_loaded(connection, stream, window)
    while not _advance(connection, stream, receipt.loaded_at):
        pass  # another process moved it between our read and our write: read again


def restart(
    connection: sa.Connection, organization: str | None, now: datetime
) -> list[tuple[Stream, datetime]]:
    """Let streams begin again, as if nothing had been loaded of them; of all, if None is given.

    For an operator who says that the receipts are about something else: they are void, and
    watermarks go back to where the streams began.

    Returns:
        the streams that have a watermark, each with its beginning.
    """
    _set_aside(connection, _whose(receipts, organization), now)
    for table in (queries, verifications, late_arrivals):
        connection.execute(sa.delete(table).where(*_whose(table, organization)))
    of_these = _whose(watermarks, organization)
    again = {"watermark": watermarks.c.begins_at, "updated_at": now}
    connection.execute(sa.update(watermarks).where(*of_these).values(again))
    columns = watermarks.c.organization, watermarks.c.stream, watermarks.c.begins_at
    query = sa.select(*columns).where(*of_these)
    return sorted(
        (Stream(name, stream), begin) for name, stream, begin in connection.execute(query)
    )


def _whose(table: sa.Table, organization: str | None) -> list[sa.ColumnElement[bool]]:
    return [] if organization is None else [table.c.organization == organization]


def _advance(connection: sa.Connection, stream: Stream, now: datetime) -> bool:
    """Move the watermark by compare-and-set; False if another process moved it meanwhile."""
    watermark = _watermark(connection, stream, lock=True)
    if watermark is None:
        return True  # only backfilled so far: `begin` counts the receipt when the stream starts
    reached = advance(watermark.reached, _covered(connection, stream, watermark.reached, None))
    if reached == watermark.reached:
        return True
    moved = connection.execute(
        sa.update(watermarks)
        .where(*_of(watermarks, stream), watermarks.c.watermark == watermark.reached)
        .values(watermark=reached, updated_at=now)
    )
    return moved.rowcount == 1


def _void(connection: sa.Connection, stream: Stream, now: datetime) -> list[datetime]:
    """Move the receipts that cannot be true to `void_receipts`; give where their windows start."""
    latest = now + TIME_TOLERANCE
    which = (
        *_of(receipts, stream),
        sa.or_(receipts.c.window_end > latest, receipts.c.started_at > latest),
    )
    starts = connection.execute(sa.select(receipts.c.window_start).where(*which)).scalars().all()
    if starts:
        _set_aside(connection, which, now)
    return list(starts)


def _set_aside(
    connection: sa.Connection, which: Sequence[sa.ColumnElement[bool]], now: datetime
) -> None:
    """Move receipts to `void_receipts`."""
    voided_at = sa.literal(now, void_receipts.c.voided_at.type)
    names = [*receipts.c.keys(), "voided_at"]
    kept = sa.select(receipts, voided_at).where(*which)
    connection.execute(sa.insert(void_receipts).from_select(names, kept))
    connection.execute(sa.delete(receipts).where(*which))


def _proved(
    connection: sa.Connection,
    stream: Stream,
    watermark: Watermark,
    void: Sequence[datetime],
    new: Watermark,
) -> Watermark:
    """How far the receipts prove the stream, those taken away that start at `void`; else `new`."""
    # Before the first of these the others prove all. Without any, an operator set the watermark.
    first = min(watermark.reached, max(watermark.begins_at, min(void, default=watermark.begins_at)))
    reached = advance(first, _covered(connection, stream, first, None))
    if reached > watermark.begins_at:
        return replace(watermark, reached=reached, updated_at=new.updated_at)
    begins_at = min(watermark.begins_at, new.begins_at)
    reached = advance(begins_at, _covered(connection, stream, begins_at, None))
    return Watermark(begins_at, reached, new.updated_at)


def _key(stream: Stream) -> dict[str, Any]:
    return {"organization": stream.organization, "stream": stream.name}


def _query_key(stream: Stream, window: Window) -> dict[str, Any]:
    return _key(stream) | {"window_start": window.start, "window_end": window.end}


def _of(table: sa.Table, stream: Stream) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.organization == stream.organization, table.c.stream == stream.name


def _delete_query(stream: Stream, window: Window) -> sa.Delete:
    return sa.delete(queries).where(
        *(queries.c[name] == value for name, value in _query_key(stream, window).items())
    )


def _watermark(
    connection: sa.Connection, stream: Stream, *, lock: bool = False
) -> Watermark | None:
    query = sa.select(watermarks).where(*_of(watermarks, stream))
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        return None
    return Watermark(row["begins_at"], row["watermark"], row["updated_at"])


def _asked_since(
    connection: sa.Connection, stream: Stream, since: datetime, after: datetime
) -> list[Window]:
    """See `Ledger.covered`."""
    query = sa.select(receipts.c.window_start, receipts.c.window_end).where(
        *_of(receipts, stream), receipts.c.window_end > after, receipts.c.started_at >= since
    )
    rows = connection.execute(query.distinct().order_by(receipts.c.window_start))
    return [Window(*row) for row in rows]


def _covered(
    connection: sa.Connection, stream: Stream, start: datetime, end: datetime | None
) -> list[Window]:
    """Windows with a receipt that reach past `start`, and begin by `end` if one is given."""
    query = sa.select(receipts.c.window_start, receipts.c.window_end).where(
        *_of(receipts, stream), receipts.c.window_end > start
    )
    if end is not None:
        query = query.where(receipts.c.window_start <= end)
    rows = connection.execute(query.distinct().order_by(receipts.c.window_start))
    return [Window(*row) for row in rows]


def _receipt(row: sa.RowMapping) -> Receipt:
    fields = {name: row[name] for name in ("query_id", "events", "new_events", "rejects")}
    return Receipt(
        stream=Stream(row["organization"], row["stream"]),
        window=Window(row["window_start"], row["window_end"]),
        requests=row["requests"],
        schedule=row["schedule"],
        started_at=row["started_at"],
        loaded_at=row["loaded_at"],
        repeated=row["repeated"] or 0,
        **fields,
    )
