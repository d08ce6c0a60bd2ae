"""Clocks that are wrong, and that are set while the program runs: no time is claimed too early."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from starlette.responses import Response

from etl.app import App
from etl.config import load
from etl.database.schema import receipts
from etl.database.transactions import transact
from etl.errors import TryAgainLater, UsageError
from etl.ledger import queries, status
from etl.ledger.gaps import gaps_of
from etl.ledger.receipts import record as ledger_record
from etl.model import OpenQuery, PendingReceipt, Receipt, Stream, Watermark
from etl.operations import check, export, selection, verify
from etl.operations.streams import Failure
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Simulator
from etl.simulator import http as simulator_http
from etl.window import CLOCKS_AGREE, Window
from tests.support.destination_contents import audits_in
from tests.support.hostile_organization import LAG, Waits, resting
from tests.support.simulated_organization import NOW, HandClock, audit

STREAM = Stream("default")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BEGIN = NOW - DAY
#: What the pauses of a run take by the clock of the test.
HAND = timedelta(seconds=10)
AN_HOUR_BACK = [{"name": "frequent", "cron": "*/15 * * * *", "lookback": "1h"}]


@dataclass
class Setup:
    """An organisation with an audit every five minutes, and a program whose clock may be wrong.

    Attributes:
        clock: the time as it is, at the organisation.
        ahead: how far the program's clock is ahead of it.
        date: what its answers say instead of its time; empty for no date at all.
        headers: what its answers say besides.
    """

    clock: HandClock
    log: AuditLog
    variables: dict[str, str]
    ahead: timedelta = timedelta(0)
    date: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def ours(self) -> datetime:
        return self.clock() + self.ahead

    @contextmanager
    def process(self, **variables: str) -> Iterator[App]:
        settings = load(None, self.variables | variables)
        stop = Waits(self.clock)
        with App(settings, stop=stop, now=self.ours, monotonic=self.clock.monotonic) as app:
            yield app

    def run(self, **variables: str) -> list[Receipt]:
        with self.process(**variables) as app:
            return run(app)

    def respond(
        self, status: int, body: bytes, headers: Mapping[str, str], media_type: str
    ) -> Response:
        """An answer of the simulator's, with the date that it shall have."""
        now = format_datetime(self.clock(), usegmt=True)
        date = now if self.date is None else self.date
        dated = {"Date": date} if date else {}
        return Response(body, status, {**headers, **dated, **self.headers}, media_type)

    def is_up_to_date(self, app: App) -> bool:
        """Whether all is there of the time up to now less the lag, and no more is claimed."""
        behind = self.clock() - LAG - marked(app).reached
        return timedelta(0) <= behind <= HAND and self.is_complete(app)

    def is_complete(self, app: App) -> bool:
        """Whether all is there between the stream's begin and its watermark."""
        watermark = app.ledger.watermark(STREAM)
        assert watermark is not None
        shown = self.log.truth(watermark.begins_at, watermark.reached, self.clock())
        return {a["id"] for a in shown} <= {a.id for a in audits_in(app.engine)}


def run(app: App) -> list[Receipt]:
    """Bring every stream up to now."""
    return [done(outcome) for outcome in export.run(app)]


def done(outcome: Receipt | Failure) -> Receipt:
    if isinstance(outcome, Failure):
        raise outcome.error
    return outcome


def marked(app: App) -> Watermark:
    watermark = app.ledger.watermark(STREAM)
    assert watermark is not None
    return watermark


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    clock = HandClock()
    minutes = range(-3 * 24 * 60, 2 * 24 * 60, 5)
    moments = [(number, NOW + number * MINUTE) for number in minutes]
    with AuditLog.of((audit(5000 + number, at), at) for number, at in moments) as log:
        simulator = Simulator(log=log, clock=clock, rest=resting(clock), query_seconds=1)
        with simulator.serve() as url:
            made = Setup(
                clock,
                log,
                {
                    "GENESYSCLOUD_REGION": url,
                    "GENESYSCLOUD_OAUTHCLIENT_ID": CLIENT_ID,
                    "GENESYSCLOUD_OAUTHCLIENT_SECRET": CLIENT_SECRET,
                    "AUDIT_ETL_START": "1d",
                    "AUDIT_ETL_DESTINATION": f"sqlite:///{tmp_path / 'audits.db'}",
                    "AUDIT_ETL_SCHEDULES": json.dumps(AN_HOUR_BACK),
                },
            )
            yield made


@pytest.fixture
def dated(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """The same, but what its answers say of the time is up to the test."""

    def respond(
        _: object,
        status: int,
        body: bytes,
        headers: Mapping[str, str],
        media_type: str = "application/json",
    ) -> Response:
        return setup.respond(status, body, headers, media_type)

    monkeypatch.setattr(simulator_http._Api, "_response", respond)
    return setup


@pytest.mark.parametrize("hours", [-3, -0.2, -0.05, 0.05, 3, 24 * 200])
def test_a_clock_that_is_set_while_a_token_is_held_changes_nothing(
    setup: Setup, hours: float
) -> None:
    with setup.process() as app:
        run(app)
        setup.clock.move(minutes=15)
        setup.ahead = timedelta(hours=hours)
        for _ in range(20):
            for receipt in run(app):
                assert receipt.window.end <= receipt.started_at <= setup.clock()
            assert marked(app).reached <= setup.clock() - LAG
            assert setup.is_complete(app)
            setup.clock.move(minutes=15)
        run(app)

        assert marked(app).reached >= setup.clock() - LAG - CLOCKS_AGREE


@pytest.mark.parametrize("ahead", [-3 * HOUR, 3 * HOUR, 40 * DAY, -40 * DAY, 400 * DAY])
def test_a_first_run_begins_by_the_organisation_s_clock(setup: Setup, ahead: timedelta) -> None:
    setup.ahead = ahead

    setup.run()

    setup.ahead = timedelta(0)
    with setup.process() as app:
        assert abs(marked(app).begins_at - BEGIN) < MINUTE
        assert abs(marked(app).reached - (NOW - LAG)) < MINUTE
        assert setup.is_complete(app)


ODD_DATES = {
    "none": "",
    "no date": "yesterday, about noon",
    "1970": "Thu, 01 Jan 1970 00:00:00 GMT",
    "2100": "Fri, 01 Jan 2100 00:00:00 GMT",
    "9999": "Fri, 31 Dec 9999 23:59:59 GMT",
    "a year and a day ahead": format_datetime(NOW + 367 * DAY, usegmt=True),
}


@pytest.mark.parametrize("date", ODD_DATES.values(), ids=ODD_DATES.keys())
def test_a_time_that_cannot_be_right_is_none_and_ours_counts(dated: Setup, date: str) -> None:
    dated.date = date
    with dated.process() as app:
        for _ in range(5):
            run(app)
            assert dated.is_up_to_date(app)
            dated.clock.move(minutes=15)
        [finding] = [found for found in check.check(app) if "clock" in found.about]

    assert finding.verdict == "warning"
    assert "by this machine's clock" in finding.detail


def test_where_no_time_is_told_a_clock_that_leaps_ahead_is_not_believed(dated: Setup) -> None:
    dated.date = ""
    with dated.process() as app:
        run(app)
        dated.ahead = 3 * HOUR
        for _ in range(20):
            dated.clock.move(minutes=15)
            run(app)
            assert marked(app).reached <= dated.clock() - LAG
            assert dated.is_complete(app)


def test_a_time_that_is_no_longer_told_is_still_known(dated: Setup) -> None:
    dated.ahead = 3 * HOUR
    with dated.process() as app:
        run(app)
        dated.date = ""
        for _ in range(5):
            dated.clock.move(minutes=15)
            run(app)
            assert dated.is_up_to_date(app)


@pytest.mark.parametrize("headers", [{}, {"Age": "7200"}], ids=["", "with their age"])
def test_answers_from_a_cache_take_nothing_back(
    dated: Setup, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with dated.process() as app:
        run(app)
        source = app.source("default")
        dated.date = format_datetime(NOW - 2 * HOUR, usegmt=True)
        dated.headers = headers
        source.service_mapping()

        assert source.now() >= NOW
        dated.date, dated.headers = None, {}
        dated.clock.move(hours=1)
        run(app)

        assert dated.is_up_to_date(app)
        assert voided(app) == 0


def claim(app: App, window: Window, started_at: datetime, schedule: str = "frequent") -> None:
    """Write the receipt of a window that was loaded without an audit."""
    of = PendingReceipt(STREAM, window, "q", schedule, started_at, lambda: 3, lambda: started_at)
    receipt = of.receipt(events=0, new_events=0, rejects=0)
    transact(app.engine, partial(ledger_record, receipt=receipt))


def voided(app: App) -> int:
    with app.engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT COUNT(*) FROM void_receipts")).scalar_one())


def leapt_once(app: App) -> None:
    claim(app, Window(NOW - LAG, NOW + 3 * HOUR - LAG), NOW + 3 * HOUR)


def leapt_for_some_runs(app: App) -> None:
    for number in range(12):
        start = NOW - LAG + number * 15 * MINUTE
        claim(app, Window(start - HOUR, start + 15 * MINUTE), NOW + 3 * HOUR + number * MINUTE)


def leapt_by_a_month(app: App) -> None:
    claim(app, Window(NOW - LAG, NOW + 10 * DAY), NOW + 30 * DAY)
    claim(app, Window(NOW + 10 * DAY, NOW + 30 * DAY - LAG), NOW + 30 * DAY)


def backfilled_ahead(app: App) -> None:
    claim(app, Window(NOW + HOUR, NOW + 2 * HOUR), NOW + 3 * HOUR, "backfill")


def set_by_hand(app: App) -> None:
    with app.engine.begin() as connection:
        connection.execute(sa.text("UPDATE watermarks SET watermark = '2027-01-01 00:00:00.000'"))


@pytest.mark.promise("M3")
@pytest.mark.parametrize(
    "wrong", [leapt_once, leapt_for_some_runs, leapt_by_a_month, backfilled_ahead, set_by_hand]
)
def test_what_was_claimed_too_early_is_taken_back_and_asked_for_again(
    setup: Setup, wrong: Callable[[App], None], caplog: pytest.LogCaptureFixture
) -> None:
    with setup.process() as app:
        run(app)
        wrong(app)
        void = 0
        for _ in range(20):
            setup.clock.move(minutes=15)
            run(app)
            assert setup.is_up_to_date(app)
            assert marked(app).begins_at == BEGIN
            assert gaps_of(app.ledger.engine, STREAM) == []
            void = void or voided(app)

        assert void == voided(app)
        assert (void == 0) == (wrong is set_by_hand)
    assert caplog.text.count("beyond the organisation's time") == 1


@pytest.mark.parametrize("ahead", [3 * HOUR, 400 * DAY])
def test_a_stream_that_a_wrong_clock_began_begins_again(setup: Setup, ahead: timedelta) -> None:
    with setup.process() as app:
        app.prepare()
        app.ledger.begin(STREAM, NOW + ahead - DAY, NOW + ahead)
        claim(app, Window(NOW + ahead - DAY, NOW + ahead - LAG), NOW + ahead)

        run(app)

        assert marked(app) == replace(marked(app), begins_at=BEGIN, reached=NOW - LAG)
        assert setup.is_complete(app)
        assert voided(app) == 1


def test_a_claim_is_not_taken_back_while_no_time_is_told(
    dated: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    dated.date = ""
    with dated.process() as app:
        run(app)
        leapt_once(app)
        run(app)
        run(app)

        assert marked(app).reached == NOW + 3 * HOUR - LAG
        assert voided(app) == 0
    assert caplog.text.count("lies ahead of this machine's clock") == 1


@pytest.mark.promise("M3")
def test_a_process_whose_clocks_stood_still_takes_nothing_back(setup: Setup) -> None:
    """As on a machine that was suspended, while another one went on."""
    with setup.process() as asleep:
        run(asleep)
        stood = setup.clock.monotonic()
        asleep.source("default")._api.transport.clock.monotonic = lambda: stood
        setup.clock.move(hours=8)
        setup.run()
        run(asleep)

        assert voided(asleep) == 0
        assert marked(asleep).reached >= setup.clock() - LAG - MINUTE


def test_a_query_that_a_leapt_clock_left_open_is_not_resumed(setup: Setup) -> None:
    with setup.process() as app:
        run(app)
        source = app.source("default")
        window = Window(NOW - LAG, NOW + 3 * HOUR - LAG)
        asked = source.ask(window, None)
        query = OpenQuery(window, asked.query_id, NOW + 3 * HOUR)
        queries.remember(app.ledger.engine, STREAM, query, "frequent")
        setup.clock.move(hours=4)

        run(app)

        assert setup.is_up_to_date(app)


def test_a_window_that_is_not_over_when_it_is_asked_for_earns_no_receipt(
    dated: Setup,
) -> None:
    """The organisation's clock is set back between the sign-in and the query."""
    with dated.process() as app:
        run(app)
        before = marked(app)
        dated.date = format_datetime(dated.clock() + 3 * HOUR, usegmt=True)
        app.source("default").ask_time()
        dated.date = None
        [failure] = [found for found in export.run(app) if isinstance(found, Failure)]

        assert isinstance(failure.error, TryAgainLater)
        assert "is not over" in str(failure.error)
        assert marked(app) == before
        run(app)
        assert dated.is_up_to_date(app)


# the commands


@pytest.mark.parametrize("ahead", [-5 * HOUR, 5 * HOUR])
def test_a_span_without_an_end_ends_by_the_organisation_s_clock(
    setup: Setup, ahead: timedelta
) -> None:
    setup.ahead = ahead
    with setup.process() as app:
        span = selection.span_of(app, NOW - DAY, None, [STREAM])
        for outcome in export.backfill(app, span, [STREAM]):
            done(outcome)
        for verdict in verify.verify(app, span, [STREAM], repair=False):
            assert not isinstance(verdict, Failure)
            assert verdict.verification.missing == 0

        assert abs(span.end - (NOW - LAG)) < MINUTE
        with pytest.raises(UsageError, match="is too late"):
            selection.span_of(app, NOW - DAY, NOW - LAG + MINUTE, [STREAM])


def test_a_span_is_told_though_an_organisation_cannot_be_asked(setup: Setup) -> None:
    unknown = [Stream("default"), Stream("elsewhere")]
    organizations = {
        "AUDIT_ETL_ORGANIZATIONS__ELSEWHERE__REGION": "http://127.0.0.1:1",
        "AUDIT_ETL_ORGANIZATIONS__ELSEWHERE__CLIENT_ID": "id",
        "AUDIT_ETL_ORGANIZATIONS__ELSEWHERE__CLIENT_SECRET": "secret",
    }
    with setup.process(**organizations) as app:
        span = selection.span_of(app, NOW - DAY, None, unknown)

        assert NOW - LAG <= span.end <= NOW - LAG + HAND


def test_check_says_what_is_claimed_too_early(setup: Setup) -> None:
    with setup.process() as app:
        run(app)
        before = {finding.about for finding in check.check(app)}
        leapt_once(app)
        [found] = [f for f in check.check(app) if f.about == "default/*: watermark"]

    assert found.about not in before
    assert found.verdict == "warning"
    assert "marked as loaded up to 2026-05-08T14:50:00Z, 2h49m" in found.detail
    assert "ahead of the organisation's clock" in found.detail


def test_status_says_what_is_claimed_too_early(setup: Setup) -> None:
    with setup.process() as app:
        run(app)
        [before] = status.gather(app.ledger, [STREAM], BEGIN, NOW)
        leapt_once(app)
        [after] = status.gather(app.ledger, [STREAM], BEGIN, NOW)

    assert before.claimed_ahead is None
    assert after.claimed_ahead == NOW + 3 * HOUR - LAG


def test_lookbacks_are_due_by_the_organisation_s_clock(setup: Setup) -> None:
    """A clock a day ahead or behind neither skips nor repeats the daily one."""
    schedules = json.dumps(
        [*AN_HOUR_BACK, {"name": "daily", "cron": "0 13 * * *", "lookback": "1d"}]
    )
    for ahead in (timedelta(0), DAY, -DAY):
        setup.ahead = ahead
        with setup.process(AUDIT_ETL_SCHEDULES=schedules) as app:
            for _ in range(4 * 24):
                run(app)
                setup.clock.move(minutes=15)
    with setup.process() as app, app.engine.connect() as connection:
        daily = connection.execute(
            sa.select(receipts.c.started_at).where(receipts.c.schedule == "daily")
        ).scalars()
        days = sorted({(m.day, m.hour, m.minute // 15) for m in daily})

    assert days == [(8, 13, 0), (9, 13, 0), (10, 13, 0)]
