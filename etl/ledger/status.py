"""What the ledger says of each stream: how far it is sure, and what is missing."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

from etl.ledger import claims, figures, lateness, verifications
from etl.ledger.gaps import gaps_of
from etl.ledger.lateness import LateArrivals
from etl.ledger.receipts import Ledger
from etl.model import RETENTION, Receipt, Stream, Verification, Watermark
from etl.window import TIME_TOLERANCE, Window, floor_second, gaps, joined

_DAY: Final = timedelta(days=1)


class Coverage(StrEnum):
    """How much of a day is loaded."""

    LOADED = "loaded"
    PARTLY = "partly"
    GAP = "gap"
    #: Nothing of it is, nor of any time after it.
    NOT_YET = "not yet"
    #: Nothing of it is, and the vendor has forgotten it.
    BEYOND_RETENTION = "beyond retention"


#: Late arrivals are told from the first of the month that it was so long ago.
LATE_SINCE: Final = timedelta(days=60)


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream as of an instant.

    Attributes:
        configured: whether the configuration names it; a stream of old may only be in the tables.
        watermark: its watermark; None if it has never run.
        behind: how far its watermark is from that instant; None if it has never run.
        claimed_ahead: up to where it is marked as loaded, if that lies after that instant.
        last_receipt: the receipt written last.
        gaps: time between its first and last loaded instant without a receipt, counted from where
            the configuration begins if that is earlier.
        rejects: records of its organisation that could not be rows.
        verified: the spans that were compared with the organisation, newest first.
        late: what came late since the month of `LATE_SINCE` ago, by service.
        new_events: audits that were new in the same time, late or not.
        looked_back: how far back loaded time was asked for again in the same time.
        early_unconfirmed: audits that were loaded early and that its exports have not shown,
            although they have asked for that time.
        requests: those that the windows of the last day have cost.
        least_requests: the fewest that could have brought as much.
    """

    stream: Stream
    configured: bool
    watermark: Watermark | None
    behind: timedelta | None
    claimed_ahead: datetime | None
    last_receipt: Receipt | None
    gaps: tuple[Window, ...]
    rejects: int
    verified: tuple[Verification, ...]
    late: tuple[LateArrivals, ...]
    new_events: int
    looked_back: timedelta
    early_unconfirmed: int
    requests: int
    least_requests: int


def gather(
    ledger: Ledger, configured: Iterable[Stream], begin: datetime, now: datetime
) -> list[StreamStatus]:
    """The status of every stream that is configured or has been run, sorted.

    Args:
        ledger: what was loaded.
        configured: the streams of the configuration.
        begin: where the configuration lets a new stream start.
        now: the time.
    """
    wanted = set(configured)
    known = {stream for stream in ledger.streams() if ledger.watermark(stream)}
    return [
        _status(ledger, stream, begin if stream in wanted else None, now)
        for stream in sorted(wanted | known)
    ]


def backfilled(ledger: Ledger, configured: Iterable[Stream]) -> dict[Stream, list[Window]]:
    """What backfills have loaded of single services that are no streams of their own."""
    apart = sorted(set(ledger.streams()) - set(configured))
    return {
        stream: joined(windows)
        for stream in apart
        if ledger.watermark(stream) is None and (windows := ledger.windows(stream))
    }


def _status(ledger: Ledger, stream: Stream, begin: datetime | None, now: datetime) -> StreamStatus:
    """One stream's status; `begin` is None if the configuration does not name it."""
    watermark, claimed = ledger.watermark(stream), claims.claimed_until(ledger.engine, stream)
    since = (now - LATE_SINCE).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    requests, least = figures.requests(ledger.engine, stream, now - _DAY)
    return StreamStatus(
        stream=stream,
        configured=begin is not None,
        watermark=watermark,
        behind=None if watermark is None else now - watermark.reached,
        claimed_ahead=claimed if claimed and claimed > now + TIME_TOLERANCE else None,
        last_receipt=ledger.last_receipt(stream),
        gaps=tuple(gaps_of(ledger.engine, stream, begin)),
        rejects=figures.rejects(ledger.engine, stream.organization),
        verified=tuple(verifications.spans(ledger.engine, stream)),
        late=tuple(lateness.arrivals(ledger.engine, stream, since)),
        new_events=figures.new_events(ledger.engine, stream, since),
        looked_back=figures.looked_back(ledger.engine, stream, since),
        early_unconfirmed=_unconfirmed(ledger, stream, watermark),
        requests=requests,
        least_requests=least,
    )


def _unconfirmed(ledger: Ledger, stream: Stream, watermark: Watermark | None) -> int:
    return lateness.unconfirmed(ledger.engine, stream, watermark.reached) if watermark else 0


def days_of(
    ledger: Ledger, stream: Stream, begin: datetime, now: datetime
) -> list[tuple[date, Coverage]]:
    """How much of each day is loaded, to today.

    From where the stream begins, or from `begin` if that is earlier: where the configuration lets a
    new stream start.
    """
    watermark = ledger.watermark(stream)
    if watermark is None:
        return []
    windows = ledger.windows(stream)
    first = min([begin, watermark.begins_at, *(window.start for window in windows[:1])])
    return list(coverage(windows, first, now))


def coverage(
    covered: Iterable[Window], begins_at: datetime, now: datetime
) -> Iterator[tuple[date, Coverage]]:
    """Each day, in UTC, from `begins_at` to today, which can only be loaded partly. Pure.

    A day after the last loaded instant is no gap: the next run asks for it.

    Args:
        covered: windows with a receipt.
        begins_at: where the stream starts, or what was loaded of it.
        now: the time.
    """
    if begins_at >= floor_second(now):
        return
    windows = list(covered)
    reached = max((window.end for window in windows), default=begins_at)
    missing = _missing(gaps(windows, Window(floor_second(begins_at), floor_second(now))))
    for day in _days(begins_at, now):
        span = min(_midnight(day) + _DAY, now) - max(_midnight(day), begins_at)
        if not missing[day]:
            yield day, Coverage.LOADED if day < now.date() else Coverage.PARTLY
        elif missing[day] < int(span.total_seconds()):
            yield day, Coverage.PARTLY
        elif _midnight(day) + _DAY <= now - RETENTION:
            yield day, Coverage.BEYOND_RETENTION
        elif _midnight(day) >= reached:
            yield day, Coverage.NOT_YET
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
