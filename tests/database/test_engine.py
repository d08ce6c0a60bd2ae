"""A transaction that lost against another is tried again; no lock is waited for without end."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from etl.database import migration
from etl.database.engine import open_engine
from etl.database.schema import audit_events, early_audits
from etl.database.timeouts import TIMEOUTS
from etl.database.transactions import checkpointed, transact
from etl.destinations.sql.destination import SqlDestination
from etl.destinations.sql.keys import Scope, absent_of
from etl.errors import DestinationUnavailable
from etl.sizes import Sizes
from tests.support.destination_contents import audits_in
from tests.support.samples import (
    LOADED_AT,
    audits,
    batch,
    draft,
    hours,
    load_into,
    record,
    unfenced,
)

ROW = {"organization": "default", "id": "a", "loaded_at": LOADED_AT}


def test_a_transaction_that_met_a_key_of_another_runs_again(engine: sa.Engine) -> None:
    attempts = 0

    def work(connection: sa.Connection) -> int:
        nonlocal attempts
        attempts += 1
        for _ in range(2 if attempts == 1 else 1):  # the first time, as if another had been first
            connection.execute(sa.insert(early_audits), ROW)
        return attempts

    assert transact(engine, work) == 2

    with engine.connect() as connection:
        ids = connection.execute(sa.select(early_audits.c.id)).scalars().all()
    assert ids == ["a"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_is_committed_stays_when_the_file_is_opened_again_in_this_process(
    engine: sa.Engine, database_url: str
) -> None:
    look = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "print(c.execute('SELECT id FROM early_audits ORDER BY id').fetchall()); c.close()"
    )

    def seen_by_another_process() -> str:
        command = [sys.executable, "-c", look, str(engine.url.database)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def commit(name: str) -> None:
        transact(engine, lambda c: c.execute(sa.insert(early_audits), ROW | {"id": name}))

    commit("a")
    again = open_engine(database_url)  # as a daemon does that reads its configuration again
    before = seen_by_another_process()
    commit("b")
    again.dispose()

    assert before == "[('a',)]\n"
    assert seen_by_another_process() == "[('a',), ('b',)]\n"


@pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
def test_of_two_transactions_that_wait_for_each_other_both_complete(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.insert(early_audits), [ROW | {"id": name} for name in "ab"])
    both_hold_one = threading.Barrier(2, timeout=60)

    def in_order(first: str, second: str) -> int:
        attempts = 0

        def work(connection: sa.Connection) -> int:
            nonlocal attempts
            attempts += 1
            for name in (first, second):
                row = early_audits.c.id == name
                mine = early_audits.c.organization + first
                connection.execute(sa.update(early_audits).where(row).values(organization=mine))
                if attempts == 1 and name == first:
                    both_hold_one.wait()
            return attempts

        return transact(engine, work)

    with ThreadPoolExecutor(2) as pool:
        attempts = list(pool.map(in_order, "ab", "ba"))

    # The one that was undone may undo the other one in turn, if it is quicker.
    assert max(attempts) > 1
    with engine.connect() as connection:
        names = connection.execute(sa.select(early_audits.c.organization)).scalars()
        assert {"".join(sorted(name)) for name in names} == {"".join(sorted("defaultab"))}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_an_encoding_of_the_environment_changes_no_text(
    database_url: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", encoding)
    engine = open_engine(database_url)
    migration.upgrade(engine)
    shown = [record("a", 0.5, entity={"name": "Zoë"}, context={"名前": "Zoë"})]
    with closing(SqlDestination(engine, lambda: LOADED_AT)) as destination:
        load_into(destination, draft(hours(0, 1)), [batch(*shown)], unfenced)
    monkeypatch.delenv("PGCLIENTENCODING")

    engine = open_engine(database_url)
    assert audits_in(engine) == audits(shown)
    engine.dispose()


#: How another session takes a row for itself, which on SQLite is the file, or a table.
LOCKS = {
    "row": "UPDATE early_audits SET id = 'b'",
    "postgresql table": "LOCK TABLE early_audits",
    "mysql table": "LOCK TABLES early_audits WRITE",
}


@contextmanager
def locking(url: str, statement: str) -> Iterator[None]:
    """Another session holds the lock that the statement takes."""
    engine = open_engine(url)
    with engine.connect() as other:
        other.exec_driver_sql(statement)
        yield
        other.invalidate()
    engine.dispose()


@pytest.mark.parametrize("what", ["row", "table"])
def test_a_lock_of_another_session_is_waited_for_once_and_told(
    database_url: str, what: str
) -> None:
    engine = open_engine(database_url, timeouts=replace(TIMEOUTS, lock=1))
    migration.upgrade(engine)
    tried: list[object] = []
    transact(engine, lambda connection: connection.execute(sa.insert(early_audits), ROW))
    event.listen(engine, "before_cursor_execute", lambda *sent: tried.append(sent[2]))
    statement = LOCKS.get(f"{engine.dialect.name} {what}", LOCKS["row"])

    with (
        locking(database_url, statement),
        pytest.raises(DestinationUnavailable, match="the other session, which holds a lock"),
    ):
        transact(engine, lambda connection: connection.execute(sa.delete(early_audits)))

    assert len([statement for statement in tried if "set_config" not in str(statement)]) == 1
    transact(engine, lambda connection: connection.execute(sa.delete(early_audits)))
    engine.dispose()


def test_who_works_again_and_again_is_given_the_same_connection(engine: sa.Engine) -> None:
    with engine.connect() as first, engine.connect() as second:
        assert first.connection.driver_connection is not second.connection.driver_connection

    used = set()
    for _ in range(4):
        with engine.connect() as connection:
            used.add(connection.connection.driver_connection)

    assert len(used) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_journal_is_written_into_the_file_while_something_else_is_done(
    engine: sa.Engine,
) -> None:
    transact(engine, lambda connection: connection.execute(sa.insert(early_audits), ROW))
    assert str(LOADED_AT.date()).encode() not in Path(str(engine.url.database)).read_bytes()

    with checkpointed(engine):
        pass

    assert str(LOADED_AT.date()).encode() in Path(str(engine.url.database)).read_bytes()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_journal_that_cannot_be_written_into_the_file_is_told(engine: sa.Engine) -> None:
    def fail(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if "checkpoint" in statement:
            raise sqlite3.OperationalError("disk I/O error")

    event.listen(engine, "before_cursor_execute", fail)

    with (
        pytest.raises(DestinationUnavailable, match="disk I/O error"),
        checkpointed(engine),
    ):
        pass


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_ids_are_sought_one_by_one_in_a_table_that_was_empty_a_moment_ago(
    engine: sa.Engine,
) -> None:
    wanted = dict.fromkeys(map(str, range(800)), None)
    read = (
        "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) "
        "FROM pg_stat_xact_user_tables WHERE relname = 'audit_events'"
    )
    with engine.begin() as connection:
        scope = Scope(connection, "default", Sizes().listed_keys)
        for _ in range(20):  # a driver may keep the plan of a statement that it has seen so often
            absent_of(scope, audit_events.c.id, wanted)
        connection.exec_driver_sql(
            "INSERT INTO audit_events (organization, id, event_date, raw, loaded_at) "
            "SELECT 'default', n::text, now(), repeat('x', 500), now() "
            "FROM generate_series(400, 20000) AS n"
        )
        before = connection.exec_driver_sql(read).scalar_one()

        absent = absent_of(scope, audit_events.c.id, wanted)

        assert connection.exec_driver_sql(read).scalar_one() - before <= len(wanted)
    assert set(absent) == set(map(str, range(400)))
