"""Each fault of the simulator does what it says, and nothing while it is off."""

import json
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from typing import Any, cast

import pytest
import requests
from click.testing import CliRunner

from etl import wire
from etl.cli import audit_etl
from etl.simulator import AuditLog, Faults, Simulator
from etl.simulator.faults import NO_PAGES, descriptions
from etl.simulator.page_replacements import REPLACEMENTS
from tests.support.simulated_organization import NOW, START, HandClock, Reader, audit, ids, interval

TEN = [audit(n, NOW - timedelta(hours=20 - n)) for n in range(10)]


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with AuditLog.of((record, START) for record in TEN) as log:
        yield log


@pytest.fixture
def simulator(served: tuple[Simulator, str], log: AuditLog) -> Simulator:
    """The one that is served, as new."""
    vars(served[0]).update(vars(Simulator(log=log, clock=HandClock())))
    return served[0]


@pytest.fixture
def reader(served: tuple[Simulator, str], simulator: Simulator) -> Iterator[Reader]:
    reader = Reader(served[1])
    with reader.session:
        reader.sign_in()
        yield reader


def _told(reader: Reader, times: int) -> list[int]:
    return [reader.get(wire.SERVICE_MAPPING_PATH).status_code for _ in range(times)]


def test_nothing_goes_wrong_by_itself(reader: Reader) -> None:
    assert set(_told(reader, 30)) == {200}
    assert reader.audits() == TEN


def test_a_token_dies_after_some_requests(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(token_dies_after=2)

    assert _told(reader, 4) == [200, 200, 401, 401]
    reader.sign_in()
    assert _told(reader, 3) == [200, 200, 401]


def test_fewer_requests_a_minute_are_allowed(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(rate_limit=2)

    assert _told(reader, 3) == [200, 200, 429]
    headers = reader.get(wire.SERVICE_MAPPING_PATH).headers
    assert headers[wire.RATE_ALLOWED_HEADER] == "2"
    assert headers["Retry-After"] == "60"


def test_a_429_comes_out_of_nowhere(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(too_many_requests_every=3, retry_after=7)

    assert _told(reader, 5) == [200, 200, 429, 200, 200]
    answer = reader.get(wire.SERVICE_MAPPING_PATH)
    assert answer.headers["Retry-After"] == "7"
    assert answer.headers[wire.RATE_COUNT_HEADER] == "6"
    assert answer.json()["message"].endswith("in [7] seconds")


def test_a_429_may_leave_its_header_out(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(too_many_requests_every=1, retry_after=7, retry_after_unsaid=True)

    answer = reader.get(wire.SERVICE_MAPPING_PATH)

    assert "Retry-After" not in answer.headers
    assert answer.json()["message"].endswith("in [7] seconds")


def test_the_service_is_down_now_and_then(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(server_error_every=2)

    assert _told(reader, 4) == [200, 503, 200, 503]


def test_a_proxy_answers_in_html_now_and_then(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(html_error_every=2)

    assert _told(reader, 3) == [200, 502, 200]
    answer = reader.get(wire.SERVICE_MAPPING_PATH)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.text.startswith("<html>")


def test_a_quota_closes_the_api_for_a_while(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(quota=2, retry_after=7200)
    clock = cast("HandClock", simulator.clock)

    assert _told(reader, 3) == [200, 200, 429]
    clock.move(seconds=7190)
    assert reader.get(wire.SERVICE_MAPPING_PATH).headers["Retry-After"] == "10"
    clock.move(seconds=10)
    assert _told(reader, 3) == [200, 200, 429]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_any_server_error_can_be_had(reader: Reader, simulator: Simulator, status: int) -> None:
    simulator.faults = Faults(server_error_every=2, server_error_status=status)

    assert _told(reader, 2) == [200, status]


def test_a_page_of_html_may_come_as_if_all_were_well(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(html_page_every=1)

    answer = reader.get(wire.SERVICE_MAPPING_PATH)

    assert (answer.status_code, answer.text[:6]) == (200, "<html>")


def test_json_may_end_half_way(reader: Reader, simulator: Simulator) -> None:
    query = reader.created()
    whole = reader.page(query).content
    simulator.faults = Faults(truncate_every=1)

    answer = reader.page(query)

    assert answer.status_code == 200
    assert answer.content == whole[: len(whole) // 2]


def test_an_answer_may_be_broken_off(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(break_off_every=1)

    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        reader.get(wire.SERVICE_MAPPING_PATH)


def test_a_connection_may_be_reset_although_the_request_was_done(
    reader: Reader, simulator: Simulator
) -> None:
    simulator.faults = Faults(reset_every=1)

    with pytest.raises(requests.exceptions.ConnectionError, match="reset by peer"):
        reader.create()
    assert len(simulator.queries) == 1


def test_answers_may_take_their_time(reader: Reader, simulator: Simulator) -> None:
    rested: list[float] = []

    async def rest(seconds: float) -> None:
        rested.append(seconds)

    simulator.rest = rest
    simulator.faults = Faults(stall_every=2, stall_seconds=90, drip_every=3, drip_seconds=80)

    assert _told(reader, 2) == [200, 200]
    assert rested == [90]
    assert reader.audits() == TEN
    assert rested.count(2) >= 40


def test_tokens_and_downloads_meet_the_same_faults(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(redirect_over=1)
    link = reader.page(reader.created(), allowRedirect="true").json()["downloadUrl"]
    simulator.faults = Faults(server_error_every=1)

    assert requests.get(link, timeout=9).status_code == 503
    assert requests.post(reader.url + wire.TOKEN_PATH, timeout=9).status_code == 503


def test_a_seed_strikes_at_random_and_always_the_same(reader: Reader, simulator: Simulator) -> None:
    told = []
    for seed in (5, 5, 6):
        simulator.asked = 0
        simulator.faults = Faults(seed=seed, server_error_every=3)
        told.append(_told(reader, 60))

    assert told[0] == told[1] != told[2]
    assert 8 < told[0].count(503) < 35


def test_the_permission_is_missing(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(deny_permission=True)

    answer = reader.create()

    assert (answer.status_code, answer.json()["code"]) == (403, "missing.permissions")
    assert answer.json()["message"].endswith("permission(s): [audits:audit:view]")


def test_the_realtime_query_may_want_a_service_named(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(realtime_named=True)
    body = {"interval": interval()}

    assert reader.post(wire.REALTIME_PATH, body).status_code == 400
    assert reader.post(wire.REALTIME_PATH, body | {"serviceName": "ContactCenter"}).ok
    assert reader.create().status_code == 202


def test_one_service_is_forbidden(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(forbidden_service="Quality")

    assert reader.create(serviceName="Quality").status_code == 403
    assert reader.create(serviceName="ContactCenter").status_code == 202
    assert reader.create().status_code == 202


@pytest.mark.parametrize(
    ("faults", "ends"),
    [
        (Faults(fail_query_every=2), "Failed"),
        (Faults(cancel_query_every=2), "Cancelled"),
        (Faults(stuck_query_every=2), "Running"),
    ],
)
def test_some_queries_come_to_nothing(
    reader: Reader, simulator: Simulator, faults: Faults, ends: str
) -> None:
    simulator.faults = faults
    queries = [reader.created() for _ in range(4)]

    assert [reader.state(query) for query in queries] == ["Succeeded", ends, "Succeeded", ends]
    assert reader.page(queries[1]).status_code == 409


def test_a_service_appears_one_day(simulator: Simulator, reader: Reader) -> None:
    simulator.faults = Faults(new_service="ContactCenter", new_service_after=3600)
    clock = cast("HandClock", simulator.clock)
    later = audit(99, NOW + timedelta(minutes=90))

    def services() -> set[str]:
        mapping = reader.get(wire.SERVICE_MAPPING_PATH).json()["services"]
        return {service["name"] for service in mapping}

    with AuditLog.of([*((t, START) for t in TEN), (later, NOW + timedelta(minutes=90))]) as log:
        simulator.log = log
        assert "ContactCenter" not in services()
        assert reader.audits() == []
        assert reader.create(serviceName="ContactCenter").status_code == 400
        clock.move(seconds=3600)
        assert "ContactCenter" in services()
        clock.move(seconds=1800)
        assert reader.audits(serviceName="ContactCenter") == [later]


def test_the_limit_of_an_interval_may_be_another(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(interval_days=7)

    refused = reader.create(interval=interval(NOW - timedelta(days=8), NOW))

    assert (refused.status_code, refused.json()["message"][-7:]) == (400, "7 days.")
    assert reader.create(interval=interval(NOW - timedelta(days=7), NOW)).status_code == 202


def test_a_query_vanishes_while_it_is_read(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(vanish_query_after_page=2)
    query = reader.created()
    assert reader.state(query) == "Succeeded"

    assert [reader.page(query, pageSize=2).status_code for _ in range(4)] == [200, 200, 404, 404]
    assert reader.get(wire.query_path(query)).status_code == 404


def test_an_empty_page_lies_among_the_others(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(empty_page_with_cursor=2)

    pages = reader.pages(reader.created(), pageSize=4)

    assert [ids(page) for page in pages] == [ids(TEN[:4]), [], ids(TEN[4:8]), ids(TEN[8:])]


def test_the_last_page_leads_to_an_empty_one(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(last_page_with_cursor=True)

    pages = reader.pages(reader.created(), pageSize=5)

    assert [ids(page) for page in pages] == [ids(TEN[:5]), ids(TEN[5:]), []]


def test_a_cursor_leads_to_the_same_page_again(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(repeat_cursor=2)
    query = reader.created()
    first = reader.page(query, pageSize=4).json()

    answers = [reader.page(query, pageSize=4, cursor=first["cursor"]).json() for _ in range(2)]

    assert [ids(answer["entities"]) for answer in answers] == [ids(TEN[4:8])] * 2
    assert {answer["cursor"] for answer in answers} == {first["cursor"]}


def test_a_page_comes_again_and_again_with_new_cursors(
    reader: Reader, simulator: Simulator
) -> None:
    simulator.faults = Faults(repeat_page=2)

    pages = reader.pages(reader.created(), limit=6, pageSize=4)

    assert [ids(page) for page in pages] == [ids(TEN[:4]), *[ids(TEN[4:8])] * 5]


def test_pages_are_empty_and_lead_to_more_of_them(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(empty_pages_from=2)
    query = reader.created()

    assert reader.pages(query, limit=6, pageSize=4) == [TEN[:4], *[[]] * 5]
    cursors = set()
    cursor = None
    for _ in range(6):
        cursor = reader.page(query, pageSize=4, cursor=cursor).json()["cursor"]
        cursors.add(cursor)
    assert len(cursors) == 6


def test_something_else_stands_in_the_place_of_a_page(reader: Reader, simulator: Simulator) -> None:
    assert tuple(REPLACEMENTS) == NO_PAGES
    query = reader.created()
    other = {}
    for kind in NO_PAGES:
        simulator.faults = Faults(no_page=2, no_page_is=kind)
        first = reader.page(query, pageSize=4)
        other[kind] = reader.page(query, pageSize=4, cursor=first.json()["cursor"])
        assert ids(first.json()["entities"]) == ids(TEN[:4])
        assert other[kind].status_code == 200
        assert "cursor" not in other[kind].text

    told = {kind: answer.json() for kind, answer in other.items() if kind != "latin"}
    assert told["bare"] == {"id": query, "pageSize": 4}
    assert told["null"]["entities"] is None
    assert told["state"]["state"] == "Succeeded"
    assert (told["error"]["id"], told["error"]["status"]) == (query, 500)
    assert told["values"]["entities"] == ["a", "b", None]
    assert told["other"]["id"] != query
    assert told["realtime"].keys() > {"pageNumber", "total"}
    assert told["twice"]["entities"] == []
    assert other["twice"].text.count('"entities"') == 2
    with pytest.raises(UnicodeDecodeError):
        other["latin"].content.decode()


def test_something_else_stands_there_now_and_then(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(no_page_every=2, no_page_is="values")
    query = reader.created()

    found = [reader.page(query).json()["entities"] for _ in range(4)]

    assert found == [TEN, ["a", "b", None]] * 2


def test_the_cursors_of_a_query_expire(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(expire_cursor_every=2)
    queries = [reader.created() for _ in range(2)]
    cursors = [reader.page(query, pageSize=4).json()["cursor"] for query in queries]

    answers = [reader.page(q, cursor=c) for q, c in zip(queries, cursors, strict=True)]

    assert [answer.status_code for answer in answers] == [200, 400]


def test_pages_overlap(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(overlap=2)

    pages = reader.pages(reader.created(), pageSize=4)

    assert [ids(page) for page in pages] == [
        ids(TEN[:4]),
        ids(TEN[2:6]),
        ids(TEN[4:8]),
        ids(TEN[6:10]),
    ]


def test_results_are_in_no_order(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(shuffle=True)

    found = [audit for page in reader.pages(reader.created(), pageSize=4) for audit in page]

    assert ids(found) != ids(TEN)
    assert sorted(ids(found)) == ids(TEN)


def test_the_url_of_a_download_has_expired(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(redirect_over=1, expire_download_every=2)
    query = reader.created()
    links = [reader.page(query, allowRedirect="true").json()["downloadUrl"] for _ in range(2)]

    assert [requests.get(link, timeout=9).status_code for link in links] == [200, 403]


def test_large_pages_are_refused(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(too_large_over=4)
    query = reader.created()

    refused = reader.page(query, pageSize=5)

    assert (refused.status_code, refused.json()["code"]) == (400, wire.TOO_LARGE_CODE)
    assert ids(reader.page(query, pageSize=4).json()["entities"]) == ids(TEN[:4])
    body = {"interval": interval(), "pageSize": 5}
    assert reader.post(wire.REALTIME_PATH, body).json()["code"] == wire.TOO_LARGE_CODE


@pytest.mark.parametrize("status", [413, 500, 502, 503, 504])
def test_a_gateway_lets_no_large_page_pass(
    reader: Reader, simulator: Simulator, status: int
) -> None:
    simulator.faults = Faults(gateway_over=4, gateway_status=status)
    query = reader.created()

    refused = reader.page(query, pageSize=5)

    assert (refused.status_code, refused.text[:6]) == (status, "<html>")
    assert ids(reader.page(query, pageSize=4).json()["entities"]) == ids(TEN[:4])
    body = {"interval": interval(), "pageSize": 5}
    assert reader.post(wire.REALTIME_PATH, body).status_code == status


def test_waits_are_told_otherwise_than_they_are(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(quota=1, retry_after=90, retry_after_told=1, reset_told=900_000_000)

    assert _told(reader, 2) == [200, 429]
    answer = reader.get(wire.SERVICE_MAPPING_PATH)
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers[wire.RATE_RESET_HEADER] == "900000000"


def test_an_interval_may_include_its_end(reader: Reader, simulator: Simulator) -> None:
    hours = {"interval": interval(NOW - timedelta(hours=20), NOW - timedelta(hours=18))}

    assert reader.audits(**hours) == TEN[:2]
    simulator.faults = Faults(include_interval_end=True)
    assert reader.audits(**hours) == TEN[:3]
    simulator.faults = Faults(include_interval_end=True, exclude_interval_start=True)
    assert reader.audits(**hours) == TEN[1:3]


def test_audits_arrive_late_and_are_forgotten(reader: Reader, simulator: Simulator) -> None:
    clock = cast("HandClock", simulator.clock)
    simulator.faults = Faults(late_every=2, late_hours=240)
    before = reader.audits()
    clock.move(hours=240)
    reader.sign_in()

    assert before == TEN[::2]
    assert reader.audits() == TEN
    simulator.faults = Faults(forget_days=10)
    assert reader.audits() == []
    clock.move(hours=-15)
    assert reader.audits() == TEN[5:]


def test_clocks_disagree(reader: Reader, simulator: Simulator) -> None:
    for seconds, told in ((240, "12:04:00"), (-240, "11:56:00")):
        simulator.faults = Faults(clock_ahead=seconds)
        assert told in reader.get(wire.SERVICE_MAPPING_PATH).headers["Date"]


def test_an_id_is_shown_twice_with_different_content(reader: Reader, simulator: Simulator) -> None:
    simulator.faults = Faults(twin_every=5)

    found = reader.audits()

    assert found[:10] == TEN
    assert ids(found[10:]) == ids(TEN[4::5])
    assert {audit["action"] for audit in found[10:]} == {"Twin"}


def shown(reader: Reader) -> list[dict[str, Any]]:
    """The ten audits, one after the other, whatever their ids and times look like."""
    return [record for page in reader.pages(reader.created(), expand="user") for record in page]


def test_audits_are_odd_in_every_way_and_each_time_the_same(
    reader: Reader, simulator: Simulator
) -> None:
    seen = {}
    for name in (
        "huge_every",
        "odd_text_every",
        "absent_every",
        "null_every",
        "odd_type_every",
        "unknown_every",
        "unusable_every",
    ):
        simulator.faults = Faults.parse([f"{name}=2"])
        seen[name] = shown(reader)
        assert shown(reader) == seen[name]
        assert seen[name][::2] == TEN[::2]
        assert all(odd != plain for odd, plain in zip(seen[name][1::2], TEN[1::2], strict=True))
        assert [r for [r] in map(json_of, simulator.truth(START, NOW))] == seen[name]

    assert all(len(json.dumps(odd)) > 1_000_000 for odd in seen["huge_every"][1::2])
    texts = "".join(map(str, seen["odd_text_every"][1::2]))
    assert all(repr(odd)[1:-1] in texts for odd in ("\x00", "\ud83d", "\u202e"))
    assert all(odd.keys() < TEN[0].keys() for odd in seen["absent_every"][1::2])
    assert all(None in odd.values() for odd in seen["null_every"][1::2])
    assert all("futureMember" in odd for odd in seen["unknown_every"][1::2])
    assert all(
        not isinstance(odd["id"], str) or len(odd["id"]) < 2 or len(str(odd["eventDate"])) < 10
        for odd in seen["unusable_every"][1::2]
    )


def json_of(forms: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(form) for form in forms]


def test_faults_are_read_from_texts() -> None:
    texts = ["fail_query_every=3", "deny-permission", "forbidden_service=Quality"]

    assert Faults.parse(texts) == Faults(
        fail_query_every=3, deny_permission=True, forbidden_service="Quality"
    )
    assert Faults.parse([]) == Faults()
    assert Faults.parse(["clock_ahead=-240"]) == Faults(clock_ahead=-240)
    assert Faults.parse(["deny_permission=no", "retry_after_unsaid=TRUE"]) == Faults(
        retry_after_unsaid=True
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fail_querry_every=3", "there is no fault 'fail_querry_every': did you mean fail_query_e"),
        ("xyz", "there is no fault 'xyz': known are seed, token_dies_after, "),
        ("fail_query_every=often", "takes a number of 0 or more: write fail_query_every=3"),
        ("fail_query_every=-1", "takes a number of 0 or more"),
        ("server_error_status=404", "takes 500, 502, 503 or 504"),
        ("gateway_status=404", "takes 413, 500, 502, 503 or 504"),
        ("no_page_is=odd", "takes one of bare, null, state, "),
        ("deny_permission=3", "is a switch: write deny_permission=true or deny_permission=false"),
    ],
)
def test_a_fault_that_is_unknown_is_refused_with_the_nearest(text: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        Faults.parse([text])

    assert says in str(caught.value)


def test_every_fault_is_told_of_in_the_help_of_simulate() -> None:
    shown = " ".join(CliRunner().invoke(audit_etl, ["simulate", "--help"]).output.split())

    assert [fault.name for fault in descriptions()] == [field.name for field in fields(Faults)]
    for fault in descriptions():
        assert f"{fault.name} {fault.does}" in shown
