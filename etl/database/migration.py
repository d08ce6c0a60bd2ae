"""Bringing the tables to the version that this program writes, with Alembic.

Alembic takes a second to import: nothing imports this module unless there is something to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from etl.database import comments, limits, schema
from etl.database.connections import without_limit
from etl.database.errors import name_of, translated
from etl.database.timeouts import TIMEOUTS
from etl.database.versions import version_in
from etl.errors import ConfigurationError, DestinationUnavailable
from etl.resources import resource_path


def upgrade(engine: sa.Engine) -> None:
    """Bring the database to the newest schema; nothing changes if it is there.

    Tables that 0.1.0 made are taken over, and 0.1.0 then refuses to work on them.

    Raises:
        ConfigurationError: a PostgreSQL database does not hold every character, or another program
            has tables of these names.
        DestinationUnavailable: the database refused; on SQLite and PostgreSQL each migration is
            then whole or absent, on MySQL and MariaDB a part of one may stay, and the next
            upgrade completes it.
    """
    with translated(engine), engine.begin() as connection, alone(connection):
        limits.require_usable(connection)
        _require_own_tables(connection)
        if version_in(connection) == schema.FIRST:
            _lock_out_first_release(connection)
        with without_limit(connection):  # a large table takes hours to alter
            command.upgrade(config_of(connection), "head")
            if connection.dialect.name == "postgresql":
                comments.write(connection)


def _require_own_tables(connection: sa.Connection) -> None:
    """Return if each table that has a name of ours has columns of ours alone."""
    inspector = sa.inspect(connection)
    for table in schema.metadata.sorted_tables:
        if inspector.has_table(table.name):
            columns = {column["name"] for column in inspector.get_columns(table.name)}
            if not columns <= {*table.c.keys(), *schema.DIFFERENT}:
                raise ConfigurationError(
                    f"{name_of(connection.engine)} has a table {table.name} of another program: "
                    "give audit-etl a database or a schema of its own"
                )


def _lock_out_first_release(connection: sa.Connection) -> None:
    """Let 0.1.0, which keeps its version in `alembic_version`, see that the tables are newer."""
    if sa.inspect(connection).has_table("alembic_version"):
        table = sa.table("alembic_version", sa.column("version_num"))
        first = table.c.version_num == schema.FIRST
        connection.execute(sa.update(table).where(first).values(version_num=schema.HEAD))


def config_of(connection: sa.Connection) -> Config:
    """Alembic's configuration, for the migrations of a checkout or an installed wheel."""
    config = Config()
    scripts = str(resource_path("migrations"))
    config.set_main_option("script_location", scripts.replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def alone(connection: sa.Connection) -> Iterator[None]:
    """Let one process migrate at a time; SQLite's own write lock does that already.

    Raises:
        DestinationUnavailable: another process still migrates after `Timeouts.lock`.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4711220931)")
    if connection.dialect.name not in {"mysql", "mariadb"}:
        yield
        return
    name = "CONCAT('audit-etl migrate ', MD5(DATABASE()))"  # no longer than 64 characters
    taken = connection.exec_driver_sql(f"SELECT GET_LOCK({name}, {TIMEOUTS.lock})").scalar()
    if taken != 1:
        raise DestinationUnavailable(
            f"{name_of(connection.engine)} is being migrated by another process: run the same "
            "command again when that has ended"
        )
    try:
        yield
    except BaseException:
        connection.invalidate()  # the lock is the session's, and this one goes back to a pool
        raise
    connection.exec_driver_sql(f"SELECT RELEASE_LOCK({name})")
