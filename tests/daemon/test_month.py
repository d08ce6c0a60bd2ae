"""A month of ticks by a clock that the test moves, with all that goes wrong in a month."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etl import schedules
from etl.app import App
from etl.config import Settings, load
from etl.daemon import Worker
from etl.daemon.keeper import Keeper
from etl.daemon.turns import Turns
from etl.errors import AuditEtlError
from etl.ledger.gaps import gaps_of
from etl.model import Receipt, Stream
from etl.monitoring.health import Monitor
from etl.simulator import AuditLog, Simulator
from etl.simulator.faults import Faults
from tests.support.commands import CLIENT_ID, SECRET
from tests.support.daemons import resident_bytes
from tests.support.destination_contents import audits_in, rows, unraw
from tests.support.simulated_organization import HandClock

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
#: The daemon is started when there is a month to load, and then watched for a month.
START = BEGIN + 30 * DAY
END = START + 30 * DAY
#: An audit that is late by ten days must still be found: the longest lookback reaches further.
SCHEDULES = """[
    {"name": "frequent", "interval": "36m", "lookback": "2h"},
    {"name": "settle", "cron": "17 3 * * *", "lookback": "3d"},
    {"name": "reconcile", "interval": "3d", "lookback": "14d"}
]"""
#: From which day of the month on, for how many hours, what goes wrong.
TROUBLE = [
    (3, 2, Faults(server_error_every=1)),
    (6, 30, Faults(fail_query_every=3, too_many_requests_every=9, retry_after=5)),
    (9, 3, Faults(deny_permission=True)),
    (12, 1, Faults(too_many_requests_every=1, retry_after=3600)),
    (15, 12, Faults(vanish_query_after_page=1, cancel_query_every=2, html_error_every=11)),
    (20, 6, Faults(token_dies_after=7, too_large_over=100)),
]
#: On that day the machine sleeps, for that long.
SLEEP = (23 * DAY, 3 * DAY)


class Stop(threading.Event):
    """Nobody asks to stop, and whoever pauses moves the clock."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.move(seconds=timeout or 0.0)
        return False


class Counts(Monitor):
    """How often what happened."""

    def __init__(self) -> None:
        super().__init__()
        self.late = 0
        self.failures: list[AuditEtlError] = []

    def loaded(self, receipt: Receipt) -> None:
        super().loaded(receipt)
        self.late += receipt.new_events if receipt.schedule != "frequent" else 0

    def failed(self, organization: str, stream: Stream | None, error: AuditEtlError) -> None:
        super().failed(organization, stream, error)
        self.failures.append(error)


def settings_for(url: str, folder: Path) -> Settings:
    variables = {
        "GENESYSCLOUD_REGION": url,
        "GENESYSCLOUD_OAUTHCLIENT_ID": CLIENT_ID,
        "GENESYSCLOUD_OAUTHCLIENT_SECRET": SECRET,
        "AUDIT_ETL_DESTINATION": f"sqlite:///{folder / 'audits.db'}",
        "AUDIT_ETL_SCHEDULES": SCHEDULES,
    }
    return load(None, variables)


@contextmanager
def simulated(clock: HandClock) -> Iterator[tuple[Simulator, str]]:
    with AuditLog.generate(seed=3, count=9_000, start=BEGIN, end=END) as log:
        simulator = Simulator(
            log=log, clock=clock, client_id=CLIENT_ID, client_secret=SECRET, query_seconds=0
        )
        with simulator.serve() as url:
            yield simulator, url


def faults_at(now: datetime) -> Faults:
    for day, hours, faults in TROUBLE:
        if START + day * DAY <= now < START + day * DAY + timedelta(hours=hours):
            return faults
    return Faults()


def live(app: App, clock: HandClock, simulator: Simulator, tick: Callable[[], None]) -> None:
    """Tick whenever a schedule fires, until the month is over."""
    slept = False
    while clock.now < END:
        simulator.faults = faults_at(clock.now)
        tick()
        simulator.queries.clear()  # what the organisation remembers is not our memory
        if clock.now >= START + SLEEP[0] and not slept:
            slept = True
            clock.now += SLEEP[1]
        firings = [schedules.next_firing(s, clock.now) for s in app.settings.schedules]
        clock.now = min(firing for firing in firings if firing)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_month_of_ticks_ends_complete_and_with_the_memory_of_its_first_hundred(
    tmp_path: Path,
) -> None:
    clock, counts, memory = HandClock(START), Counts(), list[int]()
    ticks = 0
    with (
        simulated(clock) as (simulator, url),
        App(
            settings_for(url, tmp_path),
            stop=Stop(clock),
            now=clock,
            monotonic=clock.monotonic,
            observer=counts,
        ) as app,
    ):
        worker = Worker(app, "default", counts, Turns(1, clock.monotonic), Keeper(app))

        def tick() -> None:
            nonlocal ticks
            worker.tick()
            ticks += 1
            if ticks == 100:
                gc.collect()
                memory.append(resident_bytes())

        live(app, clock, simulator, tick)
        gc.collect()
        memory.append(resident_bytes())
        simulator.faults = Faults()
        clock.now = END + 3 * DAY  # with the reconcile that is due then
        worker.tick()
        clock.now = END + 11 * DAY  # whatever is late is visible by then
        worker.tick()

        [watermark] = [app.ledger.watermark(stream) for stream in app.streams()]
        assert watermark is not None
        truth = simulator.log.truth(watermark.begins_at, watermark.reached, clock.now)
        assert [unraw(audit) for audit in audits_in(app.engine)] == [unraw(a) for a in rows(truth)]
        assert watermark.reached == END + 11 * DAY - app.settings.lag
        assert gaps_of(app.ledger.engine, app.streams()[0]) == []
    assert ticks > 1000
    assert counts.late > 50
    assert {type(error).__name__ for error in counts.failures} >= {
        "SourceUnavailable",
        "NotPermitted",
        "RateLimited",
    }
    assert memory[1] < 1.2 * memory[0]
