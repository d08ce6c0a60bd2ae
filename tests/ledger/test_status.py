"""What `status` shows of each day: how much of it is loaded, and how many audits there are."""

import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from etl.cli.coverage import line_of_days, plot
from etl.database.transactions import transact
from etl.ledger.coverage import Coverage, coverage
from etl.ledger.receipts import Ledger
from etl.ledger.receipts import record as ledger_record
from etl.ledger.status import gather
from etl.model import Stream
from etl.window import Window
from tests.support.commands import audit_etl, environment, on_a_terminal
from tests.support.places import Place
from tests.support.samples import BEGIN, LOADED_AT, STREAM, batch, draft, hours, load_into, record

DAY = timedelta(days=1)
TODAY = BEGIN.date()


def states(covered: list[Window], begins_at: datetime, now: datetime) -> list[Coverage]:
    return [state for _, state in coverage(covered, begins_at, now)]


def test_a_day_is_loaded_partly_loaded_or_a_gap() -> None:
    covered = [hours(0, 24), hours(30, 48), hours(72, 80)]

    found = list(coverage(covered, BEGIN, BEGIN + timedelta(hours=80)))

    assert found == [
        (TODAY, Coverage.LOADED),
        (TODAY + DAY, Coverage.PARTLY),
        (TODAY + 2 * DAY, Coverage.GAP),
        (TODAY + 3 * DAY, Coverage.PARTLY),
    ]


def test_a_day_that_was_not_loaded_within_a_year_is_beyond_retention() -> None:
    covered = [hours(0, 12), hours(24, 48), hours(96, 97)]

    found = states(covered, BEGIN, BEGIN + 368 * DAY)

    assert found[:5] == [
        Coverage.PARTLY,
        Coverage.LOADED,
        Coverage.BEYOND_RETENTION,
        Coverage.GAP,
        Coverage.PARTLY,
    ]
    assert len(found) == 368


def test_nothing_is_shown_of_a_stream_that_begins_now() -> None:
    assert states([], BEGIN, BEGIN) == []


edges = st.lists(st.integers(0, 20 * 24 * 3600), min_size=2, max_size=20, unique=True).map(sorted)


@given(edges=edges, now=st.integers(1, 25 * 24 * 3600))
def test_days_are_complete_and_only_covered_ones_are_loaded(edges: list[int], now: int) -> None:
    instants = [BEGIN + timedelta(seconds=edge) for edge in edges]
    covered = [
        Window(start, end) for start, end in zip(instants[::2], instants[1::2], strict=False)
    ]
    end = BEGIN + timedelta(seconds=now)

    found = list(coverage(covered, BEGIN, end))

    assert [day for day, _ in found] == [TODAY + n * DAY for n in range(-(-now // (24 * 3600)))]
    for day, state in found:
        start = datetime.combine(day, BEGIN.timetz())
        held = sum(
            (
                max(timedelta(0), min(w.end, start + DAY, end) - max(w.start, start))
                for w in covered
            ),
            timedelta(0),
        )
        whole = held == min(start + DAY, end) - start
        unloaded = Coverage.GAP if start < max(w.end for w in covered) else Coverage.NOT_YET
        assert (state in {Coverage.GAP, Coverage.NOT_YET}) == (held == timedelta(0))
        assert held or state is unloaded
        assert state is not Coverage.LOADED or whole
        assert state is not Coverage.PARTLY or not whole or day == end.date()


def test_days_that_do_not_fit_share_a_character_which_shows_the_worst_of_them() -> None:
    days = [(TODAY + n * DAY, Coverage.LOADED) for n in range(100)]
    days[7] = (days[7][0], Coverage.GAP)

    assert line_of_days(days[:9], 80) == "2026-03-01 ███████░█ 2026-03-09"
    assert line_of_days(days, 95) == f"2026-03-01 ███░{'█' * 46} 2026-06-08, 2 days a character"


def test_the_highest_day_has_the_highest_bar_and_a_day_of_none_has_none() -> None:
    days = [TODAY + n * DAY for n in range(4)]

    assert plot(days, {days[0]: 700, days[1]: 1, days[3]: 350}, "audits", 80) == (
        "2026-03-01 █▁ ▄ 2026-03-04, at most 700 audits a day"
    )
    assert plot(days[:1], {}, "audits", 80).endswith("no audits")


def test_a_destination_counts_the_audits_of_each_day(place: Place) -> None:
    place.destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
    shown = [record(f"a{n}", n * 7, serviceName="ab"[n % 2]) for n in range(10)]
    load_into(place.destination, draft(hours(0, 70)), [batch(*shown)], lambda _: None)

    span = hours(6, 56)
    of_all = place.destination.audits_a_day(STREAM, span)
    of_one = place.destination.audits_a_day(Stream("default", "b"), span)
    of_none = place.destination.audits_a_day(Stream("acme"), span)

    assert of_all == {TODAY: 3, TODAY + DAY: 3, TODAY + 2 * DAY: 1}
    assert of_one == {TODAY: 2, TODAY + DAY: 1, TODAY + 2 * DAY: 1}
    assert of_none == {}


def test_the_days_of_a_stream_are_in_json_and_drawn_on_a_terminal(place: Place) -> None:
    place.destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
    shown = [record(f"a{n}", n) for n in range(30)]
    load_into(place.destination, draft(hours(0, 30)), [batch(*shown)], lambda _: None)
    env = environment(**place.variables)

    result = audit_etl("status", "--json", env=env)
    drawn = on_a_terminal("status", env=env)

    assert result.returncode == 0, result.stderr
    [stream] = json.loads(result.stdout)["streams"]
    first, second, third = stream["days"][:3]
    assert (first["day"], first["coverage"]) == ("2026-03-01", "loaded")
    assert (second["day"], second["coverage"]) == ("2026-03-02", "partly")
    assert third["coverage"] in {"not yet", "beyond retention"}
    assert date.fromisoformat(stream["days"][-1]["day"]) >= LOADED_AT.date()
    assert "2026-03-01 " in drawn
    assert "░ gap" in drawn


def test_the_cost_of_the_last_day_stands_beside_the_least_possible(engine: sa.Engine) -> None:
    now = BEGIN + 3 * DAY
    ledger = Ledger(engine)
    for hour, events, requests in ((0, 0, 3), (1, 500, 4), (2, 501, 5)):
        receipt = replace(
            draft(hours(hour, hour + 1)).receipt(events=events, new_events=events, rejects=0),
            requests=requests,
            loaded_at=now,
        )
        transact(engine, partial(ledger_record, receipt=receipt))

    [found] = gather(ledger, [STREAM], BEGIN, now + timedelta(hours=1))
    [later] = gather(ledger, [STREAM], BEGIN, now + timedelta(hours=25))

    assert (found.requests, found.least_requests) == (12, 3 + 3 + 4)
    assert (later.requests, later.least_requests) == (0, 0)
