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
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, Final, NamedTuple

from etl.agenda import AGAIN_MAX, HALVES_MAX, Agenda, Parts
from etl.answers import Answer, expected_answer, warn_of
from etl.errors import AuditTooLarge, SourceBrokePromise, SourceUnavailable, WindowTooLong
from etl.in_flight import Concurrency, InFlightQuery, about_window
from etl.job import Job, PageProgress
from etl.ledger import queries
from etl.ledger.rows import picked
from etl.losses import Failed, Losses
from etl.model import FailedWindow, OpenQuery, PendingReceipt, Receipt
from etl.prefetch import Prefetched
from etl.records import read_records
from etl.telemetry.context import carrying
from etl.window import Window, gaps, last_piece, piece_for

_LOG = logging.getLogger(__name__)

#: The fields of a receipt that are logged.
_FIGURES: Final = ("events", "new_events", "rejects", "requests")


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
        engine = job.destination.ledger.engine
        queries.remember(engine, job.stream, query, job.schedule, failed=True)


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
    in_flight = InFlightQuery(window, about_window(job.stream, window, job.schedule), job.sizes)
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
        seconds = round((receipt.loaded_at - receipt.started_at).total_seconds(), 3)
        _LOG.info("window loaded", extra=picked(receipt, *_FIGURES) | {"seconds": seconds})
        return receipt


def _load(job: Job, in_flight: InFlightQuery, *, doubting: bool) -> Receipt:
    query = in_flight.query
    answer = expected_answer(job, in_flight.window)
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
    size_of, most = attrgetter("size"), job.sizes.decoded_bytes
    decoded = Prefetched(_ready(job, in_flight, answer), size_of, most, name)
    batches = _watched(job, decoded, answer, doubting=doubting)
    try:
        receipt = job.destination.load(pending, batches, job.fence)
    finally:
        in_flight.close()  # first: the thread that decodes may wait for a page
        decoded.close()
    warn_of(job, in_flight.window, answer.discrepancy)
    return receipt


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


def _ready(job: Job, in_flight: InFlightQuery, answer: Answer) -> Iterator[_Ready]:
    for page in in_flight.pages():
        batch = read_records(page.records)
        answer.take(batch)
        progress = None
        if batch.audits:
            reached = batch.audits[-1].event_date
            progress = PageProgress(job.stream, in_flight.window, reached, answer.inside)
        yield _Ready(job.destination.prepared(batch), batch.size, progress)


def _watched(
    job: Job, batches: Iterable[_Ready], answer: Answer, *, doubting: bool
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
    if doubting:
        answer.require_complete()
