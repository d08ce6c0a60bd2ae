"""Late arrivals are counted once each, by service and step, whatever dies on the way."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from etl import lateness
from etl.destinations import sql as sql_module
from etl.lateness import BOUNDS, LateArrivals, advice, bound_of
from etl.progress import Draft
from etl.window import Window
from tests.conftest import Place
from tests.samples import BEGIN, HOUR, LOADED_AT, STREAM, batch, draft, hours, load_into, record
from tests.test_crashes import Died, dying_at

DAY = 24 * HOUR


def asked(window: Window, at: datetime) -> Draft:
    """A draft for a query that was created at an instant."""
    return Draft(STREAM, window, f"query of {at}", "settle", at, lambda: 3)


def load(place: Place, of: Draft, *records: dict[str, object]) -> int:
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
    assert place.destination.ledger.new_events(STREAM, BEGIN) == 7


def test_counts_add_up_from_load_to_load(place: Place) -> None:
    load(place, draft(hours(0, 24)))

    for name in ("x", "y"):
        load(place, asked(hours(0, 24), BEGIN + 2 * DAY), record(name, 23))

    assert late_in(place) == [LateArrivals("ContactCenter", DAY, 2)]


def test_what_another_stream_has_loaded_makes_nothing_late(place: Place) -> None:
    load(place, Draft(type(STREAM)("default", "SCIM"), hours(0, 24), "q", "s", BEGIN, lambda: 1))

    load(place, asked(hours(0, 24), BEGIN + 2 * DAY), record("a", 1))

    assert late_in(place) == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_dying_at_any_step_counts_each_late_audit_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_module, "GROUP_BYTES", 4_000)
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
    assert says in advice(late, 1000, 14 * DAY)


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
