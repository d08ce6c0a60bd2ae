"""What could not be asked for, told without the organisation's words: they may quote anything."""

from typing import Final

from etl.errors import AuditEtlError
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


def refusal_text(error: AuditEtlError) -> str:
    """What an organisation refused: the status, and the code if it is a documented one."""
    cause = error if isinstance(error, Refused) else error.__cause__
    if isinstance(cause, Refused):
        code = cause.refusal.code
        return f"status {cause.refusal.status}" + (f" {code}" if code in _CODES else "")
    return type(error).__name__


def unanswered(about: str, error: AuditEtlError | NoneLeft) -> Finding:
    """A finding that could not be made."""
    if isinstance(error, NoneLeft):
        return finding(about, None, "the probe has sent as many requests as it may")
    return finding(about, None, f"no answer: {refusal_text(error)}")
