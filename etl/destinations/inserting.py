"""Rows as drivers take them, and the quickest plain insert of each database.

COPY on PostgreSQL, the driver's own executemany elsewhere: SQLAlchemy writes the statement once
and stays out of the way of the rows.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Dialect

from etl import schema
from etl.records import Audit, Batch, Reject

Row = tuple[object, ...]

#: Ids of one look-up; SQLite takes 999 parameters before its version 3.32.
LOOKUP_IDS: Final = 900

_ENCODE: Final = msgspec.json.Encoder().encode


def event_row(organization: str, audit: Audit, loaded_at: datetime) -> Row:
    """The row of `audit_events`, in the order of its columns."""
    return (
        organization,
        audit.id,
        audit.event_date,
        audit.service_name,
        audit.action,
        audit.entity_type,
        audit.entity_id,
        audit.entity_name,
        audit.level,
        audit.status,
        audit.application,
        audit.user_id,
        audit.user_name,
        audit.user_home_org_id,
        audit.client_id,
        audit.message,
        audit.transaction_id,
        audit.transaction_action,
        audit.transaction_initiator,
        _json(audit.remote_ips),
        _json(audit.message_params),
        _json(audit.context),
        audit.raw,
        loaded_at,
    )


def child_rows(organization: str, audits: Sequence[Audit]) -> Iterator[tuple[sa.Table, list[Row]]]:
    """The rows of each child table; a child's position is its index in the record, from 0."""
    yield (
        schema.audit_property_changes,
        [
            (
                organization,
                audit.id,
                position,
                change.property,
                _json(change.old_values),
                _json(change.new_values),
            )
            for audit in audits
            for position, change in enumerate(audit.property_changes)
        ],
    )
    yield (
        schema.audit_entity_changes,
        [
            (
                organization,
                audit.id,
                position,
                change.entity_type,
                change.entity_id,
                change.entity_name,
                _json(change.old_values),
                _json(change.new_values),
            )
            for audit in audits
            for position, change in enumerate(audit.entity_changes)
        ],
    )


def _json(value: object) -> str | None:
    return None if value is None else _ENCODE(value).decode()


class Inserter:
    """Inserts rows of one database's tables, in the tables' order of columns."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def insert(self, connection: sa.Connection, table: sa.Table, rows: list[Row]) -> None:
        """Insert `rows`, none of which the table may hold.

        Raises:
            sqlalchemy.exc.IntegrityError: it holds one; the transaction must be undone.
        """
        if not rows:
            return
        if self._dialect.name == "postgresql":
            _copy(connection, table, rows)
            return
        times = [n for n, column in enumerate(table.c) if isinstance(column.type, schema.UtcTime)]
        if times:
            rows = [_with_times(row, times, self._dialect.name) for row in rows]
        connection.exec_driver_sql(self._statement(table), rows)

    def _statement(self, table: sa.Table) -> str:
        quote = self._dialect.identifier_preparer.quote
        columns = ", ".join(quote(column.name) for column in table.c)
        placeholder = "?" if self._dialect.name == "sqlite" else "%s"
        values = ", ".join([placeholder] * len(table.c))
        return f"INSERT INTO {table.name} ({columns}) VALUES ({values})"  # noqa: S608 - our names


def _with_times(row: Row, times: list[int], dialect_name: str) -> Row:
    values = list(row)
    for n in times:
        instant = values[n]
        if isinstance(instant, datetime):
            values[n] = schema.bound_time(instant, dialect_name)
    return tuple(values)


def _copy(connection: sa.Connection, table: sa.Table, rows: list[Row]) -> None:
    """COPY, whose errors get SQLAlchemy's classes as those of any other statement."""
    import psycopg

    columns = ", ".join(column.name for column in table.c)
    statement = f"COPY {table.name} ({columns}) FROM STDIN"
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError(f"PostgreSQL is spoken through psycopg, not {type(driver)}")
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        raise sa.exc.DBAPIError.instance(
            statement, None, error, psycopg.Error, dialect=connection.dialect
        ) from error


def absent_of(
    connection: sa.Connection,
    key: sa.Column[str],
    organization: str,
    wanted: dict[str, Audit] | dict[str, Reject],
) -> list[str]:
    """The `wanted` keys that the table does not hold, sorted: all processes insert in one order."""
    keys = sorted(wanted)
    present: set[str] = set()
    for start in range(0, len(keys), LOOKUP_IDS):
        query = sa.select(key).where(
            key.table.c.organization == organization,
            _among(connection.dialect, key, keys[start : start + LOOKUP_IDS]),
        )
        present.update(connection.execute(query).scalars())
    return [name for name in keys if name not in present]


def delete_early(connection: sa.Connection, organization: str, shown: dict[str, Audit]) -> None:
    """Delete those of `shown` that were loaded early, for the window's own records to be inserted.

    To be called in the transaction that inserts them, so that nobody sees them missing.
    """
    table = schema.early_audits
    there = sa.select(table.c.id).where(table.c.organization == organization).limit(1)
    if connection.execute(there).first() is None:
        return
    early = sorted(shown.keys() - set(absent_of(connection, table.c.id, organization, shown)))
    for start in range(0, len(early), LOOKUP_IDS):
        ids = early[start : start + LOOKUP_IDS]
        for key in (
            schema.audit_property_changes.c.event_id,
            schema.audit_entity_changes.c.event_id,
            schema.audit_events.c.id,
            table.c.id,
        ):
            connection.execute(
                sa.delete(key.table).where(
                    key.table.c.organization == organization, _among(connection.dialect, key, ids)
                )
            )


def _among(dialect: Dialect, key: sa.Column[str], keys: list[str]) -> sa.ColumnElement[bool]:
    """Whether `key` is one of `keys`; PostgreSQL reads one array faster than many parameters."""
    if dialect.name == "postgresql":
        return key == sa.any_(sa.bindparam("keys", keys, type_=ARRAY(sa.Text)))
    return key.in_(keys)


def insert_rejects(
    connection: sa.Connection,
    inserter: Inserter,
    organization: str,
    group: Batch,
    received_at: datetime,
) -> None:
    """Keep the group's rejects aside, each once however often the source shows it."""
    by_digest = {sha256(r.raw.encode()).hexdigest(): r for r in reversed(group.rejects)}
    absent = absent_of(connection, schema.audit_rejects.c.digest, organization, by_digest)
    inserter.insert(
        connection,
        schema.audit_rejects,
        [
            (organization, digest, by_digest[digest].reason, by_digest[digest].raw, received_at)
            for digest in absent
        ],
    )
