"""The program: due windows → queries in flight → pages → batches → load → receipt.

Read this first. Everything moves by pulling: the destination asks for batches, which asks for
pages, which asks the organisation. Threads only go some way ahead of the pull: one reads each query
in flight, one decodes. Windows are loaded one after the other, in order. An error anywhere passes
through with nothing to undo, for a window counts only once its receipt is written.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any, Final, NamedTuple

from etl.ahead import Ahead
from etl.destinations import AnyDestination, Fence
from etl.errors import QueryFailed, WindowTooLong
from etl.flight import Depth, Flight, Source, about_window
from etl.progress import Draft, Late, OpenQuery, Receipt, Stream
from etl.records import Records, clip, keyed, normalise
from etl.telemetry.context import carrying
from etl.window import Window, by_density, gaps

_LOG = logging.getLogger(__name__)

#: Bytes of raw JSON whose rows wait to be loaded, a page more at most: a quarter of what a
#: transaction of SQL takes. Twice as much is hardly quicker, and 13 MiB more at the peak.
DECODED_BYTES: Final = 4 * 1024 * 1024

Decoder = Callable[[Iterable[bytes]], Records]


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
    destination: AnyDestination
    schedule: str
    max_window: timedelta
    now: Callable[[], datetime]
    fence: Fence
    watch: Callable[[Sighting], None]
    late: Callable[[Stream, Late], None] | None = None


def catch_up(job: Job, spans: Iterable[Window]) -> Iterator[Receipt]:
    """Export all that is due, in the order given; some queries are always ahead of the load.

    Queries that a dead process left open inside a span are gone on with first. No thread is left
    when this ends or raises.
    """
    pieces = _pieces(job, spans)
    depth = Depth.of(job.source)
    ahead: deque[Flight] = deque()
    try:
        while True:
            while len(ahead) < depth.queries and (piece := next(pieces, None)):
                ahead.append(_departed(job, *piece))
            if not ahead:
                return
            flight = ahead.popleft()
            yield from _landed(job, flight)
            depth.learn(job.source, flight.starved)
    finally:
        for flight in ahead:
            flight.close()


def backfill(job: Job, span: Window) -> Iterator[Receipt]:
    """Export `span` whatever the watermark says; see `catch_up`."""
    yield from catch_up(job, [span])


def _pieces(job: Job, spans: Iterable[Window]) -> Iterator[tuple[Window, OpenQuery | None]]:
    """Windows to ask for, as long as the density of what is loaded by then suggests.

    Beside each, the query that a dead process left open for it, if it did.
    """
    ledger = job.destination.ledger
    for span in spans:
        opened = ledger.open_queries(job.stream, job.schedule, job.now())
        left = [query for query in opened if query.window in span]
        for query in left:
            yield query.window, query
        for rest in gaps((query.window for query in left), span):
            for window in by_density(rest, partial(ledger.density, job.stream), job.max_window):
                yield window, None


def _departed(job: Job, window: Window, left: OpenQuery | None = None) -> Flight:
    """A query on its way: the one that was `left` open, or a new one."""
    flight = Flight(window, about_window(job.stream, window, job.schedule))
    if left is None:
        flight.depart(job.source, job.destination.ledger, job.stream, job.schedule, job.now())
    else:
        flight.resume(job.source, left)
    return flight


def _landed(job: Job, flight: Flight) -> Iterator[Receipt]:
    """Load what a query brings.

    One that comes to nothing is asked again, then in halves, each with a receipt of its own; at
    once in halves if the window is longer than the organisation allows.

    Raises:
        QueryFailed: even the shortest window came to nothing twice.
    """
    outcome = _attempt(job, flight)
    if isinstance(outcome, QueryFailed) and not isinstance(outcome, WindowTooLong):
        outcome = _attempt(job, _departed(job, flight.window))
    if isinstance(outcome, Receipt):
        yield outcome
        return
    halves = flight.window.halves()
    if halves is None:
        raise outcome
    for half in halves:
        yield from _landed(job, _departed(job, half))


def _attempt(job: Job, flight: Flight) -> Receipt | QueryFailed:
    with closing(flight), carrying(flight.about):
        try:
            receipt = _load(job, flight)
        except QueryFailed as error:
            _LOG.warning("%s %s: %s", job.stream, flight.window, error)
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


def _load(job: Job, flight: Flight) -> Receipt:
    query = flight.query
    draft = Draft(
        stream=job.stream,
        window=flight.window,
        query_id=query.query_id,
        schedule=job.schedule,
        started_at=query.asked_at,
        requests=lambda: flight.requests,
        late=partial(job.late, job.stream) if job.late else None,
    )
    # The ledger is asked here: a thread of its own would open a connection beside the loader's.
    decode = decoder(job.destination, job.stream, flight.window)
    name = f"rows of {query.query_id}"
    decoded = Ahead(_ready(job, flight, decode), attrgetter("size"), DECODED_BYTES, name)
    try:
        return job.destination.load(draft, _watched(job, decoded), job.fence)
    finally:
        flight.close()  # first: the thread that decodes may wait for a page
        decoded.close()


class _Ready(NamedTuple):
    """A batch that waits to be loaded.

    Attributes:
        prepared: see `Destination.prepared`.
        size: bytes of the JSON that it was made of.
        sighting: what to tell when it is loaded; None if it holds no audit.
    """

    prepared: Any
    size: int
    sighting: Sighting | None


def decoder(destination: AnyDestination, stream: Stream, window: Window) -> Decoder:
    """What reads the window's records: only keys, if it was loaded before and that will do."""
    again = destination.takes_keys and destination.ledger.loaded(stream, window)
    return keyed if again else normalise


def _ready(job: Job, flight: Flight, decode: Decoder) -> Iterator[_Ready]:
    events = 0
    for page in flight.pages():
        batch = clip(decode(page.records), flight.window)
        events += len(batch.audits)
        sighting = None
        if batch.audits:
            reached = batch.audits[-1].event_date
            sighting = Sighting(job.stream, flight.window, reached, events)
        yield _Ready(job.destination.prepared(batch), batch.size, sighting)


def _watched(job: Job, batches: Iterable[_Ready]) -> Iterator[Any]:
    for batch in batches:
        yield batch.prepared
        if batch.sighting is not None:
            job.watch(batch.sighting)
