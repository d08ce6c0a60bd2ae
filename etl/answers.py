"""What the answer to a query shows, and whether that can be all."""

import logging
from dataclasses import dataclass

from etl.errors import AnswerDoubtful
from etl.job import Job
from etl.model import Discrepancy, kept_since
from etl.records import Batch
from etl.window import Window

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Answer:
    """What a query has shown so far.

    Attributes:
        held: audits of `kept` that the destination holds, if the window was loaded before.
        kept: the part of the window that the source still has for sure; None if there is none.
        inside: audits of the window.
        compared: audits of `kept`, and records that could not be rows.
        at_end: audits of the instant at which the window ends. The vendor does not say whether its
            interval includes that, or the start: so they are no sign of anything, and loaded.
        outside: audits of other times.
    """

    window: Window
    held: int
    kept: Window | None
    inside: int = 0
    compared: int = 0
    at_end: int = 0
    outside: int = 0

    def take(self, batch: Batch) -> None:
        """Count a batch."""
        times = [audit.event_date for audit in batch.audits]
        inside = [moment for moment in times if moment in self.window]
        self.inside += len(inside)
        at_end = times.count(self.window.end)
        self.at_end += at_end
        self.outside += len(times) - len(inside) - at_end
        self.compared += len(batch.rejects)
        if self.kept is not None:
            self.compared += sum(moment >= self.kept.start for moment in inside)

    @property
    def discrepancy(self) -> Discrepancy:
        """How it differs from what it should be, once it was read to its end."""
        return Discrepancy(self.outside, max(0, self.held - self.compared))

    def require_complete(self) -> None:
        """Raise if it cannot be all, once it was read to its end.

        Raises:
            AnswerDoubtful: it lacks what the destination holds, or shows other times.
        """
        found = self.discrepancy
        if found.unshown:
            raise AnswerDoubtful(
                f"the answer lacks at least {found.unshown} of the {self.held} audits that the "
                "destination holds of its window; it is asked for again"
            )
        if found.outside:
            raise AnswerDoubtful(
                f"the answer holds {found.outside} audits of other times, and {self.inside} of its "
                "window; it is asked for again"
            )


def expected_answer(job: Job, window: Window) -> Answer:
    """An answer that has shown nothing yet, with the number of audits that it must show."""
    start = max(window.start, kept_since(job.source.now()))
    kept = Window(start, window.end) if start < window.end else None
    if kept is None or not job.destination.ledger.loaded(job.stream, window):
        return Answer(window, 0, kept)
    return Answer(window, job.destination.count(job.stream, kept), kept)


def warn_of(job: Job, window: Window, found: Discrepancy) -> None:
    """Warn of an answer that was taken although it is not what it should be."""
    if found.outside:
        _LOG.warning(
            "%s %s: the answer holds %d audits of other times. They are loaded; their own time is "
            "not taken for loaded",
            job.stream,
            window,
            found.outside,
        )
    if found.unshown:
        _LOG.warning(
            "%s %s: the organisation does not show at least %d audits that it showed before; they "
            "stay. `audit-etl verify` names them",
            job.stream,
            window,
            found.unshown,
        )
    if job.odd and (found.outside or found.unshown):
        job.odd(job.stream, found)
