"""Daemons as processes of their own, with a log to wait for, and what they can be starved of."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests import TOP

#: Seconds that a lease of `QUICK` lasts.
LEASE_SECONDS: Final = 0.2

#: The same program, but its leases are short: a test cannot wait for minutes.
QUICK: Final = f"""
from datetime import timedelta
from functools import partial
from etl.cli import daemon, main
from etl.ledger.leases import LeaseTiming
timing = LeaseTiming(timedelta(seconds={LEASE_SECONDS}), renewal_seconds=0.05, poll_seconds=0.05)
daemon.serve = partial(daemon.serve, timing=timing)
main()
"""


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.01)  # noqa: TID251 - waits for another process


class Daemon:
    """A daemon in a process of its own, killed at the end of the block."""

    def __init__(
        self, log: Path, env: Mapping[str, str], program: str = "", entry: Sequence[str] = ()
    ) -> None:
        self._log = log
        command = ["-c", program] if program else ["-m", "etl"]
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [*entry, sys.executable, *command, "daemon"],
                env=dict(env) | {"PYTHONPATH": str(TOP)},
                cwd=log.parent,
                stdout=output,
                stderr=output,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """Everything that it has said so far."""
        return self._log.read_text()

    def says(self, text: str, times: int = 1) -> None:
        """Return when its log has `text` so many times."""

        def said() -> bool:
            assert self.process.poll() is None, self.log
            return self.log.count(text) >= times

        until(said, f"{text!r} in {self._log}")

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def ended(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit status, which must come within five seconds."""
        self.send(number)
        return self.process.wait(5)


class Proxy:
    """A TCP proxy on loopback, which can be told to refuse, to fall silent, and to lead elsewhere.

    Attributes:
        refusing: whether connections are broken off.
        silent: whether what comes is taken and not passed on, in connections old and new.
        first: what was first sent through the newest connection.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.refusing = self.silent = False
        self.first = b""
        self.port = int(self._listener.getsockname()[1])
        self._run(self._accept)

    def refuse(self) -> None:
        """Break off every connection, and any other that is made."""
        self.refusing = True
        for connection in list(self._sockets):
            _break_off(connection)

    def lead_to(self, host: str, port: int) -> None:
        """Join new connections to another server; those that are there stay."""
        self._target = (host, port)

    def close(self) -> None:
        """Break off all connections, take no more."""
        _break_off(self._listener)
        self.refuse()
        for thread in list(self._threads):
            thread.join()
        for one in [self._listener, *self._sockets]:
            one.close()

    def _run(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                near, _ = self._listener.accept()
                self._sockets.append(near)
                if self.refusing:
                    _break_off(near)
                else:
                    self._join(near)

    def _join(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target)
        except OSError:
            _break_off(near)
            return
        self._sockets.append(far)
        self.first = b""
        self._run(self._pass_on, near, far)
        self._run(self._pass_on, far, near)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self.first = self.first or data
                if not self.silent:
                    target.sendall(data)
        for end in (source, target):
            _break_off(end)


def _break_off(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(host: str, port: int) -> Iterator[Proxy]:
    """A proxy before a server, closed at the end."""
    made = Proxy(host, port)
    try:
        yield made
    finally:
        made.close()


def resident_bytes() -> int:
    """The memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
