"""The requests that one token may still send this minute, by what the organisation itself says.

The vendor counts requests a minute for each token (300, by its limits page) and tells on every
answer how many it allows, how many it has counted and in how many seconds it starts again.
"""

import threading
from collections.abc import Mapping
from datetime import timedelta

from etl.errors import RateLimited
from etl.genesys.client.clock import Clock
from etl.genesys.client.failures import as_seconds, reset_seconds
from etl.wire import RATE_ALLOWED_HEADER, RATE_COUNT_HEADER


class Budget:
    """The rate budget of an organisation's token, shared by all threads.

    Until an answer has told of a budget, and after a minute is over, requests are sent freely.

    Attributes:
        allowed: requests a minute, as the last answer said; None if none has said it.
        seconds_waited: how long requests were held back so far, all threads added up.
    """

    def __init__(self, organization: str, clock: Clock, wait_max: float) -> None:
        self._organization = organization
        self._clock = clock
        self._wait_max = wait_max
        self._lock = threading.Lock()
        self.allowed: int | None = None
        self._remaining: int | None = None
        self._resets_at: float | None = None
        self._refused_until: float | None = None
        self.seconds_waited = 0.0

    @property
    def remaining(self) -> int | None:
        """Requests left this minute, those under way taken off; None if that is not known."""
        with self._lock:
            self._forget_if_over(self._clock.monotonic())
            return self._remaining

    def take(self) -> float:
        """Take one request off the budget; wait first if nothing is left of it.

        Returns:
            seconds that it was waited for.

        Raises:
            RateLimited: the wait would be too long.
            Stopped: a signal asked to stop.
        """
        waited = 0.0
        while (wait := self._take_or_wait()) > 0.0:
            if wait > self._wait_max:
                until = self._clock.now() + timedelta(seconds=wait)
                raise RateLimited(
                    f"organisation {self._organization} takes no more requests before "
                    f"{until:%Y-%m-%d %H:%M:%S} UTC, run again after that",
                    until,
                    wait,
                )
            resets_at, refused_until = self._resets_at, self._refused_until
            self._clock.wait(wait)
            waited += wait
            with self._lock:
                self.seconds_waited += wait
                # Waited for is over, even where the monotonic clock stands still.
                if refused_until is not None and self._refused_until == refused_until:
                    self._refused_until = None
                elif self._resets_at == resets_at:
                    self._remaining = self._resets_at = None
        return waited

    def heard(self, headers: Mapping[str, str]) -> None:
        """Learn from an answer's headers; ones that are absent or no numbers teach nothing.

        Nor do they if they allow nothing at all, for they come with an answer.
        """
        allowed = as_seconds(headers.get(RATE_ALLOWED_HEADER))
        count = as_seconds(headers.get(RATE_COUNT_HEADER))
        reset = reset_seconds(headers)
        if not allowed or count is None or reset is None:
            return
        left = max(0, int(allowed - count))
        with self._lock:
            now = self._clock.monotonic()
            self.allowed = int(allowed)
            self._forget_if_over(now)
            if self._remaining is not None:
                # Answers may overtake each other, and do not count what is still under way.
                left = min(left, self._remaining)
            self._remaining, self._resets_at = left, now + reset

    def refused(self, seconds: float) -> None:
        """Let no thread send anything for `seconds`: one of them was told so.

        If another thread was told to wait for longer, that holds.
        """
        with self._lock:
            until = self._clock.monotonic() + seconds
            self._refused_until = max(self._refused_until or until, until)
            self._remaining = self._resets_at = None

    def forget(self) -> None:
        """Forget the budget: a new token has its own."""
        with self._lock:
            self._remaining = self._resets_at = self._refused_until = None

    def _take_or_wait(self) -> float:
        with self._lock:
            now = self._clock.monotonic()
            self._forget_if_over(now)
            if self._refused_until is not None:
                return self._refused_until - now
            if self._remaining is None or self._resets_at is None:
                return 0.0
            if self._remaining > 0:
                self._remaining -= 1
                return 0.0
            return self._resets_at - now

    def _forget_if_over(self, now: float) -> None:
        if self._resets_at is not None and now >= self._resets_at:
            self._remaining = self._resets_at = None
        if self._refused_until is not None and now >= self._refused_until:
            self._refused_until = None
