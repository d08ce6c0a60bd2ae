"""How long a query and a cursor are good."""

from collections.abc import Iterator
from datetime import timedelta

from etl.genesys.client.failures import Refused
from etl.operations.probe.findings import Finding, finding
from etl.operations.probe.inquiry import Answered, Inquiry
from etl.operations.probe.unanswered import refusal_text
from etl.window import format_duration


def lives(inquiry: Inquiry, sample: Answered, held: timedelta) -> Iterator[Finding]:
    """Whether a query and a cursor are good for as long as was waited."""
    length, seconds = format_duration(held), max(1, round(held.total_seconds()))
    try:
        inquiry.page(sample.query_id)
        lived, seen = True, f"it could be read after {length}"
    except Refused as error:
        lived, seen = False, f"it was gone after {length}: {refusal_text(error)}"
    yield finding(
        "life of a query", lived, seen,
        "nothing to change: a window whose query is gone is asked for again",
        query_dies_after=seconds,
    )  # fmt: skip
    if not lived or sample.cursor is None:
        why = "its query is gone" if not lived else "the first page was the only one"
        yield finding("life of a cursor", None, why)
        return
    try:
        inquiry.page(sample.query_id, sample.cursor)
        good, seen = True, f"it was good after {length}"
    except Refused as error:
        good, seen = False, f"it was refused after {length}: {refusal_text(error)}"
    yield finding(
        "life of a cursor", good, seen,
        "set a shorter max_window: pages are then read sooner", cursor_dies_after=seconds,
    )  # fmt: skip
