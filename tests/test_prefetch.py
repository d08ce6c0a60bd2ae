"""Values made ahead come whole and in order, or as an error; and nobody makes them for nobody."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from contextvars import ContextVar
from datetime import UTC, datetime
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.genesys.client.clock import Clock
from etl.prefetch import Abandoned, Prefetched, require_wanted

PATIENCE_SECONDS = 30.0


def one(_: object) -> int:
    return 1


def comes_true(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition() and time.monotonic() < until:
        threading.Event().wait(0.001)
    return condition()


@given(st.lists(st.integers(0, 20)), st.integers(1, 40))
def test_all_values_come_in_order_whatever_waits(values: list[int], limit: int) -> None:
    with closing(Prefetched(values, lambda value: value, limit, "numbers")) as ahead:
        assert list(ahead) == values


def test_an_error_comes_after_the_values_before_it() -> None:
    def values() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    with closing(Prefetched(values(), one, 5, "numbers")) as ahead:
        taken = iter(ahead)
        assert next(taken) == 1
        with pytest.raises(KeyError, match="two"):
            next(taken)


def test_no_more_is_made_than_may_wait() -> None:
    made: list[int] = []

    def values() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    with closing(Prefetched(values(), lambda _: 10, 30, "numbers")) as ahead:
        assert comes_true(lambda: len(made) == 3)
        threading.Event().wait(0.05)  # time for a fourth that must not be
        assert made == [0, 1, 2]
        taken = iter(ahead)
        assert next(taken) == 0
        assert comes_true(lambda: len(made) == 4)


def test_what_is_given_up_never_passes_for_whole() -> None:
    ahead = Prefetched(iter(range(100)), one, 1, "numbers")
    taken = iter(ahead)
    assert next(taken) == 0

    ahead.close()

    with pytest.raises(Abandoned):
        list(taken)


def test_a_pause_ends_when_nobody_waits_any_more() -> None:
    resting = threading.Event()

    def pause(seconds: float) -> bool:
        resting.set()
        return threading.Event().wait(min(seconds, 0.01))

    clock = Clock(lambda: datetime.now(UTC), monotonic, pause)  # noqa: TID251 - a clock that goes

    def values() -> Iterator[int]:
        clock.wait(10_000)
        yield 1

    ahead = Prefetched(values(), one, 1, "a pause of hours")
    assert resting.wait(PATIENCE_SECONDS)

    ahead.close()

    with pytest.raises(Abandoned):
        list(ahead)


def test_no_request_is_sent_for_nobody() -> None:
    clock = Clock(lambda: datetime.now(UTC), monotonic, lambda _: False)  # noqa: TID251 - a clock that goes
    begun = threading.Event()
    checked = []

    def abandoned() -> bool:
        try:
            require_wanted()
        except Abandoned:
            return True
        return False

    def values() -> Iterator[int]:
        begun.set()
        assert comes_true(abandoned)
        checked.append("abandoned")
        clock.check()  # as before each request
        checked.append("sent")
        yield 1

    ahead = Prefetched(values(), one, 1, "requests")
    assert begun.wait(PATIENCE_SECONDS)
    ahead.close()

    assert checked == ["abandoned"]


def test_the_thread_sees_what_its_maker_sees() -> None:
    about = ContextVar("about", default="nothing")
    about.set("a window")

    with closing(Prefetched((about.get() for _ in range(1)), one, 1, "a name")) as ahead:
        assert list(ahead) == ["a window"]


def test_it_tells_how_much_had_to_be_waited_for() -> None:
    three_wait, gate = threading.Event(), threading.Event()

    def values() -> Iterator[int]:
        yield from range(3)
        three_wait.set()
        gate.wait(PATIENCE_SECONDS)
        yield 3

    with closing(Prefetched(values(), one, 10, "numbers")) as ahead:
        taken = iter(ahead)
        assert three_wait.wait(PATIENCE_SECONDS)
        assert [next(taken) for _ in range(3)] == [0, 1, 2]
        assert ahead.starved == 0.0
        threading.Timer(0.05, gate.set).start()
        assert next(taken) == 3
        assert ahead.starved == pytest.approx(0.25)
