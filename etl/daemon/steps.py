"""Whether this machine's clock was set: the monotonic clock says otherwise."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

#: By so much NTP corrects a clock bit by bit; and a thread may be held up between two readings.
STEP_MIN: Final = timedelta(seconds=3)


class Steps:
    """Looks at both clocks again and again."""

    def __init__(self, now: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self._now = now
        self._monotonic = monotonic
        self._origin = self._measured()

    def since_last_look(self) -> timedelta | None:
        """By how much the clock was set ahead since the last look, or back; None if it was not."""
        before, self._origin = self._origin, self._measured()
        step = self._origin - before
        return step if abs(step) >= STEP_MIN else None

    def _measured(self) -> datetime:
        """What the clock showed when the monotonic clock began."""
        return self._now() - timedelta(seconds=self._monotonic())
