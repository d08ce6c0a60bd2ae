"""The newest audits: whether the realtime query shows them too, and what is new of them later."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from etl.genesys.client.failures import Refused
from etl.operations.probe.findings import Finding, finding
from etl.operations.probe.inquiry import Answered, Inquiry, shown
from etl.operations.probe.shown_audits import outside
from etl.operations.probe.unanswered import refusal_text
from etl.window import Window, format_duration

_HOUR: Final = timedelta(hours=1)
#: So many audits, about, are asked for again after a while.
_RECENT_AUDITS: Final = 300
_RECENT_PAGES: Final = 2
_RECENT_MIN, _RECENT_MAX = timedelta(minutes=1), timedelta(days=1)


def recent(inquiry: Inquiry, sample: Answered, latest: datetime) -> Answered:
    """The newest audits that can be exported, few enough for a page."""
    times = sorted(sample.ids().values())
    spread = times[-1] - times[0] if times else _RECENT_MAX
    length = spread * _RECENT_AUDITS / max(1, len(times))
    length = timedelta(seconds=round(min(max(length, _RECENT_MIN), _RECENT_MAX).total_seconds()))
    return inquiry.ask(Window(latest - length, latest), pages=_RECENT_PAGES)


def realtime(inquiry: Inquiry, exported: Answered) -> Iterator[Finding]:
    """Whether the realtime query shows what the export does."""
    try:
        page, _ = inquiry.api.realtime(exported.window, None)
    except Refused as error:
        yield finding(
            "realtime", False, f"it was refused: {refusal_text(error)}",
            "nothing to change: tail and early loading ask service by service",
            realtime_named=True,
        )  # fmt: skip
        return
    ids = {audit.id for audit in shown(page) if audit.id is not None}
    strange = len(ids - exported.ids().keys())
    known = None if exported.cursor or not ids else not strange
    yield finding(
        "realtime", known, f"{strange} of its {len(ids)} audits are not in the export",
        "leave out early = true: early audits would be confirmed by no window",
    )  # fmt: skip


def again(inquiry: Inquiry, before: Answered, lag: timedelta) -> Iterator[Finding]:
    """What the same question shows after a while."""
    after = inquiry.ask(before.window, pages=_RECENT_PAGES)
    first, second = before.ids(), after.ids()
    whole = before.cursor is None and after.cursor is None
    moved = sum(first[i] != second[i] for i in first.keys() & second.keys())
    yield finding(
        "times (A2)", not moved if first else None, f"{moved} of {len(first)} changed",
        "please report it: such an audit is stored with its first time",
    )  # fmt: skip
    gone = len(first.keys() - second.keys()) if whole else 0
    strange = outside(before) + outside(after)
    yield finding(
        "answers (A3)", not (gone or strange) if first else None,
        f"{gone} of {len(first)} audits were not shown again, {strange} were of another time",
        "please report it: run audit-etl verify often, it finds what an answer left out",
        shrink_again=True,
    )  # fmt: skip
    yield _late(
        [second[i] for i in second.keys() - first.keys()] if whole else [], inquiry, lag, len(first)
    )


def _late(times: Sequence[datetime], inquiry: Inquiry, lag: timedelta, held: int) -> Finding:
    if not times and not held:
        return finding("lateness (A4)", None, "there are no audits to look at")
    oldest = inquiry.source.now() - min(times) if times else timedelta(0)
    hours = max(1, -(-oldest // _HOUR))
    return finding(
        "lateness (A4)",
        not times,
        f"{len(times)} audits became visible more than {format_duration(lag)} after their time"
        + (
            f", up to {format_duration(oldest)} after it"
            if times
            else f"; {held} were there before"
        ),
        f'set lag = "{hours}h", or see that a schedule looks back so far',
        late_every=max(1, held // max(1, len(times))),
        late_hours=hours,
    )
