"""One configuration at work: the app, a worker for each organisation, and what wakes them."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime

from apscheduler.job import Job
from apscheduler.schedulers.background import BackgroundScheduler

from etl import schedules
from etl.app import App
from etl.config import Schedule, Settings
from etl.daemon.keeper import Keeper
from etl.daemon.observer import Observer
from etl.daemon.turns import Turns
from etl.daemon.worker import Worker
from etl.errors import DestinationUnavailable
from etl.ledger.leases import LeaseTiming

_LOG = logging.getLogger(__name__)


class Runtime:
    """All that runs under one configuration. Nothing does before `start`; close it at the end.

    Raises:
        ConfigurationError: an organisation is not configured whole, or the tables of a server are
            missing or old. A destination that is away is waited for.
    """

    def __init__(
        self,
        settings: Settings,
        observer: Observer,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        timing: LeaseTiming,
    ) -> None:
        settings.require_credentials()
        settings.require_started(now())
        self._observer = observer
        self._stop = threading.Event()
        self._to_close = ExitStack()
        self._app = self._to_close.enter_context(
            App(
                settings,
                stop=self._stop,
                now=now,
                monotonic=monotonic,
                observer=observer,
                timing=timing,
            )
        )
        self._turns = Turns(settings.concurrency, self._app.monotonic)
        keeper = Keeper(self._app)
        self._workers = [
            Worker(self._app, name, observer, self._turns, keeper)
            for name in settings.organizations
        ]
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._jobs = [self._job(schedule) for schedule in settings.schedules]
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Bring every stream up to date at once, and then whenever a schedule fires."""
        self._observer.in_force(self._app)
        for worker in self._workers:
            worker.start()
        self._scheduler.start()

    def look_at_the_clock(self) -> None:
        """Fire what is due by the clock, which may have leapt while the machine slept."""
        self._scheduler.wakeup()
        self._turns.pass_on()

    def clock_was_set(self) -> None:
        """Look what is due, and have every schedule fire next by what the clock shows now."""
        self._wake()
        if self._scheduler.running:
            for job, schedule in zip(self._jobs, self._app.settings.schedules, strict=True):
                job.reschedule(schedules.trigger(schedule))

    def ask_to_stop(self) -> None:
        """Let every worker end between two pages; may be repeated."""
        self._stop.set()
        self._turns.end()
        self._wake()
        if self._scheduler.running:
            self._scheduler.shutdown()

    def has_ended(self, wait_seconds: float) -> bool:
        """Whether every worker has ended, or does within that time."""
        deadline = time.monotonic() + wait_seconds
        return all(
            worker.has_ended(max(0.0, deadline - time.monotonic())) for worker in self._workers
        )

    def close(self) -> None:
        """Give back connections; call it when every worker has ended."""
        self._to_close.close()

    def _job(self, schedule: Schedule) -> Job:
        return self._scheduler.add_job(
            self._wake,
            schedules.trigger(schedule),
            kwargs={"early": schedule.early},
            name=schedule.name,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )

    def _wake(self, *, early: bool = False) -> None:
        for worker in self._workers:
            worker.wake(early=early)

    def _check(self) -> None:
        for organization in self._app.settings.organizations:
            self._app.source(organization)
        try:
            self._app.destination()
        except DestinationUnavailable as error:
            _LOG.warning("%s", error)
