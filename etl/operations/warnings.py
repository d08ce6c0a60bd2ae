"""What a user should know of an export that has not failed: a warning each, once in a process."""

import logging
from datetime import datetime, timedelta
from typing import Final

from etl.app import App
from etl.errors import ServiceRefused
from etl.genesys.query import AuditSource
from etl.ledger.lateness import unconfirmed
from etl.model import RETENTION, Stream, TakenBack
from etl.window import Window, format_duration, iso_utc

_LOG = logging.getLogger(__name__)

#: Clocks that differ by more are told of; NTP keeps them within a second.
SKEW_MAX: Final = timedelta(minutes=1)
#: What was loaded early and is late in an export is usually shown by a lookback within this.
CONFIRMED_WITHIN: Final = timedelta(days=1)


def clock_text(skew: timedelta) -> str:
    """How our clock stands to an organisation's that is `skew` ahead of it."""
    side = "ahead of" if skew < timedelta(0) else "behind"
    return f"ours is {format_duration(abs(skew))} {side} the organisation's"


#: What to do about clocks that differ, and what happens until then.
CLOCK_REMEDY: Final = "set it by NTP; exports go by the organisation's clock, nothing is lost"


def claim_text(claimed: datetime, now: datetime, whose: str) -> str:
    """That time is claimed to be loaded which is not over by that clock, whosever it is."""
    return (
        f"marked as loaded up to {iso_utc(claimed)}, {format_duration(claimed - now)} ahead of "
        f"{whose}: a clock was wrong; the next run takes back what is ahead of the organisation's, "
        "and asks for it again"
    )


def warn_of_clock(app: App, organization: str, source: AuditSource) -> None:
    """Say once that the organisation's clock is not ours, if it is known to be so."""
    skew = source.clock_skew
    if skew is not None and abs(skew) > SKEW_MAX and app.first_time("clock", organization):
        _LOG.warning(
            "organisation %s: the clocks differ, %s: %s",
            organization,
            clock_text(skew),
            CLOCK_REMEDY,
        )


def warn_of_claim(app: App, stream: Stream, claimed: datetime) -> None:
    """Say once that time is claimed which is not over by our clock, and no other is known."""
    if app.first_time("claim", str(stream)):
        _LOG.warning(
            "%s is marked as loaded up to %s, which lies ahead of this machine's clock, and the "
            "organisation's answers carry no time: nothing is exported before then; set the clock "
            "by NTP, or see what takes the Date header out of answers",
            stream,
            iso_utc(claimed),
        )


def warn_of_what_is_taken_back(stream: Stream, now: datetime, back: TakenBack) -> None:
    """Say that time was claimed which is not over, and from where on it is asked for again."""
    before = f" with the watermark {iso_utc(back.before.reached)}" if back.before else ""
    after = f"exports go on from {iso_utc(back.after.reached)}; " if back.after else ""
    _LOG.warning(
        "%s was marked as loaded%s beyond the organisation's time, %s: a clock was wrong; %s"
        "%d receipts are void and kept in void_receipts",
        stream,
        before,
        iso_utc(now),
        after,
        back.receipts,
    )


def warn_of_retention(app: App, organization: str, span: Window) -> None:
    """Say once that a part of `span` is older than what the organisation is sure to have."""
    kept = app.time_of(organization) - RETENTION
    if span.start < kept and app.first_time("retention", organization):
        _LOG.warning(
            "organisation %s: Genesys keeps audits for about a year: of those before %s it shows "
            "what it still has, and a receipt proves no more; what was loaded stays",
            organization,
            f"{kept:%Y-%m-%d}",
        )


def warn_of_removed(app: App, organization: str, start: datetime) -> None:
    """Say once that a span begins later than was asked for, because older audits were removed."""
    if app.first_time("removed", organization):
        _LOG.warning(
            "organisation %s: the span begins at %s, because older audits were removed on purpose "
            "(kept_from in the table retention)",
            organization,
            iso_utc(start),
        )


def warn_of_unconfirmed(app: App, stream: Stream) -> None:
    """Say once that audits were loaded early which no export of their time has shown in a day."""
    watermark = app.ledger.watermark(stream)
    count = watermark and unconfirmed(app.engine, stream, watermark.reached - CONFIRMED_WITHIN)
    if count and app.first_time("unconfirmed", str(stream)):
        _LOG.warning(
            "%s: %d audits that were loaded early have not been shown by any export, although the "
            "exports passed them a day ago or longer. They stay. Compare some of early_audits with "
            "the rows of that time: if exports show the same audits under other ids, set early = "
            "false",
            stream,
            count,
        )


def warn_of_refusal(app: App, stream: Stream, error: ServiceRefused) -> None:
    """Say once that a service is not exported, because the organisation does not allow it."""
    if app.first_time("refusal", str(stream)):
        _LOG.warning("%s is not exported, the other services are: %s", stream, error)


def warn_of_refused_time(app: App, stream: Stream, span: Window) -> None:
    """Say once that a span is older than the organisation accepts."""
    if app.first_time("refused", str(stream), str(span)):
        _LOG.warning(
            "%s: the organisation accepts no query for %s, which is a gap: it is older than it "
            "shows. A later start excludes it",
            stream,
            span,
        )


def warn_of_later_begin(stream: Stream, span: Window) -> None:
    """Say that a stream begins later than it did."""
    _LOG.warning(
        "%s: %s, which the organisation accepts no query for, lies before the setting start and is "
        "excluded: the stream starts after it",
        stream,
        span,
    )
