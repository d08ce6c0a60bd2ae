"""How long a database is waited for."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a database is waited for, in seconds.

    Attributes:
        lock: for another session's lock.
        connect: for a server to accept a connection.
        dead: for a machine to acknowledge what was sent; also how often an idle one is probed.
        statement: for a server that is alive to say anything: a commit, the first row of an
            answer. The longest legitimate wait is a count over years of audits on a slow disk.
            Migrations and `query` have no such limit.
        pool: for a connection of this program's own to be given back.
    """

    lock: int = 30
    connect: int = 10
    dead: int = 60
    statement: int = 600
    pool: int = 30


TIMEOUTS: Final = Timeouts()

#: Probes of a silent machine before its connection counts as lost.
PROBES: Final = 3


def probe_seconds(timeouts: Timeouts) -> int:
    """The interval of probes: half of `dead` passes before the first, half until the last."""
    return max(1, timeouts.dead // (2 * PROBES))
