"""What a source of audits is: asked for a window, it gives pages. The pipeline knows no other."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from etl.records import Page
from etl.window import Window


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that the organisation has accepted.

    Attributes:
        query_id: the vendor's transaction id.
        state: what the organisation last said; `Queued` if nothing is known.
        asked_at: when it was created, by the organisation's time; None if it is another process's.
        since: the same by the monotonic clock.
    """

    window: Window
    query_id: str
    state: str
    asked_at: datetime | None = field(default=None, compare=False)
    since: float | None = field(default=None, compare=False)


class Source(Protocol):
    """One organisation, asked for windows of its audit log. May be used from several threads."""

    @property
    def seconds_waited(self) -> float:
        """How long requests were held back by the rate budget so far."""
        ...

    def now(self) -> datetime:
        """The organisation's time."""
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
