"""HTTP sessions that go nowhere by themselves and wait for no answer's head without end.

`requests` looks at where a redirect leads, and reads its whole body, even if it must not follow
it; `http.client` takes each byte of a head as a sign of life, and any number of heads that say
100 Continue. So a host could take all memory, or hold a thread for weeks. Here it cannot.
"""

from __future__ import annotations

import io
import time
from functools import cache
from http import HTTPStatus
from http.client import HTTPResponse, parse_headers
from typing import TYPE_CHECKING

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Session(requests.Session):
    """A session that takes no answer for a redirect, and gives heads up after a while.

    Args:
        head_seconds: from a request's end to the end of its answer's head.
    """

    def __init__(self, head_seconds: float) -> None:
        super().__init__()
        for prefix in ("https://", "http://"):
            self.mount(prefix, _Adapter(head_seconds))

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        """None: there is nowhere to go on."""
        return None


class _Adapter(HTTPAdapter):
    """Makes connections of the kind below, through a proxy too."""

    def __init__(self, head_seconds: float) -> None:
        super().__init__()
        self._pools = _pools(head_seconds)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: object) -> urllib3.ProxyManager:
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **proxy_kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


@cache
def _pools(head_seconds: float) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    class Response(HTTPResponse):
        def begin(self) -> None:
            raw = _Timed(self.fp.detach(), time.monotonic() + head_seconds)
            self.fp = io.BufferedReader(raw)
            super().begin()
            raw.until = None

        def _read_status(self) -> tuple[str, int, str]:
            """The answer's status: `http.client` passes over 100 alone of those before it."""
            answer: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            while answer[1] in {HTTPStatus.PROCESSING, HTTPStatus.EARLY_HINTS}:
                parse_headers(self.fp)
                answer = super()._read_status()  # type: ignore[misc]
            return answer

    class Plain(HTTPConnection):
        response_class = Response

    class Secure(HTTPSConnection):
        response_class = Response

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


class _Timed(io.RawIOBase):
    """What a socket receives, in time.

    Attributes:
        until: when it is too late for anything more; None once all in good time has come.
    """

    def __init__(self, source: io.RawIOBase, until: float | None) -> None:
        super().__init__()
        self._source = source
        self.until = until

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        """As the socket's, but raises TimeoutError if it is too late."""
        if self.until is not None and time.monotonic() > self.until:
            raise TimeoutError
        return self._source.readinto(buffer)

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._source.fileno()

    def close(self) -> None:
        self._source.close()
        super().close()
