"""Progress: watermarks and receipts. Rows in the ledger database.

A receipt proves that one window was loaded whole. The watermark of a stream is the end of the
contiguous run of its receipts; it moves only in the transaction that writes a receipt, by
compare-and-set, and never back, unless it is ahead of the organisation's time: such a claim cannot
be true, and is taken back.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from etl.database.schema import queries, receipts, verifications, watermarks
from etl.database.transactions import reading, transact
from etl.ledger import retention
from etl.ledger.queries import cut_failed, forget_loaded
from etl.ledger.rows import key_of, move, of, picked, watermark_of, window_key, windows_of
from etl.model import Load, Receipt, Stream, Watermark
from etl.window import Window, advance, joined, spanning

#: How many of the last receipts tell how dense a stream's audits are.
DENSITY_RECEIPTS: Final = 20
#: Columns of a receipt that its dataclass has by the same names.
_COPIED: Final = (
    *("query_id", "events", "new_events", "rejects", "requests"),
    *("schedule", "started_at", "loaded_at", "repeated"),
)


class Ledger:
    """The progress tables of one ledger database; see the module for the rules.

    Every method raises `DestinationUnavailable` if the database cannot be used.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def begin(self, stream: Stream, begins_at: datetime, now: datetime) -> Watermark:
        """The stream's watermark; a stream without one starts at `begins_at`, a whole second.

        Windows that a backfill has loaded from `begins_at` on count at once.
        """

        def work(connection: sa.Connection) -> Watermark:
            watermark = watermark_of(connection, stream)
            if watermark is not None:
                return watermark
            covered = windows_of(connection, stream, begins_at)
            watermark = Watermark(begins_at, advance(begins_at, covered), now)
            connection.execute(
                sa.insert(watermarks),
                key_of(stream)
                | {"begins_at": begins_at, "watermark": watermark.reached, "updated_at": now},
            )
            return watermark

        return transact(self.engine, work)

    def begin_later(self, stream: Stream, begins_at: datetime, now: datetime) -> Watermark:
        """Give up time at the stream's beginning: none of it was loaded, or it is no longer kept.

        The stream has a watermark. Windows that failed there are dropped.
        """

        def work(connection: sa.Connection) -> Watermark:
            before = watermark_of(connection, stream, lock=True)
            sure = max(begins_at, before.reached) if before else begins_at
            reached = advance(sure, windows_of(connection, stream, sure))
            watermark = Watermark(begins_at, reached, now)
            move(connection, stream, watermark)
            cut_failed(connection, stream, begins_at)
            return watermark

        return transact(self.engine, work)

    def kept_from(self, organization: str) -> datetime | None:
        """See `retention.kept_from`."""
        with reading(self.engine) as connection:
            return retention.kept_from(connection, organization)

    def watermark(self, stream: Stream) -> Watermark | None:
        """How far the stream is sure; None if it has never been exported.

        It begins no earlier than its organisation's audits are kept.
        """
        with reading(self.engine) as connection:
            kept = retention.start_of(connection, stream.organization)
            found = watermark_of(connection, stream)
        return found and replace(found, begins_at=max(found.begins_at, kept))

    def streams(self) -> list[Stream]:
        """Every stream that has a watermark or a receipt, or was verified, sorted."""
        tables = watermarks.c, receipts.c, verifications.c
        query = sa.union(*(sa.select(table.organization, table.stream) for table in tables))
        with reading(self.engine) as connection:
            return sorted(Stream(str(row[0]), str(row[1])) for row in connection.execute(query))

    def loaded(self, stream: Stream, window: Window) -> list[Window]:
        """The time around `window` that has been loaded, joined."""
        with reading(self.engine) as connection:
            return joined(windows_of(connection, stream, window.start, window.end))

    def loads(self, stream: Stream, window: Window) -> list[Load]:
        """The loads of time that overlaps `window`, in the order in which they were done.

        Where a part of a load was removed on purpose, it is not known how many audits the rest had.
        """
        table = receipts.c
        query = (
            sa.select(
                table.window_start,
                table.window_end,
                table.events - sa.func.coalesce(table.repeated, 0),
            )
            .where(
                *of(receipts, stream),
                table.window_end > window.start,
                table.window_start < window.end,
            )
            .order_by(table.receipt_id)
        )
        with reading(self.engine) as connection:
            kept = retention.start_of(connection, stream.organization)
            return [
                Load(Window(start, end), n if start >= kept else 0)
                for start, end, n in connection.execute(query)
            ]

    def windows(
        self, stream: Stream, after: datetime = retention.EARLIEST, since: datetime | None = None
    ) -> list[Window]:
        """Windows that were loaded, by start, without what is no longer kept; see `windows_of`."""
        with reading(self.engine) as connection:
            kept = retention.start_of(connection, stream.organization)
            found = windows_of(connection, stream, max(after, kept), since=since)
        return [part for one in found for part in spanning(max(one.start, kept), one.end)]

    def last_receipt(self, stream: Stream) -> Receipt | None:
        """The receipt written last."""
        query = (
            sa.select(receipts)
            .where(*of(receipts, stream))
            .order_by(receipts.c.receipt_id.desc())
            .limit(1)
        )
        with reading(self.engine) as connection:
            row = connection.execute(query).mappings().first()
            return None if row is None else _receipt(row)

    def density(self, stream: Stream) -> float | None:
        """Audits a second that the last windows held; None if nothing was loaded yet."""
        query = (
            sa.select(receipts.c.window_start, receipts.c.window_end, receipts.c.events)
            .where(*of(receipts, stream))
            .order_by(receipts.c.receipt_id.desc())
            .limit(DENSITY_RECEIPTS)
        )
        with reading(self.engine) as connection:
            rows = connection.execute(query).all()
        seconds = sum((end - start).total_seconds() for start, end, _ in rows)
        return sum(events for _, _, events in rows) / seconds if seconds else None


def record(connection: sa.Connection, receipt: Receipt) -> None:
    """Write a receipt, drop the queries of its time, and move the watermark over all it reaches.

    To be called in the transaction of the window's last rows, or after they are durable: when
    that transaction commits, the window is done, and before it does, nothing is.
    """
    stream, window = receipt.stream, receipt.window
    row = key_of(stream) | window_key(window) | picked(receipt, *_COPIED)
    connection.execute(sa.insert(receipts), row)
    connection.execute(
        sa.delete(queries).where(
            *of(queries, stream),
            queries.c.window_start >= window.start,
            queries.c.window_end <= window.end,
        )
    )
    forget_loaded(connection, stream, window)
    while not _advance(connection, stream, receipt.loaded_at):
        pass  # another process moved it between our read and our write: read again


def _advance(connection: sa.Connection, stream: Stream, now: datetime) -> bool:
    """Move the watermark by compare-and-set; False if another process moved it meanwhile."""
    watermark = watermark_of(connection, stream, lock=True)
    if watermark is None:
        return True  # only backfilled so far: `begin` counts the receipt when the stream starts
    reached = advance(watermark.reached, windows_of(connection, stream, watermark.reached))
    if reached == watermark.reached:
        return True
    moved = connection.execute(
        sa.update(watermarks)
        .where(*of(watermarks, stream), watermarks.c.watermark == watermark.reached)
        .values(watermark=reached, updated_at=now)
    )
    return moved.rowcount == 1


def _receipt(row: sa.RowMapping) -> Receipt:
    fields = {name: row[name] for name in _COPIED}
    return Receipt(
        stream=Stream(row["organization"], row["stream"]),
        window=Window(row["window_start"], row["window_end"]),
        **fields | {"repeated": row["repeated"] or 0},
    )
