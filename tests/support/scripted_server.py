"""An HTTP server that answers by a script, and a clock that only moves when it is waited for."""

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from etl.genesys.audits import AuditApi
from etl.genesys.client.auth import OAuthClient
from etl.genesys.client.clock import Clock
from etl.genesys.client.retries import Patience
from etl.genesys.query import connect

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECRET = "s3cret/of+the=client"
QUICK = Patience(connect_seconds=2, read_seconds=2)


@dataclass(frozen=True)
class Reply:
    """What the server does with one request.

    `cut` sends that many bytes of the body only, and closes; `silent` sends nothing until the
    client gives up; `chunked` sends no length.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    silent: bool = False
    chunked: bool = False

    @property
    def payload(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    line: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.line.split(" ", 1)[1]).query))


def error(status: int, code: str, message: str = "no", **headers: str) -> Reply:
    """The vendor's error body."""
    body = {"message": message, "code": code, "status": status}
    return Reply(
        status,
        body,
        {"ININ-Correlation-Id": "c0ffee"} | {k.replace("_", "-"): v for k, v in headers.items()},
    )


class Organization:
    """A host whose answers a test has written down; it signs clients in unless told otherwise."""

    def __init__(self) -> None:
        self.replies: dict[str, list[Reply]] = defaultdict(list)
        self.seen: list[Seen] = []
        self.released = threading.Event()
        self.lifetime: Any = 86400
        self.revoked: set[str] = set()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def lines(self) -> list[str]:
        """The requests so far, without those for a token."""
        return [s.line for s in self.seen if s.line != "POST /oauth/token"]

    @property
    def tokens(self) -> int:
        """How many tokens were asked for."""
        return len(self.seen) - len(self.lines)

    def script(self, operation: str, *replies: Reply) -> Self:
        """Answer the next requests of `operation` (`GET /path`) with `replies`, in turn."""
        self.replies[operation] += replies
        return self

    def reply_to(self, seen: Seen) -> Reply:
        with self._lock:
            self.seen.append(seen)
            if seen.headers.get("Authorization", "").removeprefix("Bearer ") in self.revoked:
                return error(401, "bad.credentials")
            queue = self.replies[seen.line.partition("?")[0]]
            if queue:
                return queue.pop(0)
            if seen.line == "POST /oauth/token":
                return Reply(
                    body={
                        "access_token": f"token-number-{self.tokens}",
                        "token_type": "bearer",
                        "expires_in": self.lifetime,
                    }
                )
        return error(418, "script.is.over", seen.line)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(organization: Organization) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536  # an answer in two packets would wait 40 ms for an acknowledgement

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen = Seen(f"{self.command} {self.path}", dict(self.headers), body)
            reply = organization.reply_to(seen)
            if reply.silent:
                organization.released.wait()
                self.close_connection = True
                return
            payload = reply.payload
            self.send_response_only(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.chunked:
                self.close_connection = True
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload[: reply.cut])
            self.close_connection = self.close_connection or reply.cut is not None

        do_GET = do_POST = do_CONNECT = answer  # noqa: N815 - names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


class Time:
    """A clock that stands still but for pauses, which take no time and are written down.

    Attributes:
        instant: the time as it is.
        ahead: how far a clock that was set is ahead of it.
    """

    def __init__(self, stop_at: int | None = None) -> None:
        self.instant = NOON
        self.ahead = timedelta(0)
        self.pauses: list[float] = []
        self.stop_at = stop_at
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return self.instant + self.ahead

    def monotonic(self) -> float:
        return (self.instant - NOON).total_seconds()

    def pause(self, seconds: float) -> bool:
        with self._lock:
            if seconds:
                self.pauses.append(seconds)
                self.instant += timedelta(seconds=seconds)
            return self.stop_at is not None and len(self.pauses) >= self.stop_at


@contextmanager
def organization() -> Iterator[Organization]:
    server = Organization()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def connected(
    server: Organization, time: Time, patience: Patience = QUICK, region: str | None = None
) -> Iterator[AuditApi]:
    with connect(
        "acme",
        region or server.url,
        OAuthClient("the-client", SECRET),
        Clock(time.now, time.monotonic, time.pause),
        patience=patience,
    ) as api:
        yield api


def date_header(instant: datetime) -> dict[str, str]:
    return {"Date": format_datetime(instant, usegmt=True)}


def in_threads(count: int, work: Callable[[], object]) -> None:
    """Do `work` in several threads at once, and wait for all."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
