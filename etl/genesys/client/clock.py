"""Time: what this machine says and what an organisation says, what has passed, and pauses."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from etl.errors import Stopped
from etl.prefetch import may_be_abandoned, require_wanted

#: How soon a thread that rests notices that nobody waits for it any more.
_NOTICE_SECONDS: Final = 0.25
#: A clock that shows an earlier time is wrong: this program did not exist then.
_EARLIEST: Final = datetime(2025, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
#: A time so far ahead of our clock is not believed, unless ours cannot be right itself.
_AHEAD_MAX: Final = timedelta(days=366)
#: The `Date` of an answer leaves out parts of a second.
_DATE_SECONDS: Final = 1.0


class Clock:
    """The time, and pauses. Once a pause was told to stop, there is no other: all raise Stopped.

    Attributes:
        now: gives this machine's time, UTC. It may be wrong, and be set at any moment.
        monotonic: gives the seconds since some instant, whatever is done to the clock: lengths of
            time are measured by it.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        pause: Callable[[float], bool],
    ) -> None:
        self.now = now
        self.monotonic = monotonic
        self._pause = pause
        self._stopped = False

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass.

        Raises:
            Stopped: a signal asked to stop, before or in the meantime.
            Abandoned: nobody waits for this thread any more.
        """
        while may_be_abandoned() and seconds > _NOTICE_SECONDS:
            require_wanted()
            self._wait(_NOTICE_SECONDS)
            seconds -= _NOTICE_SECONDS
        require_wanted()
        self._wait(seconds)

    def check(self) -> None:
        """Raise Stopped if a signal has asked for it, and else take no time."""
        self.wait(0.0)

    def _wait(self, seconds: float) -> None:
        if self._stopped or self._pause(seconds):
            self._stopped = True
            raise Stopped("stopped as asked; what was loaded is kept, the next run goes on there")


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a clock showed.

    Attributes:
        at: when it was read, by the monotonic clock.
        theirs: whether it is the organisation's clock.
    """

    shown: datetime
    at: float
    theirs: bool

    def then(self, monotonic: float) -> datetime:
        """What it would show at another instant."""
        return self.shown + timedelta(seconds=monotonic - self.at)


class OrganizationClock:
    """An organisation's time: the `Date` of its answers, and the monotonic clock since then.

    It is up to a second early, and never late while both clocks run. What is done to this machine's
    clock does not change it. May be used from several threads.

    Attributes:
        confirmations: how many answers have told it that cannot have come from a cache.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._reading: _Reading | None = None
        self.confirmations = 0

    def heard(self, date: datetime | None, sent: float, *, fresh: bool) -> None:
        """Learn from the `Date` of an answer that has just begun to arrive.

        An answer without one that can be believed teaches nothing. If there was none before, our
        own clock is read instead, and a later leap of it is not believed.

        Args:
            date: the `Date`; None if there is none.
            sent: when the request was sent, by the monotonic clock.
            fresh: whether the answer cannot have come from a cache.
        """
        ours, at = self._clock.now(), self._clock.monotonic()
        with self._lock:
            before = self._reading
            if date is None or not _is_believable(date, ours):
                if before is None or (not before.theirs and ours < before.then(at)):
                    self._reading = _Reading(ours, at, theirs=False)
                return
            self.confirmations += fresh
            if before is None or not before.theirs or date > before.then(at):
                self._reading = _Reading(date, at, theirs=True)
            elif fresh and (before.then(at) - date).total_seconds() > _DATE_SECONDS + at - sent:
                self._reading = _Reading(date, at, theirs=True)  # it was set back

    def now(self) -> datetime:
        """The organisation's time; ours, if no answer has told it."""
        with self._lock:
            if self._reading is None:
                return self._clock.now()
            return self._reading.then(self._clock.monotonic())

    @property
    def skew(self) -> timedelta | None:
        """How far it is ahead of this machine's clock; None if no answer has told it."""
        with self._lock:
            if self._reading is None or not self._reading.theirs:
                return None
            return self._reading.then(self._clock.monotonic()) - self._clock.now()


def _is_believable(theirs: datetime, ours: datetime) -> bool:
    """Whether a time that an answer gives can be right."""
    if not _EARLIEST <= theirs < _LATEST:
        return False
    return ours < _EARLIEST or theirs - ours <= _AHEAD_MAX
