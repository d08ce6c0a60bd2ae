"""The daemon's main thread: signals, bugs of other threads, and the clock."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Final

from etl import app
from etl.config import Settings
from etl.daemon.observer import Observer
from etl.daemon.runtime import Runtime
from etl.daemon.steps import Steps
from etl.errors import AuditEtlError
from etl.ledger.leases import LEASE_TIMING, LeaseTiming
from etl.window import format_duration

_LOG = logging.getLogger(__name__)

#: How often the main thread looks up: a signal that comes just before it waits does not end that
#: wait, the wait does not count the time that a machine sleeps, and workers end unannounced.
LOOK_SECONDS: Final = 0.5
#: How long a stop waits for requests under way.
STOPPING_SECONDS: Final = 4.0

#: A signal's number, a runtime that is ready, or what a thread died of.
Message = int | Runtime | BaseException
Messages = SimpleQueue[Message]


def serve(
    read: Callable[[], Settings],
    observer: Observer,
    now: Callable[[], datetime] = app.clock,
    monotonic: Callable[[], float] = app.monotonic,
    timing: LeaseTiming = LEASE_TIMING,
) -> bool:
    """Run the schedules until SIGTERM or SIGINT; must be called in the main thread.

    SIGHUP calls `read` again: what it gives takes the place of the configuration in force once
    that has come to a stop between two pages. If it is refused, a log line says why.

    Returns:
        whether everything has come to its end; else a request is still under way, in a thread
        that should not be waited for.

    Raises:
        ConfigurationError: the configuration at the start is wrong, or the tables are behind.
        BaseException: what a thread died of, which is a bug.
    """
    with _messages() as messages:

        def prepare() -> None:
            try:
                messages.put(Runtime(read(), observer, now, monotonic, timing))
            except AuditEtlError as error:
                messages.put(error)

        return _Watch(messages, prepare, observer.beat, Steps(now, monotonic)).keep()


class _Watch:
    """The main thread's work: it waits for nothing but messages, so that a signal finds it ready.

    Args:
        prepare: reads the configuration and leaves a runtime, or why there is none, in `messages`.
        beat: called whenever it looks up.
    """

    def __init__(
        self,
        messages: Messages,
        prepare: Callable[[], None],
        beat: Callable[[], None],
        steps: Steps,
    ) -> None:
        self._messages = messages
        self._prepare = prepare
        self._beat = beat
        self._steps = steps
        self._at_work: Runtime | None = None
        self._successor: Runtime | None = None

    def keep(self) -> bool:
        """React until a signal asks to stop; see `serve`."""
        self._read_configuration()
        try:
            while self._reacted(self._next()):
                self._replace()
        finally:
            ended = self._end()
        return ended

    def _next(self) -> Message | None:
        """What comes next; None if nothing does for a while."""
        self._beat()
        try:
            return self._messages.get(timeout=LOOK_SECONDS)
        except Empty:
            return None

    def _reacted(self, message: Message | None) -> bool:
        """React to a message; False if it asks to stop."""
        match message:
            case None:
                if self._at_work:
                    self._look_at_the_clock(self._at_work)
            case Runtime():
                if self._successor:
                    self._successor.close()
                self._successor = message
            case AuditEtlError() if self._at_work:
                reasons = "; ".join(str(message).splitlines())
                _LOG.error("the new configuration is refused, the old one stays: %s", reasons)
            case BaseException():
                raise message
            case signal.SIGHUP:
                self._read_configuration()
            case _:
                _LOG.info("stopping on %s", signal.Signals(message).name)
                return False
        return True

    def _look_at_the_clock(self, at_work: Runtime) -> None:
        step = self._steps.since_last_look()
        if step is None:
            at_work.look_at_the_clock()
            return
        side = "back" if step < timedelta(0) else "ahead"
        _LOG.warning(
            "the clock was set %s by %s: schedules fire by what it shows now",
            side,
            format_duration(timedelta(seconds=round(abs(step).total_seconds()))),
        )
        at_work.clock_was_set()

    def _read_configuration(self) -> None:
        """Have a runtime prepared, beside: its database may be slow to answer."""
        threading.Thread(target=self._prepare, name="configuration", daemon=True).start()

    def _replace(self) -> None:
        """Let the successor start, once the runtime at work has ended."""
        if not self._successor:
            return
        if self._at_work:
            self._at_work.ask_to_stop()
            if not self._at_work.has_ended(0.0):
                return
            self._at_work.close()
            _LOG.info("the new configuration is in force")
        self._at_work, self._successor = self._successor, None
        self._at_work.start()

    def _end(self) -> bool:
        """Ask all threads to end, and wait a little; give whether they have."""
        if not self._at_work:
            return False
        self._at_work.ask_to_stop()
        if not self._at_work.has_ended(STOPPING_SECONDS):
            return False
        self._at_work.close()
        return True


@contextmanager
def _messages() -> Iterator[Messages]:
    """Signals, and what threads die of, as messages, in place of what they do otherwise.

    A handler may do no more than put: an Event of this thread's could be locked by what the signal
    interrupted.
    """
    messages: Messages = SimpleQueue()

    def note(number: int, _frame: FrameType | None) -> None:
        messages.put(number)

    def died(thread: threading.ExceptHookArgs) -> None:
        messages.put(thread.exc_value or RuntimeError(f"{thread.thread} died of {thread.exc_type}"))

    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, note) for number in numbers}
    hook, threading.excepthook = threading.excepthook, died
    try:
        yield messages
    finally:
        threading.excepthook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
