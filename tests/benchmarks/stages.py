"""Where an audit's time goes: each step alone, one after the other, in one thread: `make profile`.

Seconds of CPU of this process; a server's own work shows only in the time that passes.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from etl.app import App
from etl.config import load
from etl.destinations.lake.columns import table_of
from etl.destinations.sql.rows import bound_for, rows_of
from etl.model import PendingReceipt, Stream
from etl.records import Batch, Page, read_records
from etl.window import cut
from tests.benchmarks.organisation import MONTH, organisation
from tests.support import database_servers as servers
from tests.support.samples import unfenced

AUDITS: Final = int(os.environ.get("BENCH_STAGES", "20000"))
T = TypeVar("T")


def main() -> None:
    """Print a line for each step."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audit-etl-stages-")))
        variables = stack.enter_context(organisation(AUDITS))
        say(f"| step, {AUDITS:,} audits | µs CPU an audit | µs that pass |")
        say("|---|---|---|")
        with app_of(variables, f"sqlite:///{home / 'none.db'}") as app:
            pages = timed("download, inflate, cut into records", lambda: list(downloaded(app)))
            now = app.now()
        batches = timed("decode into typed rows", lambda: [read_records(p.records) for p in pages])
        audits = [audit for batch in batches for audit in batch.audits]
        bound = bound_for("sqlite")
        timed(
            "rows for SQL, of changes too",
            lambda: [[*rows] for _, rows in rows_of("default", audits, now, bound)],
        )
        pieces = [audits[n : n + 5_000] for n in range(0, len(audits), 5_000)]
        timed("columns for a lake", lambda: [table_of(piece, now) for piece in pieces])
        for name, url in destinations(stack, home):
            with app_of(variables, url) as app:
                app.migrate()
                timed(f"all of the load into {name}", partial(loaded, app, batches))
                timed(f"the same again into {name}", partial(loaded, app, batches))


def destinations(stack: ExitStack, home: Path) -> Iterator[tuple[str, str]]:
    """An empty destination of each kind that there is."""
    yield "SQLite", f"sqlite:///{home / 'audits.db'}"
    postgres = stack.enter_context(servers.postgres(home / "postgres"))
    yield "PostgreSQL", stack.enter_context(servers.fresh_database(postgres))
    mariadb = servers.mariadb()
    if mariadb is not None:
        yield "MariaDB", stack.enter_context(servers.fresh_database(mariadb))
    yield "Parquet", f"parquet://{home / 'lake'}"


@contextmanager
def app_of(variables: dict[str, str], destination: str) -> Iterator[App]:
    """The product with that destination."""
    ours = {name: value for name, value in variables.items() if not name.startswith("BENCH_")}
    settings = load(None, ours | {"AUDIT_ETL_DESTINATION": destination})
    with App(settings, stop=threading.Event()) as app:
        yield app


def downloaded(app: App) -> Iterator[Page]:
    """Every page of the month."""
    source = app.source("default")
    for window in cut(MONTH, MONTH.length):
        yield from source.pages(source.ask(window, None))


def loaded(app: App, batches: list[Batch]) -> None:
    """Load them as one window."""
    draft = PendingReceipt(
        Stream("default"), MONTH, "stages", "backfill", app.now(), lambda: 0, app.now
    )
    destination = app.destination()
    destination.load(draft, map(destination.prepared, batches), unfenced)


def timed(step: str, work: Callable[[], T]) -> T:
    """Do it, and print what an audit of it took."""
    cpu, passed = time.process_time(), time.perf_counter()
    result = work()
    cpu, passed = time.process_time() - cpu, time.perf_counter() - passed
    say(f"| {step} | {cpu / AUDITS * 1e6:.1f} | {passed / AUDITS * 1e6:.1f} |")
    return result


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201 - the report


if __name__ == "__main__":
    main()
