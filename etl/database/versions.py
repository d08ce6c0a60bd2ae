"""Which version of the tables a database holds, and whether this program can write it."""

from typing import Final

import sqlalchemy as sa

from etl.database import schema
from etl.database.errors import name_of
from etl.database.transactions import reading
from etl.errors import SchemaBehind

#: The owner of the tables, unless this user may do as much.
_OWNER: Final = """
SELECT pg_get_userbyid(relowner) FROM pg_class
WHERE oid = to_regclass('receipts') AND NOT pg_has_role(relowner, 'USAGE')
"""


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
        raise SchemaBehind(
            f"{name_of(engine)} has no tables yet: run `audit-etl migrate` once{_by_whom(engine)}"
        )
    if version < schema.HEAD:
        raise SchemaBehind(
            f"{name_of(engine)} is at schema {version}, this program writes {schema.HEAD}: "
            f"run `audit-etl migrate`{_by_whom(engine)}"
        )
    raise SchemaBehind(
        f"{name_of(engine)} is at schema {version}, newer than {schema.HEAD} of this program: "
        "install the newer audit-etl"
    )


def _by_whom(engine: sa.Engine) -> str:
    """Which user may migrate, unless this one owns the tables."""
    if engine.dialect.name == "sqlite":
        return ""
    if engine.dialect.name != "postgresql":
        return " with a user that may create and alter tables"
    with reading(engine) as connection:
        owner = connection.exec_driver_sql(_OWNER).scalar()
    return f" as {owner}, which owns the tables" if owner else ""
