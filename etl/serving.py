"""An HTTP application served by a thread, for as long as a block lasts."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

_STARTING_SECONDS: Final = 30


@contextmanager
def served(application: ASGIApp, host: str, port: int, name: str) -> Iterator[str]:
    """The base URL under which `application` answers, over plain HTTP, until the block ends.

    Args:
        application: what answers.
        host: an address of this machine, or a name of it.
        port: 0 takes a free one.
        name: the thread's.

    Raises:
        OSError: the address is taken or not ours.
    """
    with _listening(host, port) as listener:
        server = _server(application)
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


def _server(application: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        application,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
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
