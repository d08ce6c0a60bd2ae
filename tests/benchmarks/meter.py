"""What a program took, told as a line of JSON. Imports nothing that a contender would not have."""

import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def windows() -> list[str]:
    """The intervals that every contender asks for, so that all read the same pages."""
    return os.environ["BENCH_WINDOWS"].split(",")


class Meter:
    """Adds up what is done while it is on."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._cpu = 0.0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Measure the block."""
        seconds, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - seconds
            self._cpu += time.process_time() - cpu

    def tell(self, rows: int, requests: int) -> None:
        """Print it."""
        taken = {
            "rows": rows,
            "requests": requests,
            "seconds": self._seconds,
            "cpu": self._cpu,
            "mib": _peak_mib(),
        }
        print(json.dumps(taken), flush=True)  # noqa: T201 - the line that the benchmark reads


def _peak_mib() -> float:
    """The most memory that this program had; `ru_maxrss` would count its parent's before `exec`."""
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
