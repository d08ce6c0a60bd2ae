"""What a refused query was refused for: its service, its interval, its cursor."""

import re
from datetime import timedelta
from typing import Final

from etl.errors import NotPermitted
from etl.genesys.client.failures import Refused

#: How a live organisation refuses an interval; 31 days by most reports, 7 by one.
_TOO_LONG: Final = re.compile(r"interval\b.*\bnot exceed (\d{1,3}) days?\b", re.IGNORECASE)
#: Codes of a 403 that hold for every service.
_ABOUT_THE_CLIENT: Final = frozenset(
    {
        None,
        "missing.permissions",
        "missing.any.permissions",
        "app.not.authorized.for.scope",
        "authz.policy.denied",
        "ip.not.authorized",
    }
)


def longest_interval(error: Refused) -> timedelta | None:
    """How long an interval may be, if a query was refused for the length of its own."""
    said = _TOO_LONG.search(error.refusal.message or "")
    return timedelta(days=int(said[1])) if said and error.refusal.status == 400 else None


def has_expired(error: Refused, cursor: str | None) -> bool:
    """Whether a result is gone, or a cursor: how the vendor says that is not known for sure."""
    refusal = error.refusal
    cursor_refused = refusal.status == 400 and cursor is not None and not refusal.too_large
    return refusal.status in {404, 410} or cursor_refused


def is_refusal_of_service(error: NotPermitted) -> bool:
    """Whether it is about what was asked for, not about asking for audits at all."""
    cause = error.__cause__
    if not isinstance(cause, Refused) or cause.refusal.status != 403:
        return False
    return cause.refusal.code not in _ABOUT_THE_CLIENT


def is_about_service(error: Refused, service: str | None) -> bool:
    """Whether a query was refused for its service.

    The vendor's exact words are not known; its code `invalid.value` quotes the value and the
    member, so the message is searched for either.
    """
    if error.refusal.status != 400:
        return False
    message = error.refusal.message or ""
    if re.search(r"service ?name", message, re.IGNORECASE):
        return True
    return service is not None and bool(re.search(rf"(?<!\w){re.escape(service)}(?!\w)", message))
