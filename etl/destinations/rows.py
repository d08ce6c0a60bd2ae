"""Audits as rows of the tables, as drivers take them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from etl import schema
from etl.records import Audit, EntityChange, PropertyChange, Reject

Row = tuple[object, ...]

_ENCODE: Final = msgspec.json.Encoder().encode


class Bound(NamedTuple):
    """How a driver takes what is not a plain text.

    Attributes:
        time: an instant.
        utf8: a text, from its UTF-8.
    """

    time: Callable[[datetime], object]
    utf8: Callable[[bytes], object]


def is_utf8(column: sa.Column[Any]) -> bool:
    """Whether rows hold the column's texts by `Bound.utf8`."""
    return column.name == schema.audit_events.c.raw.name or schema.SHAPE in column.info


def rows_of(
    organization: str, audits: Sequence[Audit], loaded_at: datetime, bound: Bound
) -> Iterator[tuple[sa.Table, Iterator[Row]]]:
    """The rows of each table of audits, in the order of its columns, made as they are taken.

    A change's position is its index in the record, from 0.
    """
    at = bound.time(loaded_at)
    yield (
        schema.audit_events,
        (_event_row(organization, audit, at, bound) for audit in audits),
    )
    yield (
        schema.audit_property_changes,
        (
            _property_row(organization, audit.id, position, change, bound)
            for audit in audits
            for position, change in enumerate(audit.property_changes)
        ),
    )
    yield (
        schema.audit_entity_changes,
        (
            _entity_row(organization, audit.id, position, change, bound)
            for audit in audits
            for position, change in enumerate(audit.entity_changes)
        ),
    )


def _event_row(organization: str, audit: Audit, loaded_at: object, bound: Bound) -> Row:
    return (
        organization,
        audit.id,
        bound.time(audit.event_date),
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
        _json(audit.remote_ips, bound),
        _json(audit.message_params, bound),
        _json(audit.context, bound),
        bound.utf8(audit.raw),
        loaded_at,
    )


def _property_row(
    organization: str, audit_id: str, position: int, change: PropertyChange, bound: Bound
) -> Row:
    return (
        organization,
        audit_id,
        position,
        change.property,
        _json(change.old_values, bound),
        _json(change.new_values, bound),
    )


def _entity_row(
    organization: str, audit_id: str, position: int, change: EntityChange, bound: Bound
) -> Row:
    return (
        organization,
        audit_id,
        position,
        change.entity_type,
        change.entity_id,
        change.entity_name,
        _json(change.old_values, bound),
        _json(change.new_values, bound),
    )


def reject_rows(
    organization: str, rejects: Mapping[str, Reject], received_at: datetime, bound: Bound
) -> Iterator[Row]:
    """The rows of `audit_rejects`, in the order of its columns, from rejects by their digest."""
    at = bound.time(received_at)
    return (
        (organization, digest, reject.reason, bound.utf8(reject.raw), at)
        for digest, reject in rejects.items()
    )


def digest_of(reject: Reject) -> str:
    """What tells a reject from another one: SHA-256 of its JSON."""
    return sha256(reject.raw).hexdigest()


def _json(value: object, bound: Bound) -> object:
    return None if value is None else bound.utf8(_ENCODE(value))
