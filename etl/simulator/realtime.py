"""What is answered at once: the service mappings and the audits of the last 14 days."""

from __future__ import annotations

import json
from array import array
from datetime import timedelta
from typing import Final

from etl.simulator.answers import Answer, find_positions, json_answer, records_answer, records_at
from etl.simulator.catalogue import SERVICES
from etl.simulator.errors import HtmlPage, bad_request, invalid_value, not_found, too_large
from etl.simulator.operation_faults import refuse_service
from etl.simulator.organization import Organization
from etl.simulator.query_request import Body, member_at, read_number, read_order, read_query_request
from etl.wire import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, REALTIME_DAYS

_WINDOW_MS: Final = timedelta(days=REALTIME_DAYS) // timedelta(milliseconds=1)


def service_mapping(organization: Organization, *, realtime: bool) -> Answer:
    """Which services there are, with the types of entities in them and their actions."""
    wanted = organization.realtime_services if realtime else organization.services
    mapping = [
        {
            "name": service.name,
            "entities": [{"name": e.name, "actions": list(e.actions)} for e in service.entities],
        }
        for service in SERVICES
        if service.name in wanted
    ]
    uncatalogued = sorted(wanted - {service.name for service in SERVICES})
    mapping += [{"name": name, "entities": []} for name in uncatalogued]
    return json_answer(200, {"services": mapping})


def realtime(organization: Organization, body: Body, *, expand: bool) -> Answer:
    """A numbered page of the last 14 days of the services that the realtime query knows."""
    asked = read_query_request(body, organization.realtime_services, organization.days_max)
    if organization.faults.realtime_named and asked.service is None:
        raise bad_request("The serviceName is required.")
    refuse_service(organization.faults, asked.service)
    number = read_number(body, "pageNumber", 1)
    size = read_number(body, "pageSize", PAGE_SIZE_DEFAULT)
    if size > PAGE_SIZE_MAX:
        raise invalid_value(size, "pageSize", f"1 to {PAGE_SIZE_MAX}")
    if 0 < organization.faults.gateway_over < size:
        raise HtmlPage(organization.faults.gateway_status)
    if 0 < organization.faults.too_large_over < size:
        raise too_large()
    since_ms = organization.now_ms() - _WINDOW_MS
    positions = find_positions(organization, asked, organization.realtime_services, since_ms)
    page = positions[(number - 1) * size : number * size]
    head = {
        "pageSize": size,
        "pageNumber": number,
        "total": len(positions),
        "pageCount": -(-len(positions) // size),
    }
    return records_answer(head, records_at(organization, page, expand=expand))


def related(organization: Organization, body: Body, *, expand: bool) -> Answer:
    """Every audit that the action behind the given one wrote, that one included.

    Raises:
        ApiError: there is no such audit, or it cannot be asked for yet.
    """
    identity = body.get("auditId")
    if not isinstance(identity, str) or not identity:
        raise bad_request("The auditId is required.")
    given = _with(organization, ("id",), identity)
    if not given:
        raise not_found()
    audit = json.loads(organization.view().one(given[0]))
    transaction = member_at(audit, "initiatingAction", "transactionId")
    if isinstance(transaction, str) and transaction:
        given = _with(organization, ("initiatingAction", "transactionId"), transaction)
    positions = given[::-1] if read_order(body) else given
    return records_answer({}, records_at(organization, positions, expand=expand))


def _with(organization: Organization, path: tuple[str, ...], value: str) -> array[int]:
    """Positions of the visible audits that have `value` at `path`."""
    view = organization.view()
    candidates = organization.log.containing(json.dumps(value).encode())
    return array(
        "q",
        (
            position
            for position in view.visible(array("q", candidates))
            if member_at(json.loads(view.one(position)), *path) == value
        ),
    )
