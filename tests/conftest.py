"""What tests stand on: real databases, found or started, each test in an empty one of its own."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from moto.server import ThreadedMotoServer
from werkzeug.serving import WSGIRequestHandler

from etl.database.engine import open_engine
from etl.simulator import AuditLog, Simulator
from tests.support import buckets
from tests.support import database_servers as servers
from tests.support import small_disks as disks
from tests.support.external_programs import lacking
from tests.support.migrations import migrate
from tests.support.places import KINDS, Place, lake_place, sql_place

if TYPE_CHECKING:
    from tests.support.hostile_organization import World

pytest.register_assert_rewrite("tests.contracts")

# A machine that is busy is no failure.
settings.register_profile(
    "audit-etl", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "audit-etl")

#: The fixture of each server.
SERVERS = {"postgresql": "postgres_server", "mariadb": "mariadb_server"}


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_server() -> str:
    url = servers.mariadb()
    if url is None:
        lacking(f"no MariaDB answers at {servers.MARIADB} (set AUDIT_ETL_TEST_MARIADB)")
    return url


@pytest.fixture
def mounts() -> None:
    """For tests that mount disks of their own."""
    if not disks.can_be_mounted():
        lacking("a disk cannot be mounted here: it takes root and unshare")


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'audits.db'}"
        return
    with servers.fresh_database(request.getfixturevalue(SERVERS[request.param])) as url:
        yield url


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty destination of each kind; every row is loaded at `LOADED_AT`."""
    yield from _place(request, tmp_path)


@pytest.fixture(scope="module", params=KINDS)
def standing_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A destination of each kind that all tests of a module share: each empties it first."""
    yield from _place(request, tmp_path_factory.mktemp("place"))


def _place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            place = sql_place(f"sqlite:///{tmp_path / 'audits.db'}")
        elif request.param == "parquet":
            place = lake_place(f"parquet://{tmp_path / 'lake'}", tmp_path)
        elif request.param == "parquet+s3":
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            place = lake_place(_bucket(request.getfixturevalue("s3_server"), patch), tmp_path)
        else:
            server = request.getfixturevalue(SERVERS[request.param])
            place = sql_place(stack.enter_context(servers.fresh_database(server)))
        yield stack.enter_context(place)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The endpoint of an S3 protocol server on loopback, with credentials in the environment."""
    # An answer in two packets would wait 40 ms for an acknowledgement.
    WSGIRequestHandler.wbufsize = 65536
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty lake in a bucket of its own."""
    return _bucket(s3_server, monkeypatch)


def _bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "made-up",
        "AWS_SECRET_ACCESS_KEY": "made-up-too",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"lake-{uuid4().hex[:12]}"
    buckets.make(name)
    return f"parquet+s3://{name}/audits"


@pytest.fixture(scope="module")
def served(log: AuditLog) -> Iterator[tuple[Simulator, str]]:
    """An organisation with the audits of the module's own `log`, and its address."""
    simulator = Simulator(log=log)
    with simulator.serve() as url:
        yield simulator, url


@pytest.fixture
def hostile(
    log: AuditLog, served: tuple[Simulator, str], standing_place: Place
) -> "Iterator[World]":
    """That organisation as new, the place, emptied, and the program between them."""
    from tests.support.hostile_organization import world  # which few tests need

    with world(log, served, standing_place) as made:
        yield made


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on a database of each kind, with the newest tables."""
    engine = open_engine(database_url)
    migrate(engine)
    yield engine
    engine.dispose()
