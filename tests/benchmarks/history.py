"""How quick a day's load is into tables that hold years, and what an audit takes on the disk.

The history is made of the first days' own rows, copied within the database under new ids and
earlier times, in the order of time: keys, indexes and values lie as those of a real history do.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import md5
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import sqlalchemy as sa

from etl.database import migration, schema
from etl.database.engine import open_engine
from etl.database.times import read_time, text_time
from etl.window import Window
from tests.benchmarks.organisation import organisation
from tests.benchmarks.report import speed
from tests.benchmarks.rounds import Stage, run_module
from tests.support import database_servers as servers

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
CHILDREN: Final = (schema.audit_property_changes, schema.audit_entity_changes)

#: An audit's new id and time, in the `{number}`th copy, which is `{days}` days earlier.
_NEW: Final = {
    "sqlite": ("copied_id({id}, {number})", "earlier({time}, {days})"),
    "postgresql": ("md5({id} || {number}) || '0000'", "{time} - interval '{days} days'"),
    "mysql": ("concat(md5(concat({id}, {number})), '0000')", "{time} - interval {days} day"),
}
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
        held = _ask(engine, "SELECT count(*) FROM audit_events")
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
    first = DAYS_EACH * A_DAY
    held = _ask(engine, "SELECT count(*) FROM audit_events")
    done = (held - first) // first  # earlier copies
    for number in count(max(1, done)):
        if held >= size:
            break
        with closing(engine.raw_connection()) as connection:
            _add_functions(connection.driver_connection)
            cursor = connection.cursor()
            for statement in _copies(engine.dialect.name, number):
                cursor.execute(statement)
            connection.commit()
        held += first
    outside = {"isolation_level": "AUTOCOMMIT", "in_transaction": False}
    with engine.connect().execution_options(**outside) as connection:
        connection.exec_driver_sql(_SETTLE[engine.dialect.name])


def _copies(dialect: str, number: int) -> Iterator[str]:
    """Statements that make the copy of that number."""
    new_id, new_time = _NEW[dialect]
    told = {"number": f"'{number}'", "days": number * DAYS_EACH}
    end = text_time(SPAN.start + timedelta(days=DAYS_EACH))
    first = f"e.event_date >= '{text_time(SPAN.start)}' AND e.event_date < '{end}'"
    if dialect == "postgresql":
        first = first.replace("' ", "+00' ").removesuffix("'") + "+00'"
    for table in (schema.audit_events, *CHILDREN):
        alias = "e" if table is schema.audit_events else "c"
        made = {
            "id": new_id.format(id="e.id", **told),
            "event_id": new_id.format(id="e.id", **told),
            "event_date": new_time.format(time="e.event_date", **told),
        }
        values = [made.get(column.name, f"{alias}.{column.name}") for column in table.c]
        names = ", ".join(column.name for column in table.c)
        also = " AND c.event_date = e.event_date" if "event_date" in table.c else ""
        child = f"JOIN {table.name} c ON c.organization = e.organization AND c.event_id = e.id"
        joined = "" if alias == "e" else child + also
        yield (
            f"INSERT INTO {table.name} ({names}) SELECT {', '.join(values)} "
            f"FROM audit_events e {joined} WHERE {first} ORDER BY e.event_date"
        )


def _add_functions(driver: Any) -> None:
    if isinstance(driver, sqlite3.Connection):
        driver.execute("BEGIN IMMEDIATE")
        driver.create_function("copied_id", 2, _copied_id, deterministic=True)
        driver.create_function("earlier", 2, _earlier, deterministic=True)


def _copied_id(of: str, number: str) -> str:
    return md5((of + number).encode()).hexdigest() + "0000"


def _earlier(time: str, days: int) -> str:
    return text_time(read_time(time) - timedelta(days=days))


def _ask(engine: sa.Engine, question: str) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(question).scalar_one())
