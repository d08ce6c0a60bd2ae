"""The migrations make the tables that the program declares, on every database."""

import sqlalchemy as sa
from alembic.script import ScriptDirectory

from etl import migration, schema
from etl.database import require_schema, schema_version


def test_the_migrations_make_the_declared_tables(engine: sa.Engine) -> None:
    migration.check(engine)

    assert schema_version(engine) == schema.HEAD
    require_schema(engine)


def test_migrating_again_changes_nothing(engine: sa.Engine) -> None:
    migration.upgrade(engine)

    assert schema_version(engine) == schema.HEAD


def test_the_migrations_can_be_undone_and_done_again(engine: sa.Engine) -> None:
    migration.downgrade(engine)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]

    migration.upgrade(engine)
    migration.check(engine)


def test_the_program_asks_for_the_newest_migration() -> None:
    assert ScriptDirectory(str(migration.scripts())).get_current_head() == schema.HEAD
