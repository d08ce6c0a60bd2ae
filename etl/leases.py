"""Who may export a stream: a row in `leases`, held for a minute at a time.

A lease keeps two processes from asking for the same audits twice; it is not what keeps the data
right. That is the token: it grows with every change of hands, and a load commits only while its
own token is still in the row. So a process that was paused past its lease can commit nothing.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from etl.database import transact
from etl.errors import DestinationUnavailable, LeaseHeld
from etl.schema import leases
from etl.window import stamp

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tenure:
    """How leases are held and waited for.

    Attributes:
        length: how long a lease is held without a sign of life.
        renewal_seconds: how often the holder gives one.
        poll_seconds: how often whoever waits for a lease asks for it.
    """

    length: timedelta = timedelta(seconds=60)
    renewal_seconds: float = 15.0
    poll_seconds: float = 2.0


TENURE: Final = Tenure()


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
        kept = connection.execute(sa.update(leases).where(*self._ours()).values(token=self.token))
        if kept.rowcount != 1:
            raise LeaseHeld(
                f"the lease {self.name} was taken by another process while this one was held up; "
                "that process goes on with the work"
            )

    def _ours(self) -> tuple[sa.ColumnElement[bool], ...]:
        return leases.c.name == self.name, leases.c.token == self.token


def acquire(
    engine: sa.Engine, name: str, holder: str, now: datetime, length: timedelta = TENURE.length
) -> Lease:
    """Take the lease `name` for `length` from `now` on.

    A lease is taken over if it has expired, if its holder was a process of this machine that is
    dead, or if it is this process's own, which could not release it while the database was away.

    Raises:
        LeaseHeld: another process holds it; the message says which, since when and until when.
    """

    def work(connection: sa.Connection) -> Lease:
        query = sa.select(leases).where(leases.c.name == name).with_for_update()
        row = connection.execute(query).mappings().first()
        values = {"holder": holder, "acquired_at": now, "expires_at": now + length}
        if row is None:
            connection.execute(sa.insert(leases), values | {"name": name, "token": 1})
            return Lease(name, holder, 1)
        if row["expires_at"] > now and row["holder"] != holder and not _is_dead(row["holder"]):
            raise LeaseHeld(
                f"{name} is held by {describe(row['holder'])} since "
                f"{stamp(row['acquired_at'])}; its lease ends {stamp(row['expires_at'])} unless it "
                "is renewed: wait for it (--wait), or stop that process"
            )
        token = row["token"] + 1
        connection.execute(
            sa.update(leases).where(leases.c.name == name).values(token=token, **values)
        )
        return Lease(name, holder, token)

    return transact(engine, work)


def release(engine: sa.Engine, lease: Lease, now: datetime) -> None:
    """Let the next process have the lease at once; nothing happens if it is no longer ours."""
    transact(
        engine,
        lambda connection: connection.execute(
            sa.update(leases)
            .where(leases.c.name == lease.name, leases.c.token == lease.token)
            .values(expires_at=now)
        ),
    )


@contextmanager
def holding(
    engine: sa.Engine,
    lease: Lease,
    now: Callable[[], datetime],
    tenure: Tenure = TENURE,
    lost: Callable[[], None] = lambda: None,
) -> Iterator[Lease]:
    """Keep an acquired lease during the block, renewed by a thread; release it at the end.

    Args:
        engine: the state database.
        lease: what `acquire` gave.
        now: the clock.
        tenure: for how long, and how often, it is renewed.
        lost: called by that thread, once, if another process has taken the lease.
    """
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(tenure.renewal_seconds):
            try:
                renewed = _renew(engine, lease, now() + tenure.length)
            except DestinationUnavailable:
                continue  # the load meets the same error, or `confirm` finds the lease gone
            if not renewed:
                lost()
                return

    thread = threading.Thread(target=renew, name=f"lease {lease.name}", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        ended.set()
        thread.join()
        _give_back(engine, lease, now())


def _give_back(engine: sa.Engine, lease: Lease, now: datetime) -> None:
    """Release a lease; if the database is away, it expires, and what ended the block is told."""
    try:
        release(engine, lease, now)
    except DestinationUnavailable as error:
        _LOG.warning("%s is not released, it ends by itself: %s", lease.name, error)


def _renew(engine: sa.Engine, lease: Lease, until: datetime) -> bool:
    """Whether the lease is still ours, and held until then."""
    kept = transact(
        engine,
        lambda connection: connection.execute(
            sa.update(leases)
            .where(leases.c.name == lease.name, leases.c.token == lease.token)
            .values(expires_at=until)
        ),
    )
    return kept.rowcount == 1


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
            engine: the state database.
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


def this_process() -> str:
    """A holder's name that no other process has: host, process id, and when it started."""
    return f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}"


def describe(holder: str) -> str:
    """A holder's name as a sentence has it."""
    parts = holder.split("/")
    return f"process {parts[1]} on {parts[0]}" if len(parts) == 3 else holder


def _is_dead(holder: str) -> bool:
    """Whether `holder` was a process of this machine that is no more."""
    host, _, process = holder.partition("/")
    pid, _, started = process.partition("/")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return bool(started) and _started(int(pid)) not in {"", started}


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks since boot; empty where that is not known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # field 22 of proc(5), counted after the name
