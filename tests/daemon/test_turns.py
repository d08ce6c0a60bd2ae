"""Many organisations in one daemon: so many at work at once, in order, and nobody is forgotten."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.daemon.turns import Turns
from etl.monitoring.movement import Movement
from etl.simulator.faults import Faults
from tests.support import database_servers as servers
from tests.support.commands import CLIENT_ID, SECRET, audit_etl
from tests.support.daemons import Daemon, until
from tests.support.live_organization import Organisation, copy_at, living
from tests.support.simulated_organization import HandClock

ORGANIZATIONS = 120
CONNECTIONS = 4 + 2 * 8
#: Of psql sessions and the like beside the daemon.
SERVER_CONNECTIONS = 30

#: The same program, but a turn counts for a second.
QUICK_TURNS = """
from functools import partial
from etl.cli import main
from etl.daemon import runtime
runtime.Turns = partial(runtime.Turns, seconds=1.0)
main()
"""


@pytest.fixture
def time() -> HandClock:
    return HandClock()


@pytest.mark.parametrize("asked", [1, 2, 3, 4, 5])
def test_turns_are_granted_in_order_and_never_more_than_their_number(
    time: HandClock, asked: int
) -> None:
    turns = Turns(2, time.monotonic)

    waiting = [turns.ask() for _ in range(asked)]

    for begun in range(asked):
        granted = [turn.granted.is_set() for turn in waiting]
        assert granted == [n < begun + 2 for n in range(asked)]
        turns.give_back(waiting[begun])


def test_a_turn_that_lasts_holds_up_nobody_and_is_over_once_others_wait(time: HandClock) -> None:
    turns = Turns(1, time.monotonic, seconds=60)
    first = turns.ask()
    time.move(seconds=61)
    assert not turns.is_over(first)

    second, third = turns.ask(), turns.ask()
    assert second.granted.is_set()
    assert not third.granted.is_set()
    assert turns.is_over(first)
    assert not turns.is_over(second)

    time.move(seconds=61)
    turns.pass_on()
    assert third.granted.is_set()
    for turn in (first, second, third):
        turns.give_back(turn)
    assert turns.ask().granted.is_set()
    assert not turns.ask().granted.is_set()


def test_nobody_waits_for_a_turn_when_all_work_is_being_stopped(time: HandClock) -> None:
    turns = Turns(1, time.monotonic)
    turns.ask()
    second = turns.ask()

    turns.end()

    assert second.granted.is_set()


def test_an_organisation_at_work_is_still_when_it_shows_no_sign_of_life(time: HandClock) -> None:
    movement = Movement(time.monotonic)
    movement.moves("never began")
    for name in ("moves", "still", "rests"):
        movement.begins(name)

    time.move(seconds=50)
    movement.moves("moves")
    movement.rests("rests")
    movement.moves("rests")
    time.move(seconds=50)

    assert list(movement.still(60)) == [("still", 100.0)]
    assert sorted(movement.still(49)) == [("moves", 50.0), ("still", 100.0)]


def credentials(names: dict[str, Organisation]) -> str:
    """The lines of a configuration with organisations, whose secret is in the environment."""
    return "".join(
        f'[organizations.{name}]\nregion = "{of.url}"\nclient_id = "{CLIENT_ID}"\n'
        'client_secret_file = "secret"\n'
        for name, of in names.items()
    )


@pytest.fixture
def organisation() -> Iterator[Organisation]:
    with living() as organisation:
        organisation.simulator.allowed_per_minute = 100_000
        yield organisation


def configured(
    env: dict[str, str], names: dict[str, Organisation], folder: Path, **more: str
) -> dict[str, str]:
    """An environment in which a daemon exports several organisations."""
    config = folder / "audit-etl.toml"
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o600)
    config.write_text(credentials(names))
    plain = {name: value for name, value in env.items() if not name.startswith("GENESYSCLOUD_")}
    return plain | {"AUDIT_ETL_CONFIG": str(config)} | more


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_120_organisations_are_loaded_over_a_few_connections(
    organisation: Organisation, tmp_path: Path
) -> None:
    names = {f"org{n:03}": organisation for n in range(ORGANIZATIONS)}
    with servers.own_postgres(tmp_path, max_connections=SERVER_CONNECTIONS) as server:
        never = json.dumps([{"name": "never", "interval": "365d", "lookback": "0s"}])
        env = configured(
            organisation.environment(server.url), names, tmp_path, AUDIT_ETL_SCHEDULES=never
        )
        assert audit_etl("migrate", env=env, cwd=tmp_path).returncode == 0
        engine = sa.create_engine(server.url, poolclass=sa.NullPool)
        opened = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'audit-etl'"
        loaded = "SELECT COUNT(DISTINCT organization) FROM receipts"
        most: list[int] = []
        with Daemon(tmp_path / "log", env) as daemon, engine.connect() as connection:

            def all_are_loaded() -> bool:
                most.append(int(connection.exec_driver_sql(opened).scalar_one()))
                done = connection.exec_driver_sql(loaded).scalar_one()
                connection.rollback()
                return int(done) == ORGANIZATIONS

            until(all_are_loaded, "every organisation is loaded", 600)
            threads = len(list(Path(f"/proc/{daemon.process.pid}/task").iterdir()))
            assert daemon.ended() == 0

        assert max(most) <= CONNECTIONS
        assert threads < ORGANIZATIONS + 20  # a thread for each, and few besides
        assert "failed" not in daemon.log
        for name in (min(names), max(names)):
            with copy_at(server.url, organisation, name) as copy:
                copy.keeps_its_promises()


@pytest.mark.slow
def test_organisations_whose_queries_never_end_starve_nobody(
    organisation: Organisation, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'audits.db'}"
    with ExitStack() as stack:
        stuck = {f"a_stuck{n}": stack.enter_context(living()) for n in range(3)}
        for one in stuck.values():
            one.simulator.faults = Faults(stuck_query_every=1)
        names = stuck | {"b_one": organisation, "c_two": organisation}
        env = configured(organisation.environment(url), names, tmp_path, AUDIT_ETL_CONCURRENCY="2")
        daemon = stack.enter_context(Daemon(tmp_path / "log", env, QUICK_TURNS))
        for name in ("b_one", "c_two"):
            copy = stack.enter_context(copy_at(url, organisation, name))
            until(lambda copy=copy: copy.receipts >= 3, f"{name} goes on")  # type: ignore[misc]
            copy.keeps_its_promises()
        assert daemon.ended() == 0


@pytest.mark.slow
def test_another_daemon_does_what_one_has_no_turn_for(
    organisation: Organisation, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'audits.db'}"
    with ExitStack() as stack:
        stuck = stack.enter_context(living())
        stuck.simulator.faults = Faults(stuck_query_every=1)
        names = {"a_stuck": stuck, "b_one": organisation}
        env = configured(organisation.environment(url), names, tmp_path, AUDIT_ETL_CONCURRENCY="1")
        copy = stack.enter_context(copy_at(url, organisation, "b_one"))
        stack.enter_context(Daemon(tmp_path / "1.log", env))
        until(lambda: stuck.simulator.requests["status"], "the only turn of the first is taken")
        assert copy.receipts == 0

        second = stack.enter_context(Daemon(tmp_path / "2.log", env))

        until(lambda: copy.receipts >= 2, "the second does the other one")
        assert second.ended() == 0
        copy.keeps_its_promises()
