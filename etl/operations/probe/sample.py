"""A probe's first query: how long it may be, how large its page, how many requests there are."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from etl.genesys import query_refusals
from etl.genesys.client.failures import Refused
from etl.operations.probe.findings import NOTHING, Finding, finding
from etl.operations.probe.inquiry import Answered, Inquiry, Shown
from etl.operations.probe.unanswered import refusal_text
from etl.window import Window, format_duration
from etl.wire import PAGE_SIZE_MAX, RATE_PER_MINUTE

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A query that the organisation took.

    Attributes:
        answered: its first page.
        page_size: so many audits were asked for.
        refused: the shortest interval that it did not take; None if it took the first one.
    """

    answered: Answered
    page_size: int
    refused: timedelta | None


def sampled(
    inquiry: Inquiry, window: Window, max_window: timedelta
) -> Generator[Finding, None, Answered | None]:
    """Ask for `window`, or for as much of its end as the organisation takes.

    Gives the first page; None if there is no answer.
    """
    try:
        taken = _taken(inquiry, window)
    except Refused as error:
        yield finding(
            "all services",
            False,
            f"it was refused: {refusal_text(error)}",
            "name the services: organizations.NAME.services",
        )
        return None
    answered, window = taken.answered, taken.answered.window
    length = format_duration(window.length)
    yield finding(
        "interval length",
        taken.refused is None,
        f"{length} were taken"
        + (f", {format_duration(taken.refused)} were not" if taken.refused else ""),
        f'max_window = "{length}"' if window.length < max_window else NOTHING,
        interval_days=window.length // _DAY,
    )
    yield finding("all services", True, f"{_services(answered.shown)} services in one page")
    yield finding("queries", True, f"the first one took {answered.seconds:.0f} s")
    yield _page_size(answered, taken.page_size)
    allowed = inquiry.api.transport.budget.allowed
    yield finding(
        "rate limit",
        None if allowed is None else allowed >= RATE_PER_MINUTE,
        "no answer told it" if allowed is None else f"{allowed} requests a minute",
        "nothing to change: audit-etl waits as it is told; a backfill takes longer",
        rate_limit=allowed or 0,
    )
    return answered


def _taken(inquiry: Inquiry, window: Window) -> _Taken:
    page_size, refused = PAGE_SIZE_MAX, None
    while True:
        try:
            return _Taken(inquiry.ask(window, page_size=page_size), page_size, refused)
        except Refused as error:
            if error.refusal.too_large and page_size > 1:
                page_size //= 2
                continue
            longest = query_refusals.longest_interval(error)
            if longest is None or window.length <= _DAY:
                raise
            refused = window.length
            length = longest if longest < refused else refused // 2
            window = Window(window.end - max(_DAY, length), window.end)


def _page_size(answered: Answered, asked: int) -> Finding:
    count = len(answered.shown)
    # A page with fewer audits than were asked for, and more behind it, is as long as it gets.
    short = answered.cursor is not None and count < asked
    return finding(
        "page size",
        asked == PAGE_SIZE_MAX and not short,
        f"{asked} were asked for, {count} came",
        "nothing to change: smaller pages are asked for by themselves",
        too_large_over=asked,
    )


def _services(audits: Sequence[Shown]) -> int:
    return len({str(audit.members.get("serviceName")) for audit in audits})
