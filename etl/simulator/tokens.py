"""OAuth tokens and what may be asked with each in a minute."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from etl.simulator.errors import bad_token, no_token
from etl.wire import RATE_ALLOWED_HEADER, RATE_COUNT_HEADER, RATE_RESET_HEADER

_MINUTE_MS: Final = 60_000


@dataclass(slots=True)
class _Use:
    expires_ms: int
    requests: int = 0
    minute_ms: int = 0
    in_minute: int = 0


@dataclass(frozen=True, slots=True)
class Allowance:
    """Where a token stands after a request.

    Attributes:
        allowed: requests in a minute.
        count: requests in this minute, with this one.
        reset: whole seconds until the minute ends, 1 to 60.
    """

    allowed: int
    count: int
    reset: int

    @property
    def spent(self) -> bool:
        """Whether this request was one too many."""
        return self.count > self.allowed

    def headers(self, reset_told: int = 0) -> Mapping[str, str]:
        """The headers that tell a client, perhaps of another `reset` than is true."""
        return {
            RATE_ALLOWED_HEADER: str(self.allowed),
            RATE_COUNT_HEADER: str(self.count),
            RATE_RESET_HEADER: str(reset_told or self.reset),
        }


@dataclass(slots=True)
class Tokens:
    """The tokens that were given out."""

    _uses: dict[str, _Use] = field(default_factory=dict, repr=False)

    def issue(self, now_ms: int, seconds: int) -> str:
        """A new token, good for `seconds`."""
        token = secrets.token_urlsafe(48)
        self._uses[token] = _Use(now_ms + seconds * 1000)
        return token

    def known(self) -> frozenset[str]:
        """Every token given out that was not revoked."""
        return frozenset(self._uses)

    def revoke_all(self) -> None:
        """No token given out so far is good any more."""
        self._uses.clear()

    def admit(
        self, authorization: str | None, now_ms: int, allowed: int, dies_after: int
    ) -> Allowance:
        """Count a request made with the token in an `Authorization` header.

        A minute begins with the first request after the one before has ended.

        Raises:
            ApiError: there is no token, or it is not good.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise no_token()
        use = self._uses.get(token)
        if use is None or now_ms >= use.expires_ms or (dies_after and use.requests >= dies_after):
            raise bad_token()
        if use.in_minute == 0 or now_ms - use.minute_ms >= _MINUTE_MS:
            use.minute_ms, use.in_minute = now_ms, 0
        use.requests += 1
        use.in_minute += 1
        left_ms = use.minute_ms + _MINUTE_MS - now_ms
        return Allowance(allowed, use.in_minute, max(1, -(-left_ms // 1000)))


def credentials(authorization: str | None, form: Mapping[str, str]) -> tuple[str, str]:
    """The client's id and secret, from HTTP Basic or else from the form; empty if not given."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return client_id, secret
