"""Claims of loaded time that cannot be true, and how they are taken back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from etl.database.schema import (
    late_arrivals,
    queries,
    receipts,
    verifications,
    void_receipts,
    watermarks,
)
from etl.database.transactions import reading, transact
from etl.ledger.retention import start_of
from etl.ledger.rows import move, of, watermark_of, windows_of
from etl.model import Stream, TakenBack, Watermark
from etl.window import TIME_TOLERANCE, advance


def claimed_until(engine: sa.Engine, stream: Stream) -> datetime | None:
    """The latest instant that the watermark or a receipt is about; None without either."""
    query = sa.select(sa.func.max(receipts.c.window_end)).where(*of(receipts, stream))
    with reading(engine) as connection:
        watermark, last = watermark_of(connection, stream), connection.execute(query).scalar_one()
    return max(
        (moment for moment in (watermark and watermark.reached, last) if moment), default=None
    )


def take_back(
    engine: sa.Engine,
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
        now: the organisation's time.
        begins_at: where the stream would begin if it were new; a whole second.
        fence: see `Destination.load`.
    """

    def work(connection: sa.Connection) -> TakenBack:
        watermark = watermark_of(connection, stream, lock=True)
        void = _void(connection, stream, now)
        proved = watermark and _proved(
            connection, stream, watermark, void, Watermark(begins_at, now, now)
        )
        if proved is not None:
            move(connection, stream, proved)
        fence(connection)
        return TakenBack(len(void), watermark, proved)

    return transact(engine, work)


def restart(
    connection: sa.Connection, organization: str | None, now: datetime
) -> list[tuple[Stream, datetime]]:
    """Let streams begin again, as if nothing had been loaded of them; of all, if None is given.

    For an operator who says that the receipts are about something else: they are void, and
    watermarks go back to where the streams began. What is no longer kept stays out.

    Returns:
        the streams that have a watermark, each with where it begins again.
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
        (Stream(name, stream), max(begin, start_of(connection, name)))
        for name, stream, begin in connection.execute(query).all()
    )


def _whose(table: sa.Table, organization: str | None) -> list[sa.ColumnElement[bool]]:
    return [] if organization is None else [table.c.organization == organization]


def _void(connection: sa.Connection, stream: Stream, now: datetime) -> list[datetime]:
    """Move the receipts that cannot be true to `void_receipts`; give where their windows start."""
    latest = now + TIME_TOLERANCE
    which = (
        *of(receipts, stream),
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
    reached = advance(first, windows_of(connection, stream, first))
    if reached > watermark.begins_at:
        return replace(watermark, reached=reached, updated_at=new.updated_at)
    begins_at = min(watermark.begins_at, new.begins_at)
    reached = advance(begins_at, windows_of(connection, stream, begins_at))
    return Watermark(begins_at, reached, new.updated_at)
