"""What ends a command before a database is open: one true line, and a status that is no bug's."""

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.database.engine import open_engine
from etl.database.errors import translated
from etl.database.transactions import reading
from etl.errors import AuditEtlError, ConfigurationError, DestinationUnavailable
from tests.support.commands import CLIENT_ID, SECRET, audit_etl, environment
from tests.support.database_servers import own_postgres


def told(url: str | sa.URL) -> AuditEtlError:
    """The error that connecting ends in."""
    text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    with pytest.raises((ConfigurationError, DestinationUnavailable)) as raised:
        engine = open_engine(text)
        with reading(engine):
            pass
    return raised.value


@pytest.fixture(params=["postgres_server", "mariadb_server"])
def server(request: pytest.FixtureRequest) -> sa.URL:
    return sa.make_url(request.getfixturevalue(request.param))


@pytest.mark.parametrize(
    "query",
    [
        "ssl=true",
        "useSSL=true",
        "serverTimezone=UTC",
        "connect_timeout=soon",
        "cursorclass=DictCursor",
        "compress=true",
        "named_pipe=1",
        "autocommit=true",
    ],
)
def test_parameters_of_other_programs_are_refused(mariadb_server: str, query: str) -> None:
    error = told(f"{mariadb_server}?{query}")

    assert isinstance(error, ConfigurationError)
    assert re.search(rf"parameter.* {query.partition('=')[0]}\b", str(error))
    for words_of_python in ("object", "argument", "literal", "__init__"):
        assert words_of_python not in str(error)


def test_a_bound_of_a_parameter_is_told(mariadb_server: str) -> None:
    error = told(f"{mariadb_server}?connect_timeout=0")

    assert "connect_timeout should be >0 and <=31536000" in str(error)


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "mysql+pymysql", "sqlite"])
def test_a_parameter_that_is_there_twice_is_named(scheme: str) -> None:
    error = told(f"{scheme}:///d?connect_timeout=1&connect_timeout=2")

    assert isinstance(error, ConfigurationError)
    assert "has connect_timeout more than once" in str(error)


@pytest.mark.parametrize("name", ["foo", "prepare_threshold", "row_factory", "autocommit"])
def test_parameters_that_libpq_does_not_know_are_named(name: str) -> None:
    error = told(f"postgresql+psycopg://u@127.0.0.1/d?{name}=0")

    assert isinstance(error, ConfigurationError)
    assert f"a parameter {name}, which libpq cannot take" in str(error)


MEND = "fix or leave out the one that is named"


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("sslmode=nonsense", MEND),
        ("keepalives=soon", MEND),
        ("connect_timeout=soon", MEND),
        ("target_session_attrs=standby", "PGTARGETSESSIONATTRS"),
        ("PGTARGETSESSIONATTRS=read-only", "PGTARGETSESSIONATTRS"),
        ("PGCONNECT_TIMEOUT=soon", MEND),
        ("PGOPTIONS=-cnonsense=1", MEND),
        ("PGOPTIONS=garbage", MEND),
        ("PGTZ=Mars", MEND),
        ("PGGSSENCMODE=require", "PGGSSENCMODE"),
        ("PGCHANNELBINDING=require", "channel_binding"),
        ("PGREQUIREAUTH=md5", "require_auth"),
        ("PGSSLNEGOTIATION=direct", "sslnegotiation"),
    ],
)
def test_what_postgresql_is_asked_for_in_vain_is_named(
    postgres_server: str, given: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, value = given.partition("=")
    if name.isupper():
        monkeypatch.setenv(name, value)
        error = told(postgres_server)
    else:
        error = told(sa.make_url(postgres_server).update_query_dict({name: value}))

    assert "run the same command again when" in str(error)
    assert remedy in str(error).rpartition("again when")[2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[other]\n", 'definition of service "s" not found'),
        (b"\xef\xbb\xbf[s]\r\nhost=127.0.0.1\r\n", "not found"),
        (b"[s]\nfoo=bar\n", "syntax error in service file"),
        (b"[s]\nservice=t\n", "nested service specifications not supported"),
    ],
)
def test_a_service_that_postgresql_cannot_use_is_told_in_its_words(
    tmp_path: Path, content: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = tmp_path / "services"
    services.write_bytes(content)
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    by_url = told("postgresql+psycopg://?service=s")
    monkeypatch.setenv("PGSERVICE", "s")

    for error in (by_url, told("postgresql+psycopg://")):
        assert isinstance(error, ConfigurationError)
        assert said in str(error)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("\ufeff[client]\r\nuser=u\r\n".encode(), "cannot be understood"),
        (b"password=hunter2\n", "cannot be understood"),
        (b"[client]\nuser=u\nuser=v\n", "cannot be understood"),
        ("[client]\nuser=ü\n".encode("latin-1"), "cannot be understood"),
        (b"[client]\nport=abc\n", "has a port that is no number"),
        (None, "No such file"),
    ],
)
def test_an_option_file_that_mysql_cannot_use_is_named(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "my.cnf"
    if content is not None:
        file.write_bytes(content)

    error = told(f"mysql+pymysql:///d?read_default_file={file}")

    assert isinstance(error, ConfigurationError)
    assert f"the option file {file} " in str(error)
    assert said in str(error)
    assert "hunter2" not in str(error)


def test_a_mysql_url_without_a_database_is_refused(mariadb_server: str) -> None:
    error = told(mariadb_server)

    assert isinstance(error, ConfigurationError)
    assert "names no database" in str(error)


def test_several_servers_without_a_port_are_reached(postgres_server: str) -> None:
    url = sa.make_url(postgres_server)
    if url.port == 5432:
        hosts = {"host": f"{url.host},{url.host}", "target_session_attrs": "read-write"}
        engine = open_engine(str(url.set(host=None, port=None, query=hosts)))
        with reading(engine):
            pass
        engine.dispose()


def test_a_database_that_is_absent_is_made_by_the_command_that_is_told(server: sa.URL) -> None:
    remedy = {"postgresql": "run `createdb absent_b`", "mysql": "run CREATE DATABASE `absent_b`"}
    backend = "postgresql" if server.get_backend_name() == "postgresql" else "mysql"

    assert str(told(server.set(database="absent_b"))).endswith(remedy[backend])


def test_a_role_that_is_absent_is_made_by_the_command_that_is_told(postgres_server: str) -> None:
    absent = sa.make_url(postgres_server).set(username="nobody_b")

    error = str(told(absent))

    if "authentication failed" not in error:  # a server with passwords keeps roles to itself
        assert error.endswith("run `createuser nobody_b`")
        other = sa.make_url(postgres_server).update_query_dict({"user": "nobody_c"})
        assert str(told(other)).endswith("run `createuser nobody_c`")


def test_a_password_that_is_wrong_is_said(mariadb_server: str) -> None:
    error = told(sa.make_url(mariadb_server).set(username="nobody_b", password="hunter2-Zq81"))

    assert "look at the user and the password in the URL" in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.slow
def test_a_password_that_postgresql_refuses_is_said(tmp_path: Path) -> None:
    with own_postgres(tmp_path) as server:
        server.make_role("ada", "lovelace-1815")
        url = sa.make_url(server.url).set(username="ada")
        errors = [str(told(url.set(password=given))) for given in ("hunter2-Zq81", None)]
        engine = open_engine(server.url.replace("postgres@", "ada:lovelace-1815@"))
        with reading(engine):
            pass
        engine.dispose()

    for error in errors:
        assert "look at the user and the password in the URL" in error
        assert "hunter2" not in error


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("postgresql+psycopg://u@127.0.0.1/d", "psycopg", "postgresql"),
        ("mysql+pymysql://u@127.0.0.1/d", "pymysql", "mysql"),
    ],
)
def test_a_driver_that_is_not_installed_is_named(
    url: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    error = told(url)

    assert isinstance(error, ConfigurationError)
    assert f"the driver {module} is not installed: run pip install 'audit_etl-" in str(error)
    assert f"in a checkout pip install '.[{extra}]'" in str(error)


def test_a_driver_that_cannot_be_loaded_is_told_at_each_look(tmp_path: Path) -> None:
    env = environment(
        AUDIT_ETL_DESTINATION="postgresql://u@127.0.0.1/d",
        PSYCOPG_IMPL="c",
        GENESYS_CLIENT_ID=CLIENT_ID,
        GENESYS_CLIENT_SECRET=SECRET,
    )

    for command, status in (("migrate", 78), ("check", 78)):
        done = audit_etl(command, env=env, cwd=tmp_path)
        assert done.returncode == status, done
        assert "PSYCOPG_IMPL" in done.stdout + done.stderr


def test_a_host_without_an_address_is_said(server: sa.URL) -> None:
    error = told(server.set(host="nowhere.invalid", query={}))

    assert str(error).endswith("can be resolved: look at the host in the URL")


def test_a_port_where_nothing_listens_is_said(server: sa.URL) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]

    error = told(server.set(host="127.0.0.1", port=port, query={}))

    assert "a server listens there: start it" in str(error)


def test_mariadb_is_no_postgresql(mariadb_server: str) -> None:
    port = sa.make_url(mariadb_server).port or 3306

    error = told(f"postgresql+psycopg://u@127.0.0.1:{port}/d")

    assert "another kind of server answers there" in str(error)


def test_an_error_quotes_a_user_s_own_question(postgres_server: str) -> None:
    engine = open_engine(postgres_server)
    for asked in (True, False):
        with (
            pytest.raises(DestinationUnavailable) as raised,
            translated(engine, asked=asked),
            engine.connect() as connection,
        ):
            connection.exec_driver_sql("SELECT CAST('twelve' AS integer)")
        assert ("twelve" in str(raised.value)) is asked
    engine.dispose()


def _packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


@pytest.fixture
def mysql_8() -> Iterator[int]:
    """The port of a server that logs in as MySQL 8 does without TLS: by its public key."""
    method = b"caching_sha2_password\0"
    greeting = b"\x0a8.0.36\0" + bytes(4) + b"a" * 8 + b"\0\x08\x82\xff\x02\0\x08\0\x15" + bytes(10)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(_packet(0, greeting + b"b" * 12 + b"\0" + method))
            connection.recv(65536)
            connection.sendall(_packet(2, b"\x01\x04"))  # the whole way: no TLS, nothing cached
            connection.recv(65536)
            connection.sendall(_packet(4, b"\x01key"))
            connection.recv(65536)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
    thread.join(10)


def test_a_password_for_mysql_8_without_cryptography_says_what_to_install(mysql_8: int) -> None:
    program = "import sys; sys.modules['cryptography'] = None; from etl.cli import main; main()"
    url = f"mysql://u:hunter2-Zq81@127.0.0.1:{mysql_8}/d"

    done = subprocess.run(
        [sys.executable, "-c", program, "migrate"],
        env=environment() | {"AUDIT_ETL_DESTINATION": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 78, done
    assert "pip install '.[mysql]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr
