"""PostgreSQL's statistics of tables that have just grown to many times what they were."""

from typing import Final

import sqlalchemy as sa

from etl.database import schema

#: Fewer new audits let no plan go wrong that would take long.
ROWS_MIN: Final = 1_000
_TABLES: Final = (
    schema.audit_events,
    schema.audit_property_changes,
    schema.audit_entity_changes,
)
#: Rows that the statistics know of; less than none before there are any.
_KNOWN: Final = sa.text(
    f"SELECT reltuples FROM pg_class WHERE oid = '{schema.audit_events.name}'::regclass"  # noqa: S608 - our name
)


def gather(connection: sa.Connection, new_events: int) -> None:
    """Have the tables analysed if one load brought more than the statistics know of.

    The server does so by itself, but as late as a minute after the load, and questions to a first
    backfill would meanwhile read whole tables. A role that does not own the tables changes nothing.
    """
    if connection.dialect.name != "postgresql" or new_events < ROWS_MIN:
        return
    if connection.execute(_KNOWN).scalar_one() < new_events:
        names = ", ".join(table.name for table in _TABLES)
        connection.exec_driver_sql(f"ANALYZE {names}")
