"""Whether an interval includes the instants at which it starts and ends."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from etl.operations.probe.findings import Finding, finding
from etl.operations.probe.inquiry import Answered, Inquiry, Shown
from etl.window import Window


@dataclass(frozen=True, slots=True)
class Between:
    """An interval with an audit of a service at either end, and one in between.

    Attributes:
        service: whose audits they are.
        window: from the first one to the last one.
        middle: when the one in between is.
    """

    service: str
    window: Window
    middle: datetime


def between_audits(audits: Sequence[Shown]) -> Between | None:
    """Three audits one after the other at whole seconds, of the service that is shown most."""
    counts = Counter(audit.service for audit in audits if audit.service is not None)
    for service, _ in counts.most_common():
        times = sorted({a.at for a in audits if a.at is not None and a.service == service})
        whole = [time for time in times if not time.microsecond]
        if len(whole) > 2:
            return Between(service, Window(whole[0], whole[2]), whole[1])
    return None


def ends(inquiry: Inquiry, between: Between) -> Iterator[Finding]:
    """Whether the audits at both ends are shown; unknown if the one in between is not."""
    window = between.window
    answered = inquiry.ask(window, between.service)
    times = set(answered.ids().values())
    starts, ended = window.start in times, window.end in times
    known = between.middle in times
    yield finding(
        "interval start", starts if known else None, f"it is {'shown' if starts else 'left out'}",
        "please report it: set lookback so long that each window is asked for twice",
        exclude_interval_start=True,
    )  # fmt: skip
    # The answer may go on behind its first page.
    whole = known and (answered.cursor is None or ended)
    yield finding(
        "interval end", not ended if whole else None, f"it is {'shown' if ended else 'left out'}",
        "nothing to change: an audit that two windows show is loaded once",
        include_interval_end=True,
    )  # fmt: skip
    if known:
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
