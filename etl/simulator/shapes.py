"""The other shapes that a stored audit is shown in: without user names, and as bulk downloads."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Final

Shape = Callable[[bytes], bytes]

#: Members that a bulk download has as the API has them; it lacks the others.
_AS_THEY_ARE: Final = (
    *("userHomeOrgId", "remoteIp", "serviceName", "level", "message"),
    *("action", "entityType", "entity", "propertyChanges", "context"),
)


def encoded(value: object) -> bytes:
    """JSON in ASCII, so that texts may hold what UTF-8 cannot."""
    return json.dumps(value, separators=(",", ":")).encode()


def joined(records: Iterable[bytes], shape: Shape) -> bytes:
    """Records in another shape, with commas between them."""
    return b",".join(map(shape, records))


def unexpanded(record: bytes) -> bytes:
    """The audit without its user's name: what is sent unless `expand=user` asks for more."""
    audit = json.loads(record)
    user = audit.get("user") if isinstance(audit, dict) else None
    if not isinstance(user, dict) or "name" not in user:
        return record
    del user["name"]
    return encoded(audit)


def downloaded(record: bytes) -> bytes:
    """The audit as the vendor's notifications and large results have it.

    Ids of the user and the client stand by themselves, the time is `eventTime`, and there are no
    status, application, initiating action and entity changes.
    """
    audit = json.loads(record)
    if not isinstance(audit, dict):
        return record
    result = {"id": audit["id"]} if "id" in audit else {}
    user = audit.get("user")
    if isinstance(user, Mapping) and "id" in user:
        result["userId"] = user["id"]
    result["username"] = {"id": ""}
    if "client" in audit:
        result["clientId"] = audit["client"]
    if "eventDate" in audit:
        result["eventTime"] = audit["eventDate"]
    return encoded(result | {name: audit[name] for name in _AS_THEY_ARE if name in audit})
