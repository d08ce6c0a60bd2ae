"""The health server: `/healthz`, `/readyz` and `/metrics`, each answered within a few seconds.

What needs the database is looked up by a thread of its own, one look at a time: whoever asks waits
for it no longer than `LOOK_SECONDS`, however long the database hangs.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Final

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from etl.app import App
from etl.errors import ConfigurationError
from etl.genesys.client.events import Event
from etl.monitoring import gauges
from etl.monitoring.condition import Condition, look
from etl.monitoring.metrics import Metrics
from etl.monitoring.movement import Movement
from etl.serving import served
from etl.window import iso_utc

#: The daemon is taken for dead when its main loop, which waits for nothing, has not turned so long.
BEAT_SECONDS_MAX: Final = 60.0
#: So long an organisation at work may show no sign of life. Requests, pages and windows are such;
#: the longest legitimate pauses are a statement of ten minutes and an outage of fifteen.
STILL_SECONDS_MAX: Final = 1800.0
#: How long an answer waits for a look at the destination.
LOOK_SECONDS: Final = 3.0
#: How long what was seen is not looked at again.
FRESH_SECONDS: Final = 5.0
#: A look that takes longer hangs in a connection that is dead: another one is begun beside it.
HANGING_SECONDS: Final = 60.0


class Monitor(Metrics, Movement):
    """All that the daemon tells, from any thread, and that the health server shows."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        Metrics.__init__(self)
        Movement.__init__(self, monotonic)
        self.app: App | None = None
        self._beaten = time.monotonic()

    def in_force(self, app: App) -> None:
        """A configuration has come into force."""
        self.app = app
        for stream in app.streams():
            self.expect(stream)

    def beat(self) -> None:
        """The daemon's main loop has turned."""
        self._beaten = time.monotonic()

    def told(self, organization: str, event: Event) -> None:
        """See `etl.app.Observer`."""
        self.moves(organization)
        super().told(organization, event)

    @property
    def seconds_since_beat(self) -> float:
        """How long ago the main loop turned; at first, how long ago this was made."""
        return time.monotonic() - self._beaten


@contextmanager
def serve_health(endpoint: tuple[str, int] | None, monitor: Monitor) -> Iterator[str]:
    """Serve what `monitor` is told; give the base URL, empty if there is no `endpoint`.

    Raises:
        ConfigurationError: the address is taken or not ours.
    """
    if endpoint is None:
        yield ""
        return
    host, port = endpoint
    with ExitStack() as stack:
        try:
            url = stack.enter_context(
                served(_application(monitor), host, port, "health", bounded=True)
            )
        except OSError as error:
            raise ConfigurationError(
                f"health_address: cannot listen on {host} port {port}: {error.strerror or error}; "
                "choose another one, or off"
            ) from None
        yield url


class _Looks:
    """Looks at the destination, one at a time; used by the server's own thread alone."""

    def __init__(self, look: Callable[[], Condition | None]) -> None:
        self._look = look
        self._last: Future[Condition | None] | None = None
        self._begun = 0.0

    async def seen(self) -> Condition | None:
        """What a look has shown, of a few seconds ago at most; None if it takes too long."""
        age = time.monotonic() - self._begun
        if self._last is None or age > (FRESH_SECONDS if self._last.done() else HANGING_SECONDS):
            self._last, self._begun = _in_thread(self._look), time.monotonic()
        try:
            return await asyncio.wait_for(
                asyncio.shield(asyncio.wrap_future(self._last)), LOOK_SECONDS
            )
        except TimeoutError:
            return None


def _in_thread(work: Callable[[], Condition | None]) -> Future[Condition | None]:
    """Do `work` in a thread that does not keep the process from ending."""
    future: Future[Condition | None] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - whoever waits raises it
            future.set_exception(error)

    threading.Thread(target=run, name="health look", daemon=True).start()
    return future


def _application(monitor: Monitor) -> Starlette:
    looks = _Looks(lambda: look(monitor.app) if monitor.app else None)

    async def healthz(_: Request) -> Response:
        seconds = monitor.seconds_since_beat
        if seconds > BEAT_SECONDS_MAX:
            return _no(f"the daemon's main loop has not turned for {seconds:.0f} s")
        still = list(_still(monitor))
        return _no("; ".join(still)) if still else PlainTextResponse("alive\n")

    async def readyz(_: Request) -> Response:
        if monitor.app is None:
            return _no("the daemon is starting")
        condition = await looks.seen()
        if condition is None:
            return _no(f"the destination has not answered within {LOOK_SECONDS:.0f} s")
        problems = list(condition.problems())
        return _no("; ".join(problems)) if problems else PlainTextResponse("ready\n")

    async def metrics(_: Request) -> Response:
        condition = await looks.seen()
        body = monitor.exposition() + gauges.exposition(condition)
        return Response(body, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    )


def _still(monitor: Monitor) -> Iterator[str]:
    """Which organisations are at work and show no sign of life, a sentence each."""
    if monitor.app is None:
        return
    now = monitor.app.now()
    for organization, seconds in monitor.still(STILL_SECONDS_MAX):
        since = iso_utc(now - timedelta(seconds=int(seconds)))
        yield f"the work for {organization} has not moved since {since}: restart the daemon"


def _no(why: str) -> Response:
    return PlainTextResponse(f"{why}\n", status_code=503)
