"""The leases of the daemon's work, renewed by one thread, however many organisations there are."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from etl.app import App
from etl.errors import DestinationUnavailable
from etl.ledger import leases
from etl.ledger.leases import Lease


class Keeper:
    """Renews the leases that workers hold; its thread runs while there is one."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._lock = threading.Lock()  # held while a lease is renewed: none is after its release
        self._held: dict[Lease, Callable[[], None]] = {}
        self._thread: threading.Thread | None = None
        self._changed = threading.Event()

    @contextmanager
    def holding(self, lease: Lease, lost: Callable[[], None]) -> Iterator[None]:
        """Keep an acquired lease during the block; release it at the end.

        Args:
            lease: what `leases.acquire` gave.
            lost: called once, from another thread, if another process has taken it.
        """
        with self._lock:
            self._held[lease] = lost
            if self._thread is None:
                self._changed.clear()
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(lease, None)
                if not self._held:
                    self._thread = None
                    self._changed.set()
            leases.give_back(self._app.engine, lease, self._app.now())

    def _run(self) -> None:
        own = threading.current_thread()
        while not self._changed.wait(self._app.timing.renewal_seconds) and self._thread is own:
            for lease in list(self._held):
                self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        with self._lock, suppress(DestinationUnavailable):  # the next tick tells of it
            now, length = self._app.now(), self._app.timing.length
            if lease in self._held and not leases.renew(self._app.engine, lease, now, length):
                self._held.pop(lease)()
