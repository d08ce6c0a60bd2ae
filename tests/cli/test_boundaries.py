"""No failure of a library at the program's edge is taken for a bug: one line, and no value in it.

Each call with which the program leaves its own code fails in turn, with each kind of error that the
library behind it raises, in each command that makes the call.
"""

import errno
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest

from tests import TOP
from tests.support.commands import audit_etl
from tests.support.live_organization import living
from tests.support.places import Place

#: Whatever the surroundings do, a command ends with one of these.
TOLD = {65, 69, 75, 77, 78}

OF_FILES = tuple(
    f"builtins:OSError {number}"
    for number in (errno.EACCES, errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE, errno.ESTALE)
)
OF_REQUESTS = tuple(
    f"requests.exceptions:{name}"
    for name in (
        "ConnectionError",
        "ChunkedEncodingError",
        "ContentDecodingError",
        "ReadTimeout",
        "SSLError",
        "ProxyError",
        "InvalidURL",
        "InvalidProxyURL",
        "InvalidHeader",
        "TooManyRedirects",
        "RequestException",
    )
)
OF_A_DRIVER = ("OperationalError", "InterfaceError", "DatabaseError", "InternalError")
OF_URLLIB3 = (
    "urllib3.exceptions:ProtocolError",
    "urllib3.exceptions:DecodeError",
    "urllib3.exceptions:SSLError",
    f"builtins:OSError {errno.ECONNRESET}",
)
NO_THREADS = ("builtins:RuntimeError can't start new thread", "builtins:MemoryError")
#: What PyMySQL lets through.
BESIDE_PYMYSQL = ("ssl:SSLError", "builtins:RuntimeError")
OF_OBSTORE = tuple(
    f"obstore.exceptions:{name}"
    for name in (
        "GenericError",
        "NotFoundError",
        "PermissionDeniedError",
        "UnauthenticatedError",
        "NotSupportedError",
        "PreconditionError",
        "UnknownConfigurationKeyError",
    )
)
OF_ARROW = ("pyarrow:ArrowInvalid", "pyarrow:ArrowNotImplementedError", "pyarrow:ArrowKeyError")
OF_DUCKDB = tuple(
    f"duckdb:{name}"
    for name in (
        "IOException",
        "OutOfMemoryException",
        "InvalidInputException",
        "InternalException",
    )
)


def of(driver: str) -> tuple[str, ...]:
    return tuple(f"{driver}:{name}" for name in OF_A_DRIVER)


@dataclass(frozen=True)
class Boundary:
    """A call that leaves the program.

    Attributes:
        target: what is called.
        errors: what it raises.
        commands: those that make the call.
        kinds: of destinations that the call belongs to.
    """

    target: str
    errors: tuple[str, ...]
    commands: tuple[str, ...]
    kinds: tuple[str, ...]


ALL = ("sqlite", "postgresql", "mariadb", "parquet", "parquet+s3")
SERVERS = ("postgresql", "mariadb")
LAKES = ("parquet", "parquet+s3")
EXPORTS = ("run", "backfill", "verify")
ANY = ("migrate", "check", *EXPORTS, "query")

BOUNDARIES = [
    Boundary("requests:Session.send", OF_REQUESTS, ("check", *EXPORTS, "services"), ("sqlite",)),
    Boundary(
        "urllib3:HTTPResponse.read1", OF_URLLIB3, ("check", *EXPORTS, "services"), ("sqlite",)
    ),
    Boundary("sqlite3.dbapi2:connect", (*of("sqlite3"), *OF_FILES), ANY, ("sqlite", "parquet")),
    Boundary("psycopg:Connection.connect", of("psycopg"), ANY, ("postgresql",)),
    Boundary("pymysql:connect", (*of("pymysql"), *BESIDE_PYMYSQL), ANY, ("mariadb",)),
    Boundary("psycopg:Cursor.execute", of("psycopg"), ANY, ("postgresql",)),
    Boundary("pymysql.cursors:Cursor.execute", of("pymysql"), ANY, ("mariadb",)),
    Boundary("psycopg:Cursor.copy", of("psycopg"), ("check", "run"), ("postgresql",)),
    Boundary("obstore:put", OF_OBSTORE, ("check", "run"), ("parquet+s3",)),
    Boundary("obstore:copy", OF_OBSTORE, ("run",), ("parquet+s3",)),
    Boundary("obstore:head", OF_OBSTORE, ("check", *EXPORTS), ("parquet+s3",)),
    Boundary("obstore:get", OF_OBSTORE, (*EXPORTS, "query"), ("parquet+s3",)),
    Boundary("obstore:list", OF_OBSTORE, ("check", *EXPORTS, "query"), ("parquet+s3",)),
    Boundary("pyarrow.parquet:ParquetFile", (*OF_ARROW, *OF_FILES), EXPORTS, LAKES),
    Boundary("pyarrow.parquet:ParquetWriter", (*OF_ARROW, *OF_FILES), ("run",), LAKES),
    Boundary("duckdb:connect", OF_DUCKDB, ("query",), LAKES),
    Boundary("tempfile:mkdtemp", OF_FILES, ("query",), LAKES),
    Boundary("tempfile:TemporaryFile", OF_FILES, ("check",), ("sqlite",)),
    Boundary("os:replace", OF_FILES, ("run",), ("parquet",)),
    Boundary("os:fsync", OF_FILES, ("check", "run"), ("parquet",)),
    Boundary("threading:Thread.start", NO_THREADS, EXPORTS, ALL),
]
#: Kind by kind, for those of one kind share a destination.
CASES = [(kind, boundary) for kind in ALL for boundary in BOUNDARIES if kind in boundary.kinds]


def name_of(case: object) -> str:
    return case.target if isinstance(case, Boundary) else str(case)


class Commands:
    """Commands on one destination and one organisation, from a process that is warm."""

    def __init__(self, begin: datetime, env: Mapping[str, str]) -> None:
        span = ["--from", begin.isoformat(), "--to", (begin + timedelta(minutes=2)).isoformat()]
        self._env = env
        self._arguments = {
            "backfill": span,
            "verify": span,
            "query": ["SELECT count(*) FROM audit_events"],
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.failing_calls"],
            env=dict(env) | {"PYTHONPATH": str(TOP)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ended(self, command: str, target: str, error: str) -> dict[str, Any]:
        """What a command ends in when a call raises an error."""
        assert self._process.stdin
        assert self._process.stdout
        case = {
            "command": [command, *self._arguments.get(command, [])],
            "target": target,
            "error": error,
            "env": self._env,
        }
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())  # type: ignore[no-any-return]

    def close(self) -> None:
        """Afterwards the process is no more."""
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def commands(standing_place: Place) -> Iterator[Commands]:
    with living(ahead=timedelta(minutes=40)) as organisation:
        env = organisation.environment("") | dict(standing_place.variables)
        assert audit_etl("run", env=env).returncode == 0
        with closing(Commands(organisation.begin, env)) as commands:
            yield commands


@pytest.mark.slow
@pytest.mark.parametrize(
    ("standing_place", "boundary"),
    CASES,
    indirect=["standing_place"],
    ids=name_of,
    scope="module",  # or each case would have a destination of its own
)
def test_what_a_library_raises_ends_a_command_in_one_line(
    commands: Commands, boundary: Boundary
) -> None:
    cases = list(product(boundary.commands, boundary.errors))
    ended = [(case, commands.ended(case[0], boundary.target, case[1])) for case in cases]

    odd = [(case, done) for case, done in ended if is_odd(done)]
    assert odd == []
    assert {command for (command, _), done in ended if done["met"]} == {*boundary.commands}


def is_odd(done: dict[str, Any]) -> bool:
    """Whether a command ended as if the failure were a bug of the program's."""
    return "Traceback" in done["said"] or done["status"] not in TOLD | {0}
