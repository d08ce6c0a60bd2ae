"""Queries: those that are under way, to go on with after a restart, and those that failed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from etl.database.schema import queries
from etl.database.transactions import reading, transact
from etl.ledger.rows import key_of, of, window_key, windows_of
from etl.model import BACKFILL, FailedWindow, OpenQuery, Stream
from etl.window import Window, without

#: A query of a process that died is not taken up when it is older: its results have expired.
QUERY_AGE_MAX: Final = timedelta(hours=12)


def remember(
    engine: sa.Engine, stream: Stream, query: OpenQuery, schedule: str, *, failed: bool = False
) -> None:
    """Keep the query's id before its first page is read, so that a restart can go on with it.

    It takes the place of an earlier query for the same window.

    Args:
        failed: it has failed, at `asked_at`; an empty id: none was accepted. Its window stays until
            a receipt covers it, or `forget` drops it.
    """

    def work(connection: sa.Connection) -> None:
        connection.execute(_delete(stream, query.window))
        row = {"query_id": query.query_id, "schedule": schedule}
        times = {"asked_at": query.asked_at, "failed_at": query.asked_at if failed else None}
        connection.execute(sa.insert(queries), _key(stream, query.window) | row | times)

    transact(engine, work)


def forget(engine: sa.Engine, stream: Stream, window: Window) -> None:
    """Drop a query that came to nothing."""
    transact(engine, lambda connection: connection.execute(_delete(stream, window)))


def left_open(engine: sa.Engine, stream: Stream, schedule: str, now: datetime) -> list[OpenQuery]:
    """Queries that a dead process left and that can be gone on with, by window.

    Those of a backfill are for a backfill, all others for any schedule: a stream's lease is
    held by one process, but a backfill may be at work beside it. Older ones are dropped.
    """
    backfilled = queries.c.schedule == BACKFILL
    query = (
        sa.select(queries)
        .where(
            *of(queries, stream),
            backfilled if schedule == BACKFILL else ~backfilled,
            queries.c.failed_at.is_(None),
        )
        .order_by(queries.c.window_start, queries.c.window_end)
    )
    with reading(engine) as connection:
        rows = connection.execute(query).mappings().all()
    left: list[OpenQuery] = []
    for row in rows:
        window = Window(row["window_start"], row["window_end"])
        by_a_wrong_clock = window.end > row["asked_at"] or row["asked_at"] > now
        if by_a_wrong_clock or now - row["asked_at"] > QUERY_AGE_MAX:
            forget(engine, stream, window)
        else:
            left.append(OpenQuery(window, row["query_id"], row["asked_at"]))
    return left


def failed(engine: sa.Engine, stream: Stream) -> list[FailedWindow]:
    """Windows that were asked for in vain, by start."""
    with reading(engine) as connection:
        return failed_in(connection, stream)


def failed_in(connection: sa.Connection, stream: Stream) -> list[FailedWindow]:
    """See `failed`."""
    table = queries.c
    query = (
        sa.select(table.window_start, table.window_end, table.query_id, table.failed_at)
        .where(*of(queries, stream), table.failed_at.is_not(None))
        .order_by(table.window_start, table.window_end)
    )
    return [
        FailedWindow(Window(start, end), not query_id, failed_at=failed_at)
        for start, end, query_id, failed_at in connection.execute(query)
    ]


def cut_failed(connection: sa.Connection, stream: Stream, start: datetime) -> None:
    """Drop windows that failed before `start`, and of one around it the part before."""
    table = queries.c
    before = (*of(queries, stream), table.failed_at.is_not(None), table.window_start < start)
    around = sa.select(queries).where(*before, table.window_end > start)
    rows = connection.execute(around).mappings().all()
    connection.execute(sa.delete(queries).where(*before))
    for row in rows:
        connection.execute(_delete(stream, Window(start, row["window_end"])))
        connection.execute(sa.insert(queries), dict(row) | {"window_start": start})


def forget_loaded(connection: sa.Connection, stream: Stream, window: Window) -> None:
    """Drop windows that failed, reach into `window`, and were loaded piece by piece since."""
    for failed in failed_in(connection, stream):
        if failed.failed_at is not None and failed.window.overlaps(window):
            since = windows_of(connection, stream, failed.window.start, since=failed.failed_at)
            if not any(without([failed.window], since)):
                connection.execute(_delete(stream, failed.window))


def _key(stream: Stream, window: Window) -> dict[str, Any]:
    return key_of(stream) | window_key(window)


def _delete(stream: Stream, window: Window) -> sa.Delete:
    return sa.delete(queries).where(
        *(queries.c[name] == value for name, value in _key(stream, window).items())
    )
