"""Which organisations are at work, and when each of them last moved."""

import threading
import time
from collections.abc import Callable, Iterator


class Movement:
    """Signs of life of the organisations at work, from any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._moved: dict[str, float] = {}

    def begins(self, organization: str) -> None:
        """Its work has begun."""
        with self._lock:
            self._moved[organization] = self._monotonic()

    def moves(self, organization: str) -> None:
        """It has got on, if it is at work."""
        with self._lock:
            if organization in self._moved:
                self._moved[organization] = self._monotonic()

    def rests(self, organization: str) -> None:
        """It waits for the next firing, or for its turn."""
        with self._lock:
            self._moved.pop(organization, None)

    def still(self, seconds: float) -> Iterator[tuple[str, float]]:
        """Organisations at work that have not moved for longer, with for how long."""
        with self._lock:
            moved = dict(self._moved)
        now = self._monotonic()
        for organization, at in moved.items():
            if now - at > seconds:
                yield organization, now - at
