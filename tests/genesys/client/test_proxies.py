"""Proxies, firewalls and private CAs on the way, each told as what it is."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic

import pytest

from etl.errors import AuditEtlError, SourceUnavailable
from etl.genesys.audits import AuditApi
from tests.support.external_programs import program, tinyproxy
from tests.support.scripted_server import Reply, Time, connected, organization

MAPPING = "GET /api/v2/audits/query/servicemapping"
#: Nobody's: only a proxy is ever asked for it.
ELSEWHERE = "https://login.example.invalid"


@pytest.fixture
def time() -> Time:
    return Time()


def failing(api: AuditApi) -> AuditEtlError:
    """The error that an operation ends with."""
    with pytest.raises(AuditEtlError) as caught:
        api.service_mapping()
    return caught.value


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate that nobody trusts, its key in the same file."""
    made = tmp_path / "made.pem"
    subject = ["-subj", "/CN=a firewall", "-addext"]
    subject.append("subjectAltName=DNS:login.example.invalid,IP:127.0.0.1")
    files = ["-keyout", str(made), "-out", str(tmp_path / "cert.pem")]
    command = [program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
    subprocess.run([*command, "-days", "2", *subject, *files], check=True, capture_output=True)
    made.write_bytes(made.read_bytes() + (tmp_path / "cert.pem").read_bytes())
    return made


@contextmanager
def proxy(answer: bytes, certificate: Path | None = None, *, tls: str = "") -> Iterator[str]:
    """A proxy that answers each CONNECT so, and hangs up; its URL.

    Args:
        tls: `before` it is spoken to, or `behind` its answer, as one that looks inside does.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate:
        context.load_cert_chain(certificate)

    def serve(client: socket.socket) -> None:
        if tls == "before":
            client = context.wrap_socket(client, server_side=True)
        while not client.recv(4096).endswith(b"\r\n\r\n"):
            pass
        client.sendall(answer)
        if tls == "behind":
            context.wrap_socket(client, server_side=True).close()

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with closing(client), suppress(OSError):
                    serve(client)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        scheme = "https" if tls == "before" else "http"
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def refusal(status: int) -> bytes:
    return f"HTTP/1.1 {status} So\r\nContent-Length: 2\r\n\r\nno".encode()


@pytest.mark.parametrize(
    ("status", "reason", "remedy"),
    [
        (407, "the proxy asks for a user and a password (407)", "http://USER:PASSWORD@HOST:PORT"),
        (403, "the proxy forbids it (403)", "allowed in the proxy"),
        (502, "the proxy answers 502", "finds and reaches that host"),
        (503, "the proxy answers 503", "finds and reaches that host"),
    ],
)
def test_a_proxy_that_does_not_connect_us_is_told_by_its_answer(
    time: Time,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    reason: str,
    remedy: str,
) -> None:
    with organization() as server, proxy(refusal(status)) as url:
        monkeypatch.setenv("HTTPS_PROXY", url)
        with connected(server, time, region=ELSEWHERE) as api:
            caught = failing(api)

    assert isinstance(caught, SourceUnavailable)
    assert f"login.example.invalid cannot be reached: {reason}" in str(caught)
    assert remedy in str(caught)


@pytest.mark.parametrize(
    ("tls", "told"),
    [
        ("behind", "login.example.invalid cannot be trusted: self-signed certificate"),
        ("before", "for the proxy cannot be trusted: self-signed certificate"),
    ],
)
def test_a_ca_that_nobody_knows_is_told_whoever_signs_with_it(
    time: Time,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    tls: str,
    told: str,
) -> None:
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    answer = b"HTTP/1.1 200 Connected\r\n\r\n"
    with organization() as server, proxy(answer, certificate, tls=tls) as url:
        monkeypatch.setenv("HTTPS_PROXY", url)
        with connected(server, time, region=ELSEWHERE) as api:
            caught = failing(api)

    assert isinstance(caught, SourceUnavailable)
    assert told in str(caught)
    assert "REQUESTS_CA_BUNDLE" in str(caught)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b"<html><h1>Forbidden</h1></html>", b"", b"denied"])
def test_a_firewall_s_refusal_is_no_missing_permission(
    time: Time,
    status: int,
    body: bytes,
) -> None:
    with organization() as server:
        server.script(MAPPING, *[Reply(status, body)] * 400)
        with connected(server, time) as api:
            caught = failing(api)

    assert isinstance(caught, SourceUnavailable), caught
    assert f"answered {status} with something other than JSON" in str(caught)
    assert "a firewall" in str(caught)
    assert "permission" not in str(caught)


@pytest.mark.parametrize("before", ["102 Processing", "103 Early Hints", "100 Continue"])
@pytest.mark.parametrize("times", [1, 3])
def test_an_answer_before_the_answer_is_passed_over(before: str, times: int) -> None:
    from etl.genesys.client.exchange import new_session

    early = f"HTTP/1.1 {before}\r\nLink: </a>\r\n\r\n".encode() * times
    answer = early + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with proxy(answer) as url, new_session(10, monotonic) as session:
        found = session.get(url, timeout=10)

    assert (found.status_code, found.content) == (200, b"{}")


def test_tinyproxy_with_a_password(
    time: Time,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caught = {}
    with organization() as server, tinyproxy(tmp_path, "ConnectPort 443") as (port, _):
        for user in ("", "ada:wrong@", "ada:lovelace%2D1815@"):
            monkeypatch.setenv("HTTPS_PROXY", f"http://{user}127.0.0.1:{port}")
            with connected(server, time, region=ELSEWHERE) as api:
                caught[user] = str(failing(api))

    # It says 401 for a wrong password, and looks for the host in vain when it is right.
    assert "asks for a user and a password (407)" in caught[""]
    assert "the proxy answers 401" in caught["ada:wrong@"]
    assert "the proxy answers 50" in caught["ada:lovelace%2D1815@"]
    for text in caught.values():
        assert "lace" not in text
