"""Which keys a table holds, and making room for those that are to be replaced."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from etl.database import schema

#: Where other tables name an audit.
_OF_AN_AUDIT: Final = (
    schema.audit_property_changes.c.event_id,
    schema.audit_entity_changes.c.event_id,
    schema.early_audits.c.id,
)
_ENCODE: Final = msgspec.json.Encoder().encode


class Scope(NamedTuple):
    """Whose keys are looked up, in which transaction, and `Sizes.listed_keys`."""

    connection: sa.Connection
    organization: str
    listed: int

    def pieces(self, keys: Sequence[str]) -> Iterator[Sequence[str]]:
        """The keys in lists for one statement each."""
        for start in range(0, len(keys), self.listed):
            yield keys[start : start + self.listed]


def absent_of(scope: Scope, key: sa.Column[str], wanted: Mapping[str, object]) -> list[str]:
    """The `wanted` keys that the table does not hold, sorted: all processes insert in one order."""
    keys = sorted(wanted)
    present = {row[0] for row in rows_of_keys(scope, (key,), keys)}
    return [name for name in keys if name not in present]


def rows_of_keys(
    scope: Scope, columns: Sequence[sa.Column[Any]], keys: Sequence[str]
) -> Iterator[Any]:
    """Columns of the rows that hold one of `keys`, which are values of the first column.

    One JSON text is handed over faster than many parameters. And PostgreSQL must be told to seek
    each key by itself (OFFSET keeps it from doing otherwise): as long as it has no statistics, as
    during a first backfill, it would rather read the whole organisation for a list of them.
    """
    key = columns[0]
    mine = key.table.c.organization == scope.organization
    listed = sa.bindparam("keys", _ENCODE(keys).decode(), type_=sa.Text)
    dialect = scope.connection.dialect.name
    if dialect == "postgresql":
        elements = sa.func.json_array_elements_text(sa.cast(listed, sa.JSON))
        wanted = elements.table_valued("key").render_derived("wanted")
        one = sa.select(*columns).where(mine, key == wanted.c.key).offset(0).lateral("held")
        queries = [sa.select(*one.c).select_from(wanted).join(one, sa.true())]
    elif dialect == "sqlite":
        among = sa.select(sa.func.json_each(listed).table_valued("value").c.value)
        queries = [sa.select(*columns).where(mine, key.in_(among))]
    else:
        pieces = scope.pieces(keys)
        queries = [sa.select(*columns).where(mine, key.in_(piece)) for piece in pieces]
    for query in queries:
        yield from scope.connection.execute(query)


def delete_early(scope: Scope, shown: Mapping[str, object]) -> None:
    """Delete those of `shown` that were loaded early, for the window's own records to be inserted.

    To be called in the transaction that inserts them, so that nobody sees them missing.
    """
    table = schema.early_audits
    there = sa.select(table.c.id).where(table.c.organization == scope.organization).limit(1)
    if scope.connection.execute(there).first() is None:
        return
    early = sorted(shown.keys() - set(absent_of(scope, table.c.id, shown)))
    _delete(scope, early, *_OF_AN_AUDIT, schema.audit_events.c.id)


def delete_orphans(scope: Scope, absent: list[str]) -> None:
    """Delete the changes and marks of audits that are `absent`: somebody deleted these alone.

    Call it in the transaction that inserts the audits: if another process has inserted one of them
    meanwhile, the key refuses and nothing is deleted.
    """
    wanted = dict.fromkeys(absent)
    for key in _OF_AN_AUDIT:
        orphans = wanted.keys() - set(absent_of(scope, key, wanted))
        _delete(scope, sorted(orphans), key)


def _delete(scope: Scope, ids: Sequence[str], *keys: sa.Column[str]) -> None:
    for piece in scope.pieces(ids):
        for key in keys:
            mine = key.table.c.organization == scope.organization
            scope.connection.execute(sa.delete(key.table).where(mine, key.in_(piece)))
