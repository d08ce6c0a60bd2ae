"""The peak memory of work on a lake with one large partition, each in a process of its own.

`python -m tests.support.large_lake STEP FOLDER ROWS` takes a step and prints the peak of its memory
in MiB: `make` makes the lake, `tick` loads 1,200 audits into its large partition, `query` asks for
all of it.
"""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from etl.app import App
from etl.config import load
from etl.database import migration
from etl.database.engine import open_engine
from etl.destinations.lake.columns import table_of
from etl.destinations.lake.layout import path_of
from etl.destinations.lake.parquet import ParquetDestination
from etl.destinations.lake.storage import storage_of
from etl.destinations.lake.writing import write
from etl.operations import query as query_module
from etl.sizes import Sizes
from tests import TOP
from tests.support.samples import BEGIN, LOADED_AT, batch, draft, hours, load_into, record

PIECE = 1_000
TICK = 1_200
DAY = BEGIN + timedelta(days=1)


def peak() -> int:
    """The most memory that this process has had so far, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def pieces(count: int) -> Iterator[pa.Table]:
    """So many audits of a day, in order, each with an id, a time and a text of its own."""
    base = table_of(batch(*(record(f"{n}", n) for n in range(PIECE))).audits, LOADED_AT)
    step = timedelta(hours=23) / count
    for start in range(0, count, PIECE):
        numbers = range(start, min(start + PIECE, count))
        rows = base.slice(0, len(numbers))
        times = [DAY + n * step for n in numbers]
        raws = [f'{{"n": "{n * 2654435761 % 2**32:032x}{"." * 900}"}}' for n in numbers]
        for name, values in (
            ("id", [f"{n:09}" for n in numbers]),
            ("event_date", times),
            ("raw", raws),
        ):
            place = rows.schema.get_field_index(name)
            field = rows.schema.field(place)
            rows = rows.set_column(place, field, pa.array(values, field.type))
        yield rows


def make(folder: Path, count: int) -> None:
    """A lake of one audit, loaded as ever, and of a file of so many more beside it."""
    place = _place(folder)
    load_into(place, draft(hours(0, 1)), [batch(record("first", 0.5))])
    path = folder / path_of("default", DAY.strftime("date=%Y-%m-%d"))
    path.parent.mkdir(parents=True)
    write(path, pieces(count), Sizes())
    place.close()


def tick(folder: Path, count: int) -> None:
    """Load `TICK` audits into the partition of that file."""
    pages = [
        batch(*(record(f"t{n}", 24 + 22 * n / TICK) for n in range(start, start + 400)))
        for start in range(0, TICK, 400)
    ]
    place = _place(folder)
    assert load_into(place, draft(hours(24, 47)), pages).new_events == TICK
    place.close()


def query(folder: Path, count: int) -> None:
    """Ask for every column of every row."""
    settings = load(None, {"AUDIT_ETL_DESTINATION": f"parquet://{folder}"})
    with (
        App(settings, stop=threading.Event()) as app,
        query_module.answer(app, "SELECT * FROM audit_events") as reader,
    ):
        assert sum(part.num_rows for part in reader) == count + 1


def _place(folder: Path) -> ParquetDestination:
    folder.mkdir(exist_ok=True)
    engine = open_engine(f"sqlite:///{folder}/_state.db")
    migration.upgrade(engine)
    storage = storage_of(f"parquet://{folder}", {}, folder.parent)
    return ParquetDestination(storage, engine, "day", lambda: LOADED_AT, Sizes())


def peak_of(what: str, count: int) -> int:
    """The peak of `tick` or `query` in a process of its own, in MiB."""
    with tempfile.TemporaryDirectory(prefix="audit-etl-large-") as folder:

        def step(name: str) -> int:
            command = [
                sys.executable,
                "-m",
                "tests.support.large_lake",
                name,
                f"{folder}/lake",
                str(count),
            ]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=TOP)
            return int(done.stdout)

        step("make")
        return step(what)


if __name__ == "__main__":
    {"make": make, "tick": tick, "query": query}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write(f"{peak()}\n")
