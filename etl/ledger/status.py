"""What the ledger says of each stream: how far it is sure, and what is missing."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from etl.ledger import claims, figures, lateness, verifications
from etl.ledger.coverage import Days
from etl.ledger.gaps import gaps_of
from etl.ledger.lateness import LateArrivals
from etl.ledger.receipts import Ledger
from etl.ledger.rows import picked, window_key
from etl.model import Receipt, Stream, Verification, Watermark
from etl.window import TIME_TOLERANCE, Window, joined

_DAY: Final = timedelta(days=1)
#: What is told of the last receipt and of a verification.
_RECEIPT: Final = (
    *("events", "new_events", "requests", "least_requests", "schedule", "loaded_at"),
)
_VERIFIED: Final = (
    *("events", "missing", "extra", "repaired", "verified_at", "verified_by", "doubtful"),
)
#: Late arrivals are told from the first of the month that it was so long ago.
LATE_SINCE: Final = timedelta(days=60)


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream as of an instant.

    Attributes:
        configured: whether the configuration names it; a stream of old may only be in the tables.
        kept_from: from when on its audits are kept; None if none were removed on purpose.
        watermark: its watermark; None if it has never run.
        behind: how far its watermark is from that instant; None if it has never run.
        claimed_ahead: up to where it is marked as loaded, if that lies after that instant.
        gaps: time between its first and last loaded instant without a receipt, counted from where
            the configuration begins if that is earlier.
        rejects: records of its organisation that could not be rows.
        verified: the spans that were compared with the organisation, newest first.
        late: what came late since the month of `LATE_SINCE` ago, by service.
        new_events: audits that were new in the same time, late or not.
        looked_back: how far back loaded time was asked for again in the same time.
        early_unconfirmed: audits that were loaded early and that its exports have not shown,
            although they have asked for that time.
        requests: those that the windows of the last day have cost.
        least_requests: the fewest that could have brought as much.
        requests_a_day: what each of the last 31 days has cost, in UTC; days without are left out.
    """

    stream: Stream
    configured: bool
    kept_from: datetime | None
    watermark: Watermark | None
    behind: timedelta | None
    claimed_ahead: datetime | None
    last_receipt: Receipt | None
    gaps: tuple[Window, ...]
    rejects: int
    verified: tuple[Verification, ...]
    late: tuple[LateArrivals, ...]
    new_events: int
    looked_back: timedelta
    early_unconfirmed: int
    requests: int
    least_requests: int
    requests_a_day: Mapping[date, int]


def gather(
    ledger: Ledger,
    configured: Iterable[Stream],
    begin: datetime,
    now: datetime,
    organizations: Collection[str] = (),
) -> list[StreamStatus]:
    """The status of every stream that is configured or has been run, sorted.

    Args:
        begin: where the configuration lets a new stream start.
        organizations: whose streams; those of all if none is named.
    """
    wanted = set(configured)
    known = {stream for stream in _of(ledger, organizations) if ledger.watermark(stream)}
    return [
        _status(ledger, stream, begin if stream in wanted else None, now)
        for stream in sorted(wanted | known)
    ]


def backfilled(
    ledger: Ledger, configured: Iterable[Stream], organizations: Collection[str] = ()
) -> dict[Stream, list[Window]]:
    """What backfills have loaded of single services that are no streams of their own."""
    apart = sorted(_of(ledger, organizations) - set(configured))
    return {
        stream: joined(windows)
        for stream in apart
        if ledger.watermark(stream) is None and (windows := ledger.windows(stream))
    }


def _of(ledger: Ledger, organizations: Collection[str]) -> set[Stream]:
    """The streams that were run, of these organisations, or of all if none is named."""
    streams = set(ledger.streams())
    return {s for s in streams if not organizations or s.organization in organizations}


def _status(ledger: Ledger, stream: Stream, begin: datetime | None, now: datetime) -> StreamStatus:
    """One stream's status; `begin` is None if the configuration does not name it."""
    watermark, claimed = ledger.watermark(stream), claims.claimed_until(ledger.engine, stream)
    early = lateness.unconfirmed(ledger.engine, stream, watermark.reached) if watermark else 0
    since = (now - LATE_SINCE).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    month = (now - 30 * _DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    costs = figures.costs(ledger.engine, stream, month)
    of_a_day = [cost for cost in costs if cost.loaded_at >= now - _DAY]
    requests_a_day = Counter[date]()
    for cost in costs:
        requests_a_day[cost.loaded_at.date()] += cost.requests
    return StreamStatus(
        stream=stream,
        configured=begin is not None,
        kept_from=ledger.kept_from(stream.organization),
        watermark=watermark,
        behind=None if watermark is None else now - watermark.reached,
        claimed_ahead=claimed if claimed and claimed > now + TIME_TOLERANCE else None,
        last_receipt=ledger.last_receipt(stream),
        gaps=tuple(gaps_of(ledger.engine, stream, begin)),
        rejects=figures.rejects(ledger.engine, stream.organization),
        verified=tuple(verifications.spans(ledger.engine, stream)),
        late=tuple(lateness.arrivals(ledger.engine, stream, since)),
        new_events=figures.new_events(ledger.engine, stream, since),
        looked_back=figures.looked_back(ledger.engine, stream, since),
        early_unconfirmed=early,
        requests=sum(cost.requests for cost in of_a_day),
        least_requests=sum(cost.least for cost in of_a_day),
        requests_a_day=requests_a_day,
    )


def as_json(
    found: StreamStatus, days: Days, longest: timedelta, next_run: datetime | None
) -> dict[str, object]:
    """A stream as `status --json` has it.

    Args:
        longest: the longest lookback of the schedules.
        next_run: when the daemon next asks.
    """
    receipt = found.last_receipt
    return {
        "organization": found.stream.organization,
        "stream": found.stream.name,
        "configured": found.configured,
        "kept_from": found.kept_from,
        "begins_at": found.watermark.begins_at if found.watermark else None,
        "watermark": found.watermark.reached if found.watermark else None,
        "behind_seconds": found.behind,
        "claimed_ahead": found.claimed_ahead,
        "last_receipt": receipt and window_key(receipt.window) | picked(receipt, *_RECEIPT),
        "gaps": _spans(found.gaps),
        "rejects": found.rejects,
        "early_unconfirmed": found.early_unconfirmed,
        "requests_in_24h": found.requests,
        "least_requests_in_24h": found.least_requests,
        "requests_a_day": {
            day.isoformat(): requests for day, requests in found.requests_a_day.items()
        },
        "verified": [
            {"start": span.window.start, "end": span.window.end} | picked(span, *_VERIFIED)
            for span in found.verified
        ],
        "late": _late(found, longest),
        "next_run": next_run if found.configured else None,
        "days": _days(days),
    }


def backfilled_as_json(stream: Stream, windows: Iterable[Window]) -> dict[str, object]:
    """What `backfilled` gives of a stream, as `status --json` has it."""
    return {"organization": stream.organization, "service": stream.name, "spans": _spans(windows)}


def _spans(windows: Iterable[Window]) -> list[dict[str, datetime]]:
    return [{"start": window.start, "end": window.end} for window in windows]


def _late(found: StreamStatus, longest: timedelta) -> dict[str, object]:
    return {
        "new_events": found.new_events,
        "looked_back_seconds": found.looked_back,
        "arrivals": [
            {"service": late.service, "over_seconds": late.over, "audits": late.audits}
            for late in found.late
        ],
        "advice": advice(found, longest),
    }


def _days(days: Days) -> list[dict[str, object]]:
    counted = frozenset(days.counted)
    return [
        {
            "day": day.isoformat(),
            "coverage": coverage,
            "audits": days.audits.get(day, 0) if day in counted else None,
        }
        for day, coverage in days.coverage
    ]


def advice(found: StreamStatus, longest: timedelta) -> str:
    """See `lateness.advice`."""
    said = lateness.advice(found.late, found.new_events, longest, found.looked_back)
    return f"{said}; what came late in the gaps is not known" if found.gaps else said
