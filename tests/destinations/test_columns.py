"""No column can be swapped, dropped or added without somebody's noticing."""

from collections.abc import Iterator

import pyarrow as pa
import pytest
from msgspec.structs import asdict

from etl.database import schema
from etl.destinations.lake.columns import COLUMNS, VERSION, VERSION_KEY, require_known
from etl.errors import SchemaBehind
from tests.support.samples import audits, record

#: The columns of each version of a lake's files. A version that was released is never edited: a
#: change of columns is a new version, by which older programs leave the files as they are.
VERSIONS = {
    1: """
        id: string not null
        event_date: timestamp[ms, tz=UTC] not null
        service_name: string
        action: string
        entity_type: string
        entity_id: string
        entity_name: string
        level: string
        status: string
        application: string
        user_id: string
        user_name: string
        user_home_org_id: string
        client_id: string
        message: string
        transaction_id: string
        transaction_action: string
        transaction_initiator: bool
        remote_ips: list<item: string>
        message_params: map<string, string>
        context: map<string, string>
        raw: string not null
        loaded_at: timestamp[ms, tz=UTC] not null
        property_changes: list<item: struct<property: string, old_values: list<item: string>,
            new_values: list<item: string>>>
        entity_changes: list<item: struct<entity_type: string, entity_id: string,
            entity_name: string, old_values: list<item: string>, new_values: list<item: string>>>
    """,
}


def told(columns: pa.Schema) -> str:
    lines = (f"{f.name}: {f.type}{'' if f.nullable else ' not null'}" for f in columns)
    return " ".join(lines)


def test_columns_are_those_of_their_version() -> None:
    assert told(COLUMNS) == " ".join(VERSIONS[VERSION].split())
    assert max(VERSIONS) == VERSION


def test_a_file_with_a_column_that_nobody_knows_is_not_written_again() -> None:
    more = COLUMNS.append(pa.field("division_id", pa.string()))

    require_known(COLUMNS, "a file")
    require_known(COLUMNS.remove(5), "a file of before")
    with pytest.raises(SchemaBehind, match=r"a file has columns .* division_id; upgrade audit-etl"):
        require_known(more, "a file")
    newer = COLUMNS.with_metadata({VERSION_KEY: str(VERSION + 1).encode()})
    with pytest.raises(SchemaBehind, match="upgrade"):
        require_known(newer, "a file")


def values() -> Iterator[tuple[str, object]]:
    """The columns of a sample and of its children, with what they hold."""
    [audit] = audits([record("the id", 3)])
    for name, value in asdict(audit).items():
        if name.endswith("_changes"):
            for child in asdict(value[0]).items():
                yield f"{name}.{child[0]}", child[1]
        elif name != "raw":
            yield name, value


def test_a_sample_fills_each_column_with_a_value_of_its_own() -> None:
    found = dict(values())
    columns = {c.name for c in schema.audit_events.c} - {"organization", "loaded_at", "raw"}

    assert found.keys() >= columns
    assert [name for name, value in found.items() if value in (None, (), {}, "")] == []
    texts = [repr(value) for value in found.values()]
    assert sorted({t for t in texts if texts.count(t) > 1}) == []
