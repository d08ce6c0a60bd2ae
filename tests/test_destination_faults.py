"""Destinations that break, stall, fill up or refuse: told in one line, nothing claimed, mended by
the next run. The simulated organisation goes on meanwhile, and no lookback heals what a fault left.
"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
import sqlalchemy as sa

from etl.app import clock
from etl.destinations import sql as sql_module
from etl.destinations.sql import SqlDestination
from etl.records import Batch
from tests import servers
from tests.commands import audit_etl, start
from tests.daemons import Daemon, until
from tests.disks import Disk, small_disk
from tests.holdings import audits_in
from tests.live import Copy, Organisation, copy_at, living
from tests.samples import LOADED_AT, audits, batch, draft, hours, record
from tests.servers import OwnPostgres

on_servers = pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
on_mariadb = pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)

#: How another session takes a table, or on SQLite the file, for itself.
LOCK = {"postgresql": "LOCK TABLE {}", "mysql": "LOCK TABLES {} WRITE", "sqlite": "BEGIN IMMEDIATE"}
#: The sessions that wait for such a lock, in this database.
BLOCKED = {
    "postgresql": "SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "mysql": "SELECT id FROM information_schema.processlist "
    "WHERE db = DATABASE() AND state = 'Waiting for table metadata lock'",
}
#: All sessions of this database but the one that asks.
OTHERS = {
    "postgresql": "SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "mysql": "SELECT id FROM information_schema.processlist "
    "WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}
END = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}


@pytest.fixture
def organisation() -> Iterator[Organisation]:
    with living() as organisation:
        yield organisation


@pytest.fixture
def large_organisation() -> Iterator[Organisation]:
    """Of which eight minutes are some twenty megabytes."""
    with living(size=20_000) as organisation:
        yield organisation


@pytest.fixture
def copy(database_url: str, organisation: Organisation) -> Iterator[Copy]:
    """A copy of the organisation, with tables and nothing in them."""
    assert audit_etl("migrate", env=organisation.environment(database_url)).returncode == 0
    with copy_at(database_url, organisation) as copy:
        yield copy


@contextmanager
def administrator(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A session of the database that is not the program's."""
    url = engine.url.render_as_string(hide_password=False)
    plain = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with plain.connect() as connection:
        yield connection


@contextmanager
def locking(engine: sa.Engine, table: str) -> Iterator[None]:
    """Another session holds the table during the block."""
    plain = sa.create_engine(engine.url, poolclass=sa.NullPool)
    with plain.connect() as connection:
        connection.exec_driver_sql(LOCK[engine.dialect.name].format(table))
        yield
        connection.invalidate()


@contextmanager
def running_amid_a_transaction(
    engine: sa.Engine, env: dict[str, str]
) -> Iterator["subprocess.Popen[str]"]:
    """A run that has inserted audits and waits for the table of their changes."""
    with ExitStack() as stack:
        stack.enter_context(locking(engine, "audit_property_changes"))
        connection = stack.enter_context(administrator(engine))
        process = stack.enter_context(start("run", env=env))
        stack.callback(process.kill)
        blocked = sa.text(BLOCKED[engine.dialect.name])
        until(lambda: connection.execute(blocked).all(), "the run waits for the lock")
        yield process


def fails(*arguments: str, env: dict[str, str], says: str, entry: Sequence[str] = ()) -> None:
    """Run a command that the destination fails."""
    told(audit_etl(*arguments, env=env, entry=entry), says)


def ends(process: "subprocess.Popen[str]", says: str) -> None:
    """Wait for a command that the destination fails."""
    out, err = process.communicate(timeout=120)
    told(subprocess.CompletedProcess(process.args, process.returncode, out, err), says)


def told(result: "subprocess.CompletedProcess[str]", says: str) -> None:
    """Fail unless a command ended as one does whose destination is not available.

    Beside that line, only the lease may be spoken of that could not be given back.
    """
    assert result.returncode == 69, result.stderr
    *before, line = result.stderr.splitlines()
    assert line.startswith("audit-etl: ")
    assert says in line
    assert all("is not released, it ends by itself" in other for other in before)


def claims_nothing_false(copy: Copy) -> None:
    """Fail if the destination claims what it does not hold."""
    if copy.receipts:
        copy.keeps_its_promises()


def next_run(env: dict[str, str], entry: Sequence[str] = ()) -> datetime:
    """Run the same command without the fault; give until when it must have brought everything."""
    asked_at = clock().replace(microsecond=0)
    until(lambda: (clock() - asked_at).total_seconds() > 1, "the lag has passed")
    result = audit_etl("run", env=env, entry=entry)
    assert result.returncode == 0, result.stderr
    return asked_at


def next_run_completes(copy: Copy, env: dict[str, str]) -> None:
    """Fail unless all that was claimed is held, and the next run brings the rest."""
    claims_nothing_false(copy)
    assert copy.is_complete(next_run(env))


@pytest.mark.slow
@on_servers
def test_a_session_that_is_ended_amid_a_transaction_ends_the_run_and_nothing_of_it_counts(
    organisation: Organisation, database_url: str, copy: Copy
) -> None:
    env = organisation.environment(database_url)
    name = copy.engine.dialect.name
    with running_amid_a_transaction(copy.engine, env) as process:
        with administrator(copy.engine) as connection:
            [session] = connection.execute(sa.text(BLOCKED[name])).scalars()
            connection.exec_driver_sql(END[name].format(session))
        ends(process, "run the same command again when it is mended")

    assert (copy.receipts, copy.audits) == (0, [])
    next_run_completes(copy, env)


@on_servers
def test_sessions_that_are_ended_between_two_pages_are_replaced(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_module, "GROUP_BYTES", 1)
    shown = [record(f"{n}") for n in range(6)]
    ended = 0

    def pages() -> Iterator[Batch]:
        nonlocal ended
        name = engine.dialect.name
        for one in shown:
            yield batch(one)
            with administrator(engine) as connection:
                for session in connection.execute(sa.text(OTHERS[name])).scalars().all():
                    connection.exec_driver_sql(END[name].format(session))
                    ended += 1

    destination = SqlDestination(engine, lambda: LOADED_AT)
    receipt = destination.load(draft(hours(0, 1)), pages(), lambda _: None)

    assert ended >= len(shown) - 1
    assert receipt.new_events == len(shown)
    assert audits_in(engine) == audits(shown)


@pytest.mark.slow
def test_a_lock_that_is_held_for_long_ends_the_run(
    organisation: Organisation, database_url: str, copy: Copy
) -> None:
    env = organisation.environment(database_url)
    began = clock()

    with locking(copy.engine, "audit_events"):
        fails("run", env=env, says="when the other session, which holds a lock, has ended")

    assert 30 <= (clock() - began).total_seconds() < 100
    assert copy.receipts == 0
    next_run_completes(copy, env)


@pytest.mark.slow
@on_postgresql
def test_a_postgresql_that_is_read_only_is_told(
    organisation: Organisation, database_url: str, copy: Copy
) -> None:
    env = organisation.environment(database_url)
    alter = f"ALTER DATABASE {copy.engine.url.database}"
    assert audit_etl("run", env=env).returncode == 0
    receipts = copy.receipts

    with administrator(copy.engine) as connection:
        connection.exec_driver_sql(f"{alter} SET default_transaction_read_only = on")
        fails("run", env=env, says="when this user may write to it")
        connection.exec_driver_sql(f"{alter} RESET default_transaction_read_only")

    assert copy.receipts == receipts
    next_run_completes(copy, env)


@pytest.fixture
def reader(mariadb_server: str) -> Iterator[str]:
    """A user of MariaDB who may do nothing yet."""
    name = f"reader_{uuid4().hex[:12]}"
    server = sa.create_engine(mariadb_server, poolclass=sa.NullPool)
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE USER {name}@'%%'")
        yield name
        connection.exec_driver_sql(f"DROP USER {name}@'%%'")


@pytest.mark.slow
@on_mariadb
def test_a_user_who_may_only_read_is_told(
    organisation: Organisation, database_url: str, copy: Copy, reader: str
) -> None:
    env = organisation.environment(database_url)
    assert audit_etl("run", env=env).returncode == 0
    receipts = copy.receipts
    with administrator(copy.engine) as connection:
        connection.exec_driver_sql(f"GRANT SELECT ON {copy.engine.url.database}.* TO {reader}")
    url = copy.engine.url.set(username=reader).render_as_string(hide_password=False)

    fails("run", env=organisation.environment(url), says="when this user may write to it")

    assert copy.receipts == receipts
    next_run_completes(copy, env)


@contextmanager
def copy_on(disk: Disk, organisation: Organisation) -> Iterator[Copy]:
    """What is in the SQLite file of that disk."""
    with TemporaryDirectory() as folder:  # SQLite would not find it behind /proc
        shutil.copytree(disk.seen, folder, dirs_exist_ok=True)
        with copy_at(f"sqlite:///{folder}/audits.db", organisation) as copy:
            yield copy


def next_run_on_the_disk_completes(
    disk: Disk, organisation: Organisation, env: dict[str, str]
) -> None:
    """As `next_run_completes`."""
    with copy_on(disk, organisation) as copy:
        claims_nothing_false(copy)
    asked_at = next_run(env, disk.entry())
    with copy_on(disk, organisation) as copy:
        assert copy.is_complete(asked_at)


@pytest.mark.slow
@pytest.mark.usefixtures("mounts")
def test_a_disk_that_is_read_only_is_told(organisation: Organisation, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    env = organisation.environment(f"sqlite:///{folder}/audits.db")
    with small_disk(folder, "64m") as disk:
        next_run(env, disk.entry())
        disk.remount("ro")

        fails("run", env=env, entry=disk.entry(), says="check that its folder exists and is wri")

        disk.remount("rw")
        next_run_on_the_disk_completes(disk, organisation, env)


@pytest.mark.slow
@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("free", [0, 40_000, 400_000, 4_000_000, 16_000_000])
def test_a_full_disk_of_sqlite_is_told_and_the_next_run_mends_it(
    large_organisation: Organisation, tmp_path: Path, free: int
) -> None:
    folder = tmp_path / "disk"
    env = large_organisation.environment(f"sqlite:///{folder}/audits.db")
    with small_disk(folder, "200m") as disk:
        disk.fill(leaving=free)

        fails("run", env=env, entry=disk.entry(), says="when there is room on its disk")

        disk.clear()
        next_run_on_the_disk_completes(disk, large_organisation, env)


@pytest.fixture
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OwnPostgres]:
    """A PostgreSQL of this test's own."""
    with servers.own_postgres(tmp_path) as server:
        yield server


@pytest.mark.slow
def test_a_server_that_is_restarted_amid_a_load_ends_the_run_and_nothing_of_it_counts(
    organisation: Organisation, own_server: OwnPostgres
) -> None:
    env = organisation.environment(own_server.url)
    assert audit_etl("migrate", env=env).returncode == 0
    with copy_at(own_server.url, organisation) as copy:
        with running_amid_a_transaction(copy.engine, env) as process:
            own_server.stop()
            ends(process, "run the same command again when it is mended")
        fails("run", env=env, says="run the same command again when it is mended")
        own_server.start()

        assert (copy.receipts, copy.audits) == (0, [])
        next_run_completes(copy, env)


@pytest.mark.slow
def test_a_daemon_outlives_restarts_of_its_server(
    organisation: Organisation, own_server: OwnPostgres, tmp_path: Path
) -> None:
    env = organisation.environment(own_server.url)
    assert audit_etl("migrate", env=env).returncode == 0
    with (
        Daemon(tmp_path / "log", env) as daemon,
        copy_at(own_server.url, organisation) as copy,
    ):
        until(copy.caught_up, "it is up to date")
        for _ in range(2):
            said = daemon.log.count("failed: ")
            own_server.stop()
            daemon.says("failed: ", said + 1)
            own_server.start()

            until(partial(copy.goes_on, copy.receipts), "it goes on")
            copy.keeps_its_promises()
        assert daemon.ended() == 0

    assert "Traceback" not in daemon.log


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("free", [0, 2_000_000, 10_000_000])
def test_a_full_disk_of_postgresql_is_told_and_the_next_run_mends_it(
    large_organisation: Organisation, tmp_path: Path, free: int
) -> None:
    with servers.own_postgres(tmp_path, disk_size="200m") as server:
        assert server.disk is not None
        env = large_organisation.environment(server.url)
        assert audit_etl("migrate", env=env).returncode == 0
        server.disk.fill(leaving=free)

        fails("run", env=env, says="run the same command again when ")

        server.disk.clear()
        server.start()
        with copy_at(server.url, large_organisation) as copy:
            next_run_completes(copy, env)


@pytest.mark.slow
@on_servers
def test_half_of_the_tables_are_completed_by_migrating_again(
    organisation: Organisation, database_url: str, copy: Copy
) -> None:
    env = organisation.environment(database_url)
    with copy.engine.begin() as connection:  # as a migration leaves it that dies on MariaDB
        for statement in ("DROP TABLE watermarks, verifications", "DELETE FROM alembic_version"):
            connection.exec_driver_sql(statement)

    refused = audit_etl("run", env=env)
    migrated = audit_etl("migrate", env=env)

    assert refused.returncode == 78
    assert "run `audit-etl migrate`" in refused.stderr
    assert migrated.returncode == 0, migrated.stderr
    next_run_completes(copy, env)
