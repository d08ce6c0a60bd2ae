"""Measure every contender, round by round, and write tables, raw figures and plots: `make bench`.

BENCH_SIZES (default 10000,100000,1000000) are the numbers of audits, BENCH_ROUNDS (default 5) how
often each contender runs, BENCH_PEER_MAX (default 100000) up to which size peers, MariaDB and the
bare loads run, BENCH_PARTS (default speed,lake,paced) what is measured: history is another part,
for half an hour and 30 GB of disk. BENCH_PACED_SECONDS (default 300) is how long the rate budget is
worked against, BENCH_MINUTES (default 40) how long all of it may take, but for the history: each
size gets one round in any case, further ones while there is time, the smaller sizes first, and the
tables say how many there were.
BENCH_RESULTS (default tests/benchmarks/results) is where all of it is written.
"""

import json
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.benchmarks.environments import python_of
from tests.benchmarks.history import history
from tests.benchmarks.machine import machine
from tests.benchmarks.organisation import organisation
from tests.benchmarks.paced import paced
from tests.benchmarks.report import report
from tests.benchmarks.rounds import Round, Stage, run_module
from tests.support import database_servers as servers
from tests.support.large_lake import peak_of

#: Seconds that the paced part takes beside those against the budget.
PACED_EXTRA: Final = 150
#: Audits in a lake's large partition that a tick goes into, and that is asked for.
LAKE_SIZES: Final = (20_000, 200_000)
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

    def fits(self, seconds: float) -> bool:
        """Whether there is time for a round that takes so long, and for the paced part."""
        paced = self.paced_seconds + PACED_EXTRA if "paced" in self.parts else 0
        return time.monotonic() + seconds + paced < self.began + 60 * self.minutes


@dataclass
class Course:
    """One size, its organisation already there.

    Attributes:
        longest: seconds of its longest round.
    """

    size: int
    names: list[str]
    variables: dict[str, str]
    rounds: list[Round] = field(default_factory=list)
    longest: float = 0.0


def main() -> None:
    """Measure, and write the results; those there are if something fails on the way."""
    plan = planned(os.environ.get)
    results: dict[str, Any] = {"machine": machine(), "peer_max": plan.peer_max, "speed": {}}
    try:
        with ExitStack() as stack:
            stage = staged(stack)
            if "speed" in plan.parts:
                measure(plan, stage, results["speed"])
            if "lake" in plan.parts:
                results["lake"] = {
                    what: {size: peak_of(what, size) for size in LAKE_SIZES}
                    for what in ("tick", "query")
                }
            if "history" in plan.parts:
                results["history"] = history(stage)
            if "paced" in plan.parts:
                results["paced"] = paced(stage, plan.paced_seconds)
    finally:
        write(results, Path(os.environ.get("BENCH_RESULTS", RESULTS)))


def planned(setting: Any) -> Plan:
    """The plan that the environment asks for."""
    return Plan(
        sizes=sorted(int(s) for s in setting("BENCH_SIZES", "10000,100000,1000000").split(",")),
        rounds=int(setting("BENCH_ROUNDS", "5")),
        peer_max=int(setting("BENCH_PEER_MAX", "100000")),
        parts=set(setting("BENCH_PARTS", "speed,lake,paced").split(",")),
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


def measure(plan: Plan, stage: Stage, found: dict[str, list[Round]]) -> None:
    """Add the rounds of each size: one at least, and more of each in turn while there is time."""
    with ExitStack() as stack:
        courses = []
        for size in plan.sizes:
            variables = stack.enter_context(organisation(size))
            names = stage.names(whole=size <= plan.peer_max)
            if size <= plan.peer_max:
                variables = stack.enter_context(stage.prepared(variables))
            courses.append(Course(size, names, variables))
        for number in range(plan.rounds):
            for course in courses:
                smaller = [c for c in courses if c.size < course.size]
                kept = sum(c.longest * (plan.rounds - len(c.rounds)) for c in smaller)
                if number == 0 or plan.fits(course.longest + kept):
                    one_more(stage, course)
                    found[str(course.size)] = course.rounds


def one_more(stage: Stage, course: Course) -> None:
    """Run one more round of a size."""
    began = time.monotonic()
    course.rounds.append(stage.round(course.variables, course.names))
    seconds = time.monotonic() - began
    course.longest = max(course.longest, seconds)
    say(f"{course.size:,} audits, round {len(course.rounds)}: {seconds:.0f} s")


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
