"""The contract that every destination keeps."""

import json
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from etl.database.engine import transact
from etl.database.schema import early_audits
from etl.destinations import AnyDestination
from etl.destinations.lake import staging
from etl.destinations.sql import destination as sql_module
from etl.destinations.sql import inserter, keys
from etl.destinations.sql.destination import SqlDestination
from etl.errors import ConfigurationError, LeaseHeld, SourceUnavailable
from etl.model import Late, Stream
from etl.operations.tail import load_early
from etl.records import Batch
from tests.conftest import Place
from tests.support.destination_contents import audits_in
from tests.support.samples import (
    BEGIN,
    HOUR,
    LOADED_AT,
    STREAM,
    audits,
    batch,
    draft,
    hours,
    load_into,
    record,
    unfenced,
)


@pytest.fixture
def destination(place: Place) -> AnyDestination:
    return place.destination


def watermark(destination: AnyDestination, stream: Stream = STREAM) -> datetime | None:
    found = destination.ledger.watermark(stream)
    return found.reached if found else None


def test_a_loaded_audit_reads_back_as_the_source_showed_it(
    destination: AnyDestination, place: Place
) -> None:
    shown = [record("a", 0.5), record("b", 0.1, user={}, propertyChanges=[], context={})]

    receipt = load_into(destination, draft(hours(0, 1)), [batch(*shown)], unfenced)

    assert place.audits() == audits(shown)
    assert (receipt.events, receipt.new_events, receipt.rejects, receipt.requests) == (2, 2, 0, 3)
    assert receipt.loaded_at == LOADED_AT


def test_loading_again_adds_what_came_late_and_leaves_what_was_there(
    destination: AnyDestination, place: Place
) -> None:
    first, late = record("a"), record("late", 0.2)
    load_into(destination, draft(hours(0, 1)), [batch(first)], unfenced)

    again = load_into(
        destination, draft(hours(0, 1)), [batch(first | {"status": "FAILURE"}, late)], unfenced
    )

    assert place.audits() == audits([first, late])
    assert (again.events, again.new_events) == (2, 1)


def test_late_arrivals_are_told_once_they_are_durable(
    destination: AnyDestination, place: Place
) -> None:
    told: list[tuple[Late, int]] = []

    def load(*names: str) -> None:
        records = [record(name, int(name[-1]) / 10) for name in names]
        asked = replace(
            draft(hours(0, 1)), late=lambda late: told.append((late, len(place.audits())))
        )
        load_into(destination, asked, [batch(*records)], unfenced)

    load("a1", "b2", "c2")
    load("a1", "d2", "e3", "b2")
    load("d2")

    assert told == [(Late({("ContactCenter", 3600): 2}), 5)]


def test_loading_less_removes_nothing(destination: AnyDestination, place: Place) -> None:
    load_into(destination, draft(hours(0, 1)), [batch(record("a"))], unfenced)

    load_into(destination, draft(hours(0, 1)), [], unfenced)

    assert place.audits() == audits([record("a")])


def test_an_audit_shown_twice_is_held_once(destination: AnyDestination, place: Place) -> None:
    other = record("a") | {"propertyChanges": [], "status": "FAILURE"}

    receipt = load_into(
        destination, draft(hours(0, 1)), [batch(record("a"), record("a")), batch(other)], unfenced
    )

    assert place.audits() == audits([record("a")])
    assert receipt.new_events == 1


def test_ids_that_differ_in_case_are_two_audits(destination: AnyDestination, place: Place) -> None:
    shown = [record("A"), record("a"), record("á")]

    load_into(destination, draft(hours(0, 1)), [batch(*shown)], unfenced)

    assert sorted(a.id for a in place.audits()) == ["A", "a", "á"]


def test_organisations_do_not_meet(destination: AnyDestination, place: Place) -> None:
    for name in ("acme", "beta"):
        load_into(
            destination, draft(hours(0, 1), stream=Stream(name)), [batch(record("a"))], unfenced
        )

    assert [len(place.audits(name)) for name in ("acme", "beta")] == [1, 1]


def test_one_id_in_two_organisations_is_two_audits_however_it_is_loaded(
    destination: AnyDestination, place: Place
) -> None:
    shown = [batch(record("a"), {"id": "no time"})]
    streams = [Stream("acme"), Stream("beta"), Stream("gamma")]
    for stream in streams[:2]:
        load_into(destination, draft(hours(0, 1), stream=stream), [], unfenced)

    receipts = [
        load_into(destination, draft(hours(0, 1), stream=stream), shown, unfenced)
        for stream in streams
    ]

    assert [receipt.new_events for receipt in receipts] == [1, 1, 1]
    for stream in streams:
        name = stream.organization
        assert place.audits(name) == audits([record("a")])
        assert destination.ledger.rejects(name) == 1
        assert [held.id for held in destination.look_up(name, hours(0, 1), ["a"])] == ["a"]
    assert list(destination.look_up("delta", hours(0, 1), ["a"])) == []


def test_a_page_that_fails_leaves_no_receipt_and_whole_audits(
    destination: AnyDestination, place: Place
) -> None:
    destination.ledger.begin(STREAM, BEGIN, LOADED_AT)

    def pages() -> Iterator[Batch]:
        yield batch(record("a"))
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        load_into(destination, draft(hours(0, 1)), pages(), unfenced)

    assert destination.ledger.last_receipt(STREAM) is None
    assert watermark(destination) == BEGIN
    assert place.audits() in ([], audits([record("a")]))


def test_a_lost_lease_commits_no_receipt(destination: AnyDestination) -> None:
    destination.ledger.begin(STREAM, BEGIN, LOADED_AT)

    def lost(_: sa.Connection) -> None:
        raise LeaseHeld("taken by another")

    with pytest.raises(LeaseHeld):
        load_into(destination, draft(hours(0, 1)), [batch(record("a"))], lost)

    assert destination.ledger.last_receipt(STREAM) is None
    assert watermark(destination) == BEGIN


def test_the_watermark_is_the_end_of_the_contiguous_receipts(destination: AnyDestination) -> None:
    destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
    ends = []

    for window in (hours(0, 1), hours(2, 3), hours(-5, 0), hours(1, 2), hours(0.5, 1.5)):
        load_into(destination, draft(window), [], unfenced)
        ends.append(watermark(destination))

    assert ends == [BEGIN + n * HOUR for n in (1, 1, 1, 3, 3)]


def test_a_stream_that_begins_after_a_backfill_counts_what_that_loaded(
    destination: AnyDestination,
) -> None:
    load_into(destination, draft(hours(-10, 2)), [], unfenced)
    load_into(destination, draft(hours(2, 4)), [], unfenced)
    load_into(destination, draft(hours(5, 6)), [], unfenced)

    begun = destination.ledger.begin(STREAM, BEGIN, LOADED_AT)

    assert (begun.begins_at, begun.reached) == (BEGIN, BEGIN + 4 * HOUR)
    assert destination.ledger.begin(STREAM, BEGIN + HOUR, LOADED_AT) == begun


def test_gaps_between_receipts_are_told(destination: AnyDestination) -> None:
    destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
    for window in (hours(1, 2), hours(4, 6), hours(5, 7)):
        load_into(destination, draft(window), [], unfenced)

    assert destination.ledger.gaps(STREAM) == [hours(0, 1), hours(2, 4)]


def test_a_reject_is_kept_once_however_often_it_is_shown(
    destination: AnyDestination, place: Place
) -> None:
    odd = {"id": "no time"}

    receipts = [
        load_into(destination, draft(hours(0, 1)), [batch(odd, record("a"))], unfenced)
        for _ in range(2)
    ]

    assert [receipt.rejects for receipt in receipts] == [1, 1]
    assert destination.ledger.rejects("default") == 1
    with destination.ledger.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT reason, raw FROM audit_rejects")).all()
    assert [tuple(row) for row in rows] == [
        ("the record has no time (eventDate or eventTime) that can be read", '{"id": "no time"}')
    ]


def test_what_databases_refuse_is_held_all_the_same(
    destination: AnyDestination, place: Place
) -> None:
    shown = [
        record("nul", action="a\x00b", context={"k\x00": "v\x00"}),
        record("bidi", action="\u202ea\u2066", entity={"id": "x" * 3000, "name": "n" * 70_000}),
        record("emoji", action="\U0001f9ea", remoteIp=["\x01\x1f\\"]),
        record("numbers", context={"n": 10**400, "m": 1e308}, level=7),
        record("empty", propertyChanges=[{}], entityChanges=[{}]),
    ]

    load_into(destination, draft(hours(0, 1)), [batch(*shown)], unfenced)

    assert place.audits() == sorted(audits(shown), key=lambda a: a.id)


def test_an_audit_of_several_megabytes_is_loaded_beside_others(
    destination: AnyDestination, place: Place
) -> None:
    long = "'" + "é" * 2_900_000  # of two bytes, twice in a row; a packet of MariaDB ends at 16 MiB
    shown = [record("a", 0.1), record("b", 0.2, message={"message": long}), record("c", 0.3)]

    receipt = load_into(destination, draft(hours(0, 1)), [batch(*shown)], unfenced)

    assert receipt.new_events == 3
    assert place.audits() == audits(shown)


def test_a_large_window_is_loaded_in_several_transactions(
    destination: AnyDestination, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_module, "GROUP_BYTES", 2_000)
    monkeypatch.setattr(keys, "LISTED_KEYS", 3)
    monkeypatch.setattr(inserter, "SQLITE_VALUES", 60)
    monkeypatch.setattr(inserter, "MYSQL_BYTES", 4_000)
    shown = [record(f"{n:03}", n / 100) for n in range(60)]
    pages = [batch(*shown[n : n + 10]) for n in range(0, 60, 7)]

    receipt = load_into(destination, draft(hours(0, 1)), pages, unfenced)

    assert place.audits() == audits(shown)
    assert receipt.new_events == 60


def test_a_large_window_in_no_order_over_many_days_is_held_whole(
    destination: AnyDestination, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_module, "GROUP_BYTES", 4_000)
    monkeypatch.setattr(staging, "FAN_IN", 3)
    shown = [record(f"{n:03}", n) for n in range(150)]
    mixed = random.Random(5).sample(shown, len(shown))
    pages = [batch(*mixed[n : n + 10]) for n in range(0, 150, 10)]

    receipt = load_into(destination, draft(hours(0, 150)), pages, unfenced)
    again = load_into(destination, draft(hours(0, 150)), pages[::-1], unfenced)

    assert place.audits() == audits(shown)
    assert (receipt.new_events, again.new_events) == (150, 0)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_journal_of_one_window_is_in_the_file_once_the_next_is_loaded(
    engine: sa.Engine,
) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT)
    for hour, name in ((0, "first"), (1, "second")):
        window = hours(hour, hour + 1)
        load_into(destination, draft(window), [batch(record(name, hour + 0.5))], unfenced)

    without_journal = f"file:{engine.url.database}?immutable=1"
    with closing(sqlite3.connect(without_journal, uri=True)) as file:
        written = file.execute("SELECT id FROM audit_events ORDER BY id").fetchall()

    assert written == [("first",)]


def test_ids_are_looked_up_once_one_of_them_is_there(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_module, "GROUP_BYTES", 2_000)
    destination = SqlDestination(engine, lambda: LOADED_AT)
    shown = [record(f"{n:03}", n / 100) for n in range(60)]
    pages = [batch(*shown[n : n + 10]) for n in range(0, 60, 10)]
    looked_up = attempts = 0

    def look_up(*asked: Any) -> list[str]:
        nonlocal looked_up
        looked_up += 1
        return keys.absent_of(*asked)

    def attempt(engine: sa.Engine, work: Callable[[sa.Connection], Any]) -> Any:
        def once(connection: sa.Connection) -> Any:
            nonlocal attempts
            attempts += 1
            return work(connection)

        return transact(engine, once)

    def broken_off() -> Iterator[Batch]:
        yield from pages[:3]
        raise SourceUnavailable("gone")

    monkeypatch.setattr(sql_module, "absent_of", look_up)
    monkeypatch.setattr(sql_module, "transact", attempt)
    with pytest.raises(SourceUnavailable):
        load_into(destination, draft(hours(0, 1)), broken_off(), unfenced)
    assert (looked_up, attempts) == (0, 2)

    receipt = load_into(destination, draft(hours(0, 1)), pages, unfenced)

    assert audits_in(engine) == audits(shown)
    assert receipt.new_events == 40
    assert (looked_up, attempts) == (len(pages), 2 + 1 + len(pages))

    load_into(destination, draft(hours(0, 1)), pages, unfenced)

    assert (looked_up, attempts) == (2 * len(pages), 2 + 1 + 2 * len(pages))


def test_two_loads_at_once_into_sql_hold_each_audit_once(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT)
    monkeypatch.setattr(sql_module, "GROUP_BYTES", 5_000)
    destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
    shown = [record(f"{n:03}", n / 200) for n in range(200)]
    pages = [batch(*shown[n : n + 5]) for n in range(0, 200, 5)]
    failures: list[BaseException] = []

    def load(window_end: int, order: int) -> None:
        try:
            load_into(destination, draft(hours(0, window_end)), pages[::order], unfenced)
        except BaseException as error:  # noqa: BLE001 - the test reports whatever a thread met
            failures.append(error)

    threads = [threading.Thread(target=load, args=(n, order)) for n, order in ((1, 1), (2, -1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert audits_in(engine) == audits(shown)
    assert watermark(destination) == BEGIN + 2 * HOUR


def test_what_is_loaded_early_gives_way_to_what_a_window_shows(engine: sa.Engine) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT)
    destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
    poor = record("a") | {"user": {"id": "u1"}, "propertyChanges": [], "entityChanges": []}

    early = [destination.load_early("default", audits([poor, record("b")])) for _ in range(2)]
    held = audits_in(engine)
    load_into(destination, draft(hours(0, 1)), [batch(record("a"))], unfenced)

    assert early == [2, 0]
    assert held == audits([poor, record("b")])
    assert audits_in(engine) == audits([record("a"), record("b")])
    assert watermark(destination) == BEGIN + HOUR
    with engine.connect() as connection:
        left = connection.execute(sa.text("SELECT id FROM early_audits")).scalars().all()
    assert left == ["b"]


def test_an_early_audit_of_another_organisation_with_that_id_stays(engine: sa.Engine) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT)
    for organization in ("default", "other"):
        destination.load_early(organization, audits([record("a"), record("b")]))

    load_into(destination, draft(hours(0, 1)), [batch(record("a"))], unfenced)

    assert audits_in(engine, "other") == audits([record("a"), record("b")])
    assert audits_in(engine, "default") == audits([record("a"), record("b")])
    with engine.connect() as connection:
        query = sa.select(early_audits.c.organization, early_audits.c.id)
        left = sorted(map(tuple, connection.execute(query)))
    assert left == [("default", "b"), ("other", "a"), ("other", "b")]


def test_what_a_window_has_brought_is_not_loaded_early_again(engine: sa.Engine) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT)
    load_into(destination, draft(hours(0, 1)), [batch(record("a"))], unfenced)

    assert destination.load_early("default", audits([record("a") | {"status": "FAILURE"}])) == 0

    assert audits_in(engine) == audits([record("a")])


def test_audits_are_not_loaded_early_into_a_lake(place: Place) -> None:
    shown = json.dumps(record("a")).encode()
    if place.destination.one_writer:
        with pytest.raises(ConfigurationError, match="into SQL only"):
            load_early(place.destination, "default", [shown])
    else:
        assert load_early(place.destination, "default", [shown, b"{}"]) == 1


def test_a_query_is_remembered_until_its_receipt(destination: AnyDestination) -> None:
    from etl.model import OpenQuery

    ledger, now = destination.ledger, BEGIN + 9 * HOUR
    query = OpenQuery(hours(0, 1), "q1", now)
    ledger.remember_query(STREAM, OpenQuery(hours(0, 1), "q0", now), "frequent")
    ledger.remember_query(STREAM, query, "frequent")
    ledger.remember_query(STREAM, OpenQuery(hours(3, 4), "old", now - 13 * HOUR), "frequent")
    ledger.remember_query(STREAM, OpenQuery(hours(1, 2), "b", now), "backfill")

    assert ledger.open_queries(STREAM, "settle", now) == [query]
    assert [q.query_id for q in ledger.open_queries(STREAM, "backfill", now)] == ["b"]

    load_into(destination, draft(hours(0, 1)), [], unfenced)
    assert ledger.open_queries(STREAM, "settle", now) == []


@pytest.mark.parametrize(
    ("time", "day"),
    [("2026-03-01T23:59:59.9999995Z", 1), ("2026-03-02T00:00:00.0000004Z", 2)],
)
def test_an_audit_stays_in_the_day_that_its_time_is_of(place: Place, time: str, day: int) -> None:
    windows = [hours(0, 24), hours(24, 48)]
    shown = batch(record("a", eventDate=time))
    load_into(place.destination, draft(windows[day - 1]), [shown], unfenced)
    load_into(place.destination, draft(windows[day - 1]), [shown], unfenced)

    [audit] = place.audits()
    held = [list(place.destination.held("default", window, None)) for window in windows]

    assert audit.event_date.day == day
    assert [len(audits) for audits in held] == [int(day == 1), int(day == 2)]
    assert place.destination.count(STREAM, windows[day - 1]) == 1
    assert list(place.destination.audits_a_day(STREAM, hours(0, 48))) == [audit.event_date.date()]
    assert held[day - 1][0].event_date == audit.event_date


@pytest.mark.parametrize("service", ["*", "SCIM"])
def test_audits_of_a_span_are_counted_to_the_second(place: Place, service: str) -> None:
    shown = [record(f"{n:02}", n, serviceName="SCIM" if n % 2 else "Other") for n in range(72)]
    load_into(place.destination, draft(hours(0, 72)), [batch(*shown)], unfenced)
    stream = Stream(STREAM.organization, service)
    load_into(place.destination, draft(hours(0, 72), stream=Stream("other")), [batch(*shown)])

    def count(start: float, end: float) -> int:
        return place.destination.count(stream, hours(start, end))

    share = 2 if service == "SCIM" else 1
    assert (count(0, 72), count(24, 48), count(12, 60)) == (72 // share, 24 // share, 48 // share)
    assert (count(1, 1.5), count(1.5, 2), count(72, 90)) == (1, 0, 0)
