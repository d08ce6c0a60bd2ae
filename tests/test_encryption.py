"""TLS to databases and buckets: verified, unless it is this machine or the user chose less."""

import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from etl.database.connections import caveat, connect_arguments
from etl.database.timeouts import TIMEOUTS
from etl.destinations.lake import access
from etl.encryption import require_https
from etl.errors import ConfigurationError
from tests import TOP
from tests.support.authorities import Authority, mariadb_with_tls, postgresql_with_tls
from tests.support.commands import audit_etl, environment
from tests.support.networks import ADDRESS, network, with_names

NAME, OTHER = "db.example.test", "other.example.test"
PASSWORD = "a-password-in-clear"
SCHEMES = {"postgresql": "postgresql+psycopg", "mariadb": "mysql+pymysql"}
PORTS = {"postgresql": 5432, "mariadb": 3306}
on_both = pytest.mark.parametrize("kind", ["postgresql", "mariadb"])


@contextmanager
def declining(kind: str, entry: list[str], log: Path) -> Iterator[None]:
    """A server in the network that declines TLS and asks for the password in clear."""
    command = [
        *entry,
        sys.executable,
        "-m",
        "tests.support.plaintext_server",
        kind,
        ADDRESS,
        str(PORTS[kind]),
    ]
    with log.open("w") as heard, subprocess.Popen(command, stdout=heard) as server:
        try:
            while "ready" not in log.read_text():
                assert server.poll() is None
            yield
        finally:
            server.kill()


@on_both
def test_a_server_that_declines_tls_gets_no_password(kind: str, tmp_path: Path) -> None:
    url = f"{SCHEMES[kind]}://audit:{PASSWORD}@{ADDRESS}/audit"
    in_clear = {"postgresql": "sslmode=disable", "mariadb": "ssl_disabled=true"}[kind]
    log = tmp_path / "heard"

    def ended(url: str) -> "subprocess.CompletedProcess[str]":
        return audit_etl("migrate", env=environment(AUDIT_ETL_DESTINATION=url), entry=entry)

    with network() as entry, declining(kind, entry, log):
        by_default = ended(url)
        heard = log.read_text()
        ended(f"{url}?{in_clear}")

    assert by_default.returncode == 69
    assert f"?{in_clear}" in by_default.stderr
    assert len(by_default.stderr.splitlines()) == 1
    assert "audit" not in heard
    assert PASSWORD not in heard
    assert PASSWORD in log.read_text()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority")).make()


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest, authority: Authority) -> Iterator[sa.URL]:
    """A real server with a certificate for `NAME` of a private CA; a URL with that name."""
    made = {"postgresql": postgresql_with_tls, "mariadb": mariadb_with_tls}[request.param]
    with made(authority.certify(NAME)) as url:
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            if request.param == "mariadb":
                connection.exec_driver_sql("CREATE USER tls@'%%' IDENTIFIED BY '' REQUIRE SSL")
                connection.exec_driver_sql("GRANT ALL ON *.* TO tls@'%%'")
            connection.exec_driver_sql("CREATE DATABASE audit")
        user = "tls" if request.param == "mariadb" else "postgres"
        yield engine.url.set(username=user, host=NAME, database="audit")


def test_a_private_ca_is_trusted_once_it_is_given(
    server: sa.URL, authority: Authority, tmp_path: Path
) -> None:
    entry = with_names(tmp_path, NAME, OTHER)
    postgresql = server.get_backend_name() == "postgresql"
    with_ca = {"sslrootcert" if postgresql else "ssl_ca": str(authority.file)}
    unverified = {"sslmode": "require"} if postgresql else {"ssl_verify_cert": "false"}

    def ended(url: sa.URL, command: str = "migrate", **variables: str) -> tuple[int, str]:
        text = url.render_as_string(hide_password=False)
        env = environment(AUDIT_ETL_DESTINATION=text, **variables)
        done = audit_etl(command, env=env, entry=entry)
        return done.returncode, done.stdout + done.stderr

    unknown, told = ended(server)
    assert unknown == 69
    assert f"?{next(iter(with_ca))}=FILE" in told
    assert ended(server.set(query=with_ca))[0] == 0
    assert ended(server, SSL_CERT_FILE=str(authority.file))[0] == 0
    assert ended(server.set(query=unverified))[0] == 0
    wrong, told = ended(server.set(host=OTHER, query=with_ca))
    assert wrong == 69
    assert f"?{next(iter(with_ca))}=FILE" in told
    assert "pretend to be the server" in ended(server.set(query=unverified), "check")[1]
    assert "pretend" not in ended(server.set(query=with_ca), "check")[1]


def arguments(text: str) -> dict[str, Any]:
    return connect_arguments(sa.make_url(text), TIMEOUTS)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLMODE", "PGSSLROOTCERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://a@db.example.com/x", "verify-full"),
        ("postgresql://a@10.9.8.7/x", "verify-full"),
        ("postgresql://a@[fd00::1]/x", "verify-full"),
        ("postgresql:///x?host=127.0.0.1,db.example.com&port=1,2", "verify-full"),
        ("postgresql:///x?host=127.0.0.1:1&host=db.example.com:2", "verify-full"),
        ("postgresql://a@localhost/x?hostaddr=10.9.8.7", "verify-full"),
        ("postgresql://a@db.example.com/x?sslmode=prefer", None),
        ("postgresql://a@127.0.0.1/x", None),
        ("postgresql://a@[::1]/x", None),
        ("postgresql://a@localhost/x", None),
        ("postgresql:///x?host=/run/postgresql", None),
        ("postgresql:///x", None),
    ],
)
def test_postgresql_on_another_machine_is_verified(url: str, mode: str | None) -> None:
    found = arguments(url.replace("postgresql:", "postgresql+psycopg:"))

    assert found.get("sslmode") == mode
    assert ("sslrootcert" in found) == (mode is not None)


def test_what_libpq_is_told_elsewhere_is_the_user_s_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = tmp_path / "services"
    services.write_text("[far]\nhost=db.example.com\n[clear]\nhost=db.example.com\nsslmode=allow\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    local, url = "postgresql+psycopg:///x", "postgresql+psycopg://a@db.example.com/x"

    assert arguments(f"{local}?service=far")["sslmode"] == "verify-full"
    assert "sslmode" not in arguments(f"{local}?service=clear")
    assert "read the password" in str(caveat(sa.make_url(f"{local}?service=clear")))
    assert "sslrootcert" not in arguments(f"{url}?sslrootcert=ca.pem")
    monkeypatch.setenv("PGHOST", "db.example.com")
    assert arguments(local)["sslmode"] == "verify-full"
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").touch()
    assert "sslrootcert" not in arguments(url)
    monkeypatch.setenv("PGSSLMODE", "require")
    assert "sslmode" not in arguments(url)


@pytest.mark.parametrize(
    ("url", "verified"),
    [
        ("mysql://a@db.example.com/x", (True, True)),
        ("mysql://a@db.example.com/x?ssl_disabled=false", (True, True)),
        ("mysql://a@db.example.com/x?ssl_verify_cert=true", (True, True)),
        ("mysql://a@localhost/x?ssl_verify_identity=true", (True, True)),
        ("mysql://a@db.example.com/x?ssl_check_hostname=false", (True, False)),
        ("mysql://a@db.example.com/x?ssl_verify_identity=false", (True, False)),
        ("mysql://a@db.example.com/x?ssl_verify_cert=false", (False, False)),
        ("mysql://a@db.example.com/x?ssl_disabled=true", None),
        ("mysql://a@127.0.0.1/x", None),
        ("mysql://a@/x?unix_socket=/run/mysqld/mysqld.sock", None),
    ],
)
def test_mysql_on_another_machine_is_verified(url: str, verified: tuple[bool, bool] | None) -> None:
    parsed = sa.make_url(url.replace("mysql:", "mysql+pymysql:"))

    context = connect_arguments(parsed, TIMEOUTS).get("ssl")

    found = context and (context.verify_mode is ssl.CERT_REQUIRED, context.check_hostname)
    assert found == verified
    assert (caveat(parsed) is None) == (verified == (True, True) or "example" not in url)


def test_an_option_file_is_the_user_s_choice(authority: Authority, tmp_path: Path) -> None:
    options = tmp_path / "my.cnf"
    url = f"mysql+pymysql:///x?read_default_file={options}"
    options.write_text(f"[client]\nhost = db.example.com\nssl-ca = {authority.file}\n")

    with_ca = arguments(url)["ssl"].get_ca_certs()
    options.write_text("[client]\nhost = db.example.com\n")
    without = arguments(url)["ssl"]

    assert [dict(pair[0] for pair in ca["subject"])["commonName"] for ca in with_ca] == [
        "A private CA"
    ]
    assert without.check_hostname


def test_a_ca_that_cannot_be_read_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"No such file.*ssl_ca"):
        arguments("mysql+pymysql://a@db.example.com/x?ssl_ca=/nowhere.pem")


@pytest.mark.parametrize(
    ("endpoint", "refused"),
    [
        ("http://store.example.com", True),
        ("HTTP://10.9.8.7:9000/path", True),
        ("http://[fd00::1]:9000", True),
        ("http://127.0.0.1:9000", False),
        ("http://localhost", False),
        ("http://[::1]:9000", False),
        ("https://store.example.com", False),
        ("", False),
    ],
)
def test_a_bucket_on_another_machine_takes_https(endpoint: str, refused: bool) -> None:
    allowed = {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}

    if refused:
        with pytest.raises(ConfigurationError, match="AWS_ALLOW_HTTP=true"):
            require_https("AWS_ENDPOINT_URL", endpoint, {})
    else:
        require_https("AWS_ENDPOINT_URL", endpoint, {})
    assert (access.caveat(allowed) is not None) == refused


class _Empty(BaseHTTPRequestHandler):
    """A bucket with nothing in it."""

    def do_GET(self) -> None:
        body = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_bucket_s_private_ca_is_trusted_once_it_is_given(authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.certify("localhost"))
    program = (
        "import os\nfrom dataclasses import replace\n"
        "from etl.destinations.lake.bucket import PATIENCE, Bucket\n"
        "quick = replace(PATIENCE, retries=0)\nBucket('bucket', '', os.environ, quick).reach()"
    )

    def reached(host: str, **variables: str) -> str:
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "r"}
        endpoint = {"AWS_ENDPOINT_URL": f"https://{host}:{store.server_address[1]}"}
        path = str(TOP)
        env = environment(**keys, **endpoint, **variables, PYTHONPATH=path)
        done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True)
        return done.stderr.decode()

    with ThreadingHTTPServer(("127.0.0.1", 0), _Empty) as store:
        store.socket = context.wrap_socket(
            store.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = threading.Thread(target=store.serve_forever)
        thread.start()
        try:
            unknown = reached("localhost")
            known = reached("localhost", SSL_CERT_FILE=str(authority.file))
            other = reached("127.0.0.1", SSL_CERT_FILE=str(authority.file))
        finally:
            store.shutdown()
            thread.join()

    assert "UnknownIssuer" in unknown
    assert known == ""
    assert "NotValidForName" in other


def test_a_bucket_in_clear_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    env = environment(
        AUDIT_ETL_DESTINATION="parquet+s3://bucket/audits",
        AUDIT_ETL_LEDGER=f"sqlite:///{tmp_path / 'state.db'}",
        AWS_ENDPOINT_URL="http://store.example.test",
    )
    done = audit_etl("migrate", env=env)

    assert done.returncode == 78
    assert "AWS_ALLOW_HTTP=true" in done.stderr
