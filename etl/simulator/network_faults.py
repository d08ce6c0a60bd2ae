"""Faults of delivery: answers that are cut, broken off, reset, delayed or sent in small parts."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from etl.simulator.faults import Faults, strikes

Rest = Callable[[float], Awaitable[None]]

_DROPS: Final = 40
_TRANSPORT: Final = "transport"


def with_transport(app: ASGIApp) -> ASGIApp:
    """`app`, its requests' state knowing the connection that they came by."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        sender: Any = getattr(send, "__self__", None)  # uvicorn's, which holds the connection
        scope.setdefault("state", {})[_TRANSPORT] = getattr(sender, _TRANSPORT, None)
        await app(scope, receive, send)

    return wrapped


class Delivery(Response):
    """An answer that is delivered as badly as the faults want it, as the `nth` of its kind."""

    def __init__(self, answer: Response, faults: Faults, nth: int, rest: Rest) -> None:
        content = bytes(answer.body)
        if strikes(faults, "truncate_every", nth):
            content = content[: len(content) // 2]
        super().__init__(content, answer.status_code, media_type=answer.media_type)
        kept = {b"content-length", b"content-type"}
        self.raw_headers += [(name, v) for name, v in answer.raw_headers if name not in kept]
        self._resets = strikes(faults, "reset_every", nth)
        self._breaks_off = strikes(faults, "break_off_every", nth)
        self._stall = faults.stall_seconds if strikes(faults, "stall_every", nth) else 0
        self._drip = faults.drip_seconds if strikes(faults, "drip_every", nth) else 0
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        transport: asyncio.Transport = scope["state"][_TRANSPORT]
        if self._stall:
            await self._rest(self._stall)
        if self._resets:
            _reset(transport)
            await _gone(receive)
            return
        status, headers = self.status_code, self.raw_headers
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if self._breaks_off:
            await send(_part(self.body[: len(self.body) // 2], more=True))
            transport.close()
            await _gone(receive)
            return
        for drop in self._drops() if self._drip else ():
            if transport.is_closing():
                return
            await send(_part(drop, more=True))
            await self._rest(self._drip / _DROPS)
        await send(_part(b"" if self._drip else self.body, more=False))

    def _drops(self) -> list[bytes]:
        step = max(1, len(self.body) // _DROPS)
        return [bytes(self.body[at : at + step]) for at in range(0, len(self.body), step)]


def _part(content: bytes | memoryview, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


def _reset(transport: asyncio.Transport) -> None:
    """Close the connection so that the other side sees a reset, not an end of the answer."""
    at_once = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    transport.abort()


async def _gone(receive: Receive) -> None:
    """Wait until the server has noticed that the connection is closed."""
    while (await receive())["type"] != "http.disconnect":
        pass
