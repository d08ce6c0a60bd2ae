"""A record in the contract's shape made a row."""

from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from etl.records import lenient
from etl.records.rows import Audit, EntityChange, Reject
from etl.records.shapes import InitiatingAction, Message, Reference, WireAudit

#: Longer ids would not fit the primary key of every destination; the vendor's are UUIDs.
ID_LENGTH_MAX: Final = 255
#: What an indexed text keeps: PostgreSQL refuses index entries over 2,704 bytes.
INDEXED_LENGTH_MAX: Final = 512
#: The years that every database holds, whatever the offset a time is given with.
YEARS: Final = range(1001, 9999)

_NOTHING: Final = Reference()
_NO_MESSAGE: Final = Message()
_NO_ACTION: Final = InitiatingAction()


def audit_of(wire: WireAudit, raw: bytes) -> Audit | Reject:
    """The row of a record, or why it cannot be one."""
    audit_id = wire.id
    instant = lenient.as_instant(wire.event_date) or lenient.as_instant(wire.event_time)
    reason = _flaw(audit_id, instant)
    if reason or audit_id is None or instant is None:
        return Reject(reason or "the record has no id or time", raw)
    if instant.tzinfo is not UTC or instant.microsecond % 1000:
        instant = _utc_milliseconds(instant)
    entity, user = wire.entity or _NOTHING, wire.user or _NOTHING
    client = wire.client or wire.client_id or _NOTHING
    message, action = wire.message or _NO_MESSAGE, wire.initiating_action or _NO_ACTION
    service, entity_id, user_id = wire.service_name, entity.id, user.id or wire.user_id
    return Audit(  # in the order of its fields: to name them takes half as long again
        audit_id,
        instant,
        raw,
        service[:INDEXED_LENGTH_MAX] if service else None,
        wire.action or None,
        wire.entity_type or None,
        entity_id[:INDEXED_LENGTH_MAX] if entity_id else None,
        entity.name or None,
        wire.level or None,
        wire.status or None,
        wire.application or None,
        user_id[:INDEXED_LENGTH_MAX] if user_id else None,
        user.name or wire.user_display or None,
        wire.user_home_org_id or None,
        client.id[:INDEXED_LENGTH_MAX] if client.id else None,
        message.message or None,
        action.transaction_id or None,
        action.action_context or None,
        wire.transaction_initiator,
        wire.remote_ip,
        message.message_params,
        wire.context,
        wire.property_changes or (),
        _indexed(wire.entity_changes) if wire.entity_changes else (),
    )


def _indexed(changes: tuple[EntityChange, ...]) -> tuple[EntityChange, ...]:
    """The changes, their ids no longer than an index takes."""
    if all(len(change.entity_id or "") <= INDEXED_LENGTH_MAX for change in changes):
        return changes
    return tuple(
        replace(change, entity_id=change.entity_id and change.entity_id[:INDEXED_LENGTH_MAX])
        for change in changes
    )


def _flaw(audit_id: str | None, instant: datetime | None) -> str | None:
    """Why a record cannot be a row; None if it can."""
    if not audit_id:
        return "the record has no id"
    if len(audit_id) > ID_LENGTH_MAX:
        return f"the record's id is longer than {ID_LENGTH_MAX} characters"
    if audit_id != audit_id.strip() or "\ufffd" in audit_id:
        return "the record's id holds characters that no database keeps apart"
    if instant is None:
        return "the record has no time (eventDate or eventTime) that can be read"
    if instant.year not in YEARS:
        return f"the record's time lies outside the years {YEARS[0]} to {YEARS[-1]}"
    return None


def _utc_milliseconds(instant: datetime) -> datetime:
    utc = instant.astimezone(UTC)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)
