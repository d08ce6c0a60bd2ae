"""Late arrivals are counted once each, by service and step, whatever dies on the way."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from etl.ledger import figures, lateness
from etl.ledger.lateness import BOUNDS, LateArrivals, LoadHistory, advice, bound_of
from etl.model import Load, PendingReceipt, Stream
from etl.window import Window
from tests.export.test_crashes import Died, dying_at
from tests.support.operator_actions import Files, delete_audits
from tests.support.places import Place
from tests.support.samples import (
    BEGIN,
    HOUR,
    LOADED_AT,
    STREAM,
    batch,
    draft,
    hours,
    load_into,
    record,
)

DAY = 24 * HOUR


def asked(window: Window, at: datetime) -> PendingReceipt:
    """A draft for a query that was created at an instant."""
    return PendingReceipt(
        STREAM, window, f"query of {at}", "settle", at, lambda: 3, lambda: LOADED_AT
    )


def load(place: Place, of: PendingReceipt, *records: dict[str, object]) -> int:
    pages = [batch(*records[n : n + 3]) for n in range(0, len(records), 3)]
    return load_into(place.destination, of, pages, lambda _: None).new_events


def late_in(place: Place) -> list[LateArrivals]:
    return lateness.arrivals(place.destination.ledger.engine, STREAM, BEGIN)


def test_what_is_new_in_time_that_was_loaded_is_late_by_service(place: Place) -> None:
    load(place, asked(hours(0, 24), BEGIN + DAY + HOUR), record("a", 1), record("b", 2))
    shown = [
        record("a", 1),
        record("b", 2),
        record("late 1", 23.5),
        record("late 2", 20, serviceName="SCIM"),
        record("late 3", 1, serviceName="SCIM"),
        record("nobody's", 1, serviceName=None),
        record("in time", 24),
    ]

    new = load(place, asked(hours(0, 48), BEGIN + DAY + 2 * HOUR), *shown)
    again = load(place, asked(hours(0, 48), BEGIN + 3 * DAY), *shown)

    assert (new, again) == (5, 0)
    assert late_in(place) == [
        LateArrivals("", DAY, 1),
        LateArrivals("ContactCenter", HOUR, 1),
        LateArrivals("SCIM", HOUR, 1),
        LateArrivals("SCIM", DAY, 1),
    ]
    assert figures.new_events(place.destination.ledger.engine, STREAM, BEGIN) == 7


def test_counts_add_up_from_load_to_load(place: Place) -> None:
    load(place, draft(hours(0, 24)))

    for name in ("x", "y"):
        load(place, asked(hours(0, 24), BEGIN + 2 * DAY), record(name, 23))

    assert late_in(place) == [LateArrivals("ContactCenter", DAY, 2)]


def test_what_another_stream_has_loaded_makes_nothing_late(place: Place) -> None:
    load(place, replace(asked(hours(0, 24), BEGIN), stream=Stream("default", "SCIM")))

    load(place, asked(hours(0, 24), BEGIN + 2 * DAY), record("a", 1))

    assert late_in(place) == []


def test_what_was_removed_here_is_restored_and_not_late(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    days = [
        [record("a", 1), record("b", 2)],
        [record("c", 25), record("d", 26), record("d", 26), record("c", 25)],
    ]
    load(place, asked(hours(0, 24), BEGIN + DAY + HOUR), *days[0])
    load(place, asked(hours(24, 48), BEGIN + 2 * DAY + HOUR), *days[1])
    remove_second_day(place, "d")
    shown = [*days[0], record("late", 23), *days[1]]

    new = load(place, asked(hours(0, 48), BEGIN + 3 * DAY), *shown)
    again = load(place, asked(hours(0, 48), BEGIN + 4 * DAY), *shown, record("later", 26))

    lost = 2 if place.kind.one_writer else 1
    assert (new, again) == (lost + 1, 1)
    assert late_in(place) == [LateArrivals("ContactCenter", DAY, 2)]
    [told] = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert f"{lost} audits are new although fewer were held than had been loaded" in told


def remove_second_day(place: Place, audit_id: str) -> None:
    """Remove an audit of the second day by hand; of a lake, the day's file."""
    if place.kind.one_writer:
        files = Files(place)
        files.delete(files.path("2026-03-02"))
    else:
        delete_audits(place.destination.ledger.engine, f"{{id}} = '{audit_id}'")


def test_an_audit_that_an_answer_holds_twice_is_not_taken_for_a_loss(place: Place) -> None:
    shown = [record("a", 1), record("a", 1), record("b", 2), record("a", 1), record("b", 2)]
    load(place, asked(hours(0, 24), BEGIN + DAY + HOUR), *shown)
    receipt = place.destination.ledger.last_receipt(STREAM)

    load(place, asked(hours(0, 24), BEGIN + 2 * DAY), *shown, record("late", 3))

    assert receipt is not None
    assert (receipt.events, receipt.repeated) == (5, 3)
    assert late_in(place) == [LateArrivals("ContactCenter", DAY, 1)]


def test_a_receipt_of_0_1_0_tells_a_loss_too(place: Place) -> None:
    load(place, asked(hours(24, 48), BEGIN + 2 * DAY), record("c", 25), record("d", 26))
    with place.destination.ledger.engine.begin() as connection:
        connection.execute(sa.text("UPDATE receipts SET repeated = NULL"))
    remove_second_day(place, "d")

    load(place, asked(hours(24, 48), BEGIN + 3 * DAY), record("c", 25), record("d", 26))

    assert late_in(place) == []


spans = st.tuples(st.integers(0, 40), st.integers(1, 20)).map(lambda s: hours(s[0], s[0] + s[1]))


@given(
    windows=st.lists(spans, max_size=8),
    lost=st.sets(st.integers(0, 7)),
    hour=st.integers(0, 61),
)
def test_the_last_load_of_an_audit_s_time_decides(
    windows: list[Window], lost: set[int], hour: int
) -> None:
    loads = [Load(window, 100 + n) for n, window in enumerate(windows)]
    moment = BEGIN + hour * HOUR

    short = {load for n, load in enumerate(loads) if n in lost}
    counted = {load.window: load.events for load in loads if load not in short}
    past = LoadHistory(STREAM, loads, BEGIN + 99 * DAY)

    found = past.arrived([(moment, "SCIM")], lambda window: counted.get(window, 0))

    around = [load for load in loads if moment in load.window]
    is_lost = bool(around) and counted.get(around[-1].window, 0) < around[-1].events
    assert found.restored == (1 if is_lost else 0)
    assert found.late.total() == (1 if around and not is_lost else 0)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_dying_at_any_step_counts_each_late_audit_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place.cut(group_bytes=4_000)
    engine = place.destination.ledger.engine
    shown = [record(f"a{n:02}", n) for n in range(12)]
    step, finished = 0, False
    while not finished:
        step += 1
        load(place, draft(hours(0, 12)), shown[0])
        again = asked(hours(0, 24), BEGIN + 2 * DAY)
        try:
            with dying_at(step, engine, monkeypatch):
                load(place, again, *shown)
            finished = True
        except Died:
            engine.dispose()
        load(place, again, *shown)

        assert sum(late.audits for late in late_in(place)) == 11
        place.empty()
    assert step > 10


@given(st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=400)))
def test_a_step_holds_what_is_later_than_its_bound(length: timedelta) -> None:
    over = timedelta(seconds=bound_of(length))

    assert over in BOUNDS
    assert over < length or over == BOUNDS[0]
    assert all(bound <= over or bound >= length for bound in BOUNDS)


@pytest.mark.parametrize(
    ("late", "says"),
    [
        ([], "fit: nothing came late"),
        ([LateArrivals("a", timedelta(0), 2)], "fit: 2 of 1000 new audits came late"),
        ([LateArrivals("a", HOUR, 500)], "the latest more than 1h"),
        ([LateArrivals("a", timedelta(0), 12)], "a longer lag would have them in time"),
        ([LateArrivals("a", 14 * DAY, 1)], "1 audits came later than the longest lookback, 14d"),
    ],
)
def test_the_advice_follows_from_the_counts(late: list[LateArrivals], says: str) -> None:
    assert says in advice(late, 1000, 14 * DAY, 14 * DAY)


@pytest.mark.parametrize("late", [[], [LateArrivals("a", timedelta(0), 2)]])
def test_lookbacks_are_not_said_to_fit_before_they_have_looked_back(
    late: list[LateArrivals],
) -> None:
    assert advice(late, 1000, 14 * DAY, timedelta(0)).startswith("it is not known whether")
    assert "fit so far, with 3d looked back: " in advice(late, 1000, 14 * DAY, 3 * DAY)


def test_a_count_of_old_months_is_left_out(place: Place) -> None:
    load(place, draft(hours(0, 24)))
    load(place, asked(hours(0, 24), BEGIN + 2 * DAY), record("a", 1))

    next_month = LOADED_AT + 31 * DAY
    assert lateness.arrivals(place.destination.ledger.engine, STREAM, next_month) == []


def test_the_table_has_a_row_a_step_not_one_an_audit(place: Place) -> None:
    load(place, draft(hours(0, 24)))
    load(place, asked(hours(0, 24), BEGIN + 9 * DAY), *(record(f"{n:03}", 1) for n in range(90)))

    with place.destination.ledger.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT audits FROM late_arrivals")).scalars().all()
    assert rows == [90]
