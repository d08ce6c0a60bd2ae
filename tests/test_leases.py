"""One process exports a stream at a time; whoever was paused past its lease can commit nothing."""

import os
import socket
import subprocess
import sys
from datetime import timedelta

import pytest
import sqlalchemy as sa

from etl.database import transact
from etl.errors import LeaseHeld
from etl.leases import TENURE, Tenure, acquire, holding, release, this_process
from tests.samples import BEGIN

OTHER = "elsewhere/1/1"
LEASE = TENURE.length


def test_a_lease_held_by_another_says_who_has_it_and_since_when(engine: sa.Engine) -> None:
    acquire(engine, "default/*", OTHER, BEGIN)

    with pytest.raises(LeaseHeld) as refused:
        acquire(engine, "default/*", this_process(), BEGIN + LEASE - timedelta(seconds=1))

    assert "process 1 on elsewhere since 2026-03-01T00:00:00Z" in str(refused.value)
    assert refused.value.exit_status == 75


def test_an_expired_lease_changes_hands_and_its_last_holder_can_confirm_no_more(
    engine: sa.Engine,
) -> None:
    first = acquire(engine, "default/*", OTHER, BEGIN)
    second = acquire(engine, "default/*", this_process(), BEGIN + LEASE)

    transact(engine, second.confirm)
    with pytest.raises(LeaseHeld, match="taken by another process"):
        transact(engine, first.confirm)


def test_an_expired_lease_that_nobody_took_is_still_good(engine: sa.Engine) -> None:
    lease = acquire(engine, "default/*", OTHER, BEGIN)

    transact(engine, lease.confirm)


def test_a_released_lease_can_be_had_at_once(engine: sa.Engine) -> None:
    release(engine, acquire(engine, "default/*", OTHER, BEGIN), BEGIN)

    assert acquire(engine, "default/*", this_process(), BEGIN).token == 2


def test_another_stream_is_another_lease(engine: sa.Engine) -> None:
    acquire(engine, "default/*", OTHER, BEGIN)

    assert acquire(engine, "acme/*", this_process(), BEGIN).token == 1


def test_a_dead_process_of_this_machine_holds_nothing_up(engine: sa.Engine) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    acquire(engine, "default/*", f"{socket.gethostname()}/{process.pid}/1", BEGIN)

    assert acquire(engine, "default/*", this_process(), BEGIN).token == 2


def test_a_process_id_that_was_given_anew_is_another_process(engine: sa.Engine) -> None:
    acquire(engine, "default/*", f"{socket.gethostname()}/{os.getpid()}/1", BEGIN)

    assert acquire(engine, "default/*", this_process(), BEGIN).token == 2


def test_a_live_process_of_this_machine_keeps_its_lease(engine: sa.Engine) -> None:
    acquire(engine, "default/*", this_process(), BEGIN)

    with pytest.raises(LeaseHeld):
        acquire(engine, "default/*", OTHER, BEGIN)


def test_a_lease_that_could_not_be_released_is_no_obstacle_to_its_own_holder(
    engine: sa.Engine,
) -> None:
    first = acquire(engine, "default/*", OTHER, BEGIN)

    assert acquire(engine, "default/*", OTHER, BEGIN).token == 2
    with pytest.raises(LeaseHeld, match="taken by another"):
        transact(engine, first.confirm)


def test_a_lease_is_held_during_the_block_and_released_after(engine: sa.Engine) -> None:
    held = acquire(engine, "a", OTHER, BEGIN)
    with holding(engine, held, lambda: BEGIN), pytest.raises(LeaseHeld):
        acquire(engine, "a", this_process(), BEGIN)

    assert acquire(engine, "a", this_process(), BEGIN).token == 2


def test_a_held_lease_is_renewed(engine: sa.Engine) -> None:
    held = acquire(engine, "a", OTHER, BEGIN)
    with holding(engine, held, lambda: BEGIN + 9 * LEASE, Tenure(renewal_seconds=0.01)):
        refused = False
        while not refused:  # until the thread has renewed it; the test's timeout bounds the loop
            with engine.connect() as connection:
                expires_at = connection.execute(
                    sa.text("SELECT expires_at FROM leases WHERE name = 'a'")
                ).scalar_one()
            refused = str(expires_at) > str((BEGIN + 2 * LEASE).replace(tzinfo=None))
        with pytest.raises(LeaseHeld):
            acquire(engine, "a", this_process(), BEGIN + 9 * LEASE)
