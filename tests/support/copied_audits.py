"""A history of any length: audits copied within their database, for a fraction of a load's time.

Copies have ids and times of their own and are made in the order of time, so that keys, indexes and
values lie as those of a real history do.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from hashlib import md5
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from etl.database import schema
from etl.database.times import bound_time, read_time, text_time
from etl.window import Window

CHILDREN: Final = (schema.audit_property_changes, schema.audit_entity_changes)

#: By dialect, the id and the time of a copy.
_NEW: Final = {
    "sqlite": ("copied_id({id}, '{number}')", "earlier({time}, {days})"),
    "postgresql": ("md5({id} || '{number}') || '0000'", "{time} - interval '{days} days'"),
    "mysql": ("concat(md5(concat({id}, '{number}')), '0000')", "{time} - interval {days} day"),
}


class Copy(NamedTuple):
    """What a copy is to be.

    Attributes:
        of: the audits of this time.
        number: tells it from other copies of the same audits.
        days: how many days earlier its audits are.
        organization: whose they are; None: whose they were.
    """

    of: Window
    number: int
    days: int = 0
    organization: str | None = None


def add(engine: sa.Engine, copy: Copy) -> None:
    """Add the copy, and commit it."""
    with closing(engine.raw_connection()) as connection:
        driver: Any = connection.driver_connection
        if isinstance(driver, sqlite3.Connection):
            driver.execute("BEGIN IMMEDIATE")
            driver.create_function("copied_id", 2, _copied_id, deterministic=True)
            driver.create_function("earlier", 2, _earlier, deterministic=True)
        cursor = connection.cursor()
        for statement in _statements(engine.dialect.name, copy):
            cursor.execute(statement)
        connection.commit()


def _statements(dialect: str, copy: Copy) -> Iterator[str]:
    new_id, new_time = _NEW[dialect]
    made = {
        "event_date": new_time.format(time="e.event_date", days=copy.days),
        "id": new_id.format(id="e.id", number=copy.number),
    }
    made["event_id"] = made["id"]
    if copy.organization:
        made["organization"] = f"'{copy.organization}'"
    start, end = (bound_time(instant, dialect) for instant in (copy.of.start, copy.of.end))
    for table in (schema.audit_events, *CHILDREN):
        alias, joined = "e", ""
        if table is not schema.audit_events:
            alias = "c"
            joined = (
                f"JOIN {table.name} c ON c.organization = e.organization "
                "AND c.event_date = e.event_date AND c.event_id = e.id"
            )
        values = [made.get(column.name, f"{alias}.{column.name}") for column in table.c]
        yield (
            f"INSERT INTO {table.name} ({', '.join(column.name for column in table.c)}) "
            f"SELECT {', '.join(values)} FROM audit_events e {joined} "
            # Not to be sought by: SQLite would read the organisation from its first audit on.
            f"WHERE trim(e.organization) = 'default' AND e.event_date >= '{start}' "
            f"AND e.event_date < '{end}' ORDER BY e.event_date"
        )


def _copied_id(of: str, number: str) -> str:
    return md5((of + number).encode()).hexdigest() + "0000"


def _earlier(time: str, days: int) -> str:
    return text_time(read_time(time) - timedelta(days=days))
