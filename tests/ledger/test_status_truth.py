"""What `status` must not claim: each claim, in a state in which it would be false."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.database.transactions import transact
from etl.ledger.coverage import Coverage, days_of
from etl.ledger.receipts import Ledger
from etl.ledger.receipts import record as ledger_record
from etl.ledger.status import backfilled, gather
from etl.model import Stream
from etl.window import Window
from tests.support.commands import audit_etl, environment
from tests.support.samples import BEGIN, LOADED_AT, STREAM, draft, hours

DAY = timedelta(days=1)


def loaded(
    engine: sa.Engine,
    window: Window,
    *,
    stream: Stream = STREAM,
    after: timedelta = timedelta(minutes=10),
    requests: int = 3,
) -> None:
    """Write the receipt of a query that was created some time after its window's end."""
    started_at = window.end + after
    receipt = replace(
        draft(window).receipt(events=0, new_events=0, rejects=0),
        stream=stream,
        started_at=started_at,
        loaded_at=started_at,
        requests=requests,
    )
    transact(engine, partial(ledger_record, receipt=receipt))


def test_lookbacks_reach_as_far_as_loaded_time_was_asked_for_again(engine: sa.Engine) -> None:
    ledger = Ledger(engine)
    for window in (hours(0, 24), hours(24, 48), hours(48, 72)):
        loaded(engine, window)
    [found] = gather(ledger, [STREAM], BEGIN, BEGIN + 4 * DAY)
    assert found.looked_back == timedelta(0)

    loaded(engine, hours(36, 73), after=timedelta(0))

    [found] = gather(ledger, [STREAM], BEGIN, BEGIN + 4 * DAY)
    assert found.looked_back == timedelta(hours=73 - 36)


def test_a_lookback_of_months_ago_proves_nothing_about_this_month(engine: sa.Engine) -> None:
    loaded(engine, hours(0, 24))
    loaded(engine, hours(0, 24), after=timedelta(hours=1))

    [found] = gather(Ledger(engine), [STREAM], BEGIN, BEGIN + 120 * DAY)

    assert found.looked_back == timedelta(0)


def test_time_after_the_last_loaded_instant_is_behind_and_no_gap(engine: sa.Engine) -> None:
    ledger = Ledger(engine)
    ledger.begin(STREAM, BEGIN, LOADED_AT)
    loaded(engine, hours(0, 24))
    now = BEGIN + 5 * DAY

    [found] = gather(ledger, [STREAM], BEGIN, now)
    drawn = [coverage for _, coverage in days_of(ledger, STREAM, BEGIN, now)]

    assert (found.gaps, found.behind) == ((), 4 * DAY)
    assert drawn == [Coverage.LOADED, *[Coverage.NOT_YET] * 4]


def test_the_picture_has_a_gap_where_one_is_told(engine: sa.Engine) -> None:
    ledger = Ledger(engine)
    ledger.begin(STREAM, BEGIN, LOADED_AT)
    loaded(engine, hours(0, 24))
    loaded(engine, hours(72, 96))
    now = BEGIN + 5 * DAY

    [found] = gather(ledger, [STREAM], BEGIN, now)
    drawn = [coverage for _, coverage in days_of(ledger, STREAM, BEGIN, now)]

    assert found.gaps == (hours(24, 72),)
    assert drawn[1:] == [Coverage.GAP, Coverage.GAP, Coverage.LOADED, Coverage.NOT_YET]


def test_gaps_before_the_start_of_a_stream_are_told(engine: sa.Engine) -> None:
    ledger = Ledger(engine)
    loaded(engine, hours(-240, -216))
    ledger.begin(STREAM, BEGIN, LOADED_AT)
    loaded(engine, hours(0, 24))

    [found] = gather(ledger, [STREAM], BEGIN, BEGIN + DAY)

    assert found.gaps == (hours(-216, 0),)


def test_a_start_that_was_set_earlier_afterwards_leaves_a_gap(engine: sa.Engine) -> None:
    ledger = Ledger(engine)
    ledger.begin(STREAM, BEGIN, LOADED_AT)
    loaded(engine, hours(0, 24))

    [found] = gather(ledger, [STREAM], BEGIN - 2 * DAY, BEGIN + DAY)
    drawn = [coverage for _, coverage in days_of(ledger, STREAM, BEGIN - 2 * DAY, BEGIN + DAY)]

    assert found.gaps == (hours(-48, 0),)
    assert drawn == [Coverage.GAP, Coverage.GAP, Coverage.LOADED]


def test_no_minimum_is_above_what_was_spent(engine: sa.Engine) -> None:
    loaded(engine, hours(0, 24), requests=2)  # it had succeeded at once: no poll

    [found] = gather(Ledger(engine), [STREAM], BEGIN, BEGIN + 25 * timedelta(hours=1))

    assert (found.requests, found.least_requests) == (2, 2)


def test_a_backfilled_service_is_no_stream_that_never_ran(engine: sa.Engine) -> None:
    ledger = Ledger(engine)
    service = Stream(STREAM.organization, "Directory")
    ledger.begin(STREAM, BEGIN, LOADED_AT)
    for window in (hours(-48, -24), hours(-24, -12)):
        loaded(engine, window, stream=service)

    found = gather(ledger, [STREAM], BEGIN, BEGIN + DAY)

    assert [status.stream for status in found] == [STREAM]
    assert backfilled(ledger, [STREAM]) == {service: [hours(-48, -12)]}
    assert backfilled(ledger, [STREAM, service]) == {}


def test_a_stream_that_the_configuration_no_longer_names_stays(engine: sa.Engine) -> None:
    ledger = Ledger(engine)
    ledger.begin(STREAM, BEGIN, LOADED_AT)
    other = Stream(STREAM.organization, "Directory")

    found = gather(ledger, [other], BEGIN, BEGIN + DAY)

    assert [(status.stream, status.configured) for status in found] == [
        (STREAM, False),
        (other, True),
    ]


@pytest.mark.parametrize(
    "command",
    [
        ("query", "SELECT count(*) FROM audit_events"),
        ("verify", "--from", "2d", "--to", "1d"),
    ],
    ids=["query", "verify"],
)
@pytest.mark.parametrize("destination", ["sqlite:///audits.db", "parquet:///{folder}/lake"])
def test_a_read_command_in_a_wrong_folder_makes_nothing(
    tmp_path: Path, command: tuple[str, ...], destination: str
) -> None:
    env = environment(
        AUDIT_ETL_DESTINATION=destination.format(folder=str(tmp_path).lstrip("/")),
        GENESYSCLOUD_REGION="http://127.0.0.1:9",
        GENESYSCLOUD_OAUTHCLIENT_ID="made-up",
        GENESYSCLOUD_OAUTHCLIENT_SECRET="made-up-secret",
    )

    done = audit_etl(*command, env=env, cwd=tmp_path)

    assert done.returncode == 78, done
    assert str(tmp_path) in done.stderr
    assert "AUDIT_ETL_DESTINATION" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_status_in_a_wrong_folder_says_where_it_looked(tmp_path: Path) -> None:
    done = audit_etl("status", env=environment(), cwd=tmp_path)

    assert f"nothing has been loaded into {tmp_path}/audits.db yet" in done.stdout
    assert list(tmp_path.iterdir()) == []
