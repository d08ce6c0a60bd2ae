"""The health server over a real socket, with destinations that are well, ill, or hang."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from etl.app import App
from etl.config import load
from etl.encryption import is_loopback
from etl.errors import ConfigurationError
from etl.genesys.client.events import Waited
from etl.ledger.receipts import record
from etl.model import Receipt, Stream
from etl.monitoring import health
from etl.monitoring.condition import Condition, look
from etl.monitoring.health import Monitor, serve_health
from etl.window import Window
from tests.support.commands import SECRET
from tests.support.simulated_organization import NOW, HandClock

STREAM = Stream("acme")
DAY = timedelta(days=1)
ANY_PORT = ("127.0.0.1", 0)
NAMES = ("watermark_age_seconds", "oldest_unexported_age_seconds", "last_success_timestamp_seconds")


@pytest.fixture
def time() -> HandClock:
    return HandClock()


@contextmanager
def app_of(destination: str, time: HandClock, **variables: str) -> Iterator[App]:
    organization = {
        "AUDIT_ETL_ORGANIZATIONS__ACME__REGION": "us-east-1",
        "AUDIT_ETL_ORGANIZATIONS__ACME__CLIENT_ID": "id",
        "AUDIT_ETL_ORGANIZATIONS__ACME__CLIENT_SECRET": SECRET,
    }
    settings = load(None, organization | {"AUDIT_ETL_DESTINATION": destination} | variables)
    with App(settings, stop=Event(), now=time, monotonic=time.monotonic) as app:
        yield app


@pytest.fixture
def app(tmp_path: Path, time: HandClock) -> Iterator[App]:
    with app_of(f"sqlite:///{tmp_path / 'a.db'}", time) as made:
        yield made


@contextmanager
def served(app: App | None) -> Iterator[str]:
    monitor = Monitor()
    if app:
        monitor.in_force(app)
    with serve_health(ANY_PORT, monitor) as url:
        yield url


def asked(url: str, path: str) -> tuple[int, str]:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url + path, timeout=10)
    assert answer.headers["Content-Type"].startswith("text/plain")
    return answer.status_code, answer.text


def loaded(app: App, start: datetime, end: datetime) -> None:
    """Let the ledger say that the time from `start` to `end` was loaded, now."""
    receipt = Receipt(STREAM, Window(start, end), "q", 1, 1, 0, 3, "frequent", NOW, app.now())
    with app.engine.begin() as connection:
        record(connection, receipt)


def values(url: str) -> dict[str, float]:
    """Each metric's value; of one that has several, the last."""
    status, text = asked(url, "/metrics")
    assert status == 200
    return {
        sample.name.removeprefix("audit_etl_"): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def started(app: App) -> App:
    """An app whose stream has begun thirty days ago, and is an hour behind."""
    app.prepare()
    app.ledger.begin(STREAM, NOW - 30 * DAY, NOW)
    loaded(app, NOW - 30 * DAY, NOW - timedelta(hours=1))
    return app


def test_a_daemon_that_is_up_to_date_is_alive_and_ready(started: App) -> None:
    with served(started) as url:
        answers = [asked(url, path) for path in ("/healthz", "/readyz")]
        found = values(url)

    assert answers == [(200, "alive\n"), (200, "ready\n")]
    assert found["destination_up"] == 1
    assert found["behind_limit_seconds"] == 6 * 3600
    assert found["rejects"] == 0
    assert [found[name] for name in NAMES] == [3600, 3600, NOW.timestamp()]
    assert found["watermark_timestamp_seconds"] == (NOW - timedelta(hours=1)).timestamp()


def test_a_stream_that_is_further_behind_than_its_limit_is_not_ready(
    started: App, time: HandClock
) -> None:
    time.move(hours=6, seconds=30)

    with served(started) as url:
        answer = asked(url, "/readyz")

    assert answer == (
        503,
        "acme/* is 7h behind, and may be 6h: see the log for what holds it up\n",
    )


def test_what_has_not_happened_yet_is_shown_as_none_at_all(started: App) -> None:
    with served(started) as url:
        found = values(url)

    counted = ("audits_loaded_total", "audits_new_total", "failures_total", "lease_held")
    measured = ("late_arrival_age_seconds_count", "budget_wait_seconds_total")
    assert [found[name] for name in (*counted, *measured)] == [0] * 6


def test_a_gap_that_the_source_is_about_to_forget_has_its_age(started: App) -> None:
    loaded(started, NOW - 360 * DAY, NOW - 350 * DAY)

    with served(started) as url:
        found = values(url)

    assert found["oldest_unexported_age_seconds"] == (350 * DAY).total_seconds()
    assert found["watermark_age_seconds"] == 3600


def test_a_gap_that_the_source_has_forgotten_counts_as_far_as_it_can_be_had(started: App) -> None:
    loaded(started, NOW - 500 * DAY, NOW - 400 * DAY)
    loaded(started, NOW - 390 * DAY, NOW - 300 * DAY)

    with served(started) as url:
        found = values(url)

    assert found["oldest_unexported_age_seconds"] == (300 * DAY).total_seconds()


def test_before_the_first_run_it_is_not_ready_and_says_why(app: App) -> None:
    with served(None) as url:
        starting = asked(url, "/readyz")
    with served(app) as url:
        new = asked(url, "/readyz")
    app.prepare()
    with served(app) as url:
        migrated = asked(url, "/readyz")
        found = values(url)

    assert starting == (503, "the daemon is starting\n")
    assert new == (503, "there are no tables yet: the first run makes them\n")
    assert migrated == (503, "acme/* has not been exported yet\n")
    assert found["destination_up"] == 1
    assert found["last_success_timestamp_seconds"] == 0
    assert not found.keys() & {"watermark_age_seconds", "oldest_unexported_age_seconds"}


def test_a_destination_that_is_not_there_is_told_without_its_password(
    time: HandClock,
) -> None:
    with (
        app_of("postgresql+psycopg://audit:pass-word@127.0.0.1:9/audit", time) as app,
        served(app) as url,
    ):
        status, why = asked(url, "/readyz")
        found = values(url)

    assert status == 503
    assert "127.0.0.1:9/audit failed:" in why
    assert "pass-word" not in why
    assert why.count("\n") == 1
    assert found["destination_up"] == 0


def test_a_database_that_hangs_holds_up_no_answer(
    time: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LOOK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with (
            app_of(f"postgresql+psycopg://u@127.0.0.1:{port}/d", time) as app,
            served(app) as url,
        ):
            answers = [asked(url, path) for path in ("/readyz", "/readyz", "/healthz")]
            found = values(url)

    assert answers[0][0] == answers[1][0] == 503
    assert answers[0][1].startswith("the destination has not answered within")
    assert answers[2] == (200, "alive\n")
    assert found["destination_up"] == 0


def test_a_look_that_hangs_for_long_is_given_up_for_another(
    started: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = Event()
    looks: list[App] = []

    def hang_once(app: App) -> Condition:
        looks.append(app)
        if len(looks) == 1:
            hanging.wait(10)
        return look(app)

    monkeypatch.setattr(health, "look", hang_once)
    monkeypatch.setattr(health, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(health, "HANGING_SECONDS", 0.0)
    with served(started) as url:
        first = asked(url, "/readyz")[0]
        monkeypatch.setattr(health, "LOOK_SECONDS", 5.0)
        second = asked(url, "/readyz")[0]
        hanging.set()

    assert (first, second) == (503, 200)


def test_a_main_loop_that_does_not_turn_is_not_alive(
    started: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = Monitor()
    monkeypatch.setattr(health, "BEAT_SECONDS_MAX", 0.5)
    with serve_health(ANY_PORT, monitor) as url:
        while monitor.seconds_since_beat <= 0.5:
            Event().wait(0.05)
        stuck = asked(url, "/healthz")
        monitor.beat()
        again = asked(url, "/healthz")

    assert stuck == (503, "the daemon's main loop has not turned for 1 s\n")
    assert again == (200, "alive\n")


def test_an_organisation_at_work_that_shows_no_sign_of_life_is_told(
    started: App, time: HandClock
) -> None:
    monitor = Monitor(time.monotonic)
    monitor.in_force(started)
    with serve_health(ANY_PORT, monitor) as url:
        monitor.begins("acme")
        since = time.now
        time.move(seconds=1800)
        alive = asked(url, "/healthz")
        time.move(seconds=1)
        still = asked(url, "/healthz")
        monitor.told("acme", Waited(1.0))
        again = asked(url, "/healthz")
        time.move(hours=1)
        monitor.rests("acme")
        at_rest = asked(url, "/healthz")

    assert alive == again == at_rest == (200, "alive\n")
    assert still == (
        503,
        f"the work for acme has not moved since {since:%Y-%m-%dT%H:%M:%SZ}: restart the daemon\n",
    )


def test_a_bug_is_answered_with_500_and_nothing_else(
    started: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(app: App) -> Condition:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(health, "look", broken)
    with served(started) as url:
        answer = asked(url, "/readyz")

    assert answer == (500, "Internal Server Error")
    assert "RuntimeError" in caplog.text


def test_an_address_that_is_taken_is_a_setting_to_change_and_off_is_none() -> None:
    with served(None) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(
            ConfigurationError, match=f"port {port}: .*; choose another one, or off"
        ):
            serve_health(("127.0.0.1", port), Monitor()).__enter__()
    with serve_health(None, Monitor()) as nothing:
        assert nothing == ""
    with serve_health(("::1", 0), Monitor()) as url:
        assert asked(url, "/healthz") == (200, "alive\n")


def test_the_address_is_on_this_machine_only_unless_told_otherwise() -> None:
    endpoint = load(None, {}).health_endpoint

    assert endpoint is not None
    assert is_loopback(endpoint[0])


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("off", None),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:9464", ("::1", 9464)),
        ("h:0", ("h", 0)),
    ],
)
def test_the_address_is_read(text: str, endpoint: tuple[str, int] | None) -> None:
    assert load(None, {"AUDIT_ETL_HEALTH_ADDRESS": text}).health_endpoint == endpoint


@pytest.mark.parametrize(
    "text", ["9464", ":9464", "h", "h:99999", "h:x", "u@h:1", "h:1/p", "::1:9"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="HEALTH_ADDRESS: must be HOST:PORT"):
        load(None, {"AUDIT_ETL_HEALTH_ADDRESS": text})
