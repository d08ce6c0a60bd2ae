"""Which streams and which span an operation is for, and what a backfill of them would cost."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from etl.app import App
from etl.due import horizon
from etl.errors import AuditEtlError, UsageError
from etl.genesys.query import AuditSource
from etl.ledger import retention
from etl.model import Stream, least_requests
from etl.operations import warnings
from etl.window import Window, by_density, iso_utc
from etl.wire import RATE_PER_MINUTE


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


def span_of(
    app: App, start: datetime, end: datetime | None, streams: Sequence[Stream] = ()
) -> Window:
    """The span from `start` to `end`, or to the latest instant that can be exported of `streams`.

    That is told by the organisations, which are signed in to; by our clock if there are none.

    Raises:
        UsageError: the span is empty, or reaches later than now less the lag.
    """
    horizons = [latest_end(app, source) for source in reachable(app, streams)]
    latest = min(horizons, default=horizon(app.now(), app.now(), app.settings.lag))
    end = latest if end is None else end
    if start >= latest:
        raise UsageError(_too_late(start, latest))
    if end > latest:
        raise UsageError(_too_late(end, latest))
    if end <= start:
        raise UsageError(f"--from {iso_utc(start)} must lie before --to {iso_utc(end)}")
    return Window(start, end)


def selected(app: App, services: Sequence[str]) -> list[Stream]:
    """The streams that a backfill is for: those of the configuration, or these services.

    Raises:
        ConfigurationError: an organisation has no credentials.
    """
    app.settings.require_credentials()
    streams = app.streams()
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


def only_organization(app: App) -> str:
    """The name of the one organisation that is configured, or chosen with `--organization`.

    Raises:
        ConfigurationError: an organisation has no credentials.
        UsageError: there are several.
    """
    app.settings.require_credentials()
    names = list(app.settings.organizations)
    if len(names) > 1:
        raise UsageError(f"--organization: name one of {', '.join(names)}")
    return names[0]


def exportable(app: App, span: Window, stream: Stream) -> Window:
    """The part of `span` that the stream may be asked for; see `kept_part`.

    Raises:
        UsageError: `span` is not over by the organisation's clock, or none of it is kept.
        ConfigurationError: see `kept_part`.
    """
    latest = latest_end(app, signed_in(app, stream.organization))
    if span.end > latest:
        raise UsageError(_too_late(span.end, latest))
    kept = kept_part(app, span, stream)
    warnings.warn_of_retention(app, stream.organization, kept)
    return kept


def kept_part(app: App, span: Window, stream: Stream) -> Window:
    """The part of `span` whose audits are kept; a warning says if that is not all.

    Raises:
        UsageError: nothing of it is kept.
        ConfigurationError: see `retention.start_by`.
    """
    name = stream.organization
    start = retention.start_by(app.engine, name, app.time_of(name))
    if start <= span.start:
        return span
    if start >= span.end:
        raise UsageError(
            f"{stream}: all of {span} lies before {iso_utc(start)}, from when on audits are kept. "
            "Older ones were removed on purpose. To have them again, change kept_from in the table "
            "retention, or delete the row"
        )
    warnings.warn_of_removed(app, name, start)
    return Window(start, span.end)


def plan(app: App, span: Window, streams: Sequence[Stream]) -> list[Planned]:
    """The windows that a backfill of `span` would ask for; nothing is asked.

    A warning says if a part of it is older than what Genesys keeps.
    """
    readable, found = app.has_tables(), list[Planned]()
    if readable:
        app.prepare()
    for stream in streams:
        density = app.ledger.density(stream) if readable else None
        kept = kept_part(app, span, stream) if readable else span
        warnings.warn_of_retention(app, stream.organization, kept)
        for window in by_density(kept, density, app.settings.max_window):
            events = None if density is None else round(density * window.length.total_seconds())
            found.append(Planned(stream, window, events, least_requests(events or 0)))
    return found


def minutes_of(planned: Iterable[Planned]) -> int:
    """How many minutes the rate budgets make a backfill take at least: each organisation its own.

    A token has 300 requests a minute, as the vendor documents it: nothing was asked that told more.
    """
    requests: Counter[str] = Counter()
    for plan in planned:
        requests[plan.stream.organization] += plan.requests
    return -(-max(requests.values(), default=0) // RATE_PER_MINUTE)


def reachable(app: App, streams: Iterable[Stream]) -> Iterator[AuditSource]:
    """The clients of those organisations of the streams that can be signed in to."""
    for organization in sorted({stream.organization for stream in streams}):
        try:
            source = signed_in(app, organization)
        except AuditEtlError:
            continue  # reported when its streams are exported
        yield source


def signed_in(app: App, organization: str) -> AuditSource:
    """The organisation's client, which knows its time."""
    source = app.source(organization)
    source.sign_in()
    warnings.warn_of_clock(app, organization, source)
    return source


def latest_end(app: App, source: AuditSource) -> datetime:
    """Where the latest window may end now: the organisation's time less the lag."""
    return horizon(source.now(), app.now(), app.settings.lag)
