"""The daemon as a process: how it starts, stops, reads its configuration again, and outlasts."""

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.app import clock
from etl.ledger.leases import acquire
from etl.simulator.faults import Faults
from tests.support import database_servers as servers
from tests.support.commands import audit_etl
from tests.support.daemons import Daemon, proxy, until
from tests.support.live_organization import Organisation, copy_at, living


@pytest.fixture
def organisation() -> Iterator[Organisation]:
    with living() as organisation:
        yield organisation


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'audits.db'}"


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.slow
def test_a_daemon_brings_every_stream_up_to_date_and_goes_on(
    organisation: Organisation, url: str, tmp_path: Path
) -> None:
    env = organisation.environment(url)
    with Daemon(tmp_path / "log", env) as daemon, copy_at(url, organisation) as copy:
        until(lambda: copy.receipts >= 4, "four windows are loaded")
        copy.keeps_its_promises()

        assert daemon.ended() == 0

    assert "stopping on SIGTERM" in daemon.log


@pytest.mark.slow
def test_what_a_daemon_missed_while_it_was_down_is_asked_for_at_its_start(
    organisation: Organisation, url: str, tmp_path: Path
) -> None:
    daily = {"name": "daily", "interval": "1d", "lookback": "5m"}
    never = {"name": "never", "cron": "0 0 1 1 *", "lookback": "0s"}
    text = json.dumps([never, daily])
    env = organisation.environment(url, AUDIT_ETL_SCHEDULES=text)
    with copy_at(url, organisation) as copy:
        assert audit_etl("run", env=env).returncode == 0
        with copy.engine.begin() as connection:  # as if it had run before today's firing
            connection.execute(
                sa.text("UPDATE receipts SET started_at = '2026-01-01 00:00:00.000'")
            )

        with Daemon(tmp_path / "log", env):
            until(lambda: copy.receipts >= 2, "the lookback is asked for")

        daily_ones = "SELECT COUNT(*) FROM receipts WHERE schedule = 'daily'"
        assert copy.count(daily_ones) >= 1


def waiting_for_its_query(organisation: Organisation, daemon: Daemon, url: str) -> None:
    until(lambda: organisation.simulator.requests["status"] >= 1, "it asks how far its query is")


def waiting_for_the_rate_limit(organisation: Organisation, daemon: Daemon, url: str) -> None:
    daemon.says("429")


def waiting_for_a_lease(organisation: Organisation, daemon: Daemon, url: str) -> None:
    daemon.says("organisation default waits")


def idle(organisation: Organisation, daemon: Daemon, url: str) -> None:
    with copy_at(url, organisation) as copy:
        until(lambda: copy.receipts >= 1, "it has nothing to do")


def paging(organisation: Organisation, daemon: Daemon, url: str) -> None:
    until(lambda: organisation.simulator.requests["results"] >= 1, "it reads pages")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "number"),
    [
        (idle, signal.SIGTERM),
        (idle, signal.SIGINT),
        (waiting_for_its_query, signal.SIGTERM),
        (paging, signal.SIGTERM),
        (waiting_for_the_rate_limit, signal.SIGTERM),
        (waiting_for_a_lease, signal.SIGTERM),
    ],
)
def test_a_signal_ends_a_daemon_within_five_seconds_whatever_it_does(
    organisation: Organisation,
    url: str,
    tmp_path: Path,
    phase: Callable[[Organisation, Daemon, str], None],
    number: int,
) -> None:
    env = organisation.environment(url)
    if phase is waiting_for_its_query:
        organisation.simulator.query_seconds = 1000
    if phase is waiting_for_the_rate_limit:
        organisation.simulator.faults = Faults(too_many_requests_every=1, retry_after=100)
    if phase is waiting_for_a_lease:
        assert audit_etl("migrate", env=env).returncode == 0
        with copy_at(url, organisation) as copy:
            name = "daemon:default"
            acquire(copy.engine, name, "elsewhere/1/1", clock(), timedelta(hours=1))

    with Daemon(tmp_path / "log", env) as daemon:
        phase(organisation, daemon, url)

        assert daemon.ended(number) == 0

    assert "Traceback" not in daemon.log


@pytest.mark.slow
@pytest.mark.parametrize("who", ["source", "destination"])
def test_a_signal_ends_a_daemon_whose_request_is_never_answered(
    organisation: Organisation, url: str, tmp_path: Path, silent: int, who: str
) -> None:
    env = organisation.environment(url)
    if who == "source":
        env["GENESYSCLOUD_REGION"] = f"http://127.0.0.1:{silent}"
    else:
        env["AUDIT_ETL_DESTINATION"] = f"postgresql+psycopg://postgres@127.0.0.1:{silent}/x"
    with Daemon(tmp_path / "log", env) as daemon:
        pid = daemon.process.pid
        until(lambda: str(silent) and is_connected(pid, silent), "it waits for an answer")

        assert daemon.ended() == 0


def is_connected(pid: int, port: int) -> bool:
    """Whether a process has a connection to that port of this machine, by /proc."""
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    return any(
        fields[2].endswith(f":{port:04X}") and fields[3] == "01" for fields in map(str.split, lines)
    )


@pytest.mark.slow
def test_a_daemon_that_was_ended_in_mid_query_goes_on_with_that_query(
    organisation: Organisation, url: str, tmp_path: Path
) -> None:
    simulator = organisation.simulator
    simulator.query_seconds = 1000
    env = organisation.environment(url)
    with Daemon(tmp_path / "1.log", env) as daemon, copy_at(url, organisation) as copy:
        waiting_for_its_query(organisation, daemon, url)
        assert daemon.ended() == 0
        [query] = list(simulator.queries)
        simulator.queries[query].ready_ms = 0
        simulator.query_seconds = 0

        with Daemon(tmp_path / "2.log", env):
            until(copy.caught_up, "the next one goes on")

        assert copy.count(f"SELECT COUNT(*) FROM receipts WHERE query_id = '{query}'") == 1
        copy.keeps_its_promises()


def test_a_wrong_configuration_ends_a_daemon_at_its_start(
    organisation: Organisation, tmp_path: Path
) -> None:
    env = organisation.environment("sqlite:///a.db", AUDIT_ETL_LAGG="1s")

    result = audit_etl("daemon", env=env, cwd=tmp_path)

    assert result.returncode == 78
    assert result.stderr.splitlines() == [
        "audit-etl: AUDIT_ETL_LAGG: no such setting; did you mean AUDIT_ETL_LAG?"
    ]


def test_a_server_without_tables_ends_a_daemon_at_its_start(
    organisation: Organisation, postgres_server: str
) -> None:
    with servers.fresh_database(postgres_server) as url:
        result = audit_etl("daemon", env=organisation.environment(url))

    assert result.returncode == 78
    assert "run `audit-etl migrate` once" in result.stderr


#: The program, with a bug in what it does with the third receipt.
BUGGY = """
from etl.cli import daemon, main
from etl.monitoring.health import Monitor
class Buggy(Monitor):
    count = 0
    def loaded(self, receipt):
        self.count += 1
        1 / (3 - self.count)
daemon.Monitor = Buggy
main()
"""


@pytest.mark.slow
def test_a_bug_ends_the_daemon_with_its_traceback(
    organisation: Organisation, url: str, tmp_path: Path
) -> None:
    with Daemon(tmp_path / "log", organisation.environment(url), BUGGY) as daemon:
        assert daemon.process.wait(60) == 1

    assert "ZeroDivisionError" in daemon.log
    assert "this is a bug in audit-etl" in daemon.log


@pytest.mark.slow
def test_a_hangup_brings_a_new_configuration_into_force_or_says_why_not(
    organisation: Organisation, url: str, tmp_path: Path
) -> None:
    config = tmp_path / "audit-etl.toml"
    frequent = '[[schedules]]\nname = "{}"\ninterval = "1s"\nlookback = "0s"\n'
    config.write_text(frequent.format("before"))
    env = organisation.environment(url, AUDIT_ETL_CONFIG=str(config))
    del env["AUDIT_ETL_SCHEDULES"]
    by = "SELECT COUNT(*) FROM receipts WHERE schedule = '{}'"
    with Daemon(tmp_path / "log", env) as daemon, copy_at(url, organisation) as copy:
        until(lambda: copy.count(by.format("before")) >= 1, "the first is in force")

        config.write_text('lagg = "1m"\nstrt = "1d"\n' + frequent.format("wrong"))
        daemon.send(signal.SIGHUP)
        daemon.says("the new configuration is refused, the old one stays")
        before = copy.receipts
        until(lambda: copy.receipts > before, "the old one is in force")
        config.write_text(frequent.format("after"))
        daemon.send(signal.SIGHUP)
        until(lambda: copy.count(by.format("after")) >= 1, "the new one is in force")

        copy.keeps_its_promises()
        assert daemon.ended() == 0
    [refusal] = [line for line in daemon.log.splitlines() if "refused" in line]
    assert "did you mean lag?" in refusal
    assert "did you mean start?" in refusal
    assert copy.count(by.format("wrong")) == 0


@pytest.mark.slow
def test_a_daemon_without_its_database_goes_on_when_it_is_back(
    organisation: Organisation, tmp_path: Path, postgres_server: str
) -> None:
    with ExitStack() as stack:
        direct = stack.enter_context(servers.fresh_database(postgres_server))
        assert audit_etl("migrate", env=organisation.environment(direct)).returncode == 0
        place = sa.make_url(direct)
        between = stack.enter_context(proxy(str(place.host), int(place.port or 5432)))
        between.refuse()
        through = place.set(host="127.0.0.1", port=between.port)
        env = organisation.environment(through.render_as_string(hide_password=False))
        daemon = stack.enter_context(Daemon(tmp_path / "log", env))
        copy = stack.enter_context(copy_at(direct, organisation))
        daemon.says("failed: ")
        between.refusing = False
        until(copy.caught_up, "it begins when the database is there")

        for _ in range(3):
            said = daemon.log.count("failed: ")
            between.refuse()
            daemon.says("failed: ", said + 1)
            between.refusing = False
            until(partial(copy.goes_on, copy.receipts), "it goes on")
            copy.keeps_its_promises()

        assert daemon.ended() == 0


@pytest.mark.slow
def test_a_daemon_without_its_source_goes_on_when_it_is_back(
    organisation: Organisation, url: str, tmp_path: Path
) -> None:
    port = int(organisation.url.rpartition(":")[2])
    with proxy("127.0.0.1", port) as between, copy_at(url, organisation) as copy:
        env = organisation.environment(url)
        env["GENESYSCLOUD_REGION"] = f"http://127.0.0.1:{between.port}"
        with Daemon(tmp_path / "log", env) as daemon:
            until(copy.caught_up, "it is up to date")

            between.refuse()
            daemon.says("next attempt in")
            between.refusing = False

            until(partial(copy.goes_on, copy.receipts), "it goes on")
            copy.keeps_its_promises()
            assert daemon.ended() == 0
