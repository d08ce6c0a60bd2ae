"""The values of progress: streams, marks, receipts and queries under way. Frozen, no effects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from etl.window import Window
from etl.wire import PAGE_SIZE_MAX

#: The stream that holds all services of an organisation in one query.
ALL_SERVICES: Final = "*"

#: What receipts of a backfill name as their schedule.
BACKFILL: Final = "backfill"

#: How many audits were late, by service and by the bound that they were later than, in seconds; see
#: `etl.lateness`.
Late = Counter[tuple[str, int]]


@dataclass(frozen=True, order=True, slots=True)
class Stream:
    """What has a watermark of its own.

    Attributes:
        organization: the organisation's name in the configuration.
        name: a service, or `*` for all services in one query.
    """

    organization: str
    name: str = ALL_SERVICES

    def __str__(self) -> str:
        return f"{self.organization}/{self.name}"

    @property
    def service(self) -> str | None:
        """The service to ask for; None for all."""
        return None if self.name == ALL_SERVICES else self.name


#: How long the vendor keeps an audit: "at a minimum ... less than one year old", by its help pages.
RETENTION: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a stream is sure: every audit of `[begins_at, watermark)` has been loaded."""

    begins_at: datetime
    watermark: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that one window was loaded whole.

    Attributes:
        events: audits of the window that the query gave.
        new_events: those of them that the destination did not hold before.
        rejects: records of the query that could not be rows.
        requests: HTTP requests that it cost, polls and retries included.
        schedule: what asked for it: a schedule's name, `run` or `backfill`.
        started_at: when the query was created.
        loaded_at: when the last row was committed.
    """

    stream: Stream
    window: Window
    query_id: str
    events: int
    new_events: int
    rejects: int
    requests: int
    schedule: str
    started_at: datetime
    loaded_at: datetime

    @property
    def least_requests(self) -> int:
        """The fewest requests that could have brought as much; see `least_requests`."""
        return least_requests(self.events + self.rejects)


def least_requests(records: int) -> int:
    """The fewest requests that bring so many records: a query, one poll, and full pages of it."""
    return 2 + max(1, ceil(records / PAGE_SIZE_MAX))


@dataclass(frozen=True, slots=True)
class Verification:
    """What comparing a window's ids with the source's has found.

    Attributes:
        events: audits that the source showed.
        missing: those of them that the destination did not hold.
        extra: audits that it held and the source did not show: forgotten there, as a rule.
        repaired: missing audits that were loaded in the same pass.
        verified_at: when the comparison was done.
    """

    stream: Stream
    window: Window
    events: int
    missing: int
    extra: int
    repaired: int
    verified_at: datetime


@dataclass(frozen=True, slots=True)
class OpenQuery:
    """A query that was created and has no receipt yet."""

    window: Window
    query_id: str
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Draft:
    """What is known of a receipt before the window is loaded.

    Attributes:
        requests: tells, when asked at the end, how many requests the window has cost.
        late: is told of late arrivals once they are durable; None if nobody asks.
    """

    stream: Stream
    window: Window
    query_id: str
    schedule: str
    started_at: datetime
    requests: Callable[[], int]
    late: Callable[[Late], None] | None = None

    def receipt(
        self, *, events: int, new_events: int, rejects: int, loaded_at: datetime
    ) -> Receipt:
        """The receipt, earned by counts of what was read and of what was new."""
        return Receipt(
            stream=self.stream,
            window=self.window,
            query_id=self.query_id,
            events=events,
            new_events=new_events,
            rejects=rejects,
            requests=self.requests(),
            schedule=self.schedule,
            started_at=self.started_at,
            loaded_at=loaded_at,
        )
