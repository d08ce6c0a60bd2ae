"""How late audits arrived: counted by service in steps of lateness, and what that says of the lag.

An audit is late if it is new although its time had been loaded before: when that time was asked for
last, the organisation did not show it. If fewer audits are held of that load than it counted, they
were removed here, and the audit is restored, not late: the vendor is not to blame. How late an
audit is follows from the query that brought it: at most as long after its time as that query was
created. Counts are added in the transaction of the audits that they count, and kept by month, so
that one can see whether a change has helped.
"""

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import sqlalchemy as sa

from etl.database.schema import audit_events, early_audits, late_arrivals
from etl.database.transactions import reading
from etl.ledger.retention import start_of
from etl.ledger.rows import key_of, of
from etl.model import Late, Load, Stream
from etl.window import Window, format_duration

_LOG = logging.getLogger(__name__)

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


class Arrived(NamedTuple):
    """What is new in time that had been loaded before.

    Attributes:
        late: what the organisation did not show when that time was loaded last.
        restored: how many audits fill in for those that were removed from the destination.
    """

    late: Late
    restored: int

    def __or__(self, other: "Arrived") -> "Arrived":
        return Arrived(self.late + other.late, self.restored + other.restored)


NOTHING: Final = Arrived(Late(), 0)


class LoadHistory:
    """What is known of a window before it is loaded.

    Args:
        loads: those of time that overlaps the window, in the order in which they were done.
        asked_at: when the query that is being loaded was created.
    """

    def __init__(self, stream: Stream, loads: Sequence[Load], asked_at: datetime) -> None:
        self.stream = stream
        self.loads = loads
        self.asked_at = asked_at
        self._edges, self._last = _last_loads(loads)
        self._is_short: dict[Load, bool] = {}

    def arrived(
        self, new: Iterable[tuple[datetime, str | None]], held: Callable[[Window], int]
    ) -> Arrived:
        """Sort out the `new` audits, each given by its time and service.

        To be called before they are inserted.

        Args:
            new: audits that the destination does not hold.
            held: counts the stream's audits of a window that the destination holds.
        """
        late, restored = Late(), 0
        for moment, service in new if self.loads else ():
            load = self._last[bisect_right(self._edges, moment)]
            if load is None:
                continue
            if self._lost(load, held):
                restored += 1
            else:
                late[(service or "")[:NAME_LENGTH_MAX], bound_of(self.asked_at - moment)] += 1
        return Arrived(late, restored)

    def _lost(self, load: Load, held: Callable[[Window], int]) -> bool:
        """Whether audits of a load are no longer held; counted once, before any is restored."""
        if load not in self._is_short:
            self._is_short[load] = held(load.window) < load.events
        return self._is_short[load]


def _last_loads(loads: Sequence[Load]) -> tuple[list[datetime], list[Load | None]]:
    """Edges in time, and the last load of what lies before the first, between two, and after."""
    edges = sorted({edge for load in loads for edge in (load.window.start, load.window.end)})
    last: list[Load | None] = [None] * (len(edges) + 1)
    for load in loads:
        start, end = (bisect_right(edges, e) for e in (load.window.start, load.window.end))
        last[start:end] = [load] * (end - start)
    return edges, last


def warn_of_loss(stream: Stream, window: Window, restored: int) -> None:
    """Say that audits were restored, if there are any: somebody should know why."""
    if restored:
        _LOG.warning(
            "%s %s: %d audits are new although fewer were held than had been loaded: rows or files "
            "were removed here, or an older backup was restored. They are there again, and do not "
            "count as late",
            stream,
            window,
            restored,
        )


@dataclass(frozen=True, slots=True)
class LateArrivals:
    """Audits of one service that were late by a step.

    Attributes:
        over: they were later than this, and not later than the next of `BOUNDS`.
    """

    service: str
    over: timedelta
    audits: int


def unconfirmed(engine: sa.Engine, stream: Stream, before: datetime) -> int:
    """How many audits of the stream that were loaded early lie before `before`, its watermark.

    Their time has been exported, and no export has shown them: a lookback may still do so, or the
    realtime query gives an audit another id than an export does. Those of before the copy is kept
    do not count.
    """
    query = sa.select(sa.func.count()).where(
        early_audits.c.organization == stream.organization,
        audit_events.c.organization == early_audits.c.organization,
        audit_events.c.id == early_audits.c.id,
        audit_events.c.event_date < before,
    )
    if stream.service is not None:
        query = query.where(audit_events.c.service_name == stream.service)
    with reading(engine) as connection:
        kept = audit_events.c.event_date >= start_of(connection, stream.organization)
        return int(connection.execute(query.where(kept)).scalar_one())


def bound_of(lateness: timedelta) -> int:
    """The last of `BOUNDS` that `lateness` exceeds, in seconds."""
    return int(BOUNDS[max(0, bisect_left(BOUNDS, lateness) - 1)].total_seconds())


def add(connection: sa.Connection, stream: Stream, late: Late, asked_at: datetime) -> None:
    """Add to the counts of the query's month, in the transaction of the audits that are counted."""
    for (service, over), audits in sorted(late.items()):
        step = {"month": _month(asked_at), "service": service, "over_seconds": over}
        key = key_of(stream) | step
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
        .where(*of(late_arrivals, stream), table.month >= _month(since))
        .group_by(table.service, table.over_seconds)
        .order_by(table.service, table.over_seconds)
    )
    with reading(engine) as connection:
        return [
            LateArrivals(service, timedelta(seconds=int(over)), int(audits))
            for service, over, audits in connection.execute(query)
        ]


def advice(
    late: Sequence[LateArrivals], new_events: int, longest: timedelta, looked_back: timedelta
) -> str:
    """Whether the lag and the lookbacks fit what was late, in a sentence.

    Args:
        new_events: audits that were new in the same time, late or not.
        longest: the longest lookback of the schedules.
        looked_back: how far back loaded time was asked for again in the same time.
    """
    if not looked_back:
        return (
            "it is not known whether lag and lookbacks fit: no loaded time has been asked for "
            "again yet"
        )
    count = sum(part.audits for part in late)
    proof = "" if looked_back >= longest else f" so far, with {_days(looked_back)} looked back"
    if count == 0:
        return f"lag and lookbacks fit{proof}: nothing came late"
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
        f"lag and lookbacks fit{proof}: {count} of {new_events} new audits came late, the latest "
        f"more than {format_duration(latest)}, and the longest lookback is "
        f"{format_duration(longest)}"
    )


def _days(length: timedelta) -> str:
    """A length of time in whole hours, or in whole seconds if it is shorter than one."""
    hour = timedelta(hours=1)
    return format_duration(length - length % hour if length >= hour else length)


def _month(instant: datetime) -> str:
    return instant.strftime("%Y-%m")
