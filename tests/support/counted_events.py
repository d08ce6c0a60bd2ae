"""What `/metrics` shows when everything that can happen has happened."""

from datetime import timedelta

from etl.errors import SourceUnavailable
from etl.genesys.client.events import Requested, Succeeded, Waited
from etl.model import Late, Receipt, Stream
from etl.monitoring import gauges
from etl.monitoring.condition import Condition, StreamCondition
from etl.monitoring.health import Monitor
from etl.window import Window
from tests.support.simulated_organization import NOW

STREAM = Stream("acme", "*")
HOUR = timedelta(hours=1)


def exposition_of_everything() -> str:
    """The text of `/metrics`, with a sample of each metric."""
    monitor = Monitor()
    window = Window(NOW - HOUR, NOW)
    monitor.loaded(Receipt(STREAM, window, "q", 2, 1, 0, 3, "frequent", NOW, NOW))
    monitor.failed("acme", STREAM, SourceUnavailable("gone"))
    monitor.came_late(STREAM, Late({("Architect", 3600): 1}))
    monitor.leads("acme", leads=True)
    for event in (Requested("POST /oauth/token", 200, 0.1), Waited(1.0), Succeeded(2.0)):
        monitor.told("acme", event)
    monitor.told("acme", Requested("GET /api/v2/audits/query/{id}/results", 200, 0.1))
    seen = StreamCondition(STREAM, NOW, NOW - HOUR, NOW, NOW - HOUR, 0)
    condition = Condition(6 * HOUR, None, (seen,), {"acme": 0})
    return (monitor.exposition() + gauges.exposition(condition)).decode()
