"""The audits that the simulator makes up look like live ones, and are the same each time."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from etl.simulator import AuditLog
from etl.simulator.catalogue import SERVICES
from tests.support.simulated_organization import END, NOW, START, audit, ids

FOREVER = datetime(2030, 1, 1, tzinfo=UTC)
COUNT = 12_000


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with AuditLog.generate(seed=5, count=COUNT, start=START, end=END) as log:
        yield log


@pytest.fixture(scope="module")
def audits(log: AuditLog) -> list[dict[str, Any]]:
    return list(log.truth(START, END, FOREVER))


def _text(seed: int, **changed: Any) -> tuple[bytes, list[str]]:
    span: dict[str, Any] = {"count": 500, "start": START, "end": END} | changed
    with AuditLog.generate(seed=seed, **span) as log:
        shown = ids(log.truth(START, END, NOW))
        return log.text(range(len(log))), shown


def test_the_same_seed_count_and_span_make_the_same_bytes() -> None:
    assert _text(1) == _text(1)


@pytest.mark.parametrize(
    "changed", [{"seed": 2}, {"count": 501}, {"end": END - timedelta(hours=1)}]
)
def test_anything_else_makes_others(changed: dict[str, Any]) -> None:
    assert _text(**({"seed": 1} | changed))[0] != _text(1)[0]


def test_audits_are_in_the_order_of_time_and_id_and_none_is_twice(
    audits: list[dict[str, Any]],
) -> None:
    keys = [(found["eventDate"], found["id"]) for found in audits]

    assert keys == sorted(keys)
    assert len(set(ids(audits))) == COUNT


def test_every_audit_lies_in_the_span(audits: list[dict[str, Any]]) -> None:
    assert audits[0]["eventDate"] >= "2026-04-20T00:00:00Z"
    assert audits[-1]["eventDate"] < "2026-05-10T00:00:00Z"
    assert {len(found["eventDate"]) for found in audits} == {20}


def test_some_audits_lie_on_the_edge_of_a_minute_an_hour_and_a_day(
    audits: list[dict[str, Any]],
) -> None:
    for edge, least in ((":00Z", 300), (":00:00Z", 80), ("T00:00:00Z", 10)):
        assert sum(found["eventDate"].endswith(edge) for found in audits) >= least


def test_offices_are_busy_on_weekdays_and_quiet_at_night(audits: list[dict[str, Any]]) -> None:
    moments = [datetime.fromisoformat(found["eventDate"]) for found in audits]
    hours = Counter((m.weekday() >= 5, m.hour) for m in moments)

    assert hours[False, 10] > 8 * hours[False, 2]
    assert hours[False, 10] > 8 * hours[True, 10]


def test_levels_and_empty_marks_are_as_in_live_records(audits: list[dict[str, Any]]) -> None:
    levels = Counter(found["level"] for found in audits)
    system = [found for found in audits if found["level"] != "USER"]

    assert set(levels) == {"USER", "SYSTEM", "GENESYS_INTERNAL"}
    assert 0.44 < levels["SYSTEM"] / COUNT < 0.97
    assert [found["user"] for found in system] == [{}] * len(system)
    assert all(found["user"]["id"] for found in audits if found["level"] == "USER")
    for mark, least in {
        "message": 0.5,
        "initiatingAction": 0.4,
        "entityChanges": 0.5,
        "application": 0.5,
        "context": 0.1,
        "propertyChanges": 0.05,
    }.items():
        assert least < sum(not found.get(mark) for found in audits) / COUNT < 1
    assert sum(found["client"] == {"id": ""} for found in audits) / COUNT > 0.9


def test_audits_weigh_what_live_ones_do(log: AuditLog, audits: list[dict[str, Any]]) -> None:
    changes = sum(len(a["propertyChanges"]) + len(a["entityChanges"]) for a in audits)

    assert 1300 < len(log.text(range(COUNT))) / COUNT < 1900
    assert 2 < changes / COUNT < 3


def test_every_service_entity_type_and_action_is_in_the_mapping(
    audits: list[dict[str, Any]],
) -> None:
    catalogue = {
        (service.name, entity.name, action)
        for service in SERVICES
        for entity in service.entities
        for action in entity.actions
    }

    assert {(a["serviceName"], a["entityType"], a["action"]) for a in audits} <= catalogue
    assert len({a["serviceName"] for a in audits}) > 40


def test_the_oddities_of_live_values_are_there(audits: list[dict[str, Any]]) -> None:
    changes = [change for found in audits for change in found["propertyChanges"]]
    values = [v for c in changes for v in c.get("oldValues", []) + c.get("newValues", [])]
    names = {found["user"].get("name", "") for found in audits}

    assert "<queue member added>" in values
    assert any(v.startswith('[{"type":') for v in values)
    assert any(set(c) == {"property", "newValues"} for c in changes)
    assert any(c["property"].startswith("QueueMember/") for c in changes)
    assert any(found["entity"].get("name", "").count("--") == 2 for found in audits)
    assert {'Anna "Nan" Berg', "Bot 🤖 Nightly", "Sales\\EMEA"} <= names


def test_two_in_a_hundred_audits_are_late_by_15_minutes_to_ten_days(log: AuditLog) -> None:
    late = list(log.late(START, END, timedelta(minutes=10)))

    assert 0.01 < len(late) / COUNT < 0.03
    assert list(log.late(START, END, timedelta(minutes=15))) == late
    assert list(log.late(START, END, timedelta(days=1)))
    assert not list(log.late(START, END, timedelta(days=10)))


def test_audits_that_are_not_late_show_within_three_minutes() -> None:
    with AuditLog.generate(count=900, start=START, end=END, late_share=0) as log:
        assert not list(log.late(START, END, timedelta(minutes=3)))
        assert len(list(log.late(START, END, timedelta(seconds=1)))) == 900


def test_the_truth_grows_with_time(log: AuditLog) -> None:
    before, after = (
        {found["id"] for found in log.truth(START, END, at)}
        for at in (NOW, NOW + timedelta(days=1))
    )

    assert before < after


def test_the_truth_of_a_window_holds_its_start_and_not_its_end() -> None:
    edges = [START + timedelta(hours=n) for n in range(3)]
    with AuditLog.of((audit(n, at), at) for n, at in enumerate(edges)) as log:
        assert list(log.truth(edges[0], edges[2], FOREVER)) == [
            audit(0, edges[0]),
            audit(1, edges[1]),
        ]


def test_records_are_served_as_they_were_given() -> None:
    odd = audit(1, START, name="\ud800 \u0000 \u00e9", number=12345678901234567890123)
    text = b'{"eventDate":"2026-04-20T00:00:01Z", "id":"x",  "id":"y"}'
    nameless = {"serviceName": "Nowhere"}
    with AuditLog.of([(nameless, END), (text, START), (odd, START)]) as log:
        assert list(log.truth(START, END + timedelta(1), END)) == [
            odd,
            {"eventDate": "2026-04-20T00:00:01Z", "id": "y"},
            nameless,
        ]
        assert log.one(1) == text
        assert log.services == {"ContactCenter", "None", "Nowhere"}


def test_a_log_may_be_empty() -> None:
    with AuditLog.generate(count=0, start=START, end=END) as log:
        assert len(log) == 0
        assert list(log.truth(START, END, FOREVER)) == []


@pytest.mark.parametrize("wrong", [{"end": START}, {"count": -1}, {"late_share": 1.5}])
def test_a_log_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"count": 3, "start": START, "end": END} | wrong
    with pytest.raises(ValueError, match=r"some time to happen in|from 0 to 1"):
        AuditLog.generate(**asked)
