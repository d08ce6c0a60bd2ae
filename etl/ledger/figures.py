"""Figures: what the loads of a stream have brought and cost."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from etl.database.schema import audit_rejects, receipts
from etl.database.transactions import reading
from etl.ledger.rows import of
from etl.model import Stream, least_requests
from etl.window import Window, joined


def new_events(engine: sa.Engine, stream: Stream, since: datetime) -> int:
    """How many audits were new in the windows that were loaded at `since` or later."""
    query = sa.select(sa.func.sum(receipts.c.new_events)).where(
        *of(receipts, stream), receipts.c.loaded_at >= since
    )
    with reading(engine) as connection:
        return int(connection.execute(query).scalar_one() or 0)


def looked_back(engine: sa.Engine, stream: Stream, since: datetime) -> timedelta:
    """How old the oldest loaded time was that a query since then has asked for again.

    It is counted to the creation of that query; zero if no loaded time was asked for again.
    """
    table = receipts.c
    query = (
        sa.select(table.window_start, table.window_end, table.started_at, table.loaded_at)
        .where(*of(receipts, stream))
        .order_by(table.receipt_id)
    )
    known: list[Window] = []
    reach = timedelta(0)
    with reading(engine) as connection:
        for start, end, started_at, loaded_at in connection.execute(query):
            window = Window(start, end)
            if loaded_at >= since:
                again = [max(start, part.start) for part in known if part.overlaps(window)]
                reach = max([reach, *(started_at - moment for moment in again)])
            known = joined([*known, window])
    return reach


class Cost(NamedTuple):
    """What a window has cost.

    Attributes:
        least: the fewest that could have brought as much.
    """

    loaded_at: datetime
    requests: int
    least: int


def costs(engine: sa.Engine, stream: Stream, since: datetime) -> list[Cost]:
    """What each window has cost that was loaded since then, the oldest first."""
    table = receipts.c
    query = (
        sa.select(table.loaded_at, table.requests, table.events + table.rejects)
        .where(*of(receipts, stream), table.loaded_at >= since)
        .order_by(table.loaded_at)
    )
    with reading(engine) as connection:
        return [
            Cost(loaded_at, spent, min(spent, least_requests(records)))
            for loaded_at, spent, records in connection.execute(query)
        ]


def rejects(engine: sa.Engine, organization: str) -> int:
    """How many records of the organisation are kept aside."""
    query = sa.select(sa.func.count()).where(audit_rejects.c.organization == organization)
    with reading(engine) as connection:
        return int(connection.execute(query).scalar_one())
