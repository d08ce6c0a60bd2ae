"""Late arrivals as a histogram whose buckets are the steps that the ledger counts them by."""

from collections import Counter
from collections.abc import Iterator
from threading import Lock
from typing import Final

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from etl.ledger.lateness import BOUNDS
from etl.model import Late, Stream

NAME: Final = "audit_etl_late_arrival_age_seconds"
HELP: Final = (
    "How late audits came whose time had been loaded before, by steps; the sum is a lower bound."
)
_STEPS: Final = [int(bound.total_seconds()) for bound in BOUNDS]


class LateArrivals(Collector):
    """Adds up what was late, of any number, from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[Stream, Counter[int]] = {}

    def expect(self, stream: Stream) -> None:
        """Show a stream from now on, as 0."""
        with self._lock:
            self._counts.setdefault(stream, Counter())

    def add(self, stream: Stream, late: Late) -> None:
        """Add what was late."""
        with self._lock:
            counts = self._counts.setdefault(stream, Counter())
            for (_, over), audits in late.items():
                counts[over] += audits

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """See `Collector`."""
        family = HistogramMetricFamily(NAME, HELP, labels=("organization", "stream"))
        with self._lock:
            for stream, counts in sorted(self._counts.items()):
                buckets, together = [], 0
                for over, up_to in zip(_STEPS, [*map(float, _STEPS[1:]), "+Inf"], strict=True):
                    together += counts[over]
                    buckets.append((str(up_to), together))
                least = sum(over * audits for over, audits in counts.items())
                family.add_metric((stream.organization, stream.name), buckets, least)
        yield family
