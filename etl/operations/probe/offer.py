"""Whether a large result is offered as a download, and in which form."""

from collections.abc import Iterator

import msgspec

from etl.errors import AuditEtlError, Stopped
from etl.genesys.client.downloads import Downloads
from etl.genesys.client.failures import Answer
from etl.operations.probe.findings import NOTHING, Finding, finding
from etl.operations.probe.inquiry import Answered, Inquiry, shown
from etl.operations.probe.unanswered import refusal_text

#: No more of a download is fetched.
_BYTES_MAX = 256 * 1024 * 1024


class _Offer(msgspec.Struct, rename="camel"):
    download_url: str | None = None


def offered(inquiry: Inquiry, answered: Answered) -> Iterator[Finding]:
    """Whether and how a large result is offered as a download, and what the download holds."""
    offer = inquiry.offer(answered.query_id)
    url = _url(offer)
    if url is None:
        yield finding("large results", None, f"none was offered for {len(answered.shown)} audits")
        return
    located = "Location" in offer.headers
    usual = offer.status == 302 and not located
    seen = f"status {offer.status}, {'a' if located else 'no'} location header"
    try:
        first = next(Downloads(inquiry.api.transport, _BYTES_MAX).pages(url), None)
    except Stopped:
        raise
    except AuditEtlError as error:
        seen += f"; it cannot be read: {refusal_text(error)}"
        remedy = "leave out allow_redirect: smaller windows are asked for"
        yield finding("large results", False, seen, remedy, redirect_over=1)
        return
    audits = shown(first) if first else ()
    dated = sorted({"eventDate", "eventTime"} & {name for a in audits for name in a.members})
    yield finding(
        "large results", usual,
        f"{seen}; a JSON array of audits, their time in {' and '.join(dated) or 'no member'}",
        NOTHING,
        redirect_over=1, redirect_status=offer.status, redirect_location=located,
    )  # fmt: skip


def _url(answer: Answer) -> str | None:
    try:
        return msgspec.json.decode(answer.body, type=_Offer).download_url
    except msgspec.MsgspecError:
        return None
