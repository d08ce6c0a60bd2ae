"""What must be the same at each run: the ledger, its lake, and the organisation behind a name.

Rows of `identities`, read and written; what a difference means is for `recognition` and for the
lake's `binding` to say.
"""

from datetime import datetime
from typing import Final, NamedTuple
from uuid import uuid4

import sqlalchemy as sa

from etl.database.errors import name_of
from etl.database.schema import audit_events, identities, leases, queries, receipts, watermarks
from etl.database.transactions import reading
from etl.errors import ConfigurationError
from etl.model import WRITER

#: Kinds of identities. Of an organisation: the vendor's id, empty if that is not known, and the
#: OAuth client that was last known to be of it.
LEDGER: Final = "ledger"
LAKE: Final = "lake"
ORGANIZATION: Final = "organization"
CLIENT: Final = "client"

_PROGRESS: Final = (watermarks, receipts, queries)


class Identity(NamedTuple):
    """What is recorded under a name.

    Attributes:
        recorded_at: when that was last known to be so.
    """

    text: str
    recorded_at: datetime


def recorded(connection: sa.Connection, kind: str) -> dict[str, Identity]:
    """Every identity of one kind, by name."""
    table = identities.c
    query = sa.select(table.name, table.identity, table.recorded_at).where(table.kind == kind)
    return {name: Identity(text, at) for name, text, at in connection.execute(query)}


def record(connection: sa.Connection, kind: str, name: str, text: str, now: datetime) -> None:
    """Put an identity in the place of the one before, if there was one."""
    of_it = identities.c.kind == kind, identities.c.name == name
    values = {"identity": text, "recorded_at": now}
    if connection.execute(sa.update(identities).where(*of_it).values(**values)).rowcount == 0:
        connection.execute(sa.insert(identities), values | {"kind": kind, "name": name})


def forget(connection: sa.Connection, kind: str, name: str) -> None:
    """Drop an identity, if there is one."""
    connection.execute(
        sa.delete(identities).where(identities.c.kind == kind, identities.c.name == name)
    )


def ledger(connection: sa.Connection, now: datetime) -> str:
    """The ledger's own identity, made if it has none yet; others wait for it until the commit."""
    own = identities.c.kind == LEDGER
    query = sa.select(identities.c.identity).where(own).with_for_update()
    found = connection.execute(query).scalar()
    if found is None:
        found = uuid4().hex
        record(connection, LEDGER, "", found, now)
    return str(found)


def holds_audits(connection: sa.Connection) -> bool:
    """Whether audits are in the ledger's own database: it is no lake's then."""
    return connection.execute(sa.select(audit_events.c.id).limit(1)).first() is not None


def is_begun(connection: sa.Connection) -> bool:
    """Whether a load was ever begun with this ledger."""
    begun = sa.union_all(
        *(sa.select(table.c.stream).limit(1).subquery().select() for table in _PROGRESS),
        sa.select(leases.c.name).where(leases.c.name == WRITER),
    )
    return connection.execute(begun).first() is not None


def audits_by_receipts(connection: sa.Connection) -> dict[str, int]:
    """How many audits were new by the receipts of each organisation; one of none is absent."""
    count = sa.func.sum(receipts.c.new_events)
    query = sa.select(receipts.c.organization, count).group_by(receipts.c.organization)
    return {name: int(number) for name, number in connection.execute(query) if number}


def require_tables(engine: sa.Engine) -> None:
    """Return unless the database's receipts are about a lake, not about its own tables.

    Raises:
        ConfigurationError: they are.
    """
    lake = sa.select(identities.c.kind).where(identities.c.kind == LAKE)
    writer = sa.select(leases.c.name).where(leases.c.name == WRITER)
    with reading(engine) as connection:
        if connection.execute(lake.union_all(writer)).first() is None:
            return
    raise ConfigurationError(
        f"{name_of(engine)} keeps the progress of a lake: its receipts are about that lake's "
        "files, not about tables. Set destination to the lake and ledger to this database; or set "
        "destination to another database; or run `audit-etl migrate --adopt` to load these tables "
        "from the beginning"
    )
