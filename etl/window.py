"""Interval arithmetic: half-open UTC windows, how to cut them and what is due. Pure.

A window is `[start, end)` of event time. The vendor does not say whether its own interval
includes the end, and stamps audits with whole seconds, so windows start and end on whole
seconds and an audit belongs to exactly one of two neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

#: No query asks for more: the vendor's limit is 31 days by its error text, 30 by other reports.
WINDOW_MAX: Final = timedelta(days=30)
#: No query that failed is cut into less.
WINDOW_MIN: Final = timedelta(minutes=1)
#: Clocks that differ by no more may both be right.
CLOCKS_AGREE: Final = timedelta(minutes=5)
#: Clocks of one organisation's hosts, and what we make of them, differ by so much.
TIME_TOLERANCE: Final = timedelta(seconds=2)
#: Audits that one query should bring: large, so that its two extra requests weigh under 1 %.
ROWS_A_QUERY: Final = 100_000


@dataclass(frozen=True, order=True, slots=True)
class Window:
    """An interval of event time, closed at the start and open at the end.

    Attributes:
        start: first instant inside, UTC, a whole second.
        end: first instant after, UTC, a whole second, later than `start`.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for instant in (self.start, self.end):
            if instant.utcoffset() != timedelta(0):
                raise ValueError(f"a window needs UTC times, not {instant!r}")
            if instant.microsecond:
                raise ValueError(f"a window needs whole seconds, not {instant!r}")
        if self.end <= self.start:
            raise ValueError(f"a window must end after its start: {self}")

    def __str__(self) -> str:
        return f"{iso_utc(self.start)}/{iso_utc(self.end)}"

    def __contains__(self, other: datetime | Window) -> bool:
        if isinstance(other, Window):
            return self.start <= other.start and other.end <= self.end
        return self.start <= other < self.end

    def overlaps(self, other: Window) -> bool:
        """Whether some instant is inside both."""
        return self.start < other.end and other.start < self.end

    @property
    def length(self) -> timedelta:
        """How much event time the window holds."""
        return self.end - self.start

    def halves(self) -> tuple[Window, Window] | None:
        """Two windows that tile this one, or None if it is too short to be cut."""
        if self.length < 2 * WINDOW_MIN:
            return None
        middle = floor_second(self.start + self.length / 2)
        return Window(self.start, middle), Window(middle, self.end)


def floor_second(instant: datetime) -> datetime:
    """The whole UTC second that holds `instant`."""
    return instant.astimezone(UTC).replace(microsecond=0)


def iso_utc(instant: datetime) -> str:
    """ISO 8601 in UTC with `Z`, as short as the instant allows: what the vendor's samples use."""
    text = instant.astimezone(UTC).isoformat(
        timespec="milliseconds" if instant.microsecond else "seconds"
    )
    return text.replace("+00:00", "Z")


def cut(span: Window, piece: timedelta) -> Iterator[Window]:
    """Windows that tile `span` in order, each as long as `piece` but for the last.

    `piece` is held between `WINDOW_MIN` and `WINDOW_MAX`.
    """
    step = max(WINDOW_MIN, min(WINDOW_MAX, timedelta(seconds=int(piece.total_seconds()))))
    start = span.start
    while start < span.end:
        end = min(start + step, span.end)
        yield Window(start, end)
        start = end


def piece_for(density: float | None, longest: timedelta) -> timedelta:
    """How long a window should be to hold about `ROWS_A_QUERY` audits.

    Args:
        density: audits a second that recent windows held; None if nothing is known yet.
        longest: the configured `max_window`.
    """
    if not density:
        return longest
    return min(longest, timedelta(seconds=min(ROWS_A_QUERY / density, longest.total_seconds())))


def first_piece(span: Window, piece: timedelta, longest: timedelta) -> Window:
    """The start of `span` that one query should ask for: about `piece`, and at most `longest`.

    It ends at midnight, in UTC, if that changes its length by a quarter at most: where windows meet
    at midnight, a lake writes the file of each day once.
    """
    window = next(cut(span, piece))
    if window.end == span.end:
        return window
    midnight = window.end.replace(hour=0, minute=0, second=0)
    near = [
        Window(span.start, end)
        for end in (midnight, midnight + timedelta(days=1))
        if abs(end - window.end) <= window.length / 4
        and end <= span.end
        and WINDOW_MIN <= end - span.start <= min(longest, WINDOW_MAX)
    ]
    return min(near, key=lambda other: abs(other.end - window.end), default=window)


def last_piece(span: Window, piece: timedelta, longest: timedelta) -> Window:
    """The end of `span` that one query should ask for: about `piece`, and at most `longest`."""
    length = max(WINDOW_MIN, min(piece, longest, WINDOW_MAX))
    return Window(max(span.start, floor_second(span.end - length)), span.end)


def without(spans: Iterable[Window], taken: Iterable[Window]) -> list[Window]:
    """The parts of `spans` that no window of `taken` holds, in their order."""
    held = list(taken)
    return [part for span in spans for part in gaps(held, span)]


def by_density(span: Window, density: float | None, longest: timedelta) -> Iterator[Window]:
    """Windows that tile `span` in order, each one query's; see `piece_for` and `first_piece`."""
    start = span.start
    while start < span.end:
        rest = Window(start, span.end)
        window = first_piece(rest, piece_for(density, longest), longest)
        yield window
        start = window.end


def joined(windows: Iterable[Window]) -> list[Window]:
    """The same time in as few windows as possible, in order: what overlaps or touches is one."""
    result: list[Window] = []
    for window in sorted(windows):
        if result and window.start <= result[-1].end:
            result[-1] = Window(result[-1].start, max(result[-1].end, window.end))
        else:
            result.append(window)
    return result


def spanning(start: datetime, end: datetime) -> list[Window]:
    """`[start, end)` as a list of one window, or of none if it is empty."""
    return [Window(start, end)] if start < end else []


def advance(watermark: datetime, covered: Iterable[Window]) -> datetime:
    """The end of the contiguous run of `covered` windows that reaches `watermark`.

    Never earlier than `watermark`; a window that starts after the run's end is beyond a gap and
    is not counted.
    """
    for window in sorted(covered):
        if window.start <= watermark < window.end:
            watermark = window.end
    return watermark


def gaps(covered: Iterable[Window], span: Window) -> Iterator[Window]:
    """The parts of `span` that no window in `covered` holds, in order."""
    reached = span.start
    for window in sorted(covered):
        if window.start > reached and reached < span.end:
            yield Window(reached, min(window.start, span.end))
        reached = max(reached, window.end)
    if reached < span.end:
        yield Window(reached, span.end)


_DURATION = re.compile(r"(\d+)\s*(s|mo|m|h|d|w|y)")
_UNIT = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "mo": timedelta(days=30),
    "y": timedelta(days=365),
}


def parse_duration(text: str) -> timedelta:
    """`90s`, `10m`, `1h`, `3d`, `2w`, `6mo`, `1y`, or several in a row such as `1d12h`.

    A month has 30 days and a year 365.

    Raises:
        ValueError: the text is something else; the message says what is understood.
        OverflowError: it is longer than a `timedelta` can be.
    """
    parts = _DURATION.findall(text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != re.sub(
        r"\s", "", text.lower()
    ):
        raise ValueError(f"{text!r} is not a duration; write for example 10m, 1h, 3d, 6mo or 1y")
    return sum((int(number) * _UNIT[unit] for number, unit in parts), timedelta())


def format_duration(length: timedelta) -> str:
    """The shortest text that `parse_duration` reads back as `length`; whole seconds only."""
    seconds = int(length.total_seconds())
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_instant(text: str, now: datetime) -> datetime:
    """An instant in UTC, from ISO 8601 or relative to `now`.

    Understood: `2026-05-01`, `2026-05-01T12:00:00Z`, with an offset, or without one (then UTC);
    `now`, `today`, `yesterday` (midnights in UTC); `7d`, `12h`, `1y` (that long before now).

    Raises:
        ValueError: the text is none of these.
    """
    words = {"now": timedelta(0), "today": timedelta(0), "yesterday": timedelta(days=1)}
    word = text.strip().lower()
    if word in words:
        day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return floor_second(now) if word == "now" else day - words[word]
    try:
        return floor_second(now - parse_duration(word))
    except ValueError:
        pass
    except OverflowError as error:
        raise ValueError(f"{text!r} lies before the year 1") from error
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time; write ISO 8601 (2026-05-01T12:00:00Z, 2026-05-01), "
            "a length of time before now (7d, 12h, 6mo, 1y), today, yesterday or now"
        ) from None
    return floor_second(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
