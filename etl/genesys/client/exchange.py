"""One HTTP request and its answer, by the rules that hold for all of them.

Every request has timeouts, and a whole answer has a deadline and a size limit. Redirects are not
followed. Certificates are verified. `requests` takes proxies, NO_PROXY and REQUESTS_CA_BUNDLE from
the environment, but no .netrc. A request without an answer is a `NoAnswer`, not an exception: an
exception of `requests` carries the request, with its Authorization header and its URL.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

import requests
import urllib3
from requests.auth import AuthBase

from etl import __version__
from etl.encryption import is_loopback
from etl.genesys.client.clock import Clock, OrganizationClock
from etl.genesys.client.failures import Answer, NoAnswer, Refusal, http_date
from etl.genesys.client.network_errors import no_answer_of
from etl.genesys.client.retries import Patience
from etl.genesys.client.session import Session
from etl.genesys.client.tally import count_request
from etl.wire import TOO_LARGE_CODE

USER_AGENT: Final = f"audit-etl/{__version__} (+python-requests/{requests.__version__})"

#: No answer is read further: 500 audits of 256 KiB each, where 1.6 kB is usual. A hostile server
#: can take this much memory of each thread, and an honest one is asked for a smaller page.
BODY_BYTES_MAX: Final = 128 * 1024 * 1024
#: Of an answer that says no, this much is read.
ERROR_BYTES_MAX: Final = 64 * 1024
_CHUNK_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """A request, but for the host and the credentials.

    Attributes:
        path: URL-encoded.
        template: the path for messages, with `{id}` where the id stands; None if it holds none.
        query: parameters, to be encoded.
    """

    method: str
    path: str
    template: str | None = None
    query: Sequence[tuple[str, str]] = ()
    body: bytes | None = field(default=None, repr=False)
    content_type: str = "application/json"

    @property
    def operation(self) -> str:
        """What messages call it; holds no id and no parameter."""
        return f"{self.method} {self.template or self.path}"

    def url(self, base: str) -> str:
        """The URL below `base`, each parameter encoded, odd characters of a cursor included."""
        query = urlencode(self.query, quote_via=quote, errors="surrogatepass")
        return f"{base}{self.path}{'?' if query else ''}{query}"


class _WithoutQueries(logging.Filter):
    """Cuts the query off every URL that is logged: a presigned one is a credential."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, its arguments without what follows a question mark."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                value.partition("?")[0] if isinstance(value, str) else value
                for value in record.args
            )
        return True


#: At DEBUG it logs the path of each request, query included.
logging.getLogger("urllib3.connectionpool").addFilter(_WithoutQueries())


class Exchange:
    """Sends requests for one organisation, counts them, and learns its time.

    May be used from several threads: no two share an HTTP session at any time, and there are as
    many sessions as requests were ever under way at once, each with its connection kept open.

    Attributes:
        count: requests sent so far.
    """

    def __init__(
        self, clock: Clock, patience: Patience, body_bytes_max: int = BODY_BYTES_MAX
    ) -> None:
        self._clock = clock
        self._patience = patience
        self._body_bytes_max = body_bytes_max
        self._lock = threading.Lock()
        self._idle: list[requests.Session] = []
        self.count = 0
        self.time = OrganizationClock(clock)

    def close(self) -> None:
        """Close all connections; call it when no thread sends any more."""
        with self._lock:
            for session in self._idle:
                session.close()

    def count_request(self) -> None:
        """Count a request that is about to be sent.

        Raises:
            Stopped: it must not be sent, a signal asked to stop.
        """
        self._clock.check()
        count_request()
        with self._lock:
            self.count += 1

    def send(self, base: str, call: Call, auth: AuthBase) -> Answer | Refusal | NoAnswer:
        """Send `call` to `base` once.

        Returns:
            the answer, whatever its status; a refusal only if the answer is larger than is read.

        Raises:
            ConfigurationError: a proxy or a private CA is set that cannot be used.
            Stopped: a signal asked to stop; nothing was sent.
        """
        self.count_request()
        try:
            return self._exchange(base, call, auth)
        except OSError as error:  # which all exceptions of requests are
            return no_answer_of(call.operation, base, error)

    def _exchange(self, base: str, call: Call, auth: AuthBase) -> Answer | Refusal:
        sent = self._clock.monotonic()
        with (
            self._session() as session,
            session.request(
                call.method,
                call.url(base),
                data=call.body,
                headers={"Content-Type": call.content_type} if call.body is not None else None,
                auth=auth,
                proxies=no_proxy_on_loopback(base),
                timeout=self._patience.timeout,
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            refused = response.status_code >= 400
            if not refused:  # a refusal may be a proxy's
                fresh = call.method == "POST" and "Age" not in response.headers
                self.time.heard(http_date(response.headers.get("Date")), sent, fresh=fresh)
            body = self._read(response, ERROR_BYTES_MAX if refused else self._body_bytes_max)
            if len(body) > self._body_bytes_max:
                return Refusal(
                    call.operation,
                    response.status_code,
                    TOO_LARGE_CODE,
                    f"the answer is larger than {self._body_bytes_max} bytes",
                )
            return Answer(response.status_code, response.headers, body)

    def _read(self, response: requests.Response, limit: int) -> bytes:
        """The body, but not much more than `limit` bytes of it."""
        body = BytesIO()
        for part in read_parts(response):
            body.write(part)
            if body.tell() > limit:
                break
        return body.getvalue()

    @contextmanager
    def _session(self) -> Iterator[requests.Session]:
        """A session for this thread alone during the block: the last one that was given back."""
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        session = idle or new_session(self._patience.answer_seconds, self._clock.monotonic)
        try:
            yield session
        finally:
            with self._lock:
                self._idle.append(session)


def read_parts(response: requests.Response) -> Iterator[bytes]:
    """Yield the inflated body of an answer, in whatever parts it arrives.

    Raises:
        requests.RequestException: it broke off, cannot be inflated, or took too long.
    """
    try:
        while part := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            yield part
    except urllib3.exceptions.HTTPError as error:
        raise requests.exceptions.ConnectionError(error) from error


def new_session(seconds: float, monotonic: Callable[[], float]) -> requests.Session:
    """A session that says who we are. See `Session`."""
    session = Session(seconds, monotonic)
    session.headers.update({"User-Agent": USER_AGENT, "Accept": "application/json"})
    return session


def no_proxy_on_loopback(url: str) -> dict[str, str] | None:
    """What to tell `requests` so that this machine is not asked for through a proxy."""
    host = urlsplit(url).hostname or ""
    return {"no_proxy": host} if is_loopback(host) else None
