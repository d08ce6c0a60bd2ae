"""Who may export a stream: a row in `leases`, held for a minute at a time.

A lease keeps two processes from asking for the same audits twice; it is not what keeps the data
right. That is the token: it grows with every change of hands, and a load commits only while its
own token is still in the row. So a process that was paused past its lease can commit nothing.

Leases go by the clock of the database's server, which all processes share, whatever their own
clocks show. SQLite has no server: there they go by the machine's clock.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import sqlalchemy as sa

from etl.database.schema import leases
from etl.database.times import read_time
from etl.database.transactions import transact
from etl.errors import DestinationUnavailable, LeaseHeld
from etl.ledger.processes import holder_name, is_dead
from etl.window import iso_utc

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """How leases are held and waited for.

    Attributes:
        length: how long a lease is held without a sign of life.
        renewal_seconds: how often the holder gives one.
        poll_seconds: how often whoever waits for a lease asks for it.
    """

    length: timedelta = timedelta(seconds=60)
    renewal_seconds: float = 15.0
    poll_seconds: float = 2.0


LEASE_TIMING: Final = LeaseTiming()
#: No lease lasts longer without a sign of life, whoever took it: a clock was set back meanwhile.
LENGTH_MAX: Final = 2 * LEASE_TIMING.length
#: How a server is asked for its time.
_SERVER_TIME: Final = {
    "postgresql": "SELECT clock_timestamp()",
    "mysql": "SELECT UTC_TIMESTAMP(3)",
    "mariadb": "SELECT UTC_TIMESTAMP(3)",
}


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to export one stream, as long as `token` stands in its row."""

    name: str
    holder: str
    token: int

    def confirm(self, connection: sa.Connection) -> None:
        """Return if the lease is still ours, and keep others from taking it until the commit.

        Raises:
            LeaseHeld: another process has taken it; the caller's transaction must not commit.
        """
        ours = leases.c.name == self.name, leases.c.token == self.token
        kept = connection.execute(sa.update(leases).where(*ours).values(token=self.token))
        if kept.rowcount != 1:
            raise LeaseHeld(
                f"the lease {self.name} was taken by another process while this one was held up; "
                "that process goes on with the work"
            )


def acquire(
    engine: sa.Engine,
    name: str,
    holder: str,
    now: datetime,
    length: timedelta = LEASE_TIMING.length,
) -> Lease:
    """Take the lease `name` for `length` from now on.

    A lease is taken over if it has expired, if its holder was a process of this machine that is
    dead, or if it is this process's own, which could not release it while the database was away.

    Args:
        holder: who takes it; see `processes.this_process`.
        now: this machine's time, used where the database has none.

    Raises:
        LeaseHeld: another process holds it; the message says which, since when and until when.
    """
    outcome = transact(engine, partial(_take, name=name, holder=holder, now=now, length=length))
    if isinstance(outcome, LeaseHeld):
        raise outcome
    return outcome


def _take(
    connection: sa.Connection, name: str, holder: str, now: datetime, length: timedelta
) -> Lease | LeaseHeld:
    query = sa.select(leases).where(leases.c.name == name).with_for_update()
    row = connection.execute(query).mappings().first()
    at = _time(connection, now)  # asked for once the row is locked, which may have taken long
    values = {"holder": holder, "acquired_at": at, "expires_at": at + length}
    if row is None:
        connection.execute(sa.insert(leases), values | {"name": name, "token": 1})
        return Lease(name, holder, 1)
    row_of_lease = sa.update(leases).where(leases.c.name == name)
    if row["expires_at"] > at and row["holder"] != holder and not is_dead(row["holder"]):
        ends = min(row["expires_at"], at + LENGTH_MAX)
        if ends < row["expires_at"]:
            connection.execute(row_of_lease.values(expires_at=ends))
        return LeaseHeld(
            f"{name} is held by {holder_name(row['holder'])} since {iso_utc(row['acquired_at'])}; "
            f"its lease ends {iso_utc(ends)} unless it is renewed: wait for it (--wait), or stop "
            "that process"
        )
    token = row["token"] + 1
    connection.execute(row_of_lease.values(token=token, **values))
    return Lease(name, holder, token)


def _time(connection: sa.Connection, ours: datetime) -> datetime:
    """The time by the database's server; ours, if there is none."""
    query = _SERVER_TIME.get(connection.dialect.name)
    return ours if query is None else read_time(connection.exec_driver_sql(query).scalar_one())


def forget(connection: sa.Connection, name: str) -> None:
    """Drop the lease, as if nobody had ever taken it."""
    connection.execute(sa.delete(leases).where(leases.c.name == name))


@contextmanager
def holding(
    engine: sa.Engine,
    lease: Lease,
    now: Callable[[], datetime],
    timing: LeaseTiming = LEASE_TIMING,
) -> Iterator[Lease]:
    """Keep an acquired lease during the block, renewed by a thread; release it at the end.

    Args:
        lease: what `acquire` gave.
        now: this machine's clock; see `acquire`.
        timing: for how long, and how often, it is renewed.
    """
    ended = threading.Event()

    def keep_on() -> None:
        while not ended.wait(timing.renewal_seconds):
            try:
                renewed = renew(engine, lease, now(), timing.length)
            except DestinationUnavailable:
                continue  # the load meets the same error, or `confirm` finds the lease gone
            if not renewed:
                return

    thread = threading.Thread(target=keep_on, name=f"lease {lease.name}", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        ended.set()
        thread.join()
        give_back(engine, lease, now())


def give_back(engine: sa.Engine, lease: Lease, now: datetime) -> None:
    """Let the next process have the lease at once; nothing happens if it is no longer ours.

    If the database is away, it expires, and what ended the block is told.
    """
    try:
        renew(engine, lease, now, timedelta(0))
    except DestinationUnavailable as error:
        _LOG.warning("%s is not released, it ends by itself: %s", lease.name, error)


def renew(engine: sa.Engine, lease: Lease, now: datetime, length: timedelta) -> bool:
    """Have the lease end `length` from now on; whether it was still ours."""

    def work(connection: sa.Connection) -> bool:
        ends = _time(connection, now) + length
        kept = connection.execute(
            sa.update(leases)
            .where(leases.c.name == lease.name, leases.c.token == lease.token)
            .values(expires_at=ends)
        )
        return kept.rowcount == 1

    return transact(engine, work)


class Shared:
    """One lease that the threads of this process hold together, while any of them needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = ExitStack()
        self._lease: Lease | None = None
        self._users = 0

    @contextmanager
    def joining(
        self, engine: sa.Engine, take: Callable[[], AbstractContextManager[Lease]]
    ) -> Iterator[Lease]:
        """Hold the lease during the block, with whoever holds it already.

        Args:
            take: acquires it; called if no other thread holds it.

        Raises:
            LeaseHeld: another process holds it.
        """
        with self._lock:
            if self._lease is None:
                self._lease = self._held.enter_context(take())
            else:
                transact(engine, self._lease.confirm)
            lease = self._lease
            self._users += 1
        try:
            yield lease
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._lease = None
                    self._held.close()
