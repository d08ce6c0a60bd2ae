"""`verify`: a span is asked for again, and compared with what the destination holds."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta

from etl import pipeline
from etl.app import App
from etl.errors import AuditTooLarge, SourceBrokePromise, SourceUnavailable
from etl.job import Job
from etl.model import BACKFILL, WRITER, Stream
from etl.operations.selection import exportable
from etl.operations.streams import Failure, Watch, held, in_turn, job_of
from etl.operations.verifier import Verdict, Verifier
from etl.window import Window


def verify(
    app: App,
    span: Window,
    streams: Sequence[Stream],
    *,
    repair: bool,
    wait: timedelta = timedelta(0),
    watch: Watch = lambda _: None,
) -> Iterator[Verdict | Failure]:
    """Ask the source again for `span` of `streams` and compare ids; with `repair`, load as well.

    It costs the requests that a backfill of the span costs. Without a repair nothing is loaded and
    no lease is needed. A stream of which the organisation no longer shows all that it showed before
    fails after its verdicts. See `run` for the rest.

    Raises:
        ConfigurationError: there is no destination to compare; see also `run`.
    """
    app.require_tables()
    destination = app.destination()

    def export(stream: Stream) -> Iterator[Verdict]:
        kept = exportable(app, span, stream)
        needs_lease = repair and app.place.one_writer
        found: deque[Verdict] = deque()
        with (
            held(app, WRITER if needs_lease else None, wait) as fence,
            closing(Verifier(destination, repair=repair, tell=found.append)) as verifier,
        ):
            job = job_of(app, stream, verifier, BACKFILL, fence, watch)
            yield from _verdicts(job, kept, found)

    return in_turn(app, streams, export)


def _verdicts(job: Job, span: Window, found: deque[Verdict]) -> Iterator[Verdict]:
    """What `found` gets as the windows of `span` are compared.

    Raises:
        SourceBrokePromise: the organisation does not show all that it showed before.
    """
    unshown, failure = 0, ""
    try:
        for _ in pipeline.backfill(job, span):
            verdict = found.popleft()
            unshown += verdict.unshown
            yield verdict
    except (SourceUnavailable, SourceBrokePromise, AuditTooLarge) as error:
        if not unshown:
            raise
        failure = f". Besides, {error}"
    if unshown:
        raise SourceBrokePromise(
            f"{job.stream}: the organisation does not show {unshown} audits that it showed before, "
            "though it was asked twice. They stay in the destination, --json names them as extra: "
            f"ask Genesys about them{failure}"
        )
