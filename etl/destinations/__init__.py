"""Where audits go: SQL tables, behind one Protocol that every destination keeps."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from etl.model import PendingReceipt, Receipt, Stream
from etl.window import Window

if TYPE_CHECKING:  # the configuration imports this package, and these take longer than a command
    import sqlalchemy as sa

    from etl.ledger.receipts import Ledger
    from etl.records import Audit, Batch

#: Raises, in a transaction that writes, if the process has lost the right to commit it.
Fence = Callable[["sa.Connection"], None]


class Held(NamedTuple):
    """What tells which audit is there, without the audit.

    Attributes:
        early: it was loaded early, and no window has confirmed it yet.
    """

    id: str
    event_date: datetime
    service_name: str | None
    early: bool = False


#: A batch as a destination takes it.
Prepared = TypeVar("Prepared")


class Destination(Protocol[Prepared]):
    """A place that holds each audit once, and knows how far it is sure."""

    ledger: "Ledger"

    def prepared(self, batch: "Batch") -> Prepared:
        """The batch as `load` takes it; called as soon as it is there, by another thread."""
        ...

    def load(self, pending: PendingReceipt, batches: Iterable[Prepared], fence: Fence) -> Receipt:
        """Load one window and write its receipt.

        Afterwards every audit of `batches` is in the destination once, with its children, rejects
        are kept aside, and the receipt and the watermark are durable. An audit that was there
        stays as it was, and none is ever removed. If it raises, whole audits of the window may be
        there, no receipt is, and the watermark has not moved. May be repeated.

        Args:
            pending: what the receipt will say.
            batches: from `prepared`; may be slow, and may raise, which passes through.
            fence: called in each transaction that writes audits or the receipt, before it commits.

        Raises:
            AuditTooLarge: the destination takes no statement that holds one audit, by its settings;
                the window's others are there.
            DestinationUnavailable: the destination refused or lost a write.
        """
        ...

    def held(self, organization: str, window: Window, service: str | None) -> Iterator[Held]:
        """The audits of `window` that are there, in no order; a few thousand are in memory.

        Args:
            window: by their event time.
            service: only those of one service; None for all.

        Raises:
            DestinationUnavailable: the destination cannot be read.
        """
        ...

    def count(self, stream: Stream, span: Window) -> int:
        """How many audits of the stream there are of `span` that a window's query has shown.

        Those that were loaded early and that no window has confirmed do not count.

        Raises:
            DestinationUnavailable: the destination cannot be read.
        """
        ...

    def look_up(self, organization: str, window: Window, ids: Iterable[str]) -> Iterator[Held]:
        """Those of `ids` that are there by their key, whatever their service; perhaps others, too.

        The key in SQL is the id: an audit that is held under a time outside `window` is found. In a
        lake it is the time and the id: only the partitions of `window` are read.

        Raises:
            DestinationUnavailable: the destination cannot be read.
        """
        ...

    def audits_a_day(self, stream: Stream, span: Window) -> Mapping[date, int]:
        """How many audits of the stream there are of each day, in UTC; a day of none is absent."""
        ...

    def close(self) -> None:
        """Give back connections and files; nothing that was loaded depends on it."""
        ...


#: One of which it need not be known how it takes a batch.
AnyDestination = Destination[Any]


@runtime_checkable
class LoadsEarly(Protocol):
    """A destination that also takes audits before a window brings them."""

    def load_early(self, organization: str, audits: "Iterable[Audit]") -> int:
        """Insert audits that no window has brought yet; give how many were absent.

        They are there once, marked as early, and no receipt is about them. The window that shows
        one of them puts its own record in the place of this one.
        """
        ...
