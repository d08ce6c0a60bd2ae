"""Every contender in its turn, round by round, so that what else the machine does is shared out."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import sqlalchemy as sa

from etl.database import migration
from etl.database.engine import open_engine
from tests import TOP
from tests.benchmarks.environments import python_of
from tests.support import database_servers as servers

#: What runs at every size.
EVERYWHERE: Final = ("floor", "parquet", "sqlite", "postgresql")
#: The order of a round: what is compared stands side by side.
OWN: Final = (
    "floor",
    "parquet",
    "sqlite",
    "bare-sqlite",
    "postgresql",
    "bare-postgresql",
    "mariadb",
    "bare-mariadb",
)
PEERS: Final = ("sdk", "dlt-parquet", "dlt-duckdb", "dlt-postgresql")

Taken = dict[str, float]
Round = dict[str, Taken]


@dataclass(frozen=True)
class Stage:
    """Where contenders run.

    Attributes:
        home: a folder for what lasts as long as the benchmark.
        servers: URLs of the database servers there are, by kind.
    """

    home: Path
    servers: dict[str, str]

    def names(self, *, whole: bool) -> list[str]:
        """The contenders that can run here: all of them, or what runs at every size."""
        absent = {"postgresql", "mariadb"} - self.servers.keys()
        wanted = OWN + PEERS if whole else EVERYWHERE
        return [name for name in wanted if name.rpartition("-")[2] not in absent]

    def round(self, variables: dict[str, str], names: list[str]) -> Round:
        """What each contender took, which must have read the same, each in its turn."""
        done = {name: self._run(name, variables) for name in names}
        read = {name: taken["rows"] for name, taken in done.items()}
        assert len(set(read.values())) == 1, f"not all read the same: {read}"
        return done

    @contextmanager
    def prepared(self, variables: dict[str, str]) -> Iterator[dict[str, str]]:
        """`variables`, and with them the rows that the bare loads load."""
        with TemporaryDirectory(dir=self.home) as folder:
            file = Path(folder) / "prepared.db"
            env = variables | {"BENCH_PREPARED": str(file), "BENCH_COPIES": folder}
            sqlite = {"AUDIT_ETL_DESTINATION": f"sqlite:///{file}"}
            run_module("contenders", "sqlite", env=env | sqlite)
            run_module("limits", "write", env=env)
            yield env

    def _run(self, name: str, variables: dict[str, str]) -> Taken:
        """Run one contender once, into an empty destination."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(dir=self.home)))
            env = variables | {
                "AUDIT_ETL_DESTINATION": self._destination(stack, name, folder),
                "BENCH_FILE": str(folder / "peer.db"),
                "BENCH_FOLDER": str(folder),
                "HOME": str(folder),
                "DLT_DATA_DIR": str(folder / "dlt"),
                "RUNTIME__DLTHUB_TELEMETRY": "false",
            }
            url = sa.make_url(env["AUDIT_ETL_DESTINATION"])
            # dlt insists on a password, even where the server asks for none.
            url = url.set(drivername="postgresql", password=url.password or "none")
            env["BENCH_DATABASE"] = url.render_as_string(hide_password=False)
            if name == "sdk":
                engine = open_engine(f"sqlite:///{env['BENCH_FILE']}")
                migration.upgrade(engine)
                engine.dispose()
            return json.loads(program(name, env))  # type: ignore[no-any-return]

    def _destination(self, stack: ExitStack, name: str, folder: Path) -> str:
        kind = name.rpartition("-")[2]
        if kind in self.servers:
            return stack.enter_context(servers.fresh_database(self.servers[kind]))
        return f"parquet://{folder / 'lake'}" if kind == "parquet" else f"sqlite:///{folder}/a.db"


def program(name: str, env: dict[str, str]) -> str:
    """What a contender says at its end."""
    peer, _, kind = name.partition("-")
    if peer == "sdk":
        return run_module("peers.sdk_loop", env=env, python=python_of("sdk"))
    if peer == "dlt":
        kind = kind.removesuffix("ql")
        return run_module("peers.dlt_pipeline", kind, env=env, python=python_of("dlt"))
    return run_module("contenders", name, env=env)


def run_module(
    module: str, *arguments: str, env: dict[str, str], python: str = sys.executable
) -> str:
    """The last line that a module of this package prints."""
    command = [python, "-m", f"tests.benchmarks.{module}", *arguments]
    result = subprocess.run(
        command, cwd=TOP, env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    return (result.stdout.splitlines() or [""])[-1]
