"""The newest audits: whether the realtime query shows them too, and what is new of them later."""

from collections.abc import Generator, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from etl.genesys import query_refusals
from etl.genesys.client.failures import Refused
from etl.operations.probe.findings import Finding, finding
from etl.operations.probe.inquiry import Answered, Inquiry, shown
from etl.operations.probe.shown_audits import outside
from etl.operations.probe.unanswered import refusal_text
from etl.window import Window, format_duration

_HOUR: Final = timedelta(hours=1)
#: So many audits, about, are asked for again after a while, and read up to twice as many.
_RECENT_AUDITS: Final = 300
_RECENT_MIN, _RECENT_MAX = timedelta(minutes=1), timedelta(days=1)


def recent(inquiry: Inquiry, sample: Answered, latest: datetime) -> Answered:
    """The newest audits that can be exported."""
    times = sorted(sample.ids().values())
    spread = times[-1] - times[0] if times else _RECENT_MAX
    length = spread * _wanted(inquiry) / max(1, len(times))
    length = timedelta(seconds=round(min(max(length, _RECENT_MIN), _RECENT_MAX).total_seconds()))
    return inquiry.ask(Window(latest - length, latest), audits=2 * _wanted(inquiry))


def _wanted(inquiry: Inquiry) -> int:
    return min(_RECENT_AUDITS, 2 * inquiry.page_size)


def realtime(inquiry: Inquiry, exported: Answered) -> Generator[Finding, None, bool]:
    """Whether the realtime query shows what the export does; gives whether it shows more."""
    try:
        page, _ = inquiry.api.realtime(exported.window, None, page_size=lambda _: inquiry.page_size)
    except Refused as error:
        named = query_refusals.is_about_service(error, None)
        yield finding(
            "realtime", False if named else None, f"it was refused: {refusal_text(error)}",
            "nothing to change: tail and early loading ask service by service",
            realtime_named=True,
        )  # fmt: skip
        return False
    ids = {audit.id for audit in shown(page) if audit.id is not None}
    strange = len(ids - exported.ids().keys())
    known = None if exported.cursor or not ids else not strange
    yield finding(
        "realtime", known, f"{strange} of its {len(ids)} audits are not in the export",
        "leave out early = true: no window may confirm such audits. Run audit-etl verify often",
        shrink_again=True,
    )  # fmt: skip
    return known is False


def again(
    inquiry: Inquiry, before: Answered, lag: timedelta, *, doubted: bool
) -> Iterator[Finding]:
    """What the same question shows after a while.

    Args:
        inquiry: asks.
        before: the first answer.
        lag: how old its audits were at least.
        doubted: whether the realtime query shows more than that answer.
    """
    after = inquiry.ask(before.window, audits=2 * _wanted(inquiry))
    first, second = before.ids(), after.ids()
    whole = bool(first) and before.cursor is None and after.cursor is None
    both = first.keys() & second.keys()
    moved = sum(first[i] != second[i] for i in both)
    yield finding(
        "times (A2)", not moved if both else None, f"{moved} of {len(both)} changed",
        "please report it: such an audit is stored with its first time",
    )  # fmt: skip
    gone = len(first.keys() - second.keys()) if whole else 0
    strange = outside(before) + outside(after)
    yield finding(
        "answers (A3)", False if gone or strange else True if whole and not doubted else None,
        f"{gone} of {len(first)} audits were not shown again, {strange} were of another time"
        + ("" if whole else "; the answer was too long to be compared whole")
        + ("; the realtime query shows others" if doubted else ""),
        "please report it: run audit-etl verify often, it finds what an answer left out",
        shrink_again=True,
    )  # fmt: skip
    late = [second[i] for i in second.keys() - first.keys()] if whole else []
    yield _late(late, inquiry.source.now(), lag, len(first), whole=whole)


def _late(
    times: Sequence[datetime], now: datetime, lag: timedelta, held: int, *, whole: bool
) -> Finding:
    oldest = now - min(times) if times else timedelta(0)
    hours = max(1, -(-oldest // _HOUR))
    said = f"{len(times)} audits became visible more than {format_duration(lag)} after their time"
    rest = f", up to {format_duration(oldest)} after it" if times else f"; {held} were there before"
    return finding(
        "lateness (A4)", False if times else True if whole else None, said + rest,
        f'set lag = "{hours}h", or see that a schedule looks back so far',
        late_every=max(1, held // max(1, len(times))), late_hours=hours,
    )  # fmt: skip
