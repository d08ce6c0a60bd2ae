"""PgBouncer between the program and PostgreSQL, as Debian ships it, in each mode of pooling."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from etl.database import migration
from etl.database.engine import open_engine
from etl.database.transactions import read_only, transact
from etl.errors import DestinationUnavailable
from tests.support.commands import audit_etl
from tests.support.daemons import QUICK, Daemon, until
from tests.support.database_servers import free_port, fresh_database, listens
from tests.support.destination_contents import audits_in
from tests.support.external_programs import program
from tests.support.live_organization import Organisation, living

#: Fewer sessions than the program opens connections: they share them.
_SESSIONS = 3


@contextmanager
def pgbouncer(server: str, mode: str, sessions: int = _SESSIONS) -> Iterator[str]:
    """The URL of `server` through a PgBouncer with so many sessions for a database."""
    place, port = sa.make_url(server), free_port()
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="audit-etl-pgbouncer-"))
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n* = host={place.host} port={place.port} user={place.username}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = {mode}\ndefault_pool_size = {sessions}\n"
    )
    url = place.set(port=port).render_as_string(hide_password=False)
    command = [program("pgbouncer", "pgbouncer"), "-q", "-u", user, str(configuration)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: listens(port), "PgBouncer listens")
            yield url
        finally:
            process.kill()
            shutil.rmtree(folder)


@pytest.fixture(params=["session", "transaction"])
def pooled(request: pytest.FixtureRequest, postgres_server: str) -> Iterator[str]:
    """The URL of an empty database through a PgBouncer of each mode."""
    # In session mode each connection keeps a session of the server's.
    sessions = 30 if request.param == "session" else _SESSIONS
    with (
        fresh_database(postgres_server) as url,
        pgbouncer(postgres_server, request.param, sessions) as pooler,
    ):
        database = sa.make_url(url).database
        yield sa.make_url(pooler).set(database=database).render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def organisation() -> Iterator[Organisation]:
    with living() as made:
        yield made


def done(*arguments: str, env: dict[str, str]) -> str:
    result = audit_etl(*arguments, env=env)
    assert result.returncode == 0, (arguments, result.stdout, result.stderr)
    return result.stdout


@pytest.fixture
def env(pooled: str, organisation: Organisation) -> dict[str, str]:
    return organisation.environment(pooled)


@pytest.mark.slow
def test_every_command_works_through_pgbouncer(
    pooled: str, env: dict[str, str], organisation: Organisation
) -> None:
    done("migrate", env=env)
    checked = done("check", env=env)
    for _ in range(2):
        done("run", env=env)
    end = (organisation.begin + timedelta(minutes=5)).isoformat()
    span = ("--from", organisation.begin.isoformat(), "--to", end)
    verified = done("verify", *span, env=env)
    status = done("status", env=env)
    done("backfill", *span, env=env)
    asked = done("query", "SELECT count(*) AS n FROM audit_events", "--format", "csv", env=env)

    engine = open_engine(pooled)
    held = audits_in(engine)
    engine.dispose()
    assert "failed" not in checked
    assert "300" in verified
    assert "default" in status
    assert len(held) >= 300
    assert asked.split() == ["n", str(len(held))]


@pytest.mark.slow
def test_leases_of_two_daemons_hold_through_pgbouncer(
    pooled: str, env: dict[str, str], tmp_path: Path
) -> None:
    done("migrate", env=env)
    with (
        Daemon(tmp_path / "one.log", env, program=QUICK) as one,
        Daemon(tmp_path / "other.log", env, program=QUICK) as other,
    ):
        engine = open_engine(pooled)
        until(lambda: transact(engine, _scalar("SELECT count(*) FROM receipts")) > 2, "it loads")
        assert transact(engine, _scalar("SELECT count(DISTINCT holder) FROM leases")) == 1
        leader = int(transact(engine, _scalar("SELECT min(holder) FROM leases")).split("/")[1])
        first, second = (one, other) if one.process.pid == leader else (other, one)
        first.kill()
        loaded = transact(engine, _scalar("SELECT count(*) FROM receipts"))
        until(
            lambda: transact(engine, _scalar("SELECT count(*) FROM receipts")) > loaded,
            "taken over",
        )
        assert second.ended() == 0
        held = audits_in(engine)
        engine.dispose()
    assert len({audit.id for audit in held}) == len(held)


def _scalar(query: str) -> Callable[[sa.Connection], Any]:
    return lambda connection: connection.exec_driver_sql(query).scalar_one()


def test_no_session_of_a_pool_is_left_with_a_setting_that_changes_answers(pooled: str) -> None:
    engine = open_engine(pooled)
    migration.upgrade(engine)
    with read_only(engine) as connection:
        connection.exec_driver_sql("SELECT 1").all()
    for _ in range(20):  # more than psycopg executes before it prepares a statement
        transact(engine, lambda c: c.exec_driver_sql("SELECT 1").all())
    engine.dispose()

    plain = sa.create_engine(pooled, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    query = "SELECT name FROM pg_settings WHERE source = 'session'"
    left = set[str]()
    for _ in range(2 * _SESSIONS):
        with plain.connect() as connection:
            left |= set(connection.exec_driver_sql(query).scalars())
            assert connection.exec_driver_sql("SELECT 1 FROM pg_prepared_statements").all() == []
    # PgBouncer itself sets the first.
    assert {name for name in left if not name.startswith("tcp_keepalives_")} <= {"application_name"}


def test_what_pgbouncer_refuses_is_said_with_its_remedy(
    postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pgbouncer(postgres_server, "session") as url:
        monkeypatch.setenv("PGOPTIONS", "-c search_path=audits")
        with pytest.raises(DestinationUnavailable, match="ignore_startup_parameters"):
            transact(open_engine(url), _scalar("SELECT 1"))
        monkeypatch.delenv("PGOPTIONS")
    with (
        pgbouncer(postgres_server, "statement") as url,
        pytest.raises(DestinationUnavailable, match="pool_mode session or transaction"),
    ):
        transact(open_engine(url), _scalar("SELECT 1"))
