"""One organisation's thread: whatever holds it up holds up nobody else."""

import logging
import threading
from datetime import datetime
from typing import Final

from etl import following, leases, operations
from etl.app import App
from etl.daemon.observer import Observer
from etl.database import transact
from etl.errors import AuditEtlError, DestinationUnavailable, LeaseHeld, RateLimited, Stopped
from etl.leases import Lease
from etl.progress import Receipt, Stream

_LOG = logging.getLogger(__name__)

#: A rate limit is waited for no longer than this before the organisation is asked again.
PARKED_SECONDS_MAX: Final = 3600.0


class Worker:
    """Keeps the streams of one organisation up to date, once at the start and when it is woken.

    Of several daemons on one destination, one works for an organisation and the others wait.

    Args:
        app: the configuration at work.
        organization: its name.
        observer: is told what happens.
    """

    def __init__(self, app: App, organization: str, observer: Observer) -> None:
        self._app = app
        self._organization = organization
        self._observer = observer
        self._woken = threading.Event()
        self._early = threading.Event()
        self._parked_until: datetime | None = None
        # A thread that hangs in a request must not keep the process from ending.
        self._thread = threading.Thread(
            target=self._run, name=f"organisation {organization}", daemon=True
        )

    def start(self) -> None:
        """Begin to work, in a thread, until the app's `stop` is set and `wake` is called."""
        self._thread.start()

    def wake(self, *, early: bool = False) -> None:
        """Have the worker look what is due; while it works, once more when it is done.

        Args:
            early: also for what no window may ask for yet.
        """
        if early:
            self._early.set()
        self._woken.set()

    def has_ended(self, wait_seconds: float) -> bool:
        """Whether the thread has ended, or does within that time."""
        self._thread.join(wait_seconds)
        return not self._thread.is_alive()

    def tick(self) -> None:
        """Bring every stream up to date; what cannot be is told of, and left to the next tick.

        Raises:
            Stopped: a signal asked to stop.
        """
        # A dead process of another machine keeps its lease for so long, and nobody else does.
        wait = self._app.tenure.length
        try:
            for outcome in operations.run(self._app, organization=self._organization, wait=wait):
                if isinstance(outcome, Receipt):
                    self._observer.loaded(outcome)
                else:
                    self._failed(outcome.stream, outcome.error)
            if self._early.is_set():
                self._early.clear()
                following.load_visible(self._app, self._organization)
        except Stopped:
            raise
        except AuditEtlError as error:
            self._failed(None, error)

    def _run(self) -> None:
        try:
            while True:
                self._lead(self._lease())
        except Stopped:
            return

    def _lease(self) -> Lease:
        """The right to do the daemon's work for the organisation, waited for if need be."""
        name = f"the daemon's work for {self._organization}"
        told: type[AuditEtlError] | None = None
        while True:
            try:
                self._app.prepare()
                now, length = self._app.now(), self._app.tenure.length
                lease = leases.acquire(self._app.engine, name, self._app.holder, now, length)
            except AuditEtlError as error:
                if type(error) is not told:
                    told = type(error)
                    _LOG.warning("organisation %s waits: %s", self._organization, error)
                    self._observer.failed(self._organization, None, error)
            else:
                if told is not None:
                    _LOG.info("organisation %s: this process takes over", self._organization)
                return lease
            self._pause(self._app.tenure.poll_seconds)

    def _lead(self, lease: Lease) -> None:
        """Work as long as nobody else has taken the lease."""
        app = self._app
        self._observer.leads(self._organization, leads=True)
        try:
            with leases.holding(app.engine, lease, app.now, app.tenure, lost=self.wake):
                while self._is_ours(lease):
                    self.tick()
                    self._rest()
        finally:
            self._observer.leads(self._organization, leads=False)

    def _is_ours(self, lease: Lease) -> bool:
        try:
            transact(self._app.engine, lease.confirm)
        except LeaseHeld as error:
            _LOG.warning("organisation %s: %s", self._organization, error)
            return False
        except DestinationUnavailable:
            pass  # the tick meets the same error, and tells of it
        return True

    def _rest(self) -> None:
        """Return when it is time to look again: a schedule fired, or a rate limit has passed."""
        if self._parked_until is not None:
            seconds = (self._parked_until - self._app.now()).total_seconds()
            self._parked_until = None
            self._pause(min(max(seconds, 0.0), PARKED_SECONDS_MAX))
            return
        self._woken.wait()
        self._woken.clear()
        self._pause(0.0)

    def _pause(self, seconds: float) -> None:
        if self._app.stop.wait(seconds):
            raise Stopped("stopped as asked")

    def _failed(self, stream: Stream | None, error: AuditEtlError) -> None:
        whose = stream or f"organisation {self._organization}"
        _LOG.warning("%s: %s", whose, error, extra=dict(error.about))
        if isinstance(error, RateLimited):
            self._parked_until = max(self._parked_until or error.until, error.until)
        self._observer.failed(self._organization, stream, error)
