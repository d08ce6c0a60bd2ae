"""The program: due windows → queries in flight → pages → batches → load → receipt.

Read this first. Everything moves by pulling: the destination asks for batches, which asks for
pages, which asks the organisation. Threads only go some way ahead of the pull: one reads each query
in flight, one decodes. Windows are loaded one after the other, in order. An error anywhere passes
through with nothing to undo, for a window counts only once its receipt is written.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any, Final, NamedTuple

from etl.agenda import AGAIN_MAX, HALVES_MAX, Agenda, Parts
from etl.destinations import AnyDestination, Fence
from etl.errors import (
    AnswerDoubtful,
    AuditTooLarge,
    SourceBrokePromise,
    SourceUnavailable,
    WindowTooLong,
)
from etl.in_flight import Concurrency, InFlightQuery, about_window
from etl.ledger import queries
from etl.losses import Failed, Losses
from etl.model import (
    Discrepancy,
    FailedWindow,
    Late,
    OpenQuery,
    PendingReceipt,
    Receipt,
    Stream,
    kept_since,
)
from etl.prefetch import Prefetched
from etl.records import Batch, read_records
from etl.source import Source
from etl.telemetry.context import carrying
from etl.window import Window, gaps, last_piece, piece_for

_LOG = logging.getLogger(__name__)

#: Bytes of raw JSON whose rows wait to be loaded, a page more at most: a quarter of what a
#: transaction of SQL takes. Twice as much is hardly quicker, and 13 MiB more at the peak.
DECODED_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PageProgress:
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
        odd: told of answers that are not what they should be; None if nobody asks.
        settling: how long after its time an audit may become visible, at the latest. A query that a
            dead process left is resumed if its window was older than that when it was created, so
            that a new query could show no more. None: queries are neither resumed nor remembered.
    """

    stream: Stream
    source: Source
    destination: AnyDestination
    schedule: str
    max_window: timedelta
    fence: Fence
    watch: Callable[[PageProgress], None]
    late: Callable[[Stream, Late], None] | None = None
    odd: Callable[[Stream, Discrepancy], None] | None = None
    settling: timedelta | None = None


@dataclass(slots=True)
class _Answer:
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


def catch_up(
    job: Job, spans: Iterable[Window], failed: Sequence[FailedWindow] = ()
) -> Iterator[Receipt]:
    """Export all that is due, in the order given; some queries are always ahead of the load.

    A window that fails holds up no other: it is asked for in parts after them, and what `failed` in
    earlier runs last of all. Queries that a dead process left open inside a span come first, where
    they can be resumed: see `Job.settling`. No thread is left when this ends or raises.

    Raises:
        AuditEtlError: other windows would fail the same; or, at the end, some could not be loaded.
    """
    losses = Losses(job.stream, failed, partial(_keep, job), partial(_forget, job))
    yield from _in_order(job, losses, _agenda(job, spans))
    yield from _in_parts(job, losses, losses.newest_first(), HALVES_MAX)
    yield from _again(job, losses)
    error = losses.error()
    if error is not None:
        raise error


def backfill(job: Job, span: Window) -> Iterator[Receipt]:
    """Export `span` whatever the watermark says; see `catch_up`."""
    yield from catch_up(job, [span])


def _agenda(job: Job, spans: Iterable[Window]) -> Agenda:
    wanted = list(spans)
    left = [query for query in _resumable(job) if any(query.window in span for span in wanted)]
    return Agenda(wanted, left, partial(_density, job), job.max_window)


def _density(job: Job) -> float | None:
    return job.destination.ledger.density(job.stream)


def _in_order(job: Job, losses: Losses, agenda: Agenda) -> Iterator[Receipt]:
    concurrency = Concurrency.of(job.source)
    waiting: deque[InFlightQuery] = deque()
    try:
        while True:
            while len(waiting) < concurrency.queries and (
                piece := agenda.take(newest=losses.needs_proof)
            ):
                waiting.append(_submitted(job, *piece))
            if not waiting:
                return
            in_flight = waiting.popleft()
            yield from _collected(job, losses, in_flight, losses.lose)
            concurrency.learn(job.source, in_flight.starved)
    finally:
        for in_flight in waiting:
            in_flight.close()


def _in_parts(
    job: Job, losses: Losses, failures: Iterable[Failed], failures_max: int
) -> Iterator[Receipt]:
    """Ask for windows that failed in halves, for halves of these that fail, and so on.

    See `Parts`. What is left when so many have failed is lost, and a later run goes on with it.
    """
    parts = Parts(losses, failures)
    while failures_max > 0 and (window := parts.take()):
        yield from _collected(job, losses, _submitted(job, window), losses.lose)
        failures_max -= parts.learn(losses.get(window))
    parts.give_up()


def _again(job: Job, losses: Losses) -> Iterator[Receipt]:
    """Ask again for the time that failed in earlier runs; one window of what still fails in parts.

    Each span costs a query or two, however long it is, as long as it fails.
    """
    failures_max, parts = AGAIN_MAX, list[Failed]()
    for region in losses.regions():
        rest: Window | None = region
        while rest is not None and failures_max > 0:
            window = last_piece(rest, piece_for(_density(job), job.max_window), job.max_window)
            failed = list[Failed]()
            yield from _collected(job, losses, _submitted(job, window), failed.append)
            rest = next(gaps([window], rest), None)
            if failed:
                failures_max, rest = failures_max - 1, None
                losses.lose_again(failed[0])
                parts += [replace(failed[0], window=part) for part in losses.largest_in(region)]
    yield from _in_parts(job, losses, parts, failures_max)


def _keep(job: Job, failed: Failed) -> None:
    if job.settling is not None:
        query = OpenQuery(failed.window, failed.query_id, job.source.now())
        queries.keep_failed(job.destination.ledger.engine, job.stream, query, job.schedule)


def _forget(job: Job, window: Window) -> None:
    if job.settling is not None:
        queries.forget(job.destination.ledger.engine, job.stream, window)


def _resumable(job: Job) -> Iterator[OpenQuery]:
    """Queries of a dead process that show all that a new one could.

    Their time was never loaded, so no lookback asks for it, and was over for so long when they were
    created that nothing more of it becomes visible.
    """
    if job.settling is None:
        return
    ledger = job.destination.ledger
    for query in queries.left_open(ledger.engine, job.stream, job.schedule, job.source.now()):
        settled = query.window.end + job.settling <= query.asked_at
        if settled and not any(map(query.window.overlaps, ledger.loaded(job.stream, query.window))):
            yield query


def _submitted(job: Job, window: Window, left: OpenQuery | None = None) -> InFlightQuery:
    """A query on its way: the one that was `left` open, or a new one."""
    in_flight = InFlightQuery(window, about_window(job.stream, window, job.schedule))
    if left is None:
        in_flight.submit(job.source, job.stream, _remembering(job))
    else:
        in_flight.resume(job.source, left)
    return in_flight


def _remembering(job: Job) -> Callable[[OpenQuery], None]:
    if job.settling is None:
        return lambda _: None
    engine = job.destination.ledger.engine
    return lambda query: queries.remember(engine, job.stream, query, job.schedule)


def _collected(
    job: Job, losses: Losses, in_flight: InFlightQuery, lose: Callable[[Failed], None]
) -> Iterator[Receipt]:
    """Load what a query brings.

    One that comes to nothing is asked again. So is an answer that is in doubt, and the second one
    taken as it is. A window that is longer than the organisation allows is asked for in halves.
    """
    outcome = _attempt(job, in_flight)
    if isinstance(outcome, Failed) and outcome.may_pass:
        outcome = _attempt(job, _submitted(job, in_flight.window), doubting=False)
    if isinstance(outcome, Receipt):
        losses.load(outcome.window)
        yield outcome
        return
    halves = in_flight.window.halves() if isinstance(outcome.error, WindowTooLong) else None
    if halves is None:
        lose(outcome)
        return
    for half in halves:
        yield from _collected(job, losses, _submitted(job, half), lose)


def _attempt(job: Job, in_flight: InFlightQuery, *, doubting: bool = True) -> Receipt | Failed:
    with closing(in_flight), carrying(in_flight.about):
        try:
            receipt = _load(job, in_flight, doubting=doubting)
        except (SourceUnavailable, SourceBrokePromise, AuditTooLarge) as error:
            failed = Failed(in_flight.window, error, in_flight.query_id)
            if failed.concerns_others:
                raise
            _LOG.warning("%s %s: %s", job.stream, in_flight.window, error)
            return failed
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


def _load(job: Job, in_flight: InFlightQuery, *, doubting: bool) -> Receipt:
    query = in_flight.query
    answer = _expected(job, in_flight.window)
    pending = PendingReceipt(
        stream=job.stream,
        window=in_flight.window,
        query_id=query.query_id,
        schedule=job.schedule,
        started_at=query.asked_at,
        requests=lambda: in_flight.requests,
        now=job.source.now,
        late=partial(job.late, job.stream) if job.late else None,
        outside=lambda: answer.outside + answer.at_end,
        doubting=doubting,
    )
    name = f"rows of {query.query_id}"
    decoded = Prefetched(_ready(job, in_flight, answer), attrgetter("size"), DECODED_BYTES, name)
    batches = _watched(job, decoded, answer, doubting=doubting)
    try:
        receipt = job.destination.load(pending, batches, job.fence)
    finally:
        in_flight.close()  # first: the thread that decodes may wait for a page
        decoded.close()
    _tell(job, in_flight.window, answer.discrepancy)
    return receipt


def _expected(job: Job, window: Window) -> _Answer:
    """An answer of which nothing has come yet; what it has to show at least is counted."""
    start = max(window.start, kept_since(job.source.now()))
    kept = Window(start, window.end) if start < window.end else None
    if kept is None or not job.destination.ledger.loaded(job.stream, window):
        return _Answer(window, 0, kept)
    return _Answer(window, job.destination.count(job.stream, kept), kept)


def _tell(job: Job, window: Window, found: Discrepancy) -> None:
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


class _Ready(NamedTuple):
    """A batch that waits to be loaded.

    Attributes:
        prepared: see `Destination.prepared`.
        size: bytes of the JSON that it was made of.
        progress: what to tell when it is loaded; None if it holds no audit.
    """

    prepared: Any
    size: int
    progress: PageProgress | None


def _ready(job: Job, in_flight: InFlightQuery, answer: _Answer) -> Iterator[_Ready]:
    for page in in_flight.pages():
        batch = read_records(page.records)
        answer.take(batch)
        progress = None
        if batch.audits:
            reached = batch.audits[-1].event_date
            progress = PageProgress(job.stream, in_flight.window, reached, answer.inside)
        yield _Ready(job.destination.prepared(batch), batch.size, progress)


def _watched(
    job: Job, batches: Iterable[_Ready], answer: _Answer, *, doubting: bool
) -> Iterator[Any]:
    """The batches, to be loaded.

    Raises:
        AnswerDoubtful: the answer has ended and cannot be all; only if `doubting`. It is raised
            before the window gets a receipt.
    """
    for batch in batches:
        yield batch.prepared
        if batch.progress is not None:
            job.watch(batch.progress)
    found = answer.discrepancy
    if doubting and found.unshown:
        raise AnswerDoubtful(
            f"the answer lacks at least {found.unshown} of the {answer.held} audits that the "
            "destination holds of its window; it is asked for again"
        )
    if doubting and found.outside:
        raise AnswerDoubtful(
            f"the answer holds {found.outside} audits of other times, and {answer.inside} of its "
            "window; it is asked for again"
        )
