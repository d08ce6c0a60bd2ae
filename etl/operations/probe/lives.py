"""How long a query and a cursor are good."""

from collections.abc import Iterator
from datetime import timedelta

from etl.genesys.client.failures import Refused
from etl.genesys.query_refusals import has_expired
from etl.operations.probe.findings import Finding, finding
from etl.operations.probe.inquiry import Answered, Inquiry, Shown, shown
from etl.operations.probe.unanswered import refusal_text
from etl.window import format_duration


def lives(inquiry: Inquiry, sample: Answered, held: timedelta) -> Iterator[Finding]:
    """Whether a query and a cursor are good for as long as was waited."""
    seconds = max(1, round(held.total_seconds()))
    audits, seen = _read(inquiry, sample, None, held)
    same = bool(audits) and audits == sample.shown[: len(audits or ())]
    yield finding(
        "life of a query", None if audits == () else same, seen,
        "nothing to change: a window whose query is gone is asked for again",
        query_dies_after=seconds,
    )  # fmt: skip
    if not same or sample.cursor is None:
        return
    audits, seen = _read(inquiry, sample, sample.cursor, held)
    yield finding(
        "life of a cursor", None if audits == () else audits is not None, seen,
        "set a shorter max_window: pages are then read sooner", cursor_dies_after=seconds,
    )  # fmt: skip


def _read(
    inquiry: Inquiry, sample: Answered, cursor: str | None, held: timedelta
) -> tuple[tuple[Shown, ...] | None, str]:
    """A page of the sample, and what was seen; None if it is gone, empty if that is not known."""
    length = format_duration(held)
    try:
        audits = shown(inquiry.page(sample.query_id, cursor))
    except Refused as error:
        gone = has_expired(error, cursor)
        said = f"it was refused after {length}: {refusal_text(error)}"
        return None if gone else (), said
    return audits, f"{len(audits)} audits could be read after {length}"
