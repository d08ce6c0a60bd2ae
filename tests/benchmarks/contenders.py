"""The programs of ours that are measured, each in a process of its own: `python -m ... NAME`."""

import os
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

from etl.app import App, Observer
from etl.config import load
from etl.errors import AuditEtlError
from etl.model import Stream
from etl.operations import export
from etl.operations.streams import Failure
from etl.records import read_records
from etl.window import Window
from tests.benchmarks.limits import copied, inserted
from tests.benchmarks.meter import Meter, windows


def asked() -> list[Window]:
    """The windows that every contender asks for."""
    bounds = [interval.split("/") for interval in windows()]
    return [Window(*map(datetime.fromisoformat, pair)) for pair in bounds]


def program(stop: threading.Event, observer: Observer | None = None) -> App:
    """The product, by the environment, its windows no longer than anybody's."""
    variables = {n: v for n, v in os.environ.items() if not n.startswith("BENCH_")}
    variables["AUDIT_ETL_MAX_WINDOW"] = f"{int(asked()[0].length.total_seconds())}s"
    return App(load(None, variables), stop=stop, observer=observer)


def backfilled(app: App) -> tuple[int, int]:
    """Rows and requests of `audit-etl backfill`, as the command does it."""
    span = Window(asked()[0].start, asked()[-1].end)
    rows = requests = 0
    for outcome in export.backfill(app, span, [Stream("default")]):
        if isinstance(outcome, Failure):
            raise outcome.error
        rows, requests = rows + outcome.new_events, requests + outcome.requests
    return rows, requests


def pipeline(meter: Meter) -> tuple[int, int]:
    """The product, from nothing to the last receipt."""
    with meter.on(), program(threading.Event()) as app:
        app.migrate()
        return backfilled(app)


def floor(meter: Meter) -> tuple[int, int]:
    """The same client and the same decoder, and nothing done with the rows."""
    with meter.on(), program(threading.Event()) as app:
        source = app.source("default")
        rows = 0
        for window in asked():
            for page in source.pages(source.ask(window, None)):
                rows += len(read_records(page.records).audits)
        return rows, source.requests


CONTENDERS: Final[dict[str, Callable[[Meter], tuple[int, int]]]] = {
    "floor": floor,
    "sqlite": pipeline,
    "postgresql": pipeline,
    "mariadb": pipeline,
    "parquet": pipeline,
    "bare-sqlite": inserted,
    "bare-postgresql": copied,
    "bare-mariadb": inserted,
}


def main() -> None:
    """Run one contender, and print what it took."""
    meter = Meter()
    rows, requests = CONTENDERS[sys.argv[1]](meter)
    meter.tell(rows, requests)


if __name__ == "__main__":
    try:
        main()
    except AuditEtlError as error:
        sys.exit(str(error))
