"""A probe's first query: how long it may be, how large its page, how many requests there are."""

from collections.abc import Generator
from datetime import timedelta
from typing import Final

from etl.errors import QueryFailed
from etl.genesys import query_refusals
from etl.genesys.client.failures import Refused
from etl.operations.probe.findings import NOTHING, Finding, finding
from etl.operations.probe.inquiry import Answered, Inquiry
from etl.operations.probe.unanswered import refusal_text
from etl.window import Window, format_duration
from etl.wire import PAGE_SIZE_MAX, RATE_PER_MINUTE

_DAY: Final = timedelta(days=1)


def sampled(
    inquiry: Inquiry, window: Window, max_window: timedelta
) -> Generator[Finding, None, Answered | None]:
    """Ask for `window`, or for as much of its end as the organisation takes.

    Gives the first page that holds an audit; None if there is no answer.
    """
    try:
        answered, refused = _taken(inquiry, window)
    except (QueryFailed, Refused) as error:
        yield _failure(error)
        return None
    length = format_duration(answered.window.length)
    yield finding(
        "interval length",
        refused is None,
        f"{length} were taken" + (f", {format_duration(refused)} were not" if refused else ""),
        f'max_window = "{length}"' if answered.window.length < max_window else NOTHING,
        interval_days=answered.window.length // _DAY,
    )
    services = len({audit.service for audit in answered.shown})
    yield finding("all services", services > 1 or None, f"{services} services in one page")
    yield finding("queries", True, f"the first one took {answered.seconds:.0f} s")
    yield _page_size(inquiry, answered)
    allowed = inquiry.api.transport.budget.allowed
    yield finding(
        "rate limit",
        None if allowed is None else allowed >= RATE_PER_MINUTE,
        "no answer told it" if allowed is None else f"{allowed} requests a minute",
        "nothing to change: audit-etl waits as it is told; a backfill takes longer",
        rate_limit=allowed or 0,
    )
    return answered


def _taken(inquiry: Inquiry, window: Window) -> tuple[Answered, timedelta | None]:
    """The answer for as much of the window as is taken, and the shortest interval that was not."""
    refused = None
    while True:
        try:
            return inquiry.ask(window), refused
        except Refused as error:
            longest = query_refusals.longest_interval(error)
            if longest is None or window.length <= _DAY:
                raise
            refused = window.length
            length = longest if longest < refused else refused // 2
            window = Window(window.end - max(_DAY, length), window.end)


def _failure(error: QueryFailed | Refused) -> Finding:
    """What the failure of the first query contradicts."""
    if isinstance(error, QueryFailed):
        return finding(
            "queries", False, "the first one failed, or did not end",
            "run the probe again, and report it if that goes on", fail_query_every=1,
        )  # fmt: skip
    seen = f"it was refused: {refusal_text(error)}"
    if query_refusals.is_about_service(error, None):
        return finding(
            "all services", False, seen, "name the services: organizations.NAME.services"
        )
    if query_refusals.longest_interval(error) is not None:
        return finding("interval length", False, f"1d was refused, {seen}", "please report it")
    return finding("queries", None, seen)


def _page_size(inquiry: Inquiry, answered: Answered) -> Finding:
    count, asked = len(answered.shown), inquiry.page_size
    remedy = "nothing to change: smaller pages are asked for by themselves"
    if asked < PAGE_SIZE_MAX:
        seen = f"{PAGE_SIZE_MAX} were too many, {asked} were not"
        return finding("page size", False, seen, remedy, too_large_over=asked)
    seen = f"{asked} were asked for, {count} came"
    if count >= asked:
        return finding("page size", True, seen)
    # A page with fewer audits than were asked for, and more behind it, is as long as it gets.
    return finding(
        "page size", False if answered.cursor and count else None, seen, remedy, page_max=count
    )
