"""When a schedule fires."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.config import Schedule
from etl.schedules import last_firing, next_firing, trigger
from tests.support.samples import BEGIN

DAY = timedelta(days=1)

lengths = st.integers(1, 10**6).map(lambda seconds: timedelta(seconds=seconds))
moments = st.integers(0, 10**9).map(lambda seconds: BEGIN + timedelta(seconds=seconds))


def schedule(when: str | timedelta) -> Schedule:
    """A schedule with a cron line or an interval."""
    if isinstance(when, str):
        return Schedule(name="a", cron=when, lookback=DAY)
    return Schedule(name="a", interval=when, lookback=DAY)


@pytest.mark.parametrize(
    ("when", "now", "fired"),
    [
        ("*/15 * * * *", BEGIN + timedelta(minutes=44), BEGIN + timedelta(minutes=30)),
        ("*/15 * * * *", BEGIN + timedelta(minutes=45), BEGIN + timedelta(minutes=45)),
        ("17 3 * * *", BEGIN, BEGIN - DAY + timedelta(hours=3, minutes=17)),
        ("0 0 1 * *", BEGIN + 30 * DAY, BEGIN),
        ("0 0 1 jan *", BEGIN, datetime(2026, 1, 1, tzinfo=BEGIN.tzinfo)),
        ("0 0 29 feb *", BEGIN, None),
        # 2026-03-01 is a Sunday: either day fires, as in cron.
        ("41 4 1 * mon", BEGIN, BEGIN - 6 * DAY + timedelta(hours=4, minutes=41)),
        ("41 4 1 * mon", BEGIN + DAY, BEGIN + timedelta(hours=4, minutes=41)),
        ("41 4 1 * mon", BEGIN + 2 * DAY, BEGIN + DAY + timedelta(hours=4, minutes=41)),
        ("0 0 31 feb mon", BEGIN, BEGIN - 6 * DAY),
        # A field that begins with * restricts nothing of the other one.
        ("0 0 */2 * mon", BEGIN, BEGIN - 6 * DAY),
        (timedelta(minutes=15), BEGIN + timedelta(minutes=44), BEGIN + timedelta(minutes=30)),
        (timedelta(minutes=15), BEGIN + timedelta(minutes=45), BEGIN + timedelta(minutes=45)),
    ],
)
def test_a_schedule_last_fired_at_or_before_now(
    when: str | timedelta, now: datetime, fired: datetime | None
) -> None:
    assert last_firing(schedule(when), now) == fired


@pytest.mark.parametrize("when", ["*/15 * * * *", timedelta(minutes=15)])
def test_a_schedule_next_fires_after_now(when: str | timedelta) -> None:
    assert next_firing(schedule(when), BEGIN) == BEGIN + timedelta(minutes=15)


@given(interval=lengths, at=moments)
def test_the_daemon_is_woken_when_a_schedule_fires(interval: timedelta, at: datetime) -> None:
    every = schedule(interval)
    due = next_firing(every, at)

    woken = trigger(every).get_next_fire_time(None, at + timedelta(microseconds=1))

    assert due is not None
    assert woken == due
    assert last_firing(every, due) == due


def test_the_daemon_fires_on_either_day_of_a_cron_line() -> None:
    every = schedule("41 4 1 * mon")
    fires: list[datetime] = []
    moment: datetime | None = BEGIN
    while (moment := trigger(every).get_next_fire_time(moment, moment)) and len(fires) < 60:
        fires.append(moment)
        moment += timedelta(minutes=1)

    assert {fire.day == 1 or fire.weekday() == 0 for fire in fires} == {True}
    assert fires == sorted(set(fires))
    assert (fires[-1] - fires[0]) / len(fires) < 7 * DAY
