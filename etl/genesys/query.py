"""One organisation as an export sees it: create a query, wait for it, read it to its end."""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from etl.errors import (
    NotPermitted,
    QueryFailed,
    ServiceRefused,
    SourceBrokePromise,
    UnknownService,
    WindowTooLong,
)
from etl.genesys import query_refusals
from etl.genesys.audits import AuditApi
from etl.genesys.client.auth import OAuthClient
from etl.genesys.client.clock import Clock
from etl.genesys.client.events import Succeeded, Tell, to_nobody
from etl.genesys.client.failures import Refused, shortened
from etl.genesys.client.regions import endpoints
from etl.genesys.client.retries import Patience
from etl.genesys.client.transport import Transport
from etl.genesys.paging import PageSequence, PageSize
from etl.genesys.realtime import RecentAudits
from etl.model import ServiceAction
from etl.records import Page
from etl.source import Asked
from etl.window import Window
from etl.wire import CANCELLED, FAILED, PAGE_SIZE_MAX, QUEUED, RUNNING, SUCCEEDED

_LOG = logging.getLogger(__name__)

_KNOWN_STATES: Final = frozenset({QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED})


class AuditSource:
    """One organisation's audit log. May be used from several threads.

    Attributes:
        recent: its realtime query.
    """

    def __init__(self, api: AuditApi, *, expand_user: bool, allow_redirect: bool) -> None:
        self._api = api
        self._expand_user = expand_user
        self._allow_redirect = allow_redirect
        self.recent = RecentAudits(api, expand_user=expand_user)
        self._expected: float | None = None

    @property
    def requests(self) -> int:
        """HTTP requests sent so far; those for tokens, polls and further attempts count too."""
        return self._api.transport.exchange.count

    @property
    def requests_left(self) -> int | None:
        """Requests left of this minute's budget, by the organisation's count; None if unknown."""
        return self._api.transport.budget.remaining

    @property
    def seconds_waited(self) -> float:
        """How long requests were held back by the budget so far."""
        return self._api.transport.budget.seconds_waited

    @property
    def clock_skew(self) -> timedelta | None:
        """How far the organisation's clock is ahead of ours; None if no answer has told it."""
        return self._api.transport.exchange.time.skew

    def now(self) -> datetime:
        """The organisation's time; ours, if no answer has told it."""
        return self._api.transport.exchange.time.now()

    def ask_time(self) -> datetime | None:
        """The organisation's time by a new answer of its; None if that does not tell it.

        Raises:
            AuditEtlError: see `Transport.call`.
        """
        transport = self._api.transport
        before = transport.exchange.time.confirmations
        transport.renew_token()
        return self.now() if transport.exchange.time.confirmations > before else None

    def expect(self, seconds: float) -> None:
        """Assume that a query takes about so long, until one was seen."""
        if self._expected is None:
            self._expected = seconds

    def sign_in(self) -> None:
        """Hold a token; after that `now` is the organisation's time, if its answers tell it."""
        self._api.sign_in()

    def organization_id(self) -> str | None:
        """See `AuditApi.organization_id`."""
        return self._api.organization_id()

    @property
    def client(self) -> str:
        """Which OAuth client asks, and where: the same however the region is written."""
        return self._api.transport.client

    def service_mapping(self) -> list[ServiceAction]:
        """See `AuditApi.service_mapping`."""
        return self._api.service_mapping()

    def realtime_service_mapping(self) -> list[ServiceAction]:
        """See `AuditApi.realtime_service_mapping`."""
        return self._api.realtime_service_mapping()

    def ask(self, window: Window, service: str | None) -> Asked:
        """Create a query for `window`, of one service or of all.

        Raises:
            WindowTooLong: the organisation takes no interval of that length.
            UnknownService: it does not know the service.
            ServiceRefused: it knows it, and does not show it to this client.
            AuditEtlError: see `Transport.call`.
        """
        try:
            created = self._api.create_query(window, service)
        except Refused as error:
            if query_refusals.is_about_service(error, service):
                raise self._unknown_service(error, service) from error
            if query_refusals.longest_interval(error) is not None:
                raise WindowTooLong(
                    f"organisation {self._api.organization}: {error.refusal}; {window} is asked "
                    "for in halves, a max_window as short as that saves the attempts"
                ) from error
            raise
        except NotPermitted as error:
            if service is not None and query_refusals.is_refusal_of_service(error):
                raise ServiceRefused(
                    f"{error}; or take {service!r} out of "
                    f"organizations.{self._api.organization}.services"
                ) from error
            raise
        since = self._api.transport.clock.monotonic()
        return Asked(window, created.id or "", created.state, self.now(), since)

    def pages(self, asked: Asked) -> Iterator[Page]:
        """Wait until the query has succeeded, then give its pages to the last cursor.

        Raises:
            QueryFailed: it failed, was cancelled, took too long or is not there any more.
            SourceBrokePromise: its pages would never end, or one audit is too large for an answer.
            AuditEtlError: see `Transport.call` and `Downloads.pages`.
        """
        self._wait_for(asked)
        if asked.since is not None:
            transport = self._api.transport
            transport.tell(Succeeded(transport.clock.monotonic() - asked.since))
        sequence, size = PageSequence(), PageSize(PAGE_SIZE_MAX)
        cursor: str | None = None
        while True:
            page = self._page(asked, cursor, size)
            if page.download_url is not None:
                for part in self._api.download(page.download_url):
                    sequence.add(part.records)
                    yield part
            sequence.add(page.records)
            yield Page(page.records, page.cursor)
            cursor = page.cursor
            if cursor is None:
                return
            if flaw := sequence.flaw(cursor):
                raise SourceBrokePromise(
                    f"organisation {self._api.organization}: query {asked.query_id} {flaw}; "
                    "please report it"
                )

    def _wait_for(self, asked: Asked) -> None:
        patience = self._api.transport.patience
        state, waited = asked.state, 0.0
        pauses = patience.poll_pauses(self._expected)
        while not self._has_succeeded(asked, state):
            if waited >= patience.poll_seconds:
                raise self._failed(
                    asked, f"is still {self._shown(state)!r} after {waited:.0f} s of waiting"
                )
            pause = next(pauses)
            self._api.transport.clock.wait(pause)
            waited += pause
            before, state = state, self._state(asked)
            if state not in _KNOWN_STATES and state != before:
                _LOG.warning(
                    "organisation %s: query %s is in an unknown state %r, taken as not finished",
                    self._api.organization,
                    asked.query_id,
                    self._shown(state),
                )
        # Without a lock: an estimate that another thread's replaces does no harm.
        self._expected = waited if self._expected is None else (self._expected + waited) / 2

    def _shown(self, state: str) -> str:
        return shortened(self._api.transport.conceal(state))

    def _has_succeeded(self, asked: Asked, state: str) -> bool:
        if state in {FAILED, CANCELLED}:
            raise self._failed(asked, f"ended as {state}")
        return state == SUCCEEDED

    def _state(self, asked: Asked) -> str:
        try:
            return self._api.query(asked.query_id).state
        except Refused as error:
            if error.refusal.status == 404:
                raise self._failed(asked, "is not there any more") from error
            raise

    def _page(self, asked: Asked, cursor: str | None, size: PageSize) -> Page:
        """The page at `cursor`. An end that is empty after other pages, or bare, is checked."""
        page = self._answered(asked, cursor, size)
        ends = not (page.records or page.cursor or page.download_url)
        if ends and not (page.has_list and cursor is None):
            return self._answered(asked, cursor, size)
        return page

    def _answered(self, asked: Asked, cursor: str | None, size: PageSize) -> Page:
        while True:
            try:
                page = self._api.results(
                    asked.query_id,
                    cursor=cursor,
                    page_size=size.after,
                    expand_user=self._expand_user,
                    allow_redirect=self._allow_redirect,
                )
            except Refused as error:
                if query_refusals.has_expired(error, cursor):
                    what = f"can be read no further: {error.refusal}"
                    raise self._failed(asked, what) from error
                if not error.refusal.too_large:
                    raise
                if not size.refused():
                    raise SourceBrokePromise(
                        f"organisation {self._api.organization}: {error.refusal}; even a single "
                        "audit is too large: set expand_user = false or allow_redirect = true"
                    ) from error
            else:
                if size.served():
                    _LOG.warning(
                        "organisation %s: a page with one audit came where larger ones failed, "
                        "query %s is read in pages of %s from here",
                        self._api.organization,
                        asked.query_id,
                        size,
                    )
                return page

    def _failed(self, asked: Asked, what: str) -> QueryFailed:
        return QueryFailed(
            f"organisation {self._api.organization}: query {asked.query_id} for {asked.window} "
            f"{what}; it has to be asked for again"
        )

    def _unknown_service(self, error: Refused, service: str | None) -> UnknownService:
        setting = f"organizations.{self._api.organization}.services"
        advice = (
            f"name services in {setting}"
            if service is None
            else f"correct {service!r} in {setting}; `audit-etl services` shows the right names, "
            "upper and lower case matter"
        )
        return UnknownService(f"organisation {self._api.organization}: {error.refusal}; {advice}")


def connect(
    name: str,
    region: str,
    client: OAuthClient,
    clock: Clock,
    *,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
    tell: Tell = to_nobody,
) -> AuditApi:
    """Return the client of an organisation. Nothing is sent yet; close it at the end.

    Args:
        name: the organisation's name in the configuration, used in messages.
        region: see `regions.endpoints`.
        client: its grant must be Client Credentials.
        tell: is told of requests, waits and queries.

    Raises:
        ConfigurationError: there is no such region.
    """
    where = endpoints(region, f"organizations.{name}.region")
    return AuditApi(Transport(name, where, client, clock, patience, tell))
