"""When a schedule fires, and which of its lookback has not been asked for since. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from etl.window import Window, gaps, spanning

#: What intervals are counted from.
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: How far back a last firing is searched for, the shortest first.
_SEARCH = tuple(timedelta(days=days) for days in (1 / 24, 1, 8, 32, 367))


class Schedule(Protocol):
    """A line of `[[schedules]]`; it has a cron line or an interval."""

    @property
    def name(self) -> str:
        """What receipts call it."""
        ...

    @property
    def cron(self) -> str:
        """When it fires, in UTC; empty if it has an interval."""
        ...

    @property
    def interval(self) -> timedelta | None:
        """How often it fires, counted from `EPOCH`; None if it has a cron line."""
        ...

    @property
    def lookback(self) -> timedelta:
        """How much loaded time it asks for again."""
        ...

    @property
    def jitter(self) -> timedelta:
        """By how much the daemon puts a firing off at most."""
        ...


def trigger(schedule: Schedule) -> CronTrigger | IntervalTrigger:
    """What fires in APScheduler when the schedule does, or up to its jitter later."""
    jitter = schedule.jitter.total_seconds() or None
    if schedule.interval is None:
        cron = CronTrigger.from_crontab(schedule.cron, timezone=UTC)
        cron.jitter = jitter
        return cron
    seconds = schedule.interval.total_seconds()
    return IntervalTrigger(seconds=seconds, start_date=EPOCH, timezone=UTC, jitter=jitter)


def last_firing(schedule: Schedule, now: datetime) -> datetime | None:
    """The last instant at or before `now`, UTC, at which it fired; None if over a year ago."""
    if schedule.interval is not None:
        return now - (now - EPOCH) % schedule.interval
    cron = CronTrigger.from_crontab(schedule.cron, timezone=UTC)
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
    cron = CronTrigger.from_crontab(schedule.cron, timezone=UTC)
    fires: datetime | None = cron.get_next_fire_time(now, now + timedelta(microseconds=1))
    return fires


def unasked(
    schedule: Schedule, begin: datetime, watermark: datetime, asked_since: Iterable[Window]
) -> list[Window]:
    """The part of the schedule's lookback that no query since its last firing has asked for.

    Args:
        schedule: whose lookback.
        begin: where the stream starts.
        watermark: how far the stream is sure.
        asked_since: windows whose query was created at that firing or later.
    """
    covered = list(asked_since)
    return [
        gap
        for span in spanning(max(begin, watermark - schedule.lookback), watermark)
        for gap in gaps(covered, span)
    ]
