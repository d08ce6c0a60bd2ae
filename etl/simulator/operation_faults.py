"""Faults of requests, queries and pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from etl.simulator.errors import ApiError, HtmlPage, bad_request, server_error, too_many
from etl.simulator.faults import Faults, strikes
from etl.wire import CANCELLED, FAILED, RUNNING, SUCCEEDED

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 24 * 60 * _MINUTE_MS


@dataclass(slots=True)
class Quota:
    """How many requests were granted since the last time that all were refused for a while."""

    granted: int = 0
    closed_until_ms: int = 0

    def admit(self, faults: Faults, now_ms: int, allowed: int) -> None:
        """Count a request, or refuse it.

        Raises:
            ApiError: the quota is spent; with the seconds that are left.
        """
        if not faults.quota:
            return
        if now_ms >= self.closed_until_ms:
            self.granted += 1
            if self.granted <= faults.quota:
                return
            self.granted, self.closed_until_ms = 0, now_ms + faults.retry_after * 1000
        left = faults.retry_after_told or -(-(self.closed_until_ms - now_ms) // 1000)
        raise too_many(allowed, left, header=not faults.retry_after_unsaid)


@dataclass(frozen=True, slots=True)
class PageFault:
    """How one page differs from a correct one.

    Attributes:
        empty: it has no records, and the next page starts where it would have.
        repeats: its cursor leads to it again.
        returns: so does its cursor, which is another one than the one before.
        trails: it has a cursor even if nothing follows.
        overlaps: how many records of the page before it begins with.
    """

    empty: bool = False
    repeats: bool = False
    returns: bool = False
    trails: bool = False
    overlaps: int = 0


def refuse_request(faults: Faults, nth: int, allowed: int) -> None:
    """Refuse the `nth` request of its kind, counted from 1, if a fault strikes it.

    Raises:
        ApiError: as the vendor would say it.
        HtmlPage: as a proxy before it would.
    """
    if strikes(faults, "html_error_every", nth):
        raise HtmlPage(502)
    if strikes(faults, "html_page_every", nth):
        raise HtmlPage(200)
    if strikes(faults, "server_error_every", nth):
        raise server_error(faults.server_error_status)
    if strikes(faults, "too_many_requests_every", nth):
        raise too_many(allowed, faults.retry_after, header=not faults.retry_after_unsaid)


def final_state(faults: Faults, nth: int) -> str:
    """The state that the organisation's `nth` query ends in; Running if it never ends."""
    if strikes(faults, "stuck_query_every", nth):
        return RUNNING
    if strikes(faults, "fail_query_every", nth):
        return FAILED
    if strikes(faults, "cancel_query_every", nth):
        return CANCELLED
    return SUCCEEDED


def is_spoilt(faults: Faults, start_ms: int, end_ms: int, began_ms: int) -> bool:
    """Whether a query for that interval includes the bad minute."""
    bad_ms = (began_ms // _MINUTE_MS - faults.bad_minute) * _MINUTE_MS
    until_ms = bad_ms + faults.bad_minutes * _MINUTE_MS
    return faults.bad_minute > 0 and start_ms < until_ms and bad_ms < end_ms


def refuse_interval(faults: Faults, start_ms: int, now_ms: int, *, spoilt: bool) -> None:
    """Refuse an interval that the organisation does not take.

    The vendor's words for one that is too old are not known.

    Raises:
        ApiError: it begins too long ago, or asks for a minute that is refused.
    """
    too_old = 0 < faults.refuse_days * _DAY_MS < now_ms - start_ms
    if too_old or (spoilt and faults.bad_minute_does == "refuse"):
        raise bad_request("The interval is not available.")


def page_fault(faults: Faults, page: int) -> PageFault:
    """What the `page` of a query does, counted from 1."""
    return PageFault(
        empty=page == faults.empty_page_with_cursor or 0 < faults.empty_pages_from <= page,
        repeats=page == faults.repeat_cursor,
        returns=0 < faults.repeat_page <= page,
        trails=faults.last_page_with_cursor,
        overlaps=faults.overlap if page > 1 else 0,
    )


def refuse_service(faults: Faults, service: str | None) -> None:
    """Refuse a query for a service that is closed to this client.

    Raises:
        ApiError: it is.
    """
    if service and service == faults.forbidden_service:
        raise ApiError(
            403, "not.authorized", "You are not authorized to perform the requested action."
        )
