"""`run` and `backfill`: streams up to now, or a span of them. Every effect goes through `App`."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from etl import pipeline
from etl.app import App
from etl.destinations import Fence
from etl.due import Due, Lookback, due, loaded_to, refused_to
from etl.errors import (
    ConfigurationError,
)
from etl.genesys.query import AuditSource
from etl.ledger import claims, queries
from etl.model import (
    BACKFILL,
    MANUAL,
    RETENTION,
    WRITER,
    Receipt,
    Stream,
    Watermark,
)
from etl.operations import warnings
from etl.operations.selection import latest_end, reachable, require_past, signed_in
from etl.operations.streams import Failure, Watch, held, in_turn, job_of
from etl.schedules import Schedule, last_firing
from etl.window import (
    TIME_TOLERANCE,
    Window,
    floor_second,
)


def run(
    app: App,
    *,
    organization: str | None = None,
    schedule: str | None = None,
    lookback: timedelta | None = None,
    wait: timedelta = timedelta(0),
    watch: Watch = lambda _: None,
) -> Generator[Receipt | Failure, None, None]:
    """Bring every stream up to now less the lag, once.

    A stream's failure is given as such and holds up no other. A service that the organisation
    refuses, while it lets others be exported, is warned of, and its watermark stays.

    Args:
        app: the configuration at work.
        organization: whose streams; None: everybody's.
        schedule: whose lookback to use. None: the shortest one, and whatever part of another
            schedule's lookback has not been asked for since that one last fell due.
        lookback: used instead of any schedule's; without `schedule` the receipts say `manual`.
        wait: how long to wait for a stream that another process exports.
        watch: called after each page.

    Raises:
        ConfigurationError: no organisation is configured, or no such schedule.
        DestinationUnavailable: it concerns all streams.
        Stopped: a signal asked to stop; what was loaded is kept.
    """
    app.settings.require_credentials()
    streams = [s for s in app.streams() if organization in {None, s.organization}]
    _require_started(app, streams)
    if schedule is not None:
        lookback = _named(app, schedule).lookback if lookback is None else lookback
    elif lookback is not None:
        schedule = MANUAL
    destination = app.destination()

    def export(stream: Stream) -> Iterator[Receipt]:
        source = signed_in(app, stream.organization)
        lease_name = WRITER if app.place.one_writer else str(stream)
        with held(app, lease_name, wait) as fence:
            _take_back(app, stream, source, fence)
            watermark = app.ledger.begin(stream, _begin(app, stream, source), source.now())
            watermark = _without_refused(app, stream, watermark, source)
            until = latest_end(app, source)
            found = _due(app, stream, watermark, until, lookback)
            if found.spans:
                warnings.warn_of_retention(app, stream.organization, min(found.spans))
            for failed in found.failed:
                if failed.excused:
                    warnings.warn_of_refused_time(app, stream, failed.window)
            job = job_of(app, stream, destination, schedule or found.schedule, fence, watch)
            job = replace(job, settling=_settling(app, lookback))
            yield from pipeline.catch_up(job, found.spans, found.failed)

    return in_turn(app, streams, export)


def backfill(
    app: App,
    span: Window,
    streams: Sequence[Stream],
    *,
    wait: timedelta = timedelta(0),
    watch: Watch = lambda _: None,
) -> Iterator[Receipt | Failure]:
    """Export `span` of `streams`, whatever their watermarks say; see `run` for the rest.

    Into SQL no lease is taken: it may run beside the daemon, and both load each audit once.
    """
    destination = app.destination()

    def export(stream: Stream) -> Iterator[Receipt]:
        require_past(app, span, stream)
        with held(app, WRITER if app.place.one_writer else None, wait) as fence:
            job = job_of(app, stream, destination, BACKFILL, fence, watch)
            yield from pipeline.backfill(job, span)

    return in_turn(app, streams, export)


def _require_started(app: App, streams: Iterable[Stream]) -> None:
    """Refuse a `start` in the future: by the organisations' clocks, should ours be behind."""
    try:
        app.settings.require_started(app.now())
    except ConfigurationError:
        times = [source.now() for source in reachable(app, streams)]
        app.settings.require_started(max(times, default=app.now()))


def _begin(app: App, stream: Stream, source: AuditSource) -> datetime:
    """Where a new stream starts.

    Where the configuration says, or where a stream left off that had its services: `*` before a
    named service, any other one before `*`. Else the time in between would be asked for by none.
    """
    begin = min(latest_end(app, source), app.settings.starts_at(source.now()))
    if app.ledger.watermark(stream) is not None:
        return begin
    before = [
        watermark.reached
        for other in app.ledger.streams()
        if other.organization == stream.organization
        and None in {stream.service, other.service}
        and (watermark := app.ledger.watermark(other))
    ]
    kept = floor_second(source.now() - RETENTION)
    return min([begin, *(max(watermark, kept) for watermark in before)])


def _take_back(app: App, stream: Stream, source: AuditSource, fence: Fence) -> None:
    """Take back what is claimed of time that is not over by the organisation's own clock."""
    claimed = claims.claimed_until(app.engine, stream)
    if claimed is None or claimed <= source.now() + TIME_TOLERANCE:
        return
    now = source.ask_time()  # ours may have stood still meanwhile
    if now is None:
        warnings.warn_of_claim(app, stream, claimed)
    elif claimed > now + TIME_TOLERANCE:
        back = claims.take_back(app.engine, stream, now, _begin(app, stream, source), fence)
        warnings.warn_of_what_is_taken_back(stream, now, back)


def _due(
    app: App, stream: Stream, watermark: Watermark, until: datetime, lookback: timedelta | None
) -> Due:
    """What to ask for.

    Args:
        lookback: used instead of every schedule's, if given.
    """
    ledger = app.ledger
    loaded = ledger.loaded_after(stream, watermark.reached)
    last = loaded_to(watermark, loaded)
    shortest, *others = sorted(app.settings.schedules, key=lambda schedule: schedule.lookback)
    longer = (
        Lookback(other.name, other.lookback, ledger.covered(stream, fired, last - other.lookback))
        for other in (others if lookback is None else ())
        if (fired := last_firing(other, app.time_of(stream.organization))) is not None
    )
    recent = Lookback(shortest.name, shortest.lookback if lookback is None else lookback)
    return due(watermark, loaded, queries.failed(app.engine, stream), until, recent, longer)


def _without_refused(
    app: App, stream: Stream, watermark: Watermark, source: AuditSource
) -> Watermark:
    """The watermark; where refused time was given up in the configuration, it begins after that."""
    refused = refused_to(queries.failed(app.engine, stream), watermark)
    if not watermark.begins_at < refused <= app.settings.starts_at(source.now()):
        return watermark
    warnings.warn_of_later_begin(stream, Window(watermark.begins_at, refused))
    return app.ledger.begin_later(stream, refused, source.now())


def _settling(app: App, lookback: timedelta | None) -> timedelta:
    """How long after its time an audit may become visible, at the latest: see `Job.settling`."""
    lookbacks = [schedule.lookback for schedule in app.settings.schedules]
    return app.settings.lag + max([*lookbacks, lookback or timedelta(0)])


def _named(app: App, name: str) -> Schedule:
    for schedule in app.settings.schedules:
        if schedule.name == name:
            return schedule
    names = ", ".join(schedule.name for schedule in app.settings.schedules)
    raise ConfigurationError(f"there is no schedule {name!r}; the configuration has: {names}")
