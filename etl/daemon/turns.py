"""Turns: how many organisations are at work at once, and which of those that wait is next."""

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

#: A turn counts for so long. Whoever is at work for longer ends with its window if others wait, and
#: holds up nobody if that takes long: another one begins beside it.
TURN_SECONDS: Final = 300.0


class Turn:
    """One organisation's right to be at work, once `granted` is set."""

    def __init__(self) -> None:
        self.granted = threading.Event()
        self.ends_at = math.inf


class Turns:
    """A bounded number of turns, granted in the order in which they were asked for.

    Args:
        number: of turns at once.
        seconds: how long a turn counts.
    """

    def __init__(
        self, number: int, monotonic: Callable[[], float], seconds: float = TURN_SECONDS
    ) -> None:
        self._number = number
        self._monotonic = monotonic
        self._seconds = seconds
        self._lock = threading.Lock()
        self._granted: set[Turn] = set()
        self._waiting: deque[Turn] = deque()

    def ask(self) -> Turn:
        """A turn, granted at once if there is one; give it back in any case."""
        turn = Turn()
        with self._lock:
            self._waiting.append(turn)
            self._grant()
        return turn

    def give_back(self, turn: Turn) -> None:
        """Let the next one have it."""
        with self._lock:
            self._granted.discard(turn)
            self._grant()

    def is_over(self, turn: Turn) -> bool:
        """Whether the turn has lasted long enough, and others wait."""
        with self._lock:
            return turn.ends_at <= self._monotonic() and bool(self._waiting)

    def pass_on(self) -> None:
        """Grant what turns that have lasted long enough leave to others; to be called often."""
        with self._lock:
            self._grant()

    def end(self) -> None:
        """Let nobody wait any longer; all work is being stopped."""
        with self._lock:
            for turn in self._waiting:
                turn.granted.set()
            self._waiting.clear()

    def _grant(self) -> None:
        now = self._monotonic()
        self._granted = {turn for turn in self._granted if turn.ends_at > now}
        while self._waiting and len(self._granted) < self._number:
            turn = self._waiting.popleft()
            turn.ends_at = now + self._seconds
            self._granted.add(turn)
            turn.granted.set()
