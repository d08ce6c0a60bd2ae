"""What a look at the ledger has shown, as metrics: right whichever process did the work."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from etl.monitoring.condition import Condition, StreamCondition

_STREAM: Final = ("organization", "stream")


def exposition(condition: Condition | None) -> bytes:
    """The gauges in Prometheus' text format; None: the destination did not answer in time."""
    registry = CollectorRegistry()
    registry.register(_Seen(condition))
    return generate_latest(registry)


class _Seen(Collector):
    def __init__(self, condition: Condition | None) -> None:
        self._condition = condition

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        seen = self._condition
        yield _gauge(
            "destination_up",
            "Whether the destination answers (1) and its tables are of this version.",
            int(seen is not None and seen.unusable is None),
        )
        if seen is None:
            return
        yield _gauge(
            "behind_limit_seconds",
            "How far behind a stream may be: the setting max_behind.",
            seen.max_behind.total_seconds(),
        )
        rejects = GaugeMetricFamily(
            "audit_etl_rejects", "Records kept aside in audit_rejects.", labels=["organization"]
        )
        for organization, count in seen.rejects.items():
            rejects.add_metric([organization], count)
        yield rejects
        yield from _of_streams(seen)


def _of_streams(seen: Condition) -> Iterator[Metric]:
    def family(name: str, text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"audit_etl_{name}", text, labels=_STREAM)

    watermark = family("watermark_timestamp_seconds", "Up to where a stream is complete.")
    age = family("watermark_age_seconds", "How far a stream's watermark is behind now.")
    success = family(
        "last_success_timestamp_seconds", "When a window was last loaded whole; 0 for never."
    )
    oldest = family(
        "oldest_unexported_age_seconds",
        "Age of the first instant that was not loaded and that the source may still have.",
    )
    early = family(
        "early_unconfirmed", "Audits loaded early, before the watermark, that no export has shown."
    )
    gap = family(
        "gap_seconds", "Time not loaded, though later time was, that the source may still have."
    )
    for stream in seen.streams:
        _add(gap, stream, stream.gap.total_seconds())
        _add(watermark, stream, _epoch(stream.watermark))
        _add(age, stream, _age(stream.at, stream.watermark))
        _add(success, stream, _epoch(stream.last_success) or 0.0)
        _add(oldest, stream, _age(stream.at, stream.unexported_since))
        _add(early, stream, stream.early_unconfirmed)
    yield from (watermark, age, success, oldest, early, gap)


def _age(now: datetime, instant: datetime | None) -> float | None:
    return None if instant is None else (now - instant).total_seconds()


def _epoch(instant: datetime | None) -> float | None:
    return None if instant is None else instant.timestamp()


def _add(family: GaugeMetricFamily, seen: StreamCondition, value: float | None) -> None:
    """Add a stream's value; nothing if there is none yet."""
    if value is not None:
        family.add_metric([seen.stream.organization, seen.stream.name], value)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"audit_etl_{name}", text, value=value)
