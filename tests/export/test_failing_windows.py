"""A window that always fails holds up no other; its gap is named, and asked for again last."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from math import ceil, log2

import pytest

from etl.agenda import AGAIN_MAX, HALVES_MAX, Agenda, Parts
from etl.errors import (
    AuditEtlError,
    NotPermitted,
    QueryFailed,
    RateLimited,
    SourceBrokePromise,
    SourceUnavailable,
    WindowTooLong,
)
from etl.ledger import gaps as ledger_gaps
from etl.ledger import queries
from etl.losses import ALONE_MAX, NAMED_MAX, UNANSWERED_MAX, Failed, Losses
from etl.model import ALL_SERVICES, FailedWindow, OpenQuery, Stream, Watermark
from etl.monitoring.condition import Condition, StreamCondition
from etl.simulator import AuditLog, Faults
from etl.window import WINDOW_MIN, Window, gaps, joined
from tests.export.test_crashes import Died, die
from tests.support.hostile_organization import BEGIN, LAG, World, log_with_edges
from tests.support.places import Place
from tests.support.samples import BEGIN as BEGINS
from tests.support.samples import draft, hours, load_into, unfenced
from tests.support.simulated_organization import NOW

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
STREAM = Stream("default", ALL_SERVICES)
#: The minute of `bad_minute=600`.
BAD = Window(NOW - 600 * MINUTE, NOW - 599 * MINUTE)
TICKS = {"AUDIT_ETL_SCHEDULES": '[{"name": "s", "interval": "15m", "lookback": "1h"}]'}
#: A window of less than two minutes is not cut, and a minute may lie in two of them.
SMALL = 4 * WINDOW_MIN
STATUSES = {"fail": 69, "refuse": 65, "misshape": 65, "break": 69}


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with log_with_edges(seed=23, audits=600, late_share=0) as log:
        yield log


def ids(world: World) -> set[str]:
    return {audit.id for audit in world.place.audits()}


def watermark(world: World) -> Watermark:
    found = world.place.destination.ledger.watermark(STREAM)
    assert found is not None
    return found


def gaps_of(world: World) -> list[Window]:
    return ledger_gaps.gaps_of(world.place.destination.ledger.engine, STREAM)


def last_loaded(world: World) -> datetime:
    return world.place.destination.ledger.windows(STREAM)[-1].end


def asked(world: World) -> int:
    """Queries that were created, and those that were refused."""
    return world.simulator.requests["query"]


def in_time(world: World, window: Window, gap: Window | None = None) -> set[str]:
    """Ids of what the organisation shows now of a window, but for a gap."""
    shown = world.shown(window.start, window.end).values()
    return {audit.id for audit in shown if gap is None or audit.event_date not in gap}


@pytest.mark.parametrize("does", ["fail", "refuse", "misshape", "break"])
@pytest.mark.parametrize("window", ["30d", "1d", "1h"])
@pytest.mark.parametrize("standing_place", ["sqlite", "parquet"], indirect=True)
def test_a_minute_that_always_fails_costs_itself_and_nothing_else(
    hostile: World, does: str, window: str
) -> None:
    hostile.settings = TICKS | {"AUDIT_ETL_MAX_WINDOW": window}
    hostile.simulator.faults = Faults(bad_minute=600, bad_minute_does=does)

    first = hostile.run()

    [gap] = gaps_of(hostile)
    assert first.status == STATUSES[does]
    assert BAD in gap
    assert gap.length < SMALL
    assert str(gap) in str(first.error)
    assert watermark(hostile).reached == gap.start
    assert in_time(hostile, Window(BEGIN, first.span.end), gap) <= ids(hostile)

    for _ in range(3):
        hostile.clock.move(minutes=15)
        before, loaded = asked(hostile), last_loaded(hostile)
        later = hostile.run()
        assert later.status == STATUSES[does]
        assert str(gap) in str(later.error)
        again = [Window(loaded - timedelta(hours=1), later.span.end)]
        assert joined(receipt.window for receipt in later.receipts) == again
        assert asked(hostile) - before <= 4
        assert gaps_of(hostile) == [gap]
        assert watermark(hostile).reached == gap.start
        assert in_time(hostile, Window(BEGIN, later.span.end), gap) <= ids(hostile)

    hostile.simulator.faults = Faults()
    hostile.clock.move(minutes=15)
    healed = hostile.run()

    assert healed.status == 0
    assert healed.receipts[-1].window == gap
    assert gaps_of(hostile) == []
    assert watermark(hostile).reached == healed.span.end
    assert queries.failed(hostile.place.destination.ledger.engine, STREAM) == []
    assert healed.promised.keys() <= ids(hostile)


@pytest.mark.parametrize("does", ["fail", "misshape", "break"])
@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_loaded_time_that_cannot_be_asked_for_again_holds_up_no_new_time(
    hostile: World, does: str
) -> None:
    hostile.settings = TICKS
    assert hostile.run().status == 0
    hostile.simulator.faults = Faults(bad_minute=30, bad_minute_does=does)

    for tick in range(7):
        hostile.clock.move(minutes=15)
        before = asked(hostile)
        outcome = hostile.run()
        assert outcome.status != 0
        assert watermark(hostile).reached == outcome.span.end
        assert outcome.promised.keys() <= ids(hostile)
        assert asked(hostile) - before <= (21 if tick == 0 else 5)
        [gap] = gaps_of(hostile)
        assert NOW - 30 * MINUTE in gap
        assert gap.length < 2 * MINUTE
    hostile.simulator.faults = Faults()
    hostile.clock.move(minutes=15)
    assert hostile.run().status == 0
    assert gaps_of(hostile) == []
    assert queries.failed(hostile.place.destination.ledger.engine, STREAM) == []


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("spoilt", [1, 9, 40])
def test_the_first_windows_may_fail_however_many_they_are(hostile: World, spoilt: int) -> None:
    """The stream begins with hours of which each query fails."""
    hostile.settings = TICKS | {"AUDIT_ETL_MAX_WINDOW": "1h"}
    hostile.simulator.faults = Faults(bad_minute=2 * 24 * 60, bad_minutes=60 * spoilt)
    bad = Window(BEGIN, BEGIN + timedelta(hours=spoilt))

    outcome = hostile.run()

    assert outcome.status == 69
    assert watermark(hostile).reached == BEGIN
    assert in_time(hostile, Window(bad.end, outcome.span.end)) <= ids(hostile)
    assert asked(hostile) <= 49 + spoilt + 2 * HALVES_MAX + 2
    before = asked(hostile)
    hostile.clock.move(minutes=15)
    assert hostile.run().status == 69
    assert asked(hostile) - before <= 2 * AGAIN_MAX + 5
    hostile.simulator.faults = Faults()
    hostile.clock.move(minutes=15)
    healed = hostile.run()
    assert (healed.status, gaps_of(hostile)) == (0, [])
    assert healed.promised.keys() <= ids(hostile)


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_what_is_older_than_the_organisation_accepts_is_named_once(
    hostile: World, caplog: pytest.LogCaptureFixture
) -> None:
    hostile.settings = TICKS | {"AUDIT_ETL_MAX_WINDOW": "2h"}
    hostile.simulator.faults = Faults(refuse_days=1)

    first = hostile.run()

    [gap] = gaps_of(hostile)
    accepted = NOW - DAY
    assert first.status == 65
    assert gap.start == BEGIN
    assert accepted <= gap.end < accepted + 5 * MINUTE
    assert in_time(hostile, Window(gap.end, first.span.end)) <= ids(hostile)
    assert asked(hostile) < 12 + 13 + 20

    for _ in range(2):
        hostile.clock.move(minutes=15)
        before = asked(hostile)
        assert hostile.run().status == 0
        assert asked(hostile) - before == 2
        assert gaps_of(hostile) == [gap]
        assert watermark(hostile).reached == BEGIN
    assert "which is a gap: it is older" in caplog.text

    hostile.simulator.faults = Faults()
    hostile.clock.move(minutes=15)
    healed = hostile.run()
    assert (healed.status, gaps_of(hostile)) == (0, [])
    assert healed.promised.keys() <= ids(hostile)


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("hours_later", [23, 25])
def test_a_begin_after_what_is_too_old_gives_it_up(hostile: World, hours_later: int) -> None:
    hostile.settings = TICKS | {"AUDIT_ETL_MAX_WINDOW": "2h"}
    hostile.simulator.faults = Faults(refuse_days=1)
    hostile.run()
    [gap] = gaps_of(hostile)
    begin = BEGIN + timedelta(hours=hours_later)
    hostile.settings = hostile.settings | {"AUDIT_ETL_START": begin.isoformat()}
    hostile.clock.move(minutes=15)

    outcome = hostile.run()

    assert outcome.status == 0
    if begin < gap.end:
        assert (watermark(hostile).begins_at, watermark(hostile).reached) == (BEGIN, BEGIN)
        assert gaps_of(hostile) == [gap]
    else:
        assert (watermark(hostile).begins_at, watermark(hostile).reached) == (
            gap.end,
            outcome.span.end,
        )
        assert gaps_of(hostile) == []
        assert queries.failed(hostile.place.destination.ledger.engine, STREAM) == []


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_what_is_refused_amid_accepted_time_is_no_matter_of_age(hostile: World) -> None:
    hostile.settings = TICKS
    hostile.simulator.faults = Faults(bad_minute=600, bad_minute_does="refuse")
    hostile.run()
    hostile.clock.move(minutes=15)

    assert hostile.run().status == 65


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("window", ["1h", "1d", "30d"])
def test_an_organisation_of_which_every_query_fails_is_left_alone_soon(
    hostile: World, window: str
) -> None:
    hostile.settings = TICKS | {"AUDIT_ETL_MAX_WINDOW": window}
    hostile.simulator.faults = Faults(fail_query_every=1)

    for _ in range(2):
        before = asked(hostile)
        outcome = hostile.run()
        assert outcome.status == 69
        assert asked(hostile) - before <= 20

    assert queries.failed(hostile.place.destination.ledger.engine, STREAM) == []
    hostile.simulator.faults = Faults()
    assert hostile.run().status == 0


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("faults", "status"),
    [
        (Faults(server_error_every=1), 69),
        (Faults(deny_permission=True), 77),
        (Faults(too_many_requests_every=1, retry_after=7200), 75),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_what_concerns_all_windows_ends_the_stream_at_once(
    hostile: World, faults: Faults, status: int
) -> None:
    hostile.settings = TICKS | {"AUDIT_ETL_MAX_WINDOW": "2h"}

    def watch(_: object) -> None:
        hostile.simulator.faults = faults

    before = hostile.run(watch=watch)

    assert before.status == status
    assert len(before.receipts) < 8
    assert len(hostile.simulator.queries) < 8
    failed = queries.failed(hostile.place.destination.ledger.engine, STREAM)
    assert not any(window.refused for window in failed)  # only those that were being read
    assert len(failed) < UNANSWERED_MAX


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_a_backfill_goes_on_behind_a_window_that_fails(hostile: World) -> None:
    hostile.settings = {"AUDIT_ETL_MAX_WINDOW": "2h"}
    hostile.simulator.faults = Faults(bad_minute=600)
    span = Window(BEGIN, NOW - LAG)

    outcome = hostile.backfill(span)

    [gap] = gaps(sorted(receipt.window for receipt in outcome.receipts), span)
    assert outcome.status == 69
    assert gap.length < SMALL
    assert in_time(hostile, span, gap) <= ids(hostile)
    assert queries.failed(hostile.place.destination.ledger.engine, STREAM) == []


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_verify_gives_verdicts_on_all_that_can_be_asked_for(hostile: World) -> None:
    hostile.settings = {"AUDIT_ETL_MAX_WINDOW": "2h"}
    hostile.run()
    hostile.simulator.faults = Faults(bad_minute=600)
    span = Window(BEGIN, NOW - LAG)

    verdicts, [failure] = hostile.verify(span)

    [gap] = gaps(sorted(verdict.receipt.window for verdict in verdicts), span)
    assert gap.length < SMALL
    assert sum(v.verification.missing + v.verification.extra for v in verdicts) == 0
    assert failure.error.exit_status == 69
    assert str(gap) in str(failure.error)


@pytest.mark.promise("M6")
@pytest.mark.slow
@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_a_death_amid_halves_costs_nothing_of_what_can_be_asked_for(hostile: World) -> None:
    died, pages = True, 0
    while died:
        pages += 1
        hostile.place.empty()
        hostile.clock.now = NOW
        hostile.settings = TICKS | {"AUDIT_ETL_MAX_WINDOW": "12h"}
        hostile.simulator.faults = Faults(bad_minute=600)
        died = _dies_after(hostile, pages)
        hostile.clock.move(minutes=15)

        outcome = hostile.run()

        assert outcome.status == 69
        [gap] = gaps_of(hostile)
        assert BAD in gap
        assert gap.length < SMALL
        assert in_time(hostile, Window(BEGIN, outcome.span.end), gap) <= ids(hostile)
    assert pages > 10


def _dies_after(world: World, pages: int) -> bool:
    left = pages

    def watch(_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die()

    try:
        world.run(watch=watch)
    except Died:
        return True
    return False


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_time_beyond_a_gap_that_a_backfill_left_is_not_asked_for_again(hostile: World) -> None:
    hostile.settings = TICKS | {"AUDIT_ETL_MAX_WINDOW": "6h", "AUDIT_ETL_START": "2026-05-08"}
    hostile.clock.now = NOW - timedelta(hours=6)
    hostile.run()
    hostile.clock.now = NOW
    island = Window(NOW - timedelta(hours=4), NOW - timedelta(hours=2))
    hostile.backfill(island)

    outcome = hostile.run()

    assert outcome.status == 0
    windows = sorted(receipt.window for receipt in outcome.receipts)
    assert sum((w.length for w in windows if w.overlaps(island)), timedelta()) <= timedelta(hours=4)
    assert not [w for w in windows if w.start < island.start and w.end > island.start]
    assert outcome.receipts[0].window.end >= NOW - LAG
    assert watermark(hostile).reached == outcome.receipts[0].window.end


def services(names: str) -> dict[str, str]:
    return TICKS | {
        "AUDIT_ETL_ORGANIZATIONS__DEFAULT__SERVICES": names,
        "AUDIT_ETL_START": "6h",
    }


@pytest.mark.parametrize("standing_place", ["sqlite", "parquet"], indirect=True)
@pytest.mark.parametrize(
    ("before", "after"),
    [("*", "ContactCenter,Directory"), ("ContactCenter,Directory", "*")],
    ids=["from all to named", "from named to all"],
)
def test_services_may_change_while_the_stream_before_lags(
    hostile: World, before: str, after: str
) -> None:
    hostile.settings = services(before)
    hostile.clock.now = NOW - timedelta(hours=30)
    first = hostile.run()
    hostile.clock.now = NOW
    hostile.settings = services(after)

    assert hostile.run().status == 0

    since = Window(first.span.end, NOW - LAG)
    named = {"ContactCenter", "Directory"}
    wanted = {
        audit.id
        for audit in hostile.shown(since.start, since.end).values()
        if after == "*" or audit.service_name in named
    }
    assert wanted <= ids(hostile)
    hostile.settings = services(before)
    hostile.clock.move(hours=1)
    assert hostile.run().status == 0
    assert gaps_of(hostile) == []


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_a_service_that_was_never_exported_begins_where_the_configuration_says(
    hostile: World,
) -> None:
    hostile.settings = services("ContactCenter")
    hostile.clock.now = NOW - timedelta(hours=30)
    hostile.run()
    hostile.clock.now = NOW
    hostile.settings = services("ContactCenter,Directory")

    hostile.run()

    begun = hostile.place.destination.ledger.watermark(Stream("default", "Directory"))
    assert begun is not None
    assert begun.begins_at - (NOW - timedelta(hours=6)) < MINUTE


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "changed",
    [
        {"AUDIT_ETL_START": "2026-05-08T06:00:00Z"},
        {"AUDIT_ETL_START": "2026-05-01"},
        {"AUDIT_ETL_LAG": "3h"},
        {"AUDIT_ETL_LAG": "0s"},
        {"AUDIT_ETL_MAX_WINDOW": "30m"},
        {"AUDIT_ETL_MAX_WINDOW": "30d"},
    ],
    ids=lambda changed: "=".join(*changed.items()),
)
def test_settings_that_change_by_hand_lose_nothing(hostile: World, changed: dict[str, str]) -> None:
    hostile.settings = TICKS | {"AUDIT_ETL_MAX_WINDOW": "3h"}
    hostile.simulator.faults = Faults(bad_minute=600)
    hostile.run()
    hostile.clock.move(hours=2)
    hostile.settings = hostile.settings | changed
    later = hostile.run()
    assert later.status == 69
    hostile.simulator.faults = Faults()
    hostile.clock.move(hours=4)
    hostile.settings = TICKS

    outcome = hostile.run()

    assert outcome.status == 0
    assert outcome.promised.keys() <= ids(hostile)
    assert gaps_of(hostile) == []
    assert watermark(hostile) == Watermark(BEGIN, outcome.span.end, watermark(hostile).updated_at)


@pytest.mark.promise("M3")
@pytest.mark.parametrize("place", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_what_a_gap_means_for_the_watermark_and_the_monitoring(place: Place) -> None:
    ledger = place.destination.ledger
    ledger.begin(STREAM, BEGINS, BEGINS)
    for window in (hours(0, 10), hours(12, 20), hours(21, 48)):
        load_into(place.destination, draft(window), [], unfenced)

    found = ledger.watermark(STREAM)

    assert found is not None
    assert found.reached == hours(0, 10).end
    assert (
        joined(ledger.windows(STREAM, found.reached))
        == [hours(0, 10), hours(12, 20), hours(21, 48)][1:]
    )
    early, amid, late = hours(0, 1).start, hours(11, 12).start, hours(22, 23).start
    assert ledger_gaps.gap_length(ledger.engine, STREAM, early) == timedelta(hours=3)
    assert ledger_gaps.gap_length(ledger.engine, STREAM, amid) == timedelta(hours=2)
    assert ledger_gaps.gap_length(ledger.engine, STREAM, late) == timedelta(0)
    assert ledger_gaps.unexported_since(ledger.engine, STREAM, early) == hours(0, 10).end
    assert ledger_gaps.unexported_since(ledger.engine, STREAM, amid) == amid
    assert ledger_gaps.unexported_since(ledger.engine, STREAM, late) == hours(0, 48).end


def test_only_a_gap_that_the_source_may_fill_is_a_problem() -> None:
    def problems(unexported_since: datetime) -> list[str]:
        seen = StreamCondition(STREAM, NOW, NOW - 400 * DAY, NOW, unexported_since)
        return list(Condition(DAY, None, (seen,)).problems())

    assert problems(NOW - MINUTE) == []
    assert len(problems(NOW - 3 * DAY)) == 1


@pytest.mark.parametrize("place", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_a_window_that_failed_is_kept_until_its_time_is_loaded(place: Place) -> None:
    ledger = place.destination.ledger
    queries.remember(ledger.engine, STREAM, OpenQuery(hours(0, 1), "q", BEGINS), "s")
    queries.remember(ledger.engine, STREAM, OpenQuery(hours(0, 1), "q", BEGINS), "s", failed=True)
    queries.remember(ledger.engine, STREAM, OpenQuery(hours(1, 2), "", BEGINS), "s", failed=True)
    queries.remember(
        ledger.engine, Stream("other"), OpenQuery(hours(0, 1), "o", BEGINS), "s", failed=True
    )

    assert queries.left_open(ledger.engine, STREAM, "s", BEGINS) == []
    assert queries.failed(ledger.engine, STREAM) == [
        FailedWindow(hours(0, 1), refused=False),
        FailedWindow(hours(1, 2), refused=True),
    ]
    load_into(place.destination, draft(hours(0.5, 2)), [], unfenced)
    assert [found.window for found in queries.failed(ledger.engine, STREAM)] == [hours(0, 1)]
    load_into(place.destination, draft(hours(0, 9)), [], unfenced)
    assert queries.failed(ledger.engine, STREAM) == []
    assert len(queries.failed(ledger.engine, Stream("other"))) == 1


def failed(window: Window, error: AuditEtlError | None = None, query_id: str = "q") -> Failed:
    return Failed(window, error or QueryFailed("no"), query_id)


def losses(*known: FailedWindow) -> tuple[Losses, list[Window], list[Window]]:
    kept: list[Window] = []
    forgotten: list[Window] = []
    return Losses(STREAM, known, lambda f: kept.append(f.window), forgotten.append), kept, forgotten


def test_which_failures_concern_other_windows() -> None:
    window = hours(0, 1)
    its_own = [
        failed(window, QueryFailed("Failed")),
        failed(window, WindowTooLong("30 days"), ""),
        failed(window, SourceBrokePromise("400"), ""),
        failed(window, SourceBrokePromise("a page")),
        failed(window, SourceUnavailable("a page that gets 500")),
    ]
    others = [
        failed(window, SourceUnavailable("an outage"), ""),
        failed(window, NotPermitted("403")),
        failed(window, RateLimited("429", NOW, 60.0)),
    ]

    assert [f.concerns_others for f in its_own] == [False] * len(its_own)
    assert [f.concerns_others for f in others] == [True] * len(others)
    assert [f.may_pass for f in its_own] == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("error", "bound"),
    [(QueryFailed("no"), ALONE_MAX), (SourceUnavailable("no answer"), UNANSWERED_MAX)],
)
def test_so_many_failures_without_a_success_are_the_organisation_s(
    error: AuditEtlError, bound: int
) -> None:
    alone, kept, _ = losses()
    for n in range(bound - 1):
        alone.lose(failed(hours(n, n + 1), error))
    with pytest.raises(type(error)):
        alone.lose(failed(hours(bound, bound + 1), error))
    assert kept == []

    others, kept, _ = losses()
    others.lose(failed(hours(0, 1), error))
    assert (others.needs_proof, kept) == (True, [])
    others.load(hours(1, 2))
    assert (others.needs_proof, kept) == (False, [hours(0, 1)])
    for n in range(2, 2 * bound + 2):
        others.lose(failed(hours(n, n + 1), error))
    assert kept == [hours(0, 1), *(hours(n, n + 1) for n in range(2, 2 * bound + 2))]


def asked_in_parts(found: Losses, refused: Window | None, spoilt: Sequence[Window]) -> list[Window]:
    """The windows that are asked for: those of `refused` are refused, those of `spoilt` fail."""
    order = []
    parts = Parts(found, found.newest_first())
    while (window := parts.take()) is not None:
        order.append(window)
        bad = refused is not None and window.start < refused.end and refused.start < window.end
        fails = bad or any(window.overlaps(minute) for minute in spoilt)
        if fails:
            found.lose(failed(window, query_id="" if bad else "q"))
        else:
            found.load(window)
        parts.learn(found.get(window))
    parts.give_up()
    return order


@pytest.mark.parametrize("boundary", [0.5, 3, 14.2, 23.9, 24, 30, 71.99])
def test_the_first_instant_that_is_accepted_is_found_by_few_queries(boundary: float) -> None:
    found, _, _ = losses()
    days = [hours(24 * n, 24 * n + 24) for n in range(3)]
    found.load(hours(100, 101))
    for day in days:
        if day.start < hours(0, boundary).end:
            found.lose(failed(day, query_id=""))

    order = asked_in_parts(found, hours(0, boundary), [])

    [left] = joined(f.window for f in found.newest_first())
    assert left.start == BEGINS
    assert timedelta() <= left.end - hours(0, boundary).end < 2 * WINDOW_MIN
    assert len(order) <= 3 + ceil(log2(24 * 60)) * 2


@pytest.mark.parametrize("minute", [0, 1, 359, 360, 719, 719.5, 720, 1000, 1438, 1439])
def test_minutes_that_are_refused_are_found_amid_accepted_time(minute: float) -> None:
    found, _, _ = losses()
    found.load(hours(100, 101))
    found.lose(failed(hours(0, 24), query_id=""))
    bad = Window(BEGINS + minute * MINUTE, BEGINS + (minute + 1) * MINUTE)

    order = asked_in_parts(found, bad, [])

    [left] = joined(f.window for f in found.newest_first())
    assert bad in left
    assert left.length <= 4 * WINDOW_MIN
    assert len(order) <= 4 * ceil(log2(24 * 60))


def test_of_other_failures_all_halves_are_asked_for() -> None:
    found, _, _ = losses()
    found.load(hours(100, 101))
    found.lose(failed(hours(0, 24)))
    found.lose(failed(hours(24, 48)))
    spoilt = [Window(BEGINS + n * MINUTE, BEGINS + (n + 1) * MINUTE) for n in (5, 700, 2000)]

    asked_in_parts(found, None, spoilt)

    left = joined(f.window for f in found.newest_first())
    assert [minute in window for minute, window in zip(spoilt, left, strict=True)] == [True] * 3
    assert all(window.length < 3 * WINDOW_MIN for window in left)


def test_what_failed_before_is_told_of_until_it_is_loaded() -> None:
    known = FailedWindow(hours(3, 4), refused=False)
    old = FailedWindow(hours(0, 2), refused=True, excused=True)
    found, _, _ = losses(known, old)

    assert found.regions() == [hours(3, 4), hours(0, 2)]
    found.lose_again(failed(hours(0, 2), SourceBrokePromise("400"), ""))
    first = found.error()
    assert first is not None
    assert str(hours(3, 4)) in str(first)
    assert str(hours(0, 2)) not in str(first)
    assert first.exit_status == 69
    found.load(hours(3, 4))
    assert found.error() is None


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_so_many_spans_are_named_and_the_others_counted(count: int) -> None:
    found, _, _ = losses()
    found.load(hours(50, 51))
    for n in range(count):
        found.lose(failed(hours(2 * n, 2 * n + 1), SourceBrokePromise("no") if n == 0 else None))

    error = found.error()

    assert error is not None
    assert error.exit_status == 65
    assert str(error).count("(1h)") == min(count, NAMED_MAX)
    assert ("older spans" in str(error)) == (count > NAMED_MAX)


def taken(made: Agenda, *, newest: bool) -> Iterator[Window]:
    while (piece := made.take(newest=newest)) is not None:
        yield piece[0]


@pytest.mark.parametrize("newest", [False, True])
def test_an_agenda_gives_each_instant_once(newest: bool) -> None:
    spans = [hours(20, 33.5), hours(0, 7), hours(9, 10)]
    left = [OpenQuery(hours(3, 4), "q", BEGIN), OpenQuery(hours(21, 23), "r", BEGIN)]
    made = Agenda(spans, left, lambda: None, timedelta(hours=2))

    windows = list(taken(made, newest=newest))

    assert windows[:2] == [query.window for query in left]
    assert all(not a.overlaps(b) for a, b in pairwise(sorted(windows)))
    assert sum((w.length for w in windows), timedelta()) == timedelta(hours=21.5)
    assert all(any(w in span for span in spans) for w in windows)
    assert all(w.length <= timedelta(hours=2) for w in windows)
    ends = [w.end for w in windows[2:]]
    assert ends == sorted(ends, reverse=True) if newest else ends[:6] == sorted(ends[:6])


def test_the_newest_window_may_be_taken_between() -> None:
    made = Agenda([hours(0, 10)], [], lambda: None, timedelta(hours=4))

    order = [made.take(newest=newest) for newest in (False, True, False, True)]

    assert order == [
        (hours(0, 4), None),
        (hours(6, 10), None),
        (hours(4, 6), None),
        None,
    ]


@pytest.mark.parametrize("halves_max", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_what_a_run_has_not_found_the_next_ones_find(
    hostile: World, monkeypatch: pytest.MonkeyPatch, halves_max: int
) -> None:
    """A minute is looked for by few halves a run: the gap shrinks from run to run."""
    monkeypatch.setattr("etl.pipeline.HALVES_MAX", halves_max)
    hostile.settings = TICKS | {"AUDIT_ETL_MAX_WINDOW": "12h"}
    hostile.simulator.faults = Faults(bad_minute=600)
    lengths = []
    for _ in range(14):
        assert hostile.run().status == 69
        lengths.append(sum((gap.length for gap in gaps_of(hostile)), timedelta()))
        hostile.clock.move(minutes=15)

    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] < SMALL
    [gap] = gaps_of(hostile)
    assert in_time(hostile, Window(BEGIN, last_loaded(hostile)), gap) <= ids(hostile)
