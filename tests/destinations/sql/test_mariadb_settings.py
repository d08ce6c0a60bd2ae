"""MariaDB servers whose settings are not the usual ones: what cannot be set is asked for and told.

Each is a server of the tests' own, for most of these settings cannot be changed for one session.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from etl.app import clock
from etl.database import limits, migration
from etl.database.engine import open_engine
from etl.database.transactions import transact
from etl.destinations.lake.local_storage import LocalStorage
from etl.destinations.sql.destination import SqlDestination
from etl.errors import AuditTooLarge, DestinationUnavailable
from etl.simulator import AuditLog, Simulator
from tests.support.authorities import own_mariadb
from tests.support.commands import CLIENT_ID, SECRET, audit_etl
from tests.support.database_servers import fresh_database
from tests.support.destination_contents import audits_in, audits_in_lake
from tests.support.live_organization import Organisation
from tests.support.samples import LOADED_AT, batch, draft, hours, load_into, record, unfenced
from tests.support.simulated_organization import audit

ODD = (
    "--innodb-default-row-format=compact",
    "--innodb-force-primary-key=ON",
    "--sql-mode=ORACLE,EMPTY_STRING_IS_NULL,PAD_CHAR_TO_FULL_LENGTH",
    "--sql-safe-updates=ON",
    "--autocommit=ON",
    "--completion-type=CHAIN",
    "--max-join-size=2",
    "--max-allowed-packet=1M",
    "--max-statement-time=30",
    "--character-set-server=latin1",
    "--default-storage-engine=MyISAM",
    "--default-time-zone=+05:30",
    "--transaction-isolation=SERIALIZABLE",
    "--lower-case-table-names=1",
)
PACKET = 1024 * 1024


def deep(levels: int) -> list[Any]:
    """A value that no reader of JSON goes down into."""
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


MADE = ("none", "last", "more")


@pytest.fixture(scope="module")
def odd_server() -> Iterator[str]:
    with own_mariadb(*ODD) as url:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql("SET GLOBAL sql_select_limit = 3, GLOBAL unique_checks = 0")
        yield url


@pytest.fixture
def odd(odd_server: str) -> Iterator[str]:
    """The URL of an empty database of that server."""
    with fresh_database(odd_server) as url:
        yield url


@contextmanager
def organisation(
    begin: datetime | None = None, missing: int | None = None, large: int | None = None, **more: Any
) -> Iterator[tuple[Organisation, list[str]]]:
    """An organisation with an audit each second of ten minutes, and their ids.

    Args:
        begin: when the first is; half an hour ago by default.
        missing: the number of one that is not visible.
        large: the number of one that is larger than a packet.
        more: members that the large one has besides.
    """
    begin = begin or clock().replace(microsecond=0) - timedelta(minutes=30)
    moments = {n: begin + timedelta(seconds=n) for n in range(600) if n != missing}
    made = {n: audit(n, at, context={"text": "é'"}) for n, at in moments.items()}
    if large is not None:
        made[large] |= {"context": {"text": "é'" * (PACKET // 2)}, **more}
    log = AuditLog.of((made[n], at) for n, at in moments.items())
    simulator = Simulator(log=log, client_id=CLIENT_ID, client_secret=SECRET, query_seconds=0)
    with log, simulator.serve() as url:
        yield Organisation(simulator, url, begin), [record["id"] for record in made.values()]


@pytest.mark.slow
def test_all_commands_work_on_it(odd: str) -> None:
    with organisation() as (source, ids):
        env = source.environment(odd)
        for command in ("migrate", "migrate", "run", "run", "status"):
            done = audit_etl(command, env=env)
            assert done.returncode == 0, done
        checked = audit_etl("check", env=env)
        end = source.begin + timedelta(minutes=20)
        span = ["--from", source.begin.isoformat(), "--to", end.isoformat()]
        verified = audit_etl("verify", *span, env=env)
        counted = audit_etl("query", "SELECT count(*) AS n FROM audit_events", env=env)

    assert "failed" not in checked.stdout
    assert "max_allowed_packet is 1048576 bytes" in checked.stdout
    assert "max_statement_time is 30 seconds" in checked.stdout
    assert "600" in verified.stdout
    assert counted.stdout.split() == ["n", "600"]
    engine = open_engine(odd)
    held = audits_in(engine)
    engine.dispose()
    assert sorted(one.id for one in held) == sorted(ids)


@pytest.mark.slow
def test_one_audit_too_large_for_a_packet_is_one_windows_failure(odd: str) -> None:
    with organisation(large=300) as (source, ids):
        env = source.environment(odd, AUDIT_ETL_MAX_WINDOW="3m")
        assert audit_etl("migrate", env=env).returncode == 0
        first = audit_etl("run", env=env)
        second = audit_etl("run", env=env)
        status = audit_etl("status", env=env)

    engine = open_engine(odd)
    held = {one.id for one in audits_in(engine)}
    engine.dispose()
    assert set(ids) - held == {ids[300]}
    for run in (first, second):
        last = run.stderr.splitlines()[-1]
        assert run.returncode == 69, run
        assert re.search(r"takes a statement of \d{7} bytes for its row of audit_events", last)
        assert "the server takes 1048576 (max_allowed_packet)" in last
        assert "set max_allowed_packet to" in last
    assert "gaps" in status.stdout


@pytest.mark.slow
@pytest.mark.parametrize("members", [{}, {"action": deep(500)}], ids=["an audit", "a reject"])
def test_one_too_large_that_came_late_is_told_until_it_is_loaded(
    odd: str, members: dict[str, Any]
) -> None:
    """It came into loaded time, and the next lookback does not reach it."""
    with organisation(missing=300) as (source, _):
        env = source.environment(odd)
        assert audit_etl("migrate", env=env).returncode == 0
        assert audit_etl("run", env=env).returncode == 0
        first = json.loads(audit_etl("status", "--json", env=env).stdout)
    with organisation(source.begin, large=300, **members) as (source, _):
        env = source.environment(odd)
        found = audit_etl("run", "--lookback", "1h", env=env)
        again = audit_etl("run", "--schedule", "frequent", "--lookback", "0s", env=env)
        status = json.loads(audit_etl("status", "--json", env=env).stdout)
        said = audit_etl("status", env=env).stdout

    assert [stream["gaps"] for stream in first["streams"]] == [[]]
    for run in (found, again):
        assert run.returncode == 69, run
        assert "set max_allowed_packet to" in run.stderr.splitlines()[-1]
    [stream] = status["streams"]
    [gap] = stream["gaps"]
    at = (source.begin + timedelta(seconds=300)).isoformat().replace("+00:00", "Z")
    assert gap["start"] <= at < gap["end"]
    assert "what came late in the gaps is not known" in said


@pytest.mark.slow
def test_a_lake_s_other_audits_are_loaded_beside_a_reject_too_large_for_its_state(
    odd: str, tmp_path: Path
) -> None:
    with organisation(large=300, action=deep(500)) as (source, ids):
        env = source.environment(f"parquet://{tmp_path / 'lake'}", AUDIT_ETL_LEDGER=odd)
        assert audit_etl("migrate", env=env).returncode == 0
        run = audit_etl("run", env=env)

    held = {one.id for one in audits_in_lake(LocalStorage(tmp_path / "lake"))}
    assert (run.returncode, set(ids) - held) == (69, {ids[300]})


@pytest.fixture(scope="module")
def four_mebibytes() -> Iterator[str]:
    with own_mariadb("--max-allowed-packet=4M") as url:
        yield url


@pytest.mark.slow
def test_a_statement_fills_a_packet_to_the_last_byte(four_mebibytes: str) -> None:
    """A record that is no audit is kept whole and once, so that each letter is a byte."""
    with fresh_database(four_mebibytes) as url:
        engine = open_engine(url)
        migration.upgrade(engine)
        destination = SqlDestination(engine, lambda: LOADED_AT)

        def load(name: str, letters: int) -> None:
            no_audit = record(name, message="é'" * 900_000 + "x" * letters) | {"id": None}
            shown = [record(f"{name}-before"), no_audit, record(f"{name}-after")]
            load_into(destination, draft(hours(0, 1)), [batch(*shown)], unfenced)

        with pytest.raises(AuditTooLarge) as raised:
            load("none", 4 * PACKET)
        needed, packet = map(int, re.findall(r"\d+", str(raised.value))[:2])
        fitting = 4 * PACKET - (needed - packet)
        load("last", fitting)
        with pytest.raises(AuditTooLarge):
            load("more", fitting + 1)
        with engine.connect() as connection:
            rejects = connection.exec_driver_sql("SELECT count(*) FROM audit_rejects").scalar()
        held = {one.id for one in audits_in(engine)}
        engine.dispose()

    assert packet == 4 * PACKET
    assert rejects == 1
    assert held == {f"{name}-{place}" for name in MADE for place in ("before", "after")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "write", "named", "remedy"),
    [
        (
            ("--log-bin", "--binlog-format=STATEMENT", "--server-id=1"),
            "INSERT INTO t VALUES (1)",
            "binlog_format",
            "MIXED or ROW",
        ),
        (
            ("--innodb-page-size=8k",),
            "ALTER TABLE t ADD s VARCHAR(1000) CHARACTER SET utf8mb4 PRIMARY KEY",
            "innodb_page_size",
            "16",
        ),
    ],
)
def test_a_server_that_cannot_hold_audits_is_told_before_and_when_it_refuses(
    options: tuple[str, ...], write: str, named: str, remedy: str
) -> None:
    with own_mariadb(*options) as server, fresh_database(server) as url:
        admin = sa.create_engine(url, poolclass=sa.NullPool)
        with admin.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE t (id INT) ENGINE=InnoDB")
        engine = open_engine(url)
        for look in (
            lambda: transact(engine, limits.require_usable),
            lambda: migration.upgrade(engine),
            lambda: transact(engine, lambda connection: connection.exec_driver_sql(write)),
        ):
            with pytest.raises(DestinationUnavailable, match=rf"{named} .*{remedy}"):
                look()
        engine.dispose()


@pytest.mark.slow
def test_an_init_connect_that_fails_is_named(odd: str) -> None:
    root = sa.create_engine(odd, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with root.connect() as connection:
        connection.exec_driver_sql("SET GLOBAL init_connect = 'SELECT nonsense'")
        connection.exec_driver_sql("CREATE USER ordinary@'127.0.0.1'")
        connection.exec_driver_sql("GRANT ALL ON `audit_etl%%`.* TO ordinary@'127.0.0.1'")
    engine = open_engine(str(sa.make_url(odd).set(username="ordinary")))
    try:
        with pytest.raises(DestinationUnavailable, match="when init_connect works"):
            transact(engine, lambda connection: connection.exec_driver_sql("SELECT 1"))
    finally:
        with root.connect() as connection:
            connection.exec_driver_sql("SET GLOBAL init_connect = ''")
            connection.exec_driver_sql("DROP USER ordinary@'127.0.0.1'")
