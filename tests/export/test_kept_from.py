"""What was removed on purpose stays away, whatever asks; and only that."""

import json
import logging
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from etl.database.transactions import transact
from etl.destinations.sql.destination import SqlDestination
from etl.errors import UsageError
from etl.ledger import claims, lateness, queries, verifications
from etl.ledger.coverage import days_of
from etl.ledger.gaps import gaps_of
from etl.ledger.receipts import Ledger
from etl.ledger.status import gather
from etl.model import OpenQuery, Receipt, Stream, Verification
from etl.monitoring.condition import look
from etl.operations import selection
from etl.operations.check import check
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Faults
from etl.window import Window, joined
from tests.support.commands import audit_etl, environment
from tests.support.hostile_organization import BEGIN, LAG, World, log_with_edges
from tests.support.places import Place
from tests.support.removal import AGAIN, keep_from, remove
from tests.support.samples import STREAM, audits, batch, draft, hours, load_into, record
from tests.support.simulated_organization import NOW

DAY = timedelta(days=1)
#: Inside the first window, which is a day long.
MIDNIGHT = NOW.replace(hour=0) - DAY
BEHIND = Window(BEGIN, NOW - LAG)
TABLES = ["sqlite", "postgresql", "mariadb"]
TICKS = {"AUDIT_ETL_SCHEDULES": '[{"name": "s", "interval": "15m", "lookback": "1h"}]'}


def of_two(url: str) -> dict[str, str]:
    """The settings of two organisations, which are one and the same behind their names."""
    return {
        f"AUDIT_ETL_ORGANIZATIONS__{name}__{key}": value
        for name in ("DEFAULT", "ACME")
        for key, value in (
            ("REGION", url),
            ("CLIENT_ID", CLIENT_ID),
            ("CLIENT_SECRET", CLIENT_SECRET),
        )
    }


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with log_with_edges(seed=29, audits=300, late_share=0.1) as log:
        yield log


def times(world: World, organization: str = "default") -> list[datetime]:
    return [audit.event_date for audit in world.place.audits(organization)]


def starts(receipts: Iterable[Receipt]) -> list[datetime]:
    return [receipt.window.start for receipt in receipts]


def exported(world: World) -> None:
    assert world.run().status == 0
    world.clock.move(minutes=15)


@pytest.mark.parametrize(
    "standing_place", ["sqlite", "postgresql", "mariadb", "parquet", "parquet+s3"], indirect=True
)
@pytest.mark.parametrize("kept", [MIDNIGHT, BEGIN + DAY], ids=["inside", "at the start"])
def test_nothing_that_was_removed_on_purpose_comes_back_or_is_claimed(
    hostile: World, kept: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = hostile.place.destination.ledger
    exported(hostile)
    hostile.verify(BEHIND)
    keep_from(ledger.engine, kept)
    remove(hostile.place, kept)
    left = [moment for moment in times(hostile) if moment < kept]

    runs = [hostile.run(lookback=3 * DAY)]
    hostile.clock.move(days=1)
    runs += [hostile.run(), hostile.backfill(BEHIND)]
    caplog.clear()
    found, failures = hostile.verify(BEHIND)
    repaired, more = hostile.verify(BEHIND, repair=True)

    assert [outcome.status for outcome in runs] == [0, 0, 0]
    assert [min(starts(outcome.receipts)) for outcome in runs] == [kept] * 3
    assert (failures, more) == ([], [])
    for verdicts in (found, repaired):
        assert joined(v.verification.window for v in verdicts) == [Window(kept, BEHIND.end)]
        assert sum(v.verification.missing for v in verdicts) == 0
    assert [moment for moment in times(hostile) if moment < kept] == left
    assert hostile.shown(kept, BEHIND.end).keys() <= {a.id for a in hostile.place.audits()}
    assert caplog.text.count(f"the span begins at {kept:%Y-%m-%dT%H:%M:%SZ}") == 2
    assert "fewer were held" not in caplog.text
    [status] = gather(ledger, [STREAM], BEGIN, hostile.clock())
    assert (status.kept_from, status.gaps) == (kept, ())
    assert status.watermark is not None
    assert (status.watermark.begins_at, status.watermark.reached) == (kept, runs[1].span.end)
    assert min(span.window.start for span in status.verified) == kept
    assert days_of(ledger, STREAM, BEGIN, hostile.clock())[0][0] == kept.date()


def test_a_lookback_that_found_audits_removed_by_mistake_still_restores_them(
    hostile: World, caplog: pytest.LogCaptureFixture
) -> None:
    exported(hostile)
    before = times(hostile)
    remove(hostile.place, MIDNIGHT)
    assert len(times(hostile)) < len(before)

    hostile.run(lookback=3 * DAY)

    assert set(before) <= set(times(hostile))
    assert "fewer were held" in caplog.text


@pytest.mark.parametrize("standing_place", ["sqlite", "parquet"], indirect=True)
def test_a_span_that_is_not_kept_is_refused_with_a_way_out(hostile: World) -> None:
    exported(hostile)
    keep_from(hostile.place.destination.ledger.engine, MIDNIGHT)
    before = Window(BEGIN, MIDNIGHT)

    filled = hostile.backfill(before)
    _, [failure] = hostile.verify(before)

    for error in (filled.error, failure.error):
        assert isinstance(error, UsageError)
        assert "2026-05-07T00:00:00Z" in str(error)
        assert "change kept_from in the table retention, or delete the row" in str(error)
    with hostile.app() as app:
        planned = selection.plan(app, BEHIND, [STREAM])
        assert [plan.window.start for plan in planned][:1] == [MIDNIGHT]
        with pytest.raises(UsageError, match="removed on purpose"):
            selection.plan(app, before, [STREAM])


@pytest.mark.parametrize("standing_place", [*TABLES, "parquet"], indirect=True)
@pytest.mark.parametrize("kept", [NOW - LAG, NOW + timedelta(hours=12)], ids=["at", "after"])
def test_a_stream_that_lags_goes_on_where_the_copy_is_kept(hostile: World, kept: datetime) -> None:
    hostile.settings = TICKS
    ledger = hostile.place.destination.ledger
    exported(hostile)
    hostile.clock.move(days=1)
    keep_from(ledger.engine, MIDNIGHT)
    keep_from(ledger.engine, kept, block=AGAIN)
    with hostile.app() as app:
        [seen] = look(app).streams
        assert seen.complete_to == kept

    outcome = hostile.run()

    assert outcome.status == 0
    assert joined(receipt.window for receipt in outcome.receipts) == [
        Window(kept, outcome.span.end)
    ]
    found = ledger.watermark(STREAM)
    assert found is not None
    assert (found.begins_at, found.reached) == (kept, outcome.span.end)
    assert gaps_of(ledger.engine, STREAM, BEGIN) == []


def test_a_new_stream_begins_no_earlier_than_its_copy_is_kept(hostile: World) -> None:
    keep_from(hostile.place.destination.ledger.engine, MIDNIGHT)

    outcome = hostile.run()

    assert min(starts(outcome.receipts)) == min(times(hostile)).replace(hour=0, minute=0, second=0)
    assert min(starts(outcome.receipts)) == MIDNIGHT


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_a_time_after_the_latest_window_waits_until_it_is_over(hostile: World) -> None:
    ledger = hostile.place.destination.ledger
    keep_from(ledger.engine, NOW)

    assert (hostile.run().status, times(hostile)) == (0, [])
    hostile.clock.move(hours=2)
    outcome = hostile.run()

    assert outcome.status == 0
    assert starts(outcome.receipts) == [NOW]


@pytest.mark.parametrize("standing_place", TABLES, indirect=True)
def test_a_second_of_which_a_part_was_removed_is_not_asked_for(hostile: World) -> None:
    ledger = hostile.place.destination.ledger
    keep_from(ledger.engine, "2026-05-07 00:00:00.250")

    assert ledger.kept_from("default") == MIDNIGHT + timedelta(seconds=1)
    assert min(starts(hostile.run().receipts)) == MIDNIGHT + timedelta(seconds=1)


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("kept", "named"),
    [("2062-05-01 00:00:00", "in the future"), ("the first of May", "kept_from is no time")],
)
def test_a_time_that_cannot_be_right_loads_nothing_of_its_organisation(
    hostile: World, kept: str, named: str
) -> None:
    hostile.settings = of_two(hostile.url) | TICKS
    exported(hostile)
    before = len(times(hostile)), len(times(hostile, "acme"))
    keep_from(hostile.place.destination.ledger.engine, kept)
    hostile.clock.move(days=1)

    outcome = hostile.run()

    assert outcome.status == 78
    assert named in str(outcome.error)
    assert "correct kept_from in the table retention, or delete the row" in str(outcome.error)
    assert len(times(hostile)) == before[0]
    assert len(times(hostile, "acme")) > before[1]
    with hostile.app() as app:
        told = [f for f in check(app) if f.about == "default: retention"]
        problems = list(look(app).problems())
    assert [(finding.verdict, finding.exit_status) for finding in told] == [("failed", 78)]
    assert len(problems) == 1


@pytest.mark.parametrize("standing_place", ["sqlite", "postgresql"], indirect=True)
def test_each_organisation_is_kept_by_its_own_row(hostile: World) -> None:
    hostile.settings = of_two(hostile.url)
    exported(hostile)
    before = times(hostile, "acme")
    keep_from(hostile.place.destination.ledger.engine, MIDNIGHT)
    remove(hostile.place, MIDNIGHT)
    remove(hostile.place, MIDNIGHT, "acme")

    hostile.run(lookback=3 * DAY)

    assert min(times(hostile)) >= MIDNIGHT
    assert set(before) <= set(times(hostile, "acme"))


@pytest.mark.parametrize("standing_place", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_a_window_that_failed_is_asked_for_again_from_where_the_copy_is_kept(
    hostile: World,
) -> None:
    ledger = hostile.place.destination.ledger
    hostile.settings = TICKS
    hostile.simulator.faults = Faults(bad_minute=int((NOW - MIDNIGHT).total_seconds() / 60))
    assert hostile.run().status == 69
    [gap] = gaps_of(ledger.engine, STREAM)
    kept = MIDNIGHT + timedelta(seconds=20)
    assert kept in gap
    keep_from(ledger.engine, kept)
    assert gaps_of(ledger.engine, STREAM) == [Window(kept, gap.end)]

    hostile.clock.move(minutes=15)
    still = hostile.run()
    failed = queries.failed(ledger.engine, STREAM)
    hostile.simulator.faults = Faults()
    hostile.clock.move(minutes=15)
    healed = hostile.run()

    assert still.status == 69
    assert min(one.window.start for one in failed) == kept
    assert healed.status == 0
    assert min(starts(healed.receipts)) >= kept
    assert (gaps_of(ledger.engine, STREAM), queries.failed(ledger.engine, STREAM)) == ([], [])


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_a_gap_that_failed_and_is_no_longer_kept_fails_no_run(hostile: World) -> None:
    ledger = hostile.place.destination.ledger
    hostile.settings = TICKS
    hostile.simulator.faults = Faults(bad_minute=2000)
    assert hostile.run().status == 69
    [gap] = gaps_of(ledger.engine, STREAM)
    keep_from(ledger.engine, gap.end)
    with hostile.app() as app:
        [seen] = look(app).streams
        assert seen.gap == timedelta(0)
        assert seen.unexported_since == NOW - LAG

    hostile.clock.move(minutes=15)

    assert hostile.run().status == 0
    assert queries.failed(ledger.engine, STREAM) == []


@pytest.mark.parametrize("row", [True, False], ids=["on purpose", "by mistake"])
def test_what_comes_late_after_a_removal_is_late_and_not_restored(
    place: Place, caplog: pytest.LogCaptureFixture, *, row: bool
) -> None:
    kept, ledger = hours(24, 25).start, place.destination.ledger
    load_into(place.destination, draft(hours(0, 48)), [batch(record("a", 1), record("b", 30))])
    if row:
        keep_from(ledger.engine, kept)
    remove(place, kept)

    late = [batch(record("b", 30), record("late", 26))]
    with caplog.at_level(logging.WARNING):
        load_into(place.destination, draft(hours(24, 48)), late)

    arrived = lateness.arrivals(ledger.engine, STREAM, kept)
    assert sum(one.audits for one in arrived) == (1 if row else 0)
    assert ("fewer were held" in caplog.text) != row


def fail(ledger: Ledger, window: Window) -> None:
    query = OpenQuery(window, f"of {window.start}", window.end)
    queries.remember(ledger.engine, STREAM, query, "frequent", failed=True)


@pytest.mark.parametrize("place", TABLES, indirect=True)
def test_claims_of_time_that_is_no_longer_kept_are_not_made(place: Place) -> None:
    ledger, destination = place.destination.ledger, place.destination
    service = Stream("default", "SCIM")
    ledger.begin(STREAM, hours(0, 1).start, hours(0, 1).start)
    for window in (hours(0, 24), hours(60, 96)):
        load_into(destination, draft(window), [])
        load_into(destination, draft(window, stream=service), [])
        found = draft(window).receipt(events=7, new_events=0, rejects=0)
        verifications.keep(ledger.engine, Verification(STREAM, window, 7, 0, 0, 0, found.loaded_at))
    assert gaps_of(ledger.engine, STREAM) == [hours(24, 60)]

    keep_from(ledger.engine, hours(48, 49).start)
    [status] = gather(ledger, [STREAM], hours(-24, 0).start, hours(96, 97).start)
    assert status.gaps == (hours(48, 60),)
    assert [span.window for span in status.verified] == [hours(60, 96)]
    assert ledger.windows(service) == [hours(60, 96)]

    fail(ledger, hours(64, 70))
    fail(ledger, hours(70, 80))
    keep_from(ledger.engine, hours(72, 73).start, block=AGAIN)
    [status] = gather(ledger, [STREAM], hours(-24, 0).start, hours(96, 97).start)
    assert (status.gaps, status.verified) == ((hours(72, 80),), ())
    assert ledger.windows(service) == [hours(72, 96)]


@pytest.mark.promise("M3")
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_stream_that_begins_later_keeps_its_watermark_and_what_failed_after_it(
    place: Place,
) -> None:
    ledger = place.destination.ledger
    ledger.begin(STREAM, hours(0, 1).start, hours(0, 1).start)
    load_into(place.destination, draft(hours(0, 48)), [])
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM receipts")
    for start, end in ((0, 24), (12, 30), (20, 30), (24, 30), (16, 36), (30, 40)):
        fail(ledger, hours(start, end))

    found = ledger.begin_later(STREAM, hours(24, 25).start, hours(48, 49).start)

    assert (found.begins_at, found.reached) == (hours(24, 25).start, hours(0, 48).end)
    failed = [one.window for one in queries.failed(ledger.engine, STREAM)]
    assert failed == [hours(24, 30), hours(24, 36), hours(30, 40)]


def test_where_streams_that_restart_begin_is_told_as_it_is(engine: sa.Engine) -> None:
    ledger, begin, kept = Ledger(engine), hours(0, 1).start, hours(24, 25).start
    for stream in (STREAM, Stream("other")):
        ledger.begin(stream, begin, begin)
    keep_from(engine, kept)

    again = transact(engine, lambda connection: claims.restart(connection, None, kept))

    assert again == [(STREAM, kept), (Stream("other"), begin)]
    assert ledger.kept_from("default") == kept


def test_early_audits_that_are_no_longer_kept_are_no_longer_unconfirmed(engine: sa.Engine) -> None:
    early = audits([record("a", 1), record("b", 30)])
    SqlDestination(engine, lambda: hours(48, 49).start).load_early("default", early)
    assert lateness.unconfirmed(engine, STREAM, hours(47, 48).end) == 2

    keep_from(engine, hours(24, 25).start)

    assert lateness.unconfirmed(engine, STREAM, hours(47, 48).end) == 1


@pytest.mark.parametrize("place", ["sqlite", "postgresql"], indirect=True)
def test_status_says_from_when_on_a_copy_is_kept(place: Place) -> None:
    ledger, env = place.destination.ledger, environment(**place.variables)
    for stream in (STREAM, Stream("other")):
        ledger.begin(stream, hours(0, 1).start, hours(0, 1).start)
        load_into(place.destination, draft(hours(0, 48), stream=stream), [])
    keep_from(ledger.engine, hours(24, 25).start)

    shown = audit_etl("status", env=env).stdout
    told = json.loads(audit_etl("status", "--json", env=env).stdout)["streams"]

    assert shown.count("is kept from") == 1
    assert "default/* is kept from 2026-03-02T00:00:00Z: older audits were removed" in shown
    found = [(s["organization"], s["kept_from"], s["begins_at"]) for s in told]
    assert found == [
        ("default", "2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z"),
        ("other", None, "2026-03-01T00:00:00Z"),
    ]
    assert [s["days"][0]["day"] for s in told] == ["2026-03-02", "2026-03-01"]

    keep_from(ledger.engine, "2062-05-01 00:00:00", block=AGAIN)
    future = audit_etl("status", env=env)
    assert future.returncode == 0
    assert "that is in the future, so nothing is loaded: correct it" in future.stdout
