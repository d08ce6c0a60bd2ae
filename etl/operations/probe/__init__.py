"""`probe`: what an organisation does, beside what audit-etl expects of one."""

from collections.abc import Callable, Generator, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from etl.app import App
from etl.errors import AuditEtlError, Stopped
from etl.operations.probe import (
    ends,
    lives,
    newest,
    offer,
    sample,
    services,
    shown_audits,
    unanswered,
)
from etl.operations.probe.findings import EXPECTED, Finding, Measured, Verdict, finding
from etl.operations.probe.inquiry import REQUESTS_MAX, Answered, Inquiry, NoneLeft, inquiry_of
from etl.operations.selection import only_organization
from etl.operations.warnings import CLOCK_REMEDY, SKEW_MAX, clock_text
from etl.window import Window, floor_second

__all__ = ["EXPECTED", "REQUESTS_MAX", "Finding", "Measured", "Verdict", "probe"]

#: Requests that are kept for the second look: a query, a poll and two pages of the first one. The
#: pages of the newest audits are read again besides.
_SECOND_LOOK: Final = 4


def probe(
    app: App, hold: timedelta, pause: Callable[[float], object] | None = None
) -> Iterator[Finding]:
    """Look at the organisation that is configured, and give what it does for each expectation.

    Reads only. Sends at most `REQUESTS_MAX` requests, those for the token included.

    Args:
        app: one organisation is configured. Its destination is not touched.
        hold: how long to wait before the second look.
        pause: lets that time pass; None waits.

    Raises:
        UsageError: several organisations are configured, and none is chosen.
        AuditEtlError: the organisation cannot be asked at all; see `Transport.call`.
    """
    with inquiry_of(app, only_organization(app)) as inquiry:
        told: set[str] = set()
        for found in _findings(app, inquiry, hold, pause or inquiry.wait):
            if found.about not in told:
                told.add(found.about)
                yield found
        yield from (
            finding(about, None, "there was nothing to see it by")
            for about in EXPECTED
            if about not in told
        )


def _findings(
    app: App, inquiry: Inquiry, hold: timedelta, pause: Callable[[float], object]
) -> Iterator[Finding]:
    known = {action.service for action in inquiry.api.service_mapping()}
    yield _clock(inquiry)
    latest = floor_second(inquiry.source.now() - app.settings.lag)
    whole = Window(latest - app.settings.max_window, latest)
    first = yield from _tried("queries", sample.sampled(inquiry, whole, app.settings.max_window))
    if first is None:
        return
    yield from shown_audits.looked_at(first)
    yield from _tried("large results", offer.offered(inquiry, first))
    between = ends.between_audits(first.shown)
    found = list(_tried("interval start", ends.ends(inquiry, between))) if between else []
    yield from found
    recent, doubted = yield from _newest(inquiry, first, latest)
    wanted = {stream.service for stream in app.streams() if stream.service is not None} or known
    asked = {between.service} if between and len(found) > 1 else set()
    pages = -(-len(recent.shown) // inquiry.page_size) if recent else 0
    reserve = _SECOND_LOOK + max(1, pages)
    yield from _tried(
        "services",
        services.services(
            inquiry,
            services.least_shown_first(wanted - asked, first.shown),
            Window(latest - timedelta(seconds=1), latest),
            lambda: REQUESTS_MAX - reserve - inquiry.requests,
        ),
    )
    pause(hold.total_seconds())
    yield from _tried("life of a query", lives.lives(inquiry, first, hold))
    if recent is not None:
        later = newest.again(inquiry, recent, app.settings.lag, doubted=doubted)
        yield from _tried("lateness (A4)", later)


def _newest(
    inquiry: Inquiry, first: Answered, latest: datetime
) -> Generator[Finding, None, tuple[Answered | None, bool]]:
    """Look at the newest audits; give them, or None, and whether the answer is in doubt."""
    try:
        recent = newest.recent(inquiry, first, latest)
    except (AuditEtlError, NoneLeft) as error:
        yield from _unanswered("realtime", error)
        return None, False
    both = [shown_audits.ids_of(first.shown), shown_audits.ids_of(recent.shown)]
    yield next((f for f in both if f.verdict is Verdict.CONTRADICTED), both[-1])
    more = yield from _tried("realtime", newest.realtime(inquiry, recent))
    return recent, bool(more)


def _tried(about: str, findings: Iterator[Finding]) -> Generator[Finding, None, Any]:
    """The findings, and what they give; if there is no answer to go on, `about` is unknown."""
    try:
        return (yield from findings)
    except (AuditEtlError, NoneLeft) as error:
        yield from _unanswered(about, error)
    return None


def _unanswered(about: str, error: AuditEtlError | NoneLeft) -> Iterator[Finding]:
    if isinstance(error, Stopped):
        raise error
    yield unanswered.unanswered(about, error)


def _clock(inquiry: Inquiry) -> Finding:
    skew = inquiry.source.clock_skew
    if skew is None:
        return finding("clock", None, "its answers carry no Date")
    return finding(
        "clock", abs(skew) <= SKEW_MAX, clock_text(skew), CLOCK_REMEDY,
        clock_ahead=round(skew.total_seconds()),
    )  # fmt: skip
