"""The typed rows that every destination takes."""

from __future__ import annotations

from datetime import datetime

import msgspec


class PropertyChange(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One changed property of an audited entity; it is decoded as it stands in the record.

    Attributes:
        property: the vendor's name of it, which may hold ids.
        old_values: texts before the change; None if the member was absent or null.
        new_values: texts after the change; None if the member was absent or null.
    """

    property: str | None = None
    old_values: tuple[str | None, ...] | None = None
    new_values: tuple[str | None, ...] | None = None


class EntityChange(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One entity that the audited action changed besides its own; decoded as it stands too."""

    entity_type: str | None = None
    entity_id: str | None = None
    entity_name: str | None = None
    old_values: tuple[str | None, ...] | None = None
    new_values: tuple[str | None, ...] | None = None


class Audit(msgspec.Struct, frozen=True, gc=False):
    """One audit, with its children: a row of `audit_events` without organisation and load time.

    An absent, null or empty text is None; a value that is no text where text is expected is given
    as its JSON. No text holds NUL or a lone surrogate: each is replaced by U+FFFD.

    Attributes:
        id: 1 to 255 characters, unique in an organisation.
        event_date: UTC, whole milliseconds.
        raw: the record as received, every member in it; UTF-8.
        service_name, entity_id, user_id, client_id: at most 512 characters, as `entity_id` of a
            change is; `raw` has the whole of them.
    """

    id: str
    event_date: datetime
    raw: bytes
    service_name: str | None = None
    action: str | None = None
    entity_type: str | None = None
    entity_id: str | None = None
    entity_name: str | None = None
    level: str | None = None
    status: str | None = None
    application: str | None = None
    user_id: str | None = None
    user_name: str | None = None
    user_home_org_id: str | None = None
    client_id: str | None = None
    message: str | None = None
    transaction_id: str | None = None
    transaction_action: str | None = None
    transaction_initiator: bool | None = None
    remote_ips: tuple[str | None, ...] | None = None
    message_params: dict[str, str | None] | None = None
    context: dict[str, str | None] | None = None
    property_changes: tuple[PropertyChange, ...] = ()
    entity_changes: tuple[EntityChange, ...] = ()


class Reject(msgspec.Struct, frozen=True):
    """A record that cannot be a row, kept aside.

    Attributes:
        reason: a sentence for the operator.
        raw: the record as received; UTF-8.
    """

    reason: str
    raw: bytes


class Batch(msgspec.Struct, frozen=True):
    """Rows made from one page, in its order."""

    audits: tuple[Audit, ...]
    rejects: tuple[Reject, ...] = ()

    @property
    def size(self) -> int:
        """How long its records' JSON is together, in bytes or about so."""
        return sum(len(a.raw) for a in self.audits) + sum(len(r.raw) for r in self.rejects)
