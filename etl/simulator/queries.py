"""Asynchronous queries: created, asked about, and read page by page or as downloads."""

from __future__ import annotations

import base64
import binascii
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from uuid import uuid4

from etl.simulator.answers import Answer, find_positions, json_answer, records_answer, records_at
from etl.simulator.errors import HtmlPage, bad_request, conflict, not_found, server_error, too_large
from etl.simulator.faults import strikes
from etl.simulator.operation_faults import (
    final_state,
    is_spoilt,
    page_fault,
    refuse_interval,
    refuse_service,
)
from etl.simulator.organization import Download, Organization, Query
from etl.simulator.page_replacements import REPLACEMENTS, Original
from etl.simulator.query_request import Body, QueryRequest, read_query_request
from etl.simulator.shapes import downloaded, joined
from etl.simulator.timestamps import iso_utc
from etl.wire import FAILED, QUEUED, RUNNING, SUCCEEDED

#: Under this path and a signature lie downloads; the vendor's lie on another host.
DOWNLOAD_PATH: Final = "/downloads"
_DOWNLOAD_MS: Final = timedelta(hours=1) // timedelta(milliseconds=1)
_DAY_MS: Final = timedelta(days=1) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page of a query's results as it is asked for.

    Attributes:
        size: most records in it.
        cursor: where it starts; None at the beginning.
        expand: whether user names are wanted.
        redirect: whether a download may come instead.
        base_url: where the organisation is, for the link to a download.
    """

    size: int
    cursor: str | None
    expand: bool
    redirect: bool
    base_url: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page starts: how many results lie before it, and the page's number from 1."""

    first: int
    page: int

    def cursor(self, query: Query) -> str:
        plain = f"{query.id}?{self.first}>{self.page}"
        return base64.b64encode(plain.encode()).decode()


def create(organization: Organization, body: Body) -> Answer:
    """Create a query; its results are the audits that can be asked for now."""
    asked = read_query_request(body, organization.services, organization.days_max)
    faults, now = organization.faults, organization.now_ms()
    refuse_service(faults, asked.service)
    spoilt = is_spoilt(faults, asked.start_ms, asked.end_ms, organization.began_ms)
    refuse_interval(faults, asked.start_ms, now, spoilt=spoilt)
    nth = len(organization.queries) + 1
    wait_ms = 0 if organization.answer_at_once else int(organization.query_seconds * 1000)
    fails = spoilt and faults.bad_minute_does == "fail"
    query = Query(
        id=str(uuid4()),
        asked=asked,
        positions=_answer(organization, asked, nth),
        created_ms=now,
        ready_ms=now + wait_ms,
        final_state=FAILED if fails else final_state(faults, nth),
        forgetful=strikes(faults, "expire_cursor_every", nth),
        spoilt=spoilt,
    )
    organization.queries[query.id] = query
    return _state(query, query.final_state if organization.answer_at_once else QUEUED)


def status(organization: Organization, transaction_id: str) -> Answer:
    """How far a query is."""
    query = _query(organization, transaction_id)
    return _state(query, query.state(organization.now_ms()))


def results(organization: Organization, transaction_id: str, asked: PageRequest) -> Answer:
    """A page of a query's results, or where to download many."""
    query = _query(organization, transaction_id)
    if query.state(organization.now_ms()) != SUCCEEDED:
        raise conflict()
    faults = organization.faults
    if 0 < faults.gateway_over < asked.size:
        raise HtmlPage(faults.gateway_status)
    if 0 < faults.too_large_over < asked.size:
        raise too_large()
    if query.spoilt and faults.bad_minute_does == "break":
        raise server_error(500)
    if query.spoilt and faults.bad_minute_does == "misshape":
        return json_answer(200, {"id": query.id, "pageSize": asked.size, "entities": "none"})
    if asked.cursor and _is_over(organization, query, faults.cursor_dies_after):
        raise bad_request("The cursor has expired.")
    place = _place(query, asked.cursor)
    asked = replace(asked, size=min(asked.size, faults.page_max or asked.size))
    query.pages += 1
    if asked.redirect and 0 < faults.redirect_over < len(query.positions) - place.first:
        return _large(organization, query, asked, place)
    return _page(organization, query, asked, place)


def download(organization: Organization, signature: str) -> bytes | None:
    """The records of a signed download as a JSON array; None if it is unknown or too old."""
    granted = organization.downloads.get(signature)
    if granted is None or organization.now_ms() >= granted.expires_ms:
        return None
    positions = granted.query.positions[granted.first : granted.last]
    return b"[" + joined(map(organization.view().one, positions), downloaded) + b"]"


def _answer(organization: Organization, asked: QueryRequest, nth: int) -> Sequence[int]:
    """What the `nth` query shows."""
    if strikes(organization.faults, "other_time_every", nth):
        start, end = asked.start_ms - _DAY_MS, asked.end_ms - _DAY_MS
        asked = replace(asked, start_ms=start, end_ms=end)
    positions = find_positions(organization, asked)
    if not organization.faults.shrink_again:
        return positions
    read = [query.asked for query in organization.queries.values() if query.pages]
    return array("q", (p for p in positions if p % 10 == 0 or not _was_read(organization, p, read)))


def _was_read(organization: Organization, position: int, read: Iterable[QueryRequest]) -> bool:
    event_ms = organization.log.event_ms(position if position >= 0 else ~position)
    return any(asked.start_ms <= event_ms < asked.end_ms for asked in read)


def _query(organization: Organization, transaction_id: str) -> Query:
    query = organization.queries.get(transaction_id)
    faults = organization.faults
    if query is None or 0 < faults.vanish_query_after_page <= query.pages:
        raise not_found()
    if _is_over(organization, query, faults.query_dies_after):
        raise not_found()
    return query


def _is_over(organization: Organization, query: Query, seconds: int) -> bool:
    """Whether the query ended so many seconds ago; never if they are none."""
    return 0 < seconds * 1000 <= organization.now_ms() - query.ready_ms


def _state(query: Query, state: str) -> Answer:
    going_on = state in {QUEUED, RUNNING}
    head = {"id": query.id, "state": state, "startDate": iso_utc(query.created_ms)}
    return json_answer(202 if going_on else 200, {**head, **query.asked.echo})


def _place(query: Query, cursor: str | None) -> _Place:
    if not cursor:
        return _Place(0, 1)
    try:
        identity, _, rest = base64.b64decode(cursor, validate=True).decode().partition("?")
        first, page = map(int, rest.split(">"))
    except (binascii.Error, UnicodeDecodeError, ValueError):
        identity, first, page = "", 0, 0
    if identity != query.id or query.forgetful:
        raise bad_request("The cursor is not valid for this query.")
    return _Place(first, page)


def _page(organization: Organization, query: Query, asked: PageRequest, place: _Place) -> Answer:
    fault = page_fault(organization.faults, place.page)
    first = place.first - min(fault.overlaps, place.first, asked.size - 1)
    last = place.first if fault.empty else min(first + asked.size, len(query.positions))
    first = place.first if fault.empty else first
    head: dict[str, object] = {"id": query.id, "pageSize": asked.size}
    records = records_at(organization, query.positions[first:last], expand=asked.expand)
    if _is_replaced(organization, place.page):
        original = Original(head, records, _state(query, SUCCEEDED))
        return REPLACEMENTS[organization.faults.no_page_is](original)
    following = place if fault.repeats else _Place(last, place.page + 1)
    if fault.returns:
        following = _Place(place.first, place.page + 1)
    trails = fault.trails and place.first < last
    goes_on = fault.repeats or fault.returns or fault.empty or trails
    if goes_on or last < len(query.positions):
        head["cursor"] = following.cursor(query)
    return records_answer(head, records)


def _is_replaced(organization: Organization, page: int) -> bool:
    faults, nth = organization.faults, organization.requests["results"]
    return page == faults.no_page or strikes(faults, "no_page_every", nth)


def _large(organization: Organization, query: Query, asked: PageRequest, place: _Place) -> Answer:
    faults = organization.faults
    last = min(place.first + faults.download_rows, len(query.positions))
    expires_ms = organization.now_ms() + _DOWNLOAD_MS
    if strikes(faults, "expire_download_every", len(organization.downloads) + 1):
        expires_ms = organization.now_ms()
    signature = organization.sign(Download(query, place.first, last, expires_ms))
    head: dict[str, object] = {"id": query.id, "pageSize": asked.size}
    if last < len(query.positions):
        head["cursor"] = _Place(last, place.page + 1).cursor(query)
    link = (
        f"{asked.base_url}{DOWNLOAD_PATH}/{query.id}?X-Amz-Expires=3600&X-Amz-Signature={signature}"
    )
    offer = json_answer(faults.redirect_status, {**head, "downloadUrl": link})
    return replace(offer, location=link) if faults.redirect_location else offer
