"""Destinations that break, stall, fill up or refuse: told in one line, nothing claimed, mended by
the next run. The simulated organisation goes on meanwhile, and no lookback heals what a fault left.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from etl.app import clock
from etl.destinations import rows
from etl.destinations import sql as sql_module
from etl.destinations.sql import SqlDestination
from etl.errors import DestinationUnavailable
from etl.progress import Receipt
from etl.records import Batch
from tests import servers
from tests.commands import audit_etl
from tests.daemons import Daemon, until
from tests.holdings import audits_in
from tests.live import Copy, Organisation, copy_at, living
from tests.mending import ends, fails, next_run_completes
from tests.samples import BEGIN, LOADED_AT, STREAM, audits, batch, draft, hours, load_into, record
from tests.servers import OwnPostgres
from tests.sessions import (
    BLOCKED,
    OTHERS,
    administrator,
    end_sessions,
    locking,
    running_amid_a_transaction,
)

on_servers = pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
on_mariadb = pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)


@pytest.fixture
def organisation() -> Iterator[Organisation]:
    with living() as organisation:
        yield organisation


@pytest.fixture
def copy(database_url: str, organisation: Organisation) -> Iterator[Copy]:
    """A copy of the organisation, with tables and nothing in them."""
    assert audit_etl("migrate", env=organisation.environment(database_url)).returncode == 0
    with copy_at(database_url, organisation) as copy:
        yield copy


@pytest.mark.slow
@on_servers
def test_a_session_that_is_ended_amid_a_transaction_ends_the_run_and_nothing_of_it_counts(
    organisation: Organisation, database_url: str, copy: Copy
) -> None:
    env = organisation.environment(database_url)
    with running_amid_a_transaction(copy.engine, env) as process:
        assert end_sessions(copy.engine, BLOCKED) == 1
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
        for one in shown:
            yield batch(one)
            ended += end_sessions(engine, OTHERS)

    destination = SqlDestination(engine, lambda: LOADED_AT)
    receipt = load_into(destination, draft(hours(0, 1)), pages(), lambda _: None)

    assert ended >= len(shown) - 1
    assert receipt.new_events == len(shown)
    assert audits_in(engine) == audits(shown)


@on_servers
def test_a_session_that_is_ended_before_rows_are_inserted_is_told_in_the_server_s_words(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = 0

    def rows_of(*arguments: Any) -> object:
        nonlocal ended
        ended += end_sessions(engine, OTHERS)
        return rows.rows_of(*arguments)

    monkeypatch.setattr(sql_module, "rows_of", rows_of)
    destination = SqlDestination(engine, lambda: LOADED_AT)
    shown = batch(record("a"))

    with pytest.raises(DestinationUnavailable, match=r"terminating|gone away|killed|Lost"):
        load_into(destination, draft(hours(0, 1)), [shown], lambda _: None)

    assert ended >= 1
    monkeypatch.undo()
    assert load_into(destination, draft(hours(0, 1)), [shown], lambda _: None).new_events == 1


@contextmanager
def answer_lost(engine: sa.Engine, number: int) -> Iterator[None]:
    """The server does the `number`th commit of the block, and the program never hears of it."""
    counted = 0

    def count(connection: sa.Connection) -> None:
        nonlocal counted
        counted += 1
        driver = connection.connection.driver_connection
        if counted == number and driver is not None:
            driver.commit()
            driver.close()

    event.listen(engine, "commit", count)
    try:
        yield
    finally:
        event.remove(engine, "commit", count)


@on_servers
@pytest.mark.parametrize("number", range(1, 6))
def test_a_commit_of_which_the_answer_is_lost_counts_once(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(sql_module, "GROUP_BYTES", 1)
    destination = SqlDestination(engine, lambda: LOADED_AT)
    destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
    shown = [record(f"{n}") for n in range(5)]

    def load() -> Receipt:
        pages = [batch(one) for one in shown]
        return load_into(destination, draft(hours(0, 1)), pages, lambda _: None)

    with answer_lost(engine, number), pytest.raises(DestinationUnavailable):
        load()
    held = audits_in(engine)
    again = load()

    assert held == audits(shown[:number])
    assert again.new_events == len(shown) - number
    assert audits_in(engine) == audits(shown)
    mark = destination.ledger.mark(STREAM)
    assert mark is not None
    assert mark.watermark == hours(0, 1).end


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


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OwnPostgres]:
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
