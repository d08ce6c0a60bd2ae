"""What the ledger says of each stream: how far it is sure, and what is missing."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

from etl import lateness, verified
from etl.lateness import LateArrivals
from etl.ledger import Ledger
from etl.progress import RETENTION, Mark, Receipt, Stream, Verification
from etl.window import Window, floor_second, gaps

_DAY: Final = timedelta(days=1)


class Coverage(StrEnum):
    """How much of a day is loaded."""

    LOADED = "loaded"
    PARTLY = "partly"
    GAP = "gap"
    #: Nothing of it is, and the vendor has forgotten it.
    BEYOND_RETENTION = "beyond retention"


#: Late arrivals are told from the first of the month that it was so long ago.
LATE_SINCE: Final = timedelta(days=60)


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream as of an instant.

    Attributes:
        configured: whether the configuration names it; a stream of old may only be in the tables.
        mark: its watermark; None if it has never run.
        behind: how far its watermark is from that instant; None if it has never run.
        last_receipt: the receipt written last.
        gaps: time between its first and last loaded instant without a receipt.
        rejects: records of its organisation that could not be rows.
        verified: the spans that were compared with the organisation, newest first.
        late: what came late since the month of `LATE_SINCE` ago, by service.
        new_events: audits that were new in the same time, late or not.
        requests: those that the windows of the last day have cost.
        least_requests: the fewest that could have brought as much.
    """

    stream: Stream
    configured: bool
    mark: Mark | None
    behind: timedelta | None
    last_receipt: Receipt | None
    gaps: tuple[Window, ...]
    rejects: int
    verified: tuple[Verification, ...]
    late: tuple[LateArrivals, ...]
    new_events: int
    requests: int
    least_requests: int


def gather(ledger: Ledger, configured: Iterable[Stream], now: datetime) -> list[StreamStatus]:
    """The status of every stream that is configured or has been loaded, sorted."""
    wanted = set(configured)
    return [
        _status(ledger, stream, now, configured=stream in wanted)
        for stream in sorted(wanted | set(ledger.streams()))
    ]


def _status(ledger: Ledger, stream: Stream, now: datetime, *, configured: bool) -> StreamStatus:
    mark = ledger.mark(stream)
    since = (now - LATE_SINCE).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    requests, least = ledger.requests(stream, now - _DAY)
    return StreamStatus(
        stream=stream,
        configured=configured,
        mark=mark,
        behind=None if mark is None else now - mark.watermark,
        last_receipt=ledger.last_receipt(stream),
        gaps=tuple(ledger.gaps(stream)),
        rejects=ledger.rejects(stream.organization),
        verified=tuple(verified.spans(ledger.engine, stream)),
        late=tuple(lateness.arrivals(ledger.engine, stream, since)),
        new_events=ledger.new_events(stream, since),
        requests=requests,
        least_requests=least,
    )


def days_of(ledger: Ledger, stream: Stream, now: datetime) -> list[tuple[date, Coverage]]:
    """How much of each day is loaded, from where the stream begins to today."""
    windows = ledger.windows(stream)
    mark = ledger.mark(stream)
    begins = [window.start for window in windows[:1]] + ([mark.begins_at] if mark else [])
    return list(coverage(windows, min(begins), now)) if begins else []


def coverage(
    covered: Iterable[Window], begins_at: datetime, now: datetime
) -> Iterator[tuple[date, Coverage]]:
    """Each day, in UTC, from `begins_at` to today, which can only be loaded partly. Pure.

    Args:
        covered: windows with a receipt.
        begins_at: where the stream starts, or what was loaded of it.
        now: the time.
    """
    if begins_at >= floor_second(now):
        return
    missing = _missing(gaps(covered, Window(floor_second(begins_at), floor_second(now))))
    for day in _days(begins_at, now):
        span = min(_midnight(day) + _DAY, now) - max(_midnight(day), begins_at)
        if not missing[day]:
            yield day, Coverage.LOADED if day < now.date() else Coverage.PARTLY
        elif missing[day] < int(span.total_seconds()):
            yield day, Coverage.PARTLY
        elif _midnight(day) + _DAY <= now - RETENTION:
            yield day, Coverage.BEYOND_RETENTION
        else:
            yield day, Coverage.GAP


def _missing(spans: Iterable[Window]) -> Counter[date]:
    """Seconds of each day that lie in `spans`."""
    seconds: Counter[date] = Counter()
    for span in spans:
        for day in _days(span.start, span.end):
            start, end = max(_midnight(day), span.start), min(_midnight(day) + _DAY, span.end)
            seconds[day] += int((end - start).total_seconds())
    return seconds


def _days(start: datetime, end: datetime) -> Iterator[date]:
    """The days of `[start, end)`."""
    day = start.date()
    while _midnight(day) < end:
        yield day
        day += _DAY


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
