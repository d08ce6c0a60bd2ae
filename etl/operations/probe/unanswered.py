"""What could not be asked for, told without the organisation's words: they may quote anything."""

from typing import Final

from etl.errors import AuditEtlError, NotPermitted, QueryFailed, RateLimited, Unavailable
from etl.genesys.client.failures import Refused
from etl.operations.probe.findings import Finding, finding
from etl.operations.probe.inquiry import NoneLeft

#: Codes that the vendor documents for these operations; no other is told.
_CODES: Final = frozenset(
    {
        *("app.not.authorized.for.scope", "authentication.required", "authz.policy.denied"),
        *("bad.credentials", "bad.request", "client.timeout", "constraint.validation"),
        *("internal.server.error", "invalid.date", "invalid.property", "invalid.value"),
        *("invalid.query.param.value", "ip.not.authorized", "missing.any.division.permissions"),
        *("missing.any.permissions", "missing.division.permission", "missing.permissions"),
        *("not.authorized", "not.found", "request.conflict", "request.entity.too.large"),
        *("request.timeout", "response.entity.too.large", "service.unavailable"),
        *("too.many.requests", "too.many.requests.retry.after", "unsupported.media.type"),
    }
)

_WORDS: Final[dict[type[AuditEtlError], str]] = {
    QueryFailed: "its query failed, or its file is gone",
    RateLimited: "its rate limit was spent, try again in a minute",
    Unavailable: "it did not answer in time",
    NotPermitted: "it refused the client",
    AuditEtlError: "it answered otherwise than documented",
}


def refusal_text(error: AuditEtlError) -> str:
    """What an organisation refused: the status, and the code if it is a documented one."""
    cause = error if isinstance(error, Refused) else error.__cause__
    if isinstance(cause, Refused):
        code = cause.refusal.code
        return f"status {cause.refusal.status}" + (f" {code}" if code in _CODES else "")
    return next(words for kind, words in _WORDS.items() if isinstance(error, kind))


def unanswered(about: str, error: AuditEtlError | NoneLeft) -> Finding:
    """A finding that could not be made."""
    if isinstance(error, NoneLeft):
        return finding(about, None, "the probe has sent as many requests as it may")
    return finding(about, None, f"no answer: {refusal_text(error)}")
