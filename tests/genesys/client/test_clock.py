"""An organisation's time, as its answers tell it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.genesys.client.clock import Clock, OrganizationClock
from tests.support.scripted_server import (
    NOON,
    Organization,
    Reply,
    Time,
    connected,
    date_header,
    organization,
)

HOUR = timedelta(hours=1)
MAPPING = "GET /api/v2/audits/query/servicemapping"
EMPTY: dict[str, object] = {"services": []}


def made(time: Time) -> OrganizationClock:
    return OrganizationClock(Clock(time.now, time.monotonic, time.pause))


@dataclass(frozen=True)
class Answer:
    """An answer: seconds until it was stamped, from there until it arrived, and until the next."""

    stamped: float
    arrived: float
    rests: float
    fresh: bool
    ahead: float


seconds = st.floats(0, 300)
answers = st.builds(
    Answer, seconds, seconds, st.floats(0, 86_400), st.booleans(), st.floats(-1e6, 1e6)
)


@given(st.lists(answers, min_size=1, max_size=20))
def test_it_is_never_late_and_little_early_whatever_is_done_to_our_clock(
    given: list[Answer],
) -> None:
    time = Time()
    theirs = made(time)
    for answer in given:
        sent = time.monotonic()
        time.pause(answer.stamped)
        date = time.instant.replace(microsecond=0)
        time.pause(answer.arrived)
        time.ahead = timedelta(seconds=answer.ahead)
        theirs.heard(date, sent, fresh=answer.fresh)
        time.pause(answer.rests)

        early = (time.instant - theirs.now()).total_seconds()
        assert -0.001 <= early <= 1 + answer.stamped + answer.arrived + 0.001
        assert theirs.skew == theirs.now() - time.now()


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("hours", [-3, 3])
def test_an_answer_that_no_cache_gave_sets_it_back_and_any_sets_it_ahead(
    hours: int, fresh: bool
) -> None:
    time = Time()
    theirs = made(time)
    theirs.heard(NOON, 0, fresh=True)
    theirs.heard(NOON + hours * HOUR, 0, fresh=fresh)

    followed = fresh or hours > 0
    assert theirs.now() == (NOON + hours * HOUR if followed else NOON)


def test_answers_that_overtake_each_other_do_not_set_it_back() -> None:
    time = Time()
    theirs = made(time)
    time.pause(40)
    theirs.heard(NOON + timedelta(seconds=40), 39, fresh=True)
    theirs.heard(NOON + timedelta(seconds=3), 2, fresh=True)

    assert theirs.now() == NOON + timedelta(seconds=40)


@pytest.mark.parametrize(
    ("date", "ours", "believed"),
    [
        (datetime(1970, 1, 1), 0, False),
        (datetime(2024, 12, 31, 23, 59, 59), 0, False),
        (datetime(2100, 1, 1), 0, False),
        (datetime(2027, 5, 2, 12), 0, True),
        (datetime(2027, 5, 2, 12, 0, 1), 0, False),
        (datetime(2026, 5, 1, 12), -50 * 365, True),
        (datetime(2100, 1, 1), -50 * 365, False),
        (datetime(2025, 1, 1), 0, True),
        (datetime(2026, 5, 1, 12), 50 * 365, True),
    ],
)
def test_a_time_is_believed_unless_it_cannot_be_right(
    date: datetime, ours: int, believed: bool
) -> None:
    time = Time()
    time.ahead = timedelta(days=ours)
    theirs = made(time)
    date = date.replace(tzinfo=NOON.tzinfo)
    theirs.heard(date, 0, fresh=True)

    assert theirs.now() == (date if believed else time.now())
    assert (theirs.skew is None) == (not believed)
    assert theirs.confirmations == believed


def test_our_clock_stands_in_until_a_time_is_told_but_does_not_leap() -> None:
    time = Time()
    theirs = made(time)
    told = [theirs.now()]
    theirs.heard(None, 0, fresh=True)
    for ahead in (3, -1, 2):
        time.ahead = ahead * HOUR
        theirs.heard(None, 0, fresh=True)
        told.append(theirs.now())
    theirs.heard(NOON + HOUR, 0, fresh=False)
    theirs.heard(None, 0, fresh=True)

    assert told == [NOON, NOON, NOON - HOUR, NOON - HOUR]
    assert theirs.now() == NOON + HOUR


@pytest.fixture
def server() -> Iterator[Organization]:
    with organization() as server:
        yield server


def test_every_answer_tells_it_but_those_that_say_no(server: Organization) -> None:
    time = Time()
    ahead = [date_header(NOON + n * HOUR) for n in (1, 2, 3)]
    server.script(
        MAPPING,
        Reply(body=EMPTY, headers=ahead[0]),
        Reply(503, headers=ahead[2]),
        Reply(body=EMPTY, headers=ahead[1]),
        Reply(body=EMPTY, headers=date_header(NOON)),
    )
    with connected(server, time) as api:
        before = api.transport.exchange.time.skew
        api.service_mapping()
        first = api.transport.exchange.time.now()
        api.service_mapping()
        last = api.transport.exchange.time.now()
        api.service_mapping()

        assert before is None
        assert first == NOON + HOUR
        assert last == NOON + 2 * HOUR
        assert api.transport.exchange.time.now() == last


@pytest.mark.parametrize(("headers", "hours"), [({}, 1), ({"Age": "60"}, 2)])
def test_a_sign_in_confirms_it_unless_a_cache_answers(
    server: Organization, headers: dict[str, str], hours: int
) -> None:
    time = Time()
    token = {"access_token": "t", "expires_in": 86_400}
    later, earlier = date_header(NOON + 2 * HOUR), date_header(NOON + HOUR)
    server.script("POST /oauth/token", Reply(body=token, headers=later))
    server.script("POST /oauth/token", Reply(body=token, headers=earlier | headers))
    with connected(server, time) as api:
        api.sign_in()
        confirmed = api.transport.exchange.time.confirmations
        api.transport.renew_token()

        assert api.transport.exchange.time.now() == NOON + hours * HOUR
        assert api.transport.exchange.time.confirmations == confirmed + (not headers)
