"""An HTTP application served by a thread, for as long as a block lasts."""

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

_STARTING_SECONDS: Final = 30
#: So many connections are open at most: those of a few probes and scrapers, each for an instant.
CONNECTIONS_MAX: Final = 64
#: How long a connection may stay without a request, and how long it lasts at most.
IDLE_SECONDS: Final = 5.0
LIFE_SECONDS: Final = 30.0


@contextmanager
def served(
    application: ASGIApp, host: str, port: int, name: str, *, bounded: bool = False
) -> Iterator[str]:
    """The base URL under which `application` answers, over plain HTTP, until the block ends.

    Args:
        host: an address of this machine, or a name of it.
        port: 0 takes a free one.
        name: the thread's.
        bounded: let strangers take no more than `CONNECTIONS_MAX` of the process's descriptors.

    Raises:
        OSError: the address is taken or not ours.
    """
    with _listening(host, port) as listener:
        server = _server(application, bounded=bounded)
        thread = threading.Thread(target=server.run, args=([listener],), name=name, daemon=True)
        thread.start()
        try:
            _wait_for(server, thread)
            shown = f"[{host}]" if ":" in host else host
            yield f"http://{shown}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only where the protocol is named: else 40 ms for each answer.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        yield listener


class _Bounded(H11Protocol):
    """A connection that gives way to newer ones, and ends with its answer or by itself.

    The oldest one is closed for a new one, whatever it is doing, so that nobody keeps others out.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.order = next(_ORDER)
        if len(self.connections) > CONNECTIONS_MAX:
            oldest = self._oldest()
            self.connections.discard(oldest)
            oldest.transport.abort()
        self._ends = [
            self.loop.call_later(IDLE_SECONDS, self._end_if_idle),
            self.loop.call_later(LIFE_SECONDS, transport.abort),
        ]

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        for timer in self._ends:
            timer.cancel()
        super().connection_lost(exc)

    def _end_if_idle(self) -> None:
        if getattr(self, "cycle", None) is None:  # uvicorn's types know no connection without one
            self.transport.abort()

    def _oldest(self) -> "_Bounded":
        open_now = [c for c in self.connections if isinstance(c, _Bounded)]
        return min(open_now, key=lambda connection: connection.order)


_ORDER: Final = count()


def _server(application: ASGIApp, *, bounded: bool) -> uvicorn.Server:
    # It warns of each request that is none: a stranger could fill the disk with such.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        application,
        loop="asyncio",
        http=_Bounded if bounded else H11Protocol,
        headers=[("connection", "close")] if bounded else [],
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        backlog=CONNECTIONS_MAX,  # as many are accepted at once
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def _wait_for(server: uvicorn.Server, thread: threading.Thread) -> None:
    waited = threading.Event()
    for _ in range(_STARTING_SECONDS * 200):
        if server.started:
            return
        if not thread.is_alive():
            break
        waited.wait(0.005)
    raise OSError(f"the server of {thread.name} did not start")
