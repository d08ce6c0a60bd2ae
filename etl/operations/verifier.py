"""Whether a destination holds what the source shows: ids compared, window by window.

A window is asked for as an export asks for it, and by the same code: `Verifier` stands where the
destination would. What the destination holds and what the source shows is noted in a temporary
file, so that a window of any size is compared in a few megabytes of memory. With a repair, the
audits that the source shows are loaded in the same pass: no request is sent twice.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Generic

from etl.destinations import Destination, Fence, Held, Prepared
from etl.errors import AnswerDoubtful
from etl.ledger import verifications
from etl.model import PendingReceipt, Receipt, Stream, Verification, kept_since
from etl.operations.comparison import Comparison, Difference, Shown
from etl.records import Batch
from etl.window import Window


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comparing one window has found.

    Attributes:
        receipt: what was asked; with a repair, the one that was written.
        differences: days and services that differ, in order.
        missing_ids: the first `IDS_MAX`, by event time.
        extra_ids: the first `IDS_MAX`, by event time.
        unshown: extra audits that the organisation showed before, and is sure to have kept: it
            does not keep its promise.
        moved: audits that are held under another time or service than the source shows now. They
            are neither missing nor extra, and stay as they are.
    """

    verification: Verification
    receipt: Receipt
    differences: tuple[Difference, ...]
    missing_ids: tuple[str, ...]
    extra_ids: tuple[str, ...]
    unshown: int
    moved: int


class Verifier(Generic[Prepared]):
    """A destination that is compared with what it is given. See `Destination`.

    Args:
        repair: also load what it is given.
        tell: called with the verdict on each window once that is kept.
        comparison: where the ids are noted; closed with this.
    """

    def __init__(
        self,
        destination: Destination[Prepared],
        *,
        repair: bool,
        tell: Callable[[Verdict], None],
        comparison: Comparison | None = None,
    ) -> None:
        self.ledger = destination.ledger
        self._destination = destination
        self._repair = repair
        self._tell = tell
        self._comparison = comparison or Comparison()

    def prepared(self, batch: Batch) -> Shown[Prepared]:
        """See `Destination.prepared`."""
        return Shown(
            tuple(Held(a.id, a.event_date, a.service_name) for a in batch.audits),
            len(batch.rejects),
            self._destination.prepared(batch) if self._repair else None,
        )

    def load(
        self, pending: PendingReceipt, batches: Iterable[Shown[Prepared]], fence: Fence
    ) -> Receipt:
        """Compare one window, and load it if it shall be repaired.

        Afterwards the verdict is kept. If it raises, none is; what was loaded is there. Audits that
        another process loads meanwhile do not count as missing. Only what this verifier has
        inserted, and is there afterwards, counts as repaired, even if the load failed that did so.

        Raises:
            AnswerDoubtful: the source does not show all that it showed before; only if the receipt
                is `doubting`.
        """
        organization, window = pending.stream.organization, pending.window
        comparison = self._comparison
        comparison.begin()
        comparison.hold(self.held(organization, window, pending.stream.service))
        shown = self._doubted(comparison, comparison.showing(batches, pending), pending)
        if self._repair:
            prepared = (batch.prepared for batch in shown if batch.prepared is not None)
            noting = replace(pending, new=comparison.load)
            receipt = self._destination.load(noting, prepared, fence)
        else:
            receipt = self._read(pending, shown)
        if comparison.count("unknown"):
            unknown = comparison.each("unknown")
            comparison.find(self.look_up(organization, window, unknown))
        verdict = self._verdict(receipt, comparison)
        verifications.keep(self.ledger.engine, verdict.verification)
        self._tell(verdict)
        return receipt

    def _doubted(
        self, comparison: Comparison, shown: Iterable[Shown[Prepared]], pending: PendingReceipt
    ) -> Iterator[Shown[Prepared]]:
        yield from shown
        unshown = comparison.unshown(kept_since(pending.now()))
        if unshown and pending.doubting:
            raise AnswerDoubtful(
                f"the answer lacks {unshown} audits that the organisation showed before; it is "
                "asked for again"
            )

    def held(self, organization: str, window: Window, service: str | None) -> Iterator[Held]:
        """See `Destination.held`."""
        return self._destination.held(organization, window, service)

    def count(self, stream: Stream, span: Window) -> int:  # noqa: ARG002 - as of a `Destination`
        """No answer has to show so many audits at least: their ids are compared instead."""
        return 0

    def look_up(self, organization: str, window: Window, ids: Iterable[str]) -> Iterator[Held]:
        """See `Destination.look_up`."""
        return self._destination.look_up(organization, window, ids)

    def audits_a_day(self, stream: Stream, span: Window) -> Mapping[date, int]:
        """See `Destination.audits_a_day`."""
        return self._destination.audits_a_day(stream, span)

    def close(self) -> None:
        """Give back the temporary file; the destination is not ours to close."""
        self._comparison.close()

    def _read(self, pending: PendingReceipt, batches: Iterable[Shown[Prepared]]) -> Receipt:
        """Read the query to its end; the receipt says what it gave and is written nowhere."""
        events = rejects = 0
        for batch in batches:
            events, rejects = events + len(batch.audits), rejects + batch.rejects
        return pending.receipt(events=events, new_events=0, rejects=rejects)

    def _verdict(self, receipt: Receipt, comparison: Comparison) -> Verdict:
        return Verdict(
            Verification(
                stream=receipt.stream,
                window=receipt.window,
                events=comparison.count("shown"),
                missing=comparison.count("missing"),
                extra=comparison.count("extra"),
                repaired=comparison.count("repaired"),
                verified_at=receipt.loaded_at,
                verified_by=verifications.PROGRAM,
            ),
            receipt,
            tuple(comparison.differences()),
            comparison.ids("missing"),
            comparison.ids("extra"),
            comparison.unshown(kept_since(receipt.loaded_at)),
            comparison.count("moved"),
        )
