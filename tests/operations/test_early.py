"""A schedule that loads early: what is visible is there at once, and a window confirms it later."""

import json
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
import sqlalchemy as sa

from etl.app import App
from etl.config import load
from etl.daemon.runtime import Runtime
from etl.database.schema import early_audits
from etl.errors import ConfigurationError, NotPermitted, SourceUnavailable
from etl.ledger.lateness import unconfirmed
from etl.ledger.leases import LEASE_TIMING
from etl.ledger.status import gather
from etl.model import Receipt
from etl.monitoring.condition import look
from etl.monitoring.health import Monitor
from etl.operations import export
from etl.operations.early import EARLY_REACH, load_early, load_visible
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Faults, Simulator
from tests.support.daemons import until
from tests.support.destination_contents import audits_in
from tests.support.hostile_organization import Waits
from tests.support.simulated_organization import NOW, HandClock, audit

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
def simulator(log: AuditLog, time: HandClock) -> Simulator:
    return Simulator(log=log, clock=time, query_seconds=0)


@pytest.fixture
def variables(simulator: Simulator, tmp_path: Path) -> Iterator[dict[str, str]]:
    with simulator.serve() as url:
        yield {
            "GENESYSCLOUD_REGION": url,
            "GENESYSCLOUD_OAUTHCLIENT_ID": CLIENT_ID,
            "GENESYSCLOUD_OAUTHCLIENT_SECRET": CLIENT_SECRET,
            "AUDIT_ETL_DESTINATION": f"sqlite:///{tmp_path / 'a.db'}",
            "AUDIT_ETL_START": "3h",
            "AUDIT_ETL_SCHEDULES": json.dumps(EARLY),
        }


@pytest.fixture
def app(variables: dict[str, str], time: HandClock) -> Iterator[App]:
    with App(load(None, variables), stop=Event(), now=time, monotonic=time.monotonic) as made:
        yield made


def run(app: App) -> list[Receipt]:
    return [outcome for outcome in export.run(app) if isinstance(outcome, Receipt)]


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
    watermark = app.ledger.watermark(app.streams()[0])

    loaded = load_visible(app, "default")
    again = load_visible(app, "default")

    assert loaded == early(app) > 50
    assert again == 0
    assert app.ledger.watermark(app.streams()[0]) == watermark
    assert watermark is not None
    recent = app.source("default").recent.services()
    assert held(app) == shown(log, time.now, watermark.reached, recent)

    time.move(minutes=30)
    run(app)

    watermark = app.ledger.watermark(app.streams()[0])
    assert watermark is not None
    assert early(app) == 0
    assert held(app) == shown(log, time.now, watermark.reached)


def test_no_more_than_an_hour_is_loaded_early(app: App, time: HandClock) -> None:
    run(app)
    time.move(hours=2)

    load_visible(app, "default")

    since = min(audit.event_date for audit in audits_in(app.engine) if audit.event_date > NOW)
    assert time.now - EARLY_REACH <= since < time.now - EARLY_REACH / 2


SERVICES = "AUDIT_ETL_ORGANIZATIONS__DEFAULT__SERVICES"
#: The realtime query knows the first two of these.
NAMED = ("ContactCenter", "Directory", "Alerting")


def left_out(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for r in caplog.records if "not loaded early" in (text := r.getMessage())]


def services_early(app: App) -> set[str | None]:
    with app.engine.connect() as connection:
        marked = set(connection.execute(sa.select(early_audits.c.id)).scalars())
    return {audit.service_name for audit in audits_in(app.engine) if audit.id in marked}


@pytest.mark.parametrize("named", [False, True])
def test_a_service_that_the_realtime_query_does_not_know_is_left_out_with_one_warning(
    variables: dict[str, str],
    simulator: Simulator,
    time: HandClock,
    caplog: pytest.LogCaptureFixture,
    named: bool,
) -> None:
    simulator.faults = Faults(realtime_named=named)
    settings = load(None, variables | {SERVICES: ",".join(NAMED)})
    with App(settings, stop=Event(), now=time, monotonic=time.monotonic) as app:
        run(app)

        loaded = [load_visible(app, "default") for _ in range(2)]

        assert loaded[0] > loaded[1] == 0
        assert services_early(app) == {"ContactCenter", "Directory"}
        [warning] = left_out(caplog)
        assert "service Alerting" in warning
        assert "does not know it" in warning
        time.move(minutes=30)
        run(app)
        assert "Alerting" in {audit.service_name for audit in audits_in(app.engine)}


@pytest.mark.parametrize("services", ["*", "ContactCenter,Directory", "Directory,ContactCenter"])
def test_a_service_that_is_forbidden_is_left_out_with_one_warning(
    variables: dict[str, str],
    simulator: Simulator,
    time: HandClock,
    caplog: pytest.LogCaptureFixture,
    services: str,
) -> None:
    simulator.faults = Faults(realtime_named=True, forbidden_service="Directory")
    settings = load(None, variables | {SERVICES: services})
    with App(settings, stop=Event(), now=time, monotonic=time.monotonic) as app:
        run(app)

        for _ in range(2):
            load_visible(app, "default")

        assert "ContactCenter" in services_early(app)
        assert "Directory" not in services_early(app)
        [warning] = left_out(caplog)
        assert "service Directory" in warning
        assert "403" in warning


@pytest.mark.parametrize(
    ("services", "faults", "error"),
    [
        ("Directory", Faults(forbidden_service="Directory"), NotPermitted),
        ("ContactCenter,Directory", Faults(deny_permission=True), NotPermitted),
        ("*", Faults(deny_permission=True), NotPermitted),
        ("*", Faults(server_error_every=1), SourceUnavailable),
    ],
)
def test_what_concerns_every_service_is_an_error(
    variables: dict[str, str],
    simulator: Simulator,
    time: HandClock,
    services: str,
    faults: Faults,
    error: type[Exception],
) -> None:
    settings = load(None, variables | {SERVICES: services})
    with App(settings, stop=Waits(time), now=time, monotonic=time.monotonic) as app:
        app.prepare()
        for stream in app.streams():
            app.ledger.begin(stream, NOW - timedelta(hours=1), NOW)
        simulator.faults = faults

        with pytest.raises(error):
            load_visible(app, "default")


def test_nothing_is_loaded_early_of_services_that_the_realtime_query_does_not_know(
    variables: dict[str, str], time: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load(None, variables | {SERVICES: "Alerting"})
    with App(settings, stop=Event(), now=time, monotonic=time.monotonic) as app:
        app.prepare()

        assert load_visible(app, "default") == 0
        assert len(left_out(caplog)) == 1


def test_what_becomes_visible_before_the_watermark_is_left_to_the_lookbacks(
    variables: dict[str, str], simulator: Simulator, time: HandClock, database_url: str
) -> None:
    moments = [NOW - timedelta(minutes=minutes) for minutes in (50, 30, 12, 5)]
    seen = [(audit(n, moment), moment) for n, moment in enumerate(moments)]
    late = [(audit(n + 10, moment), NOW + timedelta(minutes=1)) for n, moment in enumerate(moments)]
    settings = load(None, variables | {"AUDIT_ETL_DESTINATION": database_url})
    with (
        AuditLog.of([*seen, *late]) as simulator.log,
        App(settings, stop=Event(), now=time, monotonic=time.monotonic) as app,
    ):
        app.migrate()
        run(app)
        watermark = app.ledger.watermark(app.streams()[0])
        time.move(minutes=2)

        assert load_visible(app, "default") == 2

        assert watermark is not None
        assert moments[2] < watermark.reached < moments[3]
        early_ids = {seen[3][0]["id"], late[3][0]["id"]}
        with app.engine.connect() as connection:
            assert set(connection.execute(sa.select(early_audits.c.id)).scalars()) == early_ids
        assert {*held(app)} == {record["id"] for record, _ in seen} | early_ids


def test_what_no_export_shows_is_counted_and_after_a_day_warned_of(
    variables: dict[str, str],
    time: HandClock,
    caplog: pytest.LogCaptureFixture,
    database_url: str,
) -> None:
    settings = load(None, variables | {"AUDIT_ETL_DESTINATION": database_url})
    with App(settings, stop=Event(), now=time, monotonic=time.monotonic) as app:
        app.migrate()
        run(app)
        [stream] = app.streams()
        odd = [json.dumps(audit(n, NOW - timedelta(minutes=5 - n))).encode() for n in range(3)]
        assert load_early(app.destination(), "default", odd) == 3
        load_visible(app, "default")

        def counted() -> tuple[int, int]:
            [status] = gather(app.ledger, [stream], NOW, time.now)
            [seen] = look(app).streams
            return status.early_unconfirmed, seen.early_unconfirmed

        assert counted() == (0, 0)
        time.move(minutes=12)
        run(app)
        assert counted() == (3, 3)
        load_visible(app, "default")
        assert "not been shown by any export" not in caplog.text
        time.move(days=1)
        run(app)
        for _ in range(2):
            load_visible(app, "default")
        assert caplog.text.count("3 audits that were loaded early have not been shown") == 1
        assert {record["id"] for record in map(json.loads, odd)} <= set(held(app))


def test_the_early_audits_of_a_service_are_counted_by_its_own_watermark(
    variables: dict[str, str], time: HandClock
) -> None:
    settings = load(None, variables | {SERVICES: "ContactCenter,Directory"})
    with App(settings, stop=Event(), now=time, monotonic=time.monotonic) as app:
        app.prepare()
        [contact_center, directory] = app.streams()
        ours = [json.dumps(audit(n, NOW - timedelta(hours=1))).encode() for n in range(2)]
        load_early(app.destination(), "default", ours)
        load_early(app.destination(), "other", ours)

        for moment, count in ((NOW - timedelta(hours=1), 0), (NOW, 2)):
            assert unconfirmed(app.engine, contact_center, moment) == count
        assert unconfirmed(app.engine, directory, NOW) == 0


def test_the_daemon_loads_early_when_such_a_schedule_fires(
    variables: dict[str, str], time: HandClock
) -> None:
    runtime = Runtime(load(None, variables), Monitor(), time, time.monotonic, LEASE_TIMING)
    with App(load(None, variables), stop=Event(), now=time, monotonic=time.monotonic) as reader:
        runtime.start()
        try:
            until(lambda: reader.ledger.last_receipt(reader.streams()[0]), "a window is loaded")
            runtime._wake(early=True)
            until(lambda: early(reader) > 50, "audits are loaded early")
        finally:
            runtime.ask_to_stop()
            assert runtime.has_ended(10)
            runtime.close()


def test_a_lake_is_not_loaded_early(variables: dict[str, str], tmp_path: Path) -> None:
    lake = {"AUDIT_ETL_DESTINATION": f"parquet://{tmp_path / 'lake'}"}

    with pytest.raises(ConfigurationError, match="early = true is not for this"):
        load(None, variables | lake)
