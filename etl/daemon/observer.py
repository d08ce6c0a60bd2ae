"""What the daemon tells whoever counts."""

from typing import Protocol

from etl import app
from etl.app import App
from etl.errors import AuditEtlError
from etl.model import Receipt, Stream


class Observer(app.Observer, Protocol):
    """Is told what happens, from any thread; neither raises nor waits."""

    def beat(self) -> None:
        """The main loop has turned, which waits for nothing."""
        ...

    def in_force(self, app: App) -> None:
        """A configuration has come into force: at the start, and after a reload."""
        ...

    def begins(self, organization: str) -> None:
        """An organisation's work has begun."""
        ...

    def moves(self, organization: str) -> None:
        """An organisation's work has got on."""
        ...

    def rests(self, organization: str) -> None:
        """An organisation waits for the next firing, or for its turn."""
        ...

    def leads(self, organization: str, *, leads: bool) -> None:
        """This process has begun, or ceased, to do the daemon's work for an organisation."""
        ...

    def loaded(self, receipt: Receipt) -> None:
        """A window was loaded whole."""
        ...

    def failed(self, organization: str, stream: Stream | None, error: AuditEtlError) -> None:
        """A stream could not be brought up to date, or none of the organisation's (None)."""
        ...
