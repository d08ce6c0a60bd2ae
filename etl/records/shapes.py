"""The shape of a record by the vendor's contract, and records of other shapes brought into it."""

from typing import Any

import msgspec

from etl.records.lenient import Number, as_flag, as_name, as_text, as_text_map, as_texts
from etl.records.rows import EntityChange, PropertyChange


class _Wire(msgspec.Struct, gc=False, rename="camel"):
    """Base of the wire structs: the contract's members, and no other is read."""


class Reference(_Wire):
    """What an audit names: an entity, a user or a client."""

    id: str | None = None
    name: str | None = None


class Message(_Wire):
    """A text with the values that its placeholders stand for."""

    message: str | None = None
    message_params: dict[str, str | None] | None = None


class InitiatingAction(_Wire):
    """The action that wrote the audit, perhaps with others."""

    transaction_id: str | None = None
    action_context: str | None = None


class WireAudit(_Wire):
    """AuditLogMessage, and what AuditTopicAuditLogMessage names otherwise, in one struct.

    In the order in which live organisations were seen to write the members: each is looked for
    first where the one before it ended. Times stay texts: msgspec rounds what is finer than
    microseconds, and the last instant of a window would become the first of the next.
    """

    id: str | None = None
    user_home_org_id: str | None = None
    user: Reference | None = None
    client: Reference | None = None
    remote_ip: tuple[str | None, ...] | None = None
    service_name: str | None = None
    level: str | None = None
    event_date: str | None = None
    message: Message | None = None
    action: str | None = None
    entity: Reference | None = None
    entity_type: str | None = None
    status: str | None = None
    application: str | None = None
    initiating_action: InitiatingAction | None = None
    transaction_initiator: bool | None = None
    property_changes: tuple[PropertyChange, ...] | None = None
    context: dict[str, str | None] | None = None
    entity_changes: tuple[EntityChange, ...] | None = None
    event_time: str | None = None
    user_id: str | None = None
    user_display: str | None = None
    client_id: Reference | None = None


def wire_of(members: dict[str, Any]) -> WireAudit:
    """The wire struct of a record whose members may be of any type."""
    get = members.get
    return WireAudit(
        id=as_name(get("id")),
        event_date=_time(get("eventDate")),
        event_time=_time(get("eventTime")),
        service_name=as_text(get("serviceName")),
        action=as_text(get("action")),
        entity_type=as_text(get("entityType")),
        entity=_reference(get("entity")),
        level=as_text(get("level")),
        status=as_text(get("status")),
        application=as_text(get("application")),
        user=_reference(get("user")),
        user_id=as_text(get("userId")),
        user_display=as_text(get("userDisplay")),
        user_home_org_id=as_text(get("userHomeOrgId")),
        client=_reference(get("client")),
        client_id=_reference(get("clientId")),
        message=_message(get("message")),
        initiating_action=_initiating_action(get("initiatingAction")),
        transaction_initiator=as_flag(get("transactionInitiator")),
        remote_ip=as_texts(get("remoteIp")),
        context=as_text_map(get("context")),
        property_changes=tuple(map(_property_change, _listed(get("propertyChanges")))),
        entity_changes=tuple(map(_entity_change, _listed(get("entityChanges")))),
    )


def _time(value: object) -> str | None:
    return value if isinstance(value, str) and not isinstance(value, Number) else None


def _listed(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _members(value: object, alone: str) -> dict[str, Any]:
    """The members of an object; a value that is none stands as the member `alone`."""
    if isinstance(value, dict):
        return value
    return {} if value is None else {alone: value}


def _reference(value: object) -> Reference:
    get = _members(value, "id").get
    return Reference(as_text(get("id")), as_text(get("name")))


def _message(value: object) -> Message:
    get = _members(value, "message").get
    return Message(as_text(get("message")), as_text_map(get("messageParams")))


def _initiating_action(value: object) -> InitiatingAction:
    get = _members(value, "transactionId").get
    return InitiatingAction(as_text(get("transactionId")), as_text(get("actionContext")))


def _property_change(value: object) -> PropertyChange:
    get = _members(value, "property").get
    return PropertyChange(
        property=as_text(get("property")),
        old_values=as_texts(get("oldValues")),
        new_values=as_texts(get("newValues")),
    )


def _entity_change(value: object) -> EntityChange:
    get = _members(value, "entityName").get
    return EntityChange(
        entity_type=as_text(get("entityType")),
        entity_id=as_text(get("entityId")),
        entity_name=as_text(get("entityName")),
        old_values=as_texts(get("oldValues")),
        new_values=as_texts(get("newValues")),
    )
