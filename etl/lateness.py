"""How late audits arrived: counted by service in steps of lateness, and what that says of the lag.

An audit is late if it is new although its time had been loaded before: when that time was asked for
last, the organisation did not show it. How late is told by the query that brought it: at most as
long after its time as that query was created. Counts are added in the transaction of the audits
that they count, and kept by month, so that one can see whether a change has helped.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from etl.database import reading
from etl.progress import Late, Stream
from etl.schema import late_arrivals
from etl.window import Window, format_duration

#: An audit counts under the last of these that it is later than.
BOUNDS: Final = (
    timedelta(0),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(days=1),
    timedelta(days=3),
    timedelta(days=7),
    timedelta(days=14),
    timedelta(days=30),
)
#: The column's width; the vendor's own names have at most 60 characters.
NAME_LENGTH_MAX: Final = 128
#: So late at most, an audit would have been in time with a longer lag.
LAG_BOUND: Final = timedelta(hours=1)
#: The part of new audits that may come so late before a longer lag is recommended.
LATE_PART: Final = 0.01


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a window before it is loaded.

    Attributes:
        loaded: its parts that have been loaded before.
        asked_at: when the query that is being loaded was created.
    """

    stream: Stream
    loaded: Sequence[Window]
    asked_at: datetime

    def late(self, new: Iterable[tuple[datetime, str | None]]) -> Late:
        """Count those of the `new` audits that are late, each given by its time and service."""
        found = Late()
        if self.loaded:
            for moment, service in new:
                if any(moment in window for window in self.loaded):
                    found[(service or "")[:NAME_LENGTH_MAX], bound_of(self.asked_at - moment)] += 1
        return found


@dataclass(frozen=True, slots=True)
class LateArrivals:
    """Audits of one service that were late by a step.

    Attributes:
        over: they were later than this, and not later than the next of `BOUNDS`.
    """

    service: str
    over: timedelta
    audits: int


def bound_of(lateness: timedelta) -> int:
    """The last of `BOUNDS` that `lateness` exceeds, in seconds."""
    return int(BOUNDS[max(0, bisect_left(BOUNDS, lateness) - 1)].total_seconds())


def add(connection: sa.Connection, stream: Stream, late: Late, now: datetime) -> None:
    """Add to the counts of this month, in the transaction of the audits that are counted."""
    for (service, over), audits in sorted(late.items()):
        key = {
            "organization": stream.organization,
            "stream": stream.name,
            "month": _month(now),
            "service": service,
            "over_seconds": over,
        }
        more = (
            sa.update(late_arrivals)
            .where(*(late_arrivals.c[name] == value for name, value in key.items()))
            .values(audits=late_arrivals.c.audits + audits)
        )
        if connection.execute(more).rowcount == 0:
            connection.execute(sa.insert(late_arrivals), key | {"audits": audits})


def arrivals(engine: sa.Engine, stream: Stream, since: datetime) -> list[LateArrivals]:
    """What was late since the month of `since`, by service and step."""
    table = late_arrivals.c
    query = (
        sa.select(table.service, table.over_seconds, sa.func.sum(table.audits))
        .where(
            table.organization == stream.organization,
            table.stream == stream.name,
            table.month >= _month(since),
        )
        .group_by(table.service, table.over_seconds)
        .order_by(table.service, table.over_seconds)
    )
    with reading(engine) as connection:
        return [
            LateArrivals(service, timedelta(seconds=int(over)), int(audits))
            for service, over, audits in connection.execute(query)
        ]


def advice(late: Sequence[LateArrivals], new_events: int, longest: timedelta) -> str:
    """Whether the lag and the lookbacks fit what was late, in a sentence.

    Args:
        late: what was late.
        new_events: audits that were new in the same time, late or not.
        longest: the longest lookback of the schedules.
    """
    count = sum(part.audits for part in late)
    if count == 0:
        return "lag and lookbacks fit: nothing came late"
    beyond = sum(part.audits for part in late if part.over >= longest)
    if beyond:
        return (
            f"{beyond} audits came later than the longest lookback, {format_duration(longest)}, "
            "and a backfill found them: lengthen a schedule's lookback, and run `audit-etl verify` "
            "over what lies behind"
        )
    soon = sum(part.audits for part in late if part.over < LAG_BOUND)
    if soon > LATE_PART * new_events:
        return (
            f"{soon} of {new_events} new audits came up to {format_duration(LAG_BOUND)} late: a "
            "longer lag would have them in time; the lookbacks have them all"
        )
    latest = max(part.over for part in late)
    return (
        f"lag and lookbacks fit: {count} of {new_events} new audits came late, the latest more "
        f"than {format_duration(latest)}, and the longest lookback is {format_duration(longest)}"
    )


def _month(instant: datetime) -> str:
    return instant.strftime("%Y-%m")
