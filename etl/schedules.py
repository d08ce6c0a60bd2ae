"""When a schedule fires. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

#: What intervals are counted from.
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: How far back a last firing is searched for, the shortest first.
_SEARCH = tuple(timedelta(days=days) for days in (1 / 24, 1, 8, 32, 367))


class Schedule(Protocol):
    """A line of `[[schedules]]`; it has a cron line or an interval.

    Attributes:
        name: what receipts call it.
        cron: when it fires, in UTC; empty if it has an interval.
        interval: how often it fires, counted from `EPOCH`; None if it has a cron line.
        lookback: how much loaded time it asks for again.
    """

    name: str
    cron: str
    interval: timedelta | None
    lookback: timedelta


def cron_trigger(line: str) -> BaseTrigger:
    """What fires as cron does by this line of five fields, in UTC.

    A line that restricts both the day of the month and the day of the week fires on either, as in
    cron; a field that begins with * restricts nothing.

    Raises:
        ValueError: it is no such line; the message says why.
    """
    both = CronTrigger.from_crontab(line, timezone=UTC)
    minute, hour, day, month, weekday = line.split()
    if day.startswith("*") or weekday.startswith("*"):
        return both
    lines = (minute, hour, day, month, "*"), (minute, hour, "*", month, weekday)
    return OrTrigger([CronTrigger.from_crontab(" ".join(one), timezone=UTC) for one in lines])


def trigger(schedule: Schedule) -> BaseTrigger:
    """What fires in APScheduler when the schedule does."""
    if schedule.interval is None:
        return cron_trigger(schedule.cron)
    seconds = schedule.interval.total_seconds()
    return IntervalTrigger(seconds=seconds, start_date=EPOCH, timezone=UTC)


def last_firing(schedule: Schedule, now: datetime) -> datetime | None:
    """The last instant at or before `now`, UTC, at which it fired; None if over a year ago."""
    if schedule.interval is not None:
        return now - (now - EPOCH) % schedule.interval
    cron = cron_trigger(schedule.cron)
    for reach in _SEARCH:
        fired: datetime | None = None
        candidate = cron.get_next_fire_time(None, now - reach)
        while candidate is not None and candidate <= now:
            fired = candidate
            candidate = cron.get_next_fire_time(fired, fired + timedelta(seconds=1))
        if fired is not None:
            return fired
    return None


def next_firing(schedule: Schedule, now: datetime) -> datetime | None:
    """The first instant after `now`, UTC, at which it fires; None if it never does."""
    if schedule.interval is not None:
        return now - (now - EPOCH) % schedule.interval + schedule.interval
    cron = cron_trigger(schedule.cron)
    fires: datetime | None = cron.get_next_fire_time(now, now + timedelta(microseconds=1))
    return fires
