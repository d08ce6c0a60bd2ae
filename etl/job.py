"""What an export is asked for, and how it is watched."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from etl.destinations import AnyDestination, Fence
from etl.model import Discrepancy, Late, Stream
from etl.sizes import Sizes
from etl.source import Source
from etl.window import Window


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
    sizes: Sizes = Sizes()
