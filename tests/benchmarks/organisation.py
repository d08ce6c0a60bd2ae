"""A simulated organisation in a process of its own, and the environment to find it.

`python -m tests.benchmarks.organisation '{...}'` is that process. Unlike `audit-etl simulate` it
has no audit that becomes visible late, so that every contender reads the same.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Simulator, run
from etl.window import Window, cut
from tests import TOP

#: Any month would do, as long as it is over: the organisation forgets nothing.
MONTH: Final = Window(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
#: Every contender asks for so many windows, unless it is said otherwise.
WINDOWS: Final = 3
UNLIMITED: Final = 1_000_000_000


@contextmanager
def organisation(
    audits: int,
    *,
    span: Window = MONTH,
    windows: int = WINDOWS,
    latency: float = 0.0,
    rate_limit: int = UNLIMITED,
) -> Iterator[dict[str, str]]:
    """The environment in which contenders find `audits` audits of a span, asked in windows."""
    options = {"span": str(span), "latency": latency, "rate_limit": rate_limit}
    told = json.dumps({"audits": audits, **options})
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.organisation", told],
        cwd=TOP,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, "the simulator did not start"
        yield {
            "PATH": os.defpath,
            "GENESYSCLOUD_REGION": url,
            "GENESYSCLOUD_OAUTHCLIENT_ID": CLIENT_ID,
            "GENESYSCLOUD_OAUTHCLIENT_SECRET": CLIENT_SECRET,
            "BENCH_WINDOWS": ",".join(map(str, cut(span, span.length / windows))),
        }
    finally:
        process.terminate()
        process.communicate()


def main() -> None:
    """Serve until terminated."""
    told = json.loads(sys.argv[1])
    start, end = map(datetime.fromisoformat, told["span"].split("/"))
    with AuditLog.generate(count=told["audits"], start=start, end=end, late_share=0.0) as log:
        simulator = Simulator(
            log=log, latency_seconds=told["latency"], allowed_per_minute=told["rate_limit"]
        )
        run(simulator, announce=lambda url: print(url, flush=True))  # noqa: T201 - for who started it


if __name__ == "__main__":
    main()
