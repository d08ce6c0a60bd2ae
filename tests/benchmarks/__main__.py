"""Measure every contender, round by round, and print a table of medians, the ratios first.

BENCH_SIZES (default 10000,100000) are the numbers of audits, BENCH_ROUNDS (default 3) how often
each contender runs. The rounds are interleaved, so that what else the machine does is shared out.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Final

from etl.app import clock
from etl.simulator import CLIENT_ID, CLIENT_SECRET
from etl.window import stamp
from tests import servers

#: See `contenders`; the order of a round.
NAMES: Final = ("floor", "sdk", "sqlite", "postgresql", "mariadb", "parquet")
TOP: Final = Path(__file__).parent.parent.parent
DAYS: Final = 30
Taken = dict[str, float]


def main() -> None:
    """Print a table for each size."""
    sizes = [int(size) for size in os.environ.get("BENCH_SIZES", "10000,100000").split(",")]
    rounds = int(os.environ.get("BENCH_ROUNDS", "3"))
    say(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    say(f"{rounds} rounds, medians; the floor downloads and decodes, and does nothing else")
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audit-etl-bench-")))
        postgres = stack.enter_context(servers.postgres(home / "postgres"))
        mariadb = servers.mariadb()
        for size in sizes:
            with organisation(size) as variables:
                table(size, measured(rounds, variables, home, postgres, mariadb))


def measured(
    rounds: int, variables: dict[str, str], home: Path, postgres: str, mariadb: str | None
) -> dict[str, list[Taken]]:
    """What each contender took in each round."""
    taken: dict[str, list[Taken]] = {}
    for _ in range(rounds):
        for name in NAMES:
            if name == "mariadb" and mariadb is None:
                continue
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=home)))
                server = {"postgresql": postgres, "mariadb": mariadb}.get(name)
                destination = f"sqlite:///{folder / 'a.db'}"
                if server is not None:
                    destination = stack.enter_context(servers.fresh_database(server))
                elif name == "parquet":
                    destination = f"parquet://{folder / 'lake'}"
                env = variables | {
                    "AUDIT_ETL_DESTINATION": destination,
                    "BENCH_FILE": str(folder / "sdk.db"),
                }
                taken.setdefault(name, []).append(run(name, env))
    return taken


def run(name: str, env: dict[str, str]) -> Taken:
    """Run one contender once."""
    program = [sys.executable, "-m", "tests.benchmarks.contenders", name]
    result = subprocess.run(
        program, cwd=TOP, env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    found: Taken = json.loads(result.stdout)
    return found


@contextmanager
def organisation(size: int) -> Iterator[dict[str, str]]:
    """A simulated organisation in a process of its own, and the environment to find it."""
    end = clock().replace(microsecond=0) - timedelta(hours=1)
    options = [f"--audits={size}", "--past=31d", "--ahead=0s", "--query-seconds=0", "--port=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "etl", "simulate", "--rate-limit=1000000000", *options],
        cwd=TOP,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = ""
        while not url:
            line = process.stdout.readline()
            assert line, "the simulator did not start"
            url = line.partition("GENESYSCLOUD_REGION=")[2].strip()
        yield {
            "PATH": os.defpath,
            "GENESYSCLOUD_REGION": url,
            "GENESYSCLOUD_OAUTHCLIENT_ID": CLIENT_ID,
            "GENESYSCLOUD_OAUTHCLIENT_SECRET": CLIENT_SECRET,
            "BENCH_FROM": stamp(end - timedelta(days=DAYS)),
            "BENCH_TO": stamp(end),
        }
    finally:
        process.terminate()
        process.communicate()


def table(size: int, taken: dict[str, list[Taken]]) -> None:
    """Print one size's table; every contender must have read the same audits."""
    middle = {
        name: {key: median(one[key] for one in all_) for key in all_[0]}
        for name, all_ in taken.items()
    }
    rows = {one["rows"] for one in middle.values()}
    assert len(rows) == 1, f"not all read the same: {middle}"
    speeds = {name: one["rows"] / one["seconds"] for name, one in middle.items()}
    say(f"\n{size:,} audits\n")
    say("| program | of the floor | rows/s | CPU s per 100k rows | peak MiB | requests |")
    say("|---|---|---|---|---|---|")
    for name, one in middle.items():
        cpu = one["cpu"] / one["rows"] * 100_000
        say(
            f"| {name} | {speeds[name] / speeds['floor']:.2f} | {speeds[name]:,.0f} | {cpu:.1f} "
            f"| {one['mib']:.0f} | {one['requests']:.0f} |"
        )


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201 - the benchmark's report


if __name__ == "__main__":
    main()
