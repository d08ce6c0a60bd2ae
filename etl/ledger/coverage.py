"""How much of each day is loaded."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

from etl.ledger.receipts import Ledger
from etl.model import RETENTION, Stream
from etl.window import Window, floor_second, gaps

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


@dataclass(frozen=True, slots=True)
class Days:
    """The days of a stream.

    Attributes:
        coverage: how much of each is loaded, in order.
        counted: those of them whose audits were counted.
        audits: how many; a day of none is absent.
    """

    coverage: Sequence[tuple[date, Coverage]]
    counted: Sequence[date]
    audits: Mapping[date, int]


def days_of(
    ledger: Ledger, stream: Stream, begin: datetime, now: datetime
) -> list[tuple[date, Coverage]]:
    """How much of each day is loaded, to today.

    From where the stream begins, or from `begin` if that is earlier: where the configuration lets a
    new stream start. Never from before the copy is kept.
    """
    watermark, kept = ledger.watermark(stream), ledger.kept_from(stream.organization)
    if watermark is None:
        return []
    windows = ledger.windows(stream)
    first = min([begin, watermark.begins_at, *(window.start for window in windows[:1])])
    return list(coverage(windows, max(filter(None, (first, kept))), now))


def coverage(
    covered: Iterable[Window], begins_at: datetime, now: datetime
) -> Iterator[tuple[date, Coverage]]:
    """Each day, in UTC, from `begins_at` to today, which can only be loaded partly. Pure.

    A day after the last loaded instant is no gap: the next run asks for it.

    Args:
        covered: windows with a receipt.
        begins_at: where the stream starts, or what was loaded of it.
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
