"""Runs the migrations on a connection that the program opened.

There is no ini file: `etl.migration` gives Alembic its folder and its connection, so that
`audit-etl migrate` is the only way in, from a checkout as from an installed wheel.
"""

from alembic import context

from etl.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
