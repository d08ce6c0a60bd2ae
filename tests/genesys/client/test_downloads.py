"""Large results: a 302 with a presigned URL in its body."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from etl.errors import AuditEtlError, QueryFailed, SourceBrokePromise, Stopped
from etl.genesys.audits import AuditApi
from etl.genesys.client.downloads import Downloads
from etl.genesys.query import AuditSource
from etl.source import Asked
from etl.window import Window
from tests.support.scripted_server import Organization, Reply, Time, connected, error, organization

MAY_1 = Window(datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC))
DONE = Asked(MAY_1, "q1", "Succeeded")
RESULTS = "GET /api/v2/audits/query/q1/results"
FILE = "GET /large.json"
SIGNATURE = "X-Amz-Signature=d0ubtful"


@pytest.fixture
def server() -> Iterator[Organization]:
    with organization() as server:
        yield server


@pytest.fixture
def bucket() -> Iterator[Organization]:
    with organization() as bucket:
        yield bucket


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def api(server: Organization, time: Time) -> Iterator[AuditApi]:
    with connected(server, time) as api:
        yield api


@pytest.fixture
def source(api: AuditApi) -> AuditSource:
    return AuditSource(api, expand_user=True, allow_redirect=True)


def large(bucket: Organization, **members: Any) -> Reply:
    url = f"{bucket.url}/large.json?{SIGNATURE}"
    return Reply(302, {"id": "q1", "pageSize": 500, "downloadUrl": url} | members)


def file_of(count: int, **rest: Any) -> Reply:
    return Reply(body=[{"id": f"large {n}"} for n in range(count)], **rest)


def failing(source: AuditSource) -> AuditEtlError:
    with pytest.raises(AuditEtlError) as caught:
        list(source.pages(DONE))
    return caught.value


def test_a_large_result_is_read_from_its_file_and_gone_on_from_its_cursor(
    source: AuditSource, server: Organization, bucket: Organization
) -> None:
    last = Reply(body={"entities": [{"id": "last"}]})
    server.script(RESULTS, large(bucket, cursor="c"), last)
    bucket.script(FILE, file_of(1234))

    pages = [page.records for page in source.pages(DONE)]

    assert [len(records) for records in pages if records] == [500, 500, 234, 1]
    assert [json.loads(record)["id"] for records in pages for record in records] == [
        *(f"large {n}" for n in range(1234)),
        "last",
    ]
    assert server.seen[1].query["allowRedirect"] == "true"
    assert server.seen[2].query["cursor"] == "c"


def test_the_file_s_host_sees_no_token_and_no_netrc(
    source: AuditSource, server: Organization, bucket: Organization,
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.script(RESULTS, large(bucket))
    bucket.script(FILE, file_of(1))

    list(source.pages(DONE))

    (seen,) = bucket.seen
    assert seen.line == f"{FILE}?{SIGNATURE}"
    assert "Authorization" not in seen.headers


def test_an_empty_file_is_an_empty_result(
    source: AuditSource, server: Organization, bucket: Organization
) -> None:
    server.script(RESULTS, large(bucket))
    bucket.script(FILE, file_of(0))

    assert [page.records for page in source.pages(DONE)] == [()]


def test_a_download_counts_as_a_request(
    source: AuditSource, server: Organization, bucket: Organization
) -> None:
    server.script(RESULTS, large(bucket))
    bucket.script(FILE, Reply(503), file_of(1))

    list(source.pages(DONE))

    assert source.requests == len(server.seen) + len(bucket.seen) == 4


def test_a_file_cut_short_is_fetched_again(
    source: AuditSource, server: Organization, bucket: Organization
) -> None:
    server.script(RESULTS, large(bucket))
    bucket.script(FILE, file_of(1234, cut=20_000), file_of(3))

    assert [len(page.records) for page in source.pages(DONE)] == [3, 0]


@pytest.mark.parametrize(
    "reply",
    [
        file_of(1234, cut=20_000),
        file_of(1234, cut=20_000, chunked=True),
        Reply(403, b"<Error>Request has expired</Error>"),
        Reply(404),
        Reply(503),
        Reply(302, headers={"Location": "/elsewhere.json"}),
        Reply(body={"not": "an array"}),
        Reply(body=b"<html>"),
    ],
    ids=["cut", "cut unseen", "expired", "gone", "down", "moved", "object", "html"],
)
def test_a_file_that_cannot_be_had_whole_is_a_failed_query(
    source: AuditSource, server: Organization, bucket: Organization, reply: Reply
) -> None:
    server.script(RESULTS, large(bucket))
    bucket.script(FILE, *[reply] * 400)

    caught = failing(source)

    assert isinstance(caught, QueryFailed)
    assert "allow_redirect = false" in str(caught)
    assert {seen.line for seen in bucket.seen} == {f"{FILE}?{SIGNATURE}"}


def test_a_file_that_is_too_large_is_not_kept(
    api: AuditApi, server: Organization, bucket: Organization
) -> None:
    bucket.script(FILE, file_of(1000))
    downloads = Downloads(api.transport, bytes_max=1000)

    with pytest.raises(QueryFailed, match="more than 1000 bytes"):
        list(downloads.pages(f"{bucket.url}/large.json"))


@pytest.mark.parametrize("less", [-1, 0, 1])
def test_a_file_is_kept_up_to_the_last_byte_that_it_may_have(
    api: AuditApi, bucket: Organization, less: int
) -> None:
    body = b'[{"id": "large"}]'
    bucket.script(FILE, Reply(body=body))
    downloads = Downloads(api.transport, bytes_max=len(body) - less)

    if less > 0:
        with pytest.raises(QueryFailed, match="more than"):
            list(downloads.pages(f"{bucket.url}/large.json"))
    else:
        assert [page.records for page in downloads.pages(f"{bucket.url}/large.json")] == [
            (body[1:-1],)
        ]


def test_a_signal_stops_a_download(server: Organization, bucket: Organization) -> None:
    time = Time(stop_at=1)
    server.script(RESULTS, large(bucket))
    bucket.script(FILE, Reply(503), file_of(1))
    with connected(server, time) as api:
        caught = failing(AuditSource(api, expand_user=True, allow_redirect=True))

    assert isinstance(caught, Stopped)
    assert len(bucket.seen) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://bucket.invalid/x",
        "ftp://bucket.invalid/x",
        "large.json",
        "https://[x",
        "https://*/x",
    ],
)
def test_a_real_organisation_s_file_must_come_over_tls(time: Time, url: str) -> None:
    with (
        organization() as nobody,
        connected(nobody, time, region="eu-central-1") as api,
        pytest.raises(SourceBrokePromise, match="not https"),
    ):
        list(api.download(url))


@pytest.mark.parametrize("status", [200, 201, 202, 300, 301, 303, 307, 308])
@pytest.mark.parametrize("headers", [{}, {"Location": "https://elsewhere.invalid/x"}])
def test_a_url_is_taken_from_an_answer_of_any_status_that_is_no_error(
    source: AuditSource,
    server: Organization,
    bucket: Organization,
    status: int,
    headers: dict[str, str],
) -> None:
    server.script(RESULTS, replace(large(bucket), status=status, headers=headers))
    bucket.script(FILE, file_of(3))

    assert [len(page.records) for page in source.pages(DONE) if page.records] == [3]
    assert [seen.line for seen in bucket.seen] == [f"{FILE}?{SIGNATURE}"]


def test_a_url_that_was_not_asked_for_is_not_followed(
    api: AuditApi, server: Organization, bucket: Organization
) -> None:
    server.script(RESULTS, *[replace(large(bucket), status=200)] * 3)

    assert isinstance(
        failing(AuditSource(api, expand_user=True, allow_redirect=False)), SourceBrokePromise
    )
    assert bucket.seen == []


def test_a_302_without_a_url_breaks_the_contract(source: AuditSource, server: Organization) -> None:
    server.script(RESULTS, *[Reply(302, {"id": "q1"}, {"Location": "/elsewhere"})] * 3)

    assert isinstance(failing(source), SourceBrokePromise)
    assert {s.line.partition("?")[0] for s in server.seen[1:]} == {RESULTS}


def test_the_signature_is_shown_nowhere(
    source: AuditSource,
    server: Organization,
    bucket: Organization,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "urllib3")
    server.script(RESULTS, large(bucket))
    bucket.script(FILE, Reply(503), error(403, "x", SIGNATURE))

    caught = failing(source)

    assert "GET /large.json" in caplog.text
    for text in (str(caught), repr(caught), repr(caught.__cause__), caplog.text):
        assert "d0ubtful" not in text


def test_a_file_s_host_that_is_gone_is_named_without_the_url(
    source: AuditSource, server: Organization
) -> None:
    with organization() as bucket:
        server.script(RESULTS, large(bucket))

    caught = failing(source)

    assert isinstance(caught, QueryFailed)
    assert "127.0.0.1 cannot be reached" in str(caught)
    assert "large.json" not in str(caught)
