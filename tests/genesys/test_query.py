"""Queries from the question to the last page, against an organisation that is not always kind."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from etl.errors import (
    AuditEtlError,
    ConfigurationError,
    NotPermitted,
    QueryFailed,
    RateLimited,
    SourceBrokePromise,
    SourceUnavailable,
    Stopped,
    WindowTooLong,
)
from etl.genesys.client.failures import Refused
from etl.genesys.client.retries import Patience
from etl.genesys.query import AuditSource
from etl.model import ServiceAction
from etl.records import Page
from etl.source import Asked
from etl.window import Window
from tests.support.scripted_server import (
    QUICK,
    Organization,
    Reply,
    Time,
    connected,
    error,
    organization,
)

MAY_1 = Window(datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC))
CREATE = "POST /api/v2/audits/query"
POLL = "GET /api/v2/audits/query/q1"
RESULTS = "GET /api/v2/audits/query/q1/results"
DONE = Asked(MAY_1, "q1", "Succeeded")


@pytest.fixture
def server() -> Iterator[Organization]:
    with organization() as server:
        yield server


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def source(server: Organization, time: Time) -> Iterator[AuditSource]:
    with connected(server, time) as api:
        yield AuditSource(api, expand_user=True, allow_redirect=False)


def state(name: str, status: int = 200) -> Reply:
    return Reply(status, {"id": "q1", "state": name})


def page(*names: str, **members: Any) -> Reply:
    return Reply(body={"id": "q1", "entities": [{"id": name} for name in names], **members})


def ids(pages: Iterator[Page]) -> list[list[str]]:
    """The ids of the audits of each page."""
    return [[json.loads(record)["id"] for record in page.records] for page in pages]


def failing(source: AuditSource, asked: Asked = DONE) -> AuditEtlError:
    with pytest.raises(AuditEtlError) as caught:
        list(source.pages(asked))
    return caught.value


# asking


def test_a_query_asks_for_all_services_oldest_first_without_filters(
    source: AuditSource, server: Organization
) -> None:
    server.script(CREATE, state("Queued"))

    asked = source.ask(MAY_1, None)

    assert asked == Asked(MAY_1, "q1", "Queued")
    assert json.loads(server.seen[1].body) == {
        "interval": "2026-05-01T00:00:00Z/2026-05-02T00:00:00Z",
        "sort": [{"name": "Timestamp", "sortOrder": "ascending"}],
    }
    assert server.seen[1].headers["Content-Type"] == "application/json"


def test_a_query_of_one_service_names_it(source: AuditSource, server: Organization) -> None:
    server.script(CREATE, state("Running", status=202))

    asked = source.ask(MAY_1, "Quality")

    assert asked.state == "Running"
    assert json.loads(server.seen[1].body)["serviceName"] == "Quality"


def test_a_lost_answer_to_a_query_is_asked_for_again(
    source: AuditSource, server: Organization, time: Time
) -> None:
    server.script(CREATE, Reply(body={}, cut=1), Reply(504), state("Queued"))

    source.ask(MAY_1, None)

    assert server.lines == [CREATE] * 3
    assert [json.loads(s.body) for s in server.seen[1:]] == [json.loads(server.seen[1].body)] * 3


@pytest.mark.parametrize(
    "message",
    [
        "Value [quality] is not valid for field type [serviceName]. Allowable values are: ...",
        "unknown service name",
        "quality is nothing that we know",
    ],
)
def test_a_service_that_the_organisation_does_not_know_is_a_wrong_setting(
    source: AuditSource, server: Organization, message: str
) -> None:
    server.script(CREATE, error(400, "invalid.value", message))

    with pytest.raises(ConfigurationError, match=r"'quality' in organizations\.acme\.services"):
        source.ask(MAY_1, "quality")


def test_an_organisation_that_wants_a_service_named_is_told_as_a_setting(
    source: AuditSource, server: Organization
) -> None:
    server.script(CREATE, error(400, "bad.request", "serviceName must not be null"))

    with pytest.raises(ConfigurationError, match=r"name services in organizations\.acme\.services"):
        source.ask(MAY_1, None)


@pytest.mark.parametrize("days", ["31", "7"])
def test_an_interval_that_is_too_long_is_told_from_other_refusals(
    source: AuditSource, server: Organization, days: str
) -> None:
    text = f"You must specify a search interval as part of your query that does not exceed {days} "
    text += "days."
    server.script(
        CREATE, error(400, "bad.request", text), error(400, "bad.request", "No such sort")
    )

    with pytest.raises(WindowTooLong, match=rf"exceed {days} days.*in halves"):
        source.ask(MAY_1, None)
    with pytest.raises(Refused):
        source.ask(MAY_1, None)


def test_any_other_400_is_told_in_the_vendor_s_words(
    source: AuditSource, server: Organization
) -> None:
    words = "You must specify a search interval as part of your query"
    server.script(CREATE, error(400, "bad.request", words))

    with pytest.raises(SourceBrokePromise, match=words):
        source.ask(MAY_1, "Query")


@pytest.mark.parametrize(
    "body", [{}, {"id": "q1"}, {"state": "Queued"}, {"id": "", "state": "Queued"},
             {"id": "..", "state": "Queued"}, {"id": "x" * 256, "state": "Queued"},
             {"id": 7, "state": "Queued"}, []]
)  # fmt: skip
def test_a_query_without_an_id_or_a_state_breaks_the_contract(
    source: AuditSource, server: Organization, body: object
) -> None:
    server.script(CREATE, *[Reply(body=body)] * 3)

    with pytest.raises(SourceBrokePromise, match="not as documented"):
        source.ask(MAY_1, None)


# waiting


def test_a_query_that_has_succeeded_at_once_is_not_polled(
    source: AuditSource, server: Organization, time: Time
) -> None:
    server.script(CREATE, state("Succeeded")).script(RESULTS, page("a"))

    assert ids(source.pages(source.ask(MAY_1, None))) == [["a"]]
    assert (len(server.lines), time.pauses) == (2, [])


@pytest.mark.parametrize("status", [200, 202])
def test_polls_grow_apart(
    source: AuditSource, server: Organization, time: Time, status: int
) -> None:
    server.script(POLL, *[state("Running", status)] * 9, state("Succeeded"))
    server.script(RESULTS, page())

    list(source.pages(Asked(MAY_1, "q1", "Queued")))

    assert time.pauses[:4] == [0.5, 0.75, 1.125, 1.6875]
    assert time.pauses[-2:] == [10.0, 10.0]


def test_the_first_poll_comes_when_earlier_queries_were_ready(
    source: AuditSource, server: Organization, time: Time
) -> None:
    server.script(POLL, *[state("Running")] * 6, *[state("Succeeded")] * 3)
    server.script(RESULTS, page(), page(), page())
    asked = Asked(MAY_1, "q1", "Queued")

    list(source.pages(asked))
    took = sum(time.pauses)
    list(source.pages(asked))
    second = time.pauses[7:]
    list(source.pages(asked))

    assert second == [pytest.approx(0.95 * took)]
    assert time.pauses[8:] == [pytest.approx(0.95 * (took + 0.95 * took) / 2)]


def test_what_queries_took_is_told_once_and_then_seen(
    source: AuditSource, server: Organization, time: Time
) -> None:
    server.script(POLL, *[state("Running"), state("Succeeded")] * 2)
    server.script(RESULTS, page(), page())
    source.expect(20.0)

    list(source.pages(Asked(MAY_1, "q1", "Queued")))
    took = sum(time.pauses)
    first, polls = time.pauses[0], len(time.pauses)
    source.expect(1.0)
    list(source.pages(Asked(MAY_1, "q1", "Queued")))

    assert first == pytest.approx(0.95 * 20)
    assert time.pauses[polls] == pytest.approx(0.95 * (20 + took) / 2)


def test_a_first_poll_is_not_put_off_for_longer_than_a_minute() -> None:
    pauses = Patience().poll_pauses(1000.0)

    assert [next(pauses) for _ in range(3)] == [60.0, 10.0, 10.0]


def test_a_query_that_never_ends_is_given_up_after_half_an_hour_of_waiting(
    source: AuditSource, server: Organization, time: Time
) -> None:
    server.script(POLL, *[state("Running")] * 300)

    caught = failing(source, Asked(MAY_1, "q1", "Queued"))

    assert isinstance(caught, QueryFailed)
    assert "'Running' after 18" in str(caught)
    assert 1800 <= sum(time.pauses) < 1810


def test_an_unknown_state_is_not_an_end(
    source: AuditSource, server: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    server.script(POLL, state("Reticulating"), state("Reticulating"), state("Succeeded"))
    server.script(RESULTS, page("a"))

    assert ids(source.pages(Asked(MAY_1, "q1", "Dreaming"))) == [["a"]]
    assert caplog.text.count("unknown state 'Reticulating'") == 1


def test_an_unknown_state_that_stays_is_named_at_the_end(server: Organization, time: Time) -> None:
    server.script(POLL, *[state("Reticulating")] * 9)
    with connected(server, time, Patience(poll_seconds=2)) as api:
        source = AuditSource(api, expand_user=True, allow_redirect=False)

        caught = failing(source, Asked(MAY_1, "q1", "Queued"))

    assert isinstance(caught, QueryFailed)
    assert "'Reticulating'" in str(caught)


@pytest.mark.promise("M4")
@pytest.mark.parametrize("end", ["Failed", "Cancelled"])
def test_a_query_that_failed_is_not_an_empty_one(
    source: AuditSource, server: Organization, end: str
) -> None:
    server.script(POLL, state(end))

    later = failing(source, Asked(MAY_1, "q1", "Queued"))
    at_once = failing(source, Asked(MAY_1, "q1", end))

    assert [type(e) for e in (later, at_once)] == [QueryFailed] * 2
    assert f"ended as {end}" in str(later)
    assert server.lines == [POLL]


def test_a_query_that_is_gone_has_failed(source: AuditSource, server: Organization) -> None:
    server.script(POLL, error(404, "not.found"))

    assert isinstance(failing(source, Asked(MAY_1, "q1", "Queued")), QueryFailed)


def test_a_signal_stops_the_waiting(server: Organization) -> None:
    time = Time(stop_at=2)
    server.script(POLL, *[state("Running")] * 5)
    with connected(server, time) as api:
        source = AuditSource(api, expand_user=True, allow_redirect=False)

        caught = failing(source, Asked(MAY_1, "q1", "Queued"))

    assert isinstance(caught, Stopped)
    assert server.lines == [POLL]


def test_a_query_s_id_is_one_part_of_the_path(source: AuditSource, server: Organization) -> None:
    failed = Reply(body={"id": "a/..?b ü", "state": "Failed"})
    server.script("GET /api/v2/audits/query/a%2F..%3Fb%20%C3%BC", failed)

    failing(source, Asked(MAY_1, "a/..?b ü", "Queued"))

    assert server.lines == ["GET /api/v2/audits/query/a%2F..%3Fb%20%C3%BC"]


# paging


@pytest.mark.promise("M4")
def test_pages_are_read_to_the_last_cursor(source: AuditSource, server: Organization) -> None:
    server.script(RESULTS, page("a", "b", cursor="x&y +/="), page("c", cursor="2"), page("d"))

    assert ids(source.pages(DONE)) == [["a", "b"], ["c"], ["d"]]
    assert [s.query for s in server.seen[1:]] == [
        {"pageSize": "500", "expand": "user"},
        {"pageSize": "500", "cursor": "x&y +/=", "expand": "user"},
        {"pageSize": "500", "cursor": "2", "expand": "user"},
    ]
    assert "cursor=x%26y%20%2B%2F%3D" in server.lines[1]


@pytest.mark.parametrize("last", [{}, {"cursor": None}, {"cursor": ""}])
def test_a_cursor_that_is_absent_null_or_empty_ends_the_query(
    source: AuditSource, server: Organization, last: dict[str, Any]
) -> None:
    server.script(RESULTS, page("a", **last))

    assert ids(source.pages(DONE)) == [["a"]]


def test_an_empty_page_with_a_cursor_goes_on(source: AuditSource, server: Organization) -> None:
    server.script(RESULTS, page("a", cursor="1"), page(cursor="2"), page("b"))

    assert ids(source.pages(DONE)) == [["a"], [], ["b"]]


@pytest.mark.parametrize("cursors", ["11", "121", "1231"])
def test_a_cursor_that_comes_again_is_an_error(
    source: AuditSource, server: Organization, cursors: str
) -> None:
    server.script(RESULTS, *[page("a", cursor=cursor) for cursor in cursors])

    caught = failing(source)

    assert isinstance(caught, SourceBrokePromise)
    assert "same cursor twice" in str(caught)


def test_a_cursor_that_is_no_unicode_text_is_sent_back(
    source: AuditSource, server: Organization
) -> None:
    odd = Reply(body=b'{"entities": [], "cursor": "\\ud800"}')
    server.script(RESULTS, odd, page("a"))

    assert ids(source.pages(DONE)) == [[], ["a"]]
    assert "cursor=%ED%A0%80" in server.lines[1]


def test_users_are_expanded_only_if_asked_for(server: Organization, time: Time) -> None:
    server.script(RESULTS, page())
    with connected(server, time) as api:
        list(AuditSource(api, expand_user=False, allow_redirect=True).pages(DONE))

    assert server.seen[1].query == {"pageSize": "500", "allowRedirect": "true"}


def test_a_page_that_is_too_large_is_halved_and_stays_so(
    source: AuditSource, server: Organization
) -> None:
    large = error(400, "response.entity.too.large")
    server.script(RESULTS, page("a", cursor="1"), large, large, page("b", cursor="2"), page("c"))

    assert ids(source.pages(DONE)) == [["a"], ["b"], ["c"]]
    assert [(s.query["pageSize"], s.query.get("cursor")) for s in server.seen[1:]] == [
        ("500", None),
        ("500", "1"),
        ("250", "1"),
        ("125", "1"),
        ("125", "2"),
    ]


def test_the_next_query_starts_with_large_pages_again(
    source: AuditSource, server: Organization
) -> None:
    server.script(RESULTS, error(400, "response.entity.too.large"), page(), page())

    list(source.pages(DONE))
    list(source.pages(DONE))

    assert [s.query["pageSize"] for s in server.seen[1:]] == ["500", "250", "500"]


def test_one_audit_that_is_too_large_is_told_as_such(
    source: AuditSource, server: Organization
) -> None:
    server.script(RESULTS, *[error(400, "response.entity.too.large")] * 20)

    caught = failing(source)

    assert isinstance(caught, SourceBrokePromise)
    assert "expand_user = false" in str(caught)
    assert [s.query["pageSize"] for s in server.seen[1:]] == [
        "500", "250", "125", "62", "31", "25", "12", "6", "3", "1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "expired", [error(404, "not.found"), error(410, "gone"), error(400, "bad.request", "cursor")]
)
def test_results_that_expire_while_they_are_read_are_a_failed_query(
    source: AuditSource, server: Organization, expired: Reply
) -> None:
    server.script(RESULTS, page("a", cursor="1"), expired)
    pages = source.pages(DONE)
    first = next(pages)

    with pytest.raises(QueryFailed, match="can be read no further"):
        next(pages)

    assert first.records == (b'{"id": "a"}',)


def test_a_400_to_the_first_page_is_no_expiry(source: AuditSource, server: Organization) -> None:
    server.script(RESULTS, error(400, "bad.request", "never"))

    assert type(failing(source)) is Refused


@pytest.mark.promise("M4")
@pytest.mark.parametrize(
    ("reply", "error_type"),
    [
        (error(403, "missing.permissions"), NotPermitted),
        (error(429, "too.many.requests", Retry_After="900"), RateLimited),
        (Reply(body={"message": "no page"}), SourceBrokePromise),
        (Reply(body={"entities": 3}), SourceBrokePromise),
        (page("a", downloadUrl="https://x.invalid/"), SourceBrokePromise),
        (Reply(302, {"downloadUrl": "https://x.invalid/"}), SourceBrokePromise),
        (error(500, "internal.server.error"), SourceUnavailable),
    ],
)
def test_an_error_in_mid_query_is_never_an_end(
    source: AuditSource, server: Organization, reply: Reply, error_type: type[AuditEtlError]
) -> None:
    server.script(RESULTS, page("a", cursor="1"), *[reply] * 3)
    pages = source.pages(DONE)
    next(pages)

    with pytest.raises(error_type):
        next(pages)


def test_a_401_in_mid_query_costs_one_token_and_no_page(
    source: AuditSource, server: Organization
) -> None:
    server.script(RESULTS, page("a", cursor="1"), error(401, "bad.credentials"), page("b"))

    assert ids(source.pages(DONE)) == [["a"], ["b"]]
    assert server.tokens == 2


def test_a_page_cut_short_is_read_again_as_a_whole(
    source: AuditSource, server: Organization
) -> None:
    server.script(RESULTS, Reply(body=page("a", "b").body, cut=30), page("a", "b"))

    assert ids(source.pages(DONE)) == [["a", "b"]]


# what a progress display reads


def test_requests_and_budget_are_told(server: Organization, time: Time) -> None:
    left = {
        "inin-ratelimit-allowed": "300",
        "inin-ratelimit-count": "3",
        "inin-ratelimit-reset": "9",
    }
    server.script(RESULTS, Reply(body=page("a").body, headers=left))
    with connected(server, time) as api:
        source = AuditSource(api, expand_user=True, allow_redirect=False)
        before = (source.requests, source.requests_left, source.clock_skew)
        source.sign_in()
        list(source.pages(DONE))

        assert before == (0, None, None)
        assert (source.requests, source.requests_left, source.seconds_waited) == (2, 297, 0.0)
        assert source.clock_skew is None


# the other operations


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"organization": {"id": "o1"}, "homeOrganization": {"id": "o2"}}, "o1"),
        ({"organization": {"id": " "}, "homeOrganization": {"id": "o2"}}, "o2"),
        ({"organization": None, "homeOrganization": {"id": "o2"}}, "o2"),
        ({"organization": {"id": "token-number-1"}}, None),
        ({"organization": {"id": "o" * 256}}, None),
        ({"organization": {"id": "o\n"}}, "o"),
        ({"organization": {"id": "o\x00p"}}, None),
        ({"organization": {"id": 7}}, None),
        ({"organization": ["o1"]}, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_organisation_s_id_is_read_where_it_is_one(
    source: AuditSource, server: Organization, body: object, found: str | None
) -> None:
    server.script("GET /api/v2/tokens/me", Reply(body=body))

    assert source.organization_id() == found


def test_the_service_mapping_is_flat(source: AuditSource, server: Organization) -> None:
    mapping = {
        "services": [
            {"name": "Quality", "entities": [{"name": "Form", "actions": ["Create", "Delete"]}]},
            {"name": "New", "entities": None},
            {"name": "Newer", "entities": [{"name": "Thing"}, None], "more": 1},
            None,
        ]
    }
    server.script("GET /api/v2/audits/query/servicemapping", Reply(body=mapping))
    server.script("GET /api/v2/audits/query/realtime/servicemapping", Reply(body={"services": []}))

    assert source.service_mapping() == [
        ServiceAction("Quality", "Form", "Create"),
        ServiceAction("Quality", "Form", "Delete"),
        ServiceAction("New", "", ""),
        ServiceAction("Newer", "Thing", ""),
    ]
    assert source.realtime_service_mapping() == []


def test_the_realtime_query_has_its_paging_in_the_body(server: Organization, time: Time) -> None:
    answer = {"entities": [{"id": "a"}], "pageNumber": 2, "pageSize": 1, "total": 3, "pageCount": 3}
    server.script("POST /api/v2/audits/query/realtime", Reply(body=answer))
    with connected(server, time) as api:
        found = api.realtime(
            MAY_1, "Quality", page_number=2, page_size=lambda _: 1, expand_user=True
        )

    assert found == (Page((b'{"id": "a"}',)), 3)
    assert server.seen[1].query == {"expand": "user"}
    assert json.loads(server.seen[1].body) == {
        "interval": str(MAY_1),
        "serviceName": "Quality",
        "sort": [{"name": "Timestamp", "sortOrder": "ascending"}],
        "pageNumber": 2,
        "pageSize": 1,
    }


def test_related_audits_are_asked_for_by_id(server: Organization, time: Time) -> None:
    operation = "POST /api/v2/audits/query/realtime/related"
    server.script(operation, page("a", "b"), page())
    with connected(server, time) as api:
        found = api.related("a")
        api.related("a", expand_user=True)

    assert found.records == (b'{"id": "a"}', b'{"id": "b"}')
    assert [json.loads(s.body) for s in server.seen[1:]] == [{"auditId": "a"}] * 2
    assert server.lines == [operation, f"{operation}?expand=user"]


def test_no_message_holds_an_id_or_a_query_of_a_url(
    source: AuditSource, server: Organization
) -> None:
    server.script(RESULTS, page("a", cursor="secret-cursor"), error(409, "request.conflict"))

    message = str(failing(source))

    assert "GET /api/v2/audits/query/{id}/results answered 409" in message
    assert not re.search(r"secret-cursor|\?", message)


def test_patience_in_these_tests_is_the_default_but_for_timeouts() -> None:
    assert QUICK.poll_seconds == Patience().poll_seconds == 1800.0


def test_a_query_whose_id_is_our_token_is_no_query(
    source: AuditSource, server: Organization
) -> None:
    server.script(CREATE, *[Reply(body={"id": "token-number-1", "state": "Queued"})] * 3)

    with pytest.raises(SourceBrokePromise, match="a secret of ours") as caught:
        source.ask(MAY_1, None)

    assert "token-number-1" not in str(caught.value)
