"""Time, as the client is given it: what it is now, and waiting that a signal cuts short."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from etl.ahead import may_be_given_up, require_wanted
from etl.errors import Stopped

#: How soon a thread that rests notices that nobody waits for it any more.
_NOTICE_SECONDS: Final = 0.25


class Clock:
    """The time, and pauses. Once a pause was told to stop, there is no other: all raise Stopped.

    Attributes:
        now: gives the time, UTC.
    """

    def __init__(self, now: Callable[[], datetime], pause: Callable[[float], bool]) -> None:
        self.now = now
        self._pause = pause
        self._stopped = False

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass.

        Raises:
            Stopped: a signal asked to stop, before or in the meantime.
            GivenUp: nobody waits for this thread any more.
        """
        while may_be_given_up() and seconds > _NOTICE_SECONDS:
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
