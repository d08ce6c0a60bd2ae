"""The vendor's own SDK reads the simulator: a client that nobody here wrote."""

import json
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from typing import Any, cast

import pytest
import requests

from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Faults, Simulator
from tests.support.simulated_organization import END, NOW, START, HandClock, ids, interval


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with AuditLog.generate(seed=7, count=2300, start=START, end=END) as log:
        yield log


@pytest.fixture(scope="module")
def vendor() -> Any:
    """The SDK. It takes seconds to import: a process that only collects does without."""
    return import_module("PureCloudPlatformClientV2")


@pytest.fixture
def simulator(served: tuple[Simulator, str], log: AuditLog) -> Simulator:
    """The one that is served, as new."""
    vars(served[0]).update(vars(Simulator(log=log, clock=HandClock())))
    return served[0]


@pytest.fixture
def audits(served: tuple[Simulator, str], simulator: Simulator, vendor: Any) -> Any:
    client = vendor.api_client.ApiClient(host=served[1])
    client.get_client_credentials_token(CLIENT_ID, CLIENT_SECRET)
    return vendor.AuditApi(client)


def _asked(vendor: Any, request: str, **members: object) -> object:
    body = getattr(vendor, request)()
    body.interval = interval()
    order = vendor.AuditQuerySort()
    order.name, order.sort_order = "Timestamp", "ascending"
    body.sort = [order]
    for name, value in members.items():
        setattr(body, name, value)
    return body


def _read(audits: Any, query: str) -> list[Any]:
    """All audits of a query, to the last cursor."""
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = audits.get_audits_query_transaction_id_results(
            query, page_size=500, expand=["user"], **cursor
        )
        found += page.entities
        if not page.cursor:
            return found
        cursor = {"cursor": page.cursor}


def test_the_vendors_sdk_reads_every_visible_audit_once(
    audits: Any, log: AuditLog, vendor: Any
) -> None:
    created = audits.post_audits_query(_asked(vendor, "AuditQueryRequest"))
    assert created.state == "Queued"
    state = audits.get_audits_query_transaction_id(created.id)
    assert state.state == "Succeeded"

    found = _read(audits, created.id)

    truth = list(log.truth(START, END, NOW))
    assert [audit.id for audit in found] == ids(truth)
    assert [audit.user.name for audit in found] == [t["user"].get("name") for t in truth]
    assert {a.level for a in found} == {t["level"] for t in truth}
    assert {a.status for a in found} == {"SUCCESS", "FAILURE", "WARNING"}


def test_the_vendors_sdk_understands_every_member_of_a_record(
    audits: Any, log: AuditLog, vendor: Any
) -> None:
    created = audits.post_audits_query(_asked(vendor, "AuditQueryRequest"))

    page = audits.get_audits_query_transaction_id_results(
        created.id, page_size=500, expand=["user"]
    )

    read_back = audits.api_client.sanitize_for_serialization(page.entities)
    told = [_without_nulls(audit) for audit in read_back]
    for audit in told:
        audit["eventDate"] = audit["eventDate"].replace("+00:00", "Z")
    assert told == list(log.truth(START, END, NOW))[:500]


def test_the_vendors_sdk_reads_the_realtime_pages(audits: Any, log: AuditLog, vendor: Any) -> None:
    known = {s.name for s in audits.get_audits_query_realtime_servicemapping().services}
    found, number = [], 1
    while True:
        body = _asked(vendor, "AuditRealtimeQueryRequest", page_number=number, page_size=400)
        page = audits.post_audits_query_realtime(body)
        found += page.entities
        if number >= page.page_count:
            break
        number += 1

    fortnight = NOW.replace(day=24, month=4)
    truth = [t for t in log.truth(fortnight, END, NOW) if t["serviceName"] in known]
    assert [audit.id for audit in found] == ids(truth)
    assert page.total == len(truth)
    assert {audit.user.name for audit in found} == {None}


def test_the_vendors_sdk_is_told_whose_token_it_has(
    audits: Any, simulator: Simulator, log: AuditLog, vendor: Any
) -> None:
    simulator.faults = Faults(deny_permission=True)  # which it does not take

    info = vendor.TokensApi(audits.api_client).get_tokens_me()

    homes = {audit["userHomeOrgId"] for audit in log.truth(START, END, NOW)}
    assert {info.organization.id, info.home_organization.id} == homes
    assert info.o_auth_client.id == CLIENT_ID
    simulator.faults = Faults(token_info_status=403)
    with pytest.raises(vendor.rest.ApiException) as caught:
        vendor.TokensApi(audits.api_client).get_tokens_me()
    assert caught.value.status == 403


def test_two_simulated_organisations_are_two_and_the_same_one_stays_it() -> None:
    def made(seed: int, count: int = 10) -> str:
        with AuditLog.generate(seed=seed, count=count, start=START, end=END) as log:
            return Simulator(log=log).organization_id

    with AuditLog.of([]) as nothing:
        assert len({made(1), made(2), Simulator(log=nothing).organization_id}) == 3
    assert made(1) == made(1, count=20)


def test_the_vendors_sdk_reads_the_service_mapping(audits: Any) -> None:
    mapping = audits.get_audits_query_servicemapping()

    actions = {
        (service.name, entity.name): entity.actions
        for service in mapping.services
        for entity in service.entities
    }
    assert actions["ContactCenter", "WrapupCode"] == ["Create", "Update", "Delete"]


def test_the_vendors_sdk_finds_what_an_action_wrote(
    audits: Any, log: AuditLog, vendor: Any
) -> None:
    truth = list(log.truth(START, END, NOW))
    given = next(t for t in truth if t["initiatingAction"])
    body = vendor.AuditRealtimeRelatedRequest()
    body.audit_id = given["id"]

    related = audits.post_audits_query_realtime_related(body)

    assert sorted(a.id for a in related.entities) == [
        t["id"] for t in truth if t["initiatingAction"] == given["initiatingAction"]
    ]


def test_the_vendors_sdk_is_told_what_was_wrong(audits: Any, vendor: Any) -> None:
    with pytest.raises(vendor.rest.ApiException) as caught:
        audits.get_audits_query_transaction_id("nothing")

    assert caught.value.status == 404
    assert '"code":"not.found"' in caught.value.body


def test_the_vendors_sdk_finds_late_audits_with_a_later_query(
    audits: Any, simulator: Simulator, log: AuditLog, vendor: Any
) -> None:
    first = audits.post_audits_query(_asked(vendor, "AuditQueryRequest")).id
    cast("HandClock", simulator.clock).move(hours=20)

    before, after = (
        {audit.id for audit in _read(audits, query)}
        for query in (first, audits.post_audits_query(_asked(vendor, "AuditQueryRequest")).id)
    )

    late = {t["id"] for t in log.late(START, NOW - timedelta(hours=1), timedelta(hours=1))}
    assert before < after
    assert late & (after - before)
    assert after == set(ids(log.truth(START, END, NOW + timedelta(hours=20))))


def test_the_vendors_sdk_reads_to_the_end_whatever_cursors_there_are(
    audits: Any, simulator: Simulator, log: AuditLog, vendor: Any
) -> None:
    simulator.faults = Faults(last_page_with_cursor=True, empty_page_with_cursor=3)

    found = _read(audits, audits.post_audits_query(_asked(vendor, "AuditQueryRequest")).id)

    assert [audit.id for audit in found] == ids(log.truth(START, END, NOW))


def test_the_vendors_sdk_is_shown_where_a_large_result_lies(
    audits: Any, simulator: Simulator, log: AuditLog, vendor: Any
) -> None:
    simulator.faults = Faults(redirect_over=500)
    query = audits.post_audits_query(_asked(vendor, "AuditQueryRequest")).id

    with pytest.raises(vendor.rest.ApiException) as caught:
        audits.get_audits_query_transaction_id_results(query, page_size=500, allow_redirect=True)

    assert caught.value.status == 302
    link = json.loads(caught.value.body)["downloadUrl"]
    assert ids(requests.get(link, timeout=9).json()) == ids(log.truth(START, END, NOW))


@pytest.mark.parametrize(
    ("faults", "status", "code"),
    [
        (Faults(token_dies_after=1), 401, "bad.credentials"),
        (Faults(deny_permission=True), 403, "missing.permissions"),
        (Faults(too_large_over=100), 400, "response.entity.too.large"),
        (Faults(server_error_every=1, server_error_status=500), 500, "internal.server.error"),
        (Faults(server_error_every=1, server_error_status=504), 504, "request.timeout"),
        (Faults(vanish_query_after_page=1), 404, "not.found"),
        (Faults(stuck_query_every=1), 409, "request.conflict"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_the_vendors_sdk_is_told_of_each_fault_in_the_vendors_words(
    audits: Any, simulator: Simulator, faults: Faults, status: int, code: str, vendor: Any
) -> None:
    if faults.stuck_query_every:
        simulator.faults = faults
    query = audits.post_audits_query(_asked(vendor, "AuditQueryRequest")).id
    simulator.faults = faults

    with pytest.raises(vendor.rest.ApiException) as caught:
        for _ in range(2):
            audits.get_audits_query_transaction_id_results(query, page_size=500)

    assert caught.value.status == status
    assert json.loads(caught.value.body)["code"] == code


def test_the_vendors_sdk_waits_as_a_429_tells_it(audits: Any, simulator: Simulator) -> None:
    simulator.faults = Faults(too_many_requests_every=2, retry_after=1)

    mappings = [audits.get_audits_query_servicemapping() for _ in range(2)]

    assert [len(mapping.services) for mapping in mappings] == [len(simulator.services)] * 2
    assert simulator.requests["servicemapping"] == 3


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value
