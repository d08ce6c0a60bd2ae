"""Statistics of tables that have just grown to many times what they were, for SQLite, PostgreSQL.

MySQL and MariaDB gather theirs by themselves, at once.
"""

from typing import Final

import sqlalchemy as sa

from etl.database import schema
from etl.destinations.sql.rows import OF_AUDITS

#: With fewer audits no plan takes long.
ROWS_MIN: Final = 1_000
#: A load of so many times the audits that the statistics know of makes PostgreSQL's useless.
GROWTH: Final = 10
#: How many rows of each index SQLite looks at.
SAMPLE: Final = 1_000
_EVENTS: Final = schema.audit_events.name
#: By table, the columns of its indexes: to analyse all columns took a fifth of a first load.
_SOUGHT: Final = {
    table.name: ", ".join(
        sorted({*table.primary_key.c.keys(), *(c.name for i in table.indexes for c in i.columns)})
    )
    for table in OF_AUDITS
}


def gather(connection: sa.Connection, new_events: int) -> None:
    """Have the tables analysed if they have outgrown the statistics.

    PostgreSQL does so by itself, but as late as a minute after a load, and questions to a first
    backfill would meanwhile read whole tables. A role that does not own the tables changes nothing.
    SQLite never does, and would read an organisation from its first audit on to find a day.
    """
    dialect = connection.dialect.name
    if dialect == "sqlite" and new_events and _outgrown_in_sqlite(connection):
        connection.exec_driver_sql(f"PRAGMA analysis_limit = {SAMPLE}")
        connection.exec_driver_sql("ANALYZE")
    if dialect == "postgresql" and _outgrown_in_postgresql(connection, new_events):
        # If a VACUUM has the lock, the next load tries again.
        for table, columns in _SOUGHT.items():
            connection.exec_driver_sql(f"ANALYZE (SKIP_LOCKED) {table} ({columns})")


def _outgrown_in_postgresql(connection: sa.Connection, new_events: int) -> bool:
    """Whether one load brought many times what the statistics know of: less than none at first."""
    if new_events < ROWS_MIN:
        return False
    query = f"SELECT reltuples FROM pg_class WHERE oid = '{_EVENTS}'::regclass"  # noqa: S608 - our name
    return bool(GROWTH * connection.exec_driver_sql(query).scalar_one() < new_events)


def _outgrown_in_sqlite(connection: sa.Connection) -> bool:
    """Whether there are twice the rows that the statistics know of: each index's first number."""
    rows = connection.exec_driver_sql(f"SELECT max(rowid) FROM {_EVENTS}").scalar() or 0  # noqa: S608 - our name
    if rows < ROWS_MIN:
        return False
    if not sa.inspect(connection).has_table("sqlite_stat1"):
        return True
    query = f"SELECT max(CAST(stat AS INTEGER)) FROM sqlite_stat1 WHERE tbl = '{_EVENTS}'"  # noqa: S608 - our name
    return bool(2 * (connection.exec_driver_sql(query).scalar() or 0) <= rows)
