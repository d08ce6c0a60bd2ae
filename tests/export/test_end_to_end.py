"""From an organisation, over HTTP, into a database: complete, once, whatever happens on the way."""

import json
import random
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from etl.app import clock
from etl.records import Audit
from etl.simulator import AuditLog, Simulator
from tests.support import database_servers as servers
from tests.support.commands import CLIENT_ID, SECRET, audit_etl, environment, start
from tests.support.destination_contents import rows, unraw
from tests.support.places import Place

DAYS = 3
COUNT = 20_000


@dataclass
class Organisation:
    """A simulated organisation whose clock stands still unless the test moves it."""

    log: AuditLog
    simulator: Simulator
    url: str
    begin: datetime
    now: datetime

    def truth(self, start: datetime, end: datetime) -> list[Audit]:
        """The rows of what the organisation shows now of that span, without `raw`."""
        return [unraw(audit) for audit in rows(self.log.truth(start, end, self.now))]


def held(place: Place) -> list[Audit]:
    """The rows of what the destination holds, without `raw`."""
    return [unraw(audit) for audit in place.audits()]


@pytest.fixture(scope="module")
def log() -> Iterator[tuple[AuditLog, datetime]]:
    begin = clock().replace(microsecond=0) - timedelta(days=DAYS)
    with AuditLog.generate(
        seed=7, count=COUNT, start=begin, end=begin + timedelta(days=DAYS)
    ) as log:
        yield log, begin


@pytest.fixture
def organisation(log: tuple[AuditLog, datetime]) -> Iterator[Organisation]:
    made = Organisation(log[0], Simulator(log=log[0]), "", log[1], clock())
    made.simulator = Simulator(
        log=log[0],
        clock=lambda: made.now,
        client_id=CLIENT_ID,
        client_secret=SECRET,
        query_seconds=0,
    )
    with made.simulator.serve() as url:
        made.url = url
        yield made


def env_of(organisation: Organisation, destination: str = "", **more: str) -> dict[str, str]:
    if destination:
        more["AUDIT_ETL_DESTINATION"] = destination
    return environment(
        GENESYSCLOUD_REGION=organisation.url,
        GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
        GENESYSCLOUD_OAUTHCLIENT_SECRET=SECRET,
        **more,
    )


def done(*arguments: str, env: dict[str, str]) -> dict[str, list[dict[str, object]]]:
    """Run a command that must succeed; give its JSON."""
    result = audit_etl(*arguments, "--json", env=env)
    assert result.returncode == 0, result.stderr
    found: dict[str, list[dict[str, object]]] = json.loads(result.stdout)
    return found


def total(report: dict[str, list[dict[str, object]]], name: str) -> int:
    return sum(int(str(receipt[name])) for receipt in report["receipts"])


def end_of(report: dict[str, list[dict[str, object]]]) -> datetime:
    return max(datetime.fromisoformat(str(r["window_end"])) for r in report["receipts"])


@pytest.mark.promise("M1", "M2")
def test_two_runs_hold_each_audit_once_as_the_source_shows_it(
    organisation: Organisation, place: Place
) -> None:
    env = env_of(organisation, **place.variables)
    done("migrate", env=env)

    first = done("run", env=env)
    second = done("run", env=env)

    assert held(place) == organisation.truth(organisation.begin, end_of(second))
    assert total(first, "events") > COUNT * 0.9
    assert total(second, "requests") <= 8
    assert total(second, "new_events") == 0


def test_backfills_of_the_span_and_of_its_parts_in_any_order_change_nothing(
    organisation: Organisation, place: Place
) -> None:
    env = env_of(organisation, **place.variables)
    end = (organisation.begin + timedelta(hours=18)).replace(microsecond=0)
    cuts = [organisation.begin + n * (end - organisation.begin) / 5 for n in range(6)]
    pieces = list(pairwise(cuts))
    random.Random(3).shuffle(pieces)

    for start_of, end_of_piece in pieces:
        done("backfill", "--from", start_of.isoformat(), "--to", end_of_piece.isoformat(), env=env)
    parts = held(place)
    whole = done(
        "backfill", "--from", organisation.begin.isoformat(), "--to", end.isoformat(), env=env
    )

    assert parts == organisation.truth(organisation.begin, end)
    assert held(place) == parts
    assert total(whole, "new_events") == 0


@pytest.mark.parametrize("place", ["sqlite", "parquet", "parquet+s3"], indirect=True)
def test_audits_that_become_visible_late_are_there_after_the_next_run(
    organisation: Organisation, place: Place
) -> None:
    env = env_of(organisation, **place.variables)
    organisation.now -= timedelta(hours=2)
    before = done("run", env=env)
    organisation.now += timedelta(hours=2)

    after = done("run", "--lookback", "3d", env=env)

    assert total(after, "new_events") > 0
    late = [a for a in held(place) if a.event_date < end_of(before)]
    assert late == organisation.truth(organisation.begin, end_of(before))
    assert len(late) > total(before, "events")


@pytest.mark.promise("M6")
@pytest.mark.slow
@pytest.mark.parametrize("place", ["sqlite", "parquet", "parquet+s3"], indirect=True)
def test_a_run_killed_at_twenty_instants_ends_in_the_same_content(
    organisation: Organisation, place: Place
) -> None:
    begin = organisation.begin.isoformat()
    window = {"AUDIT_ETL_MAX_WINDOW": "6h", "AUDIT_ETL_START": begin}
    env = env_of(organisation, **place.variables, **window)
    moments = random.Random(11)
    for _ in range(20):
        with start("run", env=env) as process:
            time.sleep(moments.uniform(0.3, 1.5))  # noqa: TID251 - the instant is the test
            process.send_signal(signal.SIGKILL)
            process.communicate()

    report = done("run", env=env)

    assert held(place) == organisation.truth(organisation.begin, end_of(report))
    [stream] = json.loads(audit_etl("status", "--json", env=env).stdout)["streams"]
    assert stream["gaps"] == []
    assert datetime.fromisoformat(stream["watermark"]) == end_of(report)


@pytest.mark.parametrize("place", ["sqlite", "parquet", "parquet+s3"], indirect=True)
def test_a_signal_ends_a_run_between_two_pages_and_the_next_goes_on(
    organisation: Organisation, place: Place
) -> None:
    env = env_of(organisation, **place.variables)
    with start("run", env=env) as process:
        while organisation.simulator.requests["results"] < 3:
            assert process.poll() is None
            time.sleep(0.01)  # noqa: TID251 - waits for another process
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)

    assert process.returncode == 75
    assert "stopped" in err
    asked = organisation.simulator.requests["query"]
    report = done("run", env=env)
    assert held(place) == organisation.truth(organisation.begin, end_of(report))
    assert organisation.simulator.requests["query"] <= asked + 1


def test_a_secret_that_is_wrong_is_told_in_one_line(
    organisation: Organisation, tmp_path: Path
) -> None:
    env = env_of(organisation, f"sqlite:///{tmp_path / 'a.db'}")

    result = audit_etl("run", env=env | {"GENESYSCLOUD_OAUTHCLIENT_SECRET": "wrong-secret"})

    assert result.returncode == 77
    [line] = result.stderr.splitlines()
    assert "refused" in line
    assert "wrong region" in line.lower()
    assert "GENESYSCLOUD_OAUTHCLIENT_SECRET" in line
    assert "wrong-secret" not in line


def test_an_organisation_that_cannot_be_reached_is_69(tmp_path: Path) -> None:
    env = environment(
        GENESYSCLOUD_REGION="http://127.0.0.1:9",
        GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
        GENESYSCLOUD_OAUTHCLIENT_SECRET=SECRET,
        AUDIT_ETL_DESTINATION=f"sqlite:///{tmp_path / 'a.db'}",
    )

    result = audit_etl("run", env=env)

    assert result.returncode == 69
    assert "127.0.0.1" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("variables", "status", "says"),
    [
        ({"AUDIT_ETL_LAGG": "5m"}, 78, "did you mean AUDIT_ETL_LAG?"),
        ({"AUDIT_ETL_DESTINATION": "postgresql+psycopg://u:pw@127.0.0.1:9/x"}, 69, "refused"),
        ({"AUDIT_ETL_DESTINATION": "mysql+pymysql://u:pw@127.0.0.1:9/x"}, 69, "Can't connect"),
        ({"AUDIT_ETL_DESTINATION": "sqlite:////no/such/folder/a.db"}, 69, "folder exists"),
    ],
)
def test_what_is_wrong_with_the_surroundings_is_said_without_a_traceback(
    organisation: Organisation, tmp_path: Path, variables: dict[str, str], status: int, says: str
) -> None:
    env = env_of(organisation, f"sqlite:///{tmp_path / 'a.db'}") | variables

    result = audit_etl("run", env=env)

    assert result.returncode == status
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert "pw" not in result.stderr


def test_a_server_without_tables_is_not_written_to(
    organisation: Organisation, postgres_server: str
) -> None:
    with servers.fresh_database(postgres_server) as url:
        result = audit_etl("run", env=env_of(organisation, url))

    assert result.returncode == 78
    assert "audit-etl migrate" in result.stderr


def test_a_span_of_the_future_is_refused(organisation: Organisation, tmp_path: Path) -> None:
    env = env_of(organisation, f"sqlite:///{tmp_path / 'a.db'}")
    tomorrow = (clock() + timedelta(days=1)).isoformat()

    for arguments in (["--from", tomorrow], ["--from", "1d", "--to", tomorrow], ["--from", "1m"]):
        result = audit_etl("backfill", *arguments, env=env)
        assert result.returncode == 2
        assert "minus the lag" in result.stderr
    assert not (tmp_path / "a.db").exists()


def test_a_dry_run_asks_nothing(organisation: Organisation, tmp_path: Path) -> None:
    env = env_of(organisation, f"sqlite:///{tmp_path / 'a.db'}")

    result = audit_etl("backfill", "--from", "70d", "--dry-run", env=env)

    assert result.returncode == 0
    assert "3 windows, at least 9 requests, which take 1 min or more" in result.stdout
    assert sum(organisation.simulator.requests.values()) == 0
    assert not (tmp_path / "a.db").exists()


def test_an_empty_organisation_is_done_with_nothing(tmp_path: Path) -> None:
    with AuditLog.of([]) as log:
        simulator = Simulator(log=log, client_id=CLIENT_ID, client_secret=SECRET, query_seconds=0)
        with simulator.serve() as url:
            env = environment(
                GENESYSCLOUD_REGION=url,
                GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
                GENESYSCLOUD_OAUTHCLIENT_SECRET=SECRET,
                AUDIT_ETL_DESTINATION=f"sqlite:///{tmp_path / 'a.db'}",
            )
            report = done("run", env=env)

    assert [total(report, name) for name in ("events", "new_events")] == [0, 0]
    assert total(report, "requests") <= 4


@pytest.mark.promise("M7")
def test_two_runs_at_once_take_turns(organisation: Organisation, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'audits.db'}"
    env = env_of(organisation, url)
    done("migrate", env=env)
    with start("run", env=env) as first:
        while organisation.simulator.requests["results"] < 2:
            assert first.poll() is None
            time.sleep(0.01)  # noqa: TID251 - waits for another process
        refused = audit_etl("run", env=env)
        waited = audit_etl("run", "--wait", "1m", env=env)
        first.communicate(timeout=60)

    assert first.returncode == 0
    assert (refused.returncode, waited.returncode) == (75, 0)
    assert f"process {first.pid} on" in refused.stderr
    assert "since" in refused.stderr


@pytest.mark.parametrize("place", ["sqlite", "parquet", "parquet+s3"], indirect=True)
def test_services_named_in_the_configuration_are_streams_of_their_own(
    organisation: Organisation, place: Place
) -> None:
    services = sorted(organisation.log.services)[:2]
    env = env_of(
        organisation,
        **place.variables,
        AUDIT_ETL_ORGANIZATIONS__DEFAULT__SERVICES=",".join(services),
    )

    report = done("run", env=env)

    truth = organisation.truth(organisation.begin, end_of(report))
    assert held(place) == [audit for audit in truth if audit.service_name in services]
    assert sorted({str(r["stream"]) for r in report["receipts"]}) == services


def test_check_and_services_tell_what_the_organisation_grants(
    organisation: Organisation, tmp_path: Path
) -> None:
    env = env_of(organisation, f"sqlite:///{tmp_path / 'a.db'}")

    checked = audit_etl("check", env=env)
    first = audit_etl("services", env=env)
    again = audit_etl("services", "--json", env=env)

    assert checked.returncode == 0, checked.stderr
    assert "failed" not in checked.stdout
    assert re.search(r"default: \d+ services, (\d+) kinds of audit, \1 new", first.stdout)
    [found] = json.loads(again.stdout)
    assert found["new"] == 0
    assert {action["service"] for action in found["actions"]} >= {"Directory", "Architect"}


def test_a_relative_utc_day_is_a_window(organisation: Organisation, tmp_path: Path) -> None:
    env = env_of(organisation, f"sqlite:///{tmp_path / 'a.db'}")

    report = done("backfill", "--from", "yesterday", "--to", "today", env=env)

    [receipt] = report["receipts"]
    midnight = clock().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert receipt["window_end"] == midnight.isoformat().replace("+00:00", "Z")
