"""Following the realtime query: each audit once, soon after it becomes visible.

A stretch of time is looked at by its count. The organisation says with each answer how many audits
a window holds. Where it holds many more than were seen, its pages are read; where a few more, it is
cut until an answer holds all of a part, and what is in there for the first time is new. So one
request tells that nothing is new in a whole day; if something is, the last minutes are looked at
first, where new audits are usual, and a few requests more find the one that has come late.

Nothing here is written anywhere: a tail tells, it does not load. The clock, the pauses and the
asking are arguments.
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

#: What is new after each request, to be gone on with when there are requests to spare.
Search = Iterator[list[bytes]]

#: How far back an audit's time usually lies when it becomes visible; looked at first.
FRONT: Final = timedelta(minutes=5)
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
        """Note what is called `name`; whether it was not there before."""
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
        """Give up what lies earlier than `before`."""
        second = int(before.timestamp())
        old = bisect_left(self._ordered, second)
        if old:
            del self._ordered[:old]
            self._seconds = {key: at for key, at in self._seconds.items() if at >= second}


class Follower:
    """One question, asked again and again.

    Args:
        ask: asks it, and may take its time.
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
        self._sought = 0  # audits that the last search was begun for

    def glance(self, window: Window) -> Generator[list[bytes], None, "Search | None"]:
        """Ask whether `window` holds anything new; if so, look at its last minutes.

        Returns:
            the search for what is new before the last minutes; None if nothing is, or no more than
            an earlier search has not come to yet.
        """
        page = self._ask(window, 1, 1)
        yield self._new(page, window)
        total, before = page.total, Window(window.start, window.end - FRONT)
        if total is not None and total - self._seen.count(window) <= self._sought:
            if total == self._seen.count(window):
                self._known = joined([*self._known, window])
            return None
        front = Window(before.end, window.end)
        yield from self.look(front)
        rest = None if total is None else total - self._seen.count(front)
        self._sought = 0 if rest is None else rest - self._seen.count(before)
        return self._search(before, rest) if self._lacks(before, rest) else None

    def _search(self, window: Window, total: int | None) -> Search:
        steps = self.look(window, total)
        seen = len(self._seen)
        for found in steps:
            self._sought -= len(self._seen) - seen
            yield found
            seen = len(self._seen)
        self._sought = 0

    def look(self, window: Window, total: int | None = None) -> Iterator[list[bytes]]:
        """Look at `window` until all that it holds was seen; what is new, after each request.

        It may be left at any request, and looked at again.

        Args:
            window: where to look.
            total: what it holds, if that is known already.
        """
        known = self._seen.count(window)
        size = PAGE_SIZE_MAX if known < PAGE_SIZE_MAX else 1
        more = True
        if total is None or size > 1:
            page = self._ask(window, 1, size)
            yield self._new(page, window)
            total = page.total
            more = len(page.records) >= page.page_size
        if more and self._lacks(window, total):
            short = window.length < 2 * WINDOW_MIN
            if total is None or short or total - known > PAGE_SIZE_MAX:
                yield from self._pages(window, 1 if size == 1 else 2)
            else:
                yield from self._parts(window, total)
        self._known = joined([*self._known, window])

    def _parts(self, window: Window, total: int) -> Search:
        """Look closer at a window of which little is unknown.

        First at its last quarter, for late audits are mostly less late than they might be.
        """
        middle = floor_second(window.end - window.length / 4)
        older, newer = Window(window.start, middle), Window(middle, window.end)
        yield from self.look(newer)
        rest = total - self._seen.count(newer)
        if self._lacks(older, rest):
            yield from self.look(older, rest)

    def _lacks(self, window: Window, total: int | None) -> bool:
        """Whether the window holds more than was seen of it, or may."""
        return total is None or total > self._seen.count(window)

    def forget(self, before: datetime) -> None:
        """Give up what lies earlier; it will not be looked at again."""
        self._seen.forget(before)
        later = (spanning(max(known.start, before), known.end) for known in self._known)
        self._known = [known for windows in later for known in windows]

    def _pages(self, window: Window, number: int) -> Iterator[list[bytes]]:
        """The pages of a window from `number` on. It only grows, so none is passed over."""
        size, before = PAGE_SIZE_MAX, None
        while True:
            page = self._ask(window, number, size)
            if page.page_size < size:
                number, size = 1, page.page_size  # smaller pages are counted anew
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
class Course:
    """How a tail goes on.

    Attributes:
        since: where it starts.
        reach: how late an audit may become visible to be told all the same.
        now: the organisation's time.
        monotonic: seconds since some instant.
        round_seconds: how long a round takes at least.
        has_spare: whether a request may be sent that can wait; whoever asks holds to the share.
        pause: lets seconds pass; true, and at once, if a signal asks to stop.
    """

    since: datetime
    reach: timedelta
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    round_seconds: Callable[[], float]
    has_spare: Callable[[], bool]
    pause: Callable[[float], bool]


def follow(followers: Sequence[Follower], course: Course) -> Iterator[list[bytes]]:
    """The records that are new, after each request, until a pause is told to stop.

    First what there is since the start. Then in rounds: whether anything is new in the last day,
    the last minutes if so, and as much as there are requests to spare for of what lies before them,
    as far back as the reach.
    """
    for window in spanning(course.since, floor_second(course.now())):
        for follower, piece in itertools.product(followers, cut(window, QUESTION_MAX)):
            yield from follower.look(piece)
    searches = _Searches(followers)
    while True:
        end = floor_second(course.now())
        due = course.monotonic() + course.round_seconds()
        newest = Window(end - min(course.reach, QUESTION_MAX), end)
        for follower in followers:
            follower.forget(end - course.reach - FRONT)
            search = yield from follower.glance(newest)
            searches.begin(follower, search)
        searches.begin_older(spanning(end - course.reach, newest.start))
        while course.monotonic() < due and course.has_spare():
            found = searches.step()
            if found is None:
                break
            yield found
        if course.pause(max(0.0, due - course.monotonic())):
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
                self._days = (follower.look(piece) for piece, follower in asked)
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
