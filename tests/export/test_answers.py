"""What an answer proves: no more than it shows, as of the instant at which it was asked for."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from msgspec.structs import replace

from etl.destinations.sql.destination import SqlDestination
from etl.errors import SourceBrokePromise
from etl.job import PageProgress
from etl.ledger import verifications
from etl.model import ALL_SERVICES, Stream
from etl.records import Audit
from etl.simulator import AuditLog, Faults
from etl.simulator.timestamps import milliseconds
from etl.window import Window
from tests.export.test_crashes import Died, die
from tests.support.hostile_organization import BEGIN, LAG, World, log_with_edges
from tests.support.simulated_organization import NOW

DAY = timedelta(days=1)
STREAM = Stream("default", ALL_SERVICES)
FROM_BEGIN = Window(BEGIN, NOW - LAG)


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with log_with_edges(seed=17, audits=300, late_share=0) as log:
        yield log


def ids(world: World) -> set[str]:
    return {audit.id for audit in world.place.audits()}


def asked(world: World) -> int:
    """How many queries were created."""
    return len(world.simulator.queries)


def die_after(world: World, pages: int, lookback: timedelta | None = None) -> None:
    """A run that dies at once when so many pages are loaded: its queries stay open."""
    left = pages

    def watch(_: PageProgress) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die()

    with pytest.raises(Died):
        world.run(watch=watch, lookback=lookback)
    world.clock.move(minutes=2)


def test_answers_about_another_time_are_loaded_and_told_of(
    hostile: World, caplog: pytest.LogCaptureFixture
) -> None:
    hostile.simulator.faults = Faults(other_time_every=1)
    before = hostile.shown(BEGIN - DAY, BEGIN).keys()

    outcome = hostile.run()

    assert outcome.status == 0
    assert before <= ids(hostile)
    assert [receipt.events for receipt in outcome.receipts] == [0, 0]
    told = [r.getMessage() for r in caplog.records if "of other times. They are" in r.getMessage()]
    assert len(told) == len(outcome.receipts)
    assert asked(hostile) == 2 * len(outcome.receipts)
    hostile.simulator.faults = Faults()
    assert hostile.run(lookback=5 * DAY).status == 0
    assert outcome.promised.keys() <= ids(hostile)


def test_audits_of_other_times_prove_nothing_of_their_own_time(hostile: World) -> None:
    hostile.simulator.faults = Faults(other_time_every=1)
    hostile.backfill(Window(BEGIN + DAY, NOW - LAG))
    hostile.simulator.faults = Faults()
    count = asked(hostile)

    outcome = hostile.run()

    assert asked(hostile) > count
    [first] = [receipt for receipt in outcome.receipts if receipt.window.start == BEGIN]
    assert first.events > 0


@pytest.mark.parametrize("lacks_start", [False, True])
def test_audits_at_a_window_s_end_are_loaded_and_no_sign_of_anything(
    hostile: World, caplog: pytest.LogCaptureFixture, lacks_start: bool
) -> None:
    hostile.simulator.faults = Faults(include_interval_end=True, exclude_interval_start=lacks_start)
    edge = BEGIN + DAY
    at_edge = {audit.id for audit in hostile.shown(edge, edge + timedelta(seconds=1)).values()}

    outcome = hostile.backfill(Window(BEGIN, edge))

    assert at_edge
    assert at_edge <= ids(hostile)
    [receipt] = outcome.receipts
    assert receipt.events == len(ids(hostile) - at_edge)
    assert asked(hostile) == 1
    assert "other times" not in caplog.text
    assert hostile.verify(Window(BEGIN, edge))[1] == []


def test_a_shorter_answer_is_asked_for_again_then_told_of(
    hostile: World, caplog: pytest.LogCaptureFixture
) -> None:
    hostile.run()
    before = hostile.place.audits()
    hostile.simulator.faults = Faults(shrink_again=True)
    count = asked(hostile)

    outcome = hostile.run(lookback=5 * DAY)

    assert (outcome.status, hostile.place.audits()) == (0, before)
    assert asked(hostile) - count == 2 * len(outcome.receipts)
    told = [r.getMessage() for r in caplog.records if "that it showed before" in r.getMessage()]
    assert len(told) == len(outcome.receipts)
    shown = sum(receipt.events for receipt in outcome.receipts)
    assert f"at least {len(before) - shown} audits" in told[0] or len(told) > 1


def test_an_answer_that_shows_all_again_costs_one_query(
    hostile: World, caplog: pytest.LogCaptureFixture
) -> None:
    hostile.run()
    count = asked(hostile)

    outcome = hostile.run(lookback=5 * DAY)

    assert asked(hostile) - count == len(outcome.receipts)
    assert not [r for r in caplog.records if "showed before" in r.getMessage()]


@pytest.mark.parametrize("repair", [False, True])
def test_verify_tells_of_what_is_no_longer_shown_once_the_verdict_is_kept(
    hostile: World, repair: bool
) -> None:
    hostile.run()
    before = hostile.place.audits()
    hostile.simulator.faults = Faults(shrink_again=True)
    count = asked(hostile)

    verdicts, [failure] = hostile.verify(FROM_BEGIN, repair=repair)

    unshown = sum(verdict.unshown for verdict in verdicts)
    assert unshown == sum(verdict.verification.extra for verdict in verdicts) > 0.8 * len(before)
    assert isinstance(failure.error, SourceBrokePromise)
    assert f"does not show {unshown} audits" in str(failure.error)
    kept = verifications.spans(hostile.place.destination.ledger.engine, STREAM)
    assert sum(span.extra for span in kept) == unshown
    assert asked(hostile) - count == 2 * len(verdicts)
    assert hostile.place.audits() == before


def test_an_empty_answer_for_what_is_held_is_told_of(
    hostile: World, caplog: pytest.LogCaptureFixture
) -> None:
    hostile.run()
    held = len([a for a in hostile.place.audits() if a.event_date < BEGIN + DAY])
    hostile.simulator.faults = Faults(forget_days=1)

    outcome = hostile.backfill(Window(BEGIN, BEGIN + DAY))

    assert (outcome.status, [receipt.events for receipt in outcome.receipts]) == (0, [0])
    assert f"at least {held} audits" in caplog.text


@pytest.mark.parametrize("days", [360, 364, 366])
def test_what_the_retention_explains_is_not_told_of(
    hostile: World, caplog: pytest.LogCaptureFixture, days: int
) -> None:
    hostile.run()
    hostile.simulator.faults = Faults(forget_days=1)
    hostile.clock.move(days=days)
    count = asked(hostile)

    outcome = hostile.backfill(Window(BEGIN, BEGIN + DAY))
    verdicts, failures = hostile.verify(Window(BEGIN, BEGIN + DAY))

    forgotten = days > 360
    assert outcome.status == 0
    assert ("showed before" in caplog.text) == (not forgotten)
    assert (not failures, sum(v.unshown for v in verdicts) == 0) == (forgotten, forgotten)
    assert sum(v.verification.extra for v in verdicts) > 0
    assert asked(hostile) - count == (2 if forgotten else 4)


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_early_audits_that_no_window_shows_are_no_sign_of_anything(
    hostile: World, caplog: pytest.LogCaptureFixture
) -> None:
    destination = hostile.place.destination
    assert isinstance(destination, SqlDestination)
    hostile.run()
    [first, second, *_] = hostile.place.audits()
    destination.load_early("default", [_renamed(first), _renamed(second), first])

    outcome = hostile.run(lookback=5 * DAY)
    verdicts, failures = hostile.verify(FROM_BEGIN)

    assert outcome.status == 0
    assert "showed before" not in caplog.text
    assert failures == []
    assert sum(verdict.verification.extra for verdict in verdicts) == 2


def _renamed(audit: Audit) -> Audit:
    return replace(audit, id=f"early {audit.id}")


def test_of_one_service_only_its_own_audits_are_compared(
    hostile: World, caplog: pytest.LogCaptureFixture
) -> None:
    hostile.run()
    hostile.settings = {"AUDIT_ETL_ORGANIZATIONS__DEFAULT__SERVICES": "ContactCenter"}

    first, again = hostile.run(), hostile.run(lookback=5 * DAY)

    assert (first.status, again.status) == (0, 0)
    assert "showed before" not in caplog.text


def test_verify_never_resumes_a_query(hostile: World) -> None:
    hostile.simulator.faults = Faults(late_every=3, late_hours=5)
    die_after(hostile, pages=3)
    hostile.clock.move(hours=6)
    queries = set(hostile.simulator.queries)
    promised = hostile.shown(BEGIN, NOW - LAG)

    verdicts, _ = hostile.verify(FROM_BEGIN)

    assert not {verdict.receipt.query_id for verdict in verdicts} & queries
    assert sum(verdict.verification.events for verdict in verdicts) == len(promised)
    assert sum(verdict.verification.missing for verdict in verdicts) > 0


def test_a_verification_that_dies_leaves_no_query_to_resume(
    hostile: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(verifications, "keep", lambda *_: die())
        hostile.verify(FROM_BEGIN)
    queries = set(hostile.simulator.queries)

    outcome = hostile.backfill(FROM_BEGIN)

    assert not {receipt.query_id for receipt in outcome.receipts} & queries


def test_a_backfill_asks_for_what_the_source_shows_now(hostile: World) -> None:
    span = Window(BEGIN, BEGIN + DAY)
    hostile.settings = {
        "AUDIT_ETL_SCHEDULES": '[{"name": "s", "interval": "1h", "lookback": "0s"}]'
    }
    hostile.simulator.faults = Faults(late_every=3, late_hours=50)
    die_after(hostile, pages=1, lookback=timedelta(0))
    hostile.clock.move(hours=3)

    outcome = hostile.backfill(span)

    assert {audit.id for audit in hostile.shown(BEGIN, BEGIN + DAY).values()} <= ids(hostile)
    assert outcome.status == 0


def test_a_run_resumes_only_queries_to_which_nothing_can_be_added(hostile: World) -> None:
    hostile.settings = {
        "AUDIT_ETL_SCHEDULES": '[{"name": "s", "interval": "1h", "lookback": "23h"}]'
    }
    die_after(hostile, pages=1)
    first, second, *_ = sorted(hostile.simulator.queries.values(), key=lambda q: q.asked.start_ms)
    hostile.clock.move(hours=3)

    outcome = hostile.run()

    by_query = {receipt.query_id: receipt for receipt in outcome.receipts}
    assert by_query[first.id].window.start == BEGIN
    assert second.id not in by_query
    assert by_query[first.id].started_at == NOW
    assert outcome.promised.keys() <= ids(hostile)


@pytest.mark.parametrize(
    "settings",
    [{"lag": "2h"}, {"lookback": "2d"}, {"services": "ContactCenter"}],
    ids=lambda settings: next(iter(settings)),
)
def test_a_change_of_the_settings_in_between_counts(
    hostile: World, settings: dict[str, str]
) -> None:
    schedule = '[{{"name": "s", "interval": "1h", "lookback": "{}"}}]'.format
    settled = {"AUDIT_ETL_SCHEDULES": schedule("23h"), "AUDIT_ETL_LAG": "10m"}
    hostile.settings = settled
    die_after(hostile, pages=1)
    queries = set(hostile.simulator.queries)
    changed = {
        "AUDIT_ETL_SCHEDULES": schedule(settings.get("lookback", "23h")),
        "AUDIT_ETL_LAG": settings.get("lag", "10m"),
        "AUDIT_ETL_ORGANIZATIONS__DEFAULT__SERVICES": settings.get("services", "*"),
    }

    hostile.settings = changed
    outcome = hostile.run()

    assert outcome.status == 0
    assert not {receipt.query_id for receipt in outcome.receipts} & queries


@pytest.mark.parametrize("loaded", [0, 1])
def test_a_query_of_time_that_was_loaded_meanwhile_is_not_resumed(
    hostile: World, loaded: int
) -> None:
    """Hour 0 becomes a part of the lookback, so that all of the query's time is due."""
    hostile.settings = {
        "AUDIT_ETL_SCHEDULES": '[{"name": "s", "interval": "1h", "lookback": "1h"}]',
        "AUDIT_ETL_MAX_WINDOW": "2h",
    }
    die_after(hostile, pages=1)
    first = min(hostile.simulator.queries.values(), key=lambda query: query.asked.start_ms)
    hours = [BEGIN + timedelta(hours=hour) for hour in range(3)]
    assert (first.asked.start_ms, first.asked.end_ms) == (
        milliseconds(hours[0]),
        milliseconds(hours[2]),
    )
    hostile.backfill(Window(hours[loaded], hours[loaded + 1]))

    outcome = hostile.run()

    assert outcome.status == 0
    assert first.id not in {receipt.query_id for receipt in outcome.receipts}
