"""What a run asks for of a stream: where it starts, what a wrong clock claimed, what is due."""

from datetime import datetime, timedelta

from etl.app import App
from etl.destinations import Fence
from etl.due import Due, Lookback, due, loaded_to, refused_to
from etl.genesys.query import AuditSource
from etl.ledger import claims, queries, retention
from etl.model import RETENTION, Stream, Watermark
from etl.operations import warnings
from etl.operations.selection import latest_end
from etl.schedules import last_firing
from etl.window import TIME_TOLERANCE, Window, floor_second, joined


def due_of(
    app: App, stream: Stream, source: AuditSource, lookback: timedelta | None, fence: Fence
) -> Due:
    """What to ask for now; warnings about it are logged.

    Args:
        stream: its lease is held.
        source: its organisation, signed in to.
        lookback: used instead of every schedule's, if given.
        fence: confirms the lease.

    Raises:
        ConfigurationError: see `retention.start_by`.
    """
    kept = retention.start_by(app.engine, stream.organization, source.now())
    _take_back(app, stream, source, fence)
    watermark = app.ledger.begin(stream, _begin(app, stream, source), source.now())
    if watermark.begins_at < kept:
        watermark = app.ledger.begin_later(stream, kept, source.now())
    watermark = _without_refused(app, stream, watermark, source)
    found = _due(app, stream, watermark, latest_end(app, source), lookback)
    if found.spans:
        warnings.warn_of_retention(app, stream.organization, min(found.spans))
    for failed in found.failed:
        if failed.excused:
            warnings.warn_of_refused_time(app, stream, failed.window)
    return found


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
    ledger = app.ledger
    loaded = joined(ledger.windows(stream, watermark.reached))
    last = loaded_to(watermark, loaded)
    shortest, *others = sorted(app.settings.schedules, key=lambda schedule: schedule.lookback)
    longer = (
        Lookback(other.name, other.lookback, ledger.windows(stream, last - other.lookback, fired))
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


def settling(app: App, lookback: timedelta | None) -> timedelta:
    """How long after its time an audit may become visible, at the latest: see `Job.settling`."""
    lookbacks = [schedule.lookback for schedule in app.settings.schedules]
    return app.settings.lag + max([*lookbacks, lookback or timedelta(0)])
