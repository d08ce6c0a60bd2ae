"""Two daemons on one destination: one works, the other takes over whatever happens to the first."""

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.support import database_servers as servers
from tests.support.commands import audit_etl
from tests.support.daemons import LEASE_SECONDS, QUICK, Daemon, until
from tests.support.live_organization import Copy, Organisation, copy_at, living

TRADES = 50
KILLS = 5


@pytest.fixture
def organisation() -> Iterator[Organisation]:
    with living() as organisation:
        yield organisation


def taken_over(copy: Copy, by: Daemon, before: int) -> bool:
    """Whether `by` does the work now, and there are more receipts than before."""
    return copy.leader == by.process.pid and copy.receipts > before


def stopped_until_taken_over(stopped: Daemon, copy: Copy, other: Daemon) -> None:
    """Return when `other` does the work of `stopped`, which is stopped then.

    It may have been stopped amid the transaction that renews its lease: others wait until that
    ends. It is let go on and stopped anew then.
    """
    for _ in range(5):
        try:
            until(lambda: copy.leader == other.process.pid, "", 6 * LEASE_SECONDS)
        except AssertionError:
            stopped.send(signal.SIGCONT)
            threading.Event().wait(LEASE_SECONDS / 10)
            stopped.send(signal.SIGSTOP)
        else:
            return
    pytest.fail("stopped five times, and the other never took over")


@pytest.mark.promise("M7")
@pytest.mark.slow
def test_two_daemons_trade_places_fifty_times_and_the_copy_stays_complete(
    organisation: Organisation, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'audits.db'}"
    env = organisation.environment(url)
    with (
        Daemon(tmp_path / "a.log", env, QUICK) as first,
        Daemon(tmp_path / "b.log", env, QUICK) as second,
        copy_at(url, organisation) as copy,
    ):
        until(lambda: copy.leader and copy.caught_up(), "the first catches up")
        daemons = {daemon.process.pid: daemon for daemon in (first, second)}
        trades = 0
        while trades < TRADES:
            leader = daemons[copy.leader]
            [other] = [daemon for daemon in daemons.values() if daemon is not leader]
            # Two times in three the other is stopped in its turn before it has done anything.
            before = copy.receipts if trades % 3 == 0 else -1
            leader.send(signal.SIGSTOP)
            try:
                until(partial(taken_over, copy, other, before), "", 6 * LEASE_SECONDS)
                trades += 1
            except AssertionError:
                pass  # it was stopped amid a transaction: on SQLite others wait until that ends
            leader.send(signal.SIGCONT)
            copy.keeps_its_promises()
        until(copy.caught_up, "the last one works")
        copy.keeps_its_promises()
        assert {first.ended(), second.ended()} == {0}
    for log in (first.log, second.log):
        assert "Traceback" not in log
        assert log.count("this process takes over") >= TRADES // 5


@pytest.mark.promise("M6", "M7")
@pytest.mark.slow
def test_a_daemon_that_is_killed_at_any_instant_is_replaced_by_the_one_that_waits(
    organisation: Organisation, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'audits.db'}"
    env = organisation.environment(url)
    moments = random.Random(5)
    with ExitStack() as stack, copy_at(url, organisation) as copy:
        working = stack.enter_context(Daemon(tmp_path / "0.log", env, QUICK))
        until(copy.caught_up, "the first catches up")
        for n in range(1, KILLS + 1):
            waiting = stack.enter_context(Daemon(tmp_path / f"{n}.log", env, QUICK))
            waiting.says("organisation default waits: daemon:default is held by")
            time.sleep(moments.uniform(0.0, 1.0))  # noqa: TID251 - the instant is the test
            before = copy.receipts
            working.kill()
            waiting.says("this process takes over")
            until(partial(taken_over, copy, waiting, before), "the other works")
            copy.keeps_its_promises()
            assert waiting.log.count(" waits: ") == 1
            working = waiting
        assert working.ended() == 0


@pytest.fixture(params=["sqlite", "postgresql", "parquet"])
def target(
    request: pytest.FixtureRequest, organisation: Organisation, tmp_path: Path
) -> Iterator[tuple[dict[str, str], Copy]]:
    """The environment of a daemon on an empty destination of each kind, and what is there."""
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'audits.db'}"
        if request.param == "postgresql":
            server = request.getfixturevalue("postgres_server")
            url = stack.enter_context(servers.fresh_database(server))
        env = organisation.environment(url)
        lake = tmp_path / "lake" if request.param == "parquet" else None
        if lake:
            env |= {"AUDIT_ETL_DESTINATION": f"parquet://{lake}", "AUDIT_ETL_LEDGER": url}
        assert audit_etl("migrate", env=env).returncode == 0
        yield env, stack.enter_context(copy_at(url, organisation, lake=lake))


@pytest.mark.promise("M7")
@pytest.mark.slow
def test_a_daemon_that_was_paused_past_its_lease_commits_nothing_and_waits(
    organisation: Organisation, target: tuple[dict[str, str], Copy], tmp_path: Path
) -> None:
    env, copy = target
    simulator = organisation.simulator
    simulator.query_seconds = 3600.0
    with (
        Daemon(tmp_path / "a.log", env, QUICK) as paused,
        ExitStack() as stack,
    ):
        until(lambda: simulator.requests["status"] >= 1, "it waits for its query")
        paused.send(signal.SIGSTOP)
        [query] = list(simulator.queries)
        other = stack.enter_context(Daemon(tmp_path / "b.log", env, QUICK))
        stopped_until_taken_over(paused, copy, other)
        assert simulator.requests["results"] == 0
        simulator.query_seconds = 0.0
        for asked in list(simulator.queries.values()):
            asked.ready_ms = asked.created_ms
        until(partial(taken_over, copy, other, 0), "the other does the work")

        paused.send(signal.SIGCONT)

        paused.says("was taken by another process")
        paused.says("organisation default waits")
        assert copy.count(f"SELECT COUNT(*) FROM receipts WHERE query_id = '{query}'") == 1
        copy.keeps_its_promises()
        other.kill()
        paused.says("this process takes over")
        until(copy.caught_up, "it goes on with the work")
        copy.keeps_its_promises()
        assert paused.ended() == 0
