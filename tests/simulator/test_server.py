"""The simulated organisation keeps the vendor's contract."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from email.utils import parsedate_to_datetime
from math import floor
from time import time
from typing import Any

import pytest
import requests

from etl import wire
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Faults, Simulator
from tests.support.hostile_organization import resting
from tests.support.simulated_organization import (
    ASCENDING,
    END,
    NOW,
    START,
    HandClock,
    Reader,
    audit,
    ids,
    interval,
    read,
)

REFUSED = {"error": "invalid_client", "description": "authentication failed"}


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with AuditLog.generate(seed=3, count=1800, start=START, end=END) as log:
        yield log


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def simulator(served: tuple[Simulator, str], log: AuditLog, clock: HandClock) -> Simulator:
    """The one that is served, as new: to stop a server takes longer than most tests."""
    vars(served[0]).update(vars(Simulator(log=log, clock=clock)))
    return served[0]


@pytest.fixture
def reader(served: tuple[Simulator, str], simulator: Simulator) -> Iterator[Reader]:
    reader = Reader(served[1])
    with reader.session:
        reader.sign_in()
        yield reader


def _refusal(answer: requests.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["contextId"] == answer.headers[wire.CORRELATION_HEADER]
    assert (body["details"], body["errors"]) == ([], [])
    return answer.status_code, body["code"], body["message"]


@pytest.mark.parametrize("size", [7, 25, 500])
def test_pages_of_any_size_hold_every_visible_audit_once(
    reader: Reader, log: AuditLog, size: int
) -> None:
    query = reader.created(interval=interval(NOW - timedelta(days=3), END))

    pages = reader.pages(query, pageSize=size, expand="user")

    truth = list(log.truth(NOW - timedelta(days=3), END, NOW))
    assert [found for page in pages for found in page] == truth
    assert {len(page) for page in pages[:-1]} <= {size}
    assert len(pages) == -(-len(truth) // size)


def test_a_page_has_25_audits_unless_another_size_is_asked_for(reader: Reader) -> None:
    answer = reader.page(reader.created()).json()

    assert answer["pageSize"] == 25
    assert len(answer["entities"]) == 25


def test_the_last_page_has_no_cursor(reader: Reader) -> None:
    day = interval(NOW - timedelta(days=1), NOW)

    assert "cursor" not in reader.page(reader.created(interval=day), pageSize=500).json()


def test_a_name_is_told_only_if_asked_for(reader: Reader, log: AuditLog) -> None:
    pages = reader.pages(reader.created(), pageSize=500)

    truth = list(log.truth(START, END, NOW))
    assert any("name" in t["user"] for t in truth)
    for t in truth:
        t["user"].pop("name", None)
    assert [found for page in pages for found in page] == truth


def test_the_newest_come_first_unless_told_otherwise(reader: Reader, log: AuditLog) -> None:
    newest = ids(log.truth(START, END, NOW))[::-1]

    assert ids(reader.audits(sort=[])) == newest
    assert ids(reader.audits(sort=[{"name": "Timestamp", "sortOrder": "descending"}])) == newest


def test_an_interval_holds_its_start_and_not_its_end(clock: HandClock) -> None:
    edges = [NOW - timedelta(hours=n) for n in (3, 2, 1)]
    records = [(audit(n, at), at) for n, at in enumerate(edges)]
    with AuditLog.of(records) as log, read(Simulator(log=log, clock=clock)) as reader:
        found = reader.audits(interval=interval(edges[0], edges[2]))

    assert found == [record for record, _ in records[:2]]


def test_a_query_takes_its_time(reader: Reader, simulator: Simulator, clock: HandClock) -> None:
    simulator.query_seconds = 20
    query = reader.created()
    seen = []
    for _ in range(5):
        answer = reader.get(wire.query_path(query))
        seen.append((answer.status_code, answer.json()["state"]))
        clock.move(seconds=4.5)

    assert seen == [
        (202, "Queued"),
        (202, "Queued"),
        (202, "Running"),
        (202, "Running"),
        (202, "Running"),
    ]
    assert _refusal(reader.page(reader.created()))[:2] == (409, "request.conflict")
    assert (reader.state(query), reader.page(query).status_code) == ("Succeeded", 200)


def test_every_request_is_on_its_way_for_the_latency(log: AuditLog, clock: HandClock) -> None:
    simulator = Simulator(log=log, clock=clock, rest=resting(clock), latency_seconds=3)
    before = clock()
    with read(simulator) as reader:  # with a token
        reader.created()
    assert clock() - before == timedelta(seconds=2 * 3)


def test_a_query_tells_what_it_was_asked(reader: Reader) -> None:
    asked = {
        "interval": interval(),
        "serviceName": "Directory",
        "filters": [],
        "sort": ASCENDING,
    }

    answer = reader.create(**asked)

    expected = asked | {"id": answer.json()["id"], "startDate": "2026-05-08T12:00:00.000Z"}
    assert answer.status_code == 202
    assert answer.json() == expected | {"state": "Queued"}
    told = reader.get(wire.query_path(answer.json()["id"]))
    assert (told.status_code, told.json()) == (200, expected | {"state": "Succeeded"})


def test_an_organisation_may_know_the_end_at_once(reader: Reader, simulator: Simulator) -> None:
    simulator.answer_at_once = True

    answer = reader.create()

    assert (answer.status_code, answer.json()["state"]) == (200, "Succeeded")


def test_a_query_for_a_service_finds_its_audits_only(reader: Reader, log: AuditLog) -> None:
    truth = [t for t in log.truth(START, END, NOW) if t["serviceName"] == "Directory"]

    assert len(truth) > 100
    assert reader.audits(serviceName="Directory") == truth


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ({"interval": None}, "bad.request", "does not exceed 31 days."),
        ({"interval": "2026-04-01T00:00:00Z/2026-05-02T00:00:01Z"}, "bad.request", "31 days."),
        ({"interval": "2026-05-02T00:00:00Z/2026-05-01T00:00:00Z"}, "bad.request", "its start."),
        ({"interval": "2026-05-01T00:00:00Z"}, "invalid.date", "yyyy-MM-ddTHH:mm:ss.SSSZ"),
        ({"interval": "yesterday/today"}, "invalid.date", "yyyy-MM-ddTHH:mm:ss.SSSZ"),
        ({"serviceName": "directory"}, "invalid.value", "[directory] is not valid"),
        ({"filters": [{"property": "UserId", "value": "x"}]}, "bad.request", "filters"),
        ({"sort": [{"name": "Timestamp", "sortOrder": "up"}]}, "invalid.value", "ascending"),
        ({"sort": [{"name": "eventDate", "sortOrder": "ascending"}]}, "invalid.value", "Time"),
    ],
)
def test_a_query_that_cannot_be_is_refused(
    reader: Reader, body: dict[str, Any], code: str, says: str
) -> None:
    for path in (wire.QUERY_PATH, wire.REALTIME_PATH):
        status, told, message = _refusal(reader.post(path, {"interval": interval()} | body))
        assert (status, told) == (400, code)
        assert says in message


def test_31_days_are_not_too_many(reader: Reader) -> None:
    assert reader.create(interval="2026-04-01T00:00:00/2026-05-02T00:00:00").status_code == 202


@pytest.mark.parametrize(
    "params", [{"pageSize": 0}, {"pageSize": 501}, {"pageSize": "many"}, {"expand": "entity"}]
)
def test_a_page_that_cannot_be_is_refused(reader: Reader, params: dict[str, Any]) -> None:
    answer = reader.page(reader.created(), **params)

    assert _refusal(answer)[:2] == (400, "invalid.query.param.value")


def test_a_cursor_belongs_to_its_query(reader: Reader) -> None:
    cursor = reader.page(reader.created()).json()["cursor"]

    for wrong in (cursor, "nonsense", "////"):
        refused = _refusal(reader.page(reader.created(), cursor=wrong))
        assert refused[:2] == (400, "bad.request")


def test_what_does_not_exist_is_not_found(reader: Reader) -> None:
    for path in (wire.query_path("x"), wire.results_path("x"), "/api/v2/users"):
        assert _refusal(reader.get(path))[:2] == (404, "not.found")
    assert reader.get(wire.QUERY_PATH).status_code == 405


def test_a_body_must_be_json_and_say_so(reader: Reader) -> None:
    url = reader.url + wire.QUERY_PATH
    plain = {"Content-Type": "text/plain"}
    json = {"Content-Type": "application/json"}

    assert _refusal(reader.session.post(url, data="{}", headers=plain))[0] == 415
    assert _refusal(reader.session.post(url, data="{", headers=json))[0] == 400
    assert _refusal(reader.session.post(url, data="[]", headers=json))[0] == 400


def test_a_token_is_given_to_the_right_client(log: AuditLog) -> None:
    simulator = Simulator(log=log)
    simulator.token_seconds = 300
    form = {"grant_type": "client_credentials"}
    inside = form | {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    with simulator.serve() as url, requests.Session() as session:
        answers = [
            session.post(url + wire.TOKEN_PATH, data=form, auth=(CLIENT_ID, CLIENT_SECRET)),
            session.post(url + wire.TOKEN_PATH, data=inside),
        ]
        wrong = [
            session.post(url + wire.TOKEN_PATH, data=form, auth=(CLIENT_ID, "guess")),
            session.post(url + wire.TOKEN_PATH, data=inside | {"client_secret": "guess"}),
            session.post(url + wire.TOKEN_PATH, data=form),
        ]

    for answer in answers:
        token = answer.json()["access_token"]
        assert answer.json() == {
            "access_token": token,
            "token_type": "bearer",
            "expires_in": 300,
        }
    assert answers[0].json() != answers[1].json()
    assert [answer.status_code for answer in wrong] == [400, 400, 400]
    assert wrong[0].json() == REFUSED | {"error_description": "authentication failed"}
    assert simulator.requests == {"token": 5}


def test_a_request_needs_a_good_token(
    reader: Reader, simulator: Simulator, clock: HandClock
) -> None:
    clock.move(seconds=simulator.token_seconds)
    refused = [_refusal(reader.create())]
    del reader.session.headers["Authorization"]
    refused.append(_refusal(reader.create()))
    reader.sign_in()

    assert refused == [
        (401, "bad.credentials", "Invalid login credentials."),
        (
            401,
            "authentication.required",
            "No authentication bearer token specified in authorization header.",
        ),
    ]
    assert reader.create().status_code == 202


def test_every_answer_tells_the_budget_and_the_organisations_time(
    reader: Reader, clock: HandClock
) -> None:
    reader.create()
    clock.move(seconds=12.5)

    headers = reader.get(wire.query_path("x")).headers

    assert headers["Date"] == "Fri, 08 May 2026 12:00:12 GMT"
    assert headers[wire.RATE_ALLOWED_HEADER] == "300"
    assert headers[wire.RATE_COUNT_HEADER] == "2"
    assert headers[wire.RATE_RESET_HEADER] == "48"


def test_a_minute_has_so_many_requests_for_a_token(
    reader: Reader, simulator: Simulator, clock: HandClock
) -> None:
    simulator.allowed_per_minute = 3
    for _ in range(3):
        assert reader.get(wire.SERVICE_MAPPING_PATH).status_code == 200
    clock.move(seconds=40)

    answer = reader.get(wire.SERVICE_MAPPING_PATH)

    assert _refusal(answer) == (
        429,
        "too.many.requests.retry.after",
        "Rate limit exceeded the maximum. Retry the request in [20] seconds",
    )
    assert answer.headers["Retry-After"] == "20"
    assert answer.json()["limit"] == {
        "key": "client.credentials.token.rate.per.minute",
        "namespace": "platform.api",
        "value": 3,
    }
    clock.move(seconds=20)
    assert reader.get(wire.SERVICE_MAPPING_PATH).headers[wire.RATE_COUNT_HEADER] == "1"


def test_a_late_audit_is_found_by_a_later_query_only(clock: HandClock) -> None:
    soon, late = audit(1, NOW - timedelta(hours=2)), audit(2, NOW - timedelta(hours=3))
    records = [(soon, NOW - timedelta(hours=2)), (late, NOW + timedelta(minutes=5))]
    with AuditLog.of(records) as log, read(Simulator(log=log, clock=clock)) as reader:
        query = reader.created()
        assert reader.audits() == [soon]
        clock.move(minutes=5)

        assert reader.pages(query) == [[soon]]
        assert reader.audits() == [late, soon]


def test_the_realtime_query_reads_numbered_pages_of_14_days(reader: Reader, log: AuditLog) -> None:
    services = reader.get(wire.REALTIME_SERVICE_MAPPING_PATH).json()["services"]
    known = {service["name"] for service in services}
    body = {"interval": interval(), "sort": ASCENDING, "pageSize": 300}
    pages = [
        reader.post(wire.REALTIME_PATH, body | {"pageNumber": n}, expand="user").json()
        for n in (1, 2, 3, 4, 5, 6)
    ]

    everything = log.truth(NOW - timedelta(days=14), END, NOW)
    truth = [t for t in everything if t["serviceName"] in known]
    assert [found for page in pages for found in page["entities"]] == truth
    assert {name: pages[1][name] for name in ("pageSize", "pageNumber", "total", "pageCount")} == {
        "pageSize": 300,
        "pageNumber": 2,
        "total": len(truth),
        "pageCount": -(-len(truth) // 300),
    }


def test_the_realtime_query_knows_fewer_services(reader: Reader) -> None:
    mappings = [
        {service["name"] for service in reader.get(path).json()["services"]}
        for path in (wire.SERVICE_MAPPING_PATH, wire.REALTIME_SERVICE_MAPPING_PATH)
    ]
    body = {"interval": interval(), "serviceName": "Triggers"}

    assert mappings[1] < mappings[0]
    assert _refusal(reader.post(wire.REALTIME_PATH, body))[:2] == (400, "invalid.value")
    assert reader.create(serviceName="Triggers").status_code == 202


def test_related_audits_are_those_of_one_action(reader: Reader, log: AuditLog) -> None:
    truth = list(log.truth(START, END, NOW))
    given = next(t for t in truth if t["initiatingAction"])
    alone = next(t for t in truth if not t["initiatingAction"])
    same = [t for t in truth if t["initiatingAction"] == given["initiatingAction"]]

    def related(identity: str) -> requests.Response:
        body = {"auditId": identity, "sort": ASCENDING}
        return reader.post(wire.REALTIME_RELATED_PATH, body, expand="user")

    assert len(same) > 1
    assert [t["transactionInitiator"] for t in same] == [True] + [False] * (len(same) - 1)
    assert related(same[-1]["id"]).json() == {"entities": same}
    assert related(alone["id"]).json() == {"entities": [alone]}
    assert related(given["userHomeOrgId"]).status_code == 404


def test_large_results_are_offered_as_downloads(
    reader: Reader, simulator: Simulator, log: AuditLog
) -> None:
    simulator.faults = Faults(redirect_over=900, download_rows=500)
    query = reader.created()
    truth = list(log.truth(START, END, NOW))

    first = reader.page(query, allowRedirect="true", pageSize=200)
    second = reader.page(query, allowRedirect="true", pageSize=200, cursor=first.json()["cursor"])

    assert len(truth) > 1200
    assert (first.status_code, second.status_code) == (302, 302)
    assert "Location" not in first.headers
    assert set(first.json()) == {"id", "pageSize", "cursor", "downloadUrl"}
    files = [requests.get(page.json()["downloadUrl"], timeout=9).json() for page in (first, second)]
    assert ids(files[0] + files[1]) == ids(truth)[:1000]
    third = reader.page(query, allowRedirect="true", cursor=second.json()["cursor"], pageSize=500)
    assert ids(third.json()["entities"]) == ids(truth)[1000:1500]
    assert reader.page(query, pageSize=200).status_code == 200


def test_a_download_has_the_shape_of_a_notification(
    reader: Reader, simulator: Simulator, log: AuditLog
) -> None:
    simulator.faults = Faults(redirect_over=1)
    link = reader.page(reader.created(), allowRedirect="true").json()["downloadUrl"]

    found = requests.get(link, timeout=9).json()

    truth = list(log.truth(START, END, NOW))
    position = next(n for n, t in enumerate(truth) if "name" in t["user"] and "message" in t)
    t = truth[position]
    assert found[position] == {
        "id": t["id"],
        "userId": t["user"]["id"],
        "username": {"id": ""},
        "clientId": t["client"],
        "eventTime": t["eventDate"],
    } | {
        name: t[name]
        for name in ("userHomeOrgId", "remoteIp", "serviceName", "level", "message", "action")
    } | {name: t[name] for name in ("entityType", "entity", "propertyChanges", "context")}


def test_a_download_wants_its_signature_and_no_token(
    reader: Reader, simulator: Simulator, clock: HandClock
) -> None:
    simulator.faults = Faults(redirect_over=1)
    link = reader.page(reader.created(), allowRedirect="true").json()["downloadUrl"]

    assert reader.session.get(link).status_code == 400
    assert requests.get(link[:-1], timeout=9).status_code == 403
    assert requests.get(link, timeout=9).status_code == 200
    clock.move(hours=1)
    assert requests.get(link, timeout=9).status_code == 403


def test_requests_are_counted_by_operation(reader: Reader, simulator: Simulator) -> None:
    reader.audits()
    reader.get(wire.query_path("x"))

    assert simulator.requests == {"token": 1, "query": 1, "results": 4, "status": 1}


def test_the_secret_is_not_shown(simulator: Simulator) -> None:
    assert CLIENT_SECRET not in repr(simulator)


RUN = """
from datetime import UTC, datetime
from etl.simulator import AuditLog, Simulator, run
start, end = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC)
with AuditLog.generate(count=9, start=start, end=end) as log:
    run(Simulator(log=log), announce=lambda url: print(url, flush=True))
print("ended")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_simulator_in_a_terminal(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", RUN],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    before = floor(time())
    answered = requests.get(url, timeout=9).headers["Date"]
    after = time()
    process.send_signal(number)

    assert process.communicate(timeout=20) == ("ended\n", "")
    assert process.returncode == 0
    assert before <= parsedate_to_datetime(answered).timestamp() <= after
