"""Queries in flight: created at once, read ahead, and asked for their result in their turn."""

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import QueryFailed, ServiceRefused, TryAgainLater
from etl.in_flight import QUERIES_MAX, QUERIES_MIN, Concurrency, InFlightQuery, about_window
from etl.model import OpenQuery
from etl.records import Page
from etl.source import Asked
from tests.support.daemons import until
from tests.support.samples import STREAM, hours, record
from tests.support.scripted_source import ScriptedSource

WINDOW = hours(0, 1)
ABOUT = about_window(STREAM, WINDOW, "frequent")
SHOWN = [record(name, 0.1) for name in "abc"]


def submitted(source: ScriptedSource, remembered: list[OpenQuery]) -> InFlightQuery:
    in_flight = InFlightQuery(WINDOW, ABOUT)
    in_flight.submit(source, STREAM, remembered.append)
    return in_flight


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "pages of" in thread.name]


def test_a_query_is_created_remembered_and_read_to_its_last_page() -> None:
    source = ScriptedSource(SHOWN)
    remembered: list[OpenQuery] = []

    with closing(submitted(source, remembered)) as in_flight:
        pages = list(in_flight.pages())

    assert [len(page.records) for page in pages] == [2, 1]
    assert remembered == [in_flight.query] == [OpenQuery(WINDOW, "query 1", source.clock)]
    assert in_flight.query_id == "query 1"
    assert 0.0 <= in_flight.starved <= 1.0


def test_a_query_is_remembered_before_its_first_page_is_read() -> None:
    source = ScriptedSource(SHOWN)
    read_before: list[list[str]] = []
    in_flight = InFlightQuery(WINDOW, ABOUT)

    with closing(in_flight):
        in_flight.submit(source, STREAM, lambda _: read_before.append(list(source.read)))
        until(lambda: bool(source.read), "its pages are read, whether or not they are wanted")

    assert read_before == [[]]


def test_a_refusal_is_kept_until_the_query_is_wanted() -> None:
    source = ScriptedSource(SHOWN)
    source.refusals[WINDOW] = [ServiceRefused("no such service")]
    remembered: list[OpenQuery] = []

    with closing(submitted(source, remembered)) as in_flight:
        assert (in_flight.query_id, remembered, source.read) == ("", [], [])
        with pytest.raises(ServiceRefused, match="no such service") as refused:
            _ = in_flight.query

    assert refused.value.about == ABOUT


@pytest.mark.parametrize("seconds_left", [0, 1, 3600])
def test_a_window_that_is_not_over_is_not_read(seconds_left: int) -> None:
    source = ScriptedSource(SHOWN)
    source.clock = WINDOW.end - timedelta(seconds=seconds_left)
    remembered: list[OpenQuery] = []

    with closing(submitted(source, remembered)) as in_flight:
        if seconds_left < 2:
            assert in_flight.query.asked_at == source.clock
            return
        with pytest.raises(TryAgainLater, match="is not over"):
            _ = in_flight.query

    assert (remembered, source.read) == ([], [])


def test_a_query_that_a_dead_process_left_is_read_and_not_created_again() -> None:
    source = ScriptedSource(SHOWN)
    left = OpenQuery(WINDOW, "left open", source.clock - timedelta(hours=2))
    in_flight = InFlightQuery(WINDOW, ABOUT)

    with closing(in_flight):
        in_flight.resume(source, left)
        pages = list(in_flight.pages())

    assert sum(len(page.records) for page in pages) == 3
    assert (in_flight.query, source.asked, source.read) == (left, [], ["left open"])


def test_an_error_comes_after_the_pages_before_it() -> None:
    source = ScriptedSource(SHOWN)
    source.breaks[WINDOW] = [QueryFailed("expired")]
    taken: list[Page] = []

    with closing(submitted(source, [])) as in_flight, pytest.raises(QueryFailed, match="expired"):
        taken.extend(in_flight.pages())

    assert source.read == ["query 1"]


def test_a_query_that_is_closed_is_read_no_further_and_leaves_no_thread() -> None:
    class Endless(ScriptedSource):
        def pages(self, asked: Asked) -> Iterator[Page]:
            while True:
                yield Page((b"x" * 1_000_000,), cursor="more")

    in_flight = submitted(Endless(), [])
    next(in_flight.pages())
    assert readers() == ["pages of query 1"]

    in_flight.close()
    in_flight.close()

    assert readers() == []


def test_a_query_that_was_never_asked_for_has_no_pages_and_can_be_closed() -> None:
    in_flight = InFlightQuery(WINDOW, ABOUT)

    assert (list(in_flight.pages()), in_flight.starved, in_flight.requests) == ([], 0.0, 0)
    in_flight.close()


@pytest.mark.parametrize(
    ("starved", "waited", "queries"),
    [(1.0, 0.0, 4), (0.51, 0.0, 4), (0.5, 0.0, 3), (1.0, 0.1, 3), (0.1, 0.0, 3), (0.09, 0.0, 2)],
)
def test_more_queries_are_in_flight_only_if_pages_were_waited_for_and_the_budget_allows_it(
    starved: float, waited: float, queries: int
) -> None:
    source = ScriptedSource()
    source.seconds_waited = 7.0
    concurrency = Concurrency.of(source)
    concurrency.learn(source, starved=1.0)
    assert concurrency.queries == 3

    source.seconds_waited += waited
    concurrency.learn(source, starved)

    assert concurrency.queries == queries


def test_a_wait_for_the_budget_counts_for_one_query_only() -> None:
    source = ScriptedSource()
    concurrency = Concurrency.of(source)
    source.seconds_waited = 5.0

    concurrency.learn(source, starved=1.0)
    assert concurrency.queries == QUERIES_MIN
    concurrency.learn(source, starved=1.0)
    assert concurrency.queries == QUERIES_MIN + 1


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 60))))
def test_the_number_of_queries_changes_by_one_and_stays_in_its_bounds(
    loads: list[tuple[float, float]],
) -> None:
    source = ScriptedSource()
    concurrency = Concurrency.of(source)
    for starved, waited in loads:
        before = concurrency.queries
        source.seconds_waited += waited
        concurrency.learn(source, starved)
        assert abs(concurrency.queries - before) <= 1
        assert QUERIES_MIN <= concurrency.queries <= QUERIES_MAX
