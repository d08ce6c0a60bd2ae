"""What a host that means ill can take of a thread's time and of the memory: so much, no more."""

import gzip
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import repeat

import pytest

from etl.errors import AuditEtlError, QueryFailed, SourceUnavailable
from etl.genesys.audits import AuditApi
from etl.genesys.client.downloads import Downloads
from etl.genesys.client.exchange import Exchange
from tests.support.scripted_server import QUICK, Organization, Reply, Time, connected, organization

MAPPING = "GET /api/v2/audits/query/servicemapping"
RESULTS = "GET /api/v2/audits/query/q1/results"
FILE = "GET /large.json"
MEGABYTE = 1_000_000
GZIP = {"Content-Encoding": "gzip"}
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def server() -> Iterator[Organization]:
    with organization() as server:
        yield server


@pytest.fixture
def api(server: Organization) -> Iterator[AuditApi]:
    with connected(server, Time()) as api:
        api.transport.exchange = Exchange(api.transport.clock, QUICK, body_bytes_max=MEGABYTE)
        yield api


def peak(work: Callable[[], object]) -> int:
    """The bytes of Python's memory that the work takes at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@cache
def packed() -> bytes:
    """A hundred megabytes of blanks, compressed, which takes a second."""
    return gzip.compress(b" " * 100 * MEGABYTE)


BOMBS = {
    "one": lambda: Reply(200, packed(), GZIP),
    "in another": lambda: Reply(200, gzip.compress(packed()), {"Content-Encoding": "gzip, gzip"}),
    "in a redirect": lambda: Reply(302, packed(), GZIP | {"Location": "/elsewhere"}),
    "in an error": lambda: Reply(500, packed(), GZIP),
}


@pytest.fixture(params=BOMBS)
def bomb(request: pytest.FixtureRequest) -> Reply:
    return BOMBS[request.param]()


def test_a_bomb_of_compressed_blanks_is_inflated_no_further_than_the_limit(
    api: AuditApi, server: Organization, bomb: Reply
) -> None:
    server.script(MAPPING, *[bomb] * 3)

    def ask() -> None:
        with pytest.raises(AuditEtlError, match=r"larger than|answered 500"):
            api.service_mapping()

    assert peak(ask) < 20 * MEGABYTE


def test_a_bomb_in_the_place_of_a_download_is_no_worse(
    api: AuditApi, server: Organization, bomb: Reply
) -> None:
    server.script(FILE, *[bomb] * 3)
    downloads = Downloads(api.transport, bytes_max=MEGABYTE)

    def fetch() -> None:
        with pytest.raises(QueryFailed, match=r"more than|answered"):
            list(downloads.pages(f"{server.url}/large.json"))

    assert peak(fetch) < 20 * MEGABYTE


def test_a_redirect_s_body_is_read_for_its_download_although_it_names_a_location(
    api: AuditApi, server: Organization
) -> None:
    body = {"id": "q1", "downloadUrl": "https://bucket.invalid/x"}
    server.script(RESULTS, Reply(302, body, {"Location": "/elsewhere"}))

    assert api.results("q1", allow_redirect=True).download_url == "https://bucket.invalid/x"
    assert [line.partition("?")[0] for line in server.lines] == [RESULTS]


@contextmanager
def saying(parts: Iterator[bytes]) -> Iterator[str]:
    """The URL of a host that says `parts`, the next every hundredth of a second, to one client."""
    over = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            for part in parts:
                if over.wait(0.01):
                    return
                try:
                    connection.sendall(part)
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


class RunningTime(Time):
    """Its monotonic clock runs: an answer takes real time."""

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.mark.parametrize(
    "parts",
    [
        lambda: iter((OK + b"X-Slow: ", *repeat(b"x", 100_000))),
        lambda: repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
        lambda: iter((OK + b"Content-Length: 100000\r\n\r\n", *repeat(b"x", 100_000))),
    ],
    ids=["drop by drop", "100 Continue, for ever", "a body drop by drop"],
)
def test_an_answer_that_does_not_end_is_given_up(parts: Callable[[], Iterator[bytes]]) -> None:
    patience = replace(QUICK, answer_seconds=0.3, first_pauses=())
    with (
        organization() as server,
        saying(parts()) as url,
        connected(server, RunningTime(), patience, region=url) as api,
        pytest.raises(SourceUnavailable, match="did not answer in time"),
    ):
        api.service_mapping()


def test_a_proxy_s_answer_to_connect_that_does_not_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patience = replace(QUICK, answer_seconds=0.3, first_pauses=())
    with (
        organization() as server,
        saying(iter((OK + b"X-Slow: ", *repeat(b"x", 100_000)))) as url,
        connected(server, RunningTime(), patience, region="https://login.example.invalid") as api,
    ):
        monkeypatch.setenv("HTTPS_PROXY", url)
        with pytest.raises(SourceUnavailable, match=r"did not answer in time|the proxy"):
            api.service_mapping()


@pytest.mark.parametrize(
    "head",
    [
        OK + b"X-Long: " + b"x" * 70_000 + b"\r\n\r\n",
        OK + b"".join(b"X-%d: x\r\n" % number for number in range(101)) + b"\r\n",
        b"HTTP/1.1 " + b"2" * 70_000 + b"\r\n\r\n",
        b"\x16\x03\x01 not HTTP at all\r\n\r\n",
        OK + b"Content-Length: 5, 7\r\n\r\nabcdefg",
    ],
    ids=["a long line", "many lines", "a long status", "not HTTP", "two lengths"],
)
def test_a_head_that_is_too_large_or_none_is_an_answer_that_is_not_http(head: bytes) -> None:
    patience = replace(QUICK, first_pauses=())
    with (
        organization() as server,
        saying(iter((head,))) as url,
        connected(server, Time(), patience, region=url) as api,
        pytest.raises(SourceUnavailable, match=r"not HTTP|cannot be reached"),
    ):
        api.service_mapping()
