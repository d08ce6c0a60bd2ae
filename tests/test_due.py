"""What is due: new time, then gaps, then lookbacks that were not asked for since they fell due."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.due import Lookback, due, horizon, unasked
from etl.model import FailedWindow, Watermark
from etl.window import Window, joined
from tests.support.samples import BEGIN, hours

HOUR = timedelta(hours=1)
DAY = 24 * HOUR
FREQUENT = Lookback("frequent", HOUR)


def at(hour: float) -> datetime:
    return BEGIN + hour * HOUR


def watermark(begin: float, reached: float) -> Watermark:
    return Watermark(at(begin), at(reached), at(reached))


def failed(start: float, end: float, *, refused: bool = False) -> FailedWindow:
    return FailedWindow(hours(start, end), refused=refused)


@pytest.mark.parametrize(
    ("ours", "reached"),
    [(60, 50), (55, 45), (54, 50), (-9000, 50), (61, 50), (9000, 50)],
    ids=["right", "a little behind", "behind", "far behind", "a little ahead", "far ahead"],
)
def test_a_window_ends_by_the_organisation_s_clock(ours: int, reached: int) -> None:
    minute = timedelta(minutes=1)

    found = horizon(BEGIN + 60 * minute, BEGIN + ours * minute, 10 * minute)

    assert found == BEGIN + reached * minute


def test_a_run_asks_from_the_watermark_less_the_lookback_but_never_before_the_beginning() -> None:
    assert due(watermark(0, 10), [], [], at(12), FREQUENT, []).spans == [hours(9, 12)]
    assert due(watermark(9.5, 10), [], [], at(12), FREQUENT, []).spans == [hours(9.5, 12)]
    assert due(watermark(0, 10), [], [], at(9), FREQUENT, []).spans == []


def test_what_was_loaded_beyond_a_gap_is_not_asked_for_again_and_the_gap_comes_second() -> None:
    found = due(watermark(0, 10), [hours(12, 20)], [], at(21), FREQUENT, [])

    assert found.spans == [hours(19, 21), hours(10, 12)]
    assert found.schedule == "frequent"


def test_a_longer_lookback_asks_for_what_was_not_asked_since_it_fired_and_names_the_run() -> None:
    settle = Lookback("settle", 3 * HOUR, [hours(8, 9)])
    reconcile = Lookback("reconcile", 9 * HOUR, [hours(0, 20)])

    found = due(watermark(0, 10), [], [], at(11), FREQUENT, [settle, reconcile])

    assert found.spans == [hours(9, 11), hours(7, 8)]
    assert found.schedule == "settle"


def test_what_failed_comes_last_and_is_excused_where_the_organisation_is_too_young() -> None:
    known = [failed(0, 1, refused=True), failed(1, 2, refused=True), failed(5, 6, refused=True)]

    found = due(watermark(0, 0), [], known, at(10), FREQUENT, [])

    assert found.spans == [hours(2, 5), hours(6, 10)]
    assert found.failed == [replace(one, excused=one.window.end <= at(2)) for one in known]


def test_loaded_time_that_failed_stays_due_when_the_lookback_has_moved_on() -> None:
    known = [failed(1, 2), failed(9, 10)]

    found = due(watermark(0, 10), [], known, at(11), FREQUENT, [])

    assert found.failed == known
    assert found.spans == [hours(10, 11)]


def test_a_lookback_that_was_asked_for_since_the_firing_is_not_asked_for_again() -> None:
    def left(*asked: Window) -> list[Window]:
        return unasked(Lookback("settle", 3 * DAY, asked), BEGIN, BEGIN + 10 * DAY)

    assert left() == [hours(7 * 24, 10 * 24)]
    assert left(hours(0, 10 * 24)) == []
    assert left(hours(7 * 24, 8 * 24), hours(9 * 24, 9 * 24 + 1)) == [
        hours(8 * 24, 9 * 24),
        hours(9 * 24 + 1, 10 * 24),
    ]


def test_a_lookback_never_reaches_before_the_stream_begins() -> None:
    settle = Lookback("settle", 3 * DAY)

    assert unasked(settle, BEGIN, BEGIN + DAY) == [hours(0, 24)]
    assert unasked(settle, BEGIN, BEGIN) == []


spots = st.integers(0, 200)
spans = st.tuples(spots, st.integers(1, 50)).map(lambda at: hours(at[0], at[0] + at[1]))


@given(spots, st.lists(spans), st.lists(spans), st.integers(0, 300), st.integers(0, 40))
def test_all_time_without_a_receipt_up_to_the_horizon_is_asked_for_once(
    reached: int, loaded: list[Window], bad: list[Window], until: int, lookback: int
) -> None:
    beyond = [window for window in joined(loaded) if window.start > at(reached)]
    known = [FailedWindow(window, refused=False) for window in joined(bad)]
    shortest = Lookback("frequent", lookback * HOUR)

    found = due(watermark(0, reached), beyond, known, at(until), shortest, [])

    asked = [*found.spans, *(one.window for one in found.failed)]
    assert not any(a.overlaps(b) for n, a in enumerate(found.spans) for b in found.spans[:n])
    for hour in range(reached, until):
        piece = hours(hour, hour + 1)
        assert any(piece in span for span in [*joined(asked), *beyond])
