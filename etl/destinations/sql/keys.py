"""Which keys a table holds, and making room for those that are to be replaced."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from etl.database import schema
from etl.destinations.sql.rows import CHANGES
from etl.records import Audit

_EVENTS: Final = schema.audit_events
#: An audit's time and id.
Key = tuple[datetime, str]
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


def absent_of(
    scope: Scope, key: sa.Column[str], wanted: Collection[str], *where: sa.ColumnElement[bool]
) -> list[str]:
    """The `wanted` keys that the table does not hold, sorted: all processes insert in one order.

    Args:
        where: what is known of the rows, so that the database need not look elsewhere.
    """
    keys = sorted(wanted)
    present = {row[0] for row in rows_of_keys(scope, (key,), keys, *where)}
    return [name for name in keys if name not in present]


def timed(times: Collection[datetime]) -> Iterator[sa.ColumnElement[bool]]:
    """What is known of audits of these times; the months of a partitioned table go by it."""
    if times:
        yield _EVENTS.c.event_date.between(min(times), max(times))


def rows_of_keys(
    scope: Scope,
    columns: Sequence[sa.Column[Any]],
    keys: Sequence[str],
    *where: sa.ColumnElement[bool],
) -> Iterator[Any]:
    """Columns of the rows that hold one of `keys`, which are values of the first column.

    One JSON text is handed over faster than many parameters. And PostgreSQL must be told to seek
    each key by itself (OFFSET keeps it from doing otherwise): as long as it has no statistics, as
    during a first backfill, it would rather read the whole organisation for a list of them.
    """
    key = columns[0]
    mine = sa.and_(key.table.c.organization == scope.organization, *where)
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


def delete_early(scope: Scope, shown: Mapping[str, Audit]) -> None:
    """Delete those of `shown` that were loaded early, for the window's own records to be inserted.

    To be called in the transaction that inserts them, so that nobody sees them missing.

    Args:
        shown: audits by their ids.
    """
    marks = schema.early_audits.c
    there = sa.select(marks.id).where(marks.organization == scope.organization).limit(1)
    if scope.connection.execute(there).first() is None:
        return
    early = sorted(shown.keys() - set(absent_of(scope, marks.id, shown)))
    held = rows_of_keys(scope, (_EVENTS.c.id, _EVENTS.c.event_date), early)
    times = {(at, key) for key, at in held} | {(shown[key].event_date, key) for key in early}
    _delete_changes(scope, sorted(times))
    _delete(scope, early, marks.id)
    _delete(scope, early, _EVENTS.c.id)


def delete_orphans(scope: Scope, absent: Sequence[Key]) -> None:
    """Delete the changes and marks of audits that are `absent`: somebody deleted these alone.

    Call it in the transaction that inserts the audits: if another process has inserted one of them
    meanwhile, the key refuses and nothing is deleted.
    """
    _delete_changes(scope, absent)
    _delete(scope, [key for _, key in absent], schema.early_audits.c.id)


def _delete_changes(scope: Scope, of: Sequence[Key]) -> None:
    """Delete the changes of audits, one by one: not every planner seeks pairs in a list."""
    keys = [{"at": at, "of": key} for at, key in of]
    for table in CHANGES if keys else ():
        one = sa.delete(table).where(
            table.c.event_date == sa.bindparam("at"),
            table.c.organization == scope.organization,
            table.c.event_id == sa.bindparam("of"),
        )
        scope.connection.execute(one, keys)


def _delete(scope: Scope, ids: Sequence[str], key: sa.Column[str]) -> None:
    for piece in scope.pieces(ids):
        mine = key.table.c.organization == scope.organization
        scope.connection.execute(sa.delete(key.table).where(mine, key.in_(piece)))
