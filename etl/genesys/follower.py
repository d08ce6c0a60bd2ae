"""Following the realtime query: each audit once, soon after it becomes visible.

Each answer says how many audits a window holds. If there are many more than were seen, all pages
are read. If there are a few more, the window is cut until one answer holds all of a part. So one
request shows that nothing is new in a whole day. If something is new, the last minutes are scanned
first, because most new audits are there, and a few more requests find a late one.

Nothing is written: a tail prints, it does not load. The clock, the pauses and the requests are
arguments.
"""

import itertools
from array import array
from bisect import bisect_left, insort
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final

from etl.genesys.realtime import RealtimePage
from etl.records import Reject, read_record
from etl.window import WINDOW_MIN, Window, cut, floor_second, joined, spanning
from etl.wire import PAGE_SIZE_MAX

#: One page of the realtime query: of a window, by number, of at most so many audits.
Ask = Callable[[Window, int, int], RealtimePage]

#: What is new after each request; continued when there are requests to spare.
Search = Iterator[list[bytes]]

#: Most audits become visible within this time; it is scanned first.
RECENT: Final = timedelta(minutes=5)
#: No question asks for more: longer ones were seen to time out at a live organisation.
QUESTION_MAX: Final = timedelta(days=1)


class Seen:
    """The audits that were seen, by id, and how many by time.

    About 150 bytes for each audit until it is forgotten.
    """

    def __init__(self) -> None:
        self._seconds: dict[bytes, int] = {}
        self._ordered = array("q")

    def __len__(self) -> int:
        return len(self._ordered)

    def add(self, name: bytes, moment: datetime) -> bool:
        """Add `name`; return whether it is new."""
        key = blake2b(name, digest_size=12).digest()
        if key in self._seconds:
            return False
        second = int(moment.timestamp())
        self._seconds[key] = second
        insort(self._ordered, second)
        return True

    def count(self, window: Window) -> int:
        """How many audits of `window` were seen."""
        first, last = (int(moment.timestamp()) for moment in (window.start, window.end))
        return bisect_left(self._ordered, last) - bisect_left(self._ordered, first)

    def forget(self, before: datetime) -> None:
        """Forget what is earlier than `before`."""
        second = int(before.timestamp())
        old = bisect_left(self._ordered, second)
        if old:
            del self._ordered[:old]
            self._seconds = {key: at for key, at in self._seconds.items() if at >= second}


class Follower:
    """The audits of one realtime query that are new since the last request.

    Args:
        ask: sends one request; it may wait for the rate budget.
        since: audits of that time or later are new whenever they are first seen; earlier ones
            are if the time that they lie in had been looked at before.
        services: only their audits are given; None for all.
    """

    def __init__(self, ask: Ask, since: datetime, services: frozenset[str] | None = None) -> None:
        self._ask = ask
        self._since = since
        self._services = services
        self._seen = Seen()
        self._known: list[Window] = []
        self._missing = 0  # audits that the search under way has not found yet

    def check(self, window: Window) -> Generator[list[bytes], None, "Search | None"]:
        """Ask whether `window` holds anything new; if so, scan its last minutes.

        Returns:
            the search for new audits before the last minutes; None if there are none, or only
            those that an earlier search still looks for.
        """
        page = self._ask(window, 1, 1)
        yield self._new(page, window)
        total, before = page.total, Window(window.start, window.end - RECENT)
        if total is not None and total - self._seen.count(window) <= self._missing:
            if total == self._seen.count(window):
                self._known = joined([*self._known, window])
            return None
        front = Window(before.end, window.end)
        yield from self.scan(front)
        rest = None if total is None else total - self._seen.count(front)
        self._missing = 0 if rest is None else rest - self._seen.count(before)
        return self._search(before, rest) if self._may_hold_more(before, rest) else None

    def _search(self, window: Window, total: int | None) -> Search:
        steps = self.scan(window, total)
        seen = len(self._seen)
        for found in steps:
            self._missing -= len(self._seen) - seen
            yield found
            seen = len(self._seen)
        self._missing = 0

    def scan(self, window: Window, total: int | None = None) -> Iterator[list[bytes]]:
        """Scan `window` until all its audits were seen; yield the new ones after each request.

        It may be left after any request, and scanned again.

        Args:
            total: how many audits it holds, if that is known.
        """
        known = self._seen.count(window)
        size = PAGE_SIZE_MAX if known < PAGE_SIZE_MAX else 1
        more = True
        if total is None or size > 1:
            page = self._ask(window, 1, size)
            yield self._new(page, window)
            total = page.total
            more = len(page.records) >= page.page_size
        if more and self._may_hold_more(window, total):
            short = window.length < 2 * WINDOW_MIN
            if total is None or short or total - known > PAGE_SIZE_MAX:
                yield from self._scan_pages(window, 1 if size == 1 else 2)
            else:
                yield from self._scan_parts(window, total)
        self._known = joined([*self._known, window])

    def _scan_parts(self, window: Window, total: int) -> Search:
        """Scan a window in parts, the last quarter first: most late audits are there."""
        middle = floor_second(window.end - window.length / 4)
        older, newer = Window(window.start, middle), Window(middle, window.end)
        yield from self.scan(newer)
        rest = total - self._seen.count(newer)
        if self._may_hold_more(older, rest):
            yield from self.scan(older, rest)

    def _may_hold_more(self, window: Window, total: int | None) -> bool:
        """Whether the window holds more than was seen of it, or may."""
        return total is None or total > self._seen.count(window)

    def forget(self, before: datetime) -> None:
        """Forget what is earlier; it will not be scanned again."""
        self._seen.forget(before)
        later = (spanning(max(known.start, before), known.end) for known in self._known)
        self._known = [known for windows in later for known in windows]

    def _scan_pages(self, window: Window, number: int) -> Iterator[list[bytes]]:
        """The pages of a window from `number` on. It only grows, so none is passed over."""
        size, before = PAGE_SIZE_MAX, None
        while True:
            page = self._ask(window, number, size)
            if page.page_size < size:
                number, size = 1, page.page_size  # page numbers depend on the size
                continue
            yield self._new(page, window)
            last = len(page.records) < size or page.records == before
            if last or (page.total is not None and number * size >= page.total):
                return
            number, before = number + 1, page.records

    def _new(self, page: RealtimePage, window: Window) -> list[bytes]:
        return [record for record in page.records if self._is_new(record, window)]

    def _is_new(self, record: bytes, window: Window) -> bool:
        audit = read_record(record)
        if isinstance(audit, Reject):  # shown once, as a record of the window's end
            return self._seen.add(record, window.end - timedelta(seconds=1))
        if not self._seen.add(audit.id.encode(), audit.event_date):
            return False
        if self._services is not None and audit.service_name not in self._services:
            return False
        moment = audit.event_date
        return moment >= self._since or any(moment in known for known in self._known)


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """How to follow.

    Attributes:
        since: where it starts.
        reach: how late an audit may become visible and still be found.
        now: the organisation's time.
        monotonic: seconds since some instant.
        round_seconds: how long a round takes at least.
        has_spare: whether the share of the rate limit allows a request that can wait.
        pause: lets seconds pass; true, and at once, if a signal asks to stop.
    """

    since: datetime
    reach: timedelta
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    round_seconds: Callable[[], float]
    has_spare: Callable[[], bool]
    pause: Callable[[float], bool]


def follow(followers: Sequence[Follower], options: FollowOptions) -> Iterator[list[bytes]]:
    """The records that are new, after each request, until a pause is told to stop.

    First what there is since the start. Then in rounds: whether anything is new in the last day,
    the last minutes if so, and as much as there are requests to spare for of what lies before them,
    as far back as the reach.
    """
    for window in spanning(options.since, floor_second(options.now())):
        for follower, piece in itertools.product(followers, cut(window, QUESTION_MAX)):
            yield from follower.scan(piece)
    searches = _Searches(followers)
    while True:
        end = floor_second(options.now())
        due = options.monotonic() + options.round_seconds()
        newest = Window(end - min(options.reach, QUESTION_MAX), end)
        for follower in followers:
            follower.forget(end - options.reach - RECENT)
            search = yield from follower.check(newest)
            searches.begin(follower, search)
        searches.begin_older(spanning(end - options.reach, newest.start))
        while options.monotonic() < due and options.has_spare():
            found = searches.step()
            if found is None:
                break
            yield found
        if options.pause(max(0.0, due - options.monotonic())):
            return


class _Searches:
    """Searches under way: one for each follower, and one in what is older than a day."""

    def __init__(self, followers: Sequence[Follower]) -> None:
        self._followers = followers
        self._under_way: dict[Follower | None, Search] = {}
        self._days: Iterator[Search] = iter(())

    def begin(self, follower: Follower, search: Search | None) -> None:
        """Take up `search`, unless an earlier one of the follower goes on."""
        if search is not None:
            self._under_way.setdefault(follower, search)

    def begin_older(self, windows: Sequence[Window]) -> None:
        """Take up the next day of what is older, and after the last of `windows` the first."""
        if None not in self._under_way:
            day = next(self._days, None)
            if day is None:
                pieces = [piece for window in windows for piece in cut(window, QUESTION_MAX)]
                asked = itertools.product(reversed(pieces), self._followers)
                self._days = (follower.scan(piece) for piece, follower in asked)
            else:
                self._under_way[None] = day

    def step(self) -> list[bytes] | None:
        """Go on by one request; None if nothing is under way."""
        while self._under_way:
            key, search = next(iter(self._under_way.items()))
            found = next(search, None)
            if found is not None:
                return found
            del self._under_way[key]
        return None
