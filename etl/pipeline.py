"""The program: due windows → pages → batches → load → receipt.

Read this first. Everything moves by pulling: the destination asks for batches, which asks for
pages, which asks the organisation. An error anywhere passes through with nothing to undo, for a
window counts only once its receipt is written.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from etl.destinations import Destination, Fence
from etl.errors import QueryFailed, WindowTooLong
from etl.genesys.query import Asked
from etl.progress import Draft, Late, OpenQuery, Receipt, Stream
from etl.records import Batch, Page, clip, normalise
from etl.telemetry.context import about, note
from etl.window import Window, cut, gaps, piece_for, stamp
from etl.wire import QUEUED

_LOG = logging.getLogger(__name__)


class Source(Protocol):
    """One organisation, asked for windows of its audit log."""

    @property
    def requests(self) -> int:
        """HTTP requests sent so far."""
        ...

    def ask(self, window: Window, service: str | None) -> Asked:
        """Create a query for `window`, of one service or of all."""
        ...

    def pages(self, asked: Asked) -> Iterator[Page]:
        """Wait for the query, then give its pages to the last cursor.

        Raises:
            QueryFailed: the query came to nothing; another one may succeed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sighting:
    """How far the export of a window has come, for whoever watches.

    Attributes:
        reached: event time of the last audit read.
        events: audits of this window read so far.
    """

    stream: Stream
    window: Window
    reached: datetime
    events: int


@dataclass(frozen=True, slots=True)
class Job:
    """One stream, its organisation and its destination, and who asks.

    Attributes:
        schedule: what the receipts name as the reason: a schedule's name, or `backfill`.
        max_window: no window is longer.
        fence: see `Destination.load`.
        watch: called after each page.
        late: told of audits that were not there yet although their time had been loaded before;
            None if nobody asks.
    """

    stream: Stream
    source: Source
    destination: Destination
    schedule: str
    max_window: timedelta
    now: Callable[[], datetime]
    fence: Fence
    watch: Callable[[Sighting], None]
    late: Callable[[Stream, Late], None] | None = None


def catch_up(job: Job, spans: Iterable[Window]) -> Iterator[Receipt]:
    """Export all that is due, in the order given."""
    for span in spans:
        yield from backfill(job, span)


def backfill(job: Job, span: Window) -> Iterator[Receipt]:
    """Export `span` whatever the watermark says, in windows sized by how dense audits are.

    Queries that a dead process left open inside the span are gone on with first.
    """
    ledger = job.destination.ledger
    left = [q for q in ledger.open_queries(job.stream, job.schedule, job.now()) if q.window in span]
    for query in left:
        yield from export(job, query.window, query)
    for rest in gaps((query.window for query in left), span):
        for window in cut(rest, piece_for(ledger.density(job.stream), job.max_window)):
            yield from export(job, window)


def export(job: Job, window: Window, left: OpenQuery | None = None) -> Iterator[Receipt]:
    """Export one window, with the query that was `left` open for it, if one was.

    A query that comes to nothing is asked again, then in halves, each with a receipt of its own;
    at once in halves if the window is longer than the organisation allows.

    Raises:
        QueryFailed: even the shortest window came to nothing twice.
    """
    outcome = _attempt(job, window, left)
    if isinstance(outcome, QueryFailed) and not isinstance(outcome, WindowTooLong):
        outcome = _attempt(job, window, None)
    if isinstance(outcome, Receipt):
        yield outcome
        return
    halves = window.halves()
    if halves is None:
        raise outcome
    for half in halves:
        yield from export(job, half)


def _attempt(job: Job, window: Window, left: OpenQuery | None) -> Receipt | QueryFailed:
    with about(
        organization=job.stream.organization,
        stream=job.stream.name,
        window_start=stamp(window.start),
        window_end=stamp(window.end),
        schedule=job.schedule,
    ):
        try:
            receipt = _load(job, window, left)
        except QueryFailed as error:
            _LOG.warning("%s %s: %s", job.stream, window, error)
            return error
        _LOG.info("window loaded", extra=_figures(receipt))
        return receipt


def _figures(receipt: Receipt) -> dict[str, object]:
    return {
        "events": receipt.events,
        "new_events": receipt.new_events,
        "rejects": receipt.rejects,
        "requests": receipt.requests,
        "seconds": round((receipt.loaded_at - receipt.started_at).total_seconds(), 3),
    }


def _load(job: Job, window: Window, left: OpenQuery | None) -> Receipt:
    before = job.source.requests
    if left is None:
        asked = job.source.ask(window, job.stream.service)
        left = OpenQuery(window, asked.query_id, job.now())
        job.destination.ledger.remember_query(job.stream, left, job.schedule)
    else:
        asked = Asked(window, left.query_id, QUEUED)
    note(query_id=left.query_id)
    draft = Draft(
        stream=job.stream,
        window=window,
        query_id=left.query_id,
        schedule=job.schedule,
        started_at=left.asked_at,
        requests=lambda: job.source.requests - before,
        late=partial(job.late, job.stream) if job.late else None,
    )
    return job.destination.load(draft, _batches(job, asked), job.fence)


def _batches(job: Job, asked: Asked) -> Iterator[Batch]:
    events = 0
    for page in job.source.pages(asked):
        batch = clip(normalise(page.records), asked.window)
        yield batch
        if batch.audits:
            events += len(batch.audits)
            reached = batch.audits[-1].event_date
            job.watch(Sighting(job.stream, asked.window, reached, events))
