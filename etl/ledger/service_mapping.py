"""The service mapping: what an organisation can audit, kept with the day it was first seen."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from etl.database.schema import audit_services
from etl.database.transactions import reading, transact
from etl.model import ServiceAction

#: The columns' width; the vendor's own names have at most 60 characters.
NAME_LENGTH_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class KnownAction:
    """A kind of audit that the mapping has shown.

    Attributes:
        realtime: whether the realtime query knows it too.
    """

    action: ServiceAction
    realtime: bool
    first_seen: datetime
    last_seen: datetime


def refresh(
    engine: sa.Engine,
    organization: str,
    mapping: Iterable[ServiceAction],
    realtime: Iterable[ServiceAction],
    now: datetime,
) -> list[ServiceAction]:
    """Store the mapping as of `now`; give the kinds that were not known before, sorted.

    Kinds that the mapping no longer shows stay, with the time they were last seen.
    """
    in_realtime = {_storable(action) for action in realtime}
    seen = {_storable(action) for action in mapping} | in_realtime

    def work(connection: sa.Connection) -> list[ServiceAction]:
        known = {k.action for k in _known(connection, organization)}
        if seen & known:
            still = [_row(organization, a, in_realtime, now, "b_") for a in sorted(seen & known)]
            connection.execute(_STILL_SEEN, still)
        new = sorted(seen - known)
        rows = [_row(organization, a, in_realtime, now) | {"first_seen": now} for a in new]
        if rows:
            connection.execute(sa.insert(audit_services), rows)
        return new

    return transact(engine, work)


def known(engine: sa.Engine, organization: str) -> list[KnownAction]:
    """Every kind of audit that the stored mapping holds, sorted."""
    with reading(engine) as connection:
        return _known(connection, organization)


def _known(connection: sa.Connection, organization: str) -> list[KnownAction]:
    table = audit_services.c
    query = (
        sa.select(audit_services)
        .where(table.organization == organization)
        .order_by(table.service, table.entity_type, table.action)
    )
    return [
        KnownAction(
            ServiceAction(row["service"], row["entity_type"], row["action"]),
            row["realtime"],
            row["first_seen"],
            row["last_seen"],
        )
        for row in connection.execute(query).mappings()
    ]


_KEY: Final = ("organization", "service", "entity_type", "action")
_STILL_SEEN: Final = (
    sa.update(audit_services)
    .where(*(audit_services.c[name] == sa.bindparam(f"b_{name}") for name in _KEY))
    .values(realtime=sa.bindparam("b_realtime"), last_seen=sa.bindparam("b_last_seen"))
)


def _row(
    organization: str,
    action: ServiceAction,
    in_realtime: set[ServiceAction],
    now: datetime,
    prefix: str = "",
) -> dict[str, object]:
    """The columns of one kind of audit; `prefix` sets parameters apart from columns."""
    return {
        f"{prefix}organization": organization,
        f"{prefix}service": action.service,
        f"{prefix}entity_type": action.entity_type,
        f"{prefix}action": action.action,
        f"{prefix}realtime": action in in_realtime,
        f"{prefix}last_seen": now,
    }


def _storable(action: ServiceAction) -> ServiceAction:
    return ServiceAction(*map(_name, (action.service, action.entity_type, action.action)))


def _name(text: str) -> str:
    """A name as every database keeps it: without NUL, and without blanks that some overlook."""
    return text.replace("\x00", "\ufffd").strip()[:NAME_LENGTH_MAX].strip()
