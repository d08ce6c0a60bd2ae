"""Values made in a thread ahead of whoever takes them, and no further ahead than a bound.

So that a download goes on while what was downloaded is decoded, and that while what was decoded is
written: the slowest of them is the only one that is waited for.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, copy_context
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: Set once nobody wants any more of what this thread makes; None in a thread that makes nothing.
_ABANDONED: Final[ContextVar[threading.Event | None]] = ContextVar("given_up", default=None)


class Abandoned(BaseException):
    """Nobody waits for what this thread makes. To be caught by nobody but `Prefetched`.

    Whoever should take values all the same gets this too: what was given up never passes for whole.
    """


def may_be_abandoned() -> bool:
    """Whether somebody may come to want no more of what this thread makes."""
    return _ABANDONED.get() is not None


def require_wanted() -> None:
    """Return if what this thread makes is still wanted.

    Raises:
        Abandoned: it is not; the thread should come to its end.
    """
    given_up = _ABANDONED.get()
    if given_up is not None and given_up.is_set():
        raise Abandoned


class Prefetched(Generic[T]):
    """What `values` gives, taken from it by a thread of its own; to be iterated once, and closed.

    The thread sees the context variables of whoever makes this. An error of `values` comes to
    whoever iterates, after the values before it.

    Args:
        values: is iterated in the thread.
        weigh: how much one value adds to what waits.
        limit: the thread rests while as much as this waits: it is exceeded by one value at most.
        name: of the thread.
    """

    def __init__(
        self, values: Iterable[T], weigh: Callable[[T], int], limit: int, name: str
    ) -> None:
        self._values = values
        self._weigh = weigh
        self._limit = limit
        self._waiting: deque[tuple[T, int]] = deque()
        self._weight = 0
        self._changed = threading.Condition()
        self._given_up = threading.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._taken = self._awaited = 0
        run = copy_context().run
        self._thread = threading.Thread(target=run, args=(self._make,), name=name, daemon=True)
        self._thread.start()

    @property
    def starved(self) -> float:
        """The share of values so far, 0 to 1, that were not there yet when they were wanted."""
        return self._awaited / self._taken if self._taken else 0.0

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                ready = bool(self._waiting or self._ended)
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    break
                value, weight = self._waiting.popleft()
                self._weight -= weight
                self._changed.notify_all()
            self._taken += 1
            self._awaited += not ready
            yield value
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Let the thread end, whether it has come to the end or not; it has ended afterwards."""
        with self._changed:
            self._given_up.set()
            self._changed.notify_all()
        self._thread.join()

    def _make(self) -> None:
        _ABANDONED.set(self._given_up)
        error: BaseException | None = None
        try:
            for value in self._values:
                self._put(value)
        except BaseException as caught:  # noqa: BLE001 - it is raised where the values are taken
            error = caught
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def _put(self, value: T) -> None:
        weight = self._weigh(value)
        with self._changed:
            self._waiting.append((value, weight))
            self._weight += weight
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._weight < self._limit or self._given_up.is_set())
        require_wanted()
