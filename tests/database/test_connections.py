"""No wait for a database is without end, and what the user sets for its connections counts."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from etl.database import migration
from etl.database.engine import open_engine
from etl.database.schema import early_audits
from etl.database.timeouts import TIMEOUTS
from etl.database.transactions import reading, transact
from etl.destinations import trials
from etl.destinations.sql import destination as sql_module
from etl.destinations.sql.destination import SqlDestination
from etl.errors import DestinationUnavailable
from etl.ledger.leases import acquire
from etl.ledger.processes import this_process
from etl.model import Receipt
from tests.support.daemons import Proxy, proxy
from tests.support.database_sessions import role
from tests.support.destination_contents import audits_in
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
    unfenced,
)

on_servers = pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
on_mariadb = pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)

#: A test cannot wait for minutes.
QUICK = replace(TIMEOUTS, connect=5, statement=3, pool=1)
ROW = {"organization": "default", "id": "a", "loaded_at": LOADED_AT}
SHOWN = [record(f"{n}") for n in range(3)]


@pytest.fixture
def line(database_url: str) -> Iterator[Proxy]:
    """What lies between the program and the server."""
    url = sa.make_url(database_url)
    with proxy(url.host or "", url.port or 0) as line:
        yield line


@pytest.fixture
def engine_of_line(engine: sa.Engine, line: Proxy) -> Iterator[sa.Engine]:
    """An engine whose connections pass through the line."""
    url = engine.url.set(port=line.port).render_as_string(hide_password=False)
    made = open_engine(url, timeouts=QUICK)
    yield made
    made.dispose()


def load(engine: sa.Engine) -> Receipt:
    destination = SqlDestination(engine, lambda: LOADED_AT)
    destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
    return load_into(destination, draft(hours(0, 1)), [batch(*SHOWN)], unfenced)


@on_servers
def test_a_server_that_accepts_and_says_nothing_is_told_within_the_time_to_connect(
    engine_of_line: sa.Engine, line: Proxy
) -> None:
    line.silent = True

    with pytest.raises(DestinationUnavailable):
        load(engine_of_line)

    line.silent = False
    line.refuse()
    line.refusing = False
    assert load(engine_of_line).new_events == len(SHOWN)


def silent_when(name: str, line: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the server fall silent once the named function of the SQL destination is called."""
    as_it_is: Callable[..., Any] = getattr(sql_module, name)

    def called(*arguments: Any, **named: Any) -> object:
        line.silent = True
        return as_it_is(*arguments, **named)

    monkeypatch.setattr(sql_module, name, called)


@on_servers
@pytest.mark.parametrize("step", ["delete_early", "absent_of", "rows_of", "insert_rejects"])
def test_a_server_that_falls_silent_in_a_load_ends_it_in_time_and_nothing_counts(
    engine_of_line: sa.Engine,
    engine: sa.Engine,
    line: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    if step == "absent_of":
        load(engine_of_line)  # ids are looked up in time that was loaded before
    before = audits_in(engine)
    silent_when(step, line, monkeypatch)

    with pytest.raises(DestinationUnavailable, match=r"said nothing for 3 seconds|timed out"):
        load(engine_of_line)

    monkeypatch.undo()
    line.refuse()
    line.silent = line.refusing = False
    assert audits_in(engine) == before
    load(engine_of_line)
    assert audits_in(engine) == audits(SHOWN)


@on_servers
def test_a_server_that_falls_silent_at_a_commit_ends_the_transaction_in_time(
    engine_of_line: sa.Engine, engine: sa.Engine, line: Proxy
) -> None:
    def work(connection: sa.Connection) -> None:
        connection.execute(sa.insert(early_audits), ROW)
        line.silent = True

    with pytest.raises(DestinationUnavailable):
        transact(engine_of_line, work)

    line.refuse()
    line.silent = line.refusing = False
    with reading(engine) as connection:
        assert connection.execute(sa.select(early_audits)).all() == []
    transact(engine_of_line, lambda connection: connection.execute(sa.insert(early_audits), ROW))


@on_servers
def test_a_migration_and_a_question_may_take_as_long_as_they_want(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from etl.database.connections import without_limit

    slow = {"postgresql": "SELECT pg_sleep(3.5)", "mysql": "SELECT SLEEP(3.5)"}[engine.dialect.name]
    impatient = open_engine(engine.url.render_as_string(hide_password=False), timeouts=QUICK)

    with impatient.connect() as connection, without_limit(connection):
        connection.exec_driver_sql(slow)
    with pytest.raises(DestinationUnavailable):
        transact(impatient, lambda connection: connection.exec_driver_sql(slow))

    impatient.dispose()


def _socket_of(connection: sa.Connection) -> socket.socket:
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "postgresql":
        return socket.socket(fileno=driver.fileno())
    return driver._sock  # type: ignore[no-any-return]


@on_servers
def test_a_machine_that_acknowledges_nothing_is_given_up_after_a_minute(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        sock = _socket_of(connection)

        def option(name: int) -> int:
            return sock.getsockopt(socket.IPPROTO_TCP, name)

        idle, interval = option(socket.TCP_KEEPIDLE), option(socket.TCP_KEEPINTVL)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert idle + interval * option(socket.TCP_KEEPCNT) == TIMEOUTS.dead
        assert option(socket.TCP_USER_TIMEOUT) == TIMEOUTS.dead * 1000
        if connection.dialect.name == "postgresql":
            sock.detach()


@on_servers
def test_a_session_that_has_become_read_only_is_not_used_again(engine: sa.Engine) -> None:
    """As those are that a failover leaves behind with what was the primary."""
    turn = {
        "postgresql": "SET default_transaction_read_only = on",
        "mysql": "SET SESSION TRANSACTION READ ONLY",
    }[engine.dialect.name]
    with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            connection.exec_driver_sql(turn)
            connection.commit()

    with pytest.raises(DestinationUnavailable, match="use the primary"):
        load(engine)

    assert load(engine).new_events == len(SHOWN)


def _shown(engine: sa.Engine, *names: str) -> list[str]:
    how = {"postgresql": "SHOW {}", "mysql": "SELECT @@{}"}[engine.dialect.name]

    def work(connection: sa.Connection) -> list[str]:
        return [str(connection.exec_driver_sql(how.format(name)).scalar()) for name in names]

    return transact(engine, work)


@on_postgresql
def test_the_options_of_the_url_and_of_the_environment_count_beside_ours(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGAPPNAME", "mine")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "7")
    url = sa.make_url(database_url).update_query_dict(
        {"options": "-c lock_timeout=7s -c search_path=pg_catalog", "keepalives_idle": "77"}
    )
    engine = open_engine(url.render_as_string(hide_password=False))

    names = ["lock_timeout", "search_path", "idle_in_transaction_session_timeout", "timezone"]
    assert _shown(engine, *names, "application_name") == ["7s", "pg_catalog", "1min", "UTC", "mine"]
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        given = driver.info.get_parameters()
    assert given["keepalives_idle"] == "77"
    assert "connect_timeout" not in given or given["connect_timeout"] == "7"
    engine.dispose()

    monkeypatch.setenv("PGOPTIONS", "-c lock_timeout=8s")
    engine = open_engine(database_url)
    assert _shown(engine, *names[::3], names[0]) == ["8s", "UTC", "8s"]
    engine.dispose()


@on_mariadb
def test_the_timeouts_and_the_command_of_a_mysql_url_count_beside_ours(database_url: str) -> None:
    url = sa.make_url(database_url).update_query_dict(
        {"read_timeout": "77", "init_command": "SET SESSION lock_wait_timeout = 7"}
    )
    engine = open_engine(url.render_as_string(hide_password=False))

    names = ["session.lock_wait_timeout", "session.innodb_lock_wait_timeout"]
    assert _shown(engine, *names) == ["7", str(TIMEOUTS.lock)]
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        assert (driver._read_timeout, driver._write_timeout) == (77, TIMEOUTS.statement)
    engine.dispose()


@on_mariadb
@pytest.mark.parametrize(
    "chosen",
    [
        {"init_command": "SET autocommit = 1"},
        {"init_command": "SET NAMES latin1"},
        {"init_command": "SET sql_select_limit = 1"},
        {"charset": "latin1"},
        {"charset": "utf8"},
    ],
    ids=str,
)
def test_no_choice_in_a_mysql_url_garbles_rows_or_leaves_half_a_transaction(
    database_url: str, chosen: dict[str, str]
) -> None:
    url = sa.make_url(database_url).update_query_dict(chosen)
    engine = open_engine(url.render_as_string(hide_password=False))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (name TEXT CHARACTER SET utf8mb4)"))
    rows = [{"name": "€ 😀"}, {"name": "ü"}]
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO t VALUES (:name)"), rows)
    with engine.connect() as connection:
        connection.execute(sa.text("DELETE FROM t"))
        connection.rollback()

    plain = open_engine(database_url)
    for reader in (engine, plain):
        with reader.connect() as connection:
            found = sorted(connection.scalars(sa.text("SELECT name FROM t")))
        assert found == sorted(row["name"] for row in rows)
        reader.dispose()


@on_postgresql
def test_a_pooler_is_sent_no_options_and_finds_no_setting_of_ours_afterwards(
    database_url: str, line: Proxy
) -> None:
    """PgBouncer refuses the first, and gives a session to one transaction after the other."""
    url = sa.make_url(database_url).set(port=line.port, query={"sslmode": "disable"})
    engine = open_engine(url.render_as_string(hide_password=False))
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        assert driver.prepare_threshold is None

    assert b"options" not in line.first
    assert _shown(engine, "lock_timeout", "timezone") == ["30s", "UTC"]
    with closing(engine.raw_connection()) as between:  # no transaction of the engine's
        cursor = between.cursor()
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchall() == [("0",)]
    engine.dispose()


def test_nothing_waits_for_a_second_connection_while_it_holds_one(database_url: str) -> None:
    engine = open_engine(database_url, connections=1, timeouts=QUICK)
    migration.upgrade(engine)

    assert load(engine).new_events == len(SHOWN)
    assert load(engine).new_events == 0
    engine.dispose()


def test_a_connection_that_is_not_given_back_is_told_with_the_setting_to_lower(
    database_url: str,
) -> None:
    engine = open_engine(database_url, connections=1, timeouts=replace(QUICK, pool=0))
    migration.upgrade(engine)

    with engine.connect(), pytest.raises(DestinationUnavailable, match="`concurrency`"):
        load(engine)

    assert load(engine).new_events == len(SHOWN)
    engine.dispose()


def test_of_many_threads_none_opens_a_connection_beyond_the_bound(database_url: str) -> None:
    engine = open_engine(database_url, connections=3)
    migration.upgrade(engine)
    opened = []
    sa.event.listen(engine, "connect", lambda driver, _: opened.append(driver))

    def work() -> None:
        transact(engine, lambda connection: connection.exec_driver_sql("SELECT 1"))

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(opened) <= 3
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("postgresql://u@a:5433,b:5434/d", "postgresql+psycopg://u@/d?host=a,b&port=5433,5434"),
        ("postgresql://u@a:5433,b:/d", "postgresql+psycopg://u@/d?host=a,b&port=5433,"),
        ("postgresql://u@%2Frun%2Fpg/d", "postgresql+psycopg://u@/d?host=%2Frun%2Fpg"),
        ("postgresql://%2frun:5433/d?a=b", "postgresql+psycopg:///d?host=%2frun&port=5433&a=b"),
        (
            "postgres://u:p@a,[::1]/d?target_session_attrs=read-write",
            "postgresql+psycopg://u:p@/d?host=a,::1&target_session_attrs=read-write",
        ),
    ],
)
def test_several_servers_are_written_as_libpq_writes_them(url: str, read: str) -> None:
    from etl.destinations.kinds import canonical

    assert canonical(url) == read


#: What a role or a database may set, and what must work as if it had not.
_POSTGRESQL_SETTINGS = [
    "datestyle = 'German, DMY'",
    "datestyle = 'SQL, MDY'",
    "datestyle = 'Postgres, DMY'",
    "intervalstyle = 'sql_standard'",
    "bytea_output = 'escape'",
    "standard_conforming_strings = off",
    "search_path = audits",
    "client_encoding = 'latin1'",
    "timezone = 'Pacific/Kiritimati'",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_isolation = 'repeatable read'",
    "default_transaction_deferrable = on",
    "lc_messages = 'C'",
    "statement_timeout = '20s'",
]


@on_postgresql
@pytest.mark.parametrize("setting", _POSTGRESQL_SETTINGS)
def test_what_a_role_sets_on_postgresql_changes_nothing(database_url: str, setting: str) -> None:
    statements = (
        "CREATE SCHEMA audits AUTHORIZATION {it}",
        "GRANT CREATE ON SCHEMA public TO {it}",
        f"ALTER ROLE {{it}} SET {setting}",
    )
    with role(database_url, *statements) as url:
        _holds_as_elsewhere(url)


def _holds_as_elsewhere(url: str) -> None:
    """Make the tables, load odd audits twice, and read back what was loaded, and when."""
    engine = open_engine(url)
    migration.upgrade(engine)
    text = "O'Brien \\' \" \\\\ \u20ac \U0001f600 %s %% \x7f ;"
    odd = [*SHOWN, record("it's \\", message={"message": text}, context={text: text})]

    destination = SqlDestination(engine, lambda: LOADED_AT)
    destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
    for new in (len(odd), 0):
        receipt = load_into(destination, draft(hours(0, 1)), [batch(*odd)], unfenced)
        assert receipt.new_events == new
    assert audits_in(engine) == audits(odd)
    last = destination.ledger.last_receipt(STREAM)
    assert last is not None
    assert last.loaded_at == LOADED_AT
    trials.try_tables(engine, LOADED_AT, audits=True)
    lease = acquire(engine, "a", this_process(), LOADED_AT)
    transact(engine, lease.confirm)
    assert sum(destination.audits_a_day(STREAM, hours(0, 1)).values()) == len(odd)
    engine.dispose()


@on_postgresql
@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("default_transaction_read_only = on", "if default_transaction_read_only"),
        ("statement_timeout = '1ms'", "raise statement_timeout"),
        ("search_path = ''", "search_path of this user names a schema"),
    ],
)
def test_a_setting_that_stops_a_run_is_named(database_url: str, setting: str, told: str) -> None:
    rights = "GRANT CREATE ON SCHEMA public TO {it}"
    with role(database_url, rights, f"ALTER ROLE {{it}} SET {setting}") as url:
        engine = open_engine(url)
        with pytest.raises(DestinationUnavailable, match=told):
            migration.upgrade(engine)
        engine.dispose()


@on_postgresql
def test_a_limit_on_temporary_files_is_named(database_url: str) -> None:
    limits = ("ALTER ROLE {it} SET temp_file_limit = 0", "ALTER ROLE {it} SET work_mem = '64kB'")
    large = (
        "SELECT count(*) FROM (SELECT n FROM generate_series(1, 99999) n ORDER BY -n OFFSET 1) s"
    )
    with role(database_url, *limits) as url:
        engine = open_engine(url)
        with pytest.raises(DestinationUnavailable, match="temp_file_limit is larger"):
            transact(engine, lambda connection: connection.exec_driver_sql(large))
        engine.dispose()
