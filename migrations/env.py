"""Runs the migrations on a connection that the program opened.

There is no ini file: `etl.database.migration` gives Alembic its folder and its connection, so that
`audit-etl migrate` is the only way in, from a checkout as from an installed wheel.
"""

import sqlalchemy as sa
from alembic import context

from etl.database.schema import DIFFERENT, VERSION_TABLE, metadata


@sa.event.listens_for(sa.Table, "before_create")
def _in_rows_for_long_keys(table: sa.Table, connection: sa.Connection, **_: object) -> None:
    """The server's `innodb_default_row_format` may be one whose keys have 767 bytes at most."""
    if connection.dialect.name in {"mysql", "mariadb"}:
        table.dialect_kwargs[f"{connection.dialect.name}_row_format"] = "DYNAMIC"


def _is_declared(_thing: object, name: str | None, *_: object) -> bool:
    return name not in DIFFERENT


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    include_object=_is_declared,
    version_table=VERSION_TABLE,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
