"""Measure every contender, round by round, and write tables, raw figures and plots: `make bench`.

BENCH_SIZES (default 10000,100000,1000000) are the numbers of audits, BENCH_ROUNDS (default 5) how
often each contender runs, BENCH_PEER_MAX (default 100000) up to which size peers run, BENCH_PARTS
(default speed,paced) what is measured, BENCH_PACED_SECONDS (default 300) how long the rate budget
is worked against, BENCH_MINUTES (default 40) how long all of it may take: rounds are left out
before that is over, and the tables say how many there were. BENCH_RESULTS is the folder for them.
"""

import json
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests import servers
from tests.benchmarks.environments import python_of
from tests.benchmarks.machine import machine
from tests.benchmarks.organisation import organisation
from tests.benchmarks.paced import paced
from tests.benchmarks.report import report
from tests.benchmarks.rounds import OWN, PEERS, Round, Stage, run_module

RESULTS: Final = Path(__file__).parent / "results"


@dataclass
class Plan:
    """What is to be measured, and how long that may take.

    Attributes:
        began: when it began, by the monotonic clock.
    """

    sizes: list[int]
    rounds: int
    peer_max: int
    parts: set[str]
    paced_seconds: float
    minutes: float
    began: float = field(default_factory=time.monotonic)

    def fits(self, seconds: float, size: int) -> bool:
        """Whether there is time for one more round, of `seconds`, of a size.

        Each larger size must still get one, and the paced part its time.
        """
        later = sum(larger for larger in self.sizes if larger > size) / size
        reserved = 2 * later * seconds * len(OWN) / len(OWN + PEERS)
        reserved += self.paced_seconds + 180 if "paced" in self.parts else 0
        return time.monotonic() + seconds + reserved < self.began + 60 * self.minutes


def main() -> None:
    """Measure, and write the results."""
    plan = planned(os.environ.get)
    results: dict[str, Any] = {"machine": machine(), "peer_max": plan.peer_max, "speed": {}}
    with ExitStack() as stack:
        stage = staged(stack)
        for size in plan.sizes if "speed" in plan.parts else ():
            results["speed"][str(size)] = measured(plan, stage, size)
            say(f"{size:,} audits: {len(results['speed'][str(size)])} rounds")
        if "paced" in plan.parts:
            results["paced"] = paced(stage, plan.paced_seconds)
    write(results, Path(os.environ.get("BENCH_RESULTS", RESULTS)))


def planned(setting: Any) -> Plan:
    """The plan that the environment asks for."""
    return Plan(
        sizes=sorted(int(s) for s in setting("BENCH_SIZES", "10000,100000,1000000").split(",")),
        rounds=int(setting("BENCH_ROUNDS", "5")),
        peer_max=int(setting("BENCH_PEER_MAX", "100000")),
        parts=set(setting("BENCH_PARTS", "speed,paced").split(",")),
        paced_seconds=float(setting("BENCH_PACED_SECONDS", "300")),
        minutes=float(setting("BENCH_MINUTES", "40")),
    )


def staged(stack: ExitStack) -> Stage:
    """A folder and the servers, for as long as the stack stands; environments are made first."""
    for name in ("sdk", "dlt", "plot"):
        python_of(name)
    home = Path(stack.enter_context(TemporaryDirectory(prefix="audit-etl-bench-")))
    found = {"postgresql": stack.enter_context(servers.postgres(home / "postgres"))}
    mariadb = servers.mariadb()
    return Stage(home, found if mariadb is None else found | {"mariadb": mariadb})


def measured(plan: Plan, stage: Stage, size: int) -> list[Round]:
    """The rounds of one size."""
    started: list[float] = []

    def goes_on(done: int) -> bool:
        now = time.monotonic()
        started.append(now)
        if not 0 < done < plan.rounds:
            return done == 0
        return plan.fits(max(b - a for a, b in pairwise(started)), size)

    with organisation(size) as variables:
        return stage.rounds(variables, stage.names(peers=size <= plan.peer_max), goes_on)


def write(results: dict[str, Any], folder: Path) -> None:
    """Write the raw figures, the tables and the plots; print the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / "results.json"
    raw.write_text(json.dumps(results, indent=1) + "\n")
    (folder / "results.md").write_text(report(results))
    say(report(results))
    if results["speed"]:
        with TemporaryDirectory() as scratch:
            env = {"PATH": os.defpath, "MPLCONFIGDIR": scratch}
            run_module("plot", str(raw), env=env, python=python_of("plot"))


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201 - the benchmark's report


if __name__ == "__main__":
    main()
