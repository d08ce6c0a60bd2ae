"""What the ledger and the destination say of how complete the copy is, at one look."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from etl.app import App
from etl.database.versions import require_schema
from etl.errors import AuditEtlError, SchemaBehind
from etl.ledger import figures
from etl.ledger.gaps import gap_length, unexported_since
from etl.ledger.lateness import unconfirmed
from etl.model import RETENTION, Stream
from etl.operations.warnings import claim_text
from etl.window import TIME_TOLERANCE, format_duration


@dataclass(frozen=True, slots=True)
class StreamCondition:
    """One stream as of an instant.

    Attributes:
        at: that instant, by the organisation's time.
        watermark: None if it has never run.
        last_success: when its last receipt was written, by whichever process.
        unexported_since: the first instant that was not loaded, though one before it was, of those
            that the source and the copy still keep.
        early_unconfirmed: see `StreamStatus`.
        gap: how much of that time was not loaded, though later time was.
    """

    stream: Stream
    at: datetime
    watermark: datetime | None
    last_success: datetime | None
    unexported_since: datetime | None
    early_unconfirmed: int = 0
    gap: timedelta = timedelta(0)

    @property
    def complete_to(self) -> datetime | None:
        """Up to where all is loaded that the source is still sure to have; None if it never ran."""
        return max(filter(None, (self.watermark, self.unexported_since)), default=None)


@dataclass(frozen=True, slots=True)
class Condition:
    """What one look has shown.

    Attributes:
        max_behind: how far behind a stream may be.
        unusable: why the destination cannot be loaded into; None if it can.
        streams: the configured ones; none if the destination did not answer.
        rejects: records kept aside, by organisation.
    """

    max_behind: timedelta
    unusable: str | None = None
    streams: tuple[StreamCondition, ...] = ()
    rejects: Mapping[str, int] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """Why the copy is not what it should be, a sentence each."""
        if self.unusable is not None:
            yield self.unusable
        for seen in self.streams:
            reached = seen.complete_to
            if reached is None:
                yield f"{seen.stream} has not been exported yet"
            elif (behind := seen.at - reached) > self.max_behind:
                yield (
                    f"{seen.stream} is {_minutes(behind)} behind, and may be "
                    f"{format_duration(self.max_behind)}: see the log for what holds it up"
                )
            elif behind < -TIME_TOLERANCE:
                whose = "the organisation's clock"
                yield f"{seen.stream} is {claim_text(reached, seen.at, whose)}"


def look(app: App) -> Condition:
    """Look now; takes as long as the database does, and changes nothing."""
    limit = app.settings.max_behind
    try:
        _require_tables(app)
        app.place.reach()
        return Condition(
            max_behind=limit,
            streams=tuple(_stream(app, stream) for stream in app.streams()),
            rejects={
                name: figures.rejects(app.engine, name) for name in app.settings.organizations
            },
        )
    except AuditEtlError as error:
        return Condition(limit, unusable=" ".join(str(error).split()))


def _require_tables(app: App) -> None:
    if app.new_file() is not None:
        raise SchemaBehind("there are no tables yet: the first run makes them")
    require_schema(app.engine)


def _stream(app: App, stream: Stream) -> StreamCondition:
    now = app.time_of(stream.organization)
    watermark, receipt = app.ledger.watermark(stream), app.ledger.last_receipt(stream)
    earliest, kept = now - RETENTION, app.ledger.kept_from(stream.organization)
    if kept and kept <= now:  # else nothing is loaded, and it has to show
        earliest = max(earliest, kept)
    return StreamCondition(
        stream=stream,
        at=now,
        watermark=watermark.reached if watermark else None,
        last_success=receipt.loaded_at if receipt else None,
        unexported_since=unexported_since(app.engine, stream, earliest),
        early_unconfirmed=unconfirmed(app.engine, stream, watermark.reached) if watermark else 0,
        gap=gap_length(app.engine, stream, earliest),
    )


def _minutes(length: timedelta) -> str:
    return format_duration(length - length % timedelta(minutes=1))
