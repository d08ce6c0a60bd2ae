"""Large results, which lie as one file at a presigned URL outside the API.

The URL is a credential: it is asked for without a token, and neither logged nor put into an error.
"""

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final
from urllib.parse import urlsplit

import requests

from etl.errors import DestinationUnavailable, QueryFailed, SourceBrokePromise
from etl.genesys.client.auth import ANONYMOUS
from etl.genesys.client.events import Requested
from etl.genesys.client.exchange import new_session, no_proxy_on_loopback, read_parts
from etl.genesys.client.failures import Failure, Refusal
from etl.genesys.client.network_errors import no_answer_of
from etl.genesys.client.retries import Retries
from etl.genesys.client.transport import Transport
from etl.records import Page, split_array
from etl.wire import PAGE_SIZE_MAX

_LOG = logging.getLogger(__name__)

_OPERATION: Final = "GET downloadUrl"
_CHUNK_BYTES: Final = 256 * 1024
#: No download is larger: five million audits of 1.6 kB, where a query aims at 100,000.
DOWNLOAD_BYTES_MAX: Final = 8 * 1024**3


class Downloads:
    """Fetches large results to a temporary file and cuts that into pages."""

    def __init__(self, transport: Transport, bytes_max: int = DOWNLOAD_BYTES_MAX) -> None:
        self._transport = transport
        self._bytes_max = bytes_max

    def pages(self, url: str) -> Iterator[Page]:
        """The audits of the file at `url`, in pages of 500 that are not expanded.

        Nothing is given before the file is here, as far as its length is known.

        Raises:
            QueryFailed: the file cannot be had, or is cut short; another query may do better.
            SourceBrokePromise: `url` is none that we may ask.
            DestinationUnavailable: there is no room for it on this machine.
            Stopped: a signal asked to stop.
        """
        self._require_safe(url)
        with _temporary_file() as file:
            self._fetch(url, file)
            file.seek(0)
            try:
                yield from split_array(iter(lambda: file.read(_CHUNK_BYTES), b""), PAGE_SIZE_MAX)
            except ValueError as error:
                raise self._failed(f"the download is no whole JSON array: {error}") from error

    def _require_safe(self, url: str) -> None:
        plain_http = self._transport.endpoints.on_loopback
        if not _is_safe(url, plain_http=plain_http):
            raise SourceBrokePromise(
                f"organisation {self._transport.organization}: the download URL of a large result "
                "is not https; set allow_redirect = false"
            )

    def _fetch(self, url: str, file: IO[bytes]) -> None:
        retries = Retries(self._transport.patience, self._transport.clock.monotonic)
        while True:
            file.seek(0)
            file.truncate()
            began = time.monotonic()
            failure = self._attempt(url, file)
            self._transport.tell(Requested(_OPERATION, _status(failure), time.monotonic() - began))
            if failure is None:
                return
            # An unknown host: the few attempts of one are enough, another query gives a new URL.
            seconds = retries.pause_after(failure, answered=False)
            told = self._transport.conceal(str(failure))
            if seconds is None:
                raise self._failed(told)
            _LOG.warning(
                "organisation %s: %s; next attempt in %g s",
                self._transport.organization,
                told,
                seconds,
            )
            self._transport.clock.wait(seconds)

    def _attempt(self, url: str, file: IO[bytes]) -> Failure | None:
        patience, clock = self._transport.patience, self._transport.clock
        self._transport.exchange.count_request()
        try:
            with (
                new_session(patience.download_seconds, clock.monotonic) as session,
                session.get(
                    url,
                    auth=ANONYMOUS,
                    proxies=no_proxy_on_loopback(url),
                    timeout=patience.timeout,
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                if response.status_code != 200:
                    return Refusal(_OPERATION, response.status_code)
                return self._keep(response, file)
        except OSError as error:  # which all exceptions of requests are
            return no_answer_of(_OPERATION, url, error)

    def _keep(self, response: requests.Response, file: IO[bytes]) -> Refusal | None:
        size = 0
        for chunk in read_parts(response):
            self._transport.clock.check()
            size += len(chunk)
            if size > self._bytes_max:
                return Refusal(_OPERATION, 413, message=f"more than {self._bytes_max} bytes")
            with _on_disk():
                file.write(chunk)
                file.flush()
        return None

    def _failed(self, reason: str) -> QueryFailed:
        return QueryFailed(
            f"organisation {self._transport.organization}: {reason}; it is asked for again, set "
            "allow_redirect = false if this goes on"
        )


def _is_safe(url: str, *, plain_http: bool) -> bool:
    try:
        parts = urlsplit(url)
        requests.Request("GET", url).prepare()
    except ValueError:  # which what requests says of a bad URL is, too
        return False
    return bool(parts.hostname) and parts.scheme in ({"https", "http"} if plain_http else {"https"})


def _status(failure: Failure | None) -> int | None:
    if failure is None:
        return 200
    return failure.status if isinstance(failure, Refusal) else None


@contextmanager
def _on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DestinationUnavailable(
            f"there is no room for a download among the temporary files: {error.strerror}; make "
            "some, or name another directory with TMPDIR"
        ) from error


@_on_disk()
def _temporary_file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="audit-etl-")
