"""An object store that goes wrong: moto's server, behind a proxy that meddles with what passes.

A fault names the step that it befalls: an upload in parts is created, given its parts and
completed, a small file is put; what is there is copied, looked at, listed, got and deleted.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from select import select
from socket import SHUT_RDWR
from typing import Final
from urllib.parse import parse_qs, urlsplit

#: By method and by what the query names: the step that a request is of.
_STEPS: Final = {
    ("POST", "uploads"): "create",
    ("PUT", "partNumber"): "part",
    ("POST", "uploadId"): "complete",
    ("DELETE", "uploadId"): "abort",
    ("GET", "list-type"): "list",
}
_PLAIN: Final = {"PUT": "put", "HEAD": "head", "GET": "get", "DELETE": "delete"}
#: What belongs to one connection, and is not handed on.
_HOP: Final = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


def xml(code: str, message: str = "no", **members: str) -> bytes:
    """The body of a store's refusal."""
    more = "".join(f"<{name}>{value}</{name}>" for name, value in members.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
    ).encode()


@dataclass
class Answer:
    """What is sent back."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """What the store does wrong at one step.

    Attributes:
        step: create, part, complete, put, copy, head, list, get or delete.
        reaches: whether the request reaches the store first.
        sent: what becomes of the request's body on its way there.
        answered: what becomes of the store's answer; of an empty one if it was not asked.
        silent: whether nothing comes, until the client gives up.
        strikes: which of the step's requests it befalls, counted from 0.
        stored: whether only objects that were uploaded or copied meanwhile; if False only others.
        where: what the request's line and headers must be like.
    """

    step: str
    reaches: bool = True
    sent: Callable[[bytes], bytes] = lambda body: body
    answered: Callable[[Answer], Answer | None] = lambda answer: answer
    silent: bool = False
    strikes: Callable[[int], bool] = lambda _: True
    stored: bool | None = None
    where: Callable[[str, Mapping[str, str]], bool] | None = None


def cut(_: Answer) -> None:
    """The connection ends in place of an answer."""


def says(status: int, body: bytes = b"", **headers: str) -> Callable[[Answer], Answer]:
    """That in place of what the store has answered."""
    return lambda _: Answer(status, body, headers)


class Store:
    """The proxy's side of the store.

    Attributes:
        url: its endpoint.
        seen: how many requests there were of each step.
        received: how many bytes of bodies were sent back, by step.
        lines: the requests.
        struck: how many requests the faults have befallen.
    """

    def __init__(self, behind: str) -> None:
        self.behind = urlsplit(behind).netloc
        self.url = ""
        self.seen: Counter[str] = Counter()
        self.received: Counter[str] = Counter()
        self.lines: list[str] = []
        self.struck = 0
        self.closed = threading.Event()
        self._faults: list[tuple[Fault, count[int]]] = []
        self._stored: set[str] = set()
        self._lock = threading.Lock()

    def suffer(self, *faults: Fault) -> None:
        """Let these faults strike, and no others."""
        with self._lock:
            self._faults = [(fault, count()) for fault in faults]
            self._stored = set()
            self.struck = 0

    def meet(self, step: str, line: str, headers: Mapping[str, str]) -> Fault:
        """Take note of a request, and give what befalls it."""
        path = urlsplit(line.partition(" ")[2]).path
        with self._lock:
            self.seen[step] += 1
            self.lines.append(line)
            stored = path in self._stored
            if step in {"put", "complete", "copy"}:
                self._stored.add(path)
            for fault, number in self._faults:
                if (
                    fault.step == step
                    and fault.stored in {None, stored}
                    and (fault.where is None or fault.where(line, headers))
                    and fault.strikes(next(number))
                ):
                    self.struck += 1
                    return fault
        return Fault(step)


def step_of(method: str, path: str, headers: Mapping[str, str]) -> str:
    """The step that a request is of."""
    if headers.get("x-amz-copy-source"):
        return "copy"
    query = parse_qs(urlsplit(path).query, keep_blank_values=True)
    for (of, name), step in _STEPS.items():
        if method == of and name in query:
            return step
    return _PLAIN.get(method, "other")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # an answer in two packets would wait 40 ms for an acknowledgement
    store: Store

    def _handle(self) -> None:
        headers = dict(self.headers.items())
        step = step_of(self.command, self.path, headers)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.store.meet(step, f"{self.command} {self.path}", headers)
        given = self._forwarded(fault.sent(body)) if fault.reaches else Answer(200)
        answer = fault.answered(given)
        if fault.silent:
            self._keep_silent()
        elif answer is None:
            self._end()
        else:
            self._send(step, answer)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815

    def _forwarded(self, body: bytes) -> Answer:
        connection = HTTPConnection(self.store.behind)
        try:
            headers = {n: v for n, v in self.headers.items() if n.lower() not in _HOP}
            headers["Content-Length"] = str(len(body))
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            kept = {n: v for n, v in answer.getheaders() if n.lower() not in _HOP}
            return Answer(answer.status, answer.read(), kept)
        finally:
            connection.close()

    def _send(self, step: str, answer: Answer) -> None:
        headers = {name.title(): value for name, value in answer.headers.items()}
        headers.setdefault("Content-Length", str(len(answer.body)))
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
            self.store.received[step] += len(answer.body)
            if int(headers["Content-Length"]) != len(answer.body):
                self._end()

    def _keep_silent(self) -> None:
        """Until the client closes, or the test ends."""
        while not self.store.closed.is_set():
            if select([self.connection], [], [], 0.05)[0]:  # it has closed: it sends nothing more
                break
        self._end()

    def _end(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        try:
            self.connection.shutdown(SHUT_RDWR)
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def meddled(behind: str) -> Iterator[Store]:
    """The store at `behind`, behind a proxy."""
    store = Store(behind)
    handler = type("Handler", (_Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield store
    finally:
        store.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()
