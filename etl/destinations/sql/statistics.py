"""Statistics of tables that have just grown to many times what they were, for SQLite, PostgreSQL.

MySQL and MariaDB gather theirs by themselves, at once.
"""

from typing import Final

import sqlalchemy as sa

from etl.database import schema

#: Fewer new audits let no plan go wrong that would take long.
ROWS_MIN: Final = 1_000
#: How many rows of each index SQLite looks at; PostgreSQL has a limit of its own.
SAMPLE: Final = 1_000
_TABLES: Final = (
    schema.audit_events,
    schema.audit_property_changes,
    schema.audit_entity_changes,
)


def gather(connection: sa.Connection, new_events: int) -> None:
    """Have the tables analysed if one load brought more than the statistics know of.

    PostgreSQL does so by itself, but as late as a minute after the load, and questions to a first
    backfill would meanwhile read whole tables. A role that does not own the tables changes nothing.
    SQLite never does, and would read an organisation from its first audit on to find a day.
    """
    dialect = connection.dialect.name
    if dialect not in _KNOWN or new_events < ROWS_MIN:
        return
    if _KNOWN[dialect](connection) < new_events:
        if dialect == "sqlite":
            connection.exec_driver_sql(f"PRAGMA analysis_limit = {SAMPLE}")
        for table in _TABLES:
            connection.exec_driver_sql(f"ANALYZE {table.name}")


def _known_to_postgresql(connection: sa.Connection) -> float:
    """The rows that the statistics know of; less than none before there are any."""
    events = schema.audit_events.name
    query = f"SELECT reltuples FROM pg_class WHERE oid = '{events}'::regclass"  # noqa: S608 - our name
    return float(connection.exec_driver_sql(query).scalar_one())


def _known_to_sqlite(connection: sa.Connection) -> float:
    """The rows that the statistics know of; they are the first word about each index."""
    if not sa.inspect(connection).has_table("sqlite_stat1"):
        return 0
    events = schema.audit_events.name
    query = f"SELECT max(CAST(stat AS INTEGER)) FROM sqlite_stat1 WHERE tbl = '{events}'"  # noqa: S608 - our name
    return float(connection.exec_driver_sql(query).scalar() or 0)


_KNOWN: Final = {"postgresql": _known_to_postgresql, "sqlite": _known_to_sqlite}
