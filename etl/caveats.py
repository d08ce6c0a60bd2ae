"""What a user should know of an export that has not failed: a warning each, once in a process."""

import logging
from datetime import timedelta
from typing import Final

from etl.app import App
from etl.errors import ServiceRefused
from etl.genesys.query import AuditSource
from etl.progress import RETENTION, Stream
from etl.window import Window, format_duration

_LOG = logging.getLogger(__name__)

#: Clocks that differ by more are told of; NTP keeps them within a second.
SKEW_MAX: Final = timedelta(minutes=1)


def clock_text(skew: timedelta) -> str:
    """How our clock stands to an organisation's that is `skew` ahead of it."""
    side = "ahead of" if skew < timedelta(0) else "behind"
    return f"ours is {format_duration(abs(skew))} {side} the organisation's"


#: What to do about clocks that differ, and what happens until then.
CLOCK_REMEDY: Final = "set it by NTP; until then windows end by the earlier clock, nothing is lost"


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


def warn_of_retention(app: App, organization: str, span: Window) -> None:
    """Say once that a part of `span` is older than what the organisation is sure to have."""
    kept = app.now() - RETENTION
    if span.start < kept and app.first_time("retention", organization):
        _LOG.warning(
            "organisation %s: Genesys keeps audits for about a year: of those before %s it shows "
            "what it still has, and a receipt proves no more; what was loaded stays",
            organization,
            f"{kept:%Y-%m-%d}",
        )


def warn_of_refusal(app: App, stream: Stream, error: ServiceRefused) -> None:
    """Say once that a service is not exported, because the organisation does not allow it."""
    if app.first_time("refusal", str(stream)):
        _LOG.warning("%s is not exported, the other services are: %s", stream, error)
