"""Each table and column is described, and PostgreSQL shows that to those who look there."""

import re
from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from etl.database import descriptions, migration, schema
from etl.database.engine import open_engine
from etl.database.timeouts import TIMEOUTS
from etl.database.times import UtcTime
from etl.ledger.lateness import BOUNDS
from tests.support.database_sessions import role
from tests.support.migrations import comments, described

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

TABLES = schema.metadata.tables


def test_each_table_and_column_has_a_description_and_none_is_left_over() -> None:
    assert list(descriptions.TABLES) == list(TABLES)
    assert list(descriptions.COLUMNS) == list(TABLES)
    used = set()
    for name, table in TABLES.items():
        own = descriptions.COLUMNS[name].keys()
        assert own <= set(table.c.keys()), name
        used |= table.c.keys() - own
    assert used == descriptions.SHARED.keys()


def test_a_description_of_a_time_names_the_time_zone() -> None:
    for name, table in TABLES.items():
        for column in table.c:
            if isinstance(column.type, UtcTime):
                assert "UTC" in descriptions.of_column(name, column.name), column


def test_the_steps_of_lateness_are_described_as_they_are() -> None:
    meaning = descriptions.of_column("late_arrivals", "over_seconds")

    assert [int(digits) for digits in re.findall(r"\d+", meaning)] == [
        bound.total_seconds() for bound in BOUNDS
    ]


@on_postgresql
def test_postgresql_shows_each_description(database_url: str) -> None:
    engine = open_engine(database_url)

    migration.upgrade(engine)

    assert comments(engine) == described()
    engine.dispose()


@on_postgresql
@pytest.mark.parametrize("setting", ["standard_conforming_strings = off", "search_path = audits"])
def test_a_description_is_kept_to_the_letter(
    database_url: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = "it's 100 % \\' of \"all\"; %s :x $$ -- Zoë"
    monkeypatch.setitem(descriptions.TABLES, "leases", odd)
    monkeypatch.setitem(descriptions.COLUMNS["leases"], "token", odd)
    statements = (
        "CREATE SCHEMA audits AUTHORIZATION {it}",
        "GRANT CREATE ON SCHEMA public TO {it}",
        f"ALTER ROLE {{it}} SET {setting}",
    )
    with role(database_url, *statements) as url:
        engine = open_engine(url)

        migration.upgrade(engine)

        found = comments(engine)
        assert found["leases", ""] == f"One row for each {odd}"
        assert found["leases", "token"] == odd
        assert found == described()
        engine.dispose()


@on_postgresql
def test_a_description_that_changed_replaces_the_one_before_and_a_user_s(engine: sa.Engine) -> None:
    migration.upgrade(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("COMMENT ON TABLE receipts IS 'mine'")
        connection.exec_driver_sql("COMMENT ON COLUMN receipts.events IS NULL")

    written: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *sent: written.append(sent[2]))
    migration.upgrade(engine)

    assert comments(engine) == described()
    [statement] = [sent for sent in written if sent.startswith("COMMENT")]
    assert statement.count("COMMENT ON") == 2


@on_postgresql
def test_tables_that_are_as_they_should_be_are_not_locked(database_url: str) -> None:
    engine = open_engine(database_url, timeouts=replace(TIMEOUTS, lock=1))
    migration.upgrade(engine)

    with engine.connect() as other:  # as CREATE INDEX CONCURRENTLY, or a vacuum, which has hours
        for name in TABLES:
            other.exec_driver_sql(f"LOCK TABLE {name} IN SHARE UPDATE EXCLUSIVE MODE")
        migration.upgrade(engine)

    engine.dispose()


@on_postgresql
def test_a_table_that_was_partitioned_by_hand_is_described(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for statement in (
            "ALTER TABLE audit_rejects RENAME TO whole",
            "CREATE TABLE audit_rejects (LIKE whole) PARTITION BY HASH (organization)",
            "DROP TABLE whole",
        ):
            connection.exec_driver_sql(statement)

    migration.upgrade(engine)

    assert comments(engine) == described()


@on_postgresql
def test_a_role_that_does_not_own_the_tables_leaves_their_comments(engine: sa.Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    rights = ("GRANT CREATE ON SCHEMA public TO {it}", "GRANT SELECT ON audit_etl_version TO {it}")
    with role(url, *rights) as theirs:
        other = open_engine(theirs)

        migration.upgrade(other)

        other.dispose()
    assert set(comments(engine).values()) == {None}


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
def test_mariadb_has_no_comments(database_url: str) -> None:
    engine = open_engine(database_url)

    migration.upgrade(engine)

    assert set(comments(engine).values()) == {None}
    engine.dispose()
