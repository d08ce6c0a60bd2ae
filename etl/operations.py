"""What the commands do: run, backfill, the plan of one, verify. Every effect goes through `App`."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from etl import caveats, leases, pipeline, schedules
from etl.app import App
from etl.destinations import AnyDestination, Fence
from etl.errors import (
    AuditEtlError,
    ConfigurationError,
    DestinationUnavailable,
    LeaseHeld,
    ServiceRefused,
    Stopped,
    UsageError,
)
from etl.genesys.query import AuditSource
from etl.leases import Lease
from etl.pipeline import Job, Sighting
from etl.progress import BACKFILL, Mark, Receipt, Stream, least_requests
from etl.verifying import Verdict, Verifier
from etl.window import Window, by_density, due, floor_second, horizon, joined, stamp

#: A window of one page that took longer tells of an outage or a pause, not of the query.
QUERY_SECONDS_MAX: Final = 60
#: The lease of a destination that has one writer.
WRITER: Final = "the writer of the lake"

Watch = Callable[[Sighting], None]
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
) -> Iterator[Receipt | Failure]:
    """Bring every stream up to now less the lag, once.

    A stream's failure is given as such and holds up no other. A service that the organisation
    refuses, while it lets others be exported, is warned of, and its watermark stays.

    Args:
        app: the configuration at work.
        organization: whose streams; None: everybody's.
        schedule: whose lookback to use. None: the shortest one, and whatever part of another
            schedule's lookback has not been asked for since that one last fell due.
        lookback: used instead of any schedule's.
        wait: how long to wait for a stream that another process exports.
        watch: called after each page.

    Raises:
        ConfigurationError: no organisation is configured, or no such schedule.
        DestinationUnavailable: it concerns all streams.
        Stopped: a signal asked to stop; what was loaded is kept.
    """
    app.settings.require_credentials()
    if schedule is not None:
        lookback = lookback or _named(app, schedule).lookback
    destination = app.destination()

    def export(stream: Stream) -> Iterator[Receipt]:
        source = app.source(stream.organization)
        until = _horizon(app, stream.organization, source)
        lease_name = WRITER if destination.one_writer else str(stream)
        with _held(app, lease_name, wait) as fence:
            mark = app.ledger.begin(stream, _begin(app, until), app.now())
            name, spans = _due(app, stream, mark, until, lookback)
            if spans:
                caveats.warn_of_retention(app, stream.organization, spans[0])
            job = _job(app, stream, destination, schedule or name, fence, watch)
            yield from pipeline.catch_up(job, spans)

    return _in_turn(
        app, [s for s in app.streams() if organization in {None, s.organization}], export
    )


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
        with _held(app, WRITER if destination.one_writer else None, wait) as fence:
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
    no lease is needed. See `run` for the rest.
    """
    destination = app.destination()
    found: deque[Verdict] = deque()
    verifier = Verifier(destination, repair=repair, now=app.now, tell=found.append)

    def export(stream: Stream) -> Iterator[Verdict]:
        _require_past(app, span, stream)
        needs_lease = repair and destination.one_writer
        with _held(app, WRITER if needs_lease else None, wait) as fence:
            job = _job(app, stream, verifier, BACKFILL, fence, watch)
            for _ in pipeline.backfill(job, span):
                yield found.popleft()

    return _in_turn(app, streams, export)


def _require_past(app: App, span: Window, stream: Stream) -> None:
    caveats.warn_of_retention(app, stream.organization, span)
    latest = _horizon(app, stream.organization, app.source(stream.organization))
    if span.end > latest:
        raise UsageError(_too_late(span.end, latest))


def _in_turn(
    app: App, streams: Sequence[Stream], export: Callable[[Stream], Iterator[Outcome]]
) -> Iterator[Outcome | Failure]:
    """Export the streams one after the other; one that fails is told of and holds up no other."""
    refused: list[tuple[Stream, ServiceRefused]] = []
    exported: set[str] = set()
    for stream in streams:
        try:
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
            caveats.warn_of_refusal(app, stream, refusal)
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
    if last is not None and last.least_requests == least_requests(0):
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
        now=app.now,
        fence=fence,
        watch=watch,
        late=app.observer.came_late if app.observer else None,
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


def span_of(app: App, start: datetime, end: datetime | None) -> Window:
    """The span from `start` to `end`, or to the latest instant that can be exported.

    Raises:
        UsageError: the span is empty, or reaches later than now less the lag.
    """
    latest = horizon(app.now(), app.settings.lag, None)
    end = latest if end is None else end
    if start >= latest:
        raise UsageError(_too_late(start, latest))
    if end > latest:
        raise UsageError(_too_late(end, latest))
    if end <= start:
        raise UsageError(f"--from {stamp(start)} must lie before --to {stamp(end)}")
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
        f"{stamp(instant)} is too late: audits can be exported up to {stamp(latest)}, which is now "
        "less the lag; leave out --to to export up to there"
    )


def _horizon(app: App, organization: str, source: AuditSource) -> datetime:
    source.sign_in()  # its answer tells how far the organisation's clock is from ours
    caveats.warn_of_clock(app, organization, source)
    return horizon(app.now(), app.settings.lag, source.clock_skew)


def _begin(app: App, until: datetime) -> datetime:
    """Where a new stream starts."""
    begin = app.settings.begin
    return min(until, floor_second(app.now() - begin if isinstance(begin, timedelta) else begin))


def _due(
    app: App, stream: Stream, mark: Mark, until: datetime, lookback: timedelta | None
) -> tuple[str, list[Window]]:
    """The spans to ask for, and the schedule that asks for the most."""
    first, *others = sorted(app.settings.schedules, key=lambda schedule: schedule.lookback)
    if lookback is not None:
        return first.name, due(mark.begins_at, mark.watermark, until, lookback)
    name, spans = first.name, due(mark.begins_at, mark.watermark, until, first.lookback)
    for schedule in others:
        fired = schedules.last_firing(schedule, app.now())
        if fired is None:
            continue
        asked = app.ledger.covered(stream, fired, mark.watermark - schedule.lookback)
        missing = schedules.unasked(schedule, mark.begins_at, mark.watermark, asked)
        if missing:
            name, spans = schedule.name, joined([*missing, *spans])
    return name, spans


def _named(app: App, name: str) -> schedules.Schedule:
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
        return leases.holding(app.engine, lease, app.now, app.tenure)

    if name is None:
        yield lambda _: None
        return
    with app.writing.joining(app.engine, taken) if name == WRITER else taken() as lease:
        yield lease.confirm


def _acquire(app: App, name: str, wait: timedelta) -> Lease:
    deadline = app.now() + wait
    while True:
        try:
            return leases.acquire(app.engine, name, app.holder, app.now(), app.tenure.length)
        except LeaseHeld:
            if app.now() >= deadline:
                raise
        if app.stop.wait(app.tenure.poll_seconds):
            raise Stopped("stopped while waiting for another process's lease")
