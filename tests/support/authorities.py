"""A private CA, and servers with certificates of it."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests.support.daemons import until
from tests.support.database_servers import OwnPostgres, answers, free_port
from tests.support.external_programs import lacking, program


@dataclass(frozen=True)
class Authority:
    """A CA that nobody trusts by itself."""

    folder: Path

    @property
    def file(self) -> Path:
        """Its certificate."""
        return self.folder / "ca.pem"

    def make(self) -> "Authority":
        """Make its key and certificate."""
        self._request("ca", "/CN=A private CA", "basicConstraints=critical,CA:TRUE")
        return self

    def certify(self, name: str) -> tuple[Path, Path]:
        """A certificate for the host `name`, and its key."""
        signed = ["-CA", str(self.file), "-CAkey", str(self.folder / "ca.key")]
        signed += ["-addext", "basicConstraints=critical,CA:FALSE"]
        self._request("host", f"/CN={name}", f"subjectAltName=DNS:{name}", *signed)
        return self.folder / "host.pem", self.folder / "host.key"

    def _request(self, file: str, subject: str, extension: str, *signed: str) -> None:
        files = ["-keyout", f"{self.folder}/{file}.key", "-out", f"{self.folder}/{file}.pem"]
        command = [program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
        command += ["-days", "2", "-subj", subject, "-addext", extension, *files, *signed]
        subprocess.run(command, check=True, capture_output=True)


@contextmanager
def servers_folder(user: str | None) -> Iterator[Path]:
    """A folder of `user`'s own: nobody may look into root's."""
    home = Path("/tmp") / f"audit-etl-server-{uuid4().hex[:8]}"
    home.mkdir(mode=0o700)
    if user:
        os.chown(home, pwd.getpwnam(user).pw_uid, -1)
    try:
        yield home
    finally:
        shutil.rmtree(home)


def _given(home: Path, user: str | None, certificate: tuple[Path, Path]) -> list[str]:
    """Copies of a certificate and its key that only `user` can read."""
    made = []
    for source in certificate:
        copy = home / source.name
        copy.touch(mode=0o600)
        copy.write_bytes(source.read_bytes())
        if user:
            os.chown(copy, pwd.getpwnam(user).pw_uid, -1)
        made.append(str(copy))
    return made


@contextmanager
def postgresql_with_tls(certificate: tuple[Path, Path]) -> Iterator[str]:
    """The URL of a PostgreSQL of Debian's, which speaks TLS; the wheel's cannot."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        lacking("no PostgreSQL with TLS on this machine (Debian's package postgresql has it)")
    user = "nobody" if os.geteuid() == 0 else None
    with servers_folder(user) as home:
        server = OwnPostgres(home, found[-1], user, None)
        server.make()
        file, key = _given(home, user, certificate)
        with (home / "data" / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"ssl = on\nssl_cert_file = '{file}'\nssl_key_file = '{key}'\n")
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


@contextmanager
def mariadb_with_tls(certificate: tuple[Path, Path]) -> Iterator[str]:
    """The URL of a MariaDB of its own, which speaks TLS."""
    user = "nobody" if os.geteuid() == 0 else None
    with servers_folder(user) as home:
        file, key = _given(home, user, certificate)
        with own_mariadb(f"--ssl-cert={file}", f"--ssl-key={key}") as url:
            yield url


@contextmanager
def own_mariadb(*options: str) -> Iterator[str]:
    """The URL of a MariaDB of its own that is started with these options."""
    install = program("mariadb-install-db", "mariadb-server")
    serve = program("mariadbd", "mariadb-server")
    user = "nobody" if os.geteuid() == 0 else None
    with servers_folder(user) as home:
        common = ["--no-defaults", f"--datadir={home}/data"]
        plain = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        at_birth = [option for option in options if option.startswith("--innodb-page-size")]
        command = [install, *common, *plain, *at_birth]
        subprocess.run(command, check=True, capture_output=True, user=user, cwd="/")
        port = free_port()
        command = [serve, *common, "--bind-address=127.0.0.1", f"--port={port}"]
        command += [f"--socket={home}/socket", f"--pid-file={home}/pid", "--skip-log-bin"]
        command += ["--innodb-fast-shutdown=2", *options]
        with subprocess.Popen(command, user=user, cwd="/", stderr=subprocess.DEVNULL) as server:
            try:
                url = f"mysql+pymysql://root@127.0.0.1:{port}/"
                until(lambda: server.poll() is not None or answers(url), "a MariaDB answers", 60)
                assert server.poll() is None, f"MariaDB ended at once, given {options}"
                yield url
            finally:
                server.terminate()
