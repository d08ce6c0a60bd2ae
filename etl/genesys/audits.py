"""The vendor's audit operations, one method each, and what their answers say.

Only members that the vendor's Swagger documents are relied on; it requires none, so each may be
absent. See `Transport.call` for the errors of every method.
"""

from collections.abc import Callable, Iterator
from typing import Final, Self
from urllib.parse import quote

import msgspec

from etl.genesys.client.downloads import Downloads
from etl.genesys.client.exchange import Call
from etl.genesys.client.failures import Answer
from etl.genesys.client.transport import OK, Transport
from etl.model import ServiceAction
from etl.records import Page, split, split_results
from etl.window import Window
from etl.wire import (
    PAGE_SIZE_MAX,
    QUERY_PATH,
    REALTIME_PATH,
    REALTIME_RELATED_PATH,
    REALTIME_SERVICE_MAPPING_PATH,
    SERVICE_MAPPING_PATH,
    TOKEN_INFO_PATH,
    query_path,
    results_path,
)

#: A query is created, or looked at, with either status, by the vendor's Swagger.
_ACCEPTED: Final = frozenset({200, 202})
#: A result that is too large for an answer comes with this one, if it may.
#: The contract says 302; nobody has seen the vendor's own answer.
_LARGE: Final = frozenset(range(200, 400))

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


class _Total(msgspec.Struct):
    total: int | None = None


class _Named(msgspec.Struct):
    id: str | None = None


class _TokenInfo(msgspec.Struct, rename="camel"):
    organization: _Named | None = None
    home_organization: _Named | None = None


class _Entity(msgspec.Struct):
    name: str | None = None
    actions: list[str | None] | None = None


class _Service(msgspec.Struct):
    name: str | None = None
    entities: list[_Entity | None] | None = None


class _Mapping(msgspec.Struct):
    services: list[_Service | None]


class AuditApi:
    """The audit operations of one organisation. May be used from several threads; close it."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._downloads = Downloads(transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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

    def organization_id(self) -> str | None:
        """The vendor's id of the organisation whose token ours is; None if it does not say.

        Needs no permission (GET /api/v2/tokens/me).
        """
        return self.transport.call(Call("GET", TOKEN_INFO_PATH), self._read_organization)

    def _read_organization(self, answer: Answer) -> str | None:
        try:
            info = msgspec.json.decode(answer.body, type=_TokenInfo)
        except msgspec.ValidationError:  # JSON, but of another shape
            return None
        for found in (info.organization, info.home_organization):
            name = ((found and found.id) or "").strip()
            if name and len(name) <= _ID_LENGTH_MAX and name.isprintable():
                return name if self.transport.conceal(name) == name else None
        return None

    def service_mapping(self) -> list[ServiceAction]:
        """What the organisation can audit; an absent name is empty, an absent list holds one.

        Only the list of services has to be there: without it the answer is no mapping.
        """
        return self.transport.call(Call("GET", SERVICE_MAPPING_PATH), _read_mapping)

    def realtime_service_mapping(self) -> list[ServiceAction]:
        """What of the service mapping the realtime query knows."""
        return self.transport.call(Call("GET", REALTIME_SERVICE_MAPPING_PATH), _read_mapping)

    def create_query(self, window: Window, service: str | None) -> QueryState:
        """Create a query, oldest audit first and without filters; its id is not None."""
        call = Call("POST", QUERY_PATH, body=msgspec.json.encode(_question(window, service)))
        return self.transport.call(call, self._read_created, _ACCEPTED)

    def _read_created(self, answer: Answer) -> QueryState:
        created = _read_created(answer)
        if created.id is not None and self.transport.conceal(created.id) != created.id:
            raise ValueError("the query's id is a secret of ours")  # and would be stored and shown
        return created

    def query(self, query_id: str) -> QueryState:
        """Look at a query."""
        call = Call("GET", query_path(quote(query_id, safe="")), query_path("{id}"))
        return self.transport.call(call, lambda answer: _read_state(answer, query_id), _ACCEPTED)

    def results(
        self,
        query_id: str,
        *,
        cursor: str | None = None,
        page_size: Callable[[int], int] = lambda _: PAGE_SIZE_MAX,
        expand_user: bool = False,
        allow_redirect: bool = False,
    ) -> Page:
        """One page of the results of a query that succeeded.

        Args:
            query_id: what `create_query` gave.
            cursor: the last page's; None for the first page.
            page_size: gives how many audits to ask for at most, up to 500, once so many attempts
                failed for what may be the page's size.
            expand_user: ask for the names of users.
            allow_redirect: accept a page that has a `download_url` in place of records.
        """
        query = [("cursor", cursor)] if cursor is not None else []
        query += [_EXPAND_USER] if expand_user else []
        query += [("allowRedirect", "true")] if allow_redirect else []
        path = results_path(quote(query_id, safe=""))

        def call(failures: int) -> Call:
            size = ("pageSize", str(page_size(failures)))
            return Call("GET", path, results_path("{id}"), [size, *query])

        return self.transport.call(
            call,
            lambda answer: _read_results(
                answer, query_id, first=cursor is None, may_be_large=allow_redirect
            ),
            _LARGE if allow_redirect else OK,
        )

    def download(self, url: str) -> Iterator[Page]:
        """The audits behind a page's `download_url`, in pages. See `Downloads.pages`."""
        return self._downloads.pages(url)

    def realtime(
        self,
        window: Window,
        service: str | None,
        *,
        page_number: int = 1,
        page_size: Callable[[int], int] = lambda _: PAGE_SIZE_MAX,
        expand_user: bool = False,
    ) -> tuple[Page, int | None]:
        """Return a page of the last 14 days, oldest audit first, and how many audits there are.

        The count is None if the organisation does not give it.
        """
        question = _question(window, service) | {"pageNumber": page_number}
        query = [_EXPAND_USER] if expand_user else []

        def call(failures: int) -> Call:
            body = msgspec.json.encode(question | {"pageSize": page_size(failures)})
            return Call("POST", REALTIME_PATH, query=query, body=body)

        return self.transport.call(call, _read_realtime)

    def related(self, audit_id: str, *, expand_user: bool = False) -> Page:
        """Return the audits of the same action as a given one; the page has no cursor."""
        body = msgspec.json.encode({"auditId": audit_id})
        query = [_EXPAND_USER] if expand_user else []
        call = Call("POST", REALTIME_RELATED_PATH, query=query, body=body)
        return self.transport.call(call, lambda answer: split(answer.body))


def _question(window: Window, service: str | None) -> dict[str, object]:
    question: dict[str, object] = {"interval": str(window), "sort": _OLDEST_FIRST}
    return question if service is None else question | {"serviceName": service}


def _read_state(answer: Answer, query_id: str) -> QueryState:
    state = _state(answer)
    if state.id not in (None, "", query_id):
        raise ValueError("the state of another query")
    return state


def _state(answer: Answer) -> QueryState:
    return msgspec.json.decode(answer.body, type=QueryState)


def _read_created(answer: Answer) -> QueryState:
    created = _state(answer)
    # An id of dots alone would climb up the path, a NUL cannot be stored; the vendor's are UUIDs.
    name = created.id or ""
    if not name.strip(".") or len(name) > _ID_LENGTH_MAX or not name.isprintable():
        raise ValueError("the query has no id")
    return created


def _read_results(answer: Answer, query_id: str, *, first: bool, may_be_large: bool) -> Page:
    page = split_results(answer.body, query_id, first=first)
    if page.download_url is not None and not may_be_large:
        raise ValueError("a downloadUrl that was not asked for")
    if answer.status != 200 and page.download_url is None:
        raise ValueError(f"status {answer.status} without a downloadUrl")
    return page


def _read_realtime(answer: Answer) -> tuple[Page, int | None]:
    page = split(answer.body)
    try:
        return page, msgspec.json.decode(answer.body, type=_Total).total
    except msgspec.MsgspecError:  # an odd text in one record: the page itself could be read
        return page, None


def _read_mapping(answer: Answer) -> list[ServiceAction]:
    mapping = msgspec.json.decode(answer.body, type=_Mapping)
    return [
        ServiceAction(service.name or "", entity.name or "", action or "")
        for service in mapping.services
        if service is not None
        for entity in service.entities or (_Entity(),)
        if entity is not None
        for action in entity.actions or ("",)
    ]
