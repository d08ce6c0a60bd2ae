"""What the commands do: run, backfill, the plan of one, verify. Every effect goes through `App`."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from etl import pipeline
from etl.app import App
from etl.destinations import AnyDestination, Fence
from etl.due import Due, Lookback, due, horizon, loaded_to, refused_to
from etl.errors import (
    AuditEtlError,
    AuditTooLarge,
    ConfigurationError,
    DestinationUnavailable,
    LeaseHeld,
    ServiceRefused,
    SourceBrokePromise,
    SourceUnavailable,
    Stopped,
    UsageError,
)
from etl.genesys.query import AuditSource
from etl.job import Job, PageProgress
from etl.ledger import claims, leases, queries
from etl.ledger.leases import Lease
from etl.model import (
    BACKFILL,
    MANUAL,
    RETENTION,
    WRITER,
    Receipt,
    Stream,
    Watermark,
    least_requests,
)
from etl.operations import warnings
from etl.operations.recognition import recognise
from etl.operations.verify import Verdict, Verifier
from etl.schedules import Schedule, last_firing
from etl.window import (
    TIME_TOLERANCE,
    Window,
    by_density,
    floor_second,
    iso_utc,
)

#: A window of one page that took longer tells of an outage or a pause, not of the query.
QUERY_SECONDS_MAX: Final = 60

Watch = Callable[[PageProgress], None]
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Failure:
    """A stream that could not be brought up to date; the others were tried all the same."""

    stream: Stream
    error: AuditEtlError


@dataclass(frozen=True, slots=True)
class Planned:
    """One window of a backfill that is only planned.

    Attributes:
        events: audits that it may hold, by the density of what was loaded; None if unknown.
        requests: the least requests that it costs: a query, a poll and its pages.
    """

    stream: Stream
    window: Window
    events: int | None
    requests: int


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
        source = _signed_in(app, stream.organization)
        lease_name = WRITER if app.place.one_writer else str(stream)
        with _held(app, lease_name, wait) as fence:
            _take_back(app, stream, source, fence)
            watermark = app.ledger.begin(stream, _begin(app, stream, source), source.now())
            watermark = _without_refused(app, stream, watermark, source)
            until = _horizon(app, source)
            found = _due(app, stream, watermark, until, lookback)
            if found.spans:
                warnings.warn_of_retention(app, stream.organization, min(found.spans))
            for failed in found.failed:
                if failed.excused:
                    warnings.warn_of_refused_time(app, stream, failed.window)
            job = _job(app, stream, destination, schedule or found.schedule, fence, watch)
            job = replace(job, settling=_settling(app, lookback))
            yield from pipeline.catch_up(job, found.spans, found.failed)

    return _in_turn(app, streams, export)


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
        _require_past(app, span, stream)
        with _held(app, WRITER if app.place.one_writer else None, wait) as fence:
            job = _job(app, stream, destination, BACKFILL, fence, watch)
            yield from pipeline.backfill(job, span)

    return _in_turn(app, streams, export)


def verify(
    app: App,
    span: Window,
    streams: Sequence[Stream],
    *,
    repair: bool,
    wait: timedelta = timedelta(0),
    watch: Watch = lambda _: None,
) -> Iterator[Verdict | Failure]:
    """Ask the source again for `span` of `streams` and compare ids; with `repair`, load as well.

    It costs the requests that a backfill of the span costs. Without a repair nothing is loaded and
    no lease is needed. A stream of which the organisation no longer shows all that it showed before
    fails after its verdicts. See `run` for the rest.

    Raises:
        ConfigurationError: there is no destination to compare; see also `run`.
    """
    app.require_tables()
    destination = app.destination()

    def export(stream: Stream) -> Iterator[Verdict]:
        _require_past(app, span, stream)
        needs_lease = repair and app.place.one_writer
        found: deque[Verdict] = deque()
        with (
            _held(app, WRITER if needs_lease else None, wait) as fence,
            closing(Verifier(destination, repair=repair, tell=found.append)) as verifier,
        ):
            job = _job(app, stream, verifier, BACKFILL, fence, watch)
            unshown, failure = 0, ""
            try:
                for _ in pipeline.backfill(job, span):
                    verdict = found.popleft()
                    unshown += verdict.unshown
                    yield verdict
            except (SourceUnavailable, SourceBrokePromise, AuditTooLarge) as error:
                if not unshown:
                    raise
                failure = f". Besides, {error}"
            if unshown:
                raise SourceBrokePromise(f"{stream}: {_unshown_text(unshown)}{failure}")

    return _in_turn(app, streams, export)


def _unshown_text(unshown: int) -> str:
    return (
        f"the organisation does not show {unshown} audits that it showed before, though it was "
        "asked twice. They stay in the destination, --json names them as extra: ask Genesys about "
        "them"
    )


def _require_past(app: App, span: Window, stream: Stream) -> None:
    warnings.warn_of_retention(app, stream.organization, span)
    latest = _horizon(app, _signed_in(app, stream.organization))
    if span.end > latest:
        raise UsageError(_too_late(span.end, latest))


def _in_turn(
    app: App, streams: Sequence[Stream], export: Callable[[Stream], Iterator[Outcome]]
) -> Generator[Outcome | Failure, None, None]:
    """Export the streams one after the other; one that fails is told of and holds up no other."""
    refused: list[tuple[Stream, ServiceRefused]] = []
    exported: set[str] = set()
    for stream in streams:
        try:
            recognise(app, stream.organization)
            yield from export(stream)
            exported.add(stream.organization)
        except (Stopped, DestinationUnavailable):
            raise
        except ServiceRefused as error:
            refused.append((stream, error))
        except AuditEtlError as error:
            yield Failure(stream, error)
    for stream, refusal in refused:
        if stream.organization in exported:
            warnings.warn_of_refusal(app, stream, refusal)
        else:
            yield Failure(stream, refusal)


def _job(
    app: App,
    stream: Stream,
    destination: AnyDestination,
    schedule: str,
    fence: Fence,
    watch: Watch,
) -> Job:
    source = app.source(stream.organization)
    last = destination.ledger.last_receipt(stream)
    if last is not None and least_requests(last.events + last.rejects) == least_requests(0):
        took = (last.loaded_at - last.started_at).total_seconds()
        if 0 <= took <= QUERY_SECONDS_MAX:
            # A process that has just begun knows by that when the first poll is worth its request.
            source.expect(took)
    return Job(
        stream=stream,
        source=source,
        destination=destination,
        schedule=schedule,
        max_window=app.settings.max_window,
        fence=fence,
        watch=watch,
        late=app.observer.came_late if app.observer else None,
        odd=app.observer.answered_oddly if app.observer else None,
    )


def plan(app: App, span: Window, streams: Sequence[Stream]) -> list[Planned]:
    """The windows that a backfill of `span` would ask for; nothing is asked."""
    readable = app.has_tables()
    return [
        planned
        for stream in streams
        for planned in _planned(
            stream, span, app.ledger.density(stream) if readable else None, app.settings.max_window
        )
    ]


def _planned(
    stream: Stream, span: Window, density: float | None, longest: timedelta
) -> Iterator[Planned]:
    for window in by_density(span, lambda: density, longest):
        events = None if density is None else round(density * window.length.total_seconds())
        yield Planned(stream, window, events, least_requests(events or 0))


def span_of(
    app: App, start: datetime, end: datetime | None, streams: Sequence[Stream] = ()
) -> Window:
    """The span from `start` to `end`, or to the latest instant that can be exported of `streams`.

    That is told by the organisations, which are signed in to; by our clock if there are none.

    Raises:
        UsageError: the span is empty, or reaches later than now less the lag.
    """
    horizons = [_horizon(app, source) for source in _reachable(app, streams)]
    latest = min(horizons, default=horizon(app.now(), app.now(), app.settings.lag))
    end = latest if end is None else end
    if start >= latest:
        raise UsageError(_too_late(start, latest))
    if end > latest:
        raise UsageError(_too_late(end, latest))
    if end <= start:
        raise UsageError(f"--from {iso_utc(start)} must lie before --to {iso_utc(end)}")
    return Window(start, end)


def selected(app: App, organization: str | None, services: Sequence[str]) -> list[Stream]:
    """The streams that a backfill is for.

    Raises:
        ConfigurationError: no such organisation is configured.
    """
    app.settings.require_credentials()
    if organization is not None:
        app.settings.organization(organization)
    streams = [s for s in app.streams() if organization in {None, s.organization}]
    if not services:
        return streams
    return [
        Stream(o, service)
        for o in sorted({s.organization for s in streams})
        for service in services
    ]


def _too_late(instant: datetime, latest: datetime) -> str:
    return (
        f"{iso_utc(instant)} is too late: audits can be exported up to {iso_utc(latest)}, which is "
        "now minus the lag; leave out --to to export up to there"
    )


def _require_started(app: App, streams: Iterable[Stream]) -> None:
    """Refuse a `start` in the future: by the organisations' clocks, should ours be behind."""
    try:
        app.settings.require_started(app.now())
    except ConfigurationError:
        times = [source.now() for source in _reachable(app, streams)]
        app.settings.require_started(max(times, default=app.now()))


def _reachable(app: App, streams: Iterable[Stream]) -> Iterator[AuditSource]:
    """The clients of those organisations of the streams that can be signed in to."""
    for organization in sorted({stream.organization for stream in streams}):
        try:
            source = _signed_in(app, organization)
        except AuditEtlError:
            continue  # which its streams tell of, when their turn comes
        yield source


def _signed_in(app: App, organization: str) -> AuditSource:
    """The organisation's client, which has heard what time it is there."""
    source = app.source(organization)
    source.sign_in()
    warnings.warn_of_clock(app, organization, source)
    return source


def _horizon(app: App, source: AuditSource) -> datetime:
    return horizon(source.now(), app.now(), app.settings.lag)


def _begin(app: App, stream: Stream, source: AuditSource) -> datetime:
    """Where a new stream starts.

    Where the configuration says, or where a stream left off that had its services: `*` before a
    named service, any other one before `*`. Else the time in between would be asked for by none.
    """
    begin = min(_horizon(app, source), app.settings.starts_at(source.now()))
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


@contextmanager
def _held(app: App, name: str | None, wait: timedelta) -> Iterator[Fence]:
    """Hold the lease `name` during the block; give what confirms it. None needs no lease."""

    def taken() -> AbstractContextManager[Lease]:
        lease = _acquire(app, name or "", wait)
        return leases.holding(app.engine, lease, app.now, app.timing)

    if name is None:
        yield lambda _: None
        return
    with app.writing.joining(app.engine, taken) if name == WRITER else taken() as lease:
        yield lease.confirm


def _acquire(app: App, name: str, wait: timedelta) -> Lease:
    deadline = app.monotonic() + wait.total_seconds()
    while True:
        try:
            return leases.acquire(app.engine, name, app.holder, app.now(), app.timing.length)
        except LeaseHeld:
            if app.monotonic() >= deadline:
                raise
        if app.stop.wait(app.timing.poll_seconds):
            raise Stopped("stopped while waiting for another process's lease")
