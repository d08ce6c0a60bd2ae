"""Progress: watermarks, receipts and the queries under way. Rows in the state database.

A receipt proves that one window was loaded whole. The watermark of a stream is the end of the
contiguous run of its receipts; it moves only in the transaction that writes a receipt, by
compare-and-set, and never back.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from etl.database import reading, transact
from etl.progress import BACKFILL, Mark, OpenQuery, Receipt, Stream, least_requests
from etl.schema import audit_rejects, queries, receipts, verifications, watermarks
from etl.window import Window, advance, gaps, joined, spanning

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

    def begin(self, stream: Stream, begins_at: datetime, now: datetime) -> Mark:
        """The stream's mark; a stream without one starts at `begins_at`, a whole second.

        Windows that a backfill has loaded from `begins_at` on count at once.
        """

        def work(connection: sa.Connection) -> Mark:
            mark = _mark(connection, stream)
            if mark is not None:
                return mark
            covered = _covered(connection, stream, begins_at, None)
            mark = Mark(begins_at, advance(begins_at, covered), now)
            connection.execute(
                sa.insert(watermarks),
                _key(stream)
                | {"begins_at": begins_at, "watermark": mark.watermark, "updated_at": now},
            )
            return mark

        return transact(self.engine, work)

    def mark(self, stream: Stream) -> Mark | None:
        """How far the stream is sure; None if it has never been exported."""
        with reading(self.engine) as connection:
            return _mark(connection, stream)

    def streams(self) -> list[Stream]:
        """Every stream that has a watermark or a receipt, or was verified, sorted."""
        tables = watermarks.c, receipts.c, verifications.c
        query = sa.union(*(sa.select(table.organization, table.stream) for table in tables))
        with reading(self.engine) as connection:
            return sorted(Stream(str(row[0]), str(row[1])) for row in connection.execute(query))

    def covered(self, stream: Stream, since: datetime, after: datetime) -> list[Window]:
        """Windows that end after `after` and whose query was created at `since` or later, by start.

        `after` bounds what is read: receipts are kept for years.
        """
        query = (
            sa.select(receipts.c.window_start, receipts.c.window_end)
            .where(
                *_of(receipts, stream),
                receipts.c.window_end > after,
                receipts.c.started_at >= since,
            )
            .distinct()
            .order_by(receipts.c.window_start)
        )
        with reading(self.engine) as connection:
            return [Window(*row) for row in connection.execute(query)]

    def loaded(self, stream: Stream, window: Window) -> list[Window]:
        """The time around `window` that has been loaded, joined."""
        with reading(self.engine) as connection:
            return joined(_covered(connection, stream, window.start, window.end))

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
        behind it. None for a stream without a watermark.
        """
        old = sa.select(receipts.c.window_start, receipts.c.window_end).where(
            *_of(receipts, stream), receipts.c.window_end >= earliest
        )
        with reading(self.engine) as connection:
            mark = _mark(connection, stream)
            if mark is None:
                return None
            rows = connection.execute(old.where(receipts.c.window_start < mark.begins_at))
            covered = [Window(*row) for row in rows]
        first = min((window.start for window in covered), default=mark.begins_at)
        left = (
            gap.start
            for span in spanning(max(first, earliest), mark.begins_at)
            for gap in gaps(covered, span)
        )
        return next(left, max(mark.watermark, earliest))

    def gaps(self, stream: Stream) -> list[Window]:
        """Time between the stream's earliest and latest loaded instant that has no receipt."""
        first, last = receipts.c.window_start, receipts.c.window_end
        query = sa.select(sa.func.min(first), sa.func.max(last)).where(*_of(receipts, stream))
        with reading(self.engine) as connection:
            row = connection.execute(query).one()
            mark = _mark(connection, stream)
            bounds = [moment for moment in (*row, mark and mark.begins_at) if moment]
            if len(bounds) < 2 or min(bounds) >= max(bounds):
                return []
            span = Window(min(bounds), max(bounds))
            return list(gaps(_covered(connection, stream, span.start, span.end), span))

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
        return sum(spent for spent, _ in rows), sum(least_requests(n) for _, n in rows)

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
            .where(*_of(queries, stream), backfilled if schedule == BACKFILL else ~backfilled)
            .order_by(queries.c.window_start, queries.c.window_end)
        )
        with reading(self.engine) as connection:
            rows = connection.execute(query).mappings().all()
        left: list[OpenQuery] = []
        for row in rows:
            window = Window(row["window_start"], row["window_end"])
            if now - row["asked_at"] > QUERY_AGE_MAX:
                self.forget_query(stream, window)
            else:
                left.append(OpenQuery(window, row["query_id"], row["asked_at"]))
        return left


def record(connection: sa.Connection, receipt: Receipt) -> None:
    """Write a receipt, drop its query, and move the watermark over every receipt it reaches.

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
        },
    )
    connection.execute(_delete_query(stream, window))
    while not _advance(connection, stream, receipt.loaded_at):
        pass  # another process moved it between our read and our write: read again


def _advance(connection: sa.Connection, stream: Stream, now: datetime) -> bool:
    """Move the watermark by compare-and-set; False if another process moved it meanwhile."""
    mark = _mark(connection, stream, lock=True)
    if mark is None:
        return True  # only backfilled so far: `begin` counts the receipt when the stream starts
    reached = advance(mark.watermark, _covered(connection, stream, mark.watermark, None))
    if reached == mark.watermark:
        return True
    moved = connection.execute(
        sa.update(watermarks)
        .where(*_of(watermarks, stream), watermarks.c.watermark == mark.watermark)
        .values(watermark=reached, updated_at=now)
    )
    return moved.rowcount == 1


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


def _mark(connection: sa.Connection, stream: Stream, *, lock: bool = False) -> Mark | None:
    query = sa.select(watermarks).where(*_of(watermarks, stream))
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        return None
    return Mark(row["begins_at"], row["watermark"], row["updated_at"])


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
        **fields,
    )
