"""What a destination holds, read back without the loader's code, to compare with the source."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from msgspec.structs import replace

from etl.destinations.lake.storage import Storage
from etl.records import Audit, EntityChange, PropertyChange, read_records

_JSON = ("remote_ips", "message_params", "context", "old_values", "new_values")


def rows(records: Iterable[Mapping[str, object]]) -> list[Audit]:
    """The rows that the organisation's records should become, by id."""
    batch = read_records(json.dumps(record).encode() for record in records)
    assert not batch.rejects
    return sorted(batch.audits, key=lambda audit: audit.id)


def unraw(audit: Audit) -> Audit:
    """The audit with `raw` in one form, whatever spaces and escapes its JSON was written with."""
    return replace(audit, raw=json.dumps(json.loads(audit.raw), sort_keys=True).encode())


@contextmanager
def one_instant(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection whose queries all see the same instant, while others write."""
    with engine.connect() as connection:
        if engine.dialect.name != "sqlite":  # where it is so anyway
            connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def audits_in(engine: sa.Engine, organization: str = "default") -> list[Audit]:
    """Every audit of the organisation with its children, by id; a doubled row is there twice."""
    with one_instant(engine) as connection:
        events = _rows(connection, "audit_events", "organization", "id", organization)
        properties = _children(connection, "audit_property_changes", organization)
        entities = _children(connection, "audit_entity_changes", organization)
    return [
        Audit(
            **{n: v for n, v in event.items() if n not in {"organization", "loaded_at"}},
            property_changes=tuple(PropertyChange(**c) for c in _of(event, properties)),
            entity_changes=tuple(EntityChange(**c) for c in _of(event, entities)),
        )
        for event in events
    ] + _orphans(properties, entities)


def _of(event: Mapping[str, Any], changes: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Take an audit's changes, which carry its time; those of 0.1.0 carry none."""
    found = changes.pop(event["id"], [])
    assert all(c.pop("event_date", event["event_date"]) == event["event_date"] for c in found)
    return found


def audits_in_lake(storage: Storage, organization: str = "default") -> list[Audit]:
    """Every audit of the organisation in a lake's files, by id; a doubled row is there twice."""
    found = []
    for path in storage.files():
        folders = path.split("/")
        if folders[1] != f"organization={organization}":
            continue
        file = storage.open(path)
        assert file is not None
        with file:
            rows = file.read().to_pylist()
        assert [(r["event_date"], r["id"]) for r in rows] == sorted(
            (r["event_date"], r["id"]) for r in rows
        )
        assert all(row["event_date"].strftime("date=%Y-%m-%d") == folders[2] for row in rows)
        found += [_audit(row) for row in rows]
    return sorted(found, key=lambda audit: audit.id)


def _audit(row: dict[str, Any]) -> Audit:
    columns = {name: _plain(name, value) for name, value in row.items() if name != "loaded_at"}
    columns["property_changes"] = tuple(
        PropertyChange(**{n: _plain(n, v) for n, v in change.items()})
        for change in row["property_changes"]
    )
    columns["entity_changes"] = tuple(
        EntityChange(**{n: _plain(n, v) for n, v in change.items()})
        for change in row["entity_changes"]
    )
    return Audit(**columns)


def _plain(name: str, value: Any) -> Any:
    if name == "raw":
        return value.encode()
    if name in {"context", "message_params"} and value is not None:
        return dict(value)
    return tuple(value) if isinstance(value, list) else value


def _orphans(*children: Mapping[str, Any]) -> list[Audit]:
    assert not any(children), f"children without their audit: {children}"
    return []


def _children(
    connection: sa.Connection, table: str, organization: str
) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(connection, table, "organization", "event_id, position", organization):
        changes = found.setdefault(row.pop("event_id"), [])
        assert row.pop("position") == len(changes)
        row.pop("organization")
        changes.append(row)
    return found


def _rows(
    connection: sa.Connection, table: str, key: str, order: str, organization: str
) -> list[dict[str, Any]]:
    query = sa.text(f"SELECT * FROM {table} WHERE {key} = :organization ORDER BY {order}")
    rows = connection.execute(query, {"organization": organization}).mappings()
    return [{name: _value(name, value) for name, value in row.items()} for row in rows]


def _value(name: str, value: Any) -> Any:
    if name in _JSON and value is not None:
        value = json.loads(value) if isinstance(value, str) else value
        return tuple(value) if isinstance(value, list) else value
    if name == "raw":
        return value.encode()
    if name in {"event_date", "loaded_at"}:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else value
        return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    if name == "transaction_initiator" and value is not None:
        return bool(value)
    return value
