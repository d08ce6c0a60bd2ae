"""Audits to load, and what a destination is expected to hold of them."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from etl.destinations import AnyDestination, Fence
from etl.model import PendingReceipt, Receipt, Stream
from etl.records import Audit, Batch, read_records
from etl.window import Window

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
STREAM = Stream("default")
LOADED_AT = BEGIN + timedelta(days=9, milliseconds=7)

#: An audit in the shape of the bulk download.
DOWNLOADED: Final[dict[str, Any]] = {
    "id": "a",
    "userId": "u",
    "userHomeOrgId": "o",
    "username": {"id": ""},
    "userDisplay": "Ada",
    "clientId": {"id": "c"},
    "serviceName": "PeoplePermissions",
    "eventTime": "2026-04-01T00:00:00.000Z",
    "action": "Delete",
    "entityType": "OAuthClient",
    "entity": {"id": "c", "name": "My OAuth Client"},
    "propertyChanges": [{"property": "scopes", "oldValues": ["users"]}],
}


def hours(start: float, end: float) -> Window:
    """The window from `start` to `end` hours after `BEGIN`."""
    return Window(BEGIN + start * HOUR, BEGIN + end * HOUR)


def record(name: str, hour: float = 0.0, **members: Any) -> dict[str, Any]:
    """A record as the source shows it, with two property changes and an entity change."""
    instant = BEGIN + timedelta(seconds=int(hour * 3600))
    return {
        "id": name,
        "eventDate": instant.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "serviceName": "ContactCenter",
        "action": "Update",
        "entityType": "Queue",
        "entity": {"id": f"entity of {name}", "name": "Wartezimmer ☎"},
        "application": "admin ui",
        "userHomeOrgId": "home organisation",
        "initiatingAction": {"transactionId": f"action of {name}", "actionContext": "bulk edit"},
        "level": "USER",
        "status": "SUCCESS",
        "user": {"id": "u1", "name": "Ada Example"},
        "client": {"id": "client of an app"},
        "transactionInitiator": True,
        "remoteIp": ["192.0.2.7", "2001:db8::1"],
        "message": {"message": "changed", "messageParams": {"n": "1"}},
        "context": {"a": "b"},
        "propertyChanges": [
            {"property": "name", "oldValues": ["Old\tone\n"], "newValues": ["New \\N \\. one"]},
            {"property": "size", "oldValues": [], "newValues": None},
        ],
        "entityChanges": [
            {
                "entityType": "User",
                "entityId": "u2",
                "entityName": "Grace",
                "oldValues": ["w"],
                "newValues": ["x", None],
            }
        ],
    } | members


def batch(*records: dict[str, Any]) -> Batch:
    """A page's batch of the records."""
    return read_records(json.dumps(r, ensure_ascii=False).encode() for r in records)


def audits(records: Iterable[dict[str, Any]]) -> list[Audit]:
    """The rows that the records should become."""
    return list(batch(*records).audits)


def draft(window: Window, *, stream: Stream = STREAM, schedule: str = "frequent") -> PendingReceipt:
    """A draft for one window, whose query has an id of its own."""
    return PendingReceipt(
        stream,
        window,
        f"query of {window}",
        schedule,
        window.end + HOUR,
        requests=lambda: 3,
        now=lambda: LOADED_AT,
    )


def unfenced(_: sa.Connection) -> None:
    """No lease is needed."""


def load_into(
    destination: AnyDestination,
    of: PendingReceipt,
    batches: Iterable[Batch],
    fence: Fence = unfenced,
) -> Receipt:
    """Load the records of batches as the pipeline does, but in one thread."""
    return destination.load(of, map(destination.prepared, batches), fence)
