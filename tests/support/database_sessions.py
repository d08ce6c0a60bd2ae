"""Other sessions of a database: they lock, look at, and end those of the program."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from uuid import uuid4

import sqlalchemy as sa

from tests.support.commands import start
from tests.support.daemons import until

#: How another session takes a table, or on SQLite the file, for itself.
_LOCK = {
    "postgresql": "LOCK TABLE {}",
    "mysql": "LOCK TABLES {} WRITE",
    "sqlite": "BEGIN IMMEDIATE",
}
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
_END = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}


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
        connection.exec_driver_sql(_LOCK[engine.dialect.name].format(table))
        yield
        connection.invalidate()


@contextmanager
def running_amid_a_transaction(
    engine: sa.Engine, env: Mapping[str, str]
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


def end_sessions(engine: sa.Engine, which: Mapping[str, str]) -> int:
    """End the sessions that a query of `which` finds; give how many, when they are gone."""
    name = engine.dialect.name
    query = sa.text(which[name])
    with administrator(engine) as connection:
        sessions = connection.execute(query).scalars().all()
        for session in sessions:
            with suppress(sa.exc.OperationalError):  # it has ended by itself
                connection.exec_driver_sql(_END[name].format(session))
        until(lambda: not connection.execute(query).all(), "the sessions have ended")
    return len(sessions)


#: The sessions of a user, in all databases.
_OF_USER = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE usename = '{}'",
    "mysql": "SELECT id FROM information_schema.processlist WHERE user = '{}'",
}


def decree(url: sa.URL, user: str, statement: str) -> None:
    """Execute a statement as an administrator, and end the sessions of a user."""
    admin = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    name = admin.dialect.name

    with admin.connect() as connection:
        connection.exec_driver_sql(statement)
        for session in connection.exec_driver_sql(_OF_USER[name].format(user)).scalars().all():
            with suppress(sa.exc.OperationalError):  # it has ended by itself
                connection.exec_driver_sql(_END[name].format(session))


@contextmanager
def role(url: str, *statements: str) -> Iterator[str]:
    """The URL of a new user of the database, after statements about {it} and {database}."""
    place = sa.make_url(url)
    name = f"role_{uuid4().hex[:12]}"
    postgresql = place.get_backend_name() == "postgresql"
    whole = name if postgresql else f"{name}@'%%'"  # the driver makes one % of it
    admin = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE USER {whole}")
        try:
            for statement in statements:
                connection.exec_driver_sql(statement.format(it=whole, database=place.database))
            yield place.set(username=name).render_as_string(hide_password=False)
        finally:
            if postgresql:
                connection.exec_driver_sql(f"DROP OWNED BY {name} CASCADE")
            connection.exec_driver_sql(f"DROP USER {whole}")
