"""What is counted, and what the health server answers."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from prometheus_client.parser import text_string_to_metric_families

from etl.app import App
from etl.config import load
from etl.errors import RateLimited, SourceUnavailable
from etl.genesys.client.events import Waited
from etl.model import Receipt, Stream
from etl.monitoring.metrics import Metrics
from etl.operations import export
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Simulator
from tests.support.simulated_organization import NOW, HandClock

Samples = dict[tuple[str, str], float]


def samples(metrics: Metrics) -> Samples:
    """Each sample's value by its name and the values of its labels but the organisation's."""
    found: Samples = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            labels = (v for k, v in sample.labels.items() if k not in {"organization", "python"})
            found[sample.name.removeprefix("audit_etl_"), " ".join(labels)] = sample.value
    return found


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with AuditLog.generate(
        count=3_000, start=NOW - timedelta(days=3), end=NOW, late_share=0.1
    ) as made:
        yield made


@pytest.fixture
def time() -> HandClock:
    return HandClock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(params=["sqlite", "parquet"])
def app(
    request: pytest.FixtureRequest, log: AuditLog, time: HandClock, metrics: Metrics, tmp_path: Path
) -> Iterator[App]:
    """The app of a simulated organisation, with everything that it does counted."""
    destination = {"sqlite": f"sqlite:///{tmp_path}/a.db", "parquet": f"parquet://{tmp_path}/lake"}
    with Simulator(log=log, clock=time, query_seconds=0).serve() as url:
        settings = load(
            None,
            {
                "GENESYSCLOUD_REGION": url,
                "GENESYSCLOUD_OAUTHCLIENT_ID": CLIENT_ID,
                "GENESYSCLOUD_OAUTHCLIENT_SECRET": CLIENT_SECRET,
                "AUDIT_ETL_DESTINATION": destination[request.param],
                "AUDIT_ETL_START": "3d",
            },
        )
        with App(
            settings, stop=Event(), now=time, monotonic=time.monotonic, observer=metrics
        ) as made:
            yield made


def ran(app: App, metrics: Metrics, lookback: timedelta) -> list[Receipt]:
    """The receipts of a run, counted."""
    receipts = [r for r in export.run(app, lookback=lookback) if isinstance(r, Receipt)]
    for receipt in receipts:
        metrics.loaded(receipt)
    return receipts


def test_late_arrivals_are_counted_by_age_and_nothing_else_is_late(
    app: App, metrics: Metrics, time: HandClock, log: AuditLog
) -> None:
    def visible() -> int:
        return len(list(log.truth(first[0].window.start, first[-1].window.end, time.now)))

    time.move(hours=-6)
    first = ran(app, metrics, timedelta(days=3))
    on_time, visible_before = samples(metrics), visible()
    time.move(hours=6)

    [again] = ran(app, metrics, timedelta(days=3))

    found = samples(metrics)
    late = found["late_arrival_age_seconds_count", "*"]
    assert ("late_arrival_age_seconds_count", "*") not in on_time
    assert late == visible() - visible_before
    assert 0 < late < again.new_events
    assert found["late_arrival_age_seconds_bucket", "3600.0 *"] == 0
    assert found["late_arrival_age_seconds_bucket", "+Inf *"] == late
    assert found["late_arrival_age_seconds_sum", "*"] / late >= timedelta(hours=6).total_seconds()
    assert found["audits_loaded_total", "*"] == sum(r.events for r in [*first, again])
    assert found["audits_new_total", "*"] == sum(r.new_events for r in [*first, again])


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)
def test_every_request_is_counted_by_operation_and_status(app: App, metrics: Metrics) -> None:
    receipts = ran(app, metrics, timedelta(0))

    found = samples(metrics)
    requests = {key[1]: value for key, value in found.items() if key[0] == "requests_total"}
    pages = requests["GET /api/v2/audits/query/{id}/results 200"]
    assert requests["POST /oauth/token 200"] == 1
    assert requests["POST /api/v2/audits/query 202"] == len(receipts)
    assert sum(requests.values()) == app.source("default").requests
    assert found["page_seconds_count", ""] == pages >= 6
    assert found["query_seconds_count", ""] == len(receipts)


def test_waits_failures_and_the_lease_are_shown() -> None:
    metrics = Metrics()
    metrics.told("acme", Waited(7.5))
    metrics.failed("acme", Stream("acme", "Architect"), SourceUnavailable("gone"))
    metrics.failed("acme", None, RateLimited("later", NOW, 60.0))
    metrics.leads("acme", leads=True)
    led = samples(metrics)["lease_held", ""]
    metrics.leads("acme", leads=False)

    found = samples(metrics)
    assert found["budget_wait_seconds_total", ""] == 7.5
    assert found["failures_total", "69 Architect"] == 1
    assert found["failures_total", "75 "] == 1
    assert (led, found["lease_held", ""]) == (1, 0)
