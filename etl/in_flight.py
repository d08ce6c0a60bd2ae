"""Queries in flight: while one window is loaded, the next are asked for, waited for and read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from etl.errors import AuditEtlError, TryAgainLater
from etl.genesys.client.tally import Tally, tallied
from etl.model import OpenQuery, Stream
from etl.prefetch import Prefetched
from etl.records import Page
from etl.sizes import Sizes
from etl.source import Asked, Source
from etl.telemetry.context import carrying, note
from etl.window import TIME_TOLERANCE, Window, iso_utc
from etl.wire import QUEUED

#: So many queries are open at once at least, while there are windows to ask for, and at most. The
#: vendor names no limit, so this is a modest one.
QUERIES_MIN: Final = 2
QUERIES_MAX: Final = 4


class InFlightQuery:
    """One window's query: created, then waited for and read by a thread of its own.

    Attributes:
        window: what it was asked for.
        about: what log lines about it carry.
    """

    def __init__(self, window: Window, about: dict[str, str], sizes: Sizes = Sizes()) -> None:
        self.window = window
        self.about = about
        self._sizes = sizes
        self._tally = Tally()
        self._query: OpenQuery | None = None
        self._pages: Prefetched[Page] | None = None
        self._error: AuditEtlError | None = None

    @property
    def query(self) -> OpenQuery:
        """The query.

        Raises:
            AuditEtlError: the organisation has refused to create it.
        """
        if self._query is None:
            raise self._error or RuntimeError("the query was not asked for")
        return self._query

    @property
    def query_id(self) -> str:
        """The query's id; empty if the organisation has refused to create it."""
        return self._query.query_id if self._query else ""

    @property
    def requests(self) -> int:
        """Requests that it has cost so far."""
        return self._tally.requests

    @property
    def starved(self) -> float:
        """The share of its pages, 0 to 1, that had to be waited for."""
        return self._pages.starved if self._pages else 0.0

    def submit(self, source: Source, stream: Stream, remember: Callable[[OpenQuery], None]) -> None:
        """Create the query, have it remembered, and begin to read it.

        A refusal is kept for whoever wants the query, when its turn comes.
        """
        with carrying(self.about), tallied(self._tally):
            try:
                asked = source.ask(self.window, stream.service)
            except AuditEtlError as error:
                error.about = error.about or self.about
                self._error = error
                return
            asked_at = asked.asked_at or source.now()
            if self.window.end > asked_at + TIME_TOLERANCE:
                self._error = TryAgainLater(  # audits of it are yet to come
                    f"{stream}: {self.window} is not over, the organisation's clock shows "
                    f"{iso_utc(asked_at)} now and was set back; the next run exports what is over "
                    "by then"
                )
                self._error.about = self.about
                return
            self._query = OpenQuery(self.window, asked.query_id, asked_at)
            remember(self._query)
            self._read(source, asked)

    def resume(self, source: Source, query: OpenQuery) -> None:
        """Begin to read a query that a dead process has left open."""
        with carrying(self.about), tallied(self._tally):
            self._query = query
            self._read(source, Asked(self.window, query.query_id, QUEUED))

    def pages(self) -> Iterator[Page]:
        """Its pages, to the last; see `Source.pages`. To be called once, after `query`."""
        return iter(self._pages or ())

    def close(self) -> None:
        """Read no further; no thread is left afterwards. May be called twice."""
        if self._pages is not None:
            self._pages.close()

    def _read(self, source: Source, asked: Asked) -> None:
        note(query_id=asked.query_id)
        self._pages = Prefetched(
            source.pages(asked),
            lambda page: sum(map(len, page.records)),
            self._sizes.waiting_bytes,
            f"pages of {asked.query_id}",
        )


@dataclass(slots=True)
class Concurrency:
    """How many queries should be in flight: as many as it takes for pages to be there in time.

    Attributes:
        queries: so many, 2 to `QUERIES_MAX`.
    """

    queries: int
    _waited: float

    @classmethod
    def of(cls, source: Source) -> "Concurrency":
        """Where a run begins: the next window's query is waited for while one window is loaded."""
        return cls(QUERIES_MIN, source.seconds_waited)

    def learn(self, source: Source, starved: float) -> None:
        """Adapt to a query that has been loaded.

        More help only if pages were waited for, and if it was not the budget that held them up.
        """
        waited, self._waited = source.seconds_waited - self._waited, source.seconds_waited
        if starved > 0.5 and waited == 0.0:
            self.queries = min(self.queries + 1, QUERIES_MAX)
        elif starved < 0.1:
            self.queries = max(self.queries - 1, QUERIES_MIN)


def about_window(stream: Stream, window: Window, schedule: str) -> dict[str, str]:
    """What log lines about the export of a window carry."""
    return {
        "organization": stream.organization,
        "stream": stream.name,
        "window_start": iso_utc(window.start),
        "window_end": iso_utc(window.end),
        "schedule": schedule,
    }
