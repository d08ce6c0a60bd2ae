"""Failed requests as values, and the errors that the user sees.

A `Refusal` is an answer with an error status. A `NoAnswer` is a network failure. The client decides
with them whether to retry, and turns the last one into an error of `etl.errors`. Texts of the
organisation are shown, so they are made plain and short first, and known secrets are cut out.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import ClassVar, Final

import msgspec

from etl.errors import (
    AuditEtlError,
    NotPermitted,
    RateLimited,
    SourceBrokePromise,
    SourceUnavailable,
)
from etl.plain import plain
from etl.wire import CORRELATION_HEADER, RATE_RESET_HEADER, RETRY_AFTER_HEADER, TOO_LARGE_CODE

#: The permission that every audit operation needs, by the vendor's Swagger.
PERMISSION: Final = "audits:audit:view"

_SECONDS_IN_MESSAGE: Final = re.compile(r"\[(\d{1,9})\] seconds")
_TEXT_LENGTH_MAX: Final = 300
#: Seconds after which to come back when a rate limit does not say when it ends: the vendor's
#: window. One that is said to be longer than `_RESET_MAX` is taken for that, too.
_RATE_MINUTE: Final = 60.0
_RESET_MAX: Final = 3600.0
#: Daily limits exist: waits of hours are believed. After this the organisation is asked again.
_PARKED_MAX: Final = timedelta(days=1).total_seconds()

Conceal = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read to its end, whatever its status.

    Attributes:
        headers: names in any case.
        body: inflated; of an error, its first 64 KiB.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is not what was asked for.

    Attributes:
        operation: method and path, ids left out.
        code: the vendor's code, if it gave one.
        message: the vendor's words, plain and short.
        correlation_id: what the vendor's support asks for.
        retry_after: seconds that the organisation asks to wait.
        misshapen: the status was accepted, but the body is not what the contract promises.
    """

    operation: str
    status: int
    code: str | None = None
    message: str | None = None
    correlation_id: str | None = None
    retry_after: float | None = None
    misshapen: bool = False

    def __str__(self) -> str:
        code = f" {self.code}" if self.code else ""
        message = f": {self.message}" if self.message else ""
        trace = f" (correlation id {self.correlation_id})" if self.correlation_id else ""
        return f"{self.operation} answered {self.status}{code}{message}{trace}"

    @property
    def too_large(self) -> bool:
        """Whether it is said that only a smaller page can be answered."""
        return self.code == TOO_LARGE_CODE or self.status == 413

    @property
    def may_be_its_size(self) -> bool:
        """Whether a smaller answer might have passed what stands before the organisation."""
        return self.status == 408 or self.status >= 500


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A request without an answer, or with one that cannot be read.

    Attributes:
        operation: method and path, ids left out.
        host: the one that was asked.
        reason: a sentence about the host, without its subject.
        remedy: what the user can do.
    """

    operation: str
    host: str
    reason: str
    remedy: str
    #: A gateway may have dropped it for its size.
    may_be_its_size: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"{self.operation} failed: {self.host} {self.reason}"


Failure = Refusal | NoAnswer


class Refused(SourceBrokePromise):
    """The organisation refuses a request that its contract allows.

    Also the cause (`__cause__`) of every other error that stems from an answer.

    Attributes:
        refusal: operation, status, code, message and correlation id.
    """

    def __init__(self, refusal: Refusal, organization: str) -> None:
        super().__init__(
            f"organisation {organization}: {refusal}; the vendor's contract gives no reason for "
            "this, please report it"
        )
        self.refusal = refusal


def read_refusal(operation: str, answer: Answer, now: datetime, conceal: Conceal) -> Refusal:
    """What an error answer says, of the vendor's error body or of OAuth's."""
    body = _members(answer.body)
    message = body.get("message") or body.get("error_description") or body.get("description")
    code = body.get("code") or body.get("error")
    trace = answer.headers.get(CORRELATION_HEADER) or body.get("contextId")
    return Refusal(
        operation,
        answer.status,
        code and shortened(conceal(code)),
        message and shortened(conceal(message)),
        trace and shortened(conceal(trace)),
        _retry_after(answer, message, now) if answer.status == 429 else None,
    )


def misshapen(operation: str, answer: Answer, reason: str, conceal: Conceal) -> Refusal:
    """An answer whose JSON is not what the contract promises."""
    trace = answer.headers.get(CORRELATION_HEADER)
    return Refusal(
        operation,
        answer.status,
        message=shortened(conceal(f"its body is not as documented: {reason}")),
        correlation_id=trace and shortened(conceal(trace)),
        misshapen=True,
    )


def error_of(failure: Failure, organization: str, now: datetime) -> AuditEtlError:
    """The error to raise once `failure` of an API operation is final."""
    if isinstance(failure, NoAnswer):
        return SourceUnavailable(f"organisation {organization}: {failure}; {failure.remedy}")
    cause = Refused(failure, organization)
    error: AuditEtlError = cause
    if failure.status in {401, 403}:
        error = NotPermitted(f"organisation {organization}: {failure}; {_remedy(failure)}")
    elif failure.status == 429:
        error = _rate_limited(failure, organization, now)
    elif failure.status in {407, 408} or failure.status >= 500:
        error = SourceUnavailable(
            f"organisation {organization}: {failure}; retried until the limit, the next run tries "
            "again"
        )
    if error is not cause:
        error.__cause__ = cause
    return error


def shortened(text: str) -> str:
    """`text` on one line, plain, at most 300 characters long."""
    line = plain(" ".join(text.split()))
    return line if len(line) <= _TEXT_LENGTH_MAX else f"{line[:_TEXT_LENGTH_MAX]}…"


def http_date(text: str | None) -> datetime | None:
    """The instant in an HTTP date, UTC; None if it is none."""
    try:
        instant = parsedate_to_datetime(text or "")
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _remedy(refusal: Refusal) -> str:
    if refusal.code == "ip.not.authorized":
        return f"allow this machine's address in the organisation; the client needs {PERMISSION}"
    if refusal.status == 401:
        return (
            "a fresh token was refused as well: see that the OAuth client is still enabled and has "
            f"a role with {PERMISSION}"
        )
    return f"give the OAuth client a role with {PERMISSION}, in all divisions"


def _rate_limited(refusal: Refusal, organization: str, now: datetime) -> RateLimited:
    asked = max(refusal.retry_after or 0.0, _RATE_MINUTE)
    wait = min(asked, _PARKED_MAX)
    until = now + timedelta(seconds=wait)
    doubt = f" (the {asked:.0f} s that it asks for are not believed)" if asked > wait else ""
    return RateLimited(
        f"organisation {organization}: {refusal}{doubt}; it takes no more requests before "
        f"{until:%Y-%m-%d %H:%M:%S} UTC, run again after that",
        until,
        wait,
    )


def _retry_after(answer: Answer, message: str | None, now: datetime) -> float | None:
    header = answer.headers.get(RETRY_AFTER_HEADER)
    if (seconds := as_seconds(header)) is not None:
        return seconds
    if (instant := http_date(header)) is not None:
        # Their date against their clock: ours may be wrong.
        theirs = http_date(answer.headers.get("Date")) or now
        return max(0.0, (instant - theirs).total_seconds())
    if found := _SECONDS_IN_MESSAGE.search(message or ""):
        return float(found[1])
    return reset_seconds(answer.headers)


def reset_seconds(headers: Mapping[str, str]) -> float | None:
    """In how many seconds the rate budget starts again, as far as that can be believed."""
    seconds = as_seconds(headers.get(RATE_RESET_HEADER))
    return _RATE_MINUTE if seconds is not None and seconds > _RESET_MAX else seconds


def as_seconds(header: str | None) -> float | None:
    """A header's number of seconds; None if it holds anything else."""
    text = (header or "").strip()
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) else None


def _members(body: bytes) -> dict[str, str]:
    """The members of a JSON object that are texts; none if the body is anything else."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {name: text for name, text in value.items() if isinstance(text, str)}
