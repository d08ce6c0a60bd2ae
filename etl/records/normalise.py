"""Records to rows: a typed decode where the record fits its contract, a lenient one elsewhere."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from etl.records import lenient
from etl.records.rows import Audit, Batch, EntityChange, PropertyChange, Reject

#: Longer ids would not fit the primary key of every destination; the vendor's are UUIDs.
ID_LENGTH_MAX: Final = 255
#: What an indexed text keeps: PostgreSQL refuses index entries over 2,704 bytes.
INDEXED_LENGTH_MAX: Final = 512
#: The years that every database holds, whatever the offset a time is given with.
YEARS: Final = range(1001, 9999)


class _Wire(msgspec.Struct, gc=False, rename="camel"):
    """Base of the wire structs: the contract's members, and no other is read."""


class _Reference(_Wire):
    id: str | None = None
    name: str | None = None


class _Message(_Wire):
    message: str | None = None
    message_params: dict[str, str | None] | None = None


class _InitiatingAction(_Wire):
    transaction_id: str | None = None
    action_context: str | None = None


class _WireAudit(_Wire):
    """AuditLogMessage, and what AuditTopicAuditLogMessage names otherwise, in one struct.

    In the order in which live organisations were seen to write the members: each is looked for
    first where the one before it ended. Times stay texts: msgspec rounds what is finer than
    microseconds, and the last instant of a window would become the first of the next.
    """

    id: str | None = None
    user_home_org_id: str | None = None
    user: _Reference | None = None
    client: _Reference | None = None
    remote_ip: tuple[str | None, ...] | None = None
    service_name: str | None = None
    level: str | None = None
    event_date: str | None = None
    message: _Message | None = None
    action: str | None = None
    entity: _Reference | None = None
    entity_type: str | None = None
    status: str | None = None
    application: str | None = None
    initiating_action: _InitiatingAction | None = None
    transaction_initiator: bool | None = None
    property_changes: tuple[PropertyChange, ...] | None = None
    context: dict[str, str | None] | None = None
    entity_changes: tuple[EntityChange, ...] | None = None
    event_time: str | None = None
    user_id: str | None = None
    user_display: str | None = None
    client_id: _Reference | None = None


_DECODER: Final = msgspec.json.Decoder(_WireAudit)
#: How JSON writes the character that not every database takes.
_NUL: Final = b"\\u0000"
_NOTHING: Final = _Reference()
_NO_MESSAGE: Final = _Message()
_NO_ACTION: Final = _InitiatingAction()


def normalise(records: Iterable[bytes]) -> Batch:
    """Rows of `records`, in their order; each record is in the batch once, as row or as reject."""
    audits: list[Audit] = []
    rejects: list[Reject] = []
    for row in map(_row, records):
        if isinstance(row, Reject):
            rejects.append(row)
        else:
            audits.append(row)
    return Batch(tuple(audits), tuple(rejects))


def _row(record: bytes) -> Audit | Reject:
    try:
        wire = _DECODER.decode(record)
        plain = _is_plain(record)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _lenient_row(record)
    return _audit(wire, record) if plain else _lenient_row(record)


def _is_plain(record: bytes) -> bool:
    """Whether no text of it holds NUL.

    Raises:
        UnicodeDecodeError: it is no UTF-8; the decoder looks at no text that it steps over.
    """
    if not record.isascii():
        record.decode()
    first = record.find(b"\\")  # a single byte is looked for much faster than several
    return first < 0 or record.find(_NUL, first, record.rfind(b"\\") + len(_NUL)) < 0


def _lenient_row(record: bytes) -> Audit | Reject:
    text = record.decode("utf-8", "replace").replace("\x00", "\\u0000")
    raw = text.encode()
    try:
        wire = _wire_of(lenient.read_object(text))
    except ValueError as error:
        return Reject(str(error), raw)
    except RecursionError:  # what could be read may still be too deep to be written again
        return Reject(lenient.TOO_DEEP, raw)
    return _audit(wire, raw)


def _audit(wire: _WireAudit, raw: bytes) -> Audit | Reject:
    audit_id, instant = wire.id, _instant_of(wire)
    reason = _flaw(audit_id, instant)
    if reason or audit_id is None or instant is None:
        return Reject(reason or "the record has no id or time", raw)
    if instant.tzinfo is not UTC or instant.microsecond % 1000:
        instant = _utc_milliseconds(instant)
    entity = wire.entity or _NOTHING
    user = wire.user or _NOTHING
    client = wire.client or wire.client_id or _NOTHING
    message = wire.message or _NO_MESSAGE
    action = wire.initiating_action or _NO_ACTION
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
        client.id or None,
        message.message or None,
        action.transaction_id or None,
        action.action_context or None,
        wire.transaction_initiator,
        wire.remote_ip,
        message.message_params,
        wire.context,
        wire.property_changes or (),
        wire.entity_changes or (),
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


def _instant_of(wire: _WireAudit) -> datetime | None:
    return lenient.as_instant(wire.event_date) or lenient.as_instant(wire.event_time)


def _utc_milliseconds(instant: datetime) -> datetime:
    utc = instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def _wire_of(members: dict[str, Any]) -> _WireAudit:
    """The wire struct of a record whose members may be of any type."""
    text, get = lenient.as_text, members.get
    return _WireAudit(
        id=lenient.as_name(get("id")),
        event_date=_time(get("eventDate")),
        event_time=_time(get("eventTime")),
        service_name=text(get("serviceName")),
        action=text(get("action")),
        entity_type=text(get("entityType")),
        entity=_reference(get("entity")),
        level=text(get("level")),
        status=text(get("status")),
        application=text(get("application")),
        user=_reference(get("user")),
        user_id=text(get("userId")),
        user_display=text(get("userDisplay")),
        user_home_org_id=text(get("userHomeOrgId")),
        client=_reference(get("client")),
        client_id=_reference(get("clientId")),
        message=_message(get("message")),
        initiating_action=_initiating_action(get("initiatingAction")),
        transaction_initiator=lenient.as_flag(get("transactionInitiator")),
        remote_ip=_texts(get("remoteIp")),
        context=lenient.as_text_map(get("context")),
        property_changes=tuple(map(_property_change, _listed(get("propertyChanges")))),
        entity_changes=tuple(map(_entity_change, _listed(get("entityChanges")))),
    )


def _time(value: object) -> str | None:
    return value if isinstance(value, str) and not isinstance(value, lenient.Number) else None


def _listed(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _texts(value: object) -> tuple[str | None, ...] | None:
    texts = lenient.as_texts(value)
    return None if texts is None else tuple(texts)


def _members(value: object, alone: str) -> dict[str, Any]:
    """The members of an object; a value that is none stands as the member `alone`."""
    if isinstance(value, dict):
        return value
    return {} if value is None else {alone: value}


def _reference(value: object) -> _Reference:
    members = _members(value, "id")
    return _Reference(
        id=lenient.as_text(members.get("id")), name=lenient.as_text(members.get("name"))
    )


def _message(value: object) -> _Message:
    members = _members(value, "message")
    return _Message(
        message=lenient.as_text(members.get("message")),
        message_params=lenient.as_text_map(members.get("messageParams")),
    )


def _initiating_action(value: object) -> _InitiatingAction:
    members = _members(value, "transactionId")
    return _InitiatingAction(
        transaction_id=lenient.as_text(members.get("transactionId")),
        action_context=lenient.as_text(members.get("actionContext")),
    )


def _property_change(value: object) -> PropertyChange:
    members = _members(value, "property")
    return PropertyChange(
        property=lenient.as_text(members.get("property")),
        old_values=_texts(members.get("oldValues")),
        new_values=_texts(members.get("newValues")),
    )


def _entity_change(value: object) -> EntityChange:
    members = _members(value, "entityName")
    return EntityChange(
        entity_type=lenient.as_text(members.get("entityType")),
        entity_id=lenient.as_text(members.get("entityId")),
        entity_name=lenient.as_text(members.get("entityName")),
        old_values=_texts(members.get("oldValues")),
        new_values=_texts(members.get("newValues")),
    )
