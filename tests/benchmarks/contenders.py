"""The programs that are measured, each in a process of its own: `python -m ... NAME`.

Each reads the same month from the organisation that the environment names, says what it took as a
line of JSON, and is as plain as whoever would write it.
"""

import json
import os
import resource
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from etl import operations
from etl.app import App
from etl.config import load
from etl.errors import AuditEtlError
from etl.operations import Failure
from etl.progress import Stream
from etl.records import normalise
from etl.window import Window, cut

SPAN: Final = Window(
    datetime.fromisoformat(os.environ["BENCH_FROM"]), datetime.fromisoformat(os.environ["BENCH_TO"])
)
#: Every contender asks for so many windows, so that all read the same pages.
WINDOWS: Final = 3


def pipeline() -> tuple[int, int]:
    """`audit-etl backfill`, as the command does it."""
    variables = {n: v for n, v in os.environ.items() if not n.startswith("BENCH_")}
    variables["AUDIT_ETL_MAX_WINDOW"] = f"{int((SPAN.length / WINDOWS).total_seconds())}s"
    with App(load(None, variables), stop=threading.Event()) as app:
        app.migrate()
        rows = requests = 0
        for outcome in operations.backfill(app, SPAN, [Stream("default")]):
            if isinstance(outcome, Failure):
                raise outcome.error
            rows, requests = rows + outcome.new_events, requests + outcome.requests
    return rows, requests


def floor() -> tuple[int, int]:
    """The same client and the same decoder, and nothing done with the rows."""
    variables = {n: v for n, v in os.environ.items() if not n.startswith("BENCH_")}
    with App(load(None, variables), stop=threading.Event()) as app:
        source = app.source("default")
        rows = 0
        for window in cut(SPAN, SPAN.length / WINDOWS):
            for page in source.pages(source.ask(window, None)):
                rows += len(normalise(page.records).audits)
        return rows, source.requests


def sdk() -> tuple[int, int]:
    """The vendor's SDK in a loop, and `executemany` into SQLite."""
    import PureCloudPlatformClientV2 as vendor  # noqa: N813 - not a class

    client = vendor.api_client.ApiClient(host=os.environ["GENESYSCLOUD_REGION"])
    client.get_client_credentials_token(
        os.environ["GENESYSCLOUD_OAUTHCLIENT_ID"], os.environ["GENESYSCLOUD_OAUTHCLIENT_SECRET"]
    )
    api = vendor.AuditApi(client)
    rows, requests = 0, 1
    with sqlite3.connect(os.environ["BENCH_FILE"]) as database:
        database.execute(
            "CREATE TABLE audits (id TEXT PRIMARY KEY, at TEXT, service TEXT, raw TEXT)"
        )
        for window in cut(SPAN, SPAN.length / WINDOWS):
            body = vendor.AuditQueryRequest()
            body.interval = str(window)
            created = api.post_audits_query(body)
            state, requests = created.state, requests + 1
            while state not in {"Succeeded", "Failed", "Cancelled"}:
                state, requests = (
                    api.get_audits_query_transaction_id(created.id).state,
                    requests + 1,
                )
            cursor: dict[str, Any] = {}
            while True:
                page = api.get_audits_query_transaction_id_results(
                    created.id, page_size=500, expand=["user"], **cursor
                )
                requests += 1
                database.executemany(
                    "INSERT OR IGNORE INTO audits VALUES (?, ?, ?, ?)",
                    [
                        (a.id, a.event_date.isoformat(), a.service_name, a.to_json())
                        for a in page.entities
                    ],
                )
                database.commit()
                rows += len(page.entities)
                if not page.cursor:
                    break
                cursor = {"cursor": page.cursor}
    return rows, requests


CONTENDERS: Final[dict[str, Callable[[], tuple[int, int]]]] = {
    "floor": floor,
    "sdk": sdk,
    "sqlite": pipeline,
    "postgresql": pipeline,
    "mariadb": pipeline,
    "parquet": pipeline,
}


def main() -> None:
    """Run one contender, and print what it took."""
    started = time.perf_counter()
    rows, requests = CONTENDERS[sys.argv[1]]()
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(  # noqa: T201 - the line that the benchmark reads
        json.dumps(
            {
                "rows": rows,
                "requests": requests,
                "seconds": seconds,
                "cpu": used.ru_utime + used.ru_stime,
                "mib": used.ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    try:
        main()
    except AuditEtlError as error:
        sys.exit(str(error))
