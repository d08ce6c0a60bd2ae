"""The values of progress: streams, marks, receipts and queries under way. Frozen, no effects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from etl.window import Window, floor_second
from etl.wire import PAGE_SIZE_MAX

#: The stream that holds all services of an organisation in one query.
ALL_SERVICES: Final = "*"

#: The lease of a destination that has one writer: a lake.
WRITER: Final = "the writer of the lake"

#: What receipts of a backfill name as their schedule.
BACKFILL: Final = "backfill"
#: What receipts of a `run --lookback` name in the place of a schedule.
MANUAL: Final = "manual"

#: How many audits were late, by service and by the bound that they were later than, in seconds; see
#: `etl.ledger.lateness`.
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
#: So long before that it may have begun to forget: clocks differ.
FORGETTING: Final = timedelta(days=1)


def kept_since(now: datetime) -> datetime:
    """From when on the vendor is sure to have audits, a whole second."""
    return floor_second(now - RETENTION + FORGETTING)


@dataclass(frozen=True, order=True, slots=True)
class ServiceAction:
    """One kind of audit: a service, an entity type of it and an action on that."""

    service: str
    entity_type: str
    action: str


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a stream is sure: every audit of `[begins_at, reached)` has been loaded."""

    begins_at: datetime
    reached: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What was claimed of time that is not over, and is claimed no more.

    Attributes:
        receipts: how many are void.
        before: the watermark that claimed it; None for a stream that was only backfilled.
        after: what is left of it.
    """

    receipts: int
    before: Watermark | None
    after: Watermark | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that one window was loaded whole.

    Attributes:
        events: audits of the window that the query gave.
        new_events: audits that the destination did not hold before, those of other times included.
        rejects: records of the query that could not be rows.
        requests: HTTP requests that it cost, polls and retries included.
        schedule: what asked for it: a schedule's name, `run` or `backfill`.
        started_at: when the query was created, by the organisation's time.
        loaded_at: when the last row was committed, by the same.
        repeated: how many of `events` were of audits that the query had given before. One that it
            gives again long after may be missed.
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
    repeated: int = 0

    @property
    def least_requests(self) -> int:
        """The fewest requests that could have brought as much; never more than it has cost."""
        return min(self.requests, least_requests(self.events + self.rejects))


def least_requests(records: int) -> int:
    """The fewest requests that usually bring so many records: a query, one poll, and full pages.

    A query that succeeds at once needs no poll, and a download no pages.
    """
    return 2 + max(1, ceil(records / PAGE_SIZE_MAX))


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """What an answer should not have been.

    Attributes:
        outside: audits in it of times that were not asked for; they are loaded, and prove nothing.
        unshown: how many audits of the window the destination holds that it did not show, at least.
    """

    outside: int
    unshown: int


@dataclass(frozen=True, slots=True)
class Verification:
    """What comparing a window's ids with the source's has found.

    Attributes:
        events: audits that the source showed.
        missing: those of them that the destination did not hold.
        extra: audits that it held and the source did not show: forgotten there, as a rule.
        repaired: missing audits that were loaded in the same pass.
        verified_at: when the comparison was done.
        verified_by: the program that compared, with its version; None for 0.1.0.
        doubtful: whether `missing` and `repaired` may count audits that were there all the time.
    """

    stream: Stream
    window: Window
    events: int
    missing: int
    extra: int
    repaired: int
    verified_at: datetime
    verified_by: str | None = None
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """What a receipt says of one load of a window.

    Attributes:
        events: audits of the window that the query gave, each counted once.
    """

    window: Window
    events: int


@dataclass(frozen=True, slots=True)
class OpenQuery:
    """A query that was created and has no receipt yet."""

    window: Window
    query_id: str
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class FailedWindow:
    """A window that an earlier run has asked for in vain.

    Attributes:
        refused: the organisation did not even accept a query for it.
        excused: it is known to be older than the organisation accepts: no run fails for its sake.
        failed_at: when, by the organisation's time; None if that does not matter.
    """

    window: Window
    refused: bool
    excused: bool = False
    failed_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PendingReceipt:
    """What is known of a receipt before the window is loaded.

    Attributes:
        requests: tells, when asked at the end, how many requests the window has cost.
        now: the organisation's time, in which `started_at` is told too.
        late: is told of late arrivals once they are durable; None if nobody asks.
        outside: tells, when asked at the end, how many audits of other times the query gave.
        doubting: whether an answer that cannot be all is to be asked for again: a destination that
            finds it so raises `AnswerDoubtful`, and writes no receipt.
        new: is told of the ids of new audits: in SQL once they are durable, in a lake before they
            are published. None if nobody asks.
    """

    stream: Stream
    window: Window
    query_id: str
    schedule: str
    started_at: datetime
    requests: Callable[[], int]
    now: Callable[[], datetime]
    late: Callable[[Late], None] | None = None
    outside: Callable[[], int] = int
    doubting: bool = False
    new: Callable[[Iterable[str]], None] | None = None

    def receipt(self, *, events: int, new_events: int, rejects: int, repeated: int = 0) -> Receipt:
        """The receipt, earned by counts of all that was read and of what was new."""
        return Receipt(
            stream=self.stream,
            window=self.window,
            query_id=self.query_id,
            events=events - self.outside(),
            new_events=new_events,
            rejects=rejects,
            requests=self.requests(),
            schedule=self.schedule,
            started_at=self.started_at,
            loaded_at=self.now(),
            repeated=repeated,
        )
