"""One organisation's thread: whatever holds it up holds up nobody else."""

import logging
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Final

from etl.app import App
from etl.daemon.keeper import Keeper
from etl.daemon.observer import Observer
from etl.daemon.turns import Turn, Turns
from etl.database.transactions import transact
from etl.errors import AuditEtlError, DestinationUnavailable, LeaseHeld, RateLimited, Stopped
from etl.ledger import leases
from etl.ledger.leases import Lease
from etl.model import Receipt, Stream
from etl.operations import early, export

_LOG = logging.getLogger(__name__)

#: A rate limit is waited for no longer than this before the organisation is asked again.
PARKED_SECONDS_MAX: Final = 3600.0
#: How often a worker that waits for it looks whether it is over.
PARKED_LOOK_SECONDS: Final = 30.0


class Worker:
    """Keeps the streams of one organisation up to date, once at the start and when it is woken.

    Of several daemons on one destination, one works for an organisation and the others wait.
    """

    def __init__(
        self, app: App, organization: str, observer: Observer, turns: Turns, keeper: Keeper
    ) -> None:
        self._app = app
        self._organization = organization
        self._observer = observer
        self._turns = turns
        self._keeper = keeper
        self._told: type[AuditEtlError] | None = None
        self._displaced = False
        self._woken = threading.Event()
        self._early = threading.Event()
        self._parked_until: float | None = None
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

    def tick(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Bring every stream up to date; what cannot be is told of, and left to the next tick.

        Args:
            is_over: asked after each window; once it says so, the rest is left to the next turn,
                which comes when the others have had theirs.

        Raises:
            Stopped: a signal asked to stop.
        """
        try:
            outcomes = export.run(
                self._app,
                organization=self._organization,
                # A dead process of another machine keeps its lease so long, and nobody else does.
                wait=self._app.timing.length,
                watch=lambda _: self._observer.moves(self._organization),
            )
            with closing(outcomes):
                for outcome in outcomes:
                    if isinstance(outcome, Receipt):
                        self._observer.loaded(outcome)
                    else:
                        self._failed(outcome.stream, outcome.error)
                    if is_over():
                        self.wake()
                        return
            if self._early.is_set():
                self._early.clear()
                early.load_visible(self._app, self._organization)
        except Stopped:
            raise
        except AuditEtlError as error:
            self._failed(None, error)

    def _run(self) -> None:
        try:
            turn = self._turns.ask()
            while True:
                turn.granted.wait()
                self._pause(0.0)
                turn = self._lead(turn)
        except Stopped:
            return

    def _lead(self, turn: Turn) -> Turn:
        """Work as long as the organisation is ours and turns come at once; give the next one.

        A turn that has to be waited for is waited for without the lease: another daemon may do
        meanwhile what this one cannot. So may it if the lease cannot be had.
        """
        lease = self._lease()
        if lease is None:
            self._turns.give_back(turn)
            self._pause(self._poll_seconds())
            return self._turns.ask()
        self._observer.leads(self._organization, leads=True)
        try:
            with self._keeper.holding(lease, lost=self.wake):
                while turn.granted.is_set() and self._is_ours(lease):
                    self._work(turn)
                    self._rest()
                    turn = self._turns.ask()
        finally:
            self._observer.leads(self._organization, leads=False)
        return turn

    def _work(self, turn: Turn) -> None:
        """Do one tick, and give the turn back."""
        self._observer.begins(self._organization)
        try:
            self.tick(partial(self._turns.is_over, turn))
        finally:
            self._observer.rests(self._organization)
            self._turns.give_back(turn)

    def _lease(self) -> Lease | None:
        """The right to do the daemon's work for the organisation; None if it cannot be had now."""
        name = f"daemon:{self._organization}"
        try:
            self._app.prepare()
            now, length = self._app.now(), self._app.timing.length
            lease = leases.acquire(self._app.engine, name, self._app.holder, now, length)
        except AuditEtlError as error:
            if type(error) is not self._told:
                self._told = type(error)
                _LOG.warning("organisation %s waits: %s", self._organization, error)
                self._observer.failed(self._organization, None, error)
            return None
        if self._displaced or self._told is not None:
            _LOG.info("organisation %s: this process takes over", self._organization)
            self._displaced, self._told = False, None
        return lease

    def _poll_seconds(self) -> float:
        """How long until the lease is asked for again: many organisations take their time."""
        settings = self._app.settings
        rounds = len(settings.organizations) / settings.concurrency
        return self._app.timing.poll_seconds * max(1.0, rounds)

    def _is_ours(self, lease: Lease) -> bool:
        try:
            transact(self._app.engine, lease.confirm)
        except LeaseHeld as error:
            _LOG.warning("organisation %s: %s", self._organization, error)
            self._displaced = True
            return False
        except DestinationUnavailable:
            pass  # the tick meets the same error, and tells of it
        return True

    def _rest(self) -> None:
        """Return when it is time to look again: a schedule fired, or a rate limit has passed."""
        if self._parked_until is not None:
            # In pieces: a pause does not count the time that a machine sleeps, that clock may.
            while (left := self._parked_until - self._app.monotonic()) >= 0.001:
                self._pause(min(left, PARKED_LOOK_SECONDS))
            self._parked_until = None
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
            until = self._app.monotonic() + min(error.seconds, PARKED_SECONDS_MAX)
            self._parked_until = max(self._parked_until or until, until)
        self._observer.failed(self._organization, stream, error)
