"""A dlt pipeline: its REST client, a resource that merges by id, into DuckDB or PostgreSQL.

Into Parquet files it appends, for dlt merges into plain files in no other way.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import pyarrow.parquet as pq
from dlt.sources.helpers.requests import Session
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator

from tests.benchmarks.meter import Meter, windows

URL = os.environ["GENESYSCLOUD_REGION"]
QUERY = "/api/v2/audits/query"
FILES = Path(os.environ["BENCH_FOLDER"]) / "files"
#: The quicker of the formats in which dlt hands rows to each.
FORMATS = {"duckdb": "parquet", "postgres": "csv", "parquet": "parquet"}
FINAL = {"Succeeded", "Failed", "Cancelled"}

#: dlt's own way to remember how far it is.
SINCE = dlt.sources.incremental("eventDate", initial_value="1970-01-01T00:00:00Z")


class Counting(Session):  # type: ignore[misc]  # dlt is not installed where types are checked
    """dlt's session, which also counts."""

    sent = 0

    def send(self, *args: Any, **named: Any) -> Any:
        """Send a request."""
        self.sent += 1
        return super().send(*args, **named)


def audits(client: RESTClient, event_date: Any = SINCE) -> Iterator[Any]:
    """The pages of every window's query."""
    for interval in windows():
        body = {"interval": interval, "sort": [{"name": "Timestamp", "sortOrder": "ascending"}]}
        created = client.post(QUERY, json=body).json()
        state, path = created["state"], f"{QUERY}/{created['id']}"
        while state not in FINAL:
            state = client.get(path).json()["state"]
            if state not in FINAL:
                time.sleep(1)  # noqa: TID251 - as whoever writes this would
        yield from client.paginate(f"{path}/results", params={"pageSize": 500, "expand": "user"})


def main() -> None:
    """Run the pipeline into the destination that the first argument names."""
    kind = sys.argv[1]
    session = Counting(raise_for_status=False)
    client = RESTClient(
        URL,
        auth=OAuth2ClientCredentials(
            access_token_url=f"{URL}/oauth/token",
            client_id=os.environ["GENESYSCLOUD_OAUTHCLIENT_ID"],
            client_secret=os.environ["GENESYSCLOUD_OAUTHCLIENT_SECRET"],
            session=session,
        ),
        paginator=JSONResponseCursorPaginator(cursor_path="cursor", cursor_param="cursor"),
        data_selector="entities",
        session=session,
    )
    disposition = "append" if kind == "parquet" else "merge"
    meter = Meter()
    with meter.on():
        pipeline = dlt.pipeline(
            "audits",
            pipelines_dir=os.environ["BENCH_FOLDER"],
            destination=destination(kind),
            dataset_name="genesys",
        )
        resource = dlt.resource(
            audits, name="audits", primary_key="id", write_disposition=disposition
        )
        pipeline.run(resource(client), loader_file_format=FORMATS[kind]).raise_on_failed_jobs()
    meter.tell(held(kind, pipeline), session.sent)


def destination(kind: str) -> Any:
    """Where the pipeline loads to."""
    if kind == "parquet":
        return dlt.destinations.filesystem(bucket_url=FILES.as_uri())
    place = os.environ["BENCH_FILE"] if kind == "duckdb" else os.environ["BENCH_DATABASE"]
    return getattr(dlt.destinations, kind)(place)


def held(kind: str, pipeline: Any) -> int:
    """How many audits are there."""
    if kind == "parquet":
        return sum(pq.read_metadata(file).num_rows for file in FILES.glob("*/audits/*.parquet"))
    with pipeline.sql_client() as client:
        ((rows,),) = client.execute_sql("SELECT COUNT(*) FROM audits")
    return int(rows)


if __name__ == "__main__":
    main()
