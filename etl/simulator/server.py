"""The simulator as a server on this machine, for tests in a thread and for users in a terminal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from etl.serving import served
from etl.simulator.http import application
from etl.simulator.organization import Organization

LOOPBACK: Final = "127.0.0.1"


class Simulator(Organization):
    """An organisation that can be served over HTTP; see `Organization` for its settings."""

    @contextmanager
    def serve(self, port: int = 0, host: str = LOOPBACK) -> Iterator[str]:
        """The base URL under which the organisation answers, until the context ends.

        It serves `/oauth/token` and `/api/v2/audits/...`, over plain HTTP and to whoever reaches
        `host`. Port 0 takes a free one. The log stays open afterwards.

        Raises:
            OSError: the address is taken or not ours.
        """
        with served(application(self), host, port, "simulator") as url:
            yield url


def run(
    simulator: Simulator,
    *,
    host: str = LOOPBACK,
    port: int = 0,
    announce: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM, then return; must be called in the main thread.

    Args:
        port: the port to listen on; 0 takes a free one.
        announce: called once with the base URL when requests are answered.

    Raises:
        OSError: the address is taken or not ours.
    """
    stop = threading.Event()

    def note(_: int, __: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with simulator.serve(port, host) as url:
            announce(url)
            stop.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
