"""One process exports a stream at a time; whoever was paused past its lease can commit nothing."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.app import clock
from etl.database import migration
from etl.database.engine import open_engine
from etl.database.schema import leases
from etl.database.transactions import transact
from etl.errors import LeaseHeld
from etl.ledger.leases import LEASE_TIMING, LeaseTiming, acquire, give_back, holding, renew
from etl.ledger.processes import this_process
from etl.window import iso_utc
from tests.support.daemons import until
from tests.support.samples import BEGIN, HOUR

OTHER = "elsewhere/1/1"
LEASE = LEASE_TIMING.length


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[sa.Engine]:
    """An SQLite database, whose leases go by the clock that they are given."""
    engine = open_engine(f"sqlite:///{tmp_path / 'audits.db'}")
    migration.upgrade(engine)
    yield engine
    engine.dispose()


def test_a_lease_held_by_another_says_who_has_it_and_since_when(engine: sa.Engine) -> None:
    acquire(engine, "default/*", OTHER, BEGIN)

    with pytest.raises(LeaseHeld) as refused:
        acquire(engine, "default/*", this_process(), BEGIN + LEASE - timedelta(seconds=1))

    [(acquired_at, _)] = times(engine)
    assert f"process 1 on elsewhere since {iso_utc(acquired_at)}" in str(refused.value)
    assert refused.value.exit_status == 75


def test_an_expired_lease_changes_hands_and_its_last_holder_can_confirm_no_more(
    engine: sa.Engine,
) -> None:
    first = acquire(engine, "default/*", OTHER, BEGIN)
    pass_by(engine, LEASE)
    second = acquire(engine, "default/*", this_process(), BEGIN)

    transact(engine, second.confirm)
    with pytest.raises(LeaseHeld, match="taken by another process"):
        transact(engine, first.confirm)


def test_an_expired_lease_that_nobody_took_is_still_good(engine: sa.Engine) -> None:
    lease = acquire(engine, "default/*", OTHER, BEGIN)

    transact(engine, lease.confirm)


def test_a_released_lease_can_be_had_at_once(engine: sa.Engine) -> None:
    give_back(engine, acquire(engine, "default/*", OTHER, BEGIN), BEGIN)

    assert acquire(engine, "default/*", this_process(), BEGIN).token == 2


def test_another_stream_is_another_lease(engine: sa.Engine) -> None:
    acquire(engine, "default/*", OTHER, BEGIN)

    assert acquire(engine, "acme/*", this_process(), BEGIN).token == 1


def of_this_machine(pid: int, started: str = "1") -> str:
    """The name of a process of this machine's."""
    host, _, _, *rest = this_process().split("/")
    return "/".join([host, str(pid), started, *rest])


@pytest.fixture
def dead() -> int:
    """The number of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_dead_process_of_this_machine_holds_nothing_up(engine: sa.Engine, dead: int) -> None:
    acquire(engine, "default/*", of_this_machine(dead), BEGIN)

    assert acquire(engine, "default/*", this_process(), BEGIN).token == 2


def test_a_process_id_that_was_given_anew_is_another_process(engine: sa.Engine) -> None:
    acquire(engine, "default/*", of_this_machine(os.getpid()), BEGIN)

    assert acquire(engine, "default/*", this_process(), BEGIN).token == 2


@pytest.mark.parametrize(
    "holder",
    [
        "{host}/{pid}/1",
        "{host}/{pid}/1/{boot}",
        "{host}/{pid}/1/{boot}/pid:[1]",
        "{host}/{pid}/1/00000000-0000-0000-0000-000000000000/{space}",
        "{host}/{pid}/1//{space}",
        "{host}/{pid}/1/{boot}/",
        "{host}/{pid}//{boot}/{space}",
        "{host}/{pid}/1//",
        "{pid}",
    ],
    ids=lambda holder: holder.replace("/", " "),
)
def test_a_process_whose_number_would_not_be_seen_here_is_not_called_dead(
    lite: sa.Engine, dead: int, holder: str
) -> None:
    host, _, _, boot, space = this_process().split("/")
    acquire(lite, "a", holder.format(host=host, pid=dead, boot=boot, space=space), BEGIN)

    with pytest.raises(LeaseHeld):
        acquire(lite, "a", this_process(), BEGIN + LEASE - timedelta(seconds=1))
    assert acquire(lite, "a", this_process(), BEGIN + LEASE).token == 2


def test_a_process_is_told_by_its_boot_and_its_space_whatever_its_host_is_called(
    lite: sa.Engine, dead: int
) -> None:
    acquire(lite, "a", "renamed" + of_this_machine(dead), BEGIN)

    assert acquire(lite, "a", this_process(), BEGIN).token == 2


@pytest.mark.parametrize("host", ["h" * 300, "a/b/c", "ü" * 300])
def test_any_host_s_name_fits_into_a_holder_s(
    lite: sa.Engine, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)

    assert len(this_process()) <= 255
    assert len(this_process().split("/")) == 5
    acquire(lite, "a", this_process(), BEGIN)
    with pytest.raises(LeaseHeld, match=f"process {os.getpid()} on "):
        acquire(lite, "a", OTHER, BEGIN)


def test_where_the_system_does_not_tell_nobody_is_called_dead(
    lite: sa.Engine, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    monkeypatch.setattr(Path, "readlink", absent)
    acquire(lite, "a", of_this_machine(dead, ""), BEGIN)

    assert this_process() == f"{socket.gethostname().replace('/', '_')}/{os.getpid()}///"
    with pytest.raises(LeaseHeld):
        acquire(lite, "a", this_process(), BEGIN)


def test_processes_of_another_space_whose_files_are_seen_are_not_called_dead(
    lite: sa.Engine, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that sees the host's /proc: a number is that of another process there."""
    name = of_this_machine(dead)
    seen = Path.readlink

    def readlink(self: Path) -> Path:
        return Path("1") if str(self) == "/proc/self" else seen(self)

    monkeypatch.setattr(Path, "readlink", readlink)
    acquire(lite, "a", name, BEGIN)

    assert this_process().endswith("/")
    with pytest.raises(LeaseHeld):
        acquire(lite, "a", this_process(), BEGIN)


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
    pass_by(engine, LEASE / 2)
    with holding(engine, held, lambda: BEGIN, LeaseTiming(renewal_seconds=0.01)):
        until(lambda: times(engine)[0][1] - times(engine)[0][0] > LEASE, "it is renewed")
        with pytest.raises(LeaseHeld):
            acquire(engine, "a", this_process(), BEGIN)


def test_a_lease_that_was_lost_does_not_keep_its_new_holder_s(engine: sa.Engine) -> None:
    first = acquire(engine, "a", OTHER, BEGIN)
    pass_by(engine, LEASE)
    acquire(engine, "a", "elsewhere/2/2", BEGIN, LEASE / 2)
    taken = times(engine)

    assert not renew(engine, first, BEGIN, 9 * LEASE)
    give_back(engine, first, BEGIN)
    assert times(engine) == taken


@pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("years", [-30, 30])
def test_leases_go_by_the_server_s_clock_whatever_that_of_a_process_shows(
    engine: sa.Engine, years: int
) -> None:
    wrong = BEGIN + years * timedelta(days=365)
    held = acquire(engine, "a", OTHER, wrong)

    with pytest.raises(LeaseHeld):
        acquire(engine, "a", this_process(), BEGIN + 100 * LEASE)
    [(acquired_at, expires_at)] = times(engine)
    assert abs(acquired_at - clock()) < timedelta(hours=1)
    assert expires_at - acquired_at == LEASE
    with holding(engine, held, lambda: wrong, LeaseTiming(renewal_seconds=0.01)):
        until(lambda: times(engine)[0][1] > expires_at, "it is renewed")
    assert times(engine)[0][1] < expires_at
    assert acquire(engine, "a", this_process(), BEGIN).token == 2


def test_a_clock_that_was_set_back_keeps_a_lease_for_two_minutes_at_most(lite: sa.Engine) -> None:
    acquire(lite, "a", OTHER, BEGIN)
    for seconds in (0, 119):
        with pytest.raises(LeaseHeld):
            acquire(lite, "a", this_process(), BEGIN + timedelta(seconds=seconds) - 5 * HOUR)

    assert acquire(lite, "a", this_process(), BEGIN + timedelta(seconds=120) - 5 * HOUR).token == 2


def pass_by(engine: sa.Engine, length: timedelta) -> None:
    """Let so much time pass, as far as leases tell it."""
    with engine.begin() as connection:
        for name, acquired_at, expires_at in connection.execute(
            sa.select(leases.c.name, leases.c.acquired_at, leases.c.expires_at)
        ).all():
            connection.execute(
                sa.update(leases)
                .where(leases.c.name == name)
                .values(acquired_at=acquired_at - length, expires_at=expires_at - length)
            )


def times(engine: sa.Engine) -> list[tuple[datetime, datetime]]:
    """When each lease was acquired, and when it ends."""
    with engine.connect() as connection:
        rows = connection.execute(sa.select(leases.c.acquired_at, leases.c.expires_at)).all()
        return [(acquired_at, expires_at) for acquired_at, expires_at in rows]
