"""The vendor's SDK in the loop that its documentation leads to, and `executemany` into SQLite."""

import json
import os
import sqlite3
from collections.abc import Iterator
from time import gmtime, strftime
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


def insert(database: sqlite3.Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Insert rows of the tables that the product itself would make; those there already stay."""
    if rows:
        values = ", ".join("?" * len(rows[0]))
        database.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({values})", rows)


def event(audit: Any, now: str) -> tuple[Any, ...]:
    """The row of an audit."""
    entity, user, client = audit.entity, audit.user, audit.client
    message, action = audit.message, audit.initiating_action
    return (
        "default",
        audit.id,
        audit.event_date.strftime("%Y-%m-%d %H:%M:%S.000"),
        audit.service_name,
        audit.action,
        audit.entity_type,
        entity.id if entity else None,
        entity.name if entity else None,
        audit.level,
        audit.status,
        audit.application,
        user.id if user else None,
        user.name if user else None,
        audit.user_home_org_id,
        client.id if client else None,
        message.message if message else None,
        action.transaction_id if action else None,
        action.action_context if action else None,
        audit.transaction_initiator,
        json.dumps(audit.remote_ip),
        json.dumps(message.message_params if message else None),
        json.dumps(audit.context),
        audit.to_json(),
        now,
    )


def property_changes(audit: Any) -> list[tuple[Any, ...]]:
    """The rows of what an audit says of properties."""
    return [
        ("default", audit.id, n, c.pcProperty, json.dumps(c.old_values), json.dumps(c.new_values))
        for n, c in enumerate(audit.property_changes or ())
    ]


def entity_changes(audit: Any) -> list[tuple[Any, ...]]:
    """The rows of what an audit says of other entities."""
    return [
        (
            "default",
            audit.id,
            n,
            c.entity_type,
            c.entity_id,
            c.entity_name,
            json.dumps(c.old_values),
            json.dumps(c.new_values),
        )
        for n, c in enumerate(audit.entity_changes or ())
    ]


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
        for interval in windows():
            for page in pages(vendor.AuditApi(client), interval):
                now = strftime("%Y-%m-%d %H:%M:%S.000", gmtime())
                audits = page.entities
                insert(database, "audit_events", [event(a, now) for a in audits])
                of_property = [row for a in audits for row in property_changes(a)]
                insert(database, "audit_property_changes", of_property)
                of_entity = [row for a in audits for row in entity_changes(a)]
                insert(database, "audit_entity_changes", of_entity)
                database.commit()
                rows += len(audits)
    meter.tell(rows, requests)


if __name__ == "__main__":
    main()
