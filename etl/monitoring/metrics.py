"""What is counted while the daemon works, in a registry of our own: docs/operating.md has it."""

import platform
from functools import partial
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from etl import __version__
from etl.errors import (
    AuditEtlError,
    ConfigurationError,
    NotPermitted,
    SourceBrokePromise,
    TryAgainLater,
    Unavailable,
)
from etl.genesys.client.events import Event, Requested, Succeeded, Waited
from etl.model import Discrepancy, Late, Receipt, Stream
from etl.monitoring.late import LateArrivals
from etl.wire import results_path

#: Counts without the time since when: it would double every series for what no rule asks.
disable_created_metrics()  # type: ignore[no-untyped-call]

_STREAM: Final = ("organization", "stream")
_ORGANIZATION: Final = ("organization",)
_NAMESPACE: Final = "audit_etl"
_PAGE: Final = f"GET {results_path('{id}')}"
#: What `requests` has as the status of a request that was not answered.
UNANSWERED: Final = "none"
#: What a stream can fail with.
EXIT_STATUSES: Final = tuple(
    error.exit_status
    for error in (SourceBrokePromise, Unavailable, TryAgainLater, NotPermitted, ConfigurationError)
)

_QUERIES: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1800.0)
_PAGES: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counts what it is told, from any thread; made to be what the daemon tells.

    Attributes:
        registry: everything that `/metrics` shows.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counter = partial(Counter, namespace=_NAMESPACE, registry=self.registry)
        gauge = partial(Gauge, namespace=_NAMESPACE, registry=self.registry)
        histogram = partial(Histogram, namespace=_NAMESPACE, registry=self.registry)
        self._loaded = counter("audits_loaded", "Audits that queries gave.", _STREAM)
        self._new = counter("audits_new", "Those that were not there before.", _STREAM)
        self._outside = counter(
            "audits_outside_window", "Audits of times that their query did not ask for.", _STREAM
        )
        text = "Audits held that the organisation no longer shows, at least."
        self._unshown = counter("audits_unshown", text, _STREAM)
        self._late = LateArrivals()
        self.registry.register(self._late)
        self._failures = counter(
            "failures",
            "Failures of a stream to be brought up to date, by exit status.",
            (*_STREAM, "exit_status"),
        )
        labels = (*_ORGANIZATION, "operation", "status")
        text = "HTTP requests sent, by status; none for no answer."
        self._requests = counter("requests", text, labels)
        self._waited = counter(
            "budget_wait_seconds", "Time that requests were held back for.", _ORGANIZATION
        )
        text = "From a query's creation to its success."
        self._query_seconds = histogram("query_seconds", text, _ORGANIZATION, buckets=_QUERIES)
        self._page_seconds = histogram(
            "page_seconds", "For one request of a page of results.", _ORGANIZATION, buckets=_PAGES
        )
        self._lease = gauge(
            "lease_held",
            "Whether this process exports the organisation (1) or another one does (0).",
            _ORGANIZATION,
        )
        build = gauge("build_info", "Always 1; the labels tell what runs.", ("version", "python"))
        build.labels(__version__, platform.python_version()).set(1)

    def exposition(self) -> bytes:
        """Every metric, in Prometheus' text format."""
        return generate_latest(self.registry)

    def expect(self, stream: Stream) -> None:
        """Show a stream's counts from now on, as 0: the first step from there is a step too."""
        labels = (stream.organization, stream.name)
        for metric in (self._loaded, self._new, self._outside, self._unshown):
            metric.labels(*labels)
        self._late.expect(stream)
        for status in EXIT_STATUSES:
            self._failures.labels(*labels, str(status))
        self._waited.labels(stream.organization)
        self._lease.labels(stream.organization)

    def leads(self, organization: str, *, leads: bool) -> None:
        """This process has begun, or ceased, to export an organisation."""
        self._lease.labels(organization).set(int(leads))

    def loaded(self, receipt: Receipt) -> None:
        """A window was loaded whole."""
        labels = (receipt.stream.organization, receipt.stream.name)
        self._loaded.labels(*labels).inc(receipt.events)
        self._new.labels(*labels).inc(receipt.new_events)
        for metric in (self._outside, self._unshown):
            metric.labels(*labels)

    def failed(self, organization: str, stream: Stream | None, error: AuditEtlError) -> None:
        """A stream could not be brought up to date, or none of the organisation's (None)."""
        name = stream.name if stream else ""
        self._failures.labels(organization, name, str(error.exit_status)).inc()

    def came_late(self, stream: Stream, late: Late) -> None:
        """See `etl.app.Observer`."""
        self._late.add(stream, late)

    def answered_oddly(self, stream: Stream, found: Discrepancy) -> None:
        """See `etl.app.Observer`."""
        labels = (stream.organization, stream.name)
        self._outside.labels(*labels).inc(found.outside)
        self._unshown.labels(*labels).inc(found.unshown)

    def told(self, organization: str, event: Event) -> None:
        """See `etl.app.Observer`."""
        match event:
            case Requested(operation, status, seconds):
                self._requests.labels(organization, operation, str(status or UNANSWERED)).inc()
                if operation == _PAGE and status == 200:
                    self._page_seconds.labels(organization).observe(seconds)
            case Waited(seconds):
                self._waited.labels(organization).inc(seconds)
            case Succeeded(seconds):
                self._query_seconds.labels(organization).observe(seconds)
