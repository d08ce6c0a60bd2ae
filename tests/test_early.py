"""A schedule that loads early: what is visible is there at once, and a window confirms it later."""

import json
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
import sqlalchemy as sa

from etl import operations
from etl.app import App
from etl.config import load
from etl.daemon.crew import Crew
from etl.errors import ConfigurationError
from etl.following import EARLY_REACH, load_visible
from etl.leases import TENURE
from etl.monitoring.health import Monitor
from etl.progress import Receipt
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Simulator
from tests.daemons import until
from tests.holdings import audits_in
from tests.simulated import NOW, HandClock

END = NOW + timedelta(hours=3)
EARLY = [{"name": "minutely", "interval": "1m", "lookback": "1h", "early": True}]


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    start = NOW - timedelta(hours=3)
    with AuditLog.generate(count=4_000, start=start, end=END, late_share=0) as made:
        yield made


@pytest.fixture
def time() -> HandClock:
    return HandClock()


@pytest.fixture
def variables(log: AuditLog, time: HandClock, tmp_path: Path) -> Iterator[dict[str, str]]:
    with Simulator(log=log, clock=time, query_seconds=0).serve() as url:
        yield {
            "GENESYSCLOUD_REGION": url,
            "GENESYSCLOUD_OAUTHCLIENT_ID": CLIENT_ID,
            "GENESYSCLOUD_OAUTHCLIENT_SECRET": CLIENT_SECRET,
            "AUDIT_ETL_DESTINATION": f"sqlite:///{tmp_path / 'a.db'}",
            "AUDIT_ETL_BEGIN": "3h",
            "AUDIT_ETL_SCHEDULES": json.dumps(EARLY),
        }


@pytest.fixture
def app(variables: dict[str, str], time: HandClock) -> Iterator[App]:
    with App(load(None, variables), stop=Event(), now=time) as made:
        yield made


def run(app: App) -> list[Receipt]:
    return [outcome for outcome in operations.run(app) if isinstance(outcome, Receipt)]


def early(app: App) -> int:
    with app.engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT COUNT(*) FROM early_audits")).scalar_one())


def held(app: App) -> list[str]:
    return [audit.id for audit in audits_in(app.engine)]


def shown(
    log: AuditLog, now: datetime, watermark: datetime, recent: Collection[str] = ()
) -> list[str]:
    """The audits that are visible: those before the watermark, and later ones of some services."""
    return sorted(
        str(audit["id"])
        for audit in log.truth(NOW - timedelta(hours=3), now, now)
        if datetime.fromisoformat(str(audit["eventDate"])) < watermark
        or audit["serviceName"] in recent
    )


def test_what_is_younger_than_the_lag_is_there_at_once_and_confirmed_by_a_window(
    app: App, log: AuditLog, time: HandClock
) -> None:
    run(app)
    mark = app.ledger.mark(app.streams()[0])

    loaded = load_visible(app, "default")
    again = load_visible(app, "default")

    assert loaded == early(app) > 50
    assert again == 0
    assert app.ledger.mark(app.streams()[0]) == mark
    assert mark is not None
    recent = app.source("default").recent.services()
    assert held(app) == shown(log, time.now, mark.watermark, recent)

    time.move(minutes=30)
    run(app)

    mark = app.ledger.mark(app.streams()[0])
    assert mark is not None
    assert early(app) == 0
    assert held(app) == shown(log, time.now, mark.watermark)


def test_no_more_than_an_hour_is_loaded_early(app: App, time: HandClock) -> None:
    run(app)
    time.move(hours=2)

    load_visible(app, "default")

    since = min(audit.event_date for audit in audits_in(app.engine) if audit.event_date > NOW)
    assert time.now - EARLY_REACH <= since < time.now - EARLY_REACH / 2


def test_the_daemon_loads_early_when_such_a_schedule_fires(
    variables: dict[str, str], time: HandClock
) -> None:
    crew = Crew(load(None, variables), Monitor(), time, TENURE)
    with App(load(None, variables), stop=Event(), now=time) as reader:
        crew.start()
        try:
            until(lambda: reader.ledger.last_receipt(reader.streams()[0]), "a window is loaded")
            crew._wake(early=True)
            until(lambda: early(reader) > 50, "audits are loaded early")
        finally:
            crew.ask_to_stop()
            assert crew.has_ended(10)
            crew.close()


def test_a_lake_is_not_loaded_early(variables: dict[str, str], tmp_path: Path) -> None:
    lake = {"AUDIT_ETL_DESTINATION": f"parquet://{tmp_path / 'lake'}"}

    with pytest.raises(ConfigurationError, match="early = true is for SQL only"):
        load(None, variables | lake)
