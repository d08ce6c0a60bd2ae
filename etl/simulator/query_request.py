"""Read the interval, service, order and page that a request asks for, or refuse it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from etl.simulator.errors import (
    bad_request,
    invalid_date,
    invalid_parameter,
    invalid_value,
    too_long,
)
from etl.simulator.timestamps import milliseconds, read_instant
from etl.wire import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX

#: The contract lists the long words; the short ones were accepted by a live organisation.
_DESCENDING: Final = {"ascending": False, "descending": True, "asc": False, "desc": True}

Body = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """A query as it is understood.

    Attributes:
        start_ms: start of the interval, inside, milliseconds since 1970.
        end_ms: end of the interval, outside.
        service: the one service asked for; None for all.
        descending: the newest first.
        echo: the members of the body that the organisation's answers repeat.
    """

    start_ms: int
    end_ms: int
    service: str | None
    descending: bool
    echo: Body


def read_query_request(body: Body, services: Collection[str], days_max: int) -> QueryRequest:
    """The query in a request's body.

    Args:
        body: the decoded JSON.
        services: names that may be asked for.
        days_max: no interval may be longer.

    Raises:
        ApiError: it cannot be understood, or is not allowed.
    """
    start_ms, end_ms = _interval(body.get("interval"), days_max)
    service = body.get("serviceName")
    if service is not None and service not in services:
        raise invalid_value(service, "serviceName", ", ".join(sorted(services)))
    if body.get("filters"):
        raise bad_request("The simulator does not support filters.")
    echo = {"interval": body["interval"], "filters": []}
    echo |= {"serviceName": service} if service is not None else {}
    echo["sort"] = body.get("sort") or []
    named = None if service is None else str(service)
    return QueryRequest(start_ms, end_ms, named, read_order(body), echo)


def read_order(body: Body) -> bool:
    """Whether the newest come first.

    That is what happens where no order is asked for: which one the vendor has then is unknown, so
    a client must not lean on it.
    """
    sort = body.get("sort") or []
    if not isinstance(sort, list):
        raise bad_request("The sort parameter must be a list.")
    for item in sort:
        if not isinstance(item, Mapping) or item.get("name") != "Timestamp":
            raise invalid_value(item, "AuditQuerySort", "Timestamp")
        if item.get("sortOrder") not in _DESCENDING:
            raise invalid_value(item.get("sortOrder"), "sortOrder", "ascending, descending")
        return _DESCENDING[str(item["sortOrder"])]
    return True


def read_number(body: Body, member: str, default: int) -> int:
    """A whole number of 1 or more in a body."""
    value = body.get(member)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid_value(value, member, "whole numbers from 1")
    return value


def page_size(text: str | None) -> int:
    """The `pageSize` of a query string, within the vendor's bounds."""
    if text is None:
        return PAGE_SIZE_DEFAULT
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= PAGE_SIZE_MAX):
        raise invalid_parameter(text, "pageSize", f"1 to {PAGE_SIZE_MAX}")
    return int(text)


def expanded(values: Collection[str]) -> bool:
    """Whether `expand` asks for user names."""
    for value in values:
        if value != "user":
            raise invalid_parameter(value, "expand", "user")
    return bool(values)


def member_at(record: object, *path: str) -> object:
    """The member of decoded JSON that `path` leads to; None if there is none."""
    for name in path:
        record = record.get(name) if isinstance(record, Mapping) else None
    return record


def _interval(text: object, days_max: int) -> tuple[int, int]:
    if not isinstance(text, str) or not text:
        raise too_long(days_max)
    start, slash, end = text.partition("/")
    if not slash:
        raise invalid_date()
    try:
        start_ms, end_ms = milliseconds(read_instant(start)), milliseconds(read_instant(end))
    except ValueError:
        raise invalid_date() from None
    if end_ms <= start_ms:
        raise bad_request("The end of the interval must be after its start.")
    if end_ms - start_ms > timedelta(days=days_max) // timedelta(milliseconds=1):
        raise too_long(days_max)
    return start_ms, end_ms
