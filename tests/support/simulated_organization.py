"""A plain reader of a simulated organisation, and a clock that a test moves."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from etl import wire
from etl.simulator import CLIENT_ID, CLIENT_SECRET, Simulator

#: The span of the audits that the tests make up, and the time at which they look at them.
START = datetime(2026, 4, 20, tzinfo=UTC)
END = datetime(2026, 5, 10, tzinfo=UTC)
NOW = datetime(2026, 5, 8, 12, tzinfo=UTC)

ASCENDING = [{"name": "Timestamp", "sortOrder": "ascending"}]


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return (self.now - START).total_seconds()

    def move(self, **length: float) -> None:
        with self._lock:
            self.now += timedelta(**length)


def interval(start: datetime = START, end: datetime = END) -> str:
    return f"{start:%Y-%m-%dT%H:%M:%SZ}/{end:%Y-%m-%dT%H:%M:%SZ}"


class Reader:
    """Speaks HTTP to an organisation, without a retry and without an opinion."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False

    def sign_in(self) -> None:
        answer = self.session.post(
            self.url + wire.TOKEN_PATH,
            data={"grant_type": "client_credentials"},
            auth=(CLIENT_ID, CLIENT_SECRET),
        )
        assert answer.status_code == 200, answer.text
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def get(self, path: str, **params: Any) -> requests.Response:
        return self.session.get(self.url + path, params=params, allow_redirects=False)

    def post(self, path: str, body: Any, **params: Any) -> requests.Response:
        return self.session.post(self.url + path, json=body, params=params)

    def create(self, **body: Any) -> requests.Response:
        return self.post(wire.QUERY_PATH, {"interval": interval(), "sort": ASCENDING} | body)

    def created(self, **body: Any) -> str:
        """The id of a new query."""
        answer = self.create(**body)
        assert answer.status_code in {200, 202}, answer.text
        return str(answer.json()["id"])

    def state(self, query: str) -> str:
        return str(self.get(wire.query_path(query)).json()["state"])

    def page(self, query: str, **params: Any) -> requests.Response:
        return self.get(wire.results_path(query), **params)

    def pages(self, query: str, limit: int = 500, **params: Any) -> list[list[dict[str, Any]]]:
        """The records of each page, to the last cursor or the `limit`."""
        found: list[list[dict[str, Any]]] = []
        cursor = None
        while len(found) < limit:
            answer = self.page(query, cursor=cursor, **params)
            assert answer.status_code == 200, answer.text
            found.append(answer.json()["entities"])
            cursor = answer.json().get("cursor")
            if not cursor:
                break
        return found

    def audits(self, **body: Any) -> list[dict[str, Any]]:
        """Everything that a new query finds, with user names."""
        pages = self.pages(self.created(**body), pageSize=500, expand="user")
        return [audit for page in pages for audit in page]


@contextmanager
def read(simulator: Simulator) -> Iterator[Reader]:
    """A reader of the simulator, with a token."""
    with simulator.serve() as url:
        reader = Reader(url)
        with reader.session:
            reader.sign_in()
            yield reader


def ids(audits: Any) -> list[str]:
    return [audit["id"] for audit in audits]


def audit(number: int, at: datetime, /, **members: Any) -> dict[str, Any]:
    """A small audit of our own."""
    return {
        "id": f"00000000-0000-4000-8000-{number:012}",
        "serviceName": "ContactCenter",
        "eventDate": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "action": "Update",
        "entityType": "Queue",
    } | members
