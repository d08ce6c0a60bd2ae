"""Audits as rows of the tables, as drivers take them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from struct import Struct
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from etl.database import schema
from etl.database.times import text_time
from etl.records import Audit, Reject

Row = tuple[object, ...]
#: The tables that audits become rows of, in the order of `rows_of`.
CHANGES: Final = (schema.audit_property_changes, schema.audit_entity_changes)
OF_AUDITS: Final = (schema.audit_events, *CHANGES)
#: An audit, and its time as the database takes it.
_Timed = tuple[Audit, object]

_ENCODE: Final = msgspec.json.Encoder().encode
_INT8: Final = Struct("!q").pack
_DAY_SECONDS: Final = 24 * 60 * 60
_POSTGRESQL_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
#: Precedes the text of a JSONB value in PostgreSQL's binary form.
_JSONB_VERSION: Final = b"\x01"


class Bound(NamedTuple):
    """How a database takes what is not a plain text.

    Attributes:
        time: an instant.
        utf8: a text, from its UTF-8.
        json: a list or a map, as JSON.
    """

    time: Callable[[datetime], object]
    utf8: Callable[[bytes], object]
    json: Callable[[object], object]


def bound_for(dialect_name: str) -> Bound:
    """What makes values as `Inserter` has them inserted into a database of the dialect."""
    if dialect_name == "sqlite":
        return Bound(text_time, bytes, _ENCODE)
    if dialect_name == "postgresql":  # bytes of its binary form
        return Bound(_binary_time, bytes, lambda value: _JSONB_VERSION + _ENCODE(value))
    return Bound(text_time, bytes.decode, lambda value: _ENCODE(value).decode())


def _binary_time(instant: datetime) -> bytes:
    """PostgreSQL's own form of `instant`, which is aware: microseconds since 2000, 8 bytes."""
    since = instant - _POSTGRESQL_EPOCH
    seconds = since.days * _DAY_SECONDS + since.seconds
    return _INT8(seconds * 1_000_000 + since.microseconds // 1000 * 1000)


def is_utf8(column: sa.Column[Any]) -> bool:
    """Whether rows hold the column's texts by `Bound.utf8`."""
    return column.name == schema.audit_events.c.raw.name or schema.SHAPE in column.info


def rows_of(
    organization: str, audits: Sequence[Audit], loaded_at: datetime, bound: Bound
) -> Iterator[tuple[sa.Table, Iterator[Row]]]:
    """The rows of each table of audits, in the order of its columns, made as they are taken.

    A change's position is its index in the record, from 0. Changes come in the order of their key,
    which lets databases append them.
    """
    timed = [(audit, bound.time(audit.event_date)) for audit in audits]
    yield schema.audit_events, _event_rows(organization, timed, bound.time(loaded_at), bound)
    timed.sort(key=lambda one: (one[0].event_date, one[0].id))
    yield schema.audit_property_changes, _property_rows(organization, timed, bound.json)
    yield schema.audit_entity_changes, _entity_rows(organization, timed, bound.json)


# A call for each row would take a quarter of the time again.


def _event_rows(
    organization: str, timed: Sequence[_Timed], loaded_at: object, bound: Bound
) -> Iterator[Row]:
    utf8, json = bound.utf8, bound.json
    for audit, event_date in timed:
        remote_ips, params, context = audit.remote_ips, audit.message_params, audit.context
        yield (
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
            None if remote_ips is None else json(remote_ips),
            None if params is None else json(params),
            None if context is None else json(context),
            utf8(audit.raw),
            loaded_at,
        )


def _property_rows(
    organization: str, timed: Sequence[_Timed], json: Callable[[object], object]
) -> Iterator[Row]:
    for audit, event_date in timed:
        audit_id = audit.id
        for position, change in enumerate(audit.property_changes):
            old, new = change.old_values, change.new_values
            yield (
                organization,
                audit_id,
                position,
                change.property,
                None if old is None else json(old),
                None if new is None else json(new),
                event_date,
            )


def _entity_rows(
    organization: str, timed: Sequence[_Timed], json: Callable[[object], object]
) -> Iterator[Row]:
    for audit, event_date in timed:
        audit_id = audit.id
        for position, change in enumerate(audit.entity_changes):
            old, new = change.old_values, change.new_values
            yield (
                organization,
                audit_id,
                position,
                change.entity_type,
                change.entity_id,
                change.entity_name,
                None if old is None else json(old),
                None if new is None else json(new),
                event_date,
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
