"""`run` and `backfill`: streams up to now, or a span of them. Every effect goes through `App`."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

from etl import pipeline
from etl.app import App
from etl.errors import ConfigurationError
from etl.model import BACKFILL, MANUAL, WRITER, Receipt, Stream
from etl.operations.due_spans import due_of, settling
from etl.operations.selection import exportable, reachable, signed_in
from etl.operations.streams import Failure, Watch, held, in_turn, job_of
from etl.schedules import Schedule
from etl.window import Window


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
    refuses, while others are exported, is warned of, and its watermark stays.

    Args:
        organization: whose streams; None: all.
        schedule: whose lookback to use. None: the shortest one, and what is due of the others.
        lookback: used instead of any schedule's; without `schedule` the receipts say `manual`.
        wait: how long to wait for a stream that another process exports.
        watch: called after each page.

    Raises:
        ConfigurationError: no organisation is configured, or no such schedule.
        DestinationUnavailable, Stopped: it concerns all streams; what was loaded is kept.
    """
    if lookback is not None:
        schedule = schedule or MANUAL
    elif schedule is not None:
        lookback = _named(app, schedule).lookback
    streams, destination = _started(app, organization), app.destination()

    def export(stream: Stream) -> Iterator[Receipt]:
        source = signed_in(app, stream.organization)
        with held(app, WRITER if app.place.one_writer else str(stream), wait) as fence:
            found = due_of(app, stream, source, lookback, fence)
            job = job_of(app, stream, destination, schedule or found.schedule, fence, watch)
            job = replace(job, settling=settling(app, lookback))
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
        kept = exportable(app, span, stream)
        with held(app, WRITER if app.place.one_writer else None, wait) as fence:
            job = job_of(app, stream, destination, BACKFILL, fence, watch)
            yield from pipeline.backfill(job, kept)

    return in_turn(app, streams, export)


def _started(app: App, organization: str | None) -> list[Stream]:
    """The streams to export.

    A `start` in the future is refused: by the organisations' clocks, should ours be behind.
    """
    app.settings.require_credentials()
    streams = [s for s in app.streams() if organization in {None, s.organization}]
    try:
        app.settings.require_started(app.now())
    except ConfigurationError:
        times = [source.now() for source in reachable(app, streams)]
        app.settings.require_started(max(times, default=app.now()))
    return streams


def _named(app: App, name: str) -> Schedule:
    for schedule in app.settings.schedules:
        if schedule.name == name:
            return schedule
    names = ", ".join(schedule.name for schedule in app.settings.schedules)
    raise ConfigurationError(f"there is no schedule {name!r}; the configuration has: {names}")
