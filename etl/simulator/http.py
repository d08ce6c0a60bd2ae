"""The organisation's operations as HTTP: routes, tokens, the rate limit and the usual headers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from email.utils import format_datetime
from typing import Final
from urllib.parse import parse_qsl
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from etl import wire
from etl.simulator import queries, realtime
from etl.simulator.answers import Answer, json_answer
from etl.simulator.errors import (
    ApiError,
    HtmlPage,
    bad_request,
    no_permission,
    not_found,
    not_json,
    too_many,
)
from etl.simulator.network_faults import Delivery, with_transport
from etl.simulator.operation_faults import refuse_request
from etl.simulator.organization import Organization
from etl.simulator.query_request import Body, expanded, page_size
from etl.simulator.tokens import credentials

Operation = Callable[[Request], Awaitable[Answer]]
Endpoint = Callable[[Request], Awaitable[Response]]

_JSON: Final = "application/json"


def application(organization: Organization) -> ASGIApp:
    """The organisation as an ASGI application; it must run in one event loop only."""
    api = _Api(organization)
    routes = [
        Route(wire.TOKEN_PATH, api.open("token", api.token), methods=["POST"]),
        Route(wire.TOKEN_INFO_PATH, api.guarded("token_info", api.token_info, open_to_all=True)),
        Route(wire.SERVICE_MAPPING_PATH, api.guarded("servicemapping", api.mapping)),
        Route(wire.QUERY_PATH, api.guarded("query", api.create), methods=["POST"]),
        Route(wire.REALTIME_PATH, api.guarded("realtime", api.realtime), methods=["POST"]),
        Route(
            wire.REALTIME_SERVICE_MAPPING_PATH,
            api.guarded("realtime_servicemapping", api.realtime_mapping),
        ),
        Route(wire.REALTIME_RELATED_PATH, api.guarded("related", api.related), methods=["POST"]),
        Route(wire.query_path("{transaction_id}"), api.guarded("status", api.status)),
        Route(wire.results_path("{transaction_id}"), api.guarded("results", api.results)),
        Route(f"{queries.DOWNLOAD_PATH}/{{transaction_id}}", api.open("download", api.download)),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: api.unknown})
    return with_transport(_with_latency(app, organization))


def _with_latency(app: ASGIApp, organization: Organization) -> ASGIApp:
    """`app`, reached only after the organisation's latency."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if organization.latency_seconds and scope["type"] == "http":
            await organization.rest(organization.latency_seconds)
        await app(scope, receive, send)

    return wrapped


class _Api:
    """Endpoints of one organisation."""

    def __init__(self, organization: Organization) -> None:
        self._organization = organization

    def guarded(self, name: str, operation: Operation, *, open_to_all: bool = False) -> Endpoint:
        """`operation` for who has a good token and requests left; counted under `name`.

        One that is `open_to_all` takes no permission.
        """

        async def endpoint(request: Request) -> Response:
            organization = self._organization
            organization.requests[name] += 1
            organization.asked += 1
            correlation, headers = str(uuid4()), dict[str, str]()
            try:
                headers |= self._admitted(request)
                if organization.faults.deny_permission and not open_to_all:
                    raise no_permission()
                answer = await operation(request)
            except ApiError as refusal:
                answer = json_answer(refusal.status, refusal.body(correlation))
                headers |= refusal.headers
            except HtmlPage as failure:
                return self._response(failure.status, failure.page.encode(), {}, "text/html")
            headers[wire.CORRELATION_HEADER] = correlation
            headers |= {"Location": answer.location} if answer.location else {}
            return self._delivered(
                self._response(answer.status, answer.body, headers), organization.asked
            )

        return endpoint

    def open(self, name: str, operation: Endpoint) -> Endpoint:
        """`operation` for everyone, unless a fault strikes; counted under `name`."""

        async def endpoint(request: Request) -> Response:
            organization = self._organization
            organization.requests[name] += 1
            nth = organization.requests[name]
            try:
                refuse_request(organization.faults, nth, organization.allowed)
                return self._delivered(await operation(request), nth)
            except ApiError as refusal:
                answer = json_answer(refusal.status, refusal.body(str(uuid4())))
                return self._response(answer.status, answer.body, refusal.headers)
            except HtmlPage as failure:
                return self._response(failure.status, failure.page.encode(), {}, "text/html")

        return endpoint

    async def token(self, request: Request) -> Response:
        """A token for the client's id and secret.

        A wrong client gets 400: RFC 6749 §5.2 gives 400 to every error of this endpoint and 401
        only as a choice, and users of the vendor's tools report a bad request. The body is verbatim
        from such reports.
        """
        organization = self._organization
        form = dict(parse_qsl((await request.body()).decode("latin-1")))
        headers = {wire.CORRELATION_HEADER: str(uuid4())}
        grant = form.get("grant_type") or request.query_params.get("grant_type")
        if grant != "client_credentials":
            answer = json_answer(
                400, _oauth_error("unsupported_grant_type", "grant type not supported")
            )
        elif not organization.knows(*credentials(request.headers.get("authorization"), form)):
            answer = json_answer(400, _oauth_error("invalid_client", "authentication failed"))
        else:
            seconds = organization.token_seconds
            token = organization.tokens.issue(organization.now_ms(), seconds)
            body = {"access_token": token, "token_type": "bearer", "expires_in": seconds}
            answer = json_answer(200, body)
        return self._response(answer.status, answer.body, headers)

    async def token_info(self, _: Request) -> Answer:
        """GET tokens/me."""
        organization = self._organization
        status = organization.faults.token_info_status
        if status:
            raise ApiError(status, "simulated", "The question whose token it is is not answered.")
        own = {"id": organization.organization_id, "name": "Simulated"}
        client = {"id": organization.client_id, "organization": own}
        body = {"organization": own, "homeOrganization": own, "OAuthClient": client}
        return json_answer(200, body | {"authorizedScope": []})

    async def mapping(self, _: Request) -> Answer:
        """GET servicemapping."""
        return realtime.service_mapping(self._organization, realtime=False)

    async def realtime_mapping(self, _: Request) -> Answer:
        """GET realtime/servicemapping."""
        return realtime.service_mapping(self._organization, realtime=True)

    async def create(self, request: Request) -> Answer:
        """POST query."""
        return queries.create(self._organization, await _body(request))

    async def status(self, request: Request) -> Answer:
        """GET query/{transactionId}."""
        return queries.status(self._organization, request.path_params["transaction_id"])

    async def results(self, request: Request) -> Answer:
        """GET query/{transactionId}/results."""
        given = request.query_params
        asked = queries.PageRequest(
            size=page_size(given.get("pageSize")),
            cursor=given.get("cursor"),
            expand=expanded(given.getlist("expand")),
            redirect=given.get("allowRedirect", "").lower() == "true",
            base_url=str(request.base_url).rstrip("/"),
        )
        return queries.results(self._organization, request.path_params["transaction_id"], asked)

    async def realtime(self, request: Request) -> Answer:
        """POST realtime."""
        expand = expanded(request.query_params.getlist("expand"))
        return realtime.realtime(self._organization, await _body(request), expand=expand)

    async def related(self, request: Request) -> Answer:
        """POST realtime/related."""
        expand = expanded(request.query_params.getlist("expand"))
        return realtime.related(self._organization, await _body(request), expand=expand)

    async def download(self, request: Request) -> Response:
        """A signed download, from a store of files: no token, and none welcome."""
        if "authorization" in request.headers:
            return self._stored(400, "InvalidArgument", "Only one auth mechanism allowed")
        signature = request.query_params.get("X-Amz-Signature", "")
        content = queries.download(self._organization, signature)
        if content is None:
            return self._stored(403, "AccessDenied", "Request has expired")
        return self._response(200, content, {})

    async def unknown(self, _: Request, error: Exception) -> Response:
        """A path or a method that the organisation does not have."""
        correlation = str(uuid4())
        refusal = not_found()
        if isinstance(error, HTTPException) and error.status_code == 405:
            refusal = ApiError(405, "method.not.allowed", "The method is not allowed.")
        answer = json_answer(refusal.status, refusal.body(correlation))
        return self._response(answer.status, answer.body, {wire.CORRELATION_HEADER: correlation})

    def _admitted(self, request: Request) -> Mapping[str, str]:
        """Count the request against its token; the headers tell where the token stands.

        Raises:
            ApiError: the token is not good, none of its requests are left, or a fault strikes.
        """
        organization = self._organization
        allowance = organization.tokens.admit(
            request.headers.get("authorization"),
            organization.now_ms(),
            organization.allowed,
            organization.faults.token_dies_after,
        )
        headers = allowance.headers(organization.faults.reset_told)
        try:
            if allowance.spent:
                raise too_many(allowance.allowed, allowance.reset)
            now_ms = organization.now_ms()
            organization.quota.admit(organization.faults, now_ms, allowance.allowed)
            refuse_request(organization.faults, organization.asked, allowance.allowed)
        except ApiError as refusal:
            refusal.headers = {**headers, **refusal.headers}
            raise
        return headers

    def _delivered(self, answer: Response, nth: int) -> Response:
        organization = self._organization
        return Delivery(answer, organization.faults, nth, organization.rest)

    def _stored(self, status: int, code: str, message: str) -> Response:
        declaration = '<?xml version="1.0" encoding="UTF-8"?>'
        xml = f"{declaration}\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return self._response(status, xml.encode(), {}, "application/xml")

    def _response(
        self, status: int, body: bytes, headers: Mapping[str, str], media_type: str = _JSON
    ) -> Response:
        date = format_datetime(self._organization.now(), usegmt=True)
        return Response(body, status, {"Date": date, **headers}, media_type)


async def _body(request: Request) -> Body:
    if _JSON not in request.headers.get("content-type", ""):
        raise not_json()
    try:
        body = json.loads(await request.body())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise bad_request(
            "The request could not be understood by the server due to malformed syntax."
        )
    return body


def _oauth_error(error: str, description: str) -> Mapping[str, object]:
    return {"error": error, "description": description, "error_description": description}
