"""How much of what an organisation allows is used: of its rate budget, and of time far away.

`python -m ... SECONDS` is the product at work, told in one line of JSON; 0 is to the end.
"""

import json
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from etl.errors import Stopped
from etl.genesys.client.events import Event, Requested, Waited
from etl.model import Discrepancy, Late, Stream
from etl.wire import PAGE_SIZE_MAX, RATE_PER_MINUTE, TOKEN_PATH
from tests.benchmarks.contenders import backfilled, program
from tests.benchmarks.organisation import organisation
from tests.benchmarks.rounds import Stage, run_module

LATENCY: Final = 0.2
#: What is read over that latency: enough for some hundred requests.
FAR_AUDITS: Final = 100_000


class Watcher:
    """Keeps when each request of the API began and ended, and its status. See `Observer`.

    Attributes:
        held: seconds that requests were held back for the budget.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[float, float, int | None]] = []
        self.held = 0.0

    def told(self, organization: str, event: Event) -> None:
        if isinstance(event, Requested) and TOKEN_PATH not in event.operation:
            now = time.monotonic()
            self.sent.append((now - event.seconds, now, event.status))
        elif isinstance(event, Waited):
            self.held += event.seconds

    def came_late(self, stream: Stream, late: Late) -> None:
        pass

    def answered_oddly(self, stream: Stream, found: Discrepancy) -> None:
        pass


def paced(stage: Stage, seconds: float) -> dict[str, Any]:
    """Both measurements."""
    # As many audits as the budget lets through, and a minute's more.
    enough = int((seconds / 60 + 1) * RATE_PER_MINUTE * PAGE_SIZE_MAX)
    return {
        "budget": _budget(_watched(stage, seconds, enough, rate_limit=RATE_PER_MINUTE), seconds),
        "latency": _latency(_watched(stage, 0, FAR_AUDITS, latency=LATENCY)),
    }


def _watched(stage: Stage, seconds: float, audits: int, **options: Any) -> dict[str, Any]:
    with (
        organisation(audits, **options) as variables,
        TemporaryDirectory(dir=stage.home) as folder,
    ):
        destination = f"sqlite:///{Path(folder) / 'audits.db'}"
        env = variables | {"AUDIT_ETL_DESTINATION": destination}
        found: dict[str, Any] = json.loads(run_module("paced", str(seconds), env=env))
        return found


def _budget(found: dict[str, Any], seconds: float) -> dict[str, Any]:
    first = min(began for began, _, _ in found["sent"])
    inside = [(b - first, status) for b, _, status in found["sent"] if b < first + seconds]
    minutes = Counter(int(at // 60) for at, status in inside if status != 429)
    granted = minutes.total()
    return {
        "allowed": RATE_PER_MINUTE,
        "seconds": seconds,
        "granted": granted,
        "refused": len(inside) - granted,
        "by_minute": [minutes[number] for number in range(ceil(seconds / 60))],
        "held_back": found["held"],
        "share": granted / (RATE_PER_MINUTE * seconds / 60),
    }


def _latency(found: dict[str, Any]) -> dict[str, Any]:
    sent = found["sent"]
    wall = max(ended for _, ended, _ in sent) - min(began for began, _, _ in sent)
    # At one instant, an end comes before a beginning.
    steps = sorted([(b, 1) for b, _, _ in sent] + [(e, -1) for _, e, _ in sent])
    flying = most = 0
    for _, step in steps:
        flying += step
        most = max(most, flying)
    return {
        "latency": LATENCY,
        "most": most,
        "mean": sum(ended - began for began, ended, _ in sent) / wall,
        "requests": len(sent) / wall,
        "rows": found["rows"] / wall,
        # As many as the budget lets through in the long run, which one in flight could just send.
        "share": len(sent) / wall / min(RATE_PER_MINUTE / 60, most / LATENCY),
    }


def main() -> None:
    """Export for so many seconds from the first request, or to the end, and tell every request."""
    seconds, stop, watcher = float(sys.argv[1]), threading.Event(), Watcher()
    rows = 0
    if seconds:
        timer = threading.Timer(seconds + 1, stop.set)
        timer.daemon = True
        timer.start()
    with program(stop, watcher) as app:
        app.migrate()
        with suppress(Stopped):
            rows, _ = backfilled(app)
    print(json.dumps({"rows": rows, "sent": watcher.sent, "held": watcher.held}))  # noqa: T201 - for who started it


if __name__ == "__main__":
    main()
