"""Who we are: the OAuth client, its token, and how a request carries either.

Every request is given an `AuthBase` of ours, so that `requests` looks for no credentials of its own
in a .netrc file or in a URL.
"""

import re
import threading
from base64 import b64encode
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
from requests import PreparedRequest
from requests.auth import AuthBase

from etl.genesys.client.clock import Clock
from etl.genesys.client.masking import mask

#: Seconds: the least lifetime that the vendor lets a client choose, assumed where none is named.
_LIFETIME_MIN: Final = 300.0
#: The vendor's longest is 48 hours; a longer one is not believed.
_LIFETIME_MAX: Final = 172_800.0
_MARGIN_MAX: Final = 300.0
#: Tokens that were replaced a while ago may still be quoted by an answer that is on its way.
_REMEMBERED: Final = 16
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """The id and the secret of an OAuth client of the kind Client Credentials."""

    id: str
    secret: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The two as HTTP Basic credentials, in UTF-8."""
        return b64encode(f"{self.id}:{self.secret}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Token:
    """What lets a request in.

    Attributes:
        renew_at: by the monotonic clock, when to replace it: some time before it expires.
    """

    text: str = field(repr=False)
    renew_at: float


class Authorization(AuthBase):
    """Sends a given Authorization header, or none."""

    def __init__(self, header: str | None) -> None:
        self._header = header

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """See `AuthBase`."""
        if self._header is not None:
            r.headers["Authorization"] = self._header
        return r


#: Keeps `requests` from adding credentials.
ANONYMOUS: Final = Authorization(None)


class Tokens:
    """The one token of an OAuth client, shared by all threads: fetched once, renewed in time."""

    def __init__(self, clock: Clock, fetch: Callable[[], Token]) -> None:
        self._clock = clock
        self._fetch = fetch
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._known: deque[str] = deque(maxlen=_REMEMBERED)

    def current(self) -> Token:
        """A token that is good for some time yet, fetched if there is none."""
        with self._lock:
            if self._token is None or self._clock.monotonic() >= self._token.renew_at:
                self._token = self._fetched()
            return self._token

    def instead_of(self, refused: Token) -> Token:
        """Another token than `refused`: what another thread fetched meanwhile, or a fresh one."""
        with self._lock:
            if self._token is None or self._token is refused:
                self._token = self._fetched()
            return self._token

    def renew(self) -> None:
        """Fetch another token, however good the one at hand is."""
        with self._lock:
            self._token = self._fetched()

    def conceal(self, text: str) -> str:
        """`text` without the token, and without those before it, should one be in it."""
        for token in tuple(self._known):
            text = mask(text, token)
        return text

    def _fetched(self) -> Token:
        token = self._fetch()
        self._known.append(token.text)
        return token


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: float | None = None


_DECODER: Final = msgspec.json.Decoder(_TokenAnswer, strict=False)


def read_token(body: bytes, now: float) -> Token:
    """The token in an answer of the token endpoint, received at `now` by the monotonic clock.

    Raises:
        ValueError: there is none in it; the message does not quote the answer.
    """
    try:
        answer = _DECODER.decode(body)
    except msgspec.MsgspecError:
        raise ValueError("no access_token, or an expires_in that is no number") from None
    if not _TOKEN.fullmatch(answer.access_token):
        raise ValueError("an access_token that no header can carry")
    lifetime = _LIFETIME_MIN
    if answer.expires_in is not None and answer.expires_in > 0:
        lifetime = min(answer.expires_in, _LIFETIME_MAX)
    return Token(answer.access_token, now + lifetime - min(_MARGIN_MAX, lifetime / 10))
