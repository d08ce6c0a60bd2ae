"""The program: which windows it asks for, in which order, and which of them earn a receipt."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from etl.errors import (
    AuditEtlError,
    QueryFailed,
    SourceBrokePromise,
    SourceUnavailable,
    WindowTooLong,
)
from etl.job import Job, PageProgress
from etl.ledger import queries
from etl.model import Discrepancy, FailedWindow, OpenQuery, Receipt
from etl.pipeline import backfill, catch_up
from etl.window import Window
from tests.support.places import Place, sql_place
from tests.support.samples import (
    BEGIN,
    HOUR,
    STREAM,
    audits,
    draft,
    hours,
    load_into,
    record,
    unfenced,
)
from tests.support.scripted_source import ScriptedSource

#: Two audits in each half hour of four hours.
SHOWN = [record(f"{n:02}", n / 4 + 0.1) for n in range(16)]
HOURS = [hours(n, n + 1) for n in range(4)]
SPAN = hours(0, 4)


@dataclass
class Run:
    """Jobs between a scripted source and tables."""

    place: Place
    source: ScriptedSource = field(default_factory=lambda: ScriptedSource(SHOWN))
    odd: list[Discrepancy] = field(default_factory=list)
    progress: list[PageProgress] = field(default_factory=list)

    @property
    def job(self) -> Job:
        return Job(
            STREAM,
            self.source,
            self.place.destination,
            "frequent",
            HOUR,
            unfenced,
            self.progress.append,
            odd=lambda _, found: self.odd.append(found),
            settling=timedelta(hours=1),
        )

    def catch_up(self, failed: list[FailedWindow] | None = None) -> list[Receipt]:
        return list(catch_up(self.job, [SPAN], failed or []))

    def fails(self, kind: type[AuditEtlError], failed: list[FailedWindow] | None = None) -> None:
        with pytest.raises(kind):
            self.catch_up(failed)

    @property
    def loaded(self) -> list[Window]:
        """The windows with a receipt, in the order of their receipts."""
        return [load.window for load in self.place.destination.ledger.loads(STREAM, SPAN)]

    @property
    def held(self) -> list[str]:
        return [audit.id for audit in self.place.audits()]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with sql_place(f"sqlite:///{tmp_path / 'audits.db'}") as place:
        place.destination.ledger.begin(STREAM, BEGIN, BEGIN)
        yield Run(place)


def test_windows_are_loaded_in_order_and_each_has_a_receipt(run: Run) -> None:
    receipts = run.catch_up()

    assert [receipt.window for receipt in receipts] == run.loaded == run.source.asked == HOURS
    assert [(receipt.events, receipt.new_events) for receipt in receipts] == [(4, 4)] * 4
    assert run.place.audits() == audits(SHOWN)
    assert [one.events for one in run.progress] == [2, 4] * 4
    assert run.odd == []
    watermark = run.place.destination.ledger.watermark(STREAM)
    assert watermark is not None
    assert watermark.reached == SPAN.end


def test_a_run_that_is_left_has_asked_ahead_and_leaves_no_thread_and_no_further_receipt(
    run: Run,
) -> None:
    receipts = catch_up(run.job, [SPAN])
    assert next(receipts).window == HOURS[0]
    assert run.source.asked == HOURS[:2]

    assert isinstance(receipts, Iterator)
    receipts.close()  # type: ignore[attr-defined]

    assert not [t.name for t in threading.enumerate() if " of query" in t.name]
    assert run.loaded == HOURS[:1]
    open_queries = queries.left_open(
        run.place.destination.ledger.engine, STREAM, "frequent", run.source.clock
    )
    assert [query.window for query in open_queries] == HOURS[1:2]


def test_a_backfill_loads_its_span_whatever_the_watermark_says(run: Run) -> None:
    run.catch_up()

    receipts = list(backfill(run.job, hours(1, 3)))

    assert [(one.window, one.events, one.new_events) for one in receipts] == [
        (HOURS[1], 4, 0),
        (HOURS[2], 4, 0),
    ]


def test_a_window_that_is_too_long_is_asked_for_in_halves_in_its_place(run: Run) -> None:
    run.source.refusals[HOURS[1]] = [WindowTooLong("at most 30 minutes")]

    receipts = run.catch_up()

    halves = [hours(1, 1.5), hours(1.5, 2)]
    assert [receipt.window for receipt in receipts] == [HOURS[0], *halves, *HOURS[2:]]
    assert run.place.audits() == audits(SHOWN)


def test_a_query_that_fails_once_is_created_again(run: Run) -> None:
    run.source.breaks[HOURS[1]] = [QueryFailed("expired")]

    receipts = run.catch_up()

    assert [receipt.window for receipt in receipts] == HOURS
    assert run.source.asked.count(HOURS[1]) == 2
    assert run.place.audits() == audits(SHOWN)


@pytest.mark.promise("M4")
def test_a_window_that_fails_holds_up_no_other_and_is_asked_for_in_halves_after_them(
    run: Run,
) -> None:
    """The newer half is asked for first. The older one fails, and so does each half of it."""
    older, newer = hours(1, 1.5), hours(1.5, 2)
    for window in (HOURS[1], older, *(older.halves() or ())):
        run.source.breaks[window] = [SourceBrokePromise("a page that is none")] * 2
    run.source.shown = SHOWN[:4] + SHOWN[6:]

    run.fails(SourceBrokePromise)

    asked = run.source.asked
    assert asked.index(newer) > asked.index(HOURS[3])
    assert asked.index(older) > asked.index(newer)
    assert run.loaded[:3] == [HOURS[0], HOURS[2], HOURS[3]]
    assert newer in run.loaded
    assert older not in run.loaded
    assert HOURS[1] not in run.loaded
    assert run.place.audits() == audits(run.source.shown)


def test_what_failed_in_an_earlier_run_is_asked_for_last_and_is_told_of_until_it_is_loaded(
    run: Run,
) -> None:
    ledger = run.place.destination.ledger
    query = OpenQuery(HOURS[0], "q", run.source.clock)
    queries.remember(ledger.engine, STREAM, query, "frequent", failed=True)
    failed, rest = queries.failed(ledger.engine, STREAM), hours(1, 4)
    assert [one.window for one in failed] == HOURS[:1]

    receipts = list(catch_up(run.job, [rest], failed))

    assert [receipt.window for receipt in receipts] == [*HOURS[1:], HOURS[0]]
    assert queries.failed(ledger.engine, STREAM) == []


def test_an_outage_ends_a_run_and_what_was_loaded_before_stays(run: Run) -> None:
    run.source.refusals[HOURS[1]] = [SourceUnavailable("no route")]

    run.fails(SourceUnavailable)

    assert run.loaded == HOURS[:1]
    assert run.held == [f"{n:02}" for n in range(4)]


def test_an_answer_with_audits_of_other_times_is_asked_for_again_then_taken_and_told_of(
    run: Run,
) -> None:
    stray = record("stray", 30)
    run.source.answers[HOURS[1]] = [[*SHOWN[4:8], stray]] * 2

    receipts = run.catch_up()

    assert [receipt.window for receipt in receipts] == HOURS
    assert run.source.asked.count(HOURS[1]) == 2
    assert run.odd == [Discrepancy(outside=1, unshown=0)]
    assert run.held == sorted([f"{n:02}" for n in range(16)] + ["stray"])


def test_an_answer_that_is_only_once_in_doubt_is_not_told_of(run: Run) -> None:
    run.source.answers[HOURS[1]] = [[*SHOWN[4:8], record("stray", 30)]]

    run.catch_up()

    assert run.source.asked.count(HOURS[1]) == 2
    assert run.odd == []


@pytest.mark.promise("M5")
def test_an_answer_that_lacks_what_is_held_is_asked_for_again_and_removes_nothing(run: Run) -> None:
    run.catch_up()
    run.source.shown = SHOWN[1:]
    run.source.asked.clear()

    receipts = run.catch_up()

    assert [receipt.window for receipt in receipts] == HOURS
    assert run.source.asked.count(HOURS[0]) == 2
    assert run.odd == [Discrepancy(outside=0, unshown=1)]
    assert run.place.audits() == audits(SHOWN)


def test_a_query_that_a_dead_process_left_is_read_first_and_not_created_again(run: Run) -> None:
    ledger, asked_at = run.place.destination.ledger, run.source.clock - HOUR
    queries.remember(ledger.engine, STREAM, OpenQuery(HOURS[2], "left open", asked_at), "frequent")

    receipts = run.catch_up()

    assert [receipt.window for receipt in receipts] == [HOURS[2], HOURS[0], HOURS[1], HOURS[3]]
    assert receipts[0].query_id == "left open"
    assert receipts[0].started_at == asked_at
    assert HOURS[2] not in run.source.asked


@pytest.mark.parametrize("reason", ["could show more today", "was loaded meanwhile"])
def test_a_query_that_a_dead_process_left_is_dropped_if_a_new_one_may_show_more(
    run: Run, reason: str
) -> None:
    ledger, asked_at = run.place.destination.ledger, run.source.clock - HOUR
    if reason == "could show more today":
        asked_at = run.source.clock = HOURS[2].end + timedelta(minutes=59)
        run.source.clock = asked_at + HOUR
    else:
        load_into(run.place.destination, draft(HOURS[2]), [])
    queries.remember(ledger.engine, STREAM, OpenQuery(HOURS[2], "left open", asked_at), "frequent")

    receipts = run.catch_up()

    assert [receipt.window for receipt in receipts] == run.source.asked == HOURS
