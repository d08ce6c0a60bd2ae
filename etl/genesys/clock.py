"""Time, as the client is given it: what it is now, and waiting that a signal cuts short."""

from collections.abc import Callable
from datetime import datetime

from etl.errors import Stopped


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
        """
        if self._stopped or self._pause(seconds):
            self._stopped = True
            raise Stopped("stopped as asked; what was loaded is kept, the next run goes on there")

    def check(self) -> None:
        """Raise Stopped if a signal has asked for it, and else take no time."""
        self.wait(0.0)
