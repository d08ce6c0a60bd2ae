"""The migrations make the tables that the program declares, on every database."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import event

from etl.database import migration, schema
from etl.database.engine import open_engine
from etl.database.migration import config_of
from etl.database.timeouts import Timeouts
from etl.database.versions import require_schema, schema_version
from etl.errors import ConfigurationError, DestinationUnavailable, SchemaBehind
from etl.resources import resource_path
from tests.support import database_servers as servers
from tests.support import migrations


def test_the_migrations_make_the_declared_tables(engine: sa.Engine) -> None:
    migrations.check(engine)

    assert schema_version(engine) == schema.HEAD
    require_schema(engine)


def test_migrating_again_changes_nothing(engine: sa.Engine) -> None:
    migration.upgrade(engine)

    assert schema_version(engine) == schema.HEAD


def test_the_migrations_can_be_undone_and_done_again(engine: sa.Engine) -> None:
    migrations.downgrade(engine)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["audit_etl_version"]

    migration.upgrade(engine)
    migrations.check(engine)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_no_order_of_texts_depends_on_the_libraries_of_the_server(engine: sa.Engine) -> None:
    others = (
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND collation_name IS DISTINCT FROM 'C' "
        "AND data_type IN ('text', 'character varying') AND table_name <> 'audit_etl_version'"
    )
    with engine.connect() as connection:
        assert connection.exec_driver_sql(others).all() == []


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_does_not_hold_every_character_is_refused(
    postgres_server: str, encoding: str
) -> None:
    options = f"ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    with servers.fresh_database(postgres_server, options) as url:
        engine = open_engine(url)
        with pytest.raises(ConfigurationError, match=f"has the encoding {encoding}, .*'UTF8'"):
            migration.upgrade(engine)
        with engine.connect() as connection:
            assert sa.inspect(connection).get_table_names() == []
        engine.dispose()


def test_the_program_asks_for_the_newest_migration() -> None:
    assert ScriptDirectory(str(resource_path("migrations"))).get_current_head() == schema.HEAD


def of_first_release(engine: sa.Engine) -> None:
    """Make the tables as 0.1.0 did, which kept its version where other programs do."""
    with engine.begin() as connection:
        command.upgrade(config_of(connection), "0001")
        connection.exec_driver_sql("DROP TABLE audit_etl_version")
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('0001')")


def alembic_version(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(
            connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars()
        )


def test_tables_of_the_first_release_are_taken_over(database_url: str) -> None:
    engine = open_engine(database_url)
    of_first_release(engine)
    assert schema_version(engine) == "0001"
    with pytest.raises(SchemaBehind, match="is at schema 0001, this program writes"):
        require_schema(engine)

    migration.upgrade(engine)

    require_schema(engine)
    # By that 0.1.0 sees that it is too old: it compares its own version with this one.
    assert alembic_version(engine) == [schema.HEAD]
    engine.dispose()


@pytest.mark.parametrize("theirs", ["0001", "e3a246e0dc1", None])
def test_another_program_s_version_is_not_ours(database_url: str, theirs: str | None) -> None:
    engine = open_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        if theirs:
            connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{theirs}')")
    assert schema_version(engine) is None

    migration.upgrade(engine)

    require_schema(engine)
    assert alembic_version(engine) == ([theirs] if theirs else [])
    engine.dispose()


@pytest.mark.parametrize("table", ["leases", "queries", "receipts"])
def test_another_program_s_table_is_not_taken_for_ours(database_url: str, table: str) -> None:
    engine = open_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, house TEXT)")

    with pytest.raises(ConfigurationError, match=f"has a table {table} of another program"):
        migration.upgrade(engine)

    assert sa.inspect(engine).get_table_names() == [table]
    engine.dispose()


class Died(BaseException):
    """The process is no more."""


@contextmanager
def dying_at(step: int, engine: sa.Engine) -> Iterator[None]:
    """Die before the `step`th statement of the block that changes something."""
    counted = 0

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal counted
        counted += not statement.lstrip().startswith(("SELECT", "SHOW", "WITH"))
        if counted == step:
            raise Died

    event.listen(engine, "before_cursor_execute", count)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", count)


def dies_at(step: int, engine: sa.Engine) -> bool:
    """Migrate, and die at that statement; give whether there was one."""
    try:
        with dying_at(step, engine):
            migration.upgrade(engine)
    except Died:
        return True
    return False


def begun_anew(engine: sa.Engine) -> None:
    """Remove all tables, Alembic's own as well."""
    migrations.downgrade(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE audit_etl_version")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_migration_that_died_at_any_statement_is_whole_after_the_next(database_url: str) -> None:
    first, next_one = open_engine(database_url), open_engine(database_url)
    step = 1
    while dies_at(step, first):
        with pytest.raises(SchemaBehind, match="run `audit-etl migrate`"):
            require_schema(next_one)

        migration.upgrade(next_one)

        migrations.check(next_one)
        assert schema_version(next_one) == schema.HEAD
        begun_anew(next_one)
        step += 1

    first.dispose()
    next_one.dispose()
    assert step > 20


def test_two_processes_do_not_migrate_at_once(
    mariadb_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "TIMEOUTS", Timeouts(lock=1))
    with servers.fresh_database(mariadb_server) as url:
        first, second = open_engine(url), open_engine(url)
        with first.connect() as connection, migration.alone(connection):
            with pytest.raises(DestinationUnavailable, match="migrated by another process"):
                migration.upgrade(second)

            assert sa.inspect(second).get_table_names() == []
        migration.upgrade(second)
        for engine in (first, second):
            engine.dispose()
