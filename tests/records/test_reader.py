"""Whatever arrives becomes a row or is kept aside with its reason; nothing is dropped."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etl.records import Audit, EntityChange, PropertyChange, Reject, read_records
from tests.support.samples import DOWNLOADED

#: An export that a user ran: the empty markers of a live record, no name, no message.
LIVE: dict[str, Any] = {
    "id": "0b6b40f1-6f5e-4d6e-9f0e-2f6a7b8c9d10",
    "userHomeOrgId": "5a1f0c8e-0000-4000-8000-00000000abcd",
    "user": {"id": "7d5e0000-aaaa-4aaa-8aaa-0123456789ab", "selfUri": "/api/v2/users/7d5e"},
    "client": {"id": ""},
    "remoteIp": ["192.0.2.10"],
    "serviceName": "AnalyticsReporting",
    "level": "USER",
    "eventDate": "2026-04-01T12:34:56Z",
    "action": "Create",
    "entity": {"id": "7d5e0000-aaaa-4aaa-8aaa-0123456789ab"},
    "entityType": "Exports",
    "status": "SUCCESS",
    "application": "",
    "initiatingAction": {},
    "transactionInitiator": False,
    "propertyChanges": [],
    "context": {"ExportType": "CSV", "HasEmail": "true"},
    "entityChanges": [],
}
LIVE_ROW: dict[str, Any] = {
    "id": LIVE["id"],
    "event_date": datetime(2026, 4, 1, 12, 34, 56, tzinfo=UTC),
    "service_name": "AnalyticsReporting",
    "action": "Create",
    "entity_type": "Exports",
    "entity_id": "7d5e0000-aaaa-4aaa-8aaa-0123456789ab",
    "level": "USER",
    "status": "SUCCESS",
    "user_id": "7d5e0000-aaaa-4aaa-8aaa-0123456789ab",
    "user_home_org_id": "5a1f0c8e-0000-4000-8000-00000000abcd",
    "transaction_initiator": False,
    "remote_ips": ("192.0.2.10",),
    "context": {"ExportType": "CSV", "HasEmail": "true"},
}
TIMED = {"id": "a", "eventDate": "2026-04-01T00:00:00Z"}
MIDNIGHT = datetime(2026, 4, 1, tzinfo=UTC)


def row(record: dict[str, Any] | str) -> Audit | Reject:
    """What the record becomes."""
    raw = record if isinstance(record, str) else json.dumps(record)
    sent = raw.encode("utf-8", "surrogatepass")
    batch = read_records([sent])
    assert len(batch.audits) + len(batch.rejects) == 1
    found: Audit | Reject = (batch.audits + batch.rejects)[0]
    return found


def audit(record: dict[str, Any] | str) -> Audit:
    found = row(record)
    assert isinstance(found, Audit), found
    return found


def expected(**columns: Any) -> Audit:
    required: dict[str, Any] = {"id": "a", "event_date": MIDNIGHT}
    return Audit(**(required | columns))


def test_a_live_record_with_empty_markers() -> None:
    assert audit(LIVE) == Audit(**LIVE_ROW, raw=json.dumps(LIVE).encode())


def test_a_record_with_every_member() -> None:
    record = TIMED | {
        "user": {"id": "u", "name": "Ada Example"},
        "client": {"id": "c"},
        "message": {"message": "Updated", "messageParams": {"n": "1"}, "messageWithParams": "x"},
        "application": "admin",
        "initiatingAction": {"transactionId": "t", "actionContext": "bulk"},
        "transactionInitiator": True,
        "entity": {"id": "e", "name": "Queue", "selfUri": "/x"},
        "propertyChanges": [{"property": "name", "oldValues": ["Old"], "newValues": ["New", ""]}],
        "entityChanges": [
            {"entityType": "User", "entityId": "u2", "entityName": "N", "newValues": ["v"]}
        ],
    }

    assert audit(record) == expected(
        raw=json.dumps(record).encode(),
        user_id="u",
        user_name="Ada Example",
        client_id="c",
        message="Updated",
        message_params={"n": "1"},
        application="admin",
        transaction_id="t",
        transaction_action="bulk",
        transaction_initiator=True,
        entity_id="e",
        entity_name="Queue",
        property_changes=(PropertyChange("name", ("Old",), ("New", "")),),
        entity_changes=(EntityChange("User", "u2", "N", None, ("v",)),),
    )


def test_a_queue_member_removed_keeps_its_sentinel_and_its_ids() -> None:
    changed = "QueueMember/aaaa-1:1111-2"
    record = LIVE | {
        "propertyChanges": [
            {"property": changed, "oldValues": ["<queue member deleted>"], "newValues": []}
        ]
    }

    assert audit(record).property_changes == (
        PropertyChange(changed, ("<queue member deleted>",), ()),
    )


def test_a_system_row_has_no_user_and_its_embedded_json_stays_text() -> None:
    record = LIVE | {
        "level": "SYSTEM",
        "user": {},
        "entity": {"id": "x", "name": ""},
        "eventDate": "2026-04-01T12:34:56.000Z",
        "propertyChanges": [{"property": "addresses", "newValues": ['[{"type":"WORK"}]']}],
    }
    found = audit(record)

    assert (found.level, found.user_id, found.entity_name) == ("SYSTEM", None, None)
    assert found.property_changes == (PropertyChange("addresses", None, ('[{"type":"WORK"}]',)),)


def test_the_download_s_shape_gives_the_same_columns() -> None:
    assert audit(DOWNLOADED) == expected(
        raw=json.dumps(DOWNLOADED).encode(),
        user_id="u",
        user_name="Ada",
        user_home_org_id="o",
        client_id="c",
        service_name="PeoplePermissions",
        action="Delete",
        entity_type="OAuthClient",
        entity_id="c",
        entity_name="My OAuth Client",
        property_changes=(PropertyChange("scopes", ("users",), None),),
    )


def test_unknown_members_and_values_stay_in_raw() -> None:
    record = TIMED | {"level": "GALACTIC", "somethingNew": {"deep": [1, 2]}}
    found = audit(record)

    assert found.level == "GALACTIC"
    assert json.loads(found.raw) == record


@pytest.mark.parametrize(
    ("members", "columns"),
    [
        ({"level": 5}, {"level": "5"}),
        ({"status": True}, {"status": "true"}),
        ({"action": ["a", 1]}, {"action": '["a", 1]'}),
        ({"user": "bob"}, {"user_id": "bob"}),
        ({"entity": 7}, {"entity_id": "7"}),
        ({"message": "text"}, {"message": "text"}),
        ({"remoteIp": "192.0.2.1"}, {"remote_ips": ("192.0.2.1",)}),
        ({"remoteIp": [None, 4]}, {"remote_ips": (None, "4")}),
        ({"context": {"n": 10**23}}, {"context": {"n": "100000000000000000000000"}}),
        ({"context": "text"}, {}),
        ({"context": {"a": None, "b": {"c": 1.50}}}, {"context": {"a": None, "b": '{"c": 1.5}'}}),
        ({"transactionInitiator": "yes"}, {}),
        ({"propertyChanges": {"property": "p"}},
         {"property_changes": (PropertyChange("p", None, None),)}),
        ({"propertyChanges": [None, "q"]},
         {"property_changes": (PropertyChange(None, None, None), PropertyChange("q", None, None))}),
        ({"initiatingAction": "t"}, {"transaction_id": "t"}),
    ],
)  # fmt: skip
def test_a_member_of_another_type_is_kept_as_text(
    members: dict[str, Any], columns: dict[str, Any]
) -> None:
    record = TIMED | members

    assert audit(record) == expected(raw=json.dumps(record).encode(), **columns)


@pytest.mark.parametrize("name", [name for name in LIVE if name not in {"id", "eventDate"}])
@pytest.mark.parametrize("value", [None, "absent"])
def test_any_other_member_may_be_absent_or_null(name: str, value: str | None) -> None:
    record = {k: v for k, v in LIVE.items() if k != name}
    if value is None:
        record[name] = None

    assert isinstance(row(record), Audit)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"eventDate": "2026-04-01T00:00:00Z"}, "has no id"),
        ({"id": "", "eventDate": "2026-04-01T00:00:00Z"}, "has no id"),
        ({"id": None, "eventDate": "2026-04-01T00:00:00Z"}, "has no id"),
        ({"id": {}, "eventDate": "2026-04-01T00:00:00Z"}, "has no id"),
        ({"id": ["a"], "eventDate": "2026-04-01T00:00:00Z"}, "has no id"),
        ({"id": True, "eventDate": "2026-04-01T00:00:00Z"}, "has no id"),
        ({"id": "a" * 256, "eventDate": "2026-04-01T00:00:00Z"}, "longer than 255"),
        ({"id": "a\x00", "eventDate": "2026-04-01T00:00:00Z"}, "no database keeps apart"),
        ({"id": "a "} | {"eventDate": "2026-04-01T00:00:00Z"}, "no database keeps apart"),
        ({"id": "a"}, "no time"),
        ({"id": "a", "eventDate": None}, "no time"),
        ({"id": "a", "eventDate": "yesterday"}, "no time"),
        ({"id": "a", "eventDate": 1775001600}, "no time"),
        ({"id": "a", "eventDate": "0999-04-01T00:00:00Z"}, "outside the years"),
        ("5", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{", "not JSON"),
        ('{"a":' * 20_000 + "1" + "}" * 20_000, "nested too deep"),
    ],
)
def test_a_record_that_cannot_be_a_row_is_kept_aside(
    record: dict[str, Any] | str, reason: str
) -> None:
    found = row(record)

    assert isinstance(found, Reject)
    assert reason in found.reason
    assert found.raw == (record if isinstance(record, str) else json.dumps(record)).encode()


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-04-01T00:00:00.123456Z", MIDNIGHT.replace(microsecond=123000)),
        ("2026-04-01T02:00:00+02:00", MIDNIGHT),
        ("2026-04-01T00:00:00", MIDNIGHT),
        ("2026-04-01T00:00Z", MIDNIGHT),
        ("2026-04-01", MIDNIGHT),
    ],
)
def test_a_time_is_utc_in_whole_milliseconds(text: str, instant: datetime) -> None:
    assert audit({"id": "a", "eventDate": text}).event_date == instant


def test_what_no_database_holds_is_replaced_in_its_column_and_kept_in_raw() -> None:
    raw = r'{"id":"a","eventDate":"2026-04-01T00:00:00Z","action":"x\u0000y\ud800z"}'

    assert audit(raw) == expected(raw=raw.encode(), action="x\ufffdy\ufffdz")


@pytest.mark.parametrize("text", [r"\u0000", r"\u0000\"", r"\"\u0000", r"\t\u0000\n", r"\n\u0000x"])
def test_nul_is_replaced_wherever_it_stands_among_other_escapes(text: str) -> None:
    raw = f'{{"id":"a","eventDate":"2026-04-01T00:00:00Z","action":"x{text}"}}'

    assert audit(raw).action == "x" + json.loads(f'"{text}"').replace("\x00", "\ufffd")


def test_texts_that_only_look_dangerous_pass_unchanged() -> None:
    record = TIMED | {"action": "\u202eevil\u2066 \\u0000 \U0001f600"}

    assert audit(json.dumps(record, ensure_ascii=False)).action == record["action"]


def test_bytes_that_are_no_utf8_cost_only_themselves() -> None:
    batch = read_records([b'{"id":"a","eventDate":"2026-04-01T00:00:00Z","action":"\xff"}'])

    assert [a.action for a in batch.audits] == ["\ufffd"]


def test_an_indexed_text_is_cut_and_raw_keeps_the_whole() -> None:
    changes = [{"entityId": "i" * length, "entityName": "n" * 5000} for length in (511, 512, 513)]
    ids = {"entity": {"id": "e" * 5000}, "client": {"id": "c" * 5000}}
    found = audit(TIMED | ids | {"entityChanges": changes})

    assert found.entity_id == "e" * 512
    assert found.client_id == "c" * 512
    assert b"e" * 5000 in found.raw
    assert [len(change.entity_id or "") for change in found.entity_changes] == [511, 512, 512]
    assert [len(change.entity_name or "") for change in found.entity_changes] == [5000] * 3


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
members = st.sampled_from([*LIVE, "eventTime", "userId", "clientId", "userDisplay", "odd"])


@given(st.dictionaries(members, json_values))
@example({"id": "a", "eventDate": "2026-04-01T00:00:00Z", "level": "\ud800"})
@example({"id": "a", "eventDate": "9999-12-31T23:59:59-23:59"})
def test_any_json_object_is_one_row_or_one_reject_that_databases_can_hold(
    record: dict[str, Any],
) -> None:
    found = row(record)

    texts = [found.raw.decode()]
    if isinstance(found, Audit):
        texts += [v for n in found.__struct_fields__ if isinstance(v := vars_of(found)[n], str)]
        assert found.event_date.utcoffset() is not None
    for text in texts:
        assert "\x00" not in text
        text.encode()


def vars_of(found: Audit) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__struct_fields__}


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_end_in_anything_but_a_row_or_a_reject(body: bytes) -> None:
    assert len(read_records([body]).audits) <= 1


@pytest.mark.parametrize("member", ["eventDate", "eventTime"])
@pytest.mark.parametrize("more", [{}, {"level": 7}], ids=["as documented", "of another type"])
@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-04-01T00:00:59.9999995Z", datetime(2026, 4, 1, 0, 0, 59, 999_000, UTC)),
        ("2026-04-01T00:00:59.999999999+00:00", datetime(2026, 4, 1, 0, 0, 59, 999_000, UTC)),
        ("2026-04-01T01:59:59.9996+02:00", datetime(2026, 3, 31, 23, 59, 59, 999_000, UTC)),
        ("1969-12-31T23:59:59.9999999Z", datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)),
        ("9998-12-31T23:59:59.99999999Z", datetime(9998, 12, 31, 23, 59, 59, 999_000, UTC)),
        ("2026-04-01T00:00:00.0000004Z", datetime(2026, 4, 1, tzinfo=UTC)),
        ("2026-04-01t00:00:00.0009z", datetime(2026, 4, 1, tzinfo=UTC)),
    ],
)
def test_times_are_cut_to_milliseconds_and_never_rounded(
    text: str, instant: datetime, more: dict[str, object], member: str
) -> None:
    raw = json.dumps({"id": "a", member: text} | more).encode()

    [audit] = read_records([raw]).audits

    assert audit.event_date == instant
