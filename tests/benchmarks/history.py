"""How quick a day's load is into tables that hold years, and what an audit takes on the disk.

The history is made of the first days' own rows, copied within the database under new ids and
earlier times, in the order of time: keys, indexes and values lie as those of a real history do.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import sqlalchemy as sa

from etl.database import migration
from etl.database.engine import open_engine
from etl.window import Window
from tests.benchmarks.organisation import organisation
from tests.benchmarks.report import speed
from tests.benchmarks.rounds import Stage, run_module
from tests.support import copied_audits
from tests.support import database_servers as servers
from tests.support.copied_audits import Copy

#: What a busy organisation writes on a working day: nearly a million a month.
A_DAY: Final = 33_000
#: From a Monday to the Monday after the next Sunday: six working days.
SPAN: Final = Window(datetime(2026, 4, 6, tzinfo=UTC), datetime(2026, 4, 14, tzinfo=UTC))
#: How many working days' audits the simulator makes of these eight days.
WORK: Final = 6.34
#: Audits that the tables hold before a day is loaded.
SIZES: Final = (0, 1_000_000, 3_000_000)
#: Days that are loaded into tables of each size, one after the other.
DAYS_EACH: Final = 2
SATURDAY: Final = 5
COUNT: Final = "SELECT count(*) FROM audit_events"

#: What takes care that nothing of a copy is left to do while a load is timed.
_SETTLE: Final = {
    "sqlite": "PRAGMA wal_checkpoint(TRUNCATE)",
    "postgresql": "CHECKPOINT",
    "mysql": "SELECT 1",
}
#: The bytes of a database.
_BYTES: Final = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
    "postgresql": "SELECT sum(pg_total_relation_size(oid)) FROM pg_class "
    "WHERE relkind = 'r' AND starts_with(relname, 'audit_')",
    "mysql": "SELECT sum(file_size) FROM information_schema.innodb_sys_tablespaces "
    "WHERE substring_index(name, '/', 1) = database()",
}


def history(stage: Stage) -> dict[str, Any]:
    """By kind: seconds of each day's load by what the tables held, and bytes an audit."""
    with organisation(round(A_DAY * WORK), span=SPAN, windows=SPAN.length.days) as variables:
        windows = [text for text in variables["BENCH_WINDOWS"].split(",") if _is_working_day(text)]
        variables |= {"BENCH_WINDOWS": ",".join(windows)}
        found: dict[str, Any] = {
            kind: _of_tables(stage, kind, variables) for kind in ("sqlite", *stage.servers)
        }
        return found | {"lake": _of_lake(stage, variables)}


def _is_working_day(window: str) -> bool:
    return datetime.fromisoformat(window.split("/")[0]).weekday() < SATURDAY


def _of_lake(stage: Stage, variables: dict[str, str]) -> dict[str, float]:
    with TemporaryDirectory(dir=stage.home) as folder:
        lake = Path(folder) / "lake"
        env = variables | _destination(f"parquet://{lake}")
        loaded = json.loads(run_module("contenders", "parquet", env=env))
        size = sum(file.stat().st_size for file in lake.rglob("*.parquet"))
    return {"bytes": size / loaded["rows"]}


def _destination(url: str) -> dict[str, str]:
    return {"AUDIT_ETL_DESTINATION": url}


def _of_tables(stage: Stage, kind: str, variables: dict[str, str]) -> dict[str, Any]:
    """Load the organisation's days one by one, the tables filled up between them."""
    days = iter(variables["BENCH_WINDOWS"].split(","))
    speeds: dict[int, list[float]] = {}
    with _database(stage, kind) as url:
        engine = open_engine(url)
        migration.upgrade(engine)

        def load() -> float:
            env = variables | _destination(url) | {"BENCH_WINDOWS": next(days)}
            return speed(json.loads(run_module("contenders", kind, env=env)))

        for size in SIZES:
            _fill(engine, size)
            speeds[size] = [load() for _ in range(DAYS_EACH)]
        size_bytes = _ask(engine, _BYTES[engine.dialect.name])
        held = _ask(engine, COUNT)
        engine.dispose()
    return {"speeds": speeds, "bytes": size_bytes / held}


@contextmanager
def _database(stage: Stage, kind: str) -> Iterator[str]:
    if kind == "sqlite":
        with TemporaryDirectory(dir=stage.home) as folder:
            yield f"sqlite:///{folder}/audits.db"
        return
    with servers.fresh_database(stage.servers[kind]) as url:
        yield url


def _fill(engine: sa.Engine, size: int) -> None:
    """Copy the first days' audits until the tables hold `size`."""
    first = Window(SPAN.start, SPAN.start + timedelta(days=DAYS_EACH))
    held = _ask(engine, COUNT)
    each = DAYS_EACH * A_DAY
    for number in count(held // each):
        if held >= size:
            break
        copied_audits.add(engine, Copy(first, number, days=DAYS_EACH * number))
        held += each
    outside = {"isolation_level": "AUTOCOMMIT", "in_transaction": False}
    with engine.connect().execution_options(**outside) as connection:
        connection.exec_driver_sql(_SETTLE[engine.dialect.name])


def _ask(engine: sa.Engine, question: str) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(question).scalar_one())
