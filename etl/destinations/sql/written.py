"""What the transactions of a load have written."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from etl.ledger.lateness import NOTHING, Arrived
from etl.model import PendingReceipt, Receipt


class Written(NamedTuple):
    """What a transaction has done.

    Attributes:
        events: audits that it was given.
        repeated: how many of them it was given more than once.
        new: the ids of those that were not there.
        arrived: what is new in time that had been loaded before.
        rejects: records that cannot be rows.
    """

    events: int
    repeated: int
    new: Sequence[str]
    arrived: Arrived
    rejects: int


NONE: Final = Written(0, 0, (), NOTHING, 0)


class Total:
    """What the transactions of one load have done together."""

    def __init__(self) -> None:
        self.events = self.repeated = self.new_events = self.rejects = self.restored = 0

    def receipt(self, pending: PendingReceipt, last: Written) -> Receipt:
        """What the window's receipt says if `last` is committed with it."""
        return pending.receipt(
            events=self.events + last.events,
            new_events=self.new_events + len(last.new),
            rejects=self.rejects + last.rejects,
            repeated=self.repeated + last.repeated,
        )

    def add(self, pending: PendingReceipt, written: Written) -> None:
        """Add what was committed, and tell whoever asks."""
        self.events += written.events
        self.repeated += written.repeated
        self.new_events += len(written.new)
        self.rejects += written.rejects
        self.restored += written.arrived.restored
        if written.arrived.late and pending.late:
            pending.late(written.arrived.late)
        if pending.new:
            pending.new(written.new)
