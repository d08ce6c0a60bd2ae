"""Gaps: time of a stream that no receipt covers."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from etl.database.schema import receipts
from etl.database.transactions import reading
from etl.ledger.queries import failed_in
from etl.ledger.retention import start_of
from etl.ledger.rows import of, watermark_of, windows_of
from etl.model import Stream
from etl.window import Window, advance, gaps, joined, spanning


def gaps_of(engine: sa.Engine, stream: Stream, wanted_from: datetime | None = None) -> list[Window]:
    """Time between the stream's earliest and latest loaded instant that has no receipt.

    Loaded time that was asked for again in vain is a gap, too: audits may have come late there.
    It counts from `wanted_from` if that is earlier and the stream has a watermark. Time before
    the watermark counts as loaded, even if somebody has deleted its receipts. Time that is no
    longer kept is no gap.
    """
    first, last = receipts.c.window_start, receipts.c.window_end
    query = sa.select(sa.func.min(first), sa.func.max(last)).where(*of(receipts, stream))
    with reading(engine) as connection:
        row = connection.execute(query).one()
        watermark = watermark_of(connection, stream)
        kept = start_of(connection, stream.organization)
        of_watermark = (watermark.begins_at, watermark.reached, wanted_from) if watermark else ()
        bounds = [moment for moment in (*row, *of_watermark) if moment]
        if not bounds or max(kept, min(bounds)) >= max(bounds):
            return []
        span = Window(max(kept, min(bounds)), max(bounds))
        left = gaps(windows_of(connection, stream, span.start, span.end), span)
        failed = (known.window for known in failed_in(connection, stream))
        again = (part for one in failed for part in spanning(max(kept, one.start), one.end))
        return joined([*left, *(part for part in again if part in span)])


def gap_length(engine: sa.Engine, stream: Stream, earliest: datetime) -> timedelta:
    """How much time there is between the watermark and the last receipt without a receipt.

    Loaded time that was asked for again in vain counts, too. Time before `earliest` does not.
    """
    with reading(engine) as connection:
        watermark = watermark_of(connection, stream)
        if watermark is None:
            return timedelta(0)
        start = max(watermark.reached, earliest)
        covered = windows_of(connection, stream, start)
        failed = failed_in(connection, stream)
    last = max((window.end for window in covered), default=start)
    left = [gap for span in spanning(start, last) for gap in gaps(covered, span)]
    again = (known.window for known in failed if known.window.end <= last)
    late = (part for one in again for part in spanning(max(one.start, earliest), one.end))
    return sum((gap.length for gap in joined([*left, *late])), timedelta(0))


def unexported_since(engine: sa.Engine, stream: Stream, earliest: datetime) -> datetime | None:
    """The first instant that was not loaded, of those after the first loaded one.

    Never before `earliest`. The watermark, unless a backfill of older time has left a gap
    behind it, or a gap of before `earliest` holds it up. None for a stream without a watermark.
    """
    old = sa.select(receipts.c.window_start, receipts.c.window_end).where(
        *of(receipts, stream), receipts.c.window_end >= earliest
    )
    with reading(engine) as connection:
        watermark = watermark_of(connection, stream)
        if watermark is None:
            return None
        rows = connection.execute(old.where(receipts.c.window_start < watermark.begins_at))
        covered = [Window(*row) for row in rows]
        reached = max(watermark.reached, earliest)
        if watermark.reached < earliest:
            reached = advance(earliest, windows_of(connection, stream, earliest))
    first = min((window.start for window in covered), default=watermark.begins_at)
    left = (
        gap.start
        for span in spanning(max(first, earliest), watermark.begins_at)
        for gap in gaps(covered, span)
    )
    return next(left, reached)
