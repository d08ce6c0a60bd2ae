"""How an operation goes through streams: one after the other, each under its lease."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

from etl.app import App
from etl.destinations import AnyDestination, Fence
from etl.errors import (
    AuditEtlError,
    DestinationUnavailable,
    LeaseHeld,
    ServiceRefused,
    Stopped,
    UnknownService,
    UsageError,
)
from etl.job import Job, PageProgress
from etl.ledger import leases
from etl.ledger.leases import Lease
from etl.model import WRITER, Stream, least_requests
from etl.operations import warnings
from etl.operations.recognition import recognise

#: A window of one page that took longer tells of an outage or a pause, not of the query.
QUERY_SECONDS_MAX: Final = 60

Watch = Callable[[PageProgress], None]
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Failure:
    """A stream that could not be brought up to date; the others were tried all the same."""

    stream: Stream
    error: AuditEtlError


def in_turn(
    app: App, streams: Sequence[Stream], export: Callable[[Stream], Iterator[Outcome]]
) -> Generator[Outcome | Failure, None, None]:
    """Export the streams one after the other; one that fails is told of and holds up no other."""
    refused: list[tuple[Stream, ServiceRefused]] = []
    exported: set[str] = set()
    for stream in streams:
        try:
            recognise(app, stream.organization)
            yield from export(stream)
            exported.add(stream.organization)
        except (Stopped, DestinationUnavailable):
            raise
        except ServiceRefused as error:
            refused.append((stream, error))
        except UnknownService as error:
            yield Failure(stream, error if stream in app.streams() else _named(stream, error))
        except AuditEtlError as error:
            yield Failure(stream, error)
    for stream, refusal in refused:
        if stream.organization in exported:
            warnings.warn_of_refusal(app, stream, refusal)
        else:
            yield Failure(stream, refusal)


def _named(stream: Stream, error: UnknownService) -> UsageError:
    """The error of a service that is not in the configuration, but on the command line."""
    found = UsageError(
        f"--service {stream.service}: organisation {stream.organization} does not know it; "
        "`audit-etl services` shows the right names, upper and lower case matter"
    )
    found.__cause__ = error
    return found


@contextmanager
def held(app: App, name: str | None, wait: timedelta) -> Iterator[Fence]:
    """Hold the lease `name` during the block; give what confirms it. None needs no lease."""

    def taken() -> AbstractContextManager[Lease]:
        lease = _acquire(app, name or "", wait)
        return leases.holding(app.engine, lease, app.now, app.timing)

    if name is None:
        yield lambda _: None
        return
    with app.writing.joining(app.engine, taken) if name == WRITER else taken() as lease:
        yield lease.confirm


def _acquire(app: App, name: str, wait: timedelta) -> Lease:
    deadline = app.monotonic() + wait.total_seconds()
    while True:
        try:
            return leases.acquire(app.engine, name, app.holder, app.now(), app.timing.length)
        except LeaseHeld:
            if app.monotonic() >= deadline:
                raise
        if app.stop.wait(app.timing.poll_seconds):
            raise Stopped("stopped while waiting for another process's lease")


def job_of(
    app: App, stream: Stream, destination: AnyDestination, schedule: str, fence: Fence, watch: Watch
) -> Job:
    """What exports the stream for `schedule`, the name that the receipts will carry."""
    source = app.source(stream.organization)
    last = destination.ledger.last_receipt(stream)
    if last is not None and least_requests(last.events + last.rejects) == least_requests(0):
        took = (last.loaded_at - last.started_at).total_seconds()
        if 0 <= took <= QUERY_SECONDS_MAX:
            # A process that has just begun knows by that when the first poll is worth its request.
            source.expect(took)
    return Job(
        stream=stream,
        source=source,
        destination=destination,
        schedule=schedule,
        max_window=app.settings.max_window,
        fence=fence,
        watch=watch,
        late=app.observer.came_late if app.observer else None,
        odd=app.observer.answered_oddly if app.observer else None,
        sizes=app.place.sizes,
    )
