"""The contract that every destination keeps.

A kind's test module runs it over its own destination:

    class TestToy(DestinationContract):
        @pytest.fixture
        def place(self, tmp_path: Path) -> Iterator[Place]:
            ...
"""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest
import sqlalchemy as sa

from etl.destinations import AnyDestination
from etl.errors import ConfigurationError, LeaseHeld
from etl.ledger import figures, queries
from etl.ledger.gaps import gaps_of
from etl.model import Late, OpenQuery, Stream
from etl.operations.early import load_early
from etl.records import Batch
from tests.support.places import Place
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


def watermark(destination: AnyDestination, stream: Stream = STREAM) -> datetime | None:
    found = destination.ledger.watermark(stream)
    return found.reached if found else None


class DestinationContract:
    """The tests. They need a fixture `place`: an empty `Place`, its rows loaded at `LOADED_AT`."""

    @pytest.fixture
    def destination(self, place: Place) -> AnyDestination:
        return place.destination

    @pytest.fixture
    def small_pieces(self, place: Place) -> AnyDestination:
        """The destination. Override it to have it cut its work into pieces of a few audits."""
        return place.destination

    @pytest.mark.promise("M1")
    def test_a_loaded_audit_reads_back_as_the_source_showed_it(
        self, destination: AnyDestination, place: Place
    ) -> None:
        shown = [record("a", 0.5), record("b", 0.1, user={}, propertyChanges=[], context={})]

        receipt = load_into(destination, draft(hours(0, 1)), [batch(*shown)], unfenced)

        assert place.audits() == audits(shown)
        assert (receipt.events, receipt.new_events, receipt.rejects, receipt.requests) == (
            2,
            2,
            0,
            3,
        )
        assert receipt.loaded_at == LOADED_AT

    @pytest.mark.promise("M2", "M5")
    def test_loading_again_adds_what_came_late_and_leaves_what_was_there(
        self, destination: AnyDestination, place: Place
    ) -> None:
        first, late = record("a"), record("late", 0.2)
        load_into(destination, draft(hours(0, 1)), [batch(first)], unfenced)

        again = load_into(
            destination, draft(hours(0, 1)), [batch(first | {"status": "FAILURE"}, late)], unfenced
        )

        assert place.audits() == audits([first, late])
        assert (again.events, again.new_events) == (2, 1)

    def test_late_arrivals_are_told_once_they_are_durable(
        self, destination: AnyDestination, place: Place
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

    @pytest.mark.promise("M5")
    def test_loading_less_removes_nothing(self, destination: AnyDestination, place: Place) -> None:
        load_into(destination, draft(hours(0, 1)), [batch(record("a"))], unfenced)

        load_into(destination, draft(hours(0, 1)), [], unfenced)

        assert place.audits() == audits([record("a")])

    @pytest.mark.promise("M2")
    def test_an_audit_shown_twice_is_held_once(
        self, destination: AnyDestination, place: Place
    ) -> None:
        other = record("a") | {"propertyChanges": [], "status": "FAILURE"}

        receipt = load_into(
            destination,
            draft(hours(0, 1)),
            [batch(record("a"), record("a")), batch(other)],
            unfenced,
        )

        assert place.audits() == audits([record("a")])
        assert receipt.new_events == 1

    def test_ids_that_differ_in_case_are_two_audits(
        self, destination: AnyDestination, place: Place
    ) -> None:
        shown = [record("A"), record("a"), record("á")]

        load_into(destination, draft(hours(0, 1)), [batch(*shown)], unfenced)

        assert sorted(a.id for a in place.audits()) == ["A", "a", "á"]

    def test_organisations_do_not_meet(self, destination: AnyDestination, place: Place) -> None:
        for name in ("acme", "beta"):
            load_into(
                destination, draft(hours(0, 1), stream=Stream(name)), [batch(record("a"))], unfenced
            )

        assert [len(place.audits(name)) for name in ("acme", "beta")] == [1, 1]

    @pytest.mark.promise("M1", "M2")
    def test_one_id_in_two_organisations_is_two_audits_however_it_is_loaded(
        self, destination: AnyDestination, place: Place
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
            assert figures.rejects(destination.ledger.engine, name) == 1
            assert [held.id for held in destination.look_up(name, hours(0, 1), ["a"])] == ["a"]
        assert list(destination.look_up("delta", hours(0, 1), ["a"])) == []

    @pytest.mark.promise("M4")
    def test_a_page_that_fails_leaves_no_receipt_and_whole_audits(
        self, destination: AnyDestination, place: Place
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

    @pytest.mark.promise("M7")
    def test_a_lost_lease_commits_no_receipt(self, destination: AnyDestination) -> None:
        destination.ledger.begin(STREAM, BEGIN, LOADED_AT)

        def lost(_: sa.Connection) -> None:
            raise LeaseHeld("taken by another")

        with pytest.raises(LeaseHeld):
            load_into(destination, draft(hours(0, 1)), [batch(record("a"))], lost)

        assert destination.ledger.last_receipt(STREAM) is None
        assert watermark(destination) == BEGIN

    @pytest.mark.promise("M3")
    def test_the_watermark_is_the_end_of_the_contiguous_receipts(
        self, destination: AnyDestination
    ) -> None:
        destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
        ends = []

        for window in (hours(0, 1), hours(2, 3), hours(-5, 0), hours(1, 2), hours(0.5, 1.5)):
            load_into(destination, draft(window), [], unfenced)
            ends.append(watermark(destination))

        assert ends == [BEGIN + n * HOUR for n in (1, 1, 1, 3, 3)]

    def test_a_stream_that_begins_after_a_backfill_counts_what_that_loaded(
        self,
        destination: AnyDestination,
    ) -> None:
        load_into(destination, draft(hours(-10, 2)), [], unfenced)
        load_into(destination, draft(hours(2, 4)), [], unfenced)
        load_into(destination, draft(hours(5, 6)), [], unfenced)

        begun = destination.ledger.begin(STREAM, BEGIN, LOADED_AT)

        assert (begun.begins_at, begun.reached) == (BEGIN, BEGIN + 4 * HOUR)
        assert destination.ledger.begin(STREAM, BEGIN + HOUR, LOADED_AT) == begun

    def test_gaps_between_receipts_are_told(self, destination: AnyDestination) -> None:
        destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
        for window in (hours(1, 2), hours(4, 6), hours(5, 7)):
            load_into(destination, draft(window), [], unfenced)

        assert gaps_of(destination.ledger.engine, STREAM) == [hours(0, 1), hours(2, 4)]

    def test_a_reject_is_kept_once_however_often_it_is_shown(
        self, destination: AnyDestination, place: Place
    ) -> None:
        odd = {"id": "no time"}

        receipts = [
            load_into(destination, draft(hours(0, 1)), [batch(odd, record("a"))], unfenced)
            for _ in range(2)
        ]

        assert [receipt.rejects for receipt in receipts] == [1, 1]
        assert figures.rejects(destination.ledger.engine, "default") == 1
        with destination.ledger.engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT reason, raw FROM audit_rejects")).all()
        assert [tuple(row) for row in rows] == [
            (
                "the record has no time (eventDate or eventTime) that can be read",
                '{"id": "no time"}',
            )
        ]

    def test_what_databases_refuse_is_held_all_the_same(
        self, destination: AnyDestination, place: Place
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
        self, destination: AnyDestination, place: Place
    ) -> None:
        long = (
            "'" + "é" * 2_900_000
        )  # of two bytes, twice in a row; a packet of MariaDB ends at 16 MiB
        shown = [record("a", 0.1), record("b", 0.2, message={"message": long}), record("c", 0.3)]

        receipt = load_into(destination, draft(hours(0, 1)), [batch(*shown)], unfenced)

        assert receipt.new_events == 3
        assert place.audits() == audits(shown)

    def test_a_large_window_is_loaded_in_several_transactions(
        self, small_pieces: AnyDestination, place: Place
    ) -> None:
        shown = [record(f"{n:03}", n / 100) for n in range(60)]
        pages = [batch(*shown[n : n + 10]) for n in range(0, 60, 7)]

        receipt = load_into(small_pieces, draft(hours(0, 1)), pages, unfenced)

        assert place.audits() == audits(shown)
        assert receipt.new_events == 60

    def test_a_large_window_in_no_order_over_many_days_is_held_whole(
        self, small_pieces: AnyDestination, place: Place
    ) -> None:
        shown = [record(f"{n:03}", n) for n in range(150)]
        mixed = random.Random(5).sample(shown, len(shown))
        pages = [batch(*mixed[n : n + 10]) for n in range(0, 150, 10)]

        receipt = load_into(small_pieces, draft(hours(0, 150)), pages, unfenced)
        again = load_into(small_pieces, draft(hours(0, 150)), pages[::-1], unfenced)

        assert place.audits() == audits(shown)
        assert (receipt.new_events, again.new_events) == (150, 0)

    def test_audits_are_not_loaded_early_into_a_lake(self, place: Place) -> None:
        shown = json.dumps(record("a")).encode()
        if place.kind.no_early:
            with pytest.raises(ConfigurationError, match="early into this destination"):
                load_early(place.destination, "default", [shown])
        else:
            assert load_early(place.destination, "default", [shown, b"{}"]) == 1

    def test_a_query_is_remembered_until_its_receipt(self, destination: AnyDestination) -> None:
        ledger, now = destination.ledger, BEGIN + 9 * HOUR
        query = OpenQuery(hours(0, 1), "q1", now)
        queries.remember(ledger.engine, STREAM, OpenQuery(hours(0, 1), "q0", now), "frequent")
        queries.remember(ledger.engine, STREAM, query, "frequent")
        queries.remember(
            ledger.engine, STREAM, OpenQuery(hours(3, 4), "old", now - 13 * HOUR), "frequent"
        )
        queries.remember(ledger.engine, STREAM, OpenQuery(hours(1, 2), "b", now), "backfill")

        assert queries.left_open(ledger.engine, STREAM, "settle", now) == [query]
        assert [q.query_id for q in queries.left_open(ledger.engine, STREAM, "backfill", now)] == [
            "b"
        ]

        load_into(destination, draft(hours(0, 1)), [], unfenced)
        assert queries.left_open(ledger.engine, STREAM, "settle", now) == []

    @pytest.mark.parametrize(
        ("time", "day"),
        [("2026-03-01T23:59:59.9999995Z", 1), ("2026-03-02T00:00:00.0000004Z", 2)],
    )
    def test_an_audit_stays_in_the_day_that_its_time_is_of(
        self, place: Place, time: str, day: int
    ) -> None:
        windows = [hours(0, 24), hours(24, 48)]
        shown = batch(record("a", eventDate=time))
        load_into(place.destination, draft(windows[day - 1]), [shown], unfenced)
        load_into(place.destination, draft(windows[day - 1]), [shown], unfenced)

        [audit] = place.audits()
        held = [list(place.destination.held("default", window, None)) for window in windows]

        assert audit.event_date.day == day
        assert [len(audits) for audits in held] == [int(day == 1), int(day == 2)]
        assert place.destination.count(STREAM, windows[day - 1]) == 1
        assert list(place.destination.audits_a_day(STREAM, hours(0, 48))) == [
            audit.event_date.date()
        ]
        assert held[day - 1][0].event_date == audit.event_date

    @pytest.mark.parametrize("service", ["*", "SCIM"])
    def test_audits_of_a_span_are_counted_to_the_second(self, place: Place, service: str) -> None:
        shown = [record(f"{n:02}", n, serviceName="SCIM" if n % 2 else "Other") for n in range(72)]
        load_into(place.destination, draft(hours(0, 72)), [batch(*shown)], unfenced)
        stream = Stream(STREAM.organization, service)
        load_into(place.destination, draft(hours(0, 72), stream=Stream("other")), [batch(*shown)])

        def count(start: float, end: float) -> int:
            return place.destination.count(stream, hours(start, end))

        share = 2 if service == "SCIM" else 1
        assert (count(0, 72), count(24, 48), count(12, 60)) == (
            72 // share,
            24 // share,
            48 // share,
        )
        assert (count(1, 1.5), count(1.5, 2), count(72, 90)) == (1, 0, 0)
