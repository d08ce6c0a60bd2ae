"""Count the requests of a piece of work, in all its threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final


class Tally:
    """Counts the requests that are sent within `tallied`, and in threads that are made there.

    Attributes:
        requests: counted so far; those for tokens, polls and further attempts count too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0

    def add(self) -> None:
        """Count one more."""
        with self._lock:
            self.requests += 1


_TALLY: Final[ContextVar[Tally | None]] = ContextVar("tally", default=None)


@contextmanager
def tallied(tally: Tally) -> Iterator[None]:
    """Let `tally` count what is sent during the block."""
    token = _TALLY.set(tally)
    try:
        yield
    finally:
        _TALLY.reset(token)


def count_request() -> None:
    """Count a request in the current tally, if there is one."""
    tally = _TALLY.get()
    if tally is not None:
        tally.add()
