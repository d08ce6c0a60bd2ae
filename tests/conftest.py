"""What tests stand on: real databases, found or started, each test in an empty one of its own."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from uuid import uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from moto.server import ThreadedMotoServer
from werkzeug.serving import WSGIRequestHandler

from etl.database import migration, schema
from etl.database.engine import open_engine
from etl.destinations import AnyDestination
from etl.destinations.lake import binding
from etl.destinations.lake.parquet import ParquetDestination
from etl.destinations.lake.storage import storage_of
from etl.destinations.sql.destination import SqlDestination
from etl.records import Audit
from etl.simulator import AuditLog, Simulator
from tests.support import buckets
from tests.support import database_servers as servers
from tests.support import small_disks as disks
from tests.support.destination_contents import audits_in, audits_in_lake
from tests.support.samples import LOADED_AT

if TYPE_CHECKING:
    from tests.support.hostile_organization import World

# A machine that is busy is no failure.
settings.register_profile(
    "audit-etl", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "audit-etl")

#: Set by CI: a server that is missing is then a failure, not a skip.
REQUIRE_ALL = os.environ.get("AUDIT_ETL_TEST_REQUIRE_ALL") == "1"


def lacking(reason: str) -> NoReturn:
    """Skip the test for something that this machine lacks, or fail it where all must be there."""
    if REQUIRE_ALL:
        pytest.fail(reason)
    pytest.skip(reason)


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
    server = request.getfixturevalue(
        "postgres_server" if request.param == "postgresql" else "mariadb_server"
    )
    with servers.fresh_database(server) as url:
        yield url


@dataclass(frozen=True)
class Place:
    """A destination under test, and a way to read it that is not its own.

    Attributes:
        destination: the one under test.
        variables: the environment in which a command finds it.
        audits: every audit that it holds, by id; a doubled one is there twice.
    """

    destination: AnyDestination
    variables: Mapping[str, str]
    audits: Callable[..., list[Audit]]
    empty_files: Callable[[], None] = lambda: None

    def empty(self) -> None:
        """Take everything out, as if nothing had been loaded yet."""
        with self.destination.ledger.engine.begin() as connection:
            for table in schema.metadata.tables.values():
                connection.execute(sa.delete(table))
        self.empty_files()


KINDS = ["sqlite", "postgresql", "mariadb", "parquet", "parquet+s3"]


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
    if request.param.startswith("parquet"):
        yield from _lake(request, tmp_path)
        return
    with ExitStack() as stack:
        server = {"postgresql": "postgres_server", "mariadb": "mariadb_server"}
        url = f"sqlite:///{tmp_path / 'audits.db'}"
        if request.param in server:
            url = stack.enter_context(
                servers.fresh_database(request.getfixturevalue(server[request.param]))
            )
        engine = open_engine(url)
        stack.callback(engine.dispose)
        migration.upgrade(engine)
        yield Place(
            SqlDestination(engine, lambda: LOADED_AT),
            {"AUDIT_ETL_DESTINATION": url},
            partial(audits_in, engine),
        )


def _lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "parquet+s3":
        with pytest.MonkeyPatch.context() as patch:
            yield from _lake_at(_bucket(request.getfixturevalue("s3_server"), patch), tmp_path)
        return
    yield from _lake_at(f"parquet://{tmp_path / 'lake'}", tmp_path)


def _lake_at(url: str, tmp_path: Path) -> Iterator[Place]:
    storage = storage_of(url, os.environ, tmp_path / "scratch")
    state = f"sqlite:///{tmp_path / 'state.db'}"
    engine = open_engine(state)
    migration.upgrade(engine)
    destination = ParquetDestination(storage, engine, "day", lambda: LOADED_AT)
    variables = {"AUDIT_ETL_DESTINATION": url, "AUDIT_ETL_LEDGER": state}
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    yield Place(
        destination, variables | aws, partial(audits_in_lake, storage), partial(_empty_lake, url)
    )
    destination.close()


def _empty_lake(url: str) -> None:
    if url.startswith("parquet+s3://"):
        buckets.empty(url)
    else:
        lake = Path(url.removeprefix("parquet://"))
        shutil.rmtree(lake / "audit_events", ignore_errors=True)
        (lake / binding.PATH).unlink(missing_ok=True)


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
    from tests.support.hostile_organization import world  # which takes `Place` from here

    with world(log, served, standing_place) as made:
        yield made


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on a database of each kind, with the newest tables."""
    engine = open_engine(database_url)
    migration.upgrade(engine)
    yield engine
    engine.dispose()
