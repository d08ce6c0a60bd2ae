"""Rows as drivers take them, and the quickest plain insert of each database.

COPY on PostgreSQL, the driver's own executemany elsewhere: SQLAlchemy stays out of the way of the
rows. They are made one by one as they are taken, so that PostgreSQL stores the ones before
meanwhile.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from hashlib import sha256
from itertools import chain
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from etl import schema
from etl.records import Audit, Batch, Reject

Row = tuple[object, ...]

#: An instant as a driver takes it.
Bound = Callable[[datetime], object]

#: Ids of one look-up; SQLite takes 999 parameters before its version 3.32.
LOOKUP_IDS: Final = 900

_ENCODE: Final = msgspec.json.Encoder().encode


def event_rows(
    organization: str, audits: Iterable[Audit], loaded_at: datetime, bound: Bound
) -> Iterator[Row]:
    """The rows of `audit_events`, in the order of its columns."""
    at = bound(loaded_at)
    return (_event_row(organization, audit, bound(audit.event_date), at) for audit in audits)


def _event_row(organization: str, audit: Audit, event_date: object, loaded_at: object) -> Row:
    return (
        organization,
        audit.id,
        event_date,
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


def child_rows(
    organization: str, audits: Sequence[Audit]
) -> Iterator[tuple[sa.Table, Iterator[Row]]]:
    """The rows of each child table; a child's position is its index in the record, from 0."""
    yield (
        schema.audit_property_changes,
        (
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
        ),
    )
    yield (
        schema.audit_entity_changes,
        (
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
        ),
    )


def _json(value: object) -> str | None:
    return None if value is None else _ENCODE(value).decode()


class Inserter:
    """Inserts rows of one database's tables, in the tables' order of columns.

    Attributes:
        bound: makes instants what the driver takes; rows are to be given with such.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.bound: Bound = partial(schema.bound_time, dialect_name=dialect.name)

    def insert(self, connection: sa.Connection, table: sa.Table, rows: Iterable[Row]) -> None:
        """Insert `rows`, none of which the table may hold.

        Raises:
            sqlalchemy.exc.IntegrityError: it holds one; the transaction must be undone.
        """
        rows = iter(rows)
        first = next(rows, None)
        if first is None:
            return
        rows = chain([first], rows)
        if self._dialect.name == "postgresql":
            _copy(connection, table, rows)
        elif self._dialect.name == "sqlite":
            statement = self._statement(table)
            with _driver(connection, statement) as driver:
                driver.executemany(statement, rows)
        else:
            connection.exec_driver_sql(self._statement(table), list(rows))

    def _statement(self, table: sa.Table) -> str:
        quote = self._dialect.identifier_preparer.quote
        columns = ", ".join(quote(column.name) for column in table.c)
        placeholder = "?" if self._dialect.name == "sqlite" else "%s"
        values = ", ".join([placeholder] * len(table.c))
        return f"INSERT INTO {table.name} ({columns}) VALUES ({values})"  # noqa: S608 - our names


def _copy(connection: sa.Connection, table: sa.Table, rows: Iterator[Row]) -> None:
    columns = ", ".join(column.name for column in table.c)
    statement = f"COPY {table.name} ({columns}) FROM STDIN"
    with (
        _driver(connection, statement) as driver,
        driver.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        for row in rows:
            copy.write_row(row)


@contextmanager
def _driver(connection: sa.Connection, statement: str) -> Iterator[Any]:
    """The driver's connection; its errors get SQLAlchemy's classes, as those of any statement."""
    errors = connection.dialect.loaded_dbapi.Error
    try:
        yield connection.connection.driver_connection
    except errors as error:
        raise sa.exc.DBAPIError.instance(
            statement, None, error, errors, dialect=connection.dialect
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
        query = _held(connection.dialect, key, organization, keys[start : start + LOOKUP_IDS])
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
                sa.delete(key.table).where(key.table.c.organization == organization, key.in_(ids))
            )


def _held(
    dialect: Dialect, key: sa.Column[str], organization: str, keys: list[str]
) -> sa.Select[str]:
    """The query for those of `keys` that the table holds.

    One JSON text is handed over faster than many parameters. And PostgreSQL must be told to seek
    each key by itself (OFFSET keeps it from doing otherwise): as long as it has no statistics, as
    during a first backfill, it would rather read the whole organisation for a list of them.
    """
    mine = key.table.c.organization == organization
    listed = sa.bindparam("keys", _json(keys), type_=sa.Text)
    if dialect.name == "postgresql":
        elements = sa.func.json_array_elements_text(sa.cast(listed, sa.JSON))
        wanted = elements.table_valued("key").render_derived("wanted")
        one = sa.select(key.label("key")).where(mine, key == wanted.c.key).offset(0).lateral("held")
        return sa.select(one.c.key).select_from(wanted).join(one, sa.true())
    if dialect.name == "sqlite":
        among = sa.select(sa.func.json_each(listed).table_valued("value").c.value)
        return sa.select(key).where(mine, key.in_(among))
    return sa.select(key).where(mine, key.in_(keys))


def insert_rejects(
    connection: sa.Connection,
    inserter: Inserter,
    organization: str,
    group: Batch,
    received_at: datetime,
) -> None:
    """Keep the group's rejects aside, each once however often the source shows it."""
    at = inserter.bound(received_at)
    by_digest = {sha256(r.raw.encode()).hexdigest(): r for r in reversed(group.rejects)}
    absent = absent_of(connection, schema.audit_rejects.c.digest, organization, by_digest)
    inserter.insert(
        connection,
        schema.audit_rejects,
        (
            (organization, digest, by_digest[digest].reason, by_digest[digest].raw, at)
            for digest in absent
        ),
    )
