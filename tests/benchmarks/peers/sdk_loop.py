"""The vendor's SDK in the loop that its documentation leads to, and `executemany` into SQLite."""

import os
import sqlite3
from collections.abc import Iterator
from typing import Any

import PureCloudPlatformClientV2 as vendor  # noqa: N813 - not a class

from tests.benchmarks.meter import Meter, windows

FINAL = {"Succeeded", "Failed", "Cancelled"}


def pages(api: Any, interval: str) -> Iterator[Any]:
    """Create a query, wait for it, and read it to its end."""
    body = vendor.AuditQueryRequest()
    body.interval = interval
    created = api.post_audits_query(body)
    state = created.state
    while state not in FINAL:
        state = api.get_audits_query_transaction_id(created.id).state
    cursor: dict[str, Any] = {}
    while True:
        page = api.get_audits_query_transaction_id_results(
            created.id, page_size=500, expand=["user"], **cursor
        )
        yield page
        if not page.cursor:
            return
        cursor = {"cursor": page.cursor}


def signed_in() -> Any:
    """The SDK's client, with a token, and a counter of requests in it."""
    client = vendor.api_client.ApiClient(host=os.environ["GENESYSCLOUD_REGION"])
    client.get_client_credentials_token(
        os.environ["GENESYSCLOUD_OAUTHCLIENT_ID"], os.environ["GENESYSCLOUD_OAUTHCLIENT_SECRET"]
    )
    return client


def main() -> None:
    """Load every window, a commit for each page."""
    meter, rows, requests = Meter(), 0, 1
    with meter.on(), sqlite3.connect(os.environ["BENCH_FILE"]) as database:
        client = signed_in()
        send = client.call_api

        def counted(*args: Any, **named: Any) -> Any:
            nonlocal requests
            requests += 1
            return send(*args, **named)

        client.call_api = counted
        database.execute(
            "CREATE TABLE audits (id TEXT PRIMARY KEY, at TEXT, service TEXT, raw TEXT)"
        )
        for interval in windows():
            for page in pages(vendor.AuditApi(client), interval):
                database.executemany(
                    "INSERT OR IGNORE INTO audits VALUES (?, ?, ?, ?)",
                    [
                        (a.id, a.event_date.isoformat(), a.service_name, a.to_json())
                        for a in page.entities
                    ],
                )
                database.commit()
                rows += len(page.entities)
    meter.tell(rows, requests)


if __name__ == "__main__":
    main()
