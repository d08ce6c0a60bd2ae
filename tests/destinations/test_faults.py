"""Destinations that break, stall, fill up or refuse: told in one line, nothing claimed, mended by
the next run. The simulated organisation goes on meanwhile, and no lookback heals what a fault left.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from etl.app import clock
from etl.destinations.sql import destination as sql_module
from etl.destinations.sql import rows
from etl.destinations.sql.destination import SqlDestination
from etl.errors import DestinationUnavailable
from etl.model import Receipt
from etl.records import Batch
from etl.sizes import Sizes
from tests.support import database_servers as servers
from tests.support.commands import audit_etl
from tests.support.daemons import Daemon, proxy, until
from tests.support.database_servers import OwnPostgres
from tests.support.database_sessions import (
    BLOCKED,
    OTHERS,
    administrator,
    decree,
    end_sessions,
    locking,
    role,
    running_amid_a_transaction,
)
from tests.support.destination_contents import audits_in
from tests.support.live_organization import Copy, Organisation, copy_at, living
from tests.support.recovery import ends, fails, next_run_completes
from tests.support.samples import (
    BEGIN,
    LOADED_AT,
    STREAM,
    audits,
    batch,
    draft,
    hours,
    load_into,
    record,
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
        ends(process, "run the same command again when it is repaired")

    assert (copy.receipts, copy.audits) == (0, [])
    next_run_completes(copy, env)


@on_servers
def test_sessions_that_are_ended_between_two_pages_are_replaced(
    engine: sa.Engine,
) -> None:
    shown = [record(f"{n}") for n in range(6)]
    ended = 0

    def pages() -> Iterator[Batch]:
        nonlocal ended
        for one in shown:
            yield batch(one)
            ended += end_sessions(engine, OTHERS)

    destination = SqlDestination(engine, lambda: LOADED_AT, Sizes(group_bytes=1))
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
def test_a_commit_of_which_the_answer_is_lost_counts_once(engine: sa.Engine, number: int) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT, Sizes(group_bytes=1))
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
    watermark = destination.ledger.watermark(STREAM)
    assert watermark is not None
    assert watermark.reached == hours(0, 1).end


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
            ends(process, "run the same command again when it is repaired")
        fails("run", env=env, says="when a server listens there: start it")
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
@pytest.mark.parametrize("way", ["several servers in the URL", "one address"])
def test_a_daemon_goes_on_with_the_server_that_took_over(
    organisation: Organisation, own_server: OwnPostgres, tmp_path: Path, way: str
) -> None:
    assert audit_etl("migrate", env=organisation.environment(own_server.url)).returncode == 0
    standby = own_server.make_standby()
    with ExitStack() as stack:
        stack.callback(standby.stop)
        standby.start()
        line = stack.enter_context(proxy("127.0.0.1", own_server.port))
        url = f"postgresql://postgres@127.0.0.1:{line.port}/postgres"
        if way != "one address":
            both = f"127.0.0.1:{own_server.port},127.0.0.1:{standby.port}"
            url = f"postgresql://postgres@{both}/postgres?target_session_attrs=read-write"
        daemon = stack.enter_context(Daemon(tmp_path / "log", organisation.environment(url)))
        before = stack.enter_context(copy_at(own_server.url, organisation))
        until(before.caught_up, "it is up to date")

        own_server.hand_over_to(standby)
        line.lead_to("127.0.0.1", standby.port)

        copy = stack.enter_context(copy_at(standby.url, organisation))
        until(partial(copy.goes_on, before.receipts), "it goes on with the other server")
        copy.keeps_its_promises()
        assert daemon.ended() == 0
        assert "Traceback" not in daemon.log


@dataclass(frozen=True)
class Trouble:
    """What an administrator does to a database at work.

    Attributes:
        begin: the statement, about a user {it} and a {database}.
        end: what undoes it.
        says: what the daemon tells of it.
    """

    begin: str
    end: str
    says: str


TABLE = "audit_property_changes"
TROUBLES = {
    "postgresql": {
        "the user may not log in": Trouble(
            "ALTER ROLE {it} NOLOGIN", "ALTER ROLE {it} LOGIN", "when this user may log in"
        ),
        "the user has no connections": Trouble(
            "ALTER ROLE {it} CONNECTION LIMIT 0",
            "ALTER ROLE {it} CONNECTION LIMIT -1",
            "lower `concurrency`",
        ),
        "the user may not write": Trouble(
            f"REVOKE INSERT ON {TABLE} FROM {{it}}",
            f"GRANT INSERT ON {TABLE} TO {{it}}",
            "grant SELECT, INSERT, UPDATE and DELETE",
        ),
        "the database takes no connections": Trouble(
            "ALTER DATABASE {database} ALLOW_CONNECTIONS false",
            "ALTER DATABASE {database} ALLOW_CONNECTIONS true",
            "is not currently accepting connections",
        ),
        "a table is gone": Trouble(
            f"ALTER TABLE {TABLE} RENAME TO away",
            f"ALTER TABLE away RENAME TO {TABLE}",
            "when its tables are whole",
        ),
        "all is read-only": Trouble(
            "ALTER DATABASE {database} SET default_transaction_read_only = on",
            "ALTER DATABASE {database} RESET default_transaction_read_only",
            "use the primary",
        ),
        "a statement may take no time": Trouble(
            "ALTER ROLE {it} SET statement_timeout = 1",
            "ALTER ROLE {it} RESET statement_timeout",
            "failed: ",
        ),
    },
    "mysql": {
        "the user may not log in": Trouble(
            "ALTER USER {it} ACCOUNT LOCK",
            "ALTER USER {it} ACCOUNT UNLOCK",
            "when this user may log in",
        ),
        "the user may not write": Trouble(
            "REVOKE INSERT ON {database}.* FROM {it}",
            "GRANT INSERT ON {database}.* TO {it}",
            "grant SELECT, INSERT, UPDATE and DELETE",
        ),
        "a table is gone": Trouble(
            f"RENAME TABLE {{database}}.{TABLE} TO {{database}}.away",
            f"RENAME TABLE {{database}}.away TO {{database}}.{TABLE}",
            "when its tables are whole",
        ),
    },
}
GRANTS = {
    "postgresql": ("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {it}",),
    "mysql": ("GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO {it}",),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("database_url", "trouble"),
    [
        pytest.param("mariadb" if kind == "mysql" else kind, trouble, id=f"{kind}: {name}")
        for kind, troubles in TROUBLES.items()
        for name, trouble in troubles.items()
    ],
    indirect=["database_url"],
)
def test_a_daemon_tells_what_is_done_to_its_database_and_goes_on_once_it_is_undone(
    organisation: Organisation, database_url: str, copy: Copy, tmp_path: Path, trouble: Trouble
) -> None:
    place = sa.make_url(database_url)
    with ExitStack() as stack:
        url = stack.enter_context(role(database_url, *GRANTS[place.get_backend_name()]))
        it, database = str(sa.make_url(url).username), place.database
        daemon = stack.enter_context(Daemon(tmp_path / "log", organisation.environment(url)))
        until(copy.caught_up, "it is up to date")

        def do(statement: str) -> None:
            copy.close()
            elsewhere = "postgres" if "ALTER DATABASE" in statement else place.database
            decree(place.set(database=elsewhere), it, statement.format(it=it, database=database))

        do(trouble.begin)
        daemon.says(trouble.says)
        do(trouble.end)

        until(partial(copy.goes_on, copy.receipts), "it goes on")
        copy.keeps_its_promises()
        assert daemon.ended() == 0
    assert "Traceback" not in daemon.log


@pytest.mark.slow
@on_postgresql
def test_a_database_that_is_renamed_is_told(
    organisation: Organisation, database_url: str, copy: Copy
) -> None:
    env = organisation.environment(database_url)
    assert audit_etl("run", env=env).returncode == 0
    name = sa.make_url(database_url).database
    server = sa.make_url(database_url).set(database="postgres")
    copy.close()

    decree(server, "nobody", f"ALTER DATABASE {name} RENAME TO {name}_away")
    fails("run", env=env, says="when there is such a database")
    decree(server, "nobody", f"ALTER DATABASE {name}_away RENAME TO {name}")

    next_run_completes(copy, env)


@pytest.mark.slow
@on_servers
def test_half_of_the_tables_are_completed_by_migrating_again(
    organisation: Organisation, database_url: str, copy: Copy
) -> None:
    env = organisation.environment(database_url)
    with copy.engine.begin() as connection:  # as a migration leaves it that dies on MariaDB
        for statement in ("DROP TABLE watermarks, verifications", "DELETE FROM audit_etl_version"):
            connection.exec_driver_sql(statement)

    refused = audit_etl("run", env=env)
    migrated = audit_etl("migrate", env=env)

    assert refused.returncode == 78
    assert "run `audit-etl migrate`" in refused.stderr
    assert migrated.returncode == 0, migrated.stderr
    next_run_completes(copy, env)
