"""Whether an interval includes the instants at which it starts and ends."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from etl.operations.probe.findings import Finding, finding
from etl.operations.probe.inquiry import Answered, Inquiry, Shown
from etl.window import Window


def two_instants(audits: Sequence[Shown]) -> tuple[str | None, Window | None]:
    """Two audits of the service that is shown most, at whole seconds, with none in between."""
    counts = Counter(audit.members.get("serviceName") for audit in audits)
    for service, _ in counts.most_common():
        if not isinstance(service, str):
            continue
        times = sorted(
            {a.at for a in audits if a.at is not None and a.members.get("serviceName") == service}
        )
        for first, second in pairwise(t for t in times if not t.microsecond):
            return service, Window(first, second)
    return None, None


def ends(inquiry: Inquiry, service: str | None, found: Window | None) -> Iterator[Finding]:
    """Whether an interval includes the instants at which it starts and ends.

    Args:
        inquiry: asks.
        service: the one that is asked for.
        found: an audit of the service lies at either end, none in between; see `two_instants`.
    """
    if found is None:
        for about in ("interval start", "interval end"):
            yield finding(about, None, "no two audits of a service lie at whole seconds")
        return
    answered = inquiry.ask(found, service)
    times = set(answered.ids().values())
    starts, ended = found.start in times, found.end in times
    yield finding(
        "interval start", starts, f"it is {'shown' if starts else 'left out'}",
        "please report it: set lookback so long that each window is asked for twice",
        exclude_interval_start=True,
    )  # fmt: skip
    # The answer may go on behind its first page.
    known = answered.cursor is None or ended
    yield finding(
        "interval end", not ended if known else None, f"it is {'shown' if ended else 'left out'}",
        "nothing to change: an audit that two windows show is loaded once",
        include_interval_end=True,
    )  # fmt: skip
    yield _last_page(inquiry, answered)


def _last_page(inquiry: Inquiry, answered: Answered) -> Finding:
    count = len(answered.shown)
    if answered.cursor is None:
        return finding("last page", True, f"{count} audits came in one page, without a cursor")
    following = inquiry.page(answered.query_id, answered.cursor)
    if following.records:
        return finding("last page", None, "there was no answer short enough")
    return finding(
        "last page", False, "a cursor led to a page without audits",
        "nothing to change: it costs a request more a window", last_page_with_cursor=True,
    )  # fmt: skip
