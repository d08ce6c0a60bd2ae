"""What a verification finds is what the destination lacks; what it repairs is there afterwards."""

import json
import subprocess
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from etl.app import clock
from etl.errors import QueryFailed
from etl.ledger import verifications
from etl.model import Stream, Verification
from etl.operations.comparison import Difference
from etl.operations.verifier import Verdict, Verifier
from etl.records import Batch
from etl.simulator import AuditLog, Simulator
from tests.support.commands import CLIENT_ID, SECRET, audit_etl, environment
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
from tests.support.simulated_organization import audit


def verify(
    place: Place, shown: Iterable[Batch], *, repair: bool = False, service: str = "*"
) -> Verdict:
    """The verdict on the first two days, of which the source shows these pages."""
    told: list[Verdict] = []
    verifier = Verifier(place.destination, repair=repair, tell=told.append)
    stream = Stream(STREAM.organization, service)
    load_into(verifier, draft(hours(0, 48), stream=stream, schedule="backfill"), shown, unfenced)
    return told[0]


def load(place: Place, *records: dict[str, object]) -> None:
    load_into(place.destination, draft(hours(0, 48)), [batch(*records)], unfenced)


def test_what_is_missing_and_what_is_extra_is_told_by_day_and_service(place: Place) -> None:
    load(place, record("a"), record("gone", 25), record("b", 26), record("outside", 48))
    shown = [record("a"), record("new", 1), record("b", 26), record("late", 30, serviceName="SCIM")]

    found = verify(place, [batch(*shown[:2]), batch(*shown[2:])])

    assert found.differences == (
        Difference("2026-03-01", "ContactCenter", missing=1, extra=0),
        Difference("2026-03-02", "ContactCenter", missing=0, extra=1),
        Difference("2026-03-02", "SCIM", missing=1, extra=0),
    )
    assert (found.missing_ids, found.extra_ids) == (("new", "late"), ("gone",))
    assert found.verification == Verification(
        STREAM, hours(0, 48), 4, 2, 1, 0, LOADED_AT, verifications.PROGRAM
    )
    ledger = place.destination.ledger
    assert verifications.spans(ledger.engine, STREAM) == [found.verification]


def test_a_verification_alone_changes_nothing(place: Place) -> None:
    load(place, record("a"))
    receipt = place.destination.ledger.last_receipt(STREAM)

    verify(place, [batch(record("a"), record("new", 1))])

    assert place.audits() == audits([record("a")])
    assert place.destination.ledger.last_receipt(STREAM) == receipt


def test_a_repair_loads_what_is_missing_and_removes_nothing(place: Place) -> None:
    load(place, record("a"), record("gone", 25))
    shown = [batch(record("a"), record("new", 1)), batch(record("new", 1))]

    first = verify(place, shown, repair=True)
    again = verify(place, shown, repair=True)

    assert place.audits() == audits([record("a"), record("gone", 25), record("new", 1)])
    assert (first.verification.missing, first.verification.repaired) == (1, 1)
    assert first.receipt.new_events == 1
    assert (again.verification.missing, again.verification.repaired) == (0, 0)
    assert again.extra_ids == ("gone",)


def test_one_service_is_compared_with_itself(place: Place) -> None:
    load(place, record("a"), record("b", serviceName="SCIM"))

    found = verify(place, [batch(record("a"))], service="ContactCenter")

    assert found.differences == ()


def test_organisations_are_not_compared_with_each_other(place: Place) -> None:
    other = draft(hours(0, 48), stream=Stream("other"))
    load_into(place.destination, other, [batch(record("a"))], unfenced)

    assert verify(place, [batch(record("a"))]).missing_ids == ("a",)


def test_what_another_process_loads_meanwhile_is_not_missing(place: Place) -> None:
    def pages() -> Iterator[Batch]:
        load(place, record("a"))
        yield batch(record("a"), record("b"))

    assert verify(place, pages()).missing_ids == ("b",)


@pytest.mark.parametrize("repair", [False, True])
def test_what_is_missing_is_exact_when_everything_happens_at_once(
    place: Place, *, repair: bool
) -> None:
    other_service = record("service", 3, serviceName="SCIM")
    load(place, record("a"), record("gone", 1), record("moved", 2), other_service)
    load_into(place.destination, draft(hours(48, 72)), [batch(record("at the end", 48))], unfenced)
    other = draft(hours(0, 48), stream=Stream("other"))
    load_into(place.destination, other, [batch(record("new", 4), record("last", 47.9))], unfenced)

    def pages() -> Iterator[Batch]:
        yield batch(record("a"), record("new", 4), record("new", 4))
        load(place, record("meanwhile", 5))
        yield batch(record("moved", 2.5), record("service", 3), record("meanwhile", 5))
        yield batch(record("new", 4), record("last", 47.9))

    found = verify(place, pages(), repair=repair, service="ContactCenter")

    assert found.missing_ids == ("new", "last")
    assert found.extra_ids == ("gone",)
    said = found.verification
    assert (said.events, said.missing, said.repaired) == (6, 2, 2 if repair else 0)
    assert found.moved == 2


@pytest.mark.parametrize("place", ["sqlite", "postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("repair", [False, True])
def test_an_id_that_is_held_under_another_time_is_not_missing(
    place: Place, *, repair: bool
) -> None:
    load_into(place.destination, draft(hours(48, 72)), [batch(record("a", 50))], unfenced)

    found = verify(place, [batch(record("a", 1))], repair=repair)

    assert (found.missing_ids, found.moved, found.verification.repaired) == ((), 1, 0)
    assert place.audits() == audits([record("a", 50)])


def test_what_a_failed_attempt_has_loaded_was_missing_and_is_repaired(
    place: Place,
) -> None:
    place = place.cut(group_bytes=1)
    load(place, record("a"))
    told: list[Verdict] = []
    verifier = Verifier(place.destination, repair=True, tell=told.append)

    def broken_off() -> Iterator[Batch]:
        yield batch(record("a"), record("b", 1))
        yield batch(record("c", 2))
        raise QueryFailed("gone")

    with pytest.raises(QueryFailed):
        load_into(verifier, draft(hours(0, 48)), broken_off(), unfenced)
    for half, shown in ((hours(0, 1), ["a"]), (hours(1, 48), ["b", "c", "d"])):
        pages = [batch(record(name, "abcd".index(name))) for name in shown]
        load_into(verifier, draft(half), pages, unfenced)
    verifier.close()

    assert [v.missing_ids for v in told] == [(), ("b", "c", "d")]
    assert [v.verification.repaired for v in told] == [0, 3]


AFTERWARDS = {
    "sqlite": "CREATE TRIGGER gone AFTER INSERT ON audit_events WHEN NEW.id = 'b' "
    "BEGIN DELETE FROM audit_events WHERE id = 'b'; END",
    "postgresql": "CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN DELETE FROM audit_events WHERE id = ''b''; RETURN NULL; END'; "
    "CREATE TRIGGER gone AFTER INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION gone()",
}


@pytest.mark.parametrize("place", list(AFTERWARDS), indirect=True)
def test_only_what_is_there_afterwards_is_repaired(place: Place) -> None:
    engine = place.destination.ledger.engine
    with engine.begin() as connection:
        connection.execute(sa.text(AFTERWARDS[engine.dialect.name]))

    found = verify(place, [batch(record("a"), record("b"))], repair=True)

    assert found.missing_ids == ("a", "b")
    assert (found.verification.missing, found.verification.repaired) == (2, 1)


def test_a_query_that_fails_half_way_gives_no_verdict(place: Place) -> None:
    def pages() -> Iterator[Batch]:
        yield batch(record("a"))
        raise QueryFailed("gone")

    told: list[Verdict] = []
    verifier = Verifier(place.destination, repair=True, tell=told.append)
    with pytest.raises(QueryFailed):
        load_into(verifier, draft(hours(0, 48)), pages(), unfenced)

    assert told == []
    assert verifications.spans(place.destination.ledger.engine, STREAM) == []


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_many_ids_are_compared_in_little_memory(place: Place) -> None:
    pages = [batch(*(record(f"{p:03}-{n:03}") for n in range(100))) for p in range(60)]
    load(place)
    verify(place, pages[:1])

    tracemalloc.start()
    found = verify(place, pages)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found.verification.missing == 6000
    assert len(found.missing_ids) == 1000
    assert peak < 3_000_000


def test_neighbouring_windows_of_one_verification_are_one_span() -> None:
    def of(start: int, end: int, day: int) -> Verification:
        return Verification(STREAM, hours(start, end), 5, 2, 1, 2, BEGIN + day * 24 * HOUR)

    spans = verifications.joined([of(0, 1, 1), of(1, 3, 2), of(5, 6, 3), of(0, 6, 4)])

    assert spans == [
        Verification(STREAM, hours(0, 3), 10, 4, 2, 4, BEGIN + 24 * HOUR),
        of(5, 6, 3),
        of(0, 6, 4),
    ]


@contextmanager
def serving_late_ones() -> Iterator[Simulator]:
    """An organisation with 1,200 audits, of which it shows 12 only once its clock moves on."""
    now = clock().replace(microsecond=0)
    made = [audit(n, now - timedelta(minutes=n)) for n in range(60, 1260)]
    late = now - timedelta(seconds=1)
    visible = [late if n % 100 == 0 else now - timedelta(days=9) for n in range(60, 1260)]
    with AuditLog.of(zip(made, visible, strict=True)) as log:
        before = late - timedelta(seconds=1)
        yield Simulator(log=log, clock=lambda: before, client_id=CLIENT_ID, client_secret=SECRET)


@pytest.mark.parametrize("place", ["sqlite", "parquet"], indirect=True)
def test_a_span_is_verified_and_repaired_at_the_cost_of_a_backfill(place: Place) -> None:
    span, costs = ["--from", "2d", "--to", "30m"], []
    with serving_late_ones() as simulator, simulator.serve() as url:
        env = environment(
            GENESYSCLOUD_REGION=url,
            GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
            GENESYSCLOUD_OAUTHCLIENT_SECRET=SECRET,
            **place.variables,
        )

        def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
            before = sum(simulator.requests.values())
            result = audit_etl(*arguments, env=env)
            costs.append(sum(simulator.requests.values()) - before)
            return result

        done = run("backfill", *span)
        simulator.clock = clock
        found = run("verify", *span)
        repaired = run("verify", *span, "--repair", "--json")
        status = run("status", "--json")

    assert done.returncode == 0, done.stderr
    assert found.returncode == 65, found.stderr
    assert "1200 audits compared, 12 missing, 0 repaired, 0 extra" in found.stdout
    assert repaired.returncode == 0, repaired.stderr
    [window] = json.loads(repaired.stdout)["windows"]
    assert (window["missing"], window["repaired"], len(window["missing_ids"])) == (12, 12, 12)
    assert max(costs) == costs[0]
    assert len(place.audits()) == 1200
    [stream] = json.loads(status.stdout)["streams"]
    assert [(s["missing"], s["repaired"]) for s in stream["verified"]] == [(12, 12), (12, 0)]
    assert sum(late["audits"] for late in stream["late"]["arrivals"]) == 12
    assert "12 of 1200 new audits came late" in stream["late"]["advice"]
