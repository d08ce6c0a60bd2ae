"""Which formats of the binary log of MariaDB work, on a server of the tests' own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from etl.database.engine import open_engine
from tests.support.authorities import own_mariadb
from tests.support.commands import audit_etl
from tests.support.database_servers import fresh_database
from tests.support.destination_contents import audits_in
from tests.support.external_programs import program
from tests.support.live_organization import living


@pytest.fixture(scope="module")
def logging_server() -> Iterator[str]:
    with own_mariadb("--log-bin=changes", "--server-id=1") as url:
        yield url


@contextmanager
def log_of(server: str, form: str) -> Iterator[sa.Engine]:
    """As root: new sessions log in that format, into a new file."""
    root = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    execute(root, f"SET GLOBAL binlog_format = '{form}'", "RESET MASTER")
    try:
        yield root
    finally:
        execute(root, "SET GLOBAL binlog_format = 'ROW'")


def execute(engine: sa.Engine, *statements: str) -> None:
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def logged(server: str) -> bytes:
    """What has been logged, as statements for a client."""
    url = sa.make_url(server)
    place = ["--host=127.0.0.1", f"--port={url.port}", "--user=root"]
    tool = program("mariadb-binlog", "mariadb-client")
    command = [tool, "--no-defaults", "--read-from-remote-server", *place, "changes.000001"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def replay(server: str, changes: bytes) -> None:
    """Have a server execute what was logged."""
    url = sa.make_url(server)
    place = ["--host=127.0.0.1", f"--port={url.port}", "--user=root"]
    client = [program("mariadb", "mariadb-client"), "--no-defaults", "--binary-mode", *place]
    subprocess.run(client, input=changes, check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["ROW", "MIXED"])
def test_a_log_of_rows_brings_back_each_audit(logging_server: str, form: str) -> None:
    with (
        log_of(logging_server, form) as root,
        living() as source,
        fresh_database(root.url.render_as_string(hide_password=False)) as url,
    ):
        env = source.environment(url)
        span = ["--from", source.begin.isoformat()]
        for command in (["migrate"], ["run"], ["backfill", *span], ["verify", "--repair", *span]):
            done = audit_etl(*command, env=env)
            assert done.returncode == 0, done
        engine = open_engine(url)
        held = audits_in(engine)
        changes = logged(logging_server)
        database = engine.url.database
        engine.dispose()
        execute(root, f"DROP DATABASE {database}")

        replay(logging_server, changes)

        engine = open_engine(url)
        assert audits_in(engine) == held != []
        engine.dispose()


@pytest.mark.slow
def test_a_log_of_statements_ends_each_command_with_the_format_to_set(logging_server: str) -> None:
    with living() as source, fresh_database(logging_server) as url:
        env = source.environment(url)
        assert audit_etl("migrate", env=env).returncode == 0
        with log_of(logging_server, "STATEMENT"):
            for command in ("run", "migrate"):
                done = audit_etl(command, env=env)
                assert (done.returncode, done.stderr.count("\n")) == (69, 1), done
                assert "binlog_format" in done.stderr
                assert "MIXED or ROW" in done.stderr.replace("ROW or MIXED", "MIXED or ROW")
            done = audit_etl("backfill", "--from", source.begin.isoformat(), env=env)
            assert done.returncode == 69, done
            assert "binlog_format is MIXED or ROW" in done.stderr
            checked = audit_etl("check", env=env)
            assert checked.returncode == 69
            assert "binlog_format is STATEMENT" in checked.stdout
        assert audit_etl("run", env=env).returncode == 0


@pytest.mark.slow
def test_without_a_log_the_format_does_not_matter() -> None:
    with (
        own_mariadb("--binlog-format=STATEMENT") as server,
        living() as source,
        fresh_database(server) as url,
    ):
        env = source.environment(url)
        for command in ("migrate", "run", "check"):
            done = audit_etl(command, env=env)
            assert done.returncode == 0, done
