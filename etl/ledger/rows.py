"""The rows of one stream, read and written inside a transaction of the caller's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from etl.database.schema import receipts, watermarks
from etl.model import Stream, Watermark
from etl.window import Window


def of(table: sa.Table, stream: Stream) -> tuple[sa.ColumnElement[bool], ...]:
    """The condition for the stream's rows of a table."""
    return table.c.organization == stream.organization, table.c.stream == stream.name


def key_of(stream: Stream) -> dict[str, Any]:
    """The columns that name the stream."""
    return {"organization": stream.organization, "stream": stream.name}


def window_key(window: Window) -> dict[str, datetime]:
    """The columns that name a window."""
    return {"window_start": window.start, "window_end": window.end}


def picked(value: object, *names: str) -> dict[str, Any]:
    """Attributes of a value, by their names and in that order."""
    return {name: getattr(value, name) for name in names}


def watermark_of(
    connection: sa.Connection, stream: Stream, *, lock: bool = False
) -> Watermark | None:
    """The stream's watermark; with `lock`, nobody else moves it until the commit."""
    query = sa.select(watermarks).where(*of(watermarks, stream))
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        return None
    return Watermark(row["begins_at"], row["watermark"], row["updated_at"])


def move(connection: sa.Connection, stream: Stream, to: Watermark) -> None:
    """Set the watermark of a stream that has one."""
    connection.execute(
        sa.update(watermarks)
        .where(*of(watermarks, stream))
        .values(begins_at=to.begins_at, watermark=to.reached, updated_at=to.updated_at)
    )


def windows_of(
    connection: sa.Connection,
    stream: Stream,
    after: datetime,
    until: datetime | None = None,
    since: datetime | None = None,
) -> list[Window]:
    """Windows with a receipt that end after `after`, by start.

    Args:
        after: bounds what is read: receipts are kept for years.
        until: they begin by then, if it is given.
        since: their queries were created then or later, if it is given.
    """
    query = sa.select(receipts.c.window_start, receipts.c.window_end).where(
        *of(receipts, stream), receipts.c.window_end > after
    )
    if until is not None:
        query = query.where(receipts.c.window_start <= until)
    if since is not None:
        query = query.where(receipts.c.started_at >= since)
    rows = connection.execute(query.distinct().order_by(receipts.c.window_start))
    return [Window(*row) for row in rows]
