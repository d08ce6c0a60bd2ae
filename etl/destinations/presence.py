"""Which keys a table holds, and making room for those that are to be replaced."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from etl import schema

#: Keys of one statement where each is a parameter of its own.
LISTED_KEYS: Final = 900

_ENCODE: Final = msgspec.json.Encoder().encode


def absent_of(
    connection: sa.Connection, key: sa.Column[str], organization: str, wanted: Mapping[str, object]
) -> list[str]:
    """The `wanted` keys that the table does not hold, sorted: all processes insert in one order."""
    keys = sorted(wanted)
    present: set[str] = set()
    for query in _held(connection.dialect, key, organization, keys):
        present.update(connection.execute(query).scalars())
    return [name for name in keys if name not in present]


def delete_early(connection: sa.Connection, organization: str, shown: Mapping[str, object]) -> None:
    """Delete those of `shown` that were loaded early, for the window's own records to be inserted.

    To be called in the transaction that inserts them, so that nobody sees them missing.
    """
    table = schema.early_audits
    there = sa.select(table.c.id).where(table.c.organization == organization).limit(1)
    if connection.execute(there).first() is None:
        return
    early = sorted(shown.keys() - set(absent_of(connection, table.c.id, organization, shown)))
    for ids in _pieces(early):
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
) -> Iterator[sa.Select[str]]:
    """Queries for those of `keys` that the table holds.

    One JSON text is handed over faster than many parameters. And PostgreSQL must be told to seek
    each key by itself (OFFSET keeps it from doing otherwise): as long as it has no statistics, as
    during a first backfill, it would rather read the whole organisation for a list of them.
    """
    mine = key.table.c.organization == organization
    listed = sa.bindparam("keys", _ENCODE(keys).decode(), type_=sa.Text)
    if dialect.name == "postgresql":
        elements = sa.func.json_array_elements_text(sa.cast(listed, sa.JSON))
        wanted = elements.table_valued("key").render_derived("wanted")
        one = sa.select(key.label("key")).where(mine, key == wanted.c.key).offset(0).lateral("held")
        yield sa.select(one.c.key).select_from(wanted).join(one, sa.true())
    elif dialect.name == "sqlite":
        among = sa.select(sa.func.json_each(listed).table_valued("value").c.value)
        yield sa.select(key).where(mine, key.in_(among))
    else:
        for piece in _pieces(keys):
            yield sa.select(key).where(mine, key.in_(piece))


def _pieces(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), LISTED_KEYS):
        yield keys[start : start + LISTED_KEYS]
