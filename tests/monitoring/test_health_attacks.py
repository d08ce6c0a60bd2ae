"""Strangers at the health port: they take neither the export's descriptors nor its log."""

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from etl import serving
from etl.serving import served
from tests.support.daemons import Daemon, until
from tests.support.live_organization import Copy, living

#: What the daemon may have open in the test: half of what strangers try to open.
FILES = 512
STRANGERS = 1_000


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Room for the strangers' ends in this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8_192, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def strangers(port: int, says: bytes, ended: threading.Event) -> Iterator[None]:
    """Many connections that say so much and no more, each opened anew when it is closed."""
    with ExitStack() as stack:

        def connected() -> socket.socket:
            client = socket.create_connection(("127.0.0.1", port), 30)
            client.sendall(says)
            client.setblocking(False)
            return stack.enter_context(client)

        clients = [connected() for _ in range(STRANGERS)]

        def go_on() -> None:
            for n in range(10 * STRANGERS):
                if ended.wait(0.002):
                    return
                with suppress(OSError):
                    clients[n % STRANGERS].close()
                    clients[n % STRANGERS] = connected()

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    "says", [b"", b"GET /healthz HTTP/1.1\r\n", b"\x16\x03\x01 no HTTP\r\n\r\n"]
)
def test_idle_and_odd_connections_stop_neither_the_export_nor_the_probes(
    tmp_path: Path, says: bytes
) -> None:
    port, url = free_port(), f"sqlite:///{tmp_path / 'a.db'}"
    with living() as organisation:
        env = organisation.environment(url) | {"AUDIT_ETL_HEALTH_ADDRESS": f"127.0.0.1:{port}"}
        copy = Copy(url, organisation)
        with Daemon(tmp_path / "log", env) as daemon:
            daemon.says("window loaded")
            pid = daemon.process.pid
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (FILES, FILES))
            said = len(daemon.log)
            receipts = copy.receipts

            with strangers(port, says, threading.Event()):
                for _ in range(5):
                    alive = requests.get(f"http://127.0.0.1:{port}/healthz", timeout=20)
                    assert (alive.status_code, alive.text.strip()) == (200, "alive")
                    assert len([*Path(f"/proc/{pid}/fd").iterdir()]) < FILES / 2
                until(lambda: copy.receipts >= receipts + 5, "it goes on loading")

            log = daemon.log[said:]
            copy.keeps_its_promises()
        copy.engine.dispose()
    assert "Too many open files" not in log
    assert [line for line in log.splitlines() if "window loaded" not in line] == []


def slowly(request: Request) -> Response:
    return PlainTextResponse(request.url.path)


def test_a_connection_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(serving, "LIFE_SECONDS", 0.6)
    application = Starlette(routes=[Route("/{path}", slowly)])
    with served(application, "127.0.0.1", 0, "health", bounded=True) as url:
        port = int(url.rpartition(":")[2])
        for says in (b"", b"GET / HTTP/1.1\r\nHost: a\r\nX: "):
            with socket.create_connection(("127.0.0.1", port), 30) as client:
                client.sendall(says)
                with suppress(ConnectionResetError):
                    assert client.recv(1) == b""


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("beyond", [-1, 0, 1, 5])
def test_the_newest_connection_is_answered_however_many_are_open(
    monkeypatch: pytest.MonkeyPatch, most: int, beyond: int
) -> None:
    monkeypatch.setattr(serving, "CONNECTIONS_MAX", most)
    application = Starlette(routes=[Route("/{path}", slowly)])
    with (
        served(application, "127.0.0.1", 0, "health", bounded=True) as url,
        ExitStack() as stack,
    ):
        port = int(url.rpartition(":")[2])
        for _ in range(most + beyond):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))

        assert requests.get(f"{url}/healthz", timeout=30).text == "/healthz"


@pytest.mark.parametrize("length", [9, 9_000_000])
def test_connections_that_read_no_answer_keep_no_probe_out(length: int) -> None:
    def answer(request: Request) -> Response:
        probe = request.url.path == "/healthz"
        return PlainTextResponse("alive" if probe else "x" * length)

    application = Starlette(routes=[Route("/{path}", answer)])
    with (
        served(application, "127.0.0.1", 0, "health", bounded=True) as url,
        ExitStack() as stack,
    ):
        port = int(url.rpartition(":")[2])
        for _ in range(serving.CONNECTIONS_MAX + 6):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(3):
            # Less than a connection lives, and enough for a machine that is busy.
            assert requests.get(f"{url}/healthz", timeout=10).text == "alive"


def test_a_connection_ends_with_its_answer() -> None:
    application = Starlette(routes=[Route("/{path}", slowly)])
    with (
        served(application, "127.0.0.1", 0, "health", bounded=True) as url,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 2) as client,
    ):
        client.sendall(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while more := client.recv(1_000):
            answer += more
        assert answer.endswith(b"/a")
