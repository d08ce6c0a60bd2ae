"""HTTP sessions that follow no redirect and bound the time of a whole answer.

`requests` reads the body of a redirect even if it must not follow it. A read timeout is for each
read: a host that sends a byte now and then, or one 100 Continue after another, would hold a thread
for weeks.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Session(requests.Session):
    """A session that treats a redirect as an answer like any other, and raises on slow answers.

    Args:
        seconds: from the end of a request to the end of its answer.
        monotonic: the clock for them.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        super().__init__()
        for prefix in ("https://", "http://"):
            self.mount(prefix, _Adapter(_response_class(seconds, monotonic)))

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        """Return None: no redirect is followed."""
        return None


class _Adapter(HTTPAdapter):
    """Makes connections with the given class of responses, through a proxy too."""

    def __init__(self, response_class: type[HTTPResponse]) -> None:
        super().__init__()
        self._response_class = response_class

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if "ConnectionCls" not in vars(pool):
            members = {"response_class": self._response_class}
            pool.ConnectionCls = type("Connection", (pool.ConnectionCls,), members)
        return pool


def _response_class(seconds: float, monotonic: Callable[[], float]) -> type[HTTPResponse]:
    class Response(HTTPResponse):
        def __init__(
            self, sock: socket.socket, debuglevel: int = 0, method: str | None = None
        ) -> None:
            super().__init__(sock, debuglevel, method)
            timed = _TimedReader(self.fp.detach(), monotonic, monotonic() + seconds)
            self.fp = io.BufferedReader(timed)

        def begin(self) -> None:
            """Skip 102 and 103 too; `http.client` skips only 100."""
            super().begin()
            while self.status in {HTTPStatus.PROCESSING, HTTPStatus.EARLY_HINTS}:
                self.headers = None  # type: ignore[assignment]
                super().begin()

    return Response


class _TimedReader(io.RawIOBase):
    """What a socket receives until a deadline."""

    def __init__(self, source: io.RawIOBase, monotonic: Callable[[], float], until: float) -> None:
        super().__init__()
        self._source = source
        self._monotonic = monotonic
        self._until = until

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        """Read like the socket, but raise TimeoutError after the deadline."""
        size = self._source.readinto(buffer)
        if self._monotonic() > self._until:
            raise TimeoutError
        return size

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._source.close()
        super().close()
