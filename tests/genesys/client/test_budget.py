"""The rate budget of a token, by what the organisation's headers say."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from etl.errors import RateLimited, Stopped
from etl.genesys.client.budget import Budget
from etl.genesys.client.clock import Clock
from tests.support.scripted_server import (
    NOON,
    Organization,
    Reply,
    Time,
    connected,
    error,
    in_threads,
    organization,
)

MAPPING = "GET /api/v2/audits/query/servicemapping"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def budget(time: Time) -> Budget:
    return Budget("acme", Clock(time.now, time.monotonic, time.pause), 180.0)


@pytest.fixture
def server() -> Iterator[Organization]:
    with organization() as server:
        yield server


def headers(allowed: object, count: object, reset: object) -> dict[str, str]:
    return {
        "inin-ratelimit-allowed": str(allowed),
        "inin-ratelimit-count": str(count),
        "inin-ratelimit-reset": str(reset),
    }


def test_nothing_is_held_back_before_the_organisation_has_told_of_a_budget(
    budget: Budget, time: Time
) -> None:
    for _ in range(1000):
        budget.take()

    assert (budget.remaining, time.pauses) == (None, [])


def test_the_last_request_of_a_minute_is_followed_by_a_wait(budget: Budget, time: Time) -> None:
    budget.heard(headers(300, 298, 17))
    left = [budget.remaining]
    for _ in range(3):
        budget.take()
        left.append(budget.remaining)

    assert left == [2, 1, 0, None]
    assert time.pauses == [17.0]
    assert budget.seconds_waited == 17.0


def test_a_budget_is_forgotten_when_its_minute_is_over(budget: Budget, time: Time) -> None:
    budget.heard(headers(300, 300, 17))
    time.instant = NOON + timedelta(seconds=17)

    budget.take()

    assert (budget.remaining, time.pauses) == (None, [])


def test_an_answer_that_was_overtaken_gives_no_request_back(budget: Budget) -> None:
    budget.heard(headers(300, 290, 30))
    budget.take()

    budget.heard(headers(300, 288, 30))

    assert budget.remaining == 9


@pytest.mark.parametrize(
    "odd",
    [{}, {"inin-ratelimit-allowed": "300"}, headers("many", 1, 1), headers(300, -1, 1),
     headers(300, 1, ""), headers(300, 1, "1e99"),
     headers(0, 1, 30)],
)  # fmt: skip
def test_headers_that_are_absent_or_odd_teach_nothing(budget: Budget, odd: dict[str, str]) -> None:
    budget.heard(odd)

    assert budget.remaining is None


def test_more_counted_than_allowed_is_nothing_left(budget: Budget) -> None:
    budget.heard(headers(300, 301, 30))

    assert budget.remaining == 0


@pytest.mark.parametrize("absurd", [3601, 900_000_000])
def test_a_minute_that_ends_in_years_is_taken_for_a_minute(
    budget: Budget, time: Time, absurd: int
) -> None:
    budget.heard(headers(300, 300, absurd))

    budget.take()

    assert (budget.remaining, time.pauses) == (None, [60.0])


@pytest.mark.parametrize("waits", [(64.0, 1.0), (1.0, 64.0), (64.0, 64.0)])
def test_of_two_threads_that_were_refused_the_longer_wait_holds(
    budget: Budget, time: Time, waits: tuple[float, float]
) -> None:
    for seconds in waits:
        budget.refused(seconds)
    budget.heard(headers(300, 1, 60))

    budget.take()

    assert time.pauses == [64.0]
    assert budget.remaining is None


def test_a_wait_that_is_too_long_is_not_begun(budget: Budget, time: Time) -> None:
    budget.heard(headers(300, 300, 181))

    with pytest.raises(RateLimited, match="acme") as caught:
        budget.take()

    assert caught.value.until == NOON + timedelta(seconds=181)
    assert time.pauses == []


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_is_set_changes_no_wait(budget: Budget, time: Time, hours: int) -> None:
    budget.heard(headers(300, 300, 20))
    time.ahead = timedelta(hours=hours)

    budget.take()

    assert time.pauses == [20.0]


def test_a_clock_that_stands_still_makes_no_wait_endless() -> None:
    time = Time()
    budget = Budget("acme", Clock(time.now, lambda: 0.0, time.pause), 180.0)
    budget.heard(headers(300, 300, 20))

    budget.take()

    assert time.pauses == [20.0]


def test_a_signal_ends_the_wait() -> None:
    time = Time(stop_at=1)
    budget = Budget("acme", Clock(time.now, time.monotonic, time.pause), 180.0)
    budget.heard(headers(300, 300, 20))

    with pytest.raises(Stopped):
        budget.take()


def test_threads_share_one_budget() -> None:
    time = Time()
    budget = Budget("acme", Clock(time.now, time.monotonic, time.pause), 180.0)
    budget.heard(headers(300, 250, 30))

    def take_ten() -> None:
        for _ in range(10):
            budget.take()

    in_threads(5, take_ten)

    assert (budget.remaining, time.pauses) == (0, [])


def test_requests_wait_for_the_next_minute_over_http(server: Organization, time: Time) -> None:
    last = Reply(body={"services": []}, headers=headers(300, 300, 12))
    first = Reply(body={"services": []}, headers=headers(300, 1, 60))
    server.script(MAPPING, last, first)

    with connected(server, time) as api:
        api.service_mapping()
        api.service_mapping()

        assert api.transport.budget.remaining == 299
        assert api.transport.budget.seconds_waited == 12.0
    assert time.pauses == [12.0]


def test_a_429_holds_every_thread_back_but_counts_as_one_wait(
    server: Organization, time: Time
) -> None:
    server.script(
        MAPPING, error(429, "too.many.requests", Retry_After="9"), Reply(body={"services": []})
    )

    with connected(server, time) as api:
        api.service_mapping()

        assert api.transport.budget.seconds_waited == 9.0
    assert time.pauses == [9.0]


def test_a_new_token_has_a_budget_of_its_own(server: Organization, time: Time) -> None:
    spent = error(401, "bad.credentials", **headers(300, 300, 50))
    server.script(MAPPING, spent, Reply(body={"services": []}))

    with connected(server, time) as api:
        api.service_mapping()

    assert time.pauses == []
