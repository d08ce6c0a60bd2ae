"""Requests against a host that misbehaves: tokens, retries, errors, and what is never shown."""

import asyncio
import gzip
import logging
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.errors import (
    AuditEtlError,
    ConfigurationError,
    NotPermitted,
    RateLimited,
    SourceBrokePromise,
    SourceUnavailable,
    Stopped,
)
from etl.genesys.audits import AuditApi
from etl.genesys.client.exchange import USER_AGENT, Exchange
from etl.genesys.client.failures import Refusal, Refused
from etl.genesys.client.retries import Patience, Retries
from etl.simulator import AuditLog, Faults, Simulator
from tests.support.scripted_server import (
    NOON,
    QUICK,
    SECRET,
    Organization,
    Reply,
    Time,
    connected,
    date_header,
    error,
    in_threads,
    organization,
)

MAPPING = "GET /api/v2/audits/query/servicemapping"
TOKEN = "POST /oauth/token"
EMPTY = Reply(body={"services": []})
HTML = Reply(body=b"<html>please sign in</html>")


@pytest.fixture
def server() -> Iterator[Organization]:
    with organization() as server:
        yield server


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def api(server: Organization, time: Time) -> Iterator[AuditApi]:
    with connected(server, time) as api:
        yield api


def failing(api: AuditApi) -> AuditEtlError:
    """The error that an operation ends with."""
    with pytest.raises(AuditEtlError) as caught:
        api.service_mapping()
    return caught.value


# tokens


def test_the_token_request_carries_basic_credentials_and_a_form(
    api: AuditApi, server: Organization
) -> None:
    api.sign_in()

    (seen,) = server.seen
    assert seen.headers["Authorization"] == "Basic dGhlLWNsaWVudDpzM2NyZXQvb2YrdGhlPWNsaWVudA=="
    assert seen.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert seen.body == b"grant_type=client_credentials"


def test_one_token_serves_all_requests(api: AuditApi, server: Organization) -> None:
    server.script(MAPPING, EMPTY, EMPTY)

    api.service_mapping()
    api.service_mapping()

    assert [s.headers["Authorization"] for s in server.seen[1:]] == ["Bearer token-number-1"] * 2


def test_several_threads_get_one_token_request(api: AuditApi, server: Organization) -> None:
    server.script(MAPPING, *[EMPTY] * 4)
    together = threading.Barrier(4)

    def ask() -> None:
        together.wait()
        api.service_mapping()

    in_threads(4, ask)

    assert (server.tokens, len(server.lines)) == (1, 4)


@pytest.mark.parametrize(
    ("lifetime", "good_for"),
    [(86400, 86100), (600, 540), ("600", 540), (None, 270), (-1, 270), (10**12, 172500)],
)
def test_a_token_is_renewed_before_it_expires(
    api: AuditApi, server: Organization, time: Time, lifetime: Any, good_for: int
) -> None:
    server.lifetime = lifetime
    api.sign_in()
    time.instant = NOON + timedelta(seconds=good_for - 1)
    api.sign_in()
    assert server.tokens == 1

    time.instant = NOON + timedelta(seconds=good_for)
    api.sign_in()

    assert server.tokens == 2


def test_a_401_costs_one_new_token_and_no_failure(api: AuditApi, server: Organization) -> None:
    server.script(MAPPING, error(401, "bad.credentials"), EMPTY)

    assert api.service_mapping() == []
    assert [s.headers["Authorization"] for s in server.seen if s.line == MAPPING] == [
        "Bearer token-number-1",
        "Bearer token-number-2",
    ]


def test_threads_whose_token_is_refused_together_renew_it_once(
    api: AuditApi, server: Organization
) -> None:
    api.sign_in()
    server.revoked = {"token-number-1"}
    server.script(MAPPING, *[EMPTY] * 4)
    together = threading.Barrier(4)
    found: list[object] = []

    def ask() -> None:
        together.wait()
        found.append(api.service_mapping())

    in_threads(4, ask)

    assert found == [[]] * 4
    assert server.tokens == 2


def test_a_second_401_is_not_permitted(api: AuditApi, server: Organization) -> None:
    refused = error(401, "bad.credentials", "Invalid login credentials.")
    server.script(MAPPING, refused, refused)

    caught = failing(api)

    assert isinstance(caught, NotPermitted)
    assert "Invalid login credentials." in str(caught)
    assert "audits:audit:view" in str(caught)
    assert (server.tokens, len(server.lines)) == (2, 2)


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "ip.not.authorized"), (403, "missing.permissions"), (403, "authz.policy.denied")],
)
def test_a_closed_door_is_told_at_once(
    api: AuditApi, server: Organization, status: int, code: str
) -> None:
    server.script(MAPPING, error(status, code, "You are missing it."))

    caught = failing(api)

    assert isinstance(caught, NotPermitted)
    assert "audits:audit:view" in str(caught)
    assert isinstance(caught.__cause__, Refused)
    assert caught.__cause__.refusal == Refusal(
        MAPPING, status, code, "You are missing it.", "c0ffee"
    )
    for fact in (MAPPING, str(status), code, "You are missing it.", "c0ffee", "acme"):
        assert fact in str(caught)
    assert (server.tokens, len(server.lines)) == (1, 1)


@pytest.mark.parametrize("status", [400, 401])
def test_a_refused_client_is_told_of_the_region_and_of_every_setting(
    api: AuditApi, server: Organization, status: int
) -> None:
    body = {"error": "invalid_client", "description": "authentication failed"}
    server.script(TOKEN, Reply(status, body))

    caught = failing(api)

    assert isinstance(caught, NotPermitted)
    for fact in (
        "invalid_client",
        "authentication failed",
        "wrong region",
        "127.0.0.1",
        "organizations.acme.region",
        ".client_id",
        ".client_secret",
        "GENESYSCLOUD_REGION",
        "GENESYSCLOUD_OAUTHCLIENT_ID",
        "GENESYSCLOUD_OAUTHCLIENT_SECRET",
    ):
        assert fact in str(caught)
    assert "\n" not in str(caught)
    assert (server.tokens, server.lines) == (1, [])


@pytest.mark.parametrize("status", [302, 404, 405])
def test_a_host_that_signs_nobody_in_points_to_the_region(
    api: AuditApi, server: Organization, status: int
) -> None:
    server.script(TOKEN, Reply(status, b"<html>", {"Location": server.url}))

    caught = failing(api)

    assert isinstance(caught, ConfigurationError)
    assert "organizations.acme.region" in str(caught)
    assert len(server.seen) == 1


def test_a_token_request_is_tried_again_like_any_other(
    api: AuditApi, server: Organization, time: Time
) -> None:
    server.script(TOKEN, Reply(503), error(429, "too.many.requests", Retry_After="7"))

    api.sign_in()

    assert time.pauses == [3.0, 7.0]


@pytest.mark.parametrize(
    "body", [{}, {"access_token": ""}, {"access_token": "a\r\nb: c"}, {"access_token": 1}, []]
)
def test_an_answer_without_a_token_is_no_token(
    api: AuditApi, server: Organization, body: object
) -> None:
    server.script(TOKEN, *[Reply(body=body)] * 3)

    caught = failing(api)

    assert isinstance(caught, SourceBrokePromise)
    assert (server.tokens, server.lines) == (3, [])


@pytest.mark.parametrize("more", [{}, {"access_token": "a-token", "expires_in": 3600}])
def test_a_token_s_answer_with_an_error_is_a_refusal_whatever_its_status(
    api: AuditApi, server: Organization, more: dict[str, Any]
) -> None:
    body = {"error": "invalid_client", "error_description": "authentication failed"}
    server.script(TOKEN, Reply(body=body | more))

    caught = failing(api)

    assert isinstance(caught, NotPermitted)
    assert "answered 200 invalid_client: authentication failed" in str(caught)
    assert (server.tokens, server.lines) == (1, [])


# retries


def test_a_429_waits_as_long_as_the_header_says(
    api: AuditApi, server: Organization, time: Time
) -> None:
    limit = error(429, "too.many.requests.retry.after", "Retry the request in [9] seconds",
                  Retry_After="4")  # fmt: skip
    server.script(MAPPING, limit, EMPTY)

    api.service_mapping()

    assert time.pauses == [4.0]


@pytest.mark.parametrize(
    ("message", "headers", "seconds"),
    [
        ("Rate limit exceeded the maximum. Retry the request in [8] seconds", {}, 8.0),
        ("Rate limit exceeded the maximum [300] requests within [60] seconds", {}, 60.0),
        ("slow down", {"inin-ratelimit-reset": "5"}, 5.0),
        ("slow down", {}, 1.0),
        ("slow down", {"Retry-After": "0"}, 1.0),
        ("slow down", {"Retry-After": "Fri, 01 May 2026 12:00:30 GMT"}, 30.0),
        ("slow down", {"Retry-After": "Fri, 01 May 2026 11:00:00 GMT"}, 1.0),
        ("slow down", {"Retry-After": "soon", "inin-ratelimit-reset": "6"}, 6.0),
    ],
)
def test_a_429_without_seconds_in_its_header_is_read_further(
    api: AuditApi,
    server: Organization,
    time: Time,
    message: str,
    headers: dict[str, str],
    seconds: float,
) -> None:
    server.script(MAPPING, error(429, "too.many.requests", message, **headers), EMPTY)

    api.service_mapping()

    assert time.pauses == [seconds]


def test_a_date_to_come_back_at_is_read_by_the_organisation_s_clock(
    api: AuditApi, server: Organization, time: Time
) -> None:
    theirs = date_header(NOON + timedelta(hours=1))
    limit = error(429, "too.many.requests", Retry_After="Fri, 01 May 2026 13:00:12 GMT", **theirs)
    server.script(MAPPING, limit, EMPTY)

    api.service_mapping()

    assert time.pauses == [12.0]


def test_a_wait_of_more_than_three_minutes_is_not_held_on_for(
    api: AuditApi, server: Organization, time: Time
) -> None:
    server.script(MAPPING, error(429, "too.many.requests", Retry_After="181"))

    caught = failing(api)

    assert isinstance(caught, RateLimited)
    assert caught.until == NOON + timedelta(seconds=181)
    assert time.pauses == []


def test_an_absurd_wait_is_a_date_all_the_same(api: AuditApi, server: Organization) -> None:
    server.script(MAPPING, error(429, "too.many.requests", Retry_After="999999999"))

    caught = failing(api)

    assert isinstance(caught, RateLimited)
    assert caught.until == NOON + timedelta(days=1)
    assert "the 999999999 s that it asks for are not believed" in str(caught)


def test_a_wait_of_hours_is_believed(api: AuditApi, server: Organization) -> None:
    server.script(MAPPING, error(429, "too.many.requests", Retry_After="28800"))

    caught = failing(api)

    assert isinstance(caught, RateLimited)
    assert caught.until == NOON + timedelta(hours=8)


@pytest.mark.parametrize(
    ("headers", "pauses"),
    [
        ({}, [1, 2, 4, 8, 16, 32, 64, 53]),
        ({"Retry-After": "0"}, [1, 2, 4, 8, 16, 32, 64, 53]),
        ({"Retry-After": "5"}, [5, 5, 5, 8, 16, 32, 64, 45]),
        ({"Retry-After": "60"}, [60, 60, 60]),
        ({"Retry-After": "100"}, [100]),
        ({"inin-ratelimit-reset": "900000000"}, [60, 60, 60]),
    ],
    ids=str,
)
@pytest.mark.parametrize("operation", [MAPPING, TOKEN])
def test_a_run_of_429_is_waited_out_for_three_minutes_in_growing_pauses(
    api: AuditApi,
    server: Organization,
    time: Time,
    operation: str,
    headers: dict[str, str],
    pauses: list[float],
) -> None:
    server.script(operation, *[error(429, "too.many.requests", "slow down", **headers)] * 12)

    caught = failing(api)

    assert isinstance(caught, RateLimited)
    assert time.pauses == pauses
    assert len([seen for seen in server.seen if seen.line == operation]) == len(pauses) + 1
    assert NOON < caught.until <= time.now() + timedelta(seconds=100)


def test_a_429_that_passes_costs_nothing_but_time(
    api: AuditApi, server: Organization, time: Time
) -> None:
    limits = [error(429, "too.many.requests", Retry_After="1")] * 7
    server.script(MAPPING, *limits[:4], Reply(503), *limits[4:], EMPTY)

    assert api.service_mapping() == []
    assert time.pauses == [1, 2, 4, 8, 3, 16, 32, 64]


def test_an_outage_ends_even_for_a_clock_that_stands_still() -> None:
    retries = Retries(Patience(), lambda: 0.0)
    down = Refusal(MAPPING, 503)
    pauses = list(iter(lambda: retries.pause_after(down, answered=True), None))

    assert 900 <= sum(pauses) < 930


def test_an_outage_lasts_as_long_as_its_requests_take(time: Time) -> None:
    retries = Retries(Patience(), time.monotonic)
    down = Refusal(MAPPING, 503)
    first = retries.pause_after(down, answered=True)
    time.instant = NOON + timedelta(minutes=15)

    assert (first, retries.pause_after(down, answered=True)) == (3.0, None)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_outage_is_sat_out_with_growing_pauses(
    server: Organization, time: Time, status: int
) -> None:
    server.script(MAPPING, *[Reply(status, b"<html>down</html>")] * 200)

    with connected(server, time) as api:
        caught = failing(api)

    assert isinstance(caught, SourceUnavailable)
    assert str(status) in str(caught)
    assert time.pauses == [3.0] * 100 + [9.0] * 34 + [27.0] * 11
    assert sum(time.pauses) >= 900


def test_an_outage_that_ends_costs_nothing_but_time(
    api: AuditApi, server: Organization, time: Time
) -> None:
    server.script(MAPPING, Reply(503), Reply(502), EMPTY)

    assert api.service_mapping() == []
    assert time.pauses == [3.0, 3.0]


@pytest.mark.parametrize("status", [408, 500, 507, 524, 598])
def test_a_request_that_fails_by_itself_gets_three_attempts(
    api: AuditApi, server: Organization, time: Time, status: int
) -> None:
    server.script(MAPPING, *[error(status, "internal.server.error")] * 4)

    assert isinstance(failing(api), SourceUnavailable)
    assert len(server.lines) == 3


@pytest.mark.parametrize(
    "broken",
    [
        HTML,
        Reply(body=b""),
        Reply(body=b'{"services": [', chunked=True),
        Reply(body={"services": []}, cut=5),
        Reply(body={"services": []}, cut=0),
        Reply(body=b"\x1f\x8bnot gzip", headers={"Content-Encoding": "gzip"}),
        Reply(silent=True),
    ],
    ids=["html", "empty", "unfinished", "cut", "no body", "bad gzip", "silent"],
)
def test_an_answer_that_cannot_be_read_is_asked_for_again(
    server: Organization, time: Time, broken: Reply
) -> None:
    server.script(MAPPING, broken, EMPTY)

    with connected(server, time, Patience(connect_seconds=1, read_seconds=0.2)) as api:
        assert api.service_mapping() == []

    assert time.pauses == [3.0]


def test_a_host_that_answered_before_gets_the_patience_of_an_outage(
    api: AuditApi, server: Organization, time: Time
) -> None:
    server.script(MAPPING, EMPTY, *[HTML] * 5, EMPTY)
    api.service_mapping()

    assert api.service_mapping() == []
    assert time.pauses == [3.0] * 5


def test_a_host_that_never_gave_a_token_gets_three_attempts(
    api: AuditApi, server: Organization, time: Time
) -> None:
    server.script(TOKEN, *[HTML] * 5)

    caught = failing(api)

    assert isinstance(caught, SourceUnavailable)
    assert "something other than JSON" in str(caught)
    assert (time.pauses, server.tokens) == ([1.0, 2.0], 3)


def test_a_refused_connection_gets_three_attempts_and_names_the_host(time: Time) -> None:
    with organization() as server:
        gone = server.url
    with connected(server, time, region=gone) as api:
        caught = failing(api)

    assert isinstance(caught, SourceUnavailable)
    assert "127.0.0.1 cannot be reached: Connection refused" in str(caught)
    assert "HTTPS_PROXY" in str(caught)
    assert time.pauses == [1.0, 2.0]


def test_json_that_breaks_the_contract_is_told_after_three_attempts(
    api: AuditApi, server: Organization
) -> None:
    server.script(MAPPING, *[Reply(body={"services": "none"})] * 4)

    caught = failing(api)

    assert isinstance(caught, SourceBrokePromise)
    assert "not as documented" in str(caught)
    assert len(server.lines) == 3


def test_json_that_is_not_utf_8_breaks_the_contract(api: AuditApi, server: Organization) -> None:
    server.script(MAPPING, *[Reply(body=b'{"services":[{"name":"\xfc"}]}')] * 3)

    assert isinstance(failing(api), SourceBrokePromise)


def test_any_other_refusal_is_told_as_it_is(api: AuditApi, server: Organization) -> None:
    server.script(MAPPING, error(409, "request.conflict", "two\nlines\x1b[31m"))

    caught = failing(api)

    assert isinstance(caught, Refused)
    assert caught.refusal == Refusal(
        MAPPING, 409, "request.conflict", "two lines\\u001b[31m", "c0ffee"
    )


# rules for every request


def test_every_request_says_who_we_are(api: AuditApi, server: Organization) -> None:
    server.script(MAPPING, EMPTY)

    api.service_mapping()

    assert [s.headers["User-Agent"] for s in server.seen] == [USER_AGENT] * 2
    assert USER_AGENT.startswith("audit-etl/")


def test_no_redirect_is_followed(api: AuditApi, server: Organization) -> None:
    with organization() as elsewhere:
        server.script(MAPPING, Reply(302, b"", {"Location": elsewhere.url}))

        caught = failing(api)

        assert isinstance(caught, Refused)
        assert caught.refusal.status == 302
        assert elsewhere.seen == []


def test_a_netrc_file_adds_no_credentials(
    api: AuditApi, server: Organization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.script(MAPPING, EMPTY)

    api.service_mapping()

    assert server.seen[1].headers["Authorization"] == "Bearer token-number-1"


def test_a_compressed_answer_is_read(api: AuditApi, server: Organization) -> None:
    body = gzip.compress(b'{"services": []}')
    server.script(MAPPING, Reply(body=body, headers={"Content-Encoding": "gzip"}))

    assert api.service_mapping() == []


def test_an_endless_answer_is_cut_off(api: AuditApi, server: Organization, time: Time) -> None:
    api.transport.exchange = Exchange(api.transport.clock, QUICK, body_bytes_max=100_000)
    bomb = gzip.compress(b" " * 50_000_000)
    server.script(MAPPING, Reply(body=bomb, headers={"Content-Encoding": "gzip"}))

    caught = failing(api)
    api.transport.exchange.close()

    assert isinstance(caught, Refused)
    assert caught.refusal.message == "the answer is larger than 100000 bytes"
    assert time.pauses == []


def test_an_answer_that_comes_drop_by_drop_is_given_up(time: Time) -> None:
    async def rest(seconds: float) -> None:
        time.pause(seconds)
        await asyncio.sleep(0.02)  # so that the client sees time pass between two drops

    drips = Faults(drip_every=1, drip_seconds=400_000)
    with AuditLog.of([]) as log, organization() as server:
        simulator = Simulator(log=log, clock=time.now, rest=rest, faults=drips)
        with simulator.serve() as url, connected(server, time, region=url) as api:
            caught = failing(api)

    assert isinstance(caught, SourceUnavailable)
    assert "did not answer in time" in str(caught)
    assert simulator.requests == {"token": 3}


def test_of_a_long_error_only_the_start_is_read(api: AuditApi, server: Organization) -> None:
    server.script(MAPPING, Reply(409, b'{"message": "' + b"x" * 10_000_000 + b'"}'))

    caught = failing(api)

    assert isinstance(caught, Refused)
    assert caught.refusal.message is None


def test_an_error_with_a_long_message_stays_short(api: AuditApi, server: Organization) -> None:
    server.script(MAPPING, error(409, "request.conflict", "x" * 5000))

    assert len(str(failing(api))) < 600


def test_the_clock_skew_is_theirs_less_ours(api: AuditApi, server: Organization) -> None:
    before = api.transport.exchange.time.skew
    ahead = date_header(NOON + timedelta(minutes=3))
    server.script(MAPPING, replace(EMPTY, headers=ahead), replace(EMPTY, headers={"Date": "?"}))
    api.service_mapping()
    api.service_mapping()

    assert before is None
    assert api.transport.exchange.time.skew == timedelta(minutes=3)


def test_all_requests_are_counted(api: AuditApi, server: Organization) -> None:
    server.script(MAPPING, Reply(503), error(401, "bad.credentials"), EMPTY)

    api.service_mapping()

    assert api.transport.exchange.count == len(server.seen) == 5


# stopping


def test_a_signal_during_a_pause_ends_it_and_nothing_more_is_sent(server: Organization) -> None:
    time = Time(stop_at=1)
    server.script(MAPPING, *[Reply(503)] * 5)
    with connected(server, time) as api:
        assert isinstance(failing(api), Stopped)
        sent = len(server.seen)
        assert isinstance(failing(api), Stopped)

    assert sent == len(server.seen) == 2


def test_a_stop_is_kept_even_if_the_next_pause_forgets_it(server: Organization) -> None:
    time = Time(stop_at=1)
    server.script(MAPPING, Reply(503))
    with connected(server, time) as api:
        failing(api)
        time.stop_at = None

        assert isinstance(failing(api), Stopped)

    assert server.lines == [MAPPING]


def test_a_real_signal_cuts_a_real_pause_short(server: Organization) -> None:
    stop = threading.Event()
    time = Time()
    server.script(MAPPING, error(429, "too.many.requests", Retry_After="120"))
    found: list[AuditEtlError] = []
    with connected(server, time) as api:
        api.transport.clock._pause = stop.wait
        thread = threading.Thread(target=lambda: found.append(failing(api)))
        thread.start()
        while not server.lines:
            stop.wait(0.01)
        stop.set()
        thread.join(timeout=10)

    assert [type(e) for e in found] == [Stopped]


# secrets


def test_no_secret_is_shown_anywhere(
    api: AuditApi, server: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "urllib3")
    basic = "dGhlLWNsaWVudDpzM2NyZXQvb2YrdGhlPWNsaWVudA=="
    echo = f"you sent token-number-1, token-number-2 and {SECRET} as Basic {basic}"
    server.script(
        MAPPING,
        Reply(503),
        error(401, "bad.credentials", echo),
        error(403, "missing.permissions", echo),
    )

    caught = failing(api)

    shown = [str(caught), repr(caught), repr(caught.__cause__), caplog.text, repr(api)]
    shown += [repr(vars(api.transport)), repr(api.transport._client)]
    assert "you sent" in shown[0]
    assert "POST /oauth/token" in caplog.text
    for text in shown:
        for secret in (SECRET, basic, "token-number-1", "token-number-2"):
            assert secret not in text


def test_a_retry_is_one_line_in_the_log(
    api: AuditApi, server: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    server.script(MAPPING, error(503, "service.unavailable", "down"), EMPTY)

    api.service_mapping()

    assert [(r.levelname, r.getMessage()) for r in caplog.records if r.name.startswith("etl")] == [
        (
            "WARNING",
            f"organisation acme: {MAPPING} answered 503 service.unavailable: down "
            "(correlation id c0ffee); next attempt in 3 s",
        )
    ]


# the environment


def test_a_proxy_of_the_environment_is_used(
    server: Organization, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    server.script("CONNECT login.example.invalid:443", *[Reply(407)] * 3)
    with connected(server, time, region="example.invalid") as api:
        caught = failing(api)

    assert {s.line for s in server.seen} == {"CONNECT login.example.invalid:443"}
    assert isinstance(caught, SourceUnavailable)
    assert "login.example.invalid cannot be reached: the proxy asks for a user" in str(caught)
    assert "HTTPS_PROXY" in str(caught)


def test_a_simulator_on_loopback_needs_no_exception_from_the_proxy(
    api: AuditApi, server: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.script(MAPPING, EMPTY)

    assert api.service_mapping() == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REQUESTS_CA_BUNDLE", "/nowhere.pem"),
        ("REQUESTS_CA_BUNDLE", "/etc/hostname"),
        ("CURL_CA_BUNDLE", "/etc/hostname"),
        ("SSLKEYLOGFILE", "/nowhere/keys"),
        ("HTTPS_PROXY", "gopher://user:hunter2@proxy.lan"),
    ],
)
def test_an_environment_that_cannot_work_is_told_at_once(
    server: Organization, time: Time, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    region = "example.invalid" if variable == "HTTPS_PROXY" else server.url.replace("http", "https")
    with connected(server, time, region=region) as api:
        caught = failing(api)

    assert isinstance(caught, ConfigurationError)
    assert variable in str(caught)
    assert "hunter2" not in str(caught)
    assert time.pauses == []


def test_a_server_that_speaks_no_tls_is_no_private_ca(server: Organization, time: Time) -> None:
    with connected(server, time, region=server.url.replace("http", "https")) as api:
        caught = str(failing(api))

    assert "127.0.0.1 speaks no TLS there; write http:// only for a simulator" in caught
    assert "CA" not in caught


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody trusts, its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    made = tmp_path / "made.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", made,
         "-out", tmp_path / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    made.write_bytes(made.read_bytes() + (tmp_path / "cert.pem").read_bytes())
    return made


def test_certificates_are_verified_with_a_private_ca_if_one_is_set(
    time: Time, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with organization() as server:
        listener = server._server
        listener.socket = context.wrap_socket(
            listener.socket, server_side=True, do_handshake_on_connect=False
        )
        url = server.url.replace("http:", "https:")
        with connected(server, time, region=url) as api:
            untrusted = failing(api)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.fspath(certificate))
        server.script(MAPPING, EMPTY)
        with connected(server, time, region=url) as api:
            trusted = api.service_mapping()

    assert isinstance(untrusted, SourceUnavailable)
    assert "127.0.0.1 cannot be trusted" in str(untrusted)
    assert "REQUESTS_CA_BUNDLE" in str(untrusted)
    assert trusted == []
