"""Which version of the tables a database holds, and whether this program can write it."""

import sqlalchemy as sa

from etl.database import schema
from etl.database.errors import name_of
from etl.database.transactions import reading
from etl.errors import SchemaBehind


def schema_version(engine: sa.Engine) -> str | None:
    """The migration that the database is at; None if it holds no tables of ours."""
    with reading(engine) as connection:
        return version_in(connection)


def version_in(connection: sa.Connection) -> str | None:
    """See `schema_version`."""
    inspector = sa.inspect(connection)
    if inspector.has_table(schema.VERSION_TABLE):
        query = f"SELECT version_num FROM {schema.VERSION_TABLE}"  # noqa: S608 - our name
        row = connection.exec_driver_sql(query).first()
        return None if row is None else str(row[0])
    first = ("audit_events", "receipts", "watermarks", "verifications", "alembic_version")
    return schema.FIRST if all(map(inspector.has_table, first)) else None


def require_schema(engine: sa.Engine) -> None:
    """Return if the tables are of the version that this program writes.

    Raises:
        SchemaBehind: they are not; the message says what to do.
    """
    version = schema_version(engine)
    if version == schema.HEAD:
        return
    if version is None:
        raise SchemaBehind(f"{name_of(engine)} has no tables yet: run `audit-etl migrate` once")
    if version < schema.HEAD:
        raise SchemaBehind(
            f"{name_of(engine)} is at schema {version}, this program writes {schema.HEAD}: "
            "run `audit-etl migrate`"
        )
    raise SchemaBehind(
        f"{name_of(engine)} is at schema {version}, newer than {schema.HEAD} of this program: "
        "install the newer audit-etl"
    )
