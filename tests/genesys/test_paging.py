"""The pages of one query: an end that is none, pages too large to pass, and pages without end."""

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from etl.errors import AuditEtlError, SourceBrokePromise, SourceUnavailable
from etl.genesys import paging
from etl.genesys.client.retries import Patience
from etl.genesys.paging import PageSequence, PageSize
from etl.genesys.query import AuditSource
from etl.source import Asked
from tests.support.samples import hours
from tests.support.scripted_server import (
    Organization,
    Reply,
    Seen,
    Time,
    connected,
    error,
    organization,
)

POLL = "GET /api/v2/audits/query/q1"
RESULTS = "GET /api/v2/audits/query/q1/results"
DONE = Asked(hours(0, 1), "q1", "Succeeded")
HTML = b"<html><body><h1>Gateway</h1></body></html>"


class Archive(Organization):
    """A host with the pages of a query of so many audits, which a gateway may keep back.

    Attributes:
        count: audits of the query.
        passes: the largest page that the gateway lets pass.
        gateway: what it answers in the place of others.
        asked: the size of each page that was asked for.
    """

    count = 0
    passes = 500
    gateway = Reply(504, HTML)

    def reply_to(self, seen: Seen) -> Reply:
        usual = super().reply_to(seen)
        if not seen.line.startswith(RESULTS) or usual.status != 418:
            return usual
        size = int(seen.query["pageSize"])
        if size > self.passes:
            return self.gateway
        first = int(seen.query.get("cursor", 0))
        last = min(first + size, self.count)
        more = {"cursor": str(last)} if last < self.count else {}
        return Reply(body={"id": "q1", "entities": [{"id": n} for n in range(first, last)]} | more)

    @property
    def asked(self) -> list[int]:
        return [int(s.query["pageSize"]) for s in self.seen if s.line.startswith(RESULTS)]


@pytest.fixture
def server() -> Iterator[Organization]:
    with organization() as server:
        yield server


@pytest.fixture
def archive() -> Iterator[Archive]:
    server = Archive()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def source(server: Organization, time: Time) -> Iterator[AuditSource]:
    with connected(server, time) as api:
        yield AuditSource(api, expand_user=True, allow_redirect=False)


def page(*names: str, **members: Any) -> Reply:
    return Reply(body={"id": "q1", "entities": [{"id": name} for name in names], **members})


def read(source: AuditSource) -> list[Any]:
    return [json.loads(r)["id"] for page in source.pages(DONE) for r in page.records]


def failing(source: AuditSource) -> AuditEtlError:
    with pytest.raises(AuditEtlError) as caught:
        list(source.pages(DONE))
    return caught.value


# an end that is none

#: What is no page of the query `q1` after its first.
NO_PAGES: list[Any] = [
    {"id": "q1", "pageSize": 500},
    {"id": "q1", "pageSize": 500, "entities": None},
    {"id": "q1", "state": "Succeeded"},
    {"id": "q1", "message": "oops", "code": "internal.server.error", "status": 500},
    {"id": "another", "pageSize": 500, "entities": [{"id": "x"}]},
    {"entities": [{"id": "x"}], "pageNumber": 1, "pageSize": 500, "total": 1, "pageCount": 1},
    {"id": "q1", "entities": ["x", None]},
    {"id": "q1", "entities": [{"id": "x"}], "cursor": 7},
    b'{"id":"q1","entities":[{"id":"x"}],"entities":[]}',
    b'{"id":"q1","entities":[{"id":"\xff"}]}',
]


@pytest.mark.parametrize("body", NO_PAGES, ids=str)
def test_what_is_no_page_is_asked_for_again(
    source: AuditSource, server: Organization, body: Any
) -> None:
    server.script(RESULTS, page("a", cursor="1"), Reply(body=body), Reply(body=body), page("b"))

    assert read(source) == ["a", "b"]


@pytest.mark.promise("M4")
@pytest.mark.parametrize("body", NO_PAGES, ids=str)
def test_what_is_never_a_page_breaks_the_contract(
    source: AuditSource, server: Organization, body: Any
) -> None:
    server.script(RESULTS, page("a", cursor="1"), *[Reply(body=body)] * 3)

    caught = failing(source)

    assert isinstance(caught, SourceBrokePromise)
    assert "its body is not as documented" in str(caught)
    assert len(server.lines) == 4


@pytest.mark.parametrize("size", [20, 60])
def test_a_page_whose_gzip_ends_too_early_is_asked_for_again(
    source: AuditSource, server: Organization, size: int
) -> None:
    whole = gzip.compress(page(*map(str, range(9))).payload)
    cut = Reply(body=whole[:size], headers={"Content-Encoding": "gzip"})
    server.script(RESULTS, page("a", cursor="1"), cut, page("b"))

    assert read(source) == ["a", "b"]
    assert len(server.lines) == 3


BARE = Reply(body={"id": "q1", "pageSize": 500})


def test_a_first_page_without_a_list_is_an_empty_result_if_it_comes_twice(
    source: AuditSource, server: Organization
) -> None:
    server.script(RESULTS, BARE, BARE)

    assert read(source) == []
    assert len(server.lines) == 2


def test_a_first_page_that_lost_its_list_once_costs_no_audit(
    source: AuditSource, server: Organization
) -> None:
    server.script(RESULTS, BARE, page("a", cursor="1"), page("b"))

    assert read(source) == ["a", "b"]


def test_an_empty_page_that_ends_a_query_of_many_is_looked_at_twice(
    source: AuditSource, server: Organization
) -> None:
    server.script(RESULTS, page("a", cursor="1"), page(), page("b", cursor="2"), page(), page())

    assert read(source) == ["a", "b"]
    assert len(server.lines) == 5


def test_an_empty_first_page_ends_a_query_at_once(
    source: AuditSource, server: Organization
) -> None:
    server.script(RESULTS, page())

    assert read(source) == []


@pytest.mark.parametrize(
    "body", [{"id": "another", "state": "Succeeded"}, {"id": "q1"}, {"id": "q1", "state": None},
             {"id": "q1", "entities": []}, {"id": 1, "state": "Succeeded"}]
)  # fmt: skip
def test_a_poll_that_tells_of_something_else_is_asked_again_and_then_breaks_the_contract(
    source: AuditSource, server: Organization, body: object
) -> None:
    queued = Asked(DONE.window, "q1", "Queued")
    done = Reply(body={"id": "q1", "state": "Succeeded"})
    server.script(POLL, Reply(body=body), Reply(body=body), done).script(RESULTS, page("a"))

    assert [p.records for p in source.pages(queued)] == [(b'{"id": "a"}',)]

    server.script(POLL, *[Reply(body=body)] * 3)
    with pytest.raises(SourceBrokePromise, match="not as documented"):
        list(source.pages(queued))


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"services": None},
        {"message": "oops", "code": "x", "status": 500},
        {"services": {}},
    ],
    ids=str,
)
@pytest.mark.parametrize("which", ["servicemapping", "realtime/servicemapping"])
def test_a_service_mapping_without_its_list_is_none(
    source: AuditSource, server: Organization, which: str, body: object
) -> None:
    server.script(f"GET /api/v2/audits/query/{which}", *[Reply(body=body)] * 3)

    with pytest.raises(SourceBrokePromise, match="not as documented"):
        source.service_mapping() if which == "servicemapping" else source.recent.services()


# pages too large to pass


@pytest.mark.parametrize(
    "gateway",
    [
        *(Reply(status, HTML) for status in (408, 500, 502, 503, 504, 524)),
        error(504, "request.timeout"),
        error(500, "internal.server.error"),
        Reply(body={"id": "q1", "entities": []}, cut=9),
        Reply(body={"id": "q1", "entities": []}, cut=0),
        Reply(body=b'{"id":"q1","entities":[{"id":1},'),
        Reply(silent=True),
    ],
    ids=["408", "500", "502", "503", "504", "524", "JSON 504", "JSON 500", "broken off", "closed",
         "truncated", "silent"],
)  # fmt: skip
def test_a_page_that_no_gateway_lets_pass_shrinks_for_that_query(
    archive: Archive, time: Time, gateway: Reply
) -> None:
    archive.count, archive.passes, archive.gateway = 600, 130, gateway
    patience = Patience(connect_seconds=10, read_seconds=1 if gateway.silent else 30)
    with connected(archive, time, patience) as api:
        source = AuditSource(api, expand_user=True, allow_redirect=False)
        archive.script(POLL, Reply(body={"id": "q1", "state": "Succeeded"}))
        found = [
            json.loads(record)["id"]
            for page in source.pages(Asked(DONE.window, "q1", "Queued"))
            for record in page.records
        ]

    assert found == list(range(600))
    assert archive.asked == [500, 500, 1, 250, 250, 1, *[125] * 5]


@pytest.mark.parametrize(
    ("passes", "size"), [(499, 250), (250, 250), (26, 25), (25, 25), (24, 12), (2, 1), (1, 1)]
)
def test_a_page_shrinks_as_far_as_it_takes(
    archive: Archive, time: Time, caplog: pytest.LogCaptureFixture, passes: int, size: int
) -> None:
    archive.count, archive.passes = 40, passes
    with connected(archive, time) as api:
        found = read(AuditSource(api, expand_user=True, allow_redirect=False))

    assert found == list(range(40))
    assert archive.asked[-1] == size
    assert f"is read in pages of {size} from here" in caplog.text


@pytest.mark.parametrize("body", [HTML, b"", b'{"code":"response.entity.too.large"}'])
def test_a_413_shrinks_the_page_at_once(archive: Archive, time: Time, body: bytes) -> None:
    archive.count, archive.passes, archive.gateway = 300, 130, Reply(413, body)
    with connected(archive, time) as api:
        found = read(AuditSource(api, expand_user=True, allow_redirect=False))

    assert found == list(range(300))
    assert archive.asked == [500, 250, 125, 125, 125]
    assert time.pauses == []


def test_a_single_blip_shrinks_nothing(archive: Archive, time: Time) -> None:
    archive.count = 1200
    archive.script(RESULTS, Reply(504, HTML))
    with connected(archive, time) as api:
        found = read(AuditSource(api, expand_user=True, allow_redirect=False))

    assert found == list(range(1200))
    assert archive.asked == [500] * 4


def test_an_outage_shrinks_nothing(archive: Archive, time: Time) -> None:
    archive.count = 1200
    archive.script(RESULTS, *[Reply(503)] * 51)
    with connected(archive, time) as api:
        found = read(AuditSource(api, expand_user=True, allow_redirect=False))

    assert found == list(range(1200))
    assert archive.asked[51:] == [500] * 3


def test_it_is_given_up_once_the_smallest_page_failed_too_and_the_outage_lasted(
    archive: Archive, time: Time
) -> None:
    archive.count, archive.passes = 600, 0
    with connected(archive, time) as api:
        caught = failing(AuditSource(api, expand_user=True, allow_redirect=False))

    assert isinstance(caught, SourceUnavailable)
    assert 900 <= sum(time.pauses) < 930
    assert set(archive.asked) == {500, 1}


def test_an_error_of_the_organisation_s_own_ends_after_the_smallest_page(
    archive: Archive, time: Time
) -> None:
    archive.count, archive.passes, archive.gateway = 600, 0, error(500, "internal.server.error")
    with connected(archive, time) as api:
        caught = failing(AuditSource(api, expand_user=True, allow_redirect=False))

    assert isinstance(caught, SourceUnavailable)
    assert archive.asked == [500, 500, 1]


def test_the_sizes_of_a_query() -> None:
    size = PageSize(500)
    sizes = []
    while size.refused():
        sizes.append(size.after(0))

    assert sizes == [250, 125, 62, 31, 25, 12, 6, 3, 1]
    assert [size.after(failures) for failures in range(4)] == [1] * 4


# pages without end


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many pages without anything new are borne."""
    monkeypatch.setattr(paging, "BARREN_PAGES_MAX", 5)
    return 5


def endless(reply: Callable[[int], Reply]) -> list[Reply]:
    return [reply(n) for n in range(60)]


@pytest.mark.parametrize(
    "pages",
    [
        endless(lambda n: page("a", "b", cursor=f"c{n}")),
        endless(
            lambda n: page("a", "b", cursor=f"c{n}") if n % 2 else page("b", "a", cursor=f"c{n}")
        ),
        endless(lambda n: page(f"a{n % 7}", cursor=f"c{n}")),
        endless(lambda n: page(cursor=f"c{n}")),
        endless(lambda n: page(cursor=f"c{n}") if n % 3 else page("a", cursor=f"c{n}")),
    ],
    ids=["the same page", "in another order", "a round of seven", "empty", "mostly empty"],
)
def test_new_cursors_that_lead_to_nothing_new_come_to_an_end(
    source: AuditSource, server: Organization, few: int, pages: list[Reply]
) -> None:
    server.script(RESULTS, *pages)

    caught = failing(source)

    assert isinstance(caught, SourceBrokePromise)
    assert f"{few} pages in a row without anything new" in str(caught)
    assert len(server.lines) <= 7 + few


@pytest.mark.parametrize("barren", [1, 4])
def test_some_pages_without_anything_new_are_gone_on_from(
    source: AuditSource, server: Organization, few: int, barren: int
) -> None:
    assert barren < few
    server.script(
        RESULTS,
        page("a", cursor="first"),
        *[page(cursor=f"e{n}") for n in range(barren)],
        page("b", cursor="second"),
        *[page("a", cursor=f"r{n}") for n in range(barren)],
        page("c"),
    )

    assert set(read(source)) == {"a", "b", "c"}


@pytest.mark.parametrize(("pages", "flaws"), [(4, 0), (5, 1), (6, 2), (10, 6), (11, 7)])
def test_the_last_barren_page_is_the_one_at_the_limit(few: int, pages: int, flaws: int) -> None:
    sequence = PageSequence()
    sequence.add((b'{"id":"a"}',))
    assert sequence.flaw("c") is None

    found = [sequence.flaw(f"c{n}") for n in range(pages)]

    assert [flaw is not None for flaw in found] == [False] * (few - 1) + [True] * flaws


@pytest.mark.parametrize(("pages", "flaws"), [(6, 0), (7, 1), (8, 2), (14, 8), (15, 9)])
def test_no_query_has_more_pages_than_it_can_have(
    monkeypatch: pytest.MonkeyPatch, pages: int, flaws: int
) -> None:
    monkeypatch.setattr(paging, "PAGES_MAX", 7)
    sequence = PageSequence()
    found = []
    for number in range(pages):
        sequence.add((str(number).encode(),))
        found.append(sequence.flaw(f"c{number}"))

    assert [flaw is not None for flaw in found] == [False] * 6 + [True] * flaws
