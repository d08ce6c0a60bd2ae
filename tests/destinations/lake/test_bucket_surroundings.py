"""A bucket reached as users reach theirs: through TLS and a proxy, by credentials that end.

The store is the tests' S3 protocol server; before it stand TLS and a proxy.
"""

import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, urlsplit

import pytest

from etl.app import clock
from etl.destinations.lake import reading
from etl.destinations.lake.bucket import Bucket, Patience
from etl.destinations.lake.storage import ObjectStorage
from etl.destinations.lake.store_errors import StoreError
from etl.errors import ConfigurationError, DestinationUnavailable
from etl.sizes import Sizes
from tests.support.authorities import Authority
from tests.support.database_servers import free_port
from tests.support.external_programs import tinyproxy
from tests.support.faulty_object_store import meddled

QUICK = Patience(connect_seconds=5, request_seconds=30, retries=1, pause_seconds=0.01)
PATH = "audit_events/organization=default/date=2026-03-01/audits.parquet"

#: Another name of this machine, and the only one that a proxy is asked for.
ANY = "0.0.0.0"


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def tls_front(server: str, certificate: tuple[Path, Path]) -> Iterator[str]:
    """The https endpoint of an http one, for the host that the certificate names: localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    place = urlsplit(server)

    def serve() -> None:
        with suppress(OSError):  # it is closed
            while True:
                near, _ = listener.accept()
                threading.Thread(target=join, args=(near,), daemon=True).start()

    def join(plain: socket.socket) -> None:
        with (
            suppress(OSError),
            context.wrap_socket(plain, server_side=True) as near,
            socket.create_connection((place.hostname or "", place.port or 0)) as far,
        ):
            back = threading.Thread(target=_pass_on, args=(far, near), daemon=True)
            back.start()
            _pass_on(near, far)
            back.join(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"https://localhost:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca")).make()


@pytest.fixture
def secure(s3_server: str, authority: Authority) -> Iterator[str]:
    """The endpoint of the store behind TLS by a private CA."""
    with tls_front(s3_server, authority.certify(f"localhost,IP:{ANY}")) as endpoint:
        yield endpoint


def put(bucket: str, variables: Mapping[str, str], folder: Path) -> None:
    """Upload something into the bucket, and read it."""
    name, _, prefix = bucket.removeprefix("parquet+s3://").partition("/")
    (folder / "file").write_bytes(b"content")
    opened = Bucket(name, prefix, variables, QUICK)
    opened.put(PATH, folder / "file")
    file = opened.open(PATH)
    assert file is not None
    assert bytes(file.read()) == b"content"


def test_the_ca_of_aws_ca_bundle_is_trusted(
    bucket: str, secure: str, authority: Authority, tmp_path: Path
) -> None:
    put(bucket, {"AWS_ENDPOINT_URL": secure, "AWS_CA_BUNDLE": str(authority.file)}, tmp_path)

    with pytest.raises(StoreError, match=r"UnknownIssuer|certificate"):
        put(bucket, {"AWS_ENDPOINT_URL": secure}, tmp_path)


def test_a_bundle_that_cannot_be_read_is_named(bucket: str, secure: str, tmp_path: Path) -> None:
    variables = {"AWS_ENDPOINT_URL": secure, "AWS_CA_BUNDLE": str(tmp_path / "none.pem")}

    with pytest.raises(ConfigurationError, match=r"AWS_CA_BUNDLE: .*none.pem cannot be read"):
        put(bucket, variables, tmp_path)
    (tmp_path / "none.pem").write_text("no certificate")
    with pytest.raises(ConfigurationError, match=r"AWS_CA_BUNDLE: .*none.pem has no certificate"):
        put(bucket, variables, tmp_path)


@pytest.mark.parametrize("file", ["/none.pem", "/etc/hostname"])
def test_the_system_s_certificates_are_named_where_there_are_none(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", file)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)

    with pytest.raises(
        ConfigurationError, match=f"no certificate in PEM is in SSL_CERT_FILE={file}"
    ):
        Bucket("lake", "", {"SSL_CERT_FILE": file}, QUICK)


def test_a_bucket_is_reached_through_a_proxy_with_a_password(
    bucket: str,
    secure: str,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = secure.replace("localhost", ANY)
    variables = {"AWS_ENDPOINT_URL": elsewhere, "AWS_CA_BUNDLE": str(authority.file)}
    with tinyproxy(tmp_path) as (port, log):
        monkeypatch.setenv("HTTPS_PROXY", f"http://ada:lovelace%2D1815@127.0.0.1:{port}")
        put(bucket, variables, tmp_path)
        monkeypatch.setenv("HTTPS_PROXY", f"http://ada:wrong-1815@127.0.0.1:{port}")
        with pytest.raises(StoreError) as raised:
            put(bucket, variables, tmp_path)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
        with pytest.raises(StoreError) as nobody:
            put(bucket, variables, tmp_path)

    assert f"CONNECT {ANY}" in log.read_text()
    assert "the proxy that HTTPS_PROXY names opens no connection" in str(raised.value)
    assert "1815" not in str(raised.value)
    assert "Connection refused" in str(nobody.value)


class _Recorded(BaseHTTPRequestHandler):
    """Takes any upload, and remembers how it was asked."""

    asked: ClassVar[list[tuple[str, dict[str, str]]]] = []

    def do_PUT(self) -> None:
        self.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        size = int(self.headers.get("Content-Length", 0))
        assert len(self.rfile.read(size)) == size
        self._answer(b"", ETag='"one"')

    def do_HEAD(self) -> None:
        self._answer(b"", ETag='"one"', **{"Content-Length": "7"})

    def _answer(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        headers = {
            "Last-Modified": "Sun, 29 Nov 2026 00:00:00 GMT",
            "Content-Length": "0",
        } | headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, dict[str, str]]]]:
    """What is asked of any store, all of which is asked through a proxy that takes everything."""
    monkeypatch.setattr(_Recorded, "asked", [])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "made-up")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Recorded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
        yield _Recorded.asked
        server.shutdown()


@pytest.mark.parametrize(
    ("virtual", "endpoint", "address"),
    [
        ("", "http://store.test:9000", "http://store.test:9000/lake/audits/"),
        ("false", "http://store.test:9000", "http://store.test:9000/lake/audits/"),
        ("true", "http://store.test:9000", "http://lake.store.test:9000/audits/"),
        ("TRUE", "http://lake.store.test:9000", "http://lake.store.test:9000/audits/"),
        ("yes", "http://store.test:9000", "http://lake.store.test:9000/audits/"),
        ("On\r", "http://store.test:9000", "http://lake.store.test:9000/audits/"),
        ("1", "http://store.test:9000", "http://lake.store.test:9000/audits/"),
        ("off", "http://store.test:9000", "http://store.test:9000/lake/audits/"),
    ],
)
def test_the_path_or_the_host_names_the_bucket(
    virtual: str,
    endpoint: str,
    address: str,
    recorded: list[tuple[str, dict[str, str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", virtual)
    variables = {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": virtual,
    }
    (tmp_path / "file").write_bytes(b"content")

    Bucket("lake", "audits", variables, QUICK).put(PATH, tmp_path / "file")

    assert recorded[0][0] == address + quote(PATH)


KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.mark.parametrize(
    ("variables", "region", "token"),
    [
        ({name: f" {value}\r\n" for name, value in KEYS.items()}, "us-east-1", None),
        (
            KEYS | {"AWS_SESSION_TOKEN": "token\r", "AWS_REGION": "eu-west-1\r"},
            "eu-west-1",
            "token",
        ),
        (KEYS | {"AWS_SESSION_TOKEN": "", "AWS_REGION": ""}, "us-east-1", None),
        (KEYS | {"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1", None),
        (KEYS | {"AWS_ENDPOINT_URL_S3": "\r", "AWS_ENDPOINT": "http://b.test"}, "us-east-1", None),
    ],
)
def test_blanks_around_a_variable_are_nothing(
    variables: dict[str, str],
    region: str,
    token: str | None,
    recorded: list[tuple[str, dict[str, str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client sees the process's own variables, too."""
    variables = {"AWS_ENDPOINT_URL": "http://store.test\r", "AWS_ALLOW_HTTP": "true\r"} | variables
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").write_bytes(b"content")

    Bucket("lake", "audits", variables, QUICK).put(PATH, tmp_path / "file")

    address, headers = recorded[0]
    assert address.startswith("http://store.test/lake/")
    assert "Credential=key/" in headers["authorization"]
    assert f"/{region}/s3/" in headers["authorization"]
    assert headers.get("x-amz-security-token") == token


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"AWS_ACCESS_KEY_ID": "hunter\r2"}, "AWS_ACCESS_KEY_ID has a control character"),
        ({"AWS_SECRET_ACCESS_KEY": "hunter\n2"}, "AWS_SECRET_ACCESS_KEY has a control character"),
        (KEYS | {"AWS_SESSION_TOKEN": "hunter\x1b2"}, "AWS_SESSION_TOKEN has a control character"),
        ({"AWS_ACCESS_KEY_ID": "hunter2"}, "AWS_SECRET_ACCESS_KEY is empty or not set"),
        (KEYS | {"AWS_ACCESS_KEY_ID": "\r"}, "AWS_ACCESS_KEY_ID is empty or not set"),
        ({"AWS_REGION": "eu\rwest"}, "AWS_REGION must be a region such as eu-central-1, not 'eu"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:99999"}, "AWS_ENDPOINT_URL_S3 must be a URL"),
        ({"AWS_ENDPOINT_URL": "http://[::z]"}, "AWS_ENDPOINT_URL must be a URL"),
        ({"AWS_ENDPOINT_URL": "http://a\rb"}, "AWS_ENDPOINT_URL must be a URL"),
        (
            {"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "maybe"},
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST must be true or false, not 'maybe'",
        ),
        (
            {
                "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
                "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
            },
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST puts the bucket's name before the host",
        ),
    ],
)
def test_a_variable_that_the_client_would_stumble_over_is_named(
    variables: dict[str, str], told: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Bucket("lake", "", variables, QUICK)

    assert str(raised.value).startswith(told)
    assert "hunter" not in str(raised.value)


def test_a_panic_of_the_client_is_an_error_like_others() -> None:
    """It is no `Exception`. Nothing is known to lead to one but hosts that look like addresses."""
    bucket = Bucket("lake", "", KEYS | {"AWS_ENDPOINT_URL": "https://1.2.3.999"}, QUICK)

    with pytest.raises(StoreError, match="cannot be listed: its client broke off"):
        bucket.reach()


def test_a_question_to_a_bucket_that_cannot_be_asked_says_why(tmp_path: Path) -> None:
    variables = KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    storage = ObjectStorage("lake", Bucket("lake", "", variables, QUICK), tmp_path)

    with (
        pytest.raises(DestinationUnavailable, match=r"s3://lake failed: .* Connection refused"),
        reading.connect(storage, Sizes()),
    ):
        pass


@pytest.mark.parametrize(
    ("variable", "proxy", "cause"),
    [
        ("HTTP_PROXY", "127.0.0.1:{port}", "Connection refused"),
        ("http_proxy", "http://127.0.0.1:{port}", "Connection refused"),
        ("ALL_PROXY", "socks5://127.0.0.1:{port}", "unsupported scheme socks5"),
        ("all_proxy", "http://127.0.0.1:{port}", "Connection refused"),
    ],
)
def test_a_proxy_in_the_way_is_named_unless_the_store_is_on_this_machine(
    variable: str,
    proxy: str,
    cause: str,
    bucket: str,
    s3_server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = proxy.format(port=free_port())
    monkeypatch.setenv(variable, value)
    allowed = KEYS | {variable: value, "AWS_ALLOW_HTTP": "true"}

    put(bucket, allowed | {"AWS_ENDPOINT_URL": s3_server}, tmp_path)
    elsewhere = Bucket("lake", "", allowed | {"AWS_ENDPOINT_URL": "http://store.test"}, QUICK)
    with pytest.raises(StoreError) as raised:
        elsewhere.reach()

    assert f"through the proxy that {variable} names: {cause}" in str(raised.value)
    assert "NO_PROXY" in str(raised.value)


def test_a_proxy_that_the_store_is_excluded_from_is_not_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables = {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": ".test"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    excluded = Bucket("lake", "", KEYS | variables | {"AWS_ENDPOINT_URL": "store.test"}, QUICK)

    with pytest.raises(StoreError, match="cannot be reached: failed to lookup") as raised:
        excluded.reach()
    assert "PROXY" not in str(raised.value)


def test_a_store_has_to_know_no_checksum_mode(
    recorded: list[tuple[str, dict[str, str]]], tmp_path: Path
) -> None:
    """Each body is signed as a whole: no trailer, no chunks with signatures of their own."""
    variables = {"AWS_ENDPOINT_URL": "http://store.test:9000", "AWS_ALLOW_HTTP": "true"}
    (tmp_path / "file").write_bytes(b"content")

    Bucket("lake", "audits", variables, QUICK).put(PATH, tmp_path / "file")

    headers = recorded[0][1]
    assert headers["x-amz-content-sha256"] == sha256(b"content").hexdigest()
    assert not [
        name for name in headers if "trailer" in name or "checksum" in name or "encoding" in name
    ]


class _Credentials(BaseHTTPRequestHandler):
    """What a container asks for credentials: each lasts two seconds longer than it is asked."""

    given: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        token = f"token-{len(self.given)}"
        self.given.append(token)
        ends = clock() + timedelta(seconds=2)
        body = {
            "AccessKeyId": "made-up",
            "SecretAccessKey": "made-up-too",
            "Token": token,
            "Expiration": f"{ends:%Y-%m-%dT%H:%M:%SZ}",
        }
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_credentials_that_end_amid_a_run_are_asked_for_again(
    bucket: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(_Credentials, "given", [])
    (tmp_path / "token").write_text("whose container it is")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Credentials) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/v1/credentials"
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        with meddled(s3_server) as store:
            name = bucket.removeprefix("parquet+s3://").partition("/")[0]
            opened = Bucket(name, "audits", {"AWS_ENDPOINT_URL": store.url}, QUICK)
            (tmp_path / "file").write_bytes(b"content")
            for number in range(3):
                opened.put(f"file-{number}", tmp_path / "file")
                threading.Event().wait(2.1)
        server.shutdown()

    assert len(_Credentials.given) >= 3
