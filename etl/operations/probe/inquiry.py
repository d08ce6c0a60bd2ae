"""A probe's requests: few, counted, and none of them repeated for long."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from etl.app import App
from etl.errors import QueryFailed
from etl.genesys.audits import AuditApi
from etl.genesys.client.clock import Clock
from etl.genesys.client.events import Event, Requested
from etl.genesys.client.exchange import Call
from etl.genesys.client.failures import Answer, Refused
from etl.genesys.client.retries import Patience
from etl.genesys.query import AuditSource
from etl.records import Page, Reject, read_record
from etl.window import Window
from etl.wire import CANCELLED, FAILED, PAGE_SIZE_MAX, SUCCEEDED, results_path

#: No probe sends more, tokens and downloads included.
REQUESTS_MAX: Final = 80
#: No answer is read over more pages.
_PAGES_MAX: Final = 6
#: A failed request is retried once or twice at most, because the probe reports the failure.
_PATIENCE: Final = Patience(
    first_pauses=(1.0,), outage_seconds=4.0, brief_tries=1, rate_seconds=90.0
)
_ANY_ANSWER: Final = frozenset(range(200, 400))
#: Seconds after which the first query is asked about.
_FIRST_POLL: Final = 1.0


class NoneLeft(Exception):
    """The probe has sent as many requests as it may."""


class _CountingClock(Clock):
    """A clock that lets no request be sent once there were too many."""

    api: AuditApi | None = None

    def check(self) -> None:
        super().check()
        if self.api is not None and self.api.transport.exchange.count >= REQUESTS_MAX:
            raise NoneLeft


@dataclass(frozen=True, slots=True)
class Shown:
    """An audit as an organisation shows it.

    Attributes:
        raw: as received.
        id: None if it cannot be used.
        at: its time; None if the audit cannot be used.
        service: that wrote it; None if it does not say so.
        members: their names.
    """

    raw: bytes
    id: str | None
    at: datetime | None
    service: str | None
    members: frozenset[str]


@dataclass(frozen=True, slots=True)
class Answered:
    """The beginning of a query's results.

    Attributes:
        window: its interval.
        query_id: names it.
        shown: its first audits.
        cursor: leads to the page after them; None if they are all.
        seconds: how long the query took.
    """

    window: Window
    query_id: str
    shown: tuple[Shown, ...]
    cursor: str | None
    seconds: float

    def ids(self) -> dict[str, datetime]:
        """The time of each audit, by its id."""
        return {s.id: s.at for s in self.shown if s.id is not None and s.at is not None}


class Inquiry:
    """Asks one organisation.

    Attributes:
        api: the organisation's operations.
        source: the organisation's time.
        page_size: so many audits are asked for at once, fewer after a page that was too large.
    """

    def __init__(self, api: AuditApi, events: Sequence[Event]) -> None:
        self.api = api
        self.source = AuditSource(api, expand_user=False, allow_redirect=False)
        self.page_size = PAGE_SIZE_MAX
        self._events = events
        self._expected = _FIRST_POLL

    @property
    def requests(self) -> int:
        """How many were sent."""
        return self.api.transport.exchange.count

    @property
    def limited(self) -> int:
        """How many requests were answered with 429."""
        return sum(isinstance(e, Requested) and e.status == 429 for e in self._events)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.api.transport.clock.wait(seconds)

    def ask(self, window: Window, service: str | None = None, audits: int = 1) -> Answered:
        """The first pages of a new query, until so many audits are there.

        Raises:
            QueryFailed: it did not succeed.
            NoneLeft: there were too many requests.
            AuditEtlError: see `Transport.call`.
        """
        created = self.api.create_query(window, service)
        query_id = created.id or ""
        seconds = self._until_it_succeeds(query_id, created.state)
        found, cursor = tuple[Shown, ...](), None
        for _ in range(_PAGES_MAX):
            page = self.page(query_id, cursor)
            found, cursor = found + shown(page), page.cursor
            if cursor is None or len(found) >= audits:
                break
        return Answered(window, query_id, found, cursor, seconds)

    def page(self, query_id: str, cursor: str | None = None) -> Page:
        """A page of a query that succeeded; a smaller one if it is too large."""
        while True:
            try:
                return self.api.results(query_id, cursor=cursor, page_size=lambda _: self.page_size)
            except Refused as error:
                if not error.refusal.too_large or self.page_size == 1:
                    raise
                self.page_size //= 2

    def offer(self, query_id: str) -> Answer:
        """The answer to who lets a large result come as a download, whatever it says."""
        parameters = [("pageSize", str(self.page_size)), ("allowRedirect", "true")]
        call = Call("GET", results_path(query_id), results_path("{id}"), parameters)
        return self.api.transport.call(call, lambda answer: answer, _ANY_ANSWER)

    def _until_it_succeeds(self, query_id: str, state: str) -> float:
        transport = self.api.transport
        waited, pause = 0.0, self._expected
        while state != SUCCEEDED:
            if state in {FAILED, CANCELLED} or waited > transport.patience.poll_seconds:
                raise QueryFailed(f"a query is {state} after {waited:.0f} s")
            transport.clock.wait(pause)
            waited += pause
            pause *= 2  # each poll costs a request
            state = self.api.query(query_id).state
        self._expected = max(waited, _FIRST_POLL)
        return waited


@contextmanager
def inquiry_of(app: App, organization: str) -> Iterator[Inquiry]:
    """What asks the organisation during the block, with a count of its own."""
    clock = _CountingClock(app.now, app.monotonic, app.stop.wait)
    events: list[Event] = []
    with app.connect(organization, clock, _PATIENCE, events.append) as api:
        clock.api = api
        yield Inquiry(api, events)


def shown(page: Page) -> tuple[Shown, ...]:
    """The audits of a page."""
    return tuple(map(_shown, page.records))


def _shown(record: bytes) -> Shown:
    row = read_record(record)
    try:
        content = json.loads(record)
    except (ValueError, RecursionError):
        content = None
    members = frozenset(content if isinstance(content, dict) else ())
    if isinstance(row, Reject):
        return Shown(record, None, None, None, members)
    return Shown(record, row.id, row.event_date, row.service_name, members)
