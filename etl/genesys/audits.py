"""The vendor's audit operations, one method each, and what their answers say.

Only members that the vendor's Swagger documents are relied on; it requires none, so each may be
absent. See `Transport.call` for the errors of every method.
"""

from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import msgspec

from etl.genesys.downloads import Downloads
from etl.genesys.exchange import Call
from etl.genesys.failures import Answer
from etl.genesys.transport import OK, Transport
from etl.records import Page, split
from etl.services import ServiceAction
from etl.window import Window
from etl.wire import (
    PAGE_SIZE_MAX,
    QUERY_PATH,
    REALTIME_PATH,
    REALTIME_RELATED_PATH,
    REALTIME_SERVICE_MAPPING_PATH,
    SERVICE_MAPPING_PATH,
    query_path,
    results_path,
)

#: A query is created, or looked at, with either status, by the vendor's Swagger.
_ACCEPTED: Final = frozenset({200, 202})
#: A result that is too large for an answer comes with this one, if it may.
_LARGE: Final = frozenset({200, 302})

_OLDEST_FIRST: Final = [{"name": "Timestamp", "sortOrder": "ascending"}]
_ID_LENGTH_MAX: Final = 255
_EXPAND_USER: Final = ("expand", "user")


class QueryState(msgspec.Struct, frozen=True):
    """What an organisation says of a query.

    Attributes:
        state: `Queued`, `Running`, `Succeeded`, `Failed` or `Cancelled`, or what the vendor adds.
        id: the query's transaction id.
    """

    state: str
    id: str | None = None


class RealtimeCounts(msgspec.Struct, frozen=True, rename="camel"):
    """Where a realtime page stands among its like; None where the organisation does not say."""

    page_number: int | None = None
    page_size: int | None = None
    page_count: int | None = None
    total: int | None = None


class _Entity(msgspec.Struct):
    name: str | None = None
    actions: list[str | None] | None = None


class _Service(msgspec.Struct):
    name: str | None = None
    entities: list[_Entity | None] | None = None


class _Mapping(msgspec.Struct):
    services: list[_Service | None] | None = None


class AuditApi:
    """The audit operations of one organisation. May be used from several threads; close it."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._downloads = Downloads(transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; call it when no thread asks any more."""
        self.transport.exchange.close()

    @property
    def organization(self) -> str:
        """The organisation's name in the configuration."""
        return self.transport.organization

    def sign_in(self) -> None:
        """Hold a token that is good for some time yet, fetched if need be (POST /oauth/token)."""
        self.transport.sign_in()

    def service_mapping(self) -> list[ServiceAction]:
        """What the organisation can audit; an absent name is empty, an absent list holds one."""
        return self.transport.call(Call("GET", SERVICE_MAPPING_PATH), _read_mapping)

    def realtime_service_mapping(self) -> list[ServiceAction]:
        """What of the service mapping the realtime query knows."""
        return self.transport.call(Call("GET", REALTIME_SERVICE_MAPPING_PATH), _read_mapping)

    def create_query(self, window: Window, service: str | None) -> QueryState:
        """Create a query, oldest audit first and without filters; its id is not None."""
        body = _question(window, service)
        call = Call("POST", QUERY_PATH, body=msgspec.json.encode(body))
        return self.transport.call(call, self._read_created, _ACCEPTED)

    def _read_created(self, answer: Answer) -> QueryState:
        created = _read_created(answer)
        if created.id is not None and self.transport.conceal(created.id) != created.id:
            raise ValueError("the query's id is a secret of ours")  # and would be stored and shown
        return created

    def query(self, query_id: str) -> QueryState:
        """Look at a query."""
        call = Call("GET", query_path(quote(query_id, safe="")), query_path("{id}"))
        return self.transport.call(call, _read_state, _ACCEPTED)

    def results(
        self,
        query_id: str,
        *,
        cursor: str | None = None,
        page_size: int = PAGE_SIZE_MAX,
        expand_user: bool = False,
        allow_redirect: bool = False,
    ) -> Page:
        """One page of the results of a query that succeeded.

        Args:
            query_id: what `create_query` gave.
            cursor: the last page's; None for the first page.
            page_size: audits at most, up to 500.
            expand_user: ask for the names of users.
            allow_redirect: accept a page that has a `download_url` in place of records.
        """
        query = [("pageSize", str(page_size))]
        query += [("cursor", cursor)] if cursor is not None else []
        query += [_EXPAND_USER] if expand_user else []
        query += [("allowRedirect", "true")] if allow_redirect else []
        path = results_path(quote(query_id, safe=""))
        call = Call("GET", path, results_path("{id}"), query)
        return self.transport.call(call, _read_page, _LARGE if allow_redirect else OK)

    def download(self, url: str) -> Iterator[Page]:
        """The audits behind a page's `download_url`, in pages. See `Downloads.pages`."""
        return self._downloads.pages(url)

    def realtime(
        self,
        window: Window,
        service: str | None,
        *,
        page_number: int = 1,
        page_size: int = PAGE_SIZE_MAX,
        expand_user: bool = False,
    ) -> tuple[Page, RealtimeCounts]:
        """One page of what the realtime query shows of the last 14 days, oldest audit first."""
        body = _question(window, service) | {"pageNumber": page_number, "pageSize": page_size}
        query = [_EXPAND_USER] if expand_user else []
        call = Call("POST", REALTIME_PATH, query=query, body=msgspec.json.encode(body))
        return self.transport.call(call, _read_realtime)

    def related(
        self,
        audit_id: str,
        *,
        trustor_organization_id: str | None = None,
        expand_user: bool = False,
    ) -> Page:
        """The audits that stem from the same action as a given one; the page has no cursor."""
        body: dict[str, object] = {"auditId": audit_id}
        if trustor_organization_id is not None:
            body["trustorOrgId"] = trustor_organization_id
        query = [_EXPAND_USER] if expand_user else []
        call = Call("POST", REALTIME_RELATED_PATH, query=query, body=msgspec.json.encode(body))
        return self.transport.call(call, _read_page)


def _question(window: Window, service: str | None) -> dict[str, object]:
    question: dict[str, object] = {"interval": str(window), "sort": _OLDEST_FIRST}
    return question if service is None else question | {"serviceName": service}


def _read_state(answer: Answer) -> QueryState:
    return msgspec.json.decode(answer.body, type=QueryState)


def _read_created(answer: Answer) -> QueryState:
    created = _read_state(answer)
    # An id of dots alone would climb up the path, a NUL cannot be stored; the vendor's are UUIDs.
    name = created.id or ""
    if not name.strip(".") or len(name) > _ID_LENGTH_MAX or not name.isprintable():
        raise ValueError("the query has no id")
    return created


def _read_page(answer: Answer) -> Page:
    page = split(answer.body)
    if (answer.status == 302) != (page.download_url is not None):
        raise ValueError("a downloadUrl comes with status 302, and only with that")
    return page


def _read_realtime(answer: Answer) -> tuple[Page, RealtimeCounts]:
    page = _read_page(answer)
    try:
        counts = msgspec.json.decode(answer.body, type=RealtimeCounts)
    except msgspec.MsgspecError:  # an odd text in one record: the page could be read all the same
        counts = RealtimeCounts()
    return page, counts


def _read_mapping(answer: Answer) -> list[ServiceAction]:
    mapping = msgspec.json.decode(answer.body, type=_Mapping)
    return [
        ServiceAction(service.name or "", entity.name or "", action or "")
        for service in mapping.services or ()
        if service is not None
        for entity in service.entities or (_Entity(),)
        if entity is not None
        for action in entity.actions or ("",)
    ]
